//! What stands in the bodies of classes: `property`, `classmethod`, `staticmethod`, `cached_property`,
//! read-only mappings, and the markers of `dataclasses`.

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};

use super::view::referent;
use crate::pickling::reducer::{phased, reduced, refused};
use crate::pickling::{errors, maker};

pub(super) fn property<'py>(object: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyTuple>> {
    let py = object.py();
    let part = |name: &str| object.getattr(name);
    let arguments = (
        part("fget")?,
        part("fset")?,
        part("fdel")?,
        part("__doc__")?,
    );
    reduced(py, "make_property", arguments)
}

/// `classmethod` and `staticmethod`. Their attributes are copies of the function's.
pub(super) fn wrapper<'py>(
    object: &Bound<'py, PyAny>,
    make: &str,
) -> PyResult<Bound<'py, PyTuple>> {
    let py = object.py();
    reduced(py, make, (object.getattr(intern!(py, "__func__"))?,))
}

pub(super) fn cached_property<'py>(object: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyTuple>> {
    let py = object.py();
    let make = maker::get(py, "make_cached_property")?;
    // The lock that it has before 3.12 is made anew.
    let state = PyDict::new(py);
    for (name, value) in object.getattr("__dict__")?.cast::<PyDict>()? {
        if name.extract::<String>()? != "lock" {
            state.set_item(name, value)?;
        }
    }
    let empty = PyTuple::empty(py).into_any();
    phased(py, make, empty, state.into_any(), "set_attributes")
}

pub(super) fn mapping_proxy<'py>(object: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyTuple>> {
    let py = object.py();
    let mapping = referent(object)?;
    // The proxy of a class's dict is asked of the class again.
    let classes = py
        .import("gc")?
        .call_method1("get_referrers", (&mapping,))?;
    if mapping.is_exact_instance_of::<PyDict>()
        && let Ok(Some(_)) = mapping.cast::<PyDict>()?.get_item("__module__")
    {
        for class in classes.try_iter()? {
            let class = class?;
            if class.is_instance_of::<pyo3::types::PyType>() {
                let theirs = class.getattr("__dict__")?;
                if referent(&theirs)?.is(&mapping) {
                    return reduced(py, "class_namespace", (class,));
                }
            }
        }
    }
    reduced(py, "make_mappingproxy", (mapping,))
}

/// A marker that is one of its module's names.
pub(super) fn sentinel<'py>(object: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyTuple>> {
    let py = object.py();
    let module = py.import("dataclasses")?;
    for name in [
        "MISSING",
        "KW_ONLY",
        "_FIELD",
        "_FIELD_CLASSVAR",
        "_FIELD_INITVAR",
    ] {
        if module.getattr(name)?.is(object) {
            return reduced(py, "dataclass_marker", (name,));
        }
    }
    Err(refused(format!(
        "cannot pickle {}: it is none of the markers of dataclasses",
        object.repr()?
    )))
}

#[pyfunction]
fn make_property<'py>(
    py: Python<'py>,
    fget: &Bound<'py, PyAny>,
    fset: &Bound<'py, PyAny>,
    fdel: &Bound<'py, PyAny>,
    doc: &Bound<'py, PyAny>,
) -> PyResult<Bound<'py, PyAny>> {
    py.import(intern!(py, "builtins"))?
        .getattr(intern!(py, "property"))?
        .call1((fget, fset, fdel, doc))
}

#[pyfunction]
fn make_classmethod<'py>(function: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    function
        .py()
        .import("builtins")?
        .getattr("classmethod")?
        .call1((function,))
}

#[pyfunction]
fn make_staticmethod<'py>(function: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    function
        .py()
        .import("builtins")?
        .getattr("staticmethod")?
        .call1((function,))
}

#[pyfunction]
fn make_cached_property(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    let empty = py.import("builtins")?.getattr("print")?;
    py.import("functools")?
        .getattr("cached_property")?
        .call1((empty,))
}

#[pyfunction]
fn make_mappingproxy<'py>(mapping: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    mapping
        .py()
        .import("types")?
        .getattr("MappingProxyType")?
        .call1((mapping,))
}

/// `class.__dict__`
#[pyfunction]
fn class_namespace<'py>(class: &Bound<'py, pyo3::types::PyType>) -> PyResult<Bound<'py, PyAny>> {
    class.getattr("__dict__")
}

#[pyfunction]
fn dataclass_marker<'py>(py: Python<'py>, name: &str) -> PyResult<Bound<'py, PyAny>> {
    match name {
        "MISSING" | "KW_ONLY" | "_FIELD" | "_FIELD_CLASSVAR" | "_FIELD_INITVAR" => {
            py.import("dataclasses")?.getattr(name)
        }
        _ => Err(errors::unpickling(format!(
            "no marker of dataclasses: {name:?}"
        ))),
    }
}

/// Sets entries of an object's `__dict__`.
#[pyfunction]
fn set_attributes(object: &Bound<'_, PyAny>, state: &Bound<'_, PyDict>) -> PyResult<()> {
    object
        .getattr(intern!(object.py(), "__dict__"))?
        .cast::<PyDict>()?
        .update(state.as_mapping())
}

pub(super) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    maker::add(module, wrap_pyfunction!(make_property, module)?)?;
    maker::add(module, wrap_pyfunction!(make_classmethod, module)?)?;
    maker::add(module, wrap_pyfunction!(make_staticmethod, module)?)?;
    maker::add(module, wrap_pyfunction!(make_cached_property, module)?)?;
    maker::add(module, wrap_pyfunction!(make_mappingproxy, module)?)?;
    maker::add(module, wrap_pyfunction!(class_namespace, module)?)?;
    maker::add(module, wrap_pyfunction!(dataclass_marker, module)?)?;
    maker::add(module, wrap_pyfunction!(set_attributes, module)?)
}
