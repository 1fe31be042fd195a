//! Awaiting across processes.
//!
//! The caller's event loop is never blocked: the request (operation `__await__`) is sent, and the reply
//! goes to a listener, which hands it to the loop. The owner performs it in an event loop of its own:
//! the loop of the awaited object, if it is a future or a task; else the one that ran where the session
//! (or its server) was made; else one in a thread that objspace starts for this. The reply is sent when
//! it is done; a Cancel reaches the task meanwhile.
//!
//! The first argument of the request is the number of the operation whose result is awaited, with its
//! arguments after it; `__await__` itself means that the target is awaited. Without arguments the
//! operation is the plain special method, for who drives a coroutine by hand.
//!
//! What talks to `asyncio` is Python: `objspace._async`.

use std::sync::{Arc, Mutex, PoisonError};

use objspace_proto::{AnswerId, CallFlags, Op, OutgoingTarget};
use pyo3::exceptions::{PyRuntimeError, PyTypeError};
use pyo3::prelude::*;
use pyo3::types::{PyString, PyTuple};

use super::connection::Connection;
use super::errors;
use super::link::Answer;
use super::link::notices::{Listening, Told};
use super::perform::{Arguments, perform};
use super::{serve, threads};
use crate::convert::encode::Writer;

/// The event loop that runs on this thread, if there is one. Imports nothing.
pub(crate) fn running_loop(py: Python<'_>) -> PyResult<Option<Bound<'_, PyAny>>> {
    let modules = py.import("sys")?.getattr("modules")?;
    let asyncio = modules.call_method1("get", (pyo3::intern!(py, "asyncio"),))?;
    if asyncio.is_none() {
        return Ok(None);
    }
    let Some(running) = asyncio.getattr_opt(pyo3::intern!(py, "_get_running_loop"))? else {
        return Ok(None);
    };
    let running = running.call0()?;
    Ok((!running.is_none()).then_some(running))
}

// ------------------------------------------------------------------ the caller

/// Something of the peer that is to be awaited: nothing is sent before `begin`.
#[pyclass(frozen, module = "objspace._core", name = "Awaited")]
pub(crate) struct Awaited {
    connection: Arc<Connection>,
    target: OutgoingTarget,
    /// Keeps the target.
    proxy: Py<PyAny>,
    arguments: Py<PyTuple>,
}

impl Awaited {
    /// `op` on `proxy`, whose result is awaited; for `Op::AWAIT` the object itself is.
    pub(crate) fn new<'py>(
        connection: &Arc<Connection>,
        target: OutgoingTarget,
        proxy: &Bound<'py, PyAny>,
        op: Op,
        args: &[Bound<'py, PyAny>],
    ) -> PyResult<Self> {
        let py = proxy.py();
        let mut arguments = vec![op.0.into_pyobject(py)?.into_any()];
        arguments.extend_from_slice(args);
        Ok(Self {
            connection: Arc::clone(connection),
            target,
            proxy: proxy.clone().unbind(),
            arguments: PyTuple::new(py, arguments)?.unbind(),
        })
    }

    /// A coroutine of this process that waits for it.
    pub(crate) fn coroutine(self, py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
        py.import("objspace._async")?
            .getattr("wait")?
            .call1((Bound::new(py, self)?,))
    }
}

#[pymethods]
impl Awaited {
    /// Sends the request. `callback(reply)` is called once, on any thread.
    fn begin(&self, py: Python<'_>, callback: Py<PyAny>) -> PyResult<Question> {
        let connection = &self.connection;
        if connection.link.inherited() {
            return Err(errors::forked(connection.peer()));
        }
        let arguments: Vec<_> = self.arguments.bind(py).iter().collect();
        let mut writer = Writer::new(connection);
        writer.arguments(&arguments, &[])?;
        let (payload, alive) = writer.finish();
        let replies = Arc::clone(connection);
        let told = Box::new(move |py: Python<'_>, told: Told| {
            let reply = Reply {
                connection: replies,
                told: Mutex::new(Some(told)),
            };
            // A loop that is closed takes nothing more, and nobody waits there.
            if let Err(error) = Py::new(py, reply).and_then(|reply| callback.call1(py, (reply,))) {
                error.write_unraisable(py, None);
            }
        });
        let sent = {
            let mut state = connection.link.state();
            if let Some(end) = &state.end {
                Err(errors::session_ended(connection.peer(), end))
            } else {
                // A logical thread of its own: an event loop does many things at a time.
                let thread = threads::fresh().0;
                let flags = CallFlags::NONE;
                // Limits of time in an event loop are the loop's matter.
                state.engine.set_deadline(None);
                let question =
                    state
                        .engine
                        .call(thread, None, self.target, Op::AWAIT, flags, payload);
                match question {
                    Ok(question) => Ok(state.listen(question, told)),
                    Err(error) => Err(errors::protocol(&error)),
                }
            }
        };
        drop(alive);
        let listening = sent?;
        connection.link.flush(py)?;
        let _ = &self.proxy;
        Ok(Question {
            connection: Arc::clone(connection),
            listening,
        })
    }
}

/// A request that is under way.
#[pyclass(frozen, module = "objspace._core", name = "AwaitedQuestion")]
struct Question {
    connection: Arc<Connection>,
    listening: Listening,
}

#[pymethods]
impl Question {
    /// Asks the other side to cancel it. The reply comes all the same.
    fn cancel(&self, py: Python<'_>) -> PyResult<()> {
        self.connection
            .link
            .state()
            .cancel_listening(self.listening);
        self.connection.link.flush(py)
    }
}

/// What came for a request.
#[pyclass(frozen, module = "objspace._core", name = "AwaitedReply")]
struct Reply {
    connection: Arc<Connection>,
    told: Mutex<Option<Told>>,
}

impl Reply {
    fn take(&self) -> Option<Told> {
        self.told
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
    }
}

#[pymethods]
impl Reply {
    /// The result, once; raises the error.
    fn result<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        match self.take() {
            Some(Ok(answer)) => self.connection.result(py, answer),
            Some(Err(end)) => Err(errors::session_ended(self.connection.peer(), &end)),
            None => Err(PyRuntimeError::new_err("the reply has been read")),
        }
    }
}

impl Drop for Reply {
    fn drop(&mut self) {
        // Nobody read it: what it brought goes back. No Python code runs here.
        if let Some(Ok(Answer { payload, .. })) = self.take() {
            self.connection.link.give_back(payload);
        }
    }
}

// ------------------------------------------------------------------ the owner

/// A request of the peer that an event loop performs.
#[pyclass(frozen, module = "objspace._core", name = "AwaitedRequest")]
pub(crate) struct Performed {
    connection: Arc<Connection>,
    answer: AnswerId,
    target: Py<PyAny>,
    op: Op,
    arguments: Py<PyTuple>,
}

#[pymethods]
impl Performed {
    /// What is to be awaited. To be called in the event loop, once.
    fn start<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let target = self.target.bind(py).clone();
        if self.op == Op::AWAIT {
            return Ok(target);
        }
        let arguments = Arguments {
            positional: self.arguments.bind(py).iter().collect(),
            keywords: None,
        };
        perform(&target, self.op, &arguments)
    }

    /// `running.cancel()` is called if the peer cancels the request.
    fn register(&self, running: Py<PyAny>) {
        let mut state = self.connection.link.state();
        state.notices.begin(self.answer, running);
    }

    /// It is done: `value` is the result, or the error.
    fn reply(&self, py: Python<'_>, succeeded: bool, value: &Bound<'_, PyAny>) {
        let running = self.connection.link.state().notices.done(self.answer);
        drop(running);
        let result = if succeeded {
            let mut writer = Writer::new(&self.connection);
            writer.value(value).map(|()| writer.finish())
        } else {
            Err(PyErr::from_value(value.clone()))
        };
        serve::respond(py, &self.connection, self.answer, result);
    }
}

/// Hands a request of the peer to an event loop.
pub(crate) fn perform_later<'py>(
    py: Python<'py>,
    connection: &Arc<Connection>,
    answer: AnswerId,
    target: &Bound<'py, PyAny>,
    arguments: &Arguments<'py>,
) -> PyResult<()> {
    let Some((op, rest)) = arguments.positional.split_first() else {
        return Err(PyTypeError::new_err(
            "a request to await without its operation",
        ));
    };
    let op = Op(op.extract::<u8>()?);
    let name = match op {
        Op::AWAIT | Op::ANEXT | Op::AENTER | Op::AEXIT => None,
        Op::CALL_METHOD => rest.first().and_then(|name| name.cast::<PyString>().ok()),
        _ => {
            return Err(PyTypeError::new_err(format!(
                "the result of {op:?} cannot be awaited in one request"
            )));
        }
    };
    connection.check(target, op, name)?;
    let request = Performed {
        connection: Arc::clone(connection),
        answer,
        target: target.clone().unbind(),
        op,
        arguments: PyTuple::new(py, rest)?.unbind(),
    };
    let chosen = connection.event_loop(py);
    py.import("objspace._async")?.getattr("perform")?.call1((
        Bound::new(py, request)?,
        target,
        chosen,
    ))?;
    Ok(())
}
