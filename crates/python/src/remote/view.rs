//! The names that the other side exports, as the attributes of one object.

use std::sync::Arc;

use objspace_proto::{FetchKind, Op, OutgoingTarget};
use pyo3::exceptions::PyAttributeError;
use pyo3::prelude::*;
use pyo3::types::{PyList, PyString};

use super::chain;
use crate::session::connection::Connection;
use crate::session::errors::ObjectNotFound;

/// What another process exports: `view.name` is the object that it exports as `name`, and
/// `dir(view)` lists the names.
#[pyclass(frozen, module = "objspace.distributed", name = "RemoteView", weakref)]
pub(crate) struct RemoteView {
    connection: Arc<Connection>,
}

impl RemoteView {
    pub(crate) fn new(connection: Arc<Connection>) -> Self {
        Self { connection }
    }

    pub(crate) fn connection(&self) -> &Arc<Connection> {
        &self.connection
    }
}

#[pymethods]
impl RemoteView {
    fn __getattr__<'py>(
        this: &Bound<'py, Self>,
        name: Bound<'py, PyString>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let (py, connection) = (this.py(), &this.get().connection);
        if let Some(begun) = chain::begin(this.as_any(), connection, OutgoingTarget::Root, &name)? {
            return Ok(begun);
        }
        let text = name.to_string();
        // Python itself asks for such names (copy, pickle, inspect): nobody exports them.
        if text.starts_with("__") && text.ends_with("__") {
            return Err(PyAttributeError::new_err(format!(
                "a RemoteView has no {text}"
            )));
        }
        connection
            .operate(
                py,
                OutgoingTarget::Root,
                Op::GETITEM,
                &[name.into_any()],
                &[],
            )
            .map_err(|error| {
                if error.is_instance_of::<ObjectNotFound>(py) {
                    let message = error
                        .value(py)
                        .getattr("args")
                        .and_then(|args| args.get_item(0));
                    let missing = PyAttributeError::new_err(
                        message.map_or(text, |message| message.to_string()),
                    );
                    missing.set_cause(py, Some(error));
                    missing
                } else {
                    error
                }
            })
    }

    fn __dir__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        let names = self.connection.fetch(
            py,
            OutgoingTarget::Root,
            FetchKind::EXPORTED_NAMES,
            &[],
            &[],
        )?;
        names
            .try_iter()?
            .collect::<PyResult<Vec<_>>>()
            .and_then(|names| PyList::new(py, names))
    }

    fn __repr__(&self) -> String {
        format!(
            "<objspace.distributed.RemoteView of {}>",
            self.connection.peer()
        )
    }
}
