//! Functions: signatures as tuples, and stubs that look like the function and ask the other side.
use pyo3::exceptions::{PyStopIteration, PyValueError};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{
    PyBool, PyByteArray, PyCFunction, PyCode, PyDict, PyFrozenSet, PyFunction, PyGenericAlias,
    PyList, PyRange, PySet, PyString, PyTuple, PyType,
};
use pyo3::{PyTypeInfo, intern};

use super::statics;
use crate::remote::plain::{Text, is_plain};
use crate::remote::traceback::{SourceFile, Stamp, local_name, stamp_of};

/// Positions in the description of a function.
pub(super) mod place {
    pub(in super::super) const FLAGS: usize = 0;
    pub(in super::super) const DOC: usize = 1;
    /// A tuple of parameters, or `None` if unknown.
    pub(in super::super) const PARAMETERS: usize = 2;
    /// The annotation of the result: see [`super::annotation`].
    pub(in super::super) const RESULT: usize = 3;
    pub(in super::super) const NAME: usize = 4;
    /// `None` if it is the class's and the name's.
    pub(in super::super) const QUALNAME: usize = 5;
    /// `None` if it is the class's.
    pub(in super::super) const MODULE: usize = 6;
    pub(in super::super) const LINE: usize = 7;
    /// `(file, stamp)`, or `None` if it is the class's.
    pub(in super::super) const FILE: usize = 8;
    pub(in super::super) const TEXT_SIGNATURE: usize = 9;
    pub(in super::super) const LEN: usize = 10;
}

/// The flags of code that say what calling a function makes (generator, coroutine, …).
const KINDS: u32 = 0x20 | 0x80 | 0x100 | 0x200;
/// In the flags of a description: an abstract method.
pub(super) const ABSTRACT: u32 = 1 << 16;

/// What the description of a function leaves out because the class says it.
pub(super) struct Around<'py> {
    pub(super) qualname: String,
    pub(super) module: Option<Bound<'py, PyAny>>,
    /// The file of the first function seen.
    pub(super) file: Option<String>,
    /// Only the last part of a file's path is told, and nothing about the file.
    pub(super) redact: bool,
}

/// A file, and what it is recognised by on the other side.
pub(super) type Told = (String, Option<Stamp>);

impl Around<'_> {
    /// What is told about a file.
    pub(super) fn told(&self, file: &str) -> Told {
        if self.redact {
            let name = file.rsplit('/').next().unwrap_or_default();
            (name.to_owned(), None)
        } else {
            (file.to_owned(), stamp_of(file))
        }
    }
}

/// Describes a plain function, known in the class as `name`.
pub(super) fn describe<'py>(
    function: &Bound<'py, PyFunction>,
    name: &str,
    around: &mut Around<'py>,
) -> PyResult<Bound<'py, PyTuple>> {
    let py = function.py();
    let code = code_of(function)?;
    let mut flags: u32 = code.getattr(intern!(py, "co_flags"))?.extract::<u32>()? & KINDS;
    if is_abstract(function)? {
        flags |= ABSTRACT;
    }
    let own_name = function.getattr(intern!(py, "__name__"))?;
    let qualname = function.getattr(intern!(py, "__qualname__"))?;
    let usual = format!("{}.{name}", around.qualname);
    let qualname = if qualname.eq(usual)? {
        None
    } else {
        Some(qualname)
    };
    let module = function.getattr(intern!(py, "__module__"))?;
    let module = match &around.module {
        Some(usual) if module.eq(usual)? => None,
        _ => Some(module).filter(|module| module.is_instance_of::<PyString>()),
    };
    let file: String = code
        .getattr(intern!(py, "co_filename"))?
        .cast::<PyString>()?
        .to_string_lossy()
        .into_owned();
    let file = if around.file.get_or_insert_with(|| file.clone()) == &file {
        None
    } else {
        Some(around.told(&file))
    };
    let doc = function.getattr(intern!(py, "__doc__"))?;
    let doc = Some(doc).filter(|doc| doc.is_instance_of::<PyString>());
    let (parameters, result) = signature(function)?;
    let items: [Bound<'py, PyAny>; place::LEN] = [
        flags.into_pyobject(py)?.into_any(),
        doc.into_pyobject(py)?.into_any(),
        parameters.into_any(),
        result,
        own_name,
        qualname.into_pyobject(py)?.into_any(),
        module.into_pyobject(py)?.into_any(),
        code.getattr(intern!(py, "co_firstlineno"))?,
        file.into_pyobject(py)?.into_any(),
        py.None().into_bound(py),
    ];
    PyTuple::new(py, items)
}

/// Describes a method written in C, of which Python knows a text at most.
pub(super) fn describe_native<'py>(
    method: &Bound<'py, PyAny>,
    name: &str,
) -> PyResult<Bound<'py, PyTuple>> {
    let py = method.py();
    let none = || py.None().into_bound(py);
    let text = |attribute: &Bound<'py, PyString>| {
        method
            .getattr(attribute)
            .ok()
            .filter(|text| text.is_exact_instance_of::<PyString>())
            .unwrap_or_else(none)
    };
    let items: [Bound<'py, PyAny>; place::LEN] = [
        0u32.into_pyobject(py)?.into_any(),
        text(intern!(py, "__doc__")),
        none(),
        PyTuple::empty(py).into_any(),
        PyString::new(py, name).into_any(),
        none(),
        none(),
        0u32.into_pyobject(py)?.into_any(),
        none(),
        text(intern!(py, "__text_signature__")),
    ];
    PyTuple::new(py, items)
}

fn code_of<'py>(function: &Bound<'py, PyFunction>) -> PyResult<Bound<'py, PyCode>> {
    Ok(function
        .getattr(intern!(function.py(), "__code__"))?
        .cast_into::<PyCode>()?)
}

/// Whether a function carries `__isabstractmethod__ = True`.
pub(super) fn is_abstract(function: &Bound<'_, PyAny>) -> PyResult<bool> {
    if !function.is_exact_instance_of::<PyFunction>() {
        return Ok(false);
    }
    let flag = statics::instance_entry(function, "__isabstractmethod__")?;
    Ok(flag.is_some_and(|flag| {
        flag.is_exact_instance_of::<PyBool>() && flag.extract().unwrap_or(false)
    }))
}

/// The parameters and the annotation of the result, through wrappers that say what they wrap.
fn signature<'py>(
    function: &Bound<'py, PyFunction>,
) -> PyResult<(Bound<'py, PyTuple>, Bound<'py, PyAny>)> {
    let py = function.py();
    let mut function = function.clone();
    for _ in 0..32 {
        match statics::instance_entry(&function, "__wrapped__")? {
            Some(inner) => match inner.cast_into_exact::<PyFunction>() {
                Ok(inner) => function = inner,
                Err(_) => break,
            },
            None => break,
        }
    }
    let code = code_of(&function)?;
    let number = |name: &str| -> PyResult<usize> { code.getattr(name)?.extract() };
    let (positional, only, keyword) = (
        number("co_argcount")?,
        number("co_posonlyargcount")?,
        number("co_kwonlyargcount")?,
    );
    let flags = number("co_flags")?;
    let names = code
        .getattr(intern!(py, "co_varnames"))?
        .cast_into::<PyTuple>()?;
    let defaults = function.getattr(intern!(py, "__defaults__"))?;
    let defaults = defaults
        .cast::<PyTuple>()
        .map_or_else(|_| PyTuple::empty(py), Clone::clone);
    let keyword_defaults = function.getattr(intern!(py, "__kwdefaults__"))?;
    let keyword_defaults = keyword_defaults.cast::<PyDict>().ok();
    let annotations = function.getattr(intern!(py, "__annotations__"))?;
    let annotations = annotations
        .cast::<PyDict>()
        .map_or_else(|_| PyDict::new(py), Clone::clone);

    let mut parameters = Vec::new();
    let mut push = |index: usize, kind: u8, default: Option<Bound<'py, PyAny>>| -> PyResult<()> {
        let name = names.get_item(index)?;
        let default = match default {
            None => PyTuple::empty(py),
            Some(value) => shipped(&value)?,
        };
        let annotation = annotations.get_item(&name)?;
        let annotation = annotation.map_or_else(
            || Ok(PyTuple::empty(py).into_any()),
            |value| annotated(&value, 0),
        )?;
        parameters.push(PyTuple::new(
            py,
            [
                name,
                kind.into_pyobject(py)?.into_any(),
                default.into_any(),
                annotation,
            ],
        )?);
        Ok(())
    };
    let required = positional.saturating_sub(defaults.len());
    for index in 0..positional {
        let default = index
            .checked_sub(required)
            .and_then(|index| defaults.get_item(index).ok());
        push(index, u8::from(index >= only), default)?;
    }
    let mut index = positional + keyword;
    if flags & 0x04 != 0 {
        push(index, 2, None)?;
        index += 1;
    }
    for index in positional..positional + keyword {
        let default = match keyword_defaults {
            Some(defaults) => defaults.get_item(names.get_item(index)?)?,
            None => None,
        };
        push(index, 3, default)?;
    }
    if flags & 0x08 != 0 {
        push(index, 4, None)?;
    }
    let result = match annotations.get_item(intern!(py, "return"))? {
        Some(value) => annotated(&value, 0)?,
        None => PyTuple::empty(py).into_any(),
    };
    Ok((PyTuple::new(py, parameters)?, result))
}

/// A default: `(value,)` if it is plain, else `(None, text)`.
pub(super) fn shipped<'py>(value: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyTuple>> {
    let py = value.py();
    if is_plain(value) {
        return PyTuple::new(py, [value]);
    }
    (py.None(), text_of(value)?).into_pyobject(py)
}

/// What `repr` would show, where that runs no code of a user's.
fn text_of(value: &Bound<'_, PyAny>) -> PyResult<String> {
    fn is_safe(value: &Bound<'_, PyAny>, depth: u8) -> bool {
        is_plain(value)
            || depth > 0
                && if let Ok(items) = value.cast_exact::<PyList>() {
                    items.iter().all(|item| is_safe(&item, depth - 1))
                } else if let Ok(items) = value.cast_exact::<PyTuple>() {
                    items.iter().all(|item| is_safe(&item, depth - 1))
                } else if let Ok(items) = value.cast_exact::<PySet>() {
                    items.iter().all(|item| is_safe(&item, depth - 1))
                } else if let Ok(items) = value.cast_exact::<PyFrozenSet>() {
                    items.iter().all(|item| is_safe(&item, depth - 1))
                } else if let Ok(items) = value.cast_exact::<PyDict>() {
                    items
                        .iter()
                        .all(|(key, item)| is_safe(&key, depth - 1) && is_safe(&item, depth - 1))
                } else {
                    value.is_exact_instance_of::<PyAny>()
                        || value.is_exact_instance_of::<PyRange>()
                        || value.is_exact_instance_of::<PyByteArray>()
                        || value.is_exact_instance_of::<PyCFunction>()
                }
    }
    if let Ok(class) = value.cast::<PyType>() {
        return Ok(format!("<class '{}'>", class_text(class)?));
    }
    let class = statics::true_type(value);
    if is_safe(value, 4)
        || class
            .module()
            .is_ok_and(|module| module == "dataclasses" || module == "typing")
    {
        return Ok(value.repr()?.to_string_lossy().into_owned());
    }
    if value.is_exact_instance_of::<PyFunction>() {
        let name = value.getattr("__qualname__")?;
        return Ok(format!(
            "<function {}>",
            name.cast::<PyString>()?.to_string_lossy()
        ));
    }
    if let Some(text) = member_text(value, &class)? {
        return Ok(text);
    }
    Ok(format!("<{} object>", class_text(&class)?))
}

/// What an enum's member shows, read from its dict.
fn member_text(value: &Bound<'_, PyAny>, class: &Bound<'_, PyType>) -> PyResult<Option<String>> {
    let meta = statics::true_type(class.as_any());
    if !meta.mro().contains(super::meta::enum_meta(value.py())?)? {
        return Ok(None);
    }
    let (name, inner) = (
        statics::instance_entry(value, "_name_")?,
        statics::instance_entry(value, "_value_")?,
    );
    let (Some(name), Some(inner)) = (name, inner.filter(is_plain)) else {
        return Ok(None);
    };
    let name = name
        .cast::<PyString>()
        .map_or_else(|_| "?".into(), |name| name.to_string_lossy());
    Ok(Some(format!(
        "<{}.{name}: {}>",
        class.qualname()?.to_string_lossy(),
        inner.repr()?.to_string_lossy()
    )))
}

fn class_text(class: &Bound<'_, PyType>) -> PyResult<String> {
    let name = class.qualname()?;
    let module = statics::own(class, "__module__")?;
    match module
        .as_ref()
        .and_then(|module| module.cast::<PyString>().ok())
    {
        Some(module) if module != "builtins" => Ok(format!("{}.{name}", module.to_string_lossy())),
        _ => Ok(name.to_string_lossy().into_owned()),
    }
}

/// An annotation as a tuple: `("value", plain)`, `("class", builtin class)`, `("generic", origin,
/// arguments)`, `("union", members)`, `("typing", name)`, `("typing of", name, arguments)` or
/// `("text", what repr would show)`. No annotation is `()`.
pub(super) fn annotated<'py>(value: &Bound<'py, PyAny>, depth: u8) -> PyResult<Bound<'py, PyAny>> {
    static UNION: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    let py = value.py();
    let inner = |items: Bound<'py, PyAny>| -> PyResult<Bound<'py, PyTuple>> {
        let items = items.cast_into::<PyTuple>()?;
        PyTuple::new(
            py,
            items
                .iter()
                .map(|item| annotated(&item, depth + 1))
                .collect::<PyResult<Vec<_>>>()?,
        )
    };
    if is_plain(value) {
        return Ok(("value", value).into_pyobject(py)?.into_any());
    }
    if let Some(name) = typing_name(value)? {
        return Ok(("typing", name).into_pyobject(py)?.into_any());
    }
    if let Ok(class) = value.cast::<PyType>() {
        if !statics::is_heap(class) && class.module().is_ok_and(|module| module == "builtins") {
            return Ok(("class", class).into_pyobject(py)?.into_any());
        }
        return Ok(("text", class_text(class)?).into_pyobject(py)?.into_any());
    }
    if depth < 8 {
        if value.is_exact_instance_of::<PyGenericAlias>() {
            let origin = annotated(&value.getattr("__origin__")?, depth + 1)?;
            return Ok(("generic", origin, inner(value.getattr("__args__")?)?)
                .into_pyobject(py)?
                .into_any());
        }
        if value.is_exact_instance(UNION.import(py, "types", "UnionType")?) {
            return Ok(("union", inner(value.getattr("__args__")?)?)
                .into_pyobject(py)?
                .into_any());
        }
    }
    let class = statics::true_type(value);
    if depth < 8 && class.module().is_ok_and(|module| module == "typing") {
        let origin = statics::instance_entry(value, "__origin__")?;
        let arguments = statics::instance_entry(value, "__args__")?;
        if let (Some(origin), Some(arguments)) = (
            origin,
            arguments.filter(|found| found.is_exact_instance_of::<PyTuple>()),
        ) {
            let name = match typing_name(&origin)? {
                Some(name) => Some(name),
                // `List` of `list`.
                None => statics::instance_entry(value, "_name")?
                    .and_then(|name| name.extract::<String>().ok())
                    .filter(|name| is_typing(py, name) && name != "Callable"),
            };
            if let Some(name) = name {
                return Ok(("typing of", name, inner(arguments)?)
                    .into_pyobject(py)?
                    .into_any());
            }
        }
    }
    Ok(("text", text_of(value)?).into_pyobject(py)?.into_any())
}

/// The name of an object that the typing module exports.
pub(super) fn typing_name(value: &Bound<'_, PyAny>) -> PyResult<Option<String>> {
    let py = value.py();
    let name = if let Ok(class) = value.cast::<PyType>() {
        class.name()?.to_string_lossy().into_owned()
    } else if statics::true_type(value)
        .module()
        .is_ok_and(|module| module == "typing")
    {
        match statics::instance_entry(value, "_name")? {
            Some(name) => name.extract().unwrap_or_default(),
            // Special forms have slots.
            None => value
                .getattr_opt("_name")?
                .and_then(|name| name.extract().ok())
                .unwrap_or_default(),
        }
    } else {
        return Ok(None);
    };
    let same = is_typing(py, &name) && py.import("typing")?.getattr(&*name)?.is(value);
    Ok(same.then_some(name))
}

/// Whether the typing module exports that name.
pub(super) fn is_typing(py: Python<'_>, name: &str) -> bool {
    py.import("typing")
        .and_then(|typing| typing.getattr("__all__")?.contains(name))
        .unwrap_or(false)
}

/// The annotation that a tuple of [`annotated`] stands for; `None` for no annotation.
pub(super) fn annotation<'py>(
    described: &Bound<'py, PyAny>,
    depth: u8,
) -> PyResult<Option<Bound<'py, PyAny>>> {
    let py = described.py();
    let described = described.cast::<PyTuple>()?;
    if described.is_empty() {
        return Ok(None);
    }
    let tag: String = described.get_item(0)?.extract()?;
    let value = described.get_item(1)?;
    let inner = |items: &Bound<'py, PyAny>| -> PyResult<Vec<Bound<'py, PyAny>>> {
        if depth > 16 {
            return Err(PyValueError::new_err("an annotation nests too deeply"));
        }
        items
            .cast::<PyTuple>()?
            .iter()
            .filter_map(|item| annotation(&item, depth + 1).transpose())
            .collect()
    };
    Ok(Some(match tag.as_str() {
        "value" | "class" => value,
        "generic" => {
            let arguments = PyTuple::new(py, inner(&described.get_item(2)?)?)?;
            let origin = annotation(&value, depth + 1)?.unwrap_or_else(|| py.None().into_bound(py));
            PyGenericAlias::type_object(py).call1((origin, arguments))?
        }
        "union" => {
            let members = inner(&value)?;
            // A member that is a text has no `|`: then the whole is shown by its texts.
            let mut members_iter = members.iter().cloned();
            let first = members_iter
                .next()
                .unwrap_or_else(|| py.None().into_bound(py));
            match members_iter.try_fold(first, |union, member| union.bitor(member)) {
                Ok(union) => union,
                Err(_) => {
                    let texts = members
                        .iter()
                        .map(|member| text_of(member))
                        .collect::<PyResult<Vec<_>>>()?;
                    Bound::new(py, Text(texts.join(" | ")))?.into_any()
                }
            }
        }
        "typing" | "typing of" => {
            let name: String = value.extract()?;
            if !is_typing(py, &name) {
                return Err(PyValueError::new_err(
                    "an annotation names what typing does not have",
                ));
            }
            let found = py.import("typing")?.getattr(&*name)?;
            if tag == "typing" {
                found
            } else {
                // A member that is a text may not be taken.
                let arguments = PyTuple::new(py, inner(&described.get_item(2)?)?)?;
                match found.get_item(&arguments) {
                    Ok(made) => made,
                    Err(_) => Bound::new(py, Text(format!("typing.{name}[...]")))?.into_any(),
                }
            }
        }
        _ => Bound::new(py, Text(value.extract()?))?.into_any(),
    }))
}

/// A default that [`shipped`] wrote: `None` if there is none.
pub(super) fn default_of<'py>(
    described: &Bound<'py, PyAny>,
) -> PyResult<Option<Bound<'py, PyAny>>> {
    let described = described.cast::<PyTuple>()?;
    match described.len() {
        0 => Ok(None),
        1 => described.get_item(0).map(Some),
        _ => Ok(Some(
            Bound::new(described.py(), Text(described.get_item(1)?.extract()?))?.into_any(),
        )),
    }
}

/// How stubs are made for one class.
pub(super) struct Maker<'a, 'py> {
    pub(super) globals: Bound<'py, PyDict>,
    pub(super) module: Bound<'py, PyAny>,
    pub(super) qualname: String,
    /// The name of the class's file here.
    pub(super) file: Bound<'py, PyString>,
    pub(super) access: &'a Bound<'py, PyAny>,
    pub(super) label: &'a str,
}

impl<'py> Maker<'_, 'py> {
    /// A function that answers `target(operation, name, *args, **kwargs)` and looks like the one
    /// described.
    pub(super) fn stub(
        &self,
        target: &Bound<'py, PyAny>,
        operation: &str,
        name: &Bound<'py, PyString>,
        described: Option<&Bound<'py, PyTuple>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        static BLANK: PyOnceLock<Py<PyCode>> = PyOnceLock::new();
        let py = name.py();
        let blank = BLANK.get_or_try_init(py, || {
            let code = py
                .import("objspace._stubs")?
                .getattr("stub")?
                .getattr("__code__")?;
            Ok::<_, PyErr>(code.cast_into::<PyCode>()?.unbind())
        })?;
        let item = |place: usize| {
            described
                .map(|described| described.get_item(place))
                .transpose()
        };
        let text = |place: usize| -> PyResult<Option<Bound<'py, PyString>>> {
            Ok(item(place)?.and_then(|text| text.cast_into::<PyString>().ok()))
        };
        let own_name = text(place::NAME)?.unwrap_or_else(|| name.clone());
        let qualname = match text(place::QUALNAME)? {
            Some(qualname) => qualname,
            None => PyString::new(py, &format!("{}.{}", self.qualname, name.to_string_lossy())),
        };
        let flags: u32 = item(place::FLAGS)?.map_or(Ok(0), |flags| flags.extract())?;
        let line: u32 = item(place::LINE)?.map_or(Ok(0), |line| line.extract())?;

        let fields = PyDict::new(py);
        fields.set_item(intern!(py, "co_name"), &own_name)?;
        fields.set_item(intern!(py, "co_qualname"), &qualname)?;
        let file = match item(place::FILE)? {
            Some(told) if !told.is_none() => file_here(&told, self.access, self.label)?,
            _ => self.file.clone(),
        };
        fields.set_item(intern!(py, "co_filename"), file)?;
        fields.set_item(intern!(py, "co_firstlineno"), line.max(1))?;
        if flags & KINDS != 0 {
            let usual: u32 = blank.bind(py).getattr(intern!(py, "co_flags"))?.extract()?;
            fields.set_item(intern!(py, "co_flags"), usual | (flags & KINDS))?;
        }
        let code = blank
            .bind(py)
            .call_method(intern!(py, "replace"), (), Some(&fields))?;
        let function = new_function(
            &code,
            &self.globals,
            &qualname,
            &closure(&code, target, operation, name)?,
        )?;

        if let Some(doc) = text(place::DOC)? {
            function.setattr(intern!(py, "__doc__"), doc)?;
        }
        let module = text(place::MODULE)?.map_or_else(|| self.module.clone(), Bound::into_any);
        function.setattr(intern!(py, "__module__"), module)?;
        if flags & ABSTRACT != 0 {
            function.setattr(intern!(py, "__isabstractmethod__"), true)?;
        }
        if let Some(text) = text(place::TEXT_SIGNATURE)? {
            function.setattr(intern!(py, "__text_signature__"), text)?;
        }
        if let Some(described) = described {
            // A signature that cannot be shown is left out; the function works without.
            match sign(&function, described) {
                Err(error) if !error.is_instance_of::<PyValueError>(py) => return Err(error),
                _ => {}
            }
        }
        Ok(function)
    }
}

/// The name here of a file that functions of a remote class come from, told as `(file, stamp)`.
pub(super) fn file_here<'py>(
    told: &Bound<'py, PyAny>,
    access: &Bound<'py, PyAny>,
    label: &str,
) -> PyResult<Bound<'py, PyString>> {
    let py = told.py();
    let (file, stamp): (String, Option<Stamp>) = told.extract()?;
    let source = || {
        let name = PyString::new(py, &file).unbind();
        Py::new(py, SourceFile::of_class(access.clone().unbind(), name))
    };
    local_name(py, &file, stamp, label, Some(source))
}

fn closure<'py>(
    code: &Bound<'py, PyAny>,
    target: &Bound<'py, PyAny>,
    operation: &str,
    name: &Bound<'py, PyString>,
) -> PyResult<Bound<'py, PyTuple>> {
    let py = code.py();
    let free = code
        .getattr(intern!(py, "co_freevars"))?
        .cast_into::<PyTuple>()?;
    let cells = free.iter().map(|variable| {
        let value = match variable.cast::<PyString>()?.to_str()? {
            "target" => target.clone(),
            "operation" => PyString::intern(py, operation).into_any(),
            _ => name.clone().into_any(),
        };
        // SAFETY: a live object goes in, a new reference or null with an error set comes out.
        unsafe { Bound::from_owned_ptr_or_err(py, pyo3::ffi::PyCell_New(value.as_ptr())) }
    });
    PyTuple::new(py, cells.collect::<PyResult<Vec<_>>>()?)
}

fn new_function<'py>(
    code: &Bound<'py, PyAny>,
    globals: &Bound<'py, PyDict>,
    qualname: &Bound<'py, PyString>,
    closure: &Bound<'py, PyTuple>,
) -> PyResult<Bound<'py, PyAny>> {
    let py = code.py();
    // SAFETY: a code object, a dict and a string go in; a new reference or null with an error set comes out.
    let function = unsafe {
        Bound::from_owned_ptr_or_err(
            py,
            pyo3::ffi::PyFunction_NewWithQualName(
                code.as_ptr(),
                globals.as_ptr(),
                qualname.as_ptr(),
            ),
        )
    }?;
    // SAFETY: a new function and a tuple of as many cells as its code has free variables.
    let status = unsafe { pyo3::ffi::PyFunction_SetClosure(function.as_ptr(), closure.as_ptr()) };
    if status < 0 {
        Err(PyErr::fetch(py))
    } else {
        Ok(function)
    }
}

/// Gives a stub its `__signature__` and `__annotations__`.
fn sign<'py>(function: &Bound<'py, PyAny>, described: &Bound<'py, PyTuple>) -> PyResult<()> {
    /// `Signature`, `Parameter` and the kinds of parameters.
    struct Inspect {
        signature: Py<PyAny>,
        parameter: Py<PyAny>,
        kinds: [Py<PyAny>; 5],
    }
    static INSPECT: PyOnceLock<Inspect> = PyOnceLock::new();
    let py = function.py();
    let parameters = described.get_item(place::PARAMETERS)?;
    if parameters.is_none() {
        return Ok(());
    }
    let Inspect {
        signature,
        parameter,
        kinds,
    } = INSPECT.get_or_try_init(py, || {
        let inspect = py.import("inspect")?;
        let parameter = inspect.getattr("Parameter")?;
        let kind = |name: &str| parameter.getattr(name).map(Bound::unbind);
        Ok::<_, PyErr>(Inspect {
            signature: inspect.getattr("Signature")?.unbind(),
            kinds: [
                kind("POSITIONAL_ONLY")?,
                kind("POSITIONAL_OR_KEYWORD")?,
                kind("VAR_POSITIONAL")?,
                kind("KEYWORD_ONLY")?,
                kind("VAR_KEYWORD")?,
            ],
            parameter: parameter.unbind(),
        })
    })?;
    let annotations = PyDict::new(py);
    let list = PyList::empty(py);
    for item in parameters.cast::<PyTuple>()? {
        let (name, kind, default, described): (
            Bound<'py, PyAny>,
            usize,
            Bound<'py, PyAny>,
            Bound<'py, PyAny>,
        ) = item.extract()?;
        let keywords = PyDict::new(py);
        if let Some(default) = default_of(&default)? {
            keywords.set_item(intern!(py, "default"), default)?;
        }
        if let Some(annotation) = annotation(&described, 0)? {
            annotations.set_item(&name, &annotation)?;
            keywords.set_item(intern!(py, "annotation"), annotation)?;
        }
        let kind = kinds
            .get(kind)
            .ok_or_else(|| PyValueError::new_err("an unknown kind of parameter"))?;
        list.append(parameter.bind(py).call((name, kind), Some(&keywords))?)?;
    }
    let keywords = PyDict::new(py);
    if let Some(result) = annotation(&described.get_item(place::RESULT)?, 0)? {
        annotations.set_item(intern!(py, "return"), &result)?;
        keywords.set_item(intern!(py, "return_annotation"), result)?;
    }
    let signature = signature.bind(py).call((list,), Some(&keywords))?;
    function.setattr(intern!(py, "__signature__"), signature)?;
    if !annotations.is_empty() {
        function.setattr(intern!(py, "__annotations__"), annotations)?;
    }
    Ok(())
}

/// Takes the first item of an argument tuple off.
pub(super) fn split_first<'py>(
    arguments: &Bound<'py, PyTuple>,
) -> PyResult<(Bound<'py, PyAny>, Bound<'py, PyTuple>)> {
    let first = arguments
        .get_item(0)
        .map_err(|_| PyStopIteration::new_err("an argument is missing"))?;
    Ok((first, arguments.get_slice(1, arguments.len())))
}
