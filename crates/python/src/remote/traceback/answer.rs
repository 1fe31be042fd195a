//! The side where a frame lives: what it answers to those who look at its picture elsewhere.
use objspace_proto::FetchKind;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyMapping, PyString, PyTuple};

use super::source;
use crate::proxy;
use crate::remote::controller;

/// Performs one request about a frame (see the module for the list). `arguments` are those after the
/// operation: the frame, and for `"global"` the name.
///
/// # Errors
/// `KeyError` for a global that is not there, `ValueError` for an unknown operation.
pub(crate) fn answer<'py>(
    py: Python<'py>,
    operation: &str,
    arguments: &Bound<'py, PyTuple>,
) -> PyResult<Bound<'py, PyAny>> {
    let subject = arguments.get_item(0)?;
    if let Some(frame) = proxy::as_proxy(&subject)
        && let Some(remote) = controller::remote_of(&frame, py)?
    {
        // A frame of a third process, whose files are not those of this one.
        let mut all = vec![PyString::new(py, operation).into_any()];
        all.extend(arguments.iter().skip(1));
        let remote = remote.get();
        return remote
            .connection()
            .fetch(py, remote.target(), FetchKind::FRAME, &all, &[]);
    }
    match operation {
        "locals" => {
            let locals = subject.getattr("f_locals")?;
            if let Ok(locals) = locals.cast::<PyDict>() {
                return Ok(PyTuple::new(py, locals.items())?.into_any());
            }
            let items = locals.cast::<PyMapping>()?.items()?;
            Ok(items.to_tuple().into_any())
        }
        "global" => {
            let name = arguments.get_item(1)?;
            // A KeyError is the answer for a name that is not there; of a proxy it is the owner's.
            subject.getattr("f_globals")?.get_item(name)
        }
        "source" => {
            let file = subject.getattr("f_code")?.getattr("co_filename")?;
            source::text_of(file.cast()?, Some(&subject.getattr("f_globals")?))
        }
        _ => Err(PyValueError::new_err(format!(
            "no request {operation:?} about a frame"
        ))),
    }
}
