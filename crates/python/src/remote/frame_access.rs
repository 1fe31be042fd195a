//! The way from the local picture of a remote frame to the frame itself.

use std::sync::{Arc, Weak};

use objspace_proto::FetchKind;
use pyo3::prelude::*;
use pyo3::types::{PyString, PyTuple};

use super::controller;
use crate::proxy;
use crate::session::connection::Connection;
use crate::session::errors;

/// `access(operation, frame, *rest)`: what a debugger that looks at a remote frame asks its owner.
/// It outlives exceptions in the line cache, so it does not keep the session alive.
#[pyclass(frozen, module = "objspace._core")]
pub(crate) struct FrameAccess {
    connection: Weak<Connection>,
    peer: String,
}

impl FrameAccess {
    pub(crate) fn new(connection: &Arc<Connection>) -> Self {
        Self {
            connection: Arc::downgrade(connection),
            peer: connection.peer().to_owned(),
        }
    }
}

#[pymethods]
impl FrameAccess {
    #[pyo3(signature = (operation, frame, /, *rest))]
    fn __call__<'py>(
        &self,
        py: Python<'py>,
        operation: Bound<'py, PyString>,
        frame: &Bound<'py, PyAny>,
        rest: &Bound<'py, PyTuple>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let remote = proxy::as_proxy(frame)
            .map(|proxy| controller::remote_of(&proxy, py))
            .transpose()?
            .flatten();
        // The collector may have cleared the frame's proxy with the exception that it belonged to.
        let Some(remote) = remote else {
            return Err(errors::gone(&self.peer));
        };
        let Some(connection) = self.connection.upgrade() else {
            return Err(errors::gone(&self.peer));
        };
        let mut all = vec![operation.into_any()];
        all.extend(rest.iter());
        connection.fetch(py, remote.get().target(), FetchKind::FRAME, &all, &[])
    }
}
