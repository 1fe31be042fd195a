use pyo3::prelude::*;
use pyo3::types::*;
pub(crate) fn describe_class(py: Python<'_>, cls: &Bound<'_, PyType>) -> PyResult<Py<PyTuple>> { todo!() }
pub(crate) fn build_class(py: Python<'_>, d: &Bound<'_, PyTuple>, bases: &Bound<'_, PyTuple>, access: &Bound<'_, PyAny>) -> PyResult<Py<PyType>> { todo!() }
