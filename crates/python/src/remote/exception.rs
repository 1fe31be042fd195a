use pyo3::prelude::*;
use pyo3::types::*;
pub(crate) fn describe_exception(py: Python<'_>, e: &Bound<'_, PyAny>, redact: bool) -> PyResult<Py<PyTuple>> { todo!() }
pub(crate) fn build_exception<'py>(py: Python<'py>, d: &Bound<'py, PyTuple>, origin: &Bound<'py, PyAny>, access: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> { todo!() }
pub(crate) fn origin(e: &Bound<'_, PyAny>) -> Option<Py<PyAny>> { None }
