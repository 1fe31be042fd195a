//! Entry points for the tests of this folder: one process plays both sides.
use pyo3::prelude::*;

/// For tests of objspace only.
#[pymodule]
pub(crate) mod _parts {
    use pyo3::exceptions::PyBaseException;
    use pyo3::prelude::*;
    use pyo3::types::{PyDict, PyString, PyTraceback, PyTuple, PyType};

    use crate::remote::{class, exception, traceback};

    #[pymodule_export]
    use crate::remote::traceback::RemoteLocals;

    /// Puts in, or takes out, a frame evaluation hook that hands on; how many frames it has seen.
    #[pyfunction]
    fn foreign_hook(on: bool) -> usize {
        // SAFETY: attached, as every function of an extension.
        unsafe { objspace_interp::chain::foreign_hook(on) }
    }

    #[pyfunction]
    fn describe_class<'py>(
        py: Python<'py>,
        class: &Bound<'py, PyType>,
    ) -> PyResult<Bound<'py, PyTuple>> {
        class::describe(py, class, false)
    }

    #[pyfunction]
    #[pyo3(signature = (description, bases, access, label="test"))]
    fn build_class<'py>(
        py: Python<'py>,
        description: &Bound<'py, PyTuple>,
        bases: &Bound<'py, PyTuple>,
        access: &Bound<'py, PyAny>,
        label: &str,
    ) -> PyResult<Bound<'py, PyType>> {
        class::build(py, description, bases, access, label)
    }

    #[pyfunction]
    #[pyo3(signature = (class, operation, name=None, /, *args, **kwargs))]
    fn answer_class<'py>(
        py: Python<'py>,
        class: &Bound<'py, PyType>,
        operation: &str,
        name: Option<Bound<'py, PyString>>,
        args: &Bound<'py, PyTuple>,
        kwargs: Option<&Bound<'py, PyDict>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        class::answer(py, class, operation, name.as_ref(), args, kwargs)
    }

    #[pyfunction]
    fn visible_metaclass<'py>(class: &Bound<'py, PyType>) -> Option<Bound<'py, PyType>> {
        class::visible_metaclass(class)
    }

    #[pyfunction]
    fn class_fact<'py>(class: &Bound<'py, PyType>, name: &str) -> Option<Bound<'py, PyAny>> {
        class::fact(class, name)
    }

    fn shown(redact: bool) -> traceback::Shown {
        if redact {
            traceback::Shown::Redacted
        } else {
            traceback::Shown::Full
        }
    }

    #[pyfunction]
    #[pyo3(signature = (exception, redact=false, limit=128))]
    fn describe_exception<'py>(
        py: Python<'py>,
        exception: &Bound<'py, PyBaseException>,
        redact: bool,
        limit: usize,
    ) -> PyResult<Bound<'py, PyTuple>> {
        let shown = shown(redact);
        exception::describe(py, exception, exception::Options { shown, limit })
    }

    #[pyfunction]
    #[pyo3(signature = (description, access, label="test"))]
    fn build_exception<'py>(
        py: Python<'py>,
        description: &Bound<'py, PyTuple>,
        access: &Bound<'py, PyAny>,
        label: &str,
    ) -> PyResult<Bound<'py, PyBaseException>> {
        exception::build(py, description, access, label)
    }

    #[pyfunction]
    fn origin(exception: &Bound<'_, PyAny>) -> Option<Py<PyAny>> {
        exception::origin(exception)
    }

    #[pyfunction]
    #[pyo3(signature = (traceback, redact=false))]
    fn describe_traceback<'py>(
        py: Python<'py>,
        traceback: Option<Bound<'py, PyTraceback>>,
        redact: bool,
    ) -> PyResult<Bound<'py, PyTuple>> {
        traceback::describe(py, traceback.as_ref(), shown(redact))
    }

    #[pyfunction]
    #[pyo3(signature = (entries, access, label="test"))]
    fn build_traceback<'py>(
        py: Python<'py>,
        entries: &Bound<'py, PyTuple>,
        access: &Bound<'py, PyAny>,
        label: &str,
    ) -> PyResult<Option<Bound<'py, PyTraceback>>> {
        traceback::build(py, entries, access, label)
    }

    #[pyfunction]
    #[pyo3(signature = (operation, *arguments))]
    fn answer_frame<'py>(
        py: Python<'py>,
        operation: &str,
        arguments: &Bound<'py, PyTuple>,
    ) -> PyResult<Bound<'py, PyAny>> {
        traceback::answer(py, operation, arguments)
    }
}
