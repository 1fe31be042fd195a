//! Classes by name where the other side finds the same, by value otherwise.
//!
//! By value: the class is made empty (`blank_class`), then its attributes are set, so that methods may
//! refer to it. A class keeps an identifier for life: whoever loads it twice, or loads it in the process that wrote
//! it, gets one class. Where the program is the same, its class of that name is the same.

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBytes, PyDict, PyString, PyTuple, PyType};

use super::blank_class;
use super::function::named;
use crate::pickling::reducer::{CodeMode, Pass, phased, reduced, refused};
use crate::pickling::{allow, errors, globals, maker};

/// What CPython makes by itself in a class.
const MADE: &[&str] = &[
    "__abstractmethods__",
    "__dict__",
    "__module__",
    "__qualname__",
    "__weakref__",
    "_abc_impl",
];
/// What `enum` makes by itself.
const MADE_BY_ENUM: &[&str] = &[
    "__new__",
    "__new_member__",
    "_generate_next_value_",
    "_hashable_values_",
    "_member_map_",
    "_member_names_",
    "_member_type_",
    "_new_member_",
    "_unhashable_values_",
    "_unhashable_values_map_",
    "_use_args_",
    "_value2member_map_",
    "_value_repr_",
];

pub(super) fn reduce<'py>(
    class: &Bound<'py, PyType>,
    pass: &Pass,
) -> PyResult<Option<Bound<'py, PyTuple>>> {
    let py = class.py();
    // SAFETY: the type is live; its flags are read.
    let heap = unsafe { (*class.as_type_ptr()).tp_flags & pyo3::ffi::Py_TPFLAGS_HEAPTYPE != 0 };
    if !heap {
        return of_interpreter(class);
    }
    if named(class.as_any(), pass.mode)?.is_some() {
        return Ok(None);
    }
    // `types.GenericAlias` and the like are found by pickle.
    let enumeration = is_enum(class)?;
    let dict = class.getattr(intern!(py, "__dict__"))?;
    let part = |name: &str| class.getattr(name);
    let slots = if dict.contains("__slots__")? {
        dict.get_item("__slots__")?
    } else {
        py.None().into_bound(py)
    };
    let members = PyDict::new(py);
    if enumeration {
        for item in class
            .getattr("__members__")?
            .call_method0("items")?
            .try_iter()?
        {
            let (name, member): (Bound<'_, PyAny>, Bound<'_, PyAny>) = item?.extract()?;
            members.set_item(name, member.getattr("_value_")?)?;
        }
    }
    let none = py.None().into_bound(py);
    let arguments = (
        identifier(class.as_any())?,
        class.get_type(),
        part("__name__")?,
        part("__qualname__")?,
        part("__module__")?,
        part("__bases__")?,
        slots.clone(),
        if enumeration {
            members.clone().into_any()
        } else {
            none
        },
        program_of(class)?,
    )
        .into_pyobject(py)?;
    let attributes = PyDict::new(py);
    let slot_names = slot_names(&slots)?;
    for item in dict.call_method0("items")?.try_iter()? {
        let (name, value): (Bound<'py, PyAny>, Bound<'py, PyAny>) = item?.extract()?;
        if let Ok(text) = name.extract::<String>() {
            let made = MADE.contains(&&*text)
                || slot_names.contains(&text)
                || (enumeration && (MADE_BY_ENUM.contains(&&*text) || members.contains(&name)?));
            if made {
                continue;
            }
        }
        attributes.set_item(name, value)?;
    }
    let abstracts = match class.getattr("__abstractmethods__") {
        Ok(names) => names,
        Err(_) => py.None().into_bound(py),
    };
    let state = (attributes, abstracts, virtual_subclasses(class)?).into_pyobject(py)?;
    let make = maker::get(py, "make_class")?;
    phased(
        py,
        make,
        arguments.into_any(),
        state.into_any(),
        "set_class",
    )
    .map(Some)
}

/// What was registered with a class of `abc`.
fn virtual_subclasses<'py>(class: &Bound<'py, PyType>) -> PyResult<Bound<'py, PyAny>> {
    let py = class.py();
    if !class.is_instance(&py.import("abc")?.getattr("ABCMeta")?)? {
        return Ok(PyTuple::empty(py).into_any());
    }
    let dump = py.import("_abc")?.call_method1("_get_dump", (class,))?;
    let mut found = Vec::new();
    for reference in dump.get_item(0)?.try_iter()? {
        let registered = reference?.call0()?;
        if !registered.is_none() {
            found.push(registered);
        }
    }
    Ok(PyTuple::new(py, found)?.into_any())
}

fn is_enum(class: &Bound<'_, PyType>) -> PyResult<bool> {
    let meta = class.py().import("enum")?.getattr("EnumType")?;
    Ok(class.is_instance(&meta)? && class.hasattr("__members__")?)
}

/// The names of the descriptors that `__slots__` makes.
fn slot_names(slots: &Bound<'_, PyAny>) -> PyResult<Vec<String>> {
    if slots.is_none() {
        return Ok(Vec::new());
    }
    if let Ok(one) = slots.extract::<String>() {
        return Ok(vec![one]);
    }
    slots.try_iter()?.map(|name| name?.extract()).collect()
}

/// Types of the interpreter that `types` names and `builtins` does not, as that of generators.
fn of_interpreter<'py>(class: &Bound<'py, PyType>) -> PyResult<Option<Bound<'py, PyTuple>>> {
    let py = class.py();
    let name = class.getattr(intern!(py, "__name__"))?;
    let builtin = class.getattr(intern!(py, "__module__"))?.eq("builtins")?;
    let module = py.import(intern!(py, "builtins"))?;
    if !builtin
        || module
            .getattr(name.cast::<PyString>()?)
            .is_ok_and(|found| found.is(class))
    {
        return Ok(None);
    }
    for (name, value) in py.import(intern!(py, "types"))?.dict() {
        if value.is(class) {
            return reduced(py, "interpreter_type", (name,)).map(Some);
        }
    }
    Ok(None)
}

/// A type that `types` names.
#[pyfunction]
fn interpreter_type<'py>(py: Python<'py>, name: &str) -> PyResult<Bound<'py, PyType>> {
    // Code can be made by calling some of them.
    allow::module("types")?;
    py.import(intern!(py, "types"))?
        .getattr(name)
        .ok()
        .and_then(|found| found.cast_into::<PyType>().ok())
        .ok_or_else(|| errors::unpickling(format!("the interpreter has no type {name:?}")))
}

/// Classes and type parameters by identifier, and the way back; neither keeps them alive.
struct Known {
    classes: Py<PyAny>,
    identifiers: Py<PyAny>,
    /// Classes that wait for their attributes.
    unfinished: Py<PyAny>,
}

fn known(py: Python<'_>) -> PyResult<&'static Known> {
    static KNOWN: PyOnceLock<Known> = PyOnceLock::new();
    KNOWN.get_or_try_init(py, || {
        let weakref = py.import("weakref")?;
        let make = |name: &str| weakref.getattr(name)?.call0().map(Bound::unbind);
        Ok(Known {
            classes: make("WeakValueDictionary")?,
            identifiers: make("WeakKeyDictionary")?,
            unfinished: make("WeakSet")?,
        })
    })
}

/// What identifies this object in pickles for as long as it lives.
pub(super) fn identifier<'py>(object: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    let py = object.py();
    let known = known(py)?;
    if let Ok(identifier) = known.identifiers.bind(py).get_item(object) {
        return Ok(identifier);
    }
    let identifier = py.import("uuid")?.call_method0("uuid4")?.getattr("bytes")?;
    remember(object, &identifier)?;
    Ok(identifier)
}

/// The object of this process that has the identifier.
pub(super) fn known_object<'py>(
    py: Python<'py>,
    identifier: &Bound<'py, PyBytes>,
) -> PyResult<Option<Bound<'py, PyAny>>> {
    Ok(known(py)?.classes.bind(py).get_item(identifier).ok())
}

/// From now on the identifier is this object's.
pub(super) fn remember(object: &Bound<'_, PyAny>, identifier: &Bound<'_, PyAny>) -> PyResult<()> {
    let py = object.py();
    let known = known(py)?;
    known.classes.bind(py).set_item(identifier, object)?;
    known.identifiers.bind(py).set_item(object, identifier)
}

/// The program that has this class in its `__main__`; empty for other classes.
fn program_of<'py>(class: &Bound<'py, PyType>) -> PyResult<Bound<'py, PyBytes>> {
    let py = class.py();
    if named(class.as_any(), CodeMode::Plain)?.is_some() {
        globals::program(py)
    } else {
        Ok(PyBytes::new(py, b""))
    }
}

/// The class of this program that has the name, if the program is the one that wrote the pickle.
fn of_same_program<'py>(
    py: Python<'py>,
    module: &str,
    qualname: &str,
    written_in: &Bound<'py, PyBytes>,
) -> PyResult<Option<Bound<'py, PyType>>> {
    let main = matches!(module, "__main__" | "__mp_main__");
    let program = globals::program(py)?;
    if !main || program.as_bytes().is_empty() || program.as_bytes() != written_in.as_bytes() {
        return Ok(None);
    }
    let mut object = py.import("sys")?.getattr("modules")?.get_item("__main__")?;
    for part in qualname.split('.') {
        let Ok(next) = object.getattr(part) else {
            return Ok(None);
        };
        object = next;
    }
    Ok(object.cast_into::<PyType>().ok())
}

/// A class without attributes, or the one that is known.
#[pyfunction]
#[expect(
    clippy::too_many_arguments,
    reason = "they are the arguments of a reduction"
)]
fn make_class<'py>(
    py: Python<'py>,
    identifier: &Bound<'py, PyBytes>,
    metaclass: &Bound<'py, PyType>,
    name: &Bound<'py, PyString>,
    qualname: &str,
    module: &Bound<'py, PyAny>,
    bases: &Bound<'py, PyTuple>,
    slots: &Bound<'py, PyAny>,
    members: Option<Bound<'py, PyDict>>,
    written_in: &Bound<'py, PyBytes>,
) -> PyResult<Bound<'py, PyAny>> {
    allow::code_by_value()?;
    if let Some(class) = known_object(py, identifier)? {
        return Ok(class);
    }
    let module_name = module.extract::<String>().unwrap_or_default();
    if let Some(class) = of_same_program(py, &module_name, qualname, written_in)? {
        return Ok(class.into_any());
    }
    let meta = metaclass.as_any();
    let namespace = meta.call_method1(intern!(py, "__prepare__"), (name, bases))?;
    namespace.set_item(intern!(py, "__module__"), module)?;
    namespace.set_item(intern!(py, "__qualname__"), qualname)?;
    if !slots.is_none() {
        namespace.set_item(intern!(py, "__slots__"), slots)?;
    }
    for (name, value) in members.iter().flatten() {
        namespace.set_item(name, value)?;
    }
    let class = blank_class::make(metaclass, name, bases, &namespace).map_err(|error| {
        errors::unpickling(format!(
            "class {qualname} cannot be made again: {}",
            error.value(py)
        ))
    })?;
    remember(&class, identifier)?;
    let unfinished = known(py)?.unfinished.bind(py);
    unfinished.call_method1("add", (&class,))?;
    Ok(class)
}

/// Sets the attributes of a class that was just made; one that was known has them.
#[pyfunction]
fn set_class<'py>(
    class: &Bound<'py, PyType>,
    state: (Bound<'py, PyDict>, Bound<'py, PyAny>, Bound<'py, PyTuple>),
) -> PyResult<()> {
    let py = class.py();
    let unfinished = known(py)?.unfinished.bind(py);
    if !unfinished.contains(class)? {
        return Ok(());
    }
    let (attributes, abstracts, registered) = state;
    let set = py
        .import(intern!(py, "builtins"))?
        .getattr(intern!(py, "type"))?
        .getattr(intern!(py, "__setattr__"))?;
    let names = class.getattr(intern!(py, "__dict__"))?;
    for (name, value) in attributes {
        let text: String = name
            .extract()
            .map_err(|_| refused("a class has an attribute without a name"))?;
        if text == "__slots__" && names.contains(&name)? {
            continue;
        }
        set.call1((class, name, value))?;
    }
    if !abstracts.is_none() {
        class.setattr("__abstractmethods__", abstracts)?;
    }
    for subclass in registered {
        let abc = py.import(intern!(py, "abc"))?.getattr("ABCMeta")?;
        abc.call_method1(intern!(py, "register"), (class, subclass))?;
    }
    unfinished.call_method1("discard", (class,))?;
    Ok(())
}

pub(super) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    maker::add(module, wrap_pyfunction!(interpreter_type, module)?)?;
    maker::add(module, wrap_pyfunction!(make_class, module)?)?;
    maker::add(module, wrap_pyfunction!(set_class, module)?)
}
