//! Generic classes: type parameters, and the bases as they were written (`__orig_bases__`).
//!
//! An original base is told as a tuple: `("value", plain)`, `("class", class)`, `("parameter", kind,
//! name)`, `("typing", name)`, `("typing of", name, arguments)` or `("alias", origin, arguments)`. One
//! that is nothing of the kind is not told, and neither are the others then.
//!
//! What this is not: annotations, which are shown rather than used and may be texts (see
//! [`super::function`]).

use std::collections::HashMap;

use pyo3::exceptions::PyValueError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyTuple, PyType};

use super::function::{is_typing, typing_name};
use super::statics;
use crate::remote::plain::is_plain;

/// The type parameters of one class by name: one object for each, wherever it stands.
pub(super) type Parameters<'py> = HashMap<String, Bound<'py, PyAny>>;

/// How deep aliases may nest.
const DEPTH: u8 = 16;

// ---- telling -----------------------------------------------------------------------------------

/// `(kind, name)` of each type parameter.
pub(super) fn parameters<'py>(found: &Bound<'py, PyTuple>) -> PyResult<Bound<'py, PyTuple>> {
    let mut told = Vec::new();
    for parameter in found {
        told.extend(parameter_of(&parameter)?);
    }
    PyTuple::new(found.py(), told)
}

fn parameter_of<'py>(value: &Bound<'py, PyAny>) -> PyResult<Option<(String, Bound<'py, PyAny>)>> {
    let class = statics::true_type(value);
    let kind = class.name()?.to_string_lossy().into_owned();
    let known = matches!(kind.as_str(), "TypeVar" | "ParamSpec" | "TypeVarTuple")
        && class.module().is_ok_and(|module| module == "typing");
    if !known {
        return Ok(None);
    }
    Ok(Some((
        kind,
        value.getattr(intern!(value.py(), "__name__"))?,
    )))
}

/// The original bases, if all of them can be told.
pub(super) fn original_bases<'py>(
    found: &Bound<'py, PyTuple>,
) -> PyResult<Option<Bound<'py, PyTuple>>> {
    items(found, 0)
}

fn items<'py>(found: &Bound<'py, PyTuple>, depth: u8) -> PyResult<Option<Bound<'py, PyTuple>>> {
    let mut told = Vec::with_capacity(found.len());
    for item in found {
        match told_as(&item, depth)? {
            Some(item) => told.push(item),
            None => return Ok(None),
        }
    }
    PyTuple::new(found.py(), told).map(Some)
}

fn told_as<'py>(value: &Bound<'py, PyAny>, depth: u8) -> PyResult<Option<Bound<'py, PyTuple>>> {
    let py = value.py();
    if depth > DEPTH {
        return Ok(None);
    }
    if is_plain(value) {
        return ("value", value).into_pyobject(py).map(Some);
    }
    if let Some(name) = typing_name(value)? {
        return ("typing", name).into_pyobject(py).map(Some);
    }
    if value.is_instance_of::<PyType>() && !is_alias(value) {
        return ("class", value).into_pyobject(py).map(Some);
    }
    if let Some((kind, name)) = parameter_of(value)? {
        return ("parameter", kind, name).into_pyobject(py).map(Some);
    }
    if !is_alias(value) {
        return Ok(None);
    }
    let arguments = value.getattr(intern!(py, "__args__"))?;
    let Ok(arguments) = arguments.cast_exact::<PyTuple>() else {
        return Ok(None);
    };
    let Some(arguments) = items(arguments, depth + 1)? else {
        return Ok(None);
    };
    // `List[int]` is not `list[int]`.
    let name = statics::instance_entry(value, "_name")?
        .and_then(|name| name.extract::<String>().ok())
        .filter(|name| is_typing(py, name));
    if let Some(name) = name {
        return ("typing of", name, arguments).into_pyobject(py).map(Some);
    }
    let Some(origin) = told_as(&value.getattr(intern!(py, "__origin__"))?, depth + 1)? else {
        return Ok(None);
    };
    ("alias", origin, arguments).into_pyobject(py).map(Some)
}

/// Whether a value is an alias of a generic class, of the language or of `typing`.
fn is_alias(value: &Bound<'_, PyAny>) -> bool {
    let class = statics::true_type(value);
    class.is(value
        .py()
        .get_type::<pyo3::types::PyGenericAlias>()
        .as_any())
        || class.module().is_ok_and(|module| module == "typing")
            && class.name().is_ok_and(|name| name == "_GenericAlias")
}

// ---- making ------------------------------------------------------------------------------------

/// Type parameters of the same kinds and names.
pub(super) fn type_parameters<'py>(
    told: &Bound<'py, PyAny>,
    made: &mut Parameters<'py>,
) -> PyResult<Bound<'py, PyTuple>> {
    let py = told.py();
    let mut all = Vec::new();
    for item in told.cast::<PyTuple>()? {
        let (kind, name): (String, String) = item.extract()?;
        all.push(parameter(py, &kind, name, made)?);
    }
    PyTuple::new(py, all)
}

fn parameter<'py>(
    py: Python<'py>,
    kind: &str,
    name: String,
    made: &mut Parameters<'py>,
) -> PyResult<Bound<'py, PyAny>> {
    if let Some(parameter) = made.get(&name) {
        return Ok(parameter.clone());
    }
    let kind = match kind {
        "ParamSpec" | "TypeVarTuple" => kind,
        _ => "TypeVar",
    };
    let parameter = py.import("typing")?.getattr(kind)?.call1((&name,))?;
    made.insert(name, parameter.clone());
    Ok(parameter)
}

/// The tuple that [`original_bases`] told.
///
/// # Errors
/// `ValueError` for what it does not tell; those of subscribing an origin.
pub(super) fn made_of<'py>(
    told: &Bound<'py, PyAny>,
    made: &mut Parameters<'py>,
) -> PyResult<Bound<'py, PyTuple>> {
    all_of(told, made, 0)
}

fn all_of<'py>(
    told: &Bound<'py, PyAny>,
    made: &mut Parameters<'py>,
    depth: u8,
) -> PyResult<Bound<'py, PyTuple>> {
    let mut all = Vec::new();
    for item in told.cast::<PyTuple>()? {
        all.push(one_of(&item, made, depth)?);
    }
    PyTuple::new(told.py(), all)
}

fn one_of<'py>(
    told: &Bound<'py, PyAny>,
    made: &mut Parameters<'py>,
    depth: u8,
) -> PyResult<Bound<'py, PyAny>> {
    let py = told.py();
    let malformed = || PyValueError::new_err("a malformed description of a generic base");
    if depth > DEPTH {
        return Err(malformed());
    }
    let tag: String = told.get_item(0)?.extract()?;
    let value = told.get_item(1)?;
    match tag.as_str() {
        "value" | "class" => Ok(value),
        "parameter" => parameter(
            py,
            &value.extract::<String>()?,
            told.get_item(2)?.extract()?,
            made,
        ),
        "typing" | "typing of" => {
            let name: String = value.extract()?;
            if !is_typing(py, &name) {
                return Err(malformed());
            }
            let found = py.import("typing")?.getattr(&*name)?;
            if tag == "typing" {
                return Ok(found);
            }
            found.get_item(all_of(&told.get_item(2)?, made, depth + 1)?)
        }
        "alias" => {
            let origin = one_of(&value, made, depth + 1)?;
            let arguments = all_of(&told.get_item(2)?, made, depth + 1)?;
            origin.get_item(arguments)
        }
        _ => Err(malformed()),
    }
}
