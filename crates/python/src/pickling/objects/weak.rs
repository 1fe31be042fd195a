//! Weak references. The copy refers weakly to the copy, which lives on if something else in the pickle
//! refers to it; a reference that is dead, or whose object nothing else holds, is dead after loading.

use pyo3::exceptions::PyTypeError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyTuple;

use crate::pickling::maker;
use crate::pickling::reducer::reduced;

/// `weakref.ref`
pub(super) fn reference<'py>(object: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyTuple>> {
    let py = object.py();
    let callback = object.getattr(intern!(py, "__callback__"))?;
    reduced(py, "make_weak_reference", (object.call0()?, callback))
}

/// The references of a `WeakValueDictionary`, which know their key.
pub(super) fn keyed<'py>(object: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyTuple>> {
    let py = object.py();
    let callback = object.getattr(intern!(py, "__callback__"))?;
    let key = object.getattr(intern!(py, "key"))?;
    reduced(py, "make_keyed_reference", (object.call0()?, callback, key))
}

/// `weakref.WeakMethod`. Its callback is a function of its own, around the user's.
pub(super) fn method<'py>(object: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyTuple>> {
    let py = object.py();
    let mut callback = py.None().into_bound(py);
    let around = object.getattr(intern!(py, "__callback__"))?;
    if !around.is_none() {
        let names: Vec<String> = around
            .getattr("__code__")?
            .getattr("co_freevars")?
            .extract()?;
        if let Some(at) = names.iter().position(|name| name == "callback") {
            let cell = around.getattr("__closure__")?.get_item(at)?;
            callback = cell.getattr("cell_contents")?;
        }
    }
    reduced(py, "make_weak_method", (object.call0()?, callback))
}

/// What dies at once; it may be referred to weakly.
fn mortal(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    Ok(pyo3::types::PySet::empty(py)?.into_any())
}

fn target<'py>(object: Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    if object.is_none() {
        mortal(object.py())
    } else {
        Ok(object)
    }
}

#[pyfunction]
fn make_weak_reference<'py>(
    object: Bound<'py, PyAny>,
    callback: &Bound<'py, PyAny>,
) -> PyResult<Bound<'py, PyAny>> {
    let py = object.py();
    // The callback of a dead reference has been called.
    let callback = if object.is_none() {
        py.None().into_bound(py)
    } else {
        callback.clone()
    };
    py.import(intern!(py, "weakref"))?
        .getattr(intern!(py, "ref"))?
        .call1((target(object)?, callback))
}

#[pyfunction]
fn make_keyed_reference<'py>(
    object: Bound<'py, PyAny>,
    callback: &Bound<'py, PyAny>,
    key: &Bound<'py, PyAny>,
) -> PyResult<Bound<'py, PyAny>> {
    let py = object.py();
    let callback = if object.is_none() {
        py.None().into_bound(py)
    } else {
        callback.clone()
    };
    py.import(intern!(py, "weakref"))?
        .getattr("KeyedRef")?
        .call1((target(object)?, callback, key))
}

#[pyfunction]
fn make_weak_method<'py>(
    method: &Bound<'py, PyAny>,
    callback: &Bound<'py, PyAny>,
) -> PyResult<Bound<'py, PyAny>> {
    let py = method.py();
    let class = py.import(intern!(py, "weakref"))?.getattr("WeakMethod")?;
    if method.is_none() {
        // A method of an object that dies with this call.
        let lost = py
            .import("types")?
            .getattr("MethodType")?
            .call1((py.get_type::<pyo3::types::PySet>(), mortal(py)?))?;
        return class.call1((lost,));
    }
    if !method.hasattr(intern!(py, "__self__"))? {
        return Err(PyTypeError::new_err("a weak method refers to a method"));
    }
    class.call1((method, callback))
}

pub(super) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    maker::add(module, wrap_pyfunction!(make_weak_reference, module)?)?;
    maker::add(module, wrap_pyfunction!(make_keyed_reference, module)?)?;
    maker::add(module, wrap_pyfunction!(make_weak_method, module)?)
}
