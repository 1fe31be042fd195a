//! The side where a class lives: what it answers to those who have its picture elsewhere.
use pyo3::exceptions::{PyAttributeError, PyValueError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyDict, PyString, PyTuple, PyType};

use super::{meta, statics};
use crate::remote::traceback;

/// Performs `operation` on a class of this process (see the module for the list).
///
/// The caller has asked the policy: every operation runs code of the class, and `"get"` reads any
/// attribute. A class that is itself the picture of one elsewhere passes the operation on.
///
/// # Errors
/// Whatever the operation raises; `ValueError` for an unknown one.
pub(crate) fn answer<'py>(
    py: Python<'py>,
    class: &Bound<'py, PyType>,
    operation: &str,
    name: Option<&Bound<'py, PyString>>,
    args: &Bound<'py, PyTuple>,
    kwargs: Option<&Bound<'py, PyDict>>,
) -> PyResult<Bound<'py, PyAny>> {
    let none = || py.None().into_bound(py);
    if let Some(access) = meta::access_of(class) {
        let name = name.map_or_else(none, |name| name.clone().into_any());
        return meta::ask(&access, operation, &name, args, kwargs);
    }
    let named = || name.ok_or_else(|| PyValueError::new_err(format!("{operation:?} needs a name")));
    let argument = |index: usize| args.get_item(index);
    Ok(match operation {
        "get" => class.getattr(named()?)?,
        "set" => class.setattr(named()?, argument(0)?).map(|()| none())?,
        "delete" => class.delattr(named()?).map(|()| none())?,
        "new" => class.call(args, kwargs)?,
        "call" => class.getattr(named()?)?.call(args, kwargs)?,
        "call_for" => {
            let (owner, rest) = super::function::split_first(args)?;
            bound(&found(class, named()?)?, &none(), &owner)?.call(rest, kwargs)?
        }
        "get_for" => bound(&found(class, named()?)?, &argument(0)?, &argument(1)?)?,
        "property_get" => bound(&found(class, named()?)?, &argument(0)?, class.as_any())?,
        "set_for" | "property_set" => found(class, named()?)?
            .call_method1(intern!(py, "__set__"), (argument(0)?, argument(1)?))?,
        "delete_for" | "property_delete" => {
            found(class, named()?)?.call_method1(intern!(py, "__delete__"), (argument(0)?,))?
        }
        "default_factory" => {
            let fields = class.getattr("__dataclass_fields__")?;
            fields
                .get_item(named()?)?
                .getattr("default_factory")?
                .call0()?
        }
        "__instancecheck__" => yes_or_no(py, argument(0)?.is_instance(class)?),
        "__subclasscheck__" => yes_or_no(py, argument(0)?.cast::<PyType>()?.is_subclass(class)?),
        "__iter__" => class.try_iter()?.into_any(),
        "__reversed__" => py
            .import("builtins")?
            .getattr("reversed")?
            .call1((class,))?,
        "__len__" => class.len()?.into_pyobject(py)?.into_any(),
        "__contains__" => yes_or_no(py, class.contains(argument(0)?)?),
        "__getitem__" => class.get_item(argument(0)?)?,
        "source" => match name {
            Some(file) if belongs(class, file)? => traceback::text_of(file, None)?,
            _ => none(),
        },
        _ => {
            return Err(PyValueError::new_err(format!(
                "no operation {operation:?} on a class"
            )));
        }
    })
}

fn yes_or_no(py: Python<'_>, answer: bool) -> Bound<'_, PyAny> {
    PyBool::new(py, answer).to_owned().into_any()
}

/// The raw entry of a class's dict or of its bases.
fn found<'py>(
    class: &Bound<'py, PyType>,
    name: &Bound<'py, PyString>,
) -> PyResult<Bound<'py, PyAny>> {
    statics::lookup(class, name.as_any())?.ok_or_else(|| {
        let text = format!(
            "type object '{}' has no attribute '{name}'",
            class
                .name()
                .map_or_else(|_| "?".into(), |name| name.to_string())
        );
        PyAttributeError::new_err(text)
    })
}

/// What a raw entry is for an instance (`None` for none) and an owner.
fn bound<'py>(
    entry: &Bound<'py, PyAny>,
    instance: &Bound<'py, PyAny>,
    owner: &Bound<'py, PyAny>,
) -> PyResult<Bound<'py, PyAny>> {
    let py = entry.py();
    if !statics::descriptor(entry).0 {
        return Ok(entry.clone());
    }
    // As the interpreter does it: by the entry's type.
    let get = statics::true_type(entry).getattr(intern!(py, "__get__"))?;
    get.call1((entry, instance, owner))
}

/// Whether a function of the class comes from that file: nobody may ask for others through it.
fn belongs(class: &Bound<'_, PyType>, file: &Bound<'_, PyString>) -> PyResult<bool> {
    let described = super::describe(class.py(), class, false)?;
    let told = |value: Bound<'_, PyAny>| value.get_item(0).and_then(|name| name.eq(file));
    for item in described
        .get_item(super::shape::EXTRAS)?
        .cast::<PyTuple>()?
    {
        let (key, value): (String, Bound<'_, PyAny>) = item.extract()?;
        if key == super::extra::FILE && told(value)? {
            return Ok(true);
        }
    }
    for attribute in described
        .get_item(super::shape::ATTRIBUTES)?
        .cast::<PyTuple>()?
    {
        let attribute = attribute.cast_into::<PyTuple>()?;
        if let Ok(function) = attribute
            .get_item(2)
            .and_then(|item| Ok(item.cast_into::<PyTuple>()?))
            && let Ok(value) = function.get_item(super::function::place::FILE)
            && !value.is_none()
            && told(value)?
        {
            return Ok(true);
        }
    }
    Ok(false)
}
