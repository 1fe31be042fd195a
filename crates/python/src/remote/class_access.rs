//! The way from the local twin of a remote class to the class itself.

use std::sync::{Arc, Weak};

use objspace_proto::{FetchKind, ImportId, OutgoingTarget};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString, PyTuple};

use crate::session::connection::Connection;
use crate::session::errors;

/// `access(operation, name, *args, **kwargs)`: what a class made from a shape asks its original.
#[pyclass(frozen, module = "objspace._core")]
pub(crate) struct ClassAccess {
    connection: Weak<Connection>,
    peer: String,
    class: ImportId,
}

impl ClassAccess {
    pub(crate) fn new(connection: &Arc<Connection>, class: ImportId) -> Self {
        Self {
            connection: Arc::downgrade(connection),
            peer: connection.peer().to_owned(),
            class,
        }
    }
}

#[pymethods]
impl ClassAccess {
    #[pyo3(signature = (operation, name = None, /, *args, **kwargs))]
    fn __call__<'py>(
        &self,
        py: Python<'py>,
        operation: Bound<'py, PyString>,
        name: Option<Bound<'py, PyAny>>,
        args: &Bound<'py, PyTuple>,
        kwargs: Option<&Bound<'py, PyDict>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let Some(connection) = self.connection.upgrade() else {
            return Err(errors::gone(&self.peer));
        };
        let mut all = vec![
            operation.into_any(),
            name.unwrap_or_else(|| py.None().into_bound(py)),
        ];
        all.extend(args.iter());
        let keywords = match kwargs {
            Some(kwargs) => kwargs
                .iter()
                .map(|(name, value)| Ok((name.cast_into::<PyString>()?, value)))
                .collect::<PyResult<Vec<_>>>()?,
            None => Vec::new(),
        };
        connection.fetch(
            py,
            OutgoingTarget::Import(self.class),
            FetchKind::CLASS,
            &all,
            &keywords,
        )
    }
}
