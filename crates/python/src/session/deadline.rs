//! `objspace.timeout`: a deadline for everything that is asked of other processes within a block.
//!
//! The deadline lives in a context variable, so that threads, tasks and greenlets each have their
//! own. It travels with a request; what the request makes the other process ask in turn (of us or of
//! a third one) has what is left of it, by [`threads`](super::threads), which knows what a thread
//! runs.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use pyo3::exceptions::{PyRuntimeError, PyTimeoutError};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;

use super::{secure, threads};

/// How many blocks are entered in this process: without any, nothing is looked up.
static ENTERED: AtomicUsize = AtomicUsize::new(0);

/// `with objspace.timeout(seconds):` limits how long remote operations in the block may take, all
/// together. One that takes longer is cancelled and raises `TimeoutError`, which names the object,
/// the operation and the side; the session stays usable. Blocks can be nested: the shortest counts.
#[pyclass(frozen, module = "objspace", name = "timeout")]
pub(crate) struct Limit {
    time: Duration,
    entered: std::sync::Mutex<Vec<Py<PyAny>>>,
}

/// What the context variable holds.
#[pyclass(frozen)]
struct Deadline(Instant);

fn variable(py: Python<'_>) -> PyResult<&Bound<'_, PyAny>> {
    static VARIABLE: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    VARIABLE
        .get_or_try_init(py, || {
            py.import("contextvars")?
                .getattr("ContextVar")?
                .call1(("objspace.timeout",))
                .map(Bound::unbind)
        })
        .map(|variable| variable.bind(py))
}

#[pymethods]
impl Limit {
    #[new]
    fn new(seconds: f64) -> PyResult<Self> {
        Ok(Self {
            time: secure::seconds("timeout", seconds)?,
            entered: std::sync::Mutex::default(),
        })
    }

    fn __enter__(this: Bound<'_, Self>) -> PyResult<Bound<'_, Self>> {
        let py = this.py();
        let far = Duration::from_secs(1 << 30);
        let mut until = Instant::now() + this.get().time.min(far);
        if let Some(outer) = of_block(py)? {
            until = until.min(outer);
        }
        let token = variable(py)?.call_method1("set", (Bound::new(py, Deadline(until))?,))?;
        ENTERED.fetch_add(1, Ordering::Relaxed);
        this.get().tokens().push(token.unbind());
        Ok(this)
    }

    #[pyo3(signature = (*_exception))]
    fn __exit__(&self, py: Python<'_>, _exception: &Bound<'_, PyAny>) -> PyResult<()> {
        let Some(token) = self.tokens().pop() else {
            return Err(PyRuntimeError::new_err("this timeout was not entered"));
        };
        ENTERED.fetch_sub(1, Ordering::Relaxed);
        variable(py)?.call_method1("reset", (token,)).map(drop)
    }

    fn __repr__(&self) -> String {
        format!("objspace.timeout({})", self.time.as_secs_f64())
    }
}

impl Limit {
    fn tokens(&self) -> std::sync::MutexGuard<'_, Vec<Py<PyAny>>> {
        self.entered
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// The deadline of the block that this thread or task is in.
fn of_block(py: Python<'_>) -> PyResult<Option<Instant>> {
    if ENTERED.load(Ordering::Relaxed) == 0 {
        return Ok(None);
    }
    let value = variable(py)?.call_method1("get", (py.None(),))?;
    Ok(value.cast::<Deadline>().ok().map(|found| found.get().0))
}

/// When what is asked now must be answered: by the block that asks, and by whoever asked for that.
pub(crate) fn current(py: Python<'_>) -> PyResult<Option<Instant>> {
    let (block, inherited) = (of_block(py)?, threads::inherited_deadline());
    Ok(match (block, inherited) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    })
}

/// What is left until then, for the other side: whole milliseconds, rounded up.
pub(crate) fn left(until: Instant) -> u64 {
    let left = until.saturating_duration_since(Instant::now());
    u64::try_from(left.as_micros().div_ceil(1000)).unwrap_or(u64::MAX)
}

/// When a request must be answered that came now.
pub(crate) fn after(milliseconds: u64) -> Instant {
    let now = Instant::now();
    now.checked_add(Duration::from_millis(milliseconds))
        .unwrap_or(now + Duration::from_secs(1 << 30))
}

/// What a request that took too long raises.
pub(crate) fn expired(what: &str, peer: &str) -> PyErr {
    PyTimeoutError::new_err(format!(
        "{peer} did not answer in time: {what} was given up (objspace.timeout)"
    ))
}

/// The reply to a request whose time was over before it could begin.
pub(crate) fn too_late() -> PyErr {
    PyTimeoutError::new_err("the time was over before the other side came to it (objspace.timeout)")
}
