//! Watched objects: the controller of a proxy that records what reaches the object.

use objspace_log::Status;
use pyo3::ffi::compat::PyThreadState_GetUnchecked;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};
use pyo3::{ffi, intern};

use super::recorder::Active;

/// The controller that `objspace.dump.watch` gives to `make_proxy`.
#[pyclass(frozen, module = "objspace._core", name = "_DumpWatcher")]
pub(crate) struct DumpWatcher;

#[pymethods]
impl DumpWatcher {
    #[new]
    const fn new() -> Self {
        Self
    }

    fn __call__<'py>(&self, operation: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        let py = operation.py();
        let opname: String = operation.getattr(intern!(py, "opname"))?.extract()?;
        let args: Bound<'py, PyTuple> = operation.getattr(intern!(py, "args"))?.extract()?;
        let kwargs = operation.getattr(intern!(py, "kwargs"))?;
        let obj = operation.getattr(intern!(py, "obj"))?;
        let mut operands = vec![obj.as_ptr()];
        operands.extend(args.iter_borrowed().map(|argument| argument.as_ptr()));
        if let Ok(kwargs) = kwargs.cast::<PyDict>()
            && !kwargs.is_empty()
        {
            operands.push(kwargs.as_ptr());
        }
        // SAFETY: the GIL is held by this thread, and `operation` keeps the operands alive.
        let recording = unsafe {
            Active::enter().map(|mut active| {
                let recorder = active.recorder();
                recorder.watched(PyThreadState_GetUnchecked(), &opname, &operands);
                recorder.recording()
            })
        };
        let result = operation.call_method0(intern!(py, "delegate"));
        let (status, value) = match &result {
            Ok(value) => (Status::Result, value.as_ptr()),
            Err(error) => (Status::Raised, error.value(py).as_ptr()),
        };
        // The recording may have ended meanwhile, and another one begun.
        if let Some(recording) = recording
            && let Some(mut active) = Active::enter()
            && active.recorder().recording() == recording
        {
            // SAFETY: as above; `result` keeps the value alive.
            unsafe {
                let state: *mut ffi::PyThreadState = PyThreadState_GetUnchecked();
                active.recorder().watch_ended(state, status, value);
            }
        }
        result
    }
}
