//! `objspace._pickles`: the functions that a pickle names, by which objects are made again.
//!
//! Their names and arguments are part of the format (`stream::FORMAT`). Python code does not call them.

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyCFunction, PyString};

/// The name of the module as it stands in pickles.
pub(crate) const MODULE: &str = "objspace._pickles";

static MAKERS: PyOnceLock<Py<PyModule>> = PyOnceLock::new();

/// Creates the module and puts it where the import system finds it.
pub(crate) fn create<'py>(py: Python<'py>) -> PyResult<Bound<'py, PyModule>> {
    let module = PyModule::new(py, MODULE)?;
    py.import("sys")?
        .getattr("modules")?
        .set_item(MODULE, &module)?;
    let _ = MAKERS.set(py, module.clone().unbind());
    Ok(module)
}

/// Adds a maker.
pub(crate) fn add(module: &Bound<'_, PyModule>, function: Bound<'_, PyCFunction>) -> PyResult<()> {
    module.add_function(function)
}

/// The maker of that name.
pub(crate) fn get<'py>(py: Python<'py>, name: &str) -> PyResult<Bound<'py, PyAny>> {
    match MAKERS.get(py) {
        Some(module) => module.bind(py).getattr(name),
        None => py.import(MODULE)?.getattr(name),
    }
}

/// The same by a string object.
pub(crate) fn named<'py>(name: &Bound<'py, PyString>) -> PyResult<Bound<'py, PyAny>> {
    let py = name.py();
    match MAKERS.get(py) {
        Some(module) => module.bind(py).getattr(name),
        None => py.import(MODULE)?.getattr(name),
    }
}

/// `sys.modules` as it is now. `Python::import` would go through `__import__` each time.
pub(crate) fn modules(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    static SYS: PyOnceLock<Py<PyModule>> = PyOnceLock::new();
    SYS.get_or_try_init(py, || py.import("sys").map(Bound::unbind))?
        .bind(py)
        .getattr(intern!(py, "modules"))
}
