//! The shape of a class, read without running any code of its own.
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyFunction, PyMappingProxy, PyModule, PyString, PyTuple, PyType};
use pyo3::{PyTypeInfo, intern};

use super::function::{self, Around, annotated, shipped};
use super::generic;
use super::meta::{self, abc_meta, enum_meta};
use super::{extra, flag, kind, shape, statics};
use crate::remote::plain::is_plain;

/// Entries of a class's dict that are told otherwise, or not at all.
const TOLD: &[&str] = &[
    "__dict__",
    "__weakref__",
    "__module__",
    "__qualname__",
    "__doc__",
    "__annotations__",
    "__annotate__",
    "__annotate_func__",
    "__annotations_cache__",
    "__slots__",
    "__match_args__",
    "__abstractmethods__",
    "_abc_impl",
    "__parameters__",
    "__orig_bases__",
    "__type_params__",
    "__dataclass_fields__",
    "__dataclass_params__",
    "__slotnames__",
    "__classcell__",
    "__classdictcell__",
    // Destructors never send.
    "__del__",
];

/// Describes a class (see [`super::shape`]); with `redact`, without the paths of files. A class that was itself built here is described as it
/// was described to this process.
///
/// # Errors
/// Those of memory only.
pub(crate) fn describe<'py>(
    py: Python<'py>,
    class: &Bound<'py, PyType>,
    redact: bool,
) -> PyResult<Bound<'py, PyTuple>> {
    if let Some(known) = meta::description(class) {
        return Ok(known);
    }
    let dict = statics::dict(class)?.copy()?;
    let qualname = class.qualname()?.to_string_lossy().into_owned();
    let module = string(dict.get_item(intern!(py, "__module__"))?).or_else(|| class.module().ok());
    let (metaclass, mut flags) = metaclass(class)?;
    flags |= facts(class, &dict)?;

    let members = if flags & flag::ENUM != 0 {
        dict.get_item("_member_map_")?
            .and_then(|members| members.cast_into_exact::<PyDict>().ok())
    } else {
        None
    };
    let mut around = Around {
        qualname,
        module: module.clone().map(Bound::into_any),
        file: None,
        redact,
    };
    let slotted = dict.contains(intern!(py, "__slots__"))?;
    let mut attributes = Vec::new();
    for (name, value) in &dict {
        let Ok(name) = name.cast_into::<PyString>() else {
            continue;
        };
        let Ok(text) = name.to_str() else { continue };
        if TOLD.contains(&text) || (slotted && statics::is_member(&value)) {
            continue;
        }
        let member = match &members {
            Some(members) => members.contains(&name)?,
            None => false,
        };
        attributes.push(if member {
            (&name, kind::KEPT).into_pyobject(py)?
        } else {
            attribute(&name, text, &value, &mut around)?
        });
    }
    let extras = extras(class, &dict, &around)?;
    let items: [Bound<'py, PyAny>; shape::LEN] = [
        class.name()?.into_any(),
        PyString::new(py, &around.qualname).into_any(),
        module.into_pyobject(py)?.into_any(),
        string(dict.get_item(intern!(py, "__doc__"))?)
            .into_pyobject(py)?
            .into_any(),
        class.bases().into_any(),
        metaclass.into_pyobject(py)?.into_any(),
        flags.into_pyobject(py)?.into_any(),
        PyTuple::new(py, attributes)?.into_any(),
        extras.into_any(),
    ];
    PyTuple::new(py, items)
}

fn string<'py>(value: Option<Bound<'py, PyAny>>) -> Option<Bound<'py, PyString>> {
    value.and_then(|value| value.cast_into::<PyString>().ok())
}

/// The metaclass as far as it must be told, and the flags that follow from it.
fn metaclass<'py>(class: &Bound<'py, PyType>) -> PyResult<(Option<Bound<'py, PyType>>, u32)> {
    let py = class.py();
    let own = statics::true_type(class.as_any());
    // A local subclass of a class of some other process has a hidden metaclass.
    let own = meta::visible_metaclass(class).unwrap_or(own);
    let (usual, abc, enums) = (PyType::type_object(py), abc_meta(py)?, enum_meta(py)?);
    let mut flags = 0;
    let told = [&usual, &abc, &enums].iter().any(|known| own.is(*known));
    let mro = own.mro();
    if mro.contains(&abc)? {
        flags |= flag::ABC;
    }
    if mro.contains(&enums)? {
        flags |= flag::ENUM;
    }
    for name in ["__instancecheck__", "__subclasscheck__"] {
        for base in &mro {
            let base = base.cast_into::<PyType>()?;
            if statics::dict(&base)?.contains(name)? {
                if !base.is(&usual) && !base.is(&abc) {
                    flags |= flag::OWN_CHECK;
                }
                break;
            }
        }
    }
    Ok(((!told).then_some(own), flags))
}

/// The flags that follow from the type and its dict.
fn facts(class: &Bound<'_, PyType>, dict: &Bound<'_, PyDict>) -> PyResult<u32> {
    use pyo3::ffi;
    let bits = statics::flags(class);
    let mut flags = 0;
    let mut note = |bit: u32, holds: bool| {
        if holds {
            flags |= bit;
        }
    };
    note(
        flag::EXCEPTION,
        bits & ffi::Py_TPFLAGS_BASE_EXC_SUBCLASS != 0,
    );
    note(flag::ABSTRACT, bits & ffi::Py_TPFLAGS_IS_ABSTRACT != 0);
    note(flag::SEQUENCE, bits & ffi::Py_TPFLAGS_SEQUENCE != 0);
    note(flag::MAPPING, bits & ffi::Py_TPFLAGS_MAPPING != 0);
    note(flag::METACLASS, bits & ffi::Py_TPFLAGS_TYPE_SUBCLASS != 0);
    note(flag::FINAL, bits & ffi::Py_TPFLAGS_BASETYPE == 0);
    note(flag::OWN_NEW, dict.contains("__new__")?);
    note(flag::DATACLASS, dict.contains("__dataclass_fields__")?);
    // SAFETY: reading a field of a live, ready type object.
    let offset = unsafe { (*class.as_type_ptr()).tp_dictoffset };
    note(
        flag::DICT,
        offset != 0 || bits & ffi::Py_TPFLAGS_MANAGED_DICT != 0,
    );
    Ok(flags)
}

/// One entry of the class's dict.
fn attribute<'py>(
    name: &Bound<'py, PyString>,
    text: &str,
    value: &Bound<'py, PyAny>,
    around: &mut Around<'py>,
) -> PyResult<Bound<'py, PyTuple>> {
    let py = name.py();
    let plain = |kind: u8| (name, kind).into_pyobject(py);
    if let Ok(function) = value.cast_exact::<PyFunction>() {
        return (
            name,
            kind::METHOD,
            function::describe(function, text, around)?,
        )
            .into_pyobject(py);
    }
    let wrapped = |wrapper: &Bound<'py, PyAny>| wrapper.getattr(intern!(py, "__func__"));
    let for_class = is_builtin(value, "classmethod")?;
    if for_class || is_builtin(value, "staticmethod")? {
        let inner = wrapped(value)?;
        if for_class && inner.is(pyo3::types::PyGenericAlias::type_object(py)) {
            return plain(kind::GENERIC);
        }
        let kind = if for_class {
            kind::CLASSMETHOD
        } else {
            kind::STATICMETHOD
        };
        let described = match inner.cast_exact::<PyFunction>() {
            Ok(function) => function::describe(function, text, around)?,
            Err(_) => function::describe_native(&inner, text)?,
        };
        return (name, kind, described).into_pyobject(py);
    }
    if let Some((getter, setter, deleter, doc)) = property(value)? {
        let getter = match getter.cast_exact::<PyFunction>() {
            Ok(function) => Some(function::describe(function, text, around)?),
            Err(_) => None,
        };
        let described = (
            name,
            kind::PROPERTY,
            getter,
            !setter.is_none(),
            !deleter.is_none(),
            doc,
        );
        return described.into_pyobject(py);
    }
    if let Some(described) = native(value, text)? {
        return (name, kind::METHOD, described).into_pyobject(py);
    }
    let dunder = text.starts_with("__") && text.ends_with("__");
    // Whether a class is a protocol, the typing module asks of every class.
    if dunder
        && (value.is_none()
            || matches!(text, "__firstlineno__" | "__static_attributes__") && is_plain(value))
        || matches!(text, "_is_protocol" | "_is_runtime_protocol") && is_plain(value)
    {
        return (name, kind::CONSTANT, value).into_pyobject(py);
    }
    if text == "__new__" {
        // A `__new__` of C.
        return (
            name,
            kind::STATICMETHOD,
            function::describe_native(value, text)?,
        )
            .into_pyobject(py);
    }
    let (gets, sets) = statics::descriptor(value);
    if gets || sets {
        let doc = if statics::is_heap(&statics::true_type(value)) {
            statics::instance_entry(value, "__doc__").ok().flatten()
        } else {
            value.getattr(intern!(py, "__doc__")).ok()
        };
        return (name, kind::DESCRIPTOR, sets, string(doc)).into_pyobject(py);
    }
    if let Ok(class) = value.cast::<PyType>()
        && class.qualname()?.to_string_lossy() == format!("{}.{text}", around.qualname)
    {
        return plain(kind::KEPT);
    }
    plain(kind::VALUE)
}

/// Whether a value is exactly of that one of the three wrappers of functions.
fn is_builtin(value: &Bound<'_, PyAny>, name: &str) -> PyResult<bool> {
    static TYPES: PyOnceLock<Py<PyDict>> = PyOnceLock::new();
    let py = value.py();
    let types = TYPES.get_or_try_init(py, || {
        let types = PyDict::new(py);
        for name in ["classmethod", "staticmethod", "property"] {
            types.set_item(name, py.import("builtins")?.getattr(name)?)?;
        }
        Ok::<_, PyErr>(types.unbind())
    })?;
    let class = statics::true_type(value);
    Ok(types
        .bind(py)
        .get_item(name)?
        .is_some_and(|known| class.is(&known)))
}

type Property<'py> = (
    Bound<'py, PyAny>,
    Bound<'py, PyAny>,
    Bound<'py, PyAny>,
    Option<Bound<'py, PyString>>,
);

/// The functions and the documentation of a plain property.
fn property<'py>(value: &Bound<'py, PyAny>) -> PyResult<Option<Property<'py>>> {
    let py = value.py();
    if !is_builtin(value, "property")? {
        return Ok(None);
    }
    Ok(Some((
        value.getattr(intern!(py, "fget"))?,
        value.getattr(intern!(py, "fset"))?,
        value.getattr(intern!(py, "fdel"))?,
        string(Some(value.getattr(intern!(py, "__doc__"))?)),
    )))
}

/// A method written in C.
fn native<'py>(value: &Bound<'py, PyAny>, name: &str) -> PyResult<Option<Bound<'py, PyTuple>>> {
    static KINDS: PyOnceLock<[Py<PyType>; 2]> = PyOnceLock::new();
    let py = value.py();
    let kinds = KINDS.get_or_try_init(py, || {
        let types = py.import("types")?;
        let kind =
            |name: &str| Ok::<_, PyErr>(types.getattr(name)?.cast_into::<PyType>()?.unbind());
        Ok::<_, PyErr>([
            kind("MethodDescriptorType")?,
            kind("WrapperDescriptorType")?,
        ])
    })?;
    let class = statics::true_type(value);
    if kinds.iter().any(|kind| class.is(kind)) {
        function::describe_native(value, name).map(Some)
    } else {
        Ok(None)
    }
}

fn extras<'py>(
    class: &Bound<'py, PyType>,
    dict: &Bound<'py, PyDict>,
    around: &Around<'py>,
) -> PyResult<Bound<'py, PyTuple>> {
    let py = class.py();
    let mut extras: Vec<(&str, Bound<'py, PyAny>)> = Vec::new();
    if let Some(annotations) = dict
        .get_item(intern!(py, "__annotations__"))?
        .and_then(|found| found.cast_into::<PyDict>().ok())
    {
        let items = annotations
            .iter()
            .filter(|(name, _)| name.is_exact_instance_of::<PyString>())
            .map(|(name, value)| Ok((name, annotated(&value, 0)?)))
            .collect::<PyResult<Vec<_>>>()?;
        extras.push((extra::ANNOTATIONS, PyTuple::new(py, items)?.into_any()));
    }
    if let Some(names) = dict.get_item("__match_args__")?.filter(is_plain) {
        extras.push((extra::MATCH_ARGS, names));
    }
    if let Some(shown) = dict.get_item("__slots__")? {
        let mut slots = Vec::new();
        for (name, value) in dict {
            if statics::is_member(&value) {
                slots.push(name);
            }
        }
        for name in ["__dict__", "__weakref__"] {
            if dict.contains(name)? {
                slots.push(PyString::new(py, name).into_any());
            }
        }
        extras.push((extra::SLOTS, PyTuple::new(py, slots)?.into_any()));
        // Lists and dicts of names are shown as tuples.
        let shown = if is_plain(&shown) {
            Some(shown)
        } else {
            names_of(&shown)
        };
        if let Some(shown) = shown {
            extras.push((extra::SLOTS_SHOWN, shown));
        }
    }
    if let Some(names) = dict.get_item("__abstractmethods__")?
        && let Ok(names) = names.cast_exact::<pyo3::types::PyFrozenSet>()
    {
        extras.push((extra::ABSTRACT, PyTuple::new(py, names)?.into_any()));
    }
    for (key, name) in [
        (extra::PARAMETERS, "__parameters__"),
        (extra::TYPE_PARAMS, "__type_params__"),
    ] {
        if let Some(found) = dict
            .get_item(name)?
            .and_then(|found| found.cast_into_exact::<PyTuple>().ok())
            && !found.is_empty()
        {
            extras.push((key, generic::parameters(&found)?.into_any()));
        }
    }
    if let Some(found) = dict
        .get_item("__orig_bases__")?
        .and_then(|found| found.cast_into_exact::<PyTuple>().ok())
        && let Some(told) = generic::original_bases(&found)?
    {
        extras.push((extra::ORIGINAL_BASES, told.into_any()));
    }
    if dict.contains("__dataclass_fields__")? {
        dataclass(dict, &mut extras)?;
    }
    let registered = registered(class)?;
    if !registered.is_empty() {
        extras.push((extra::REGISTERED, PyTuple::new(py, registered)?.into_any()));
    }
    // A class without functions comes from where its module does.
    if let Some(file) = around.file.clone().or_else(|| file_of_module(around)) {
        extras.push((
            extra::FILE,
            around.told(&file).into_pyobject(py)?.into_any(),
        ));
    }
    PyTuple::new(py, extras)
}

fn file_of_module(around: &Around<'_>) -> Option<String> {
    let module = around.module.as_ref()?;
    let modules = module.py().import("sys").ok()?.getattr("modules").ok()?;
    let module = modules
        .cast::<PyDict>()
        .ok()?
        .get_item(module)
        .ok()??
        .cast_into_exact::<PyModule>()
        .ok()?;
    module.dict().get_item("__file__").ok()??.extract().ok()
}

fn names_of<'py>(value: &Bound<'py, PyAny>) -> Option<Bound<'py, PyAny>> {
    let py = value.py();
    let names: Vec<Bound<'py, PyAny>> = if let Ok(list) = value.cast_exact::<pyo3::types::PyList>()
    {
        list.iter().collect()
    } else {
        value.cast_exact::<PyDict>().ok()?.keys().iter().collect()
    };
    let names = PyTuple::new(py, names).ok()?.into_any();
    is_plain(&names).then_some(names)
}

fn dataclass<'py>(
    dict: &Bound<'py, PyDict>,
    extras: &mut Vec<(&str, Bound<'py, PyAny>)>,
) -> PyResult<()> {
    let py = dict.py();
    let module = py.import("dataclasses")?;
    if let Some(found) = dict.get_item("__dataclass_params__")?
        && found.is_exact_instance(&module.getattr("_DataclassParams")?)
    {
        let mut told = Vec::new();
        for name in [
            "init",
            "repr",
            "eq",
            "order",
            "unsafe_hash",
            "frozen",
            "match_args",
            "kw_only",
            "slots",
            "weakref_slot",
        ] {
            if let Some(value) = found.getattr_opt(name)?.filter(is_plain) {
                told.push((name, value));
            }
        }
        extras.push((extra::DATACLASS, PyTuple::new(py, told)?.into_any()));
    }
    let Some(fields) = dict
        .get_item("__dataclass_fields__")?
        .and_then(|found| found.cast_into_exact::<PyDict>().ok())
    else {
        return Ok(());
    };
    let kind = module.getattr("Field")?;
    let missing = module.getattr("MISSING")?;
    let mut told = Vec::new();
    for field in fields.values() {
        if !field.is_instance(&kind)? {
            continue;
        }
        let default = field.getattr("default")?;
        let default = if default.is(&missing) {
            PyTuple::empty(py)
        } else {
            shipped(&default)?
        };
        let factory = field.getattr("default_factory")?;
        let factory = if factory.is(&missing) {
            PyTuple::empty(py)
        } else if factory
            .cast::<PyType>()
            .is_ok_and(|class| !statics::is_heap(class))
        {
            PyTuple::new(py, [factory])?
        } else {
            (py.None(), "remote").into_pyobject(py)?
        };
        let metadata = field.getattr("metadata")?;
        let mut entries = Vec::new();
        if metadata.is_exact_instance_of::<PyMappingProxy>() {
            for item in metadata.call_method0("items")?.try_iter()? {
                let item = item?;
                if is_plain(&item) {
                    entries.push(item);
                }
            }
        }
        let mut bits = Vec::new();
        for name in ["init", "repr", "hash", "compare", "kw_only"] {
            let value = field.getattr(name)?;
            bits.push(if is_plain(&value) {
                value
            } else {
                py.None().into_bound(py)
            });
        }
        let which = field.getattr("_field_type")?.getattr_opt("name")?;
        let items: [Bound<'py, PyAny>; 7] = [
            field.getattr("name")?,
            annotated(&field.getattr("type")?, 0)?,
            default.into_any(),
            factory.into_any(),
            PyTuple::new(py, bits)?.into_any(),
            PyTuple::new(py, entries)?.into_any(),
            which.into_pyobject(py)?.into_any(),
        ];
        told.push(PyTuple::new(py, items)?);
    }
    extras.push((extra::FIELDS, PyTuple::new(py, told)?.into_any()));
    Ok(())
}

/// ABCs of the standard library that classes register with, as `(module, name)`.
pub(super) const ABCS: &[(&str, &str)] = &[
    ("collections.abc", "Sequence"),
    ("collections.abc", "MutableSequence"),
    ("collections.abc", "Mapping"),
    ("collections.abc", "MutableMapping"),
    ("collections.abc", "Set"),
    ("collections.abc", "MutableSet"),
    ("collections.abc", "Iterable"),
    ("collections.abc", "Iterator"),
    ("collections.abc", "Generator"),
    ("collections.abc", "Coroutine"),
    ("collections.abc", "Awaitable"),
    ("collections.abc", "AsyncIterator"),
    ("collections.abc", "Callable"),
    ("collections.abc", "Container"),
    ("collections.abc", "Collection"),
    ("collections.abc", "Hashable"),
    ("collections.abc", "Sized"),
    ("collections.abc", "Reversible"),
    ("numbers", "Number"),
    ("numbers", "Complex"),
    ("numbers", "Real"),
    ("numbers", "Rational"),
    ("numbers", "Integral"),
    ("os", "PathLike"),
];

/// Those of [`ABCS`] that the class is registered with, read from their registries.
fn registered<'py>(class: &Bound<'py, PyType>) -> PyResult<Vec<String>> {
    let py = class.py();
    let dump = py.import("_abc")?.getattr("_get_dump")?;
    let modules = py.import("sys")?.getattr("modules")?;
    let mut found = Vec::new();
    for (module, name) in ABCS {
        // A module that nobody imported has no registrations.
        let Ok(module_object) = modules.get_item(module) else {
            continue;
        };
        let Some(abc) = module_object.getattr_opt(*name)? else {
            continue;
        };
        let registry = dump.call1((abc,))?.get_item(0)?;
        for entry in registry.try_iter()? {
            if entry?.call0()?.is(class) {
                found.push(format!("{module}.{name}"));
                break;
            }
        }
    }
    Ok(found)
}
