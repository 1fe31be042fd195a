use pyo3::prelude::*;
pub(crate) fn frame_source<'py>(f: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> { todo!() }
