//! `inspect.getfile` of remote classes, and with it `inspect.getsource`.
//!
//! Up to Python 3.13 the `inspect` module finds the file of a class by way of its module, and the module
//! of a remote class is not here. So that one function is replaced by one that knows remote classes and
//! leaves everything else to the former; functions and frames need nothing of the kind.
//!
//! What this is not: the text of the file, which comes through the line cache (`traceback::source`).

use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyString, PyType};

use super::meta;

/// Replaces `inspect.getfile`, once.
///
/// # Errors
/// Those of importing `inspect`.
pub(super) fn install(py: Python<'_>) -> PyResult<()> {
    static INSTALLED: PyOnceLock<()> = PyOnceLock::new();
    INSTALLED
        .get_or_try_init(py, || {
            let find = pyo3::wrap_pyfunction!(file_of, py)?;
            py.import("objspace._stubs")?
                .call_method1("install_getfile", (find,))
                .map(drop)
        })
        .copied()
}

/// The name here of the file that a remote class comes from; `None` for anything else.
#[pyfunction]
fn file_of<'py>(object: &Bound<'py, PyAny>) -> PyResult<Option<Bound<'py, PyString>>> {
    let py = object.py();
    let Some(record) = object.cast::<PyType>().ok().and_then(meta::record) else {
        return Ok(None);
    };
    match &record.get().file {
        Some(file) => Ok(Some(file.bind(py).clone())),
        None => Err(PyTypeError::new_err(
            "the other process tells no source of this remote class",
        )),
    }
}
