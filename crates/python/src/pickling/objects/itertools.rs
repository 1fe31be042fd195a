//! The iterators of `itertools`, from 3.12 on: pickled without the warning that this is deprecated.
//!
//! They know their state, and tell it only by `__reduce__`, which warns since 3.12. So it is called, and
//! so is `__setstate__`, while a filter stands before all others that ignores this one message. Nothing
//! but the call itself happens meanwhile: no Python code of ours runs, and the GIL is not given away
//! unless the collector runs finalisers of others.

use pyo3::exceptions::PyTypeError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyList, PyTuple, PyType};

use super::{Kind, kinds};
use crate::pickling::maker;
use crate::pickling::reducer::{phased, refused};

/// What CPython says.
const MESSAGE: &str =
    "Pickle, copy, and deepcopy support will be removed from itertools in Python 3.14.";

const NAMES: [&str; 20] = [
    "_grouper",
    "_tee",
    "_tee_dataobject",
    "accumulate",
    "chain",
    "combinations",
    "combinations_with_replacement",
    "compress",
    "count",
    "cycle",
    "dropwhile",
    "filterfalse",
    "groupby",
    "islice",
    "permutations",
    "product",
    "repeat",
    "starmap",
    "takewhile",
    "zip_longest",
];

/// The types that warn; none in 3.11.
pub(super) fn types(py: Python<'_>) -> PyResult<Vec<Bound<'_, PyType>>> {
    if objspace_interp::MINOR < 12 {
        return Ok(Vec::new());
    }
    let module = py.import("itertools")?;
    NAMES
        .iter()
        .map(|name| Ok(module.getattr(*name)?.cast_into::<PyType>()?))
        .collect()
}

pub(super) fn reduce<'py>(object: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyTuple>> {
    let py = object.py();
    let reduced = quietly(py, || object.call_method0(intern!(py, "__reduce__")))?;
    let parts = reduced
        .cast_into::<PyTuple>()
        .map_err(|_| refused("an iterator of itertools that says nothing of its state"))?;
    let make = parts.get_item(0)?;
    let args = parts.get_item(1)?;
    match parts.get_item(2) {
        Ok(state) if !state.is_none() => phased(py, make, args, state, "set_itertools"),
        _ => PyTuple::new(py, [make, args]),
    }
}

#[pyfunction]
#[pyo3(signature = (object, state, /))]
fn set_itertools(object: &Bound<'_, PyAny>, state: &Bound<'_, PyAny>) -> PyResult<()> {
    let py = object.py();
    if !matches!(kinds(py)?.of(&object.get_type()), Some(Kind::Itertools)) {
        return Err(PyTypeError::new_err("this is no iterator of itertools"));
    }
    quietly(py, || {
        object.call_method1(intern!(py, "__setstate__"), (state,))
    })?;
    Ok(())
}

/// Calls a method of C code; the warning is not given.
fn quietly<'py, T>(py: Python<'py>, call: impl FnOnce() -> PyResult<T>) -> PyResult<T> {
    let filters = maker::modules(py)?
        .get_item(intern!(py, "warnings"))
        .and_then(|module| module.getattr(intern!(py, "filters")));
    let Some(filters) = filters
        .ok()
        .and_then(|filters| filters.cast_into::<PyList>().ok())
    else {
        return call();
    };
    let ours = filter(py)?;
    filters.insert(0, ours)?;
    let result = call();
    // Others may have been put before it meanwhile.
    let place = filters.iter().position(|one| one.is(ours));
    if let Some(place) = place {
        filters.del_item(place)?;
    }
    result
}

fn filter(py: Python<'_>) -> PyResult<&Bound<'_, PyAny>> {
    static FILTER: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let filter = FILTER.get_or_try_init(py, || {
        let category = py
            .import("builtins")?
            .getattr(intern!(py, "DeprecationWarning"))?;
        let none = py.None();
        let filter = ("ignore", MESSAGE, category, none, 0).into_pyobject(py)?;
        Ok::<_, PyErr>(filter.into_any().unbind())
    });
    filter.map(|filter| filter.bind(py))
}

pub(super) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    maker::add(module, wrap_pyfunction!(set_itertools, module)?)
}
