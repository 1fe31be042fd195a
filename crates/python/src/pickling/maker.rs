//! `objspace._pickles`: the functions that a pickle names, by which objects are made again.
//!
//! Their names and arguments are part of the format (`stream::FORMAT`). Python code does not call them.

use pyo3::exceptions::PyRuntimeError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyCFunction, PyDict, PyString};

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
    if let Some(module) = MAKERS.get(py)
        && let Some(found) = module.bind(py).dict().get_item(name)?
    {
        return Ok(found);
    }
    py.import(MODULE)?.getattr(name)
}

/// `sys.modules` as it is now. `Python::import` would go through `__import__` each time.
pub(crate) fn modules(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    static SYS: PyOnceLock<Py<PyDict>> = PyOnceLock::new();
    let sys = SYS.get_or_try_init(py, || py.import("sys").map(|sys| sys.dict().unbind()))?;
    let modules = sys.bind(py).get_item(intern!(py, "modules"))?;
    modules.ok_or_else(|| PyRuntimeError::new_err("sys.modules is gone"))
}

/// The module that is imported under this name, if there is one.
pub(crate) fn imported<'py>(name: &Bound<'py, PyString>) -> PyResult<Option<Bound<'py, PyAny>>> {
    let modules = modules(name.py())?;
    match modules.cast_exact::<PyDict>() {
        Ok(modules) => modules.get_item(name),
        Err(_) => Ok(modules.get_item(name).ok()),
    }
}

/// `module.__spec__`, if it has one.
pub(crate) fn spec<'py>(module: &Bound<'py, PyAny>) -> Option<Bound<'py, PyAny>> {
    let name = intern!(module.py(), "__spec__");
    // The getter of modules looks there first, and takes longer.
    if let Ok(module) = module.cast_exact::<PyModule>()
        && let Ok(Some(spec)) = module.dict().get_item(name)
    {
        return Some(spec);
    }
    module.getattr(name).ok()
}
