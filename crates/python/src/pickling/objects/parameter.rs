//! What `typing` makes that has a name of its own: type variables and their like, `NewType`, type
//! aliases. By name where the other side finds them, by value otherwise. Each keeps an identifier, as
//! classes do: whoever loads one twice gets one object. Only type aliases cannot be known again.

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyString, PyTuple, PyType};

use super::class::{identifier, known_object, remember};
use super::function::named_as;
use crate::pickling::reducer::{Pass, reduced};
use crate::pickling::{allow, errors, maker};

/// Its objects cannot be referred to weakly.
const ALIAS: &str = "TypeAliasType";
/// The types of this file, with the parts by which each is made again. A part that a version of Python
/// does not have is left out; one that is `NoDefault` is as good as absent.
const PARTS: &[(&str, &[&str])] = &[
    (
        "TypeVar",
        &[
            "__bound__",
            "__constraints__",
            "__covariant__",
            "__contravariant__",
            "__infer_variance__",
            "__default__",
        ],
    ),
    (
        "ParamSpec",
        &[
            "__bound__",
            "__covariant__",
            "__contravariant__",
            "__infer_variance__",
            "__default__",
        ],
    ),
    ("TypeVarTuple", &["__default__"]),
    ("NewType", &["__supertype__"]),
    (ALIAS, &["__value__", "__type_params__"]),
];

pub(super) fn types(py: Python<'_>) -> PyResult<Vec<Bound<'_, PyAny>>> {
    let typing = py.import(intern!(py, "typing"))?;
    Ok(PARTS
        .iter()
        .filter_map(|(name, _)| typing.getattr(*name).ok())
        .collect())
}

pub(super) fn reduce<'py>(
    object: &Bound<'py, PyAny>,
    pass: &Pass,
) -> PyResult<Option<Bound<'py, PyTuple>>> {
    let py = object.py();
    let name = object.getattr(intern!(py, "__name__"))?;
    let module = object.getattr(intern!(py, "__module__"))?;
    if let (Ok(module), Ok(name)) = (module.extract::<String>(), name.extract::<String>())
        && named_as(object, &module, &name, pass.mode)?.is_some()
    {
        return Ok(None);
    }
    let class = object.get_type().name()?;
    let wanted = PARTS
        .iter()
        .find(|(of, _)| class.to_string_lossy() == *of)
        .map_or(&[][..], |(_, parts)| parts);
    let none = py.import("typing")?.getattr("NoDefault").ok();
    let parts = PyDict::new(py);
    for part in wanted {
        if let Ok(value) = object.getattr(*part)
            && !none.as_ref().is_some_and(|none| value.is(none))
        {
            parts.set_item(part.trim_matches('_'), value)?;
        }
    }
    let identifier = if class.to_string_lossy() == ALIAS {
        PyBytes::new(py, b"").into_any()
    } else {
        identifier(object)?
    };
    reduced(
        py,
        "make_type_parameter",
        (identifier, class, name, module, parts),
    )
    .map(Some)
}

#[pyfunction]
fn make_type_parameter<'py>(
    py: Python<'py>,
    identifier: &Bound<'py, PyBytes>,
    class: &str,
    name: &Bound<'py, PyString>,
    module: &Bound<'py, PyAny>,
    parts: &Bound<'py, PyDict>,
) -> PyResult<Bound<'py, PyAny>> {
    allow::module("typing")?;
    let kept = !identifier.as_bytes().is_empty();
    if kept && let Some(known) = known_object(py, identifier)? {
        return Ok(known);
    }
    let class = PARTS
        .iter()
        .find(|(of, _)| *of == class)
        .and_then(|(of, _)| py.import("typing").ok()?.getattr(*of).ok())
        .ok_or_else(|| errors::unpickling(format!("typing has no {class:?} here")))?
        .cast_into::<PyType>()?;
    let part = |name: &str| parts.get_item(name);
    let options = PyDict::new(py);
    for name in [
        "bound",
        "covariant",
        "contravariant",
        "default",
        "type_params",
    ] {
        if let Some(value) = part(name)? {
            options.set_item(name, value)?;
        }
    }
    // `False` is the same as nothing, and not every version takes it.
    if let Some(value) = part("infer_variance")?
        && value.is_truthy()?
    {
        options.set_item("infer_variance", value)?;
    }
    let mut arguments = vec![name.clone().into_any()];
    if let Some(constraints) = part("constraints")? {
        arguments.extend(constraints.cast::<PyTuple>()?.iter());
    }
    arguments.extend(part("supertype")?);
    arguments.extend(part("value")?);
    let object = class.call(PyTuple::new(py, arguments)?, Some(&options))?;
    // An alias keeps its module to itself.
    let _ = object.setattr(intern!(py, "__module__"), module);
    if kept {
        remember(&object, identifier)?;
    }
    Ok(object)
}

pub(super) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    maker::add(module, wrap_pyfunction!(make_type_parameter, module)?)
}
