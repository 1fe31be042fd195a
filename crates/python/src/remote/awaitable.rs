//! What a remote awaitable, asynchronous iterator or context manager does in an event loop of this
//! process. Outside of an event loop their methods are methods like any other.
//!
//! A remote coroutine that a task of this process steps (`send`, `throw`, `close`) is not stepped over
//! there: its owner runs it to the end in its own event loop, and what is stepped here waits for that.

use std::sync::{Mutex, PoisonError};

use objspace_proto::{Kind, Op};
use pyo3::prelude::*;
use pyo3::types::PyString;

use super::controller::Remote;
use crate::session::awaiting::{Awaited, running_loop};

/// The local coroutine that waits for a remote one.
#[derive(Default)]
pub(crate) struct Driver(Mutex<Option<Py<PyAny>>>);

/// The answer to `op`, if it is one that waits, and an event loop runs here.
pub(crate) fn operate<'py>(
    proxy: &Bound<'py, PyAny>,
    remote: &Remote,
    op: Op,
    args: &[Bound<'py, PyAny>],
) -> PyResult<Option<Bound<'py, PyAny>>> {
    let py = proxy.py();
    match op {
        // Every other object answers with what its own method gives.
        Op::AITER if remote.kind() == Kind::ASYNC_GENERATOR => return Ok(Some(proxy.clone())),
        Op::AWAIT | Op::ANEXT | Op::AENTER | Op::AEXIT => {}
        _ => return Ok(None),
    }
    if running_loop(py)?.is_none() {
        return Ok(None);
    }
    if op == Op::AWAIT {
        return driver(proxy, remote)?.call_method0("__await__").map(Some);
    }
    let awaited = Awaited::new(remote.connection(), remote.target(), proxy, op, args)?;
    awaited.coroutine(py).map(Some)
}

/// An attribute of a coroutine or of an asynchronous generator that an event loop of this process
/// uses.
pub(crate) fn attribute<'py>(
    proxy: &Bound<'py, PyAny>,
    remote: &Remote,
    name: &Bound<'py, PyString>,
) -> PyResult<Option<Bound<'py, PyAny>>> {
    let py = proxy.py();
    match (remote.kind(), name.to_str()?) {
        (Kind::COROUTINE, "send" | "throw" | "close") if running_loop(py)?.is_some() => {
            driver(proxy, remote)?.getattr(name).map(Some)
        }
        (Kind::ASYNC_GENERATOR, "asend" | "athrow" | "aclose") if running_loop(py)?.is_some() => {
            let method = Method {
                proxy: proxy.clone().unbind(),
                name: name.clone().unbind(),
            };
            Ok(Some(Bound::new(py, method)?.into_any()))
        }
        _ => Ok(None),
    }
}

fn driver<'py>(proxy: &Bound<'py, PyAny>, remote: &Remote) -> PyResult<Bound<'py, PyAny>> {
    let py = proxy.py();
    let awaited = || Awaited::new(remote.connection(), remote.target(), proxy, Op::AWAIT, &[]);
    if remote.kind() != Kind::COROUTINE {
        return awaited()?.coroutine(py);
    }
    let slot = &remote.driver().0;
    let known = slot
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .as_ref()
        .map(|driver| driver.clone_ref(py));
    if let Some(driver) = known {
        return Ok(driver.into_bound(py));
    }
    let driver = awaited()?.coroutine(py)?;
    let mut slot = slot.lock().unwrap_or_else(PoisonError::into_inner);
    Ok(slot
        .get_or_insert_with(|| driver.clone().unbind())
        .bind(py)
        .clone())
}

/// `generator.asend` and its like, whose result is awaited in one message.
#[pyclass(frozen, module = "objspace._core", name = "AsyncMethod")]
struct Method {
    proxy: Py<PyAny>,
    name: Py<PyString>,
}

#[pymethods]
impl Method {
    #[pyo3(signature = (*args))]
    fn __call__<'py>(
        &self,
        py: Python<'py>,
        args: &Bound<'py, pyo3::types::PyTuple>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let proxy = self.proxy.bind(py);
        let remote = match crate::proxy::as_proxy(proxy) {
            Some(found) => super::controller::remote_of(&found, py)?,
            None => None,
        };
        let Some(remote) = remote else {
            return Err(pyo3::exceptions::PyRuntimeError::new_err(
                "objspace: a method without its object; please report this",
            ));
        };
        let remote = remote.get();
        let mut all = vec![self.name.bind(py).clone().into_any()];
        all.extend(args.iter());
        Awaited::new(
            remote.connection(),
            remote.target(),
            proxy,
            Op::CALL_METHOD,
            &all,
        )?
        .coroutine(py)
    }
}
