//! The way from the local twin of a remote class to the class itself.

use std::sync::Arc;

use objspace_proto::{ImportId, Op, OutgoingTarget};
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString, PyTuple};

use crate::session::connection::Connection;

/// `access(what, name, *args, **kwargs)`: what a class made from a shape asks its original.
#[pyclass(frozen, module = "objspace._core")]
pub(crate) struct ClassAccess {
    connection: Arc<Connection>,
    class: ImportId,
}

impl ClassAccess {
    pub(crate) fn new(connection: Arc<Connection>, class: ImportId) -> Self {
        Self { connection, class }
    }

    fn ask<'py>(
        &self,
        py: Python<'py>,
        op: Op,
        args: &[Bound<'py, PyAny>],
        keywords: &[(Bound<'py, PyString>, Bound<'py, PyAny>)],
    ) -> PyResult<Bound<'py, PyAny>> {
        self.connection.call(py, OutgoingTarget::Import(self.class), op, args, keywords)
    }
}

#[pymethods]
impl ClassAccess {
    #[pyo3(signature = (what, name = None, *args, **kwargs))]
    fn __call__<'py>(
        &self,
        py: Python<'py>,
        what: &str,
        name: Option<Bound<'py, PyString>>,
        args: &Bound<'py, PyTuple>,
        kwargs: Option<&Bound<'py, PyDict>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let keywords = match kwargs {
            Some(kwargs) => kwargs
                .iter()
                .map(|(name, value)| Ok((name.cast_into::<PyString>()?, value)))
                .collect::<PyResult<Vec<_>>>()?,
            None => Vec::new(),
        };
        let named = || name.clone().ok_or_else(|| PyTypeError::new_err(format!("{what} needs a name")));
        let with_name = || -> PyResult<Vec<Bound<'py, PyAny>>> {
            let mut all = vec![named()?.into_any()];
            all.extend(args.iter());
            Ok(all)
        };
        match what {
            "new" => self.ask(py, Op::CALL, &args.iter().collect::<Vec<_>>(), &keywords),
            "get" => self.ask(py, Op::GETATTR, &with_name()?, &[]),
            "set" => self.ask(py, Op::SETATTR, &with_name()?, &[]),
            "delete" => self.ask(py, Op::DELATTR, &with_name()?, &[]),
            "call" => self.ask(py, Op::CALL_METHOD, &with_name()?, &keywords),
            "property_get" => self.instance(py, Op::GETATTR, named()?, args),
            "property_set" => self.instance(py, Op::SETATTR, named()?, args),
            "property_delete" => self.instance(py, Op::DELATTR, named()?, args),
            "getitem" => self.ask(py, Op::GETITEM, &args.iter().collect::<Vec<_>>(), &[]),
            "iter" => self.ask(py, Op::ITER, &[], &[]),
            "len" => self.ask(py, Op::LEN, &[], &[]),
            "contains" => self.ask(py, Op::CONTAINS, &args.iter().collect::<Vec<_>>(), &[]),
            "repr" => self.ask(py, Op::REPR, &[], &[]),
            "dir" => self.ask(py, Op::DIR, &[], &[]),
            other => Err(PyTypeError::new_err(format!("a remote class does not answer {other:?}"))),
        }
    }
}

impl ClassAccess {
    /// A property of the class, applied to an object of either side: the descriptor is fetched and
    /// asked, so that a local subclass's instance works as well.
    fn instance<'py>(
        &self,
        py: Python<'py>,
        op: Op,
        name: Bound<'py, PyString>,
        args: &Bound<'py, PyTuple>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let descriptor = self.ask(py, Op::GETATTR, &[name.into_any()], &[])?;
        let method = match op {
            Op::GETATTR => "__get__",
            Op::SETATTR => "__set__",
            _ => "__delete__",
        };
        descriptor.call_method1(method, args.clone())
    }
}
