//! What stands for a null pointer among the values of a frame: one object, pickled by name.

use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;

static NULL: PyOnceLock<Py<Null>> = PyOnceLock::new();

/// No value at all: an unbound variable, or what the interpreter itself leaves on its stack.
#[pyclass(frozen, module = "objspace._pickles")]
pub(crate) struct Null;

#[pymethods]
impl Null {
    // Its name in the module.
    fn __reduce__(&self) -> &'static str {
        "NULL"
    }

    fn __repr__(&self) -> &'static str {
        "<no value>"
    }

    fn __copy__(this: Py<Self>) -> Py<Self> {
        this
    }

    fn __deepcopy__(this: Py<Self>, _memo: &Bound<'_, PyAny>) -> Py<Self> {
        this
    }
}

/// The one object.
pub(crate) fn null(py: Python<'_>) -> PyResult<&Bound<'_, Null>> {
    Ok(NULL.get_or_try_init(py, || Py::new(py, Null))?.bind(py))
}

pub(super) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add("NULL", null(module.py())?)
}
