//! `with session.pipeline():` — calls that do not wait, so that a run of them is one round trip.
//!
//! Data flow. While a block is open on this thread (a context variable says so), an operation of a
//! proxy or promise of its session is queued with the request to keep the answer, and a
//! [`Promise`] is returned. A later operation mentions the promise by the number of its question:
//! the peer finds the result where it kept it. The peer performs the operations of one logical
//! thread in their order, so that waiting for the answers in that order ([`Pipeline::collect`]) is
//! waiting for the last one; a callback of the peer runs then, because this thread waits then.
//!
//! What this is not: the promise itself (`promise`) and the wait for one reply (`link::waiting`).

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::ThreadId;
use std::time::{Duration, Instant};

use objspace_proto::{CallFlags, Op, OutgoingTarget, QuestionId};
use pyo3::exceptions::{PyException, PyRuntimeError};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyString;

use super::connection::Connection;
use super::deadline;
use super::link::Wait;
use super::promise::Promise;
use super::threads;
use crate::convert::encode::Writer;

/// So many operations of a block are under way at most; then the first half is waited for. The peer
/// bears twice as many requests, of which other threads need some.
const MOST_PENDING: usize = 2048;
/// So many bytes are queued at most before the oldest answers are waited for.
const MOST_QUEUED: usize = 8 << 20;
/// Queued operations go out when they are this many bytes, or when the last ones went this long ago.
const FLUSH_SIZE: usize = 16 << 10;
const FLUSH_TIME: Duration = Duration::from_micros(200);
/// So many further errors are named in a note to the first.
const MOST_NOTES: usize = 3;

/// How many blocks are open in this process: without any, the context variable is not looked at.
static OPEN: AtomicUsize = AtomicUsize::new(0);

/// One `with session.pipeline():` block.
#[pyclass(frozen, module = "objspace.distributed", name = "Pipeline")]
pub(crate) struct Pipeline {
    connection: Arc<Connection>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// The thread whose block it is, while it is open.
    thread: Option<ThreadId>,
    /// The block around this one, and the token that brings it back.
    outer: Option<Py<Pipeline>>,
    token: Option<Py<PyAny>>,
    /// What was sent and not waited for, in the order of sending.
    pending: VecDeque<Pending>,
    /// The promises that failed, in that order.
    failed: Vec<Py<Promise>>,
    flushed: Option<Instant>,
}

struct Pending {
    question: QuestionId,
    wait: Wait,
    promise: Py<Promise>,
}

/// What an operation of a block is addressed to.
pub(crate) enum Target<'a, 'py> {
    Known(OutgoingTarget),
    Promise(&'a Bound<'py, Promise>),
}

/// The variable that holds the innermost open block.
fn variable(py: Python<'_>) -> PyResult<&Bound<'_, PyAny>> {
    static VARIABLE: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    VARIABLE
        .get_or_try_init(py, || {
            let class = py.import("contextvars")?.getattr("ContextVar")?;
            let options = pyo3::types::PyDict::new(py);
            options.set_item("default", py.None())?;
            Ok(class.call(("objspace.pipeline",), Some(&options))?.unbind())
        })
        .map(|variable| variable.bind(py))
}

/// The blocks that are open here, the innermost first.
fn open<'py>(py: Python<'py>) -> PyResult<Vec<Bound<'py, Pipeline>>> {
    let mut found = Vec::new();
    if OPEN.load(Ordering::Relaxed) == 0 {
        return Ok(found);
    }
    let here = std::thread::current().id();
    let mut next = variable(py)?
        .call_method0(pyo3::intern!(py, "get"))?
        .cast_into::<Pipeline>()
        .ok();
    while let Some(pipeline) = next {
        let state = pipeline.get().state();
        next = state
            .outer
            .as_ref()
            .map(|outer| outer.clone_ref(py).into_bound(py));
        // A copy of the context (a task, another thread) may outlive the block.
        let open = state.thread == Some(here);
        drop(state);
        if open {
            found.push(pipeline);
        }
    }
    Ok(found)
}

/// The block that operations on `connection` join, if one is open on this thread.
pub(crate) fn current<'py>(
    py: Python<'py>,
    connection: &Arc<Connection>,
) -> PyResult<Option<Bound<'py, Pipeline>>> {
    if OPEN.load(Ordering::Relaxed) == 0 {
        return Ok(None);
    }
    Ok(open(py)?
        .into_iter()
        .find(|pipeline| Arc::ptr_eq(&pipeline.get().connection, connection)))
}

/// Waits for what the open blocks of this thread have sent: an ordinary wait comes after that, and
/// callbacks of earlier operations are run by whoever waits for those.
pub(crate) fn collect_open(py: Python<'_>) -> PyResult<()> {
    if OPEN.load(Ordering::Relaxed) == 0 {
        return Ok(());
    }
    for pipeline in open(py)? {
        pipeline.get().collect(py, None, false)?;
    }
    Ok(())
}

/// Runs `work`, a request of a peer, outside of every block: it is code that knows nothing of one.
pub(crate) fn suspended<T>(py: Python<'_>, work: impl FnOnce() -> T) -> T {
    let token = match open(py) {
        Ok(found) if !found.is_empty() => variable(py)
            .and_then(|variable| variable.call_method1(pyo3::intern!(py, "set"), (py.None(),)))
            .ok(),
        _ => None,
    };
    let result = work();
    if let Some(token) = token {
        // The token is of this very context, and used once.
        let _ = variable(py).and_then(|variable| variable.call_method1("reset", (token,)));
    }
    result
}

impl Pipeline {
    pub(crate) fn new(connection: Arc<Connection>) -> Self {
        Self {
            connection,
            state: Mutex::default(),
        }
    }

    pub(crate) fn connection(&self) -> &Arc<Connection> {
        &self.connection
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether operations on its promises may be sent now: the block is one of this thread's open
    /// ones.
    pub(crate) fn is_open_here(this: &Bound<'_, Self>) -> PyResult<bool> {
        Ok(open(this.py())?.iter().any(|pipeline| pipeline.is(this)))
    }

    /// Queues an operation and returns the promise of its result.
    pub(crate) fn send<'py>(
        this: &Bound<'py, Self>,
        target: &Target<'_, 'py>,
        op: Op,
        positional: &[Bound<'py, PyAny>],
        keywords: &[(Bound<'py, PyString>, Bound<'py, PyAny>)],
    ) -> PyResult<Bound<'py, Promise>> {
        let py = this.py();
        let pipeline = this.get();
        let link = &pipeline.connection.link;
        let name = match op {
            Op::GETATTR | Op::CALL_METHOD => positional
                .first()
                .and_then(|name| name.cast::<PyString>().ok())
                .map(|name| name.clone().unbind()),
            _ => None,
        };
        if link.inherited() {
            return Err(super::errors::forked(&link.peer));
        }
        let deadline = deadline::current(py)?;
        if deadline.is_some_and(|until| until <= Instant::now()) {
            return Err(pipeline.too_late());
        }
        let (question, wait, sources, queued) = loop {
            let mut writer = Writer::new(&pipeline.connection);
            writer.arguments(positional, keywords)?;
            // Writing may run code that waits for promises: then it is done again, with their values.
            if !writer.promises_are_pending() {
                continue;
            }
            let ((payload, alive), mut sources) = writer.finish_with_promises();
            let to = match target {
                Target::Known(target) => *target,
                Target::Promise(promise) => match promise.get().question() {
                    Some(question) => {
                        sources.push((*promise).clone().unbind());
                        OutgoingTarget::Answer(question)
                    }
                    None => {
                        return Err(PyRuntimeError::new_err(
                            "the promise arrived while an operation on it was being sent",
                        ));
                    }
                },
            };
            let (thread, parent) = threads::context(link);
            let mut state = link.open_state()?;
            state.engine.set_deadline(deadline.map(deadline::left));
            let question = state
                .engine
                .call(thread.0, parent, to, op, CallFlags::KEEP, payload);
            match question {
                Ok(question) => {
                    let wait = super::link::Link::expect(&mut state, question, deadline);
                    let queued = state.engine.poll_output().len();
                    drop(state);
                    drop(alive);
                    break (question, wait, sources, queued);
                }
                Err(error) => {
                    drop(state);
                    return Err(super::errors::protocol(&error));
                }
            }
        };
        let promise = Bound::new(py, Promise::new(this, question, op, name, sources))?;
        let flush = {
            let mut state = pipeline.state();
            state.pending.push_back(Pending {
                question,
                wait,
                promise: promise.clone().unbind(),
            });
            let now = Instant::now();
            let due = queued >= FLUSH_SIZE
                || state
                    .flushed
                    .is_none_or(|flushed| now.duration_since(flushed) >= FLUSH_TIME);
            if due {
                state.flushed = Some(now);
            }
            due
        };
        if flush {
            link.flush(py)?;
        }
        Ok(promise)
    }

    /// Waits for the oldest answers if too much is under way. To be called before each
    /// [`send`](Self::send): a promise may arrive by it.
    pub(crate) fn make_room(&self, py: Python<'_>) -> PyResult<()> {
        let pending = self.state().pending.len();
        if pending >= MOST_PENDING {
            return self.collect_while(py, true, |state| state.pending.len() > MOST_PENDING / 2);
        }
        if pending > 0 && self.connection.link.queued() > MOST_QUEUED {
            let link = &self.connection.link;
            return self.collect_while(py, true, |_| link.queued() > MOST_QUEUED / 2);
        }
        Ok(())
    }

    /// Waits for the answers up to that of `last`, or all. `counts`: as a round trip of its own.
    pub(crate) fn collect(
        &self,
        py: Python<'_>,
        last: Option<&Bound<'_, Promise>>,
        counts: bool,
    ) -> PyResult<()> {
        self.collect_while(py, counts, |_| {
            last.is_none_or(|promise| promise.get().question().is_some())
        })
    }

    fn collect_while(
        &self,
        py: Python<'_>,
        mut counts: bool,
        more: impl Fn(&State) -> bool,
    ) -> PyResult<()> {
        let link = &self.connection.link;
        let mut flushed = false;
        loop {
            let next = {
                let mut state = self.state();
                if !more(&state) {
                    return Ok(());
                }
                state.pending.pop_front()
            };
            let Some(Pending {
                question,
                wait,
                promise,
            }) = next
            else {
                return Ok(());
            };
            if !std::mem::replace(&mut flushed, true) {
                link.flush(py)?;
            }
            let answer = self
                .connection
                .wait(py, wait, std::mem::take(&mut counts))
                .and_then(|answer| answer.ok_or_else(|| self.too_late()));
            let interrupted = answer.as_ref().err().map(|error| error.clone_ref(py));
            let result = answer.and_then(|answer| self.connection.result(py, answer));
            // From here on the promise is its value: the peer need not keep the answer. A session
            // that has ended keeps none.
            let _ = link.state().engine.finish(question);
            if result.is_err() {
                self.state().failed.push(promise.clone_ref(py));
            }
            promise.get().settle(py, result);
            if let Some(error) = interrupted {
                self.cancel(py, &error);
                return Err(error);
            }
        }
    }

    fn too_late(&self) -> PyErr {
        deadline::expired("an operation in a pipeline() block", self.connection.peer())
    }

    /// Gives up what has not arrived: the peer is told, and every promise raises `error`.
    fn cancel(&self, py: Python<'_>, error: &PyErr) {
        let link = &self.connection.link;
        let pending = std::mem::take(&mut self.state().pending);
        for Pending {
            question,
            wait,
            promise,
        } in pending
        {
            link.cancel(wait);
            let _ = link.state().engine.finish(question);
            promise.get().settle(py, Err(error.clone_ref(py)));
        }
        // The session works on or it has ended; either way nothing more is to be done here.
        let _ = link.flush(py);
    }

    fn close(&self, py: Python<'_>) {
        let token = {
            let mut state = self.state();
            if state.thread.take().is_none() {
                return;
            }
            state.token.take()
        };
        OPEN.fetch_sub(1, Ordering::Relaxed);
        if let Some(token) = token {
            // In another context (a generator that was finished elsewhere) there is nothing to bring
            // back: the block is closed, and so it is passed over.
            let _ = variable(py).and_then(|variable| variable.call_method1("reset", (token,)));
        }
    }

    /// The first failure that nobody has seen, with the others in notes.
    fn failure(&self, py: Python<'_>) -> Option<PyErr> {
        let failed = std::mem::take(&mut self.state().failed);
        let mut unseen = failed
            .iter()
            .filter_map(|promise| promise.get().unseen_error(py));
        let (first, _) = unseen.next()?;
        // What failed because another failed is not told again.
        let others: Vec<_> = unseen
            .filter(|(_, derived)| !derived)
            .map(|(error, _)| error)
            .collect();
        note_others(py, &first, &others);
        Some(first)
    }
}

/// Tells on `error` that others happened as well.
fn note_others(py: Python<'_>, error: &PyErr, others: &[PyErr]) {
    if others.is_empty() {
        return;
    }
    let mut lines: Vec<String> = others
        .iter()
        .take(MOST_NOTES)
        .map(|other| format!("also failed in this pipeline() block: {other}"))
        .collect();
    if others.len() > MOST_NOTES {
        lines.push(format!("and {} more", others.len() - MOST_NOTES));
    }
    for line in lines {
        // An exception that takes no notes is raised without.
        let _ = error.value(py).call_method1("add_note", (line,));
    }
}

#[pymethods]
impl Pipeline {
    fn __enter__<'py>(this: &Bound<'py, Self>) -> PyResult<Bound<'py, Self>> {
        let py = this.py();
        let pipeline = this.get();
        if pipeline.state().thread.is_some() {
            return Err(PyRuntimeError::new_err(
                "this pipeline() block is open already: each `with` needs a pipeline() of its own",
            ));
        }
        let variable = variable(py)?;
        let outer = variable.call_method0("get")?.cast_into::<Self>().ok();
        let token = variable.call_method1("set", (this,))?;
        {
            let mut state = pipeline.state();
            state.thread = Some(std::thread::current().id());
            state.outer = outer.map(Bound::unbind);
            state.token = Some(token.unbind());
        }
        OPEN.fetch_add(1, Ordering::Relaxed);
        Ok(this.clone())
    }

    fn __exit__(
        &self,
        py: Python<'_>,
        _kind: &Bound<'_, PyAny>,
        error: &Bound<'_, PyAny>,
        _traceback: &Bound<'_, PyAny>,
    ) -> PyResult<bool> {
        self.close(py);
        if error.is_none() {
            self.collect(py, None, true)?;
            return self.failure(py).map_or(Ok(false), Err);
        }
        let raised = PyErr::from_value(error.clone());
        if !error.is_instance_of::<PyException>() {
            // Ctrl-C, exit, a generator that is closed: nobody wants to wait.
            self.cancel(py, &raised);
            return Ok(false);
        }
        // What was sent before the error has happened, as it would have without the block.
        self.collect(py, None, true)?;
        if let Some(other) = self.failure(py)
            && !other.value(py).is(error)
        {
            note_others(py, &raised, &[other]);
        }
        Ok(false)
    }

    fn __repr__(&self) -> String {
        let state = self.state();
        let (state, pending) = (
            if state.thread.is_some() {
                "open"
            } else {
                "closed"
            },
            state.pending.len(),
        );
        format!(
            "<objspace.distributed.Pipeline to {}, {state}, {pending} under way>",
            self.connection.peer()
        )
    }
}
