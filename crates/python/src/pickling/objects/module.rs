//! Modules travel as their names.

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyTuple;

use crate::pickling::reducer::{reduced, refused};
use crate::pickling::{allow, maker};

pub(super) fn reduce<'py>(object: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyTuple>> {
    let py = object.py();
    let name: String = object.getattr(intern!(py, "__name__"))?.extract()?;
    let modules = py
        .import(intern!(py, "sys"))?
        .getattr(intern!(py, "modules"))?;
    if modules.get_item(&name).is_ok_and(|known| known.is(object)) {
        return reduced(py, "import_module", (name,));
    }
    // Imported under another name, as `posixpath` is under `os.path`.
    for item in modules
        .call_method0("copy")?
        .call_method0("items")?
        .try_iter()?
    {
        let (known, module): (Bound<'_, PyAny>, Bound<'_, PyAny>) = item?.extract()?;
        if module.is(object)
            && let Ok(known) = known.extract::<String>()
        {
            return reduced(py, "import_module", (known,));
        }
    }
    Err(refused(format!(
        "cannot pickle module '{name}': it is not the one in sys.modules under that name"
    )))
}

/// An imported module.
#[pyfunction]
fn import_module<'py>(py: Python<'py>, name: &str) -> PyResult<Bound<'py, PyAny>> {
    allow::import(py, name)
}

pub(super) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    maker::add(module, wrap_pyfunction!(import_module, module)?)
}
