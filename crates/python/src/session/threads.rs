//! Logical threads: one number for a chain of calls that runs to and fro between processes, so that
//! a callback runs on the thread that waits, and locks and thread-locals behave as in one program.

use std::cell::{Cell, RefCell};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use objspace_net::Waker;
use objspace_proto::AnswerId;
use pyo3::prelude::*;

use super::link::Link;

/// The number of a logical thread, unique among the processes that talk to each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct LogicalThread(pub(crate) u64);

/// A call of a peer that this thread is running.
struct Running {
    thread: LogicalThread,
    link: Arc<Link>,
    answer: AnswerId,
    /// When the peer gives it up.
    deadline: Option<Instant>,
}

thread_local! {
    static WAKER: RefCell<Option<Arc<Waker>>> = const { RefCell::new(None) };
    static RUNNING: RefCell<Vec<Running>> = const { RefCell::new(Vec::new()) };
    static SERVED: Cell<u64> = const { Cell::new(0) };
    static OWN: RefCell<Option<LogicalThread>> = const { RefCell::new(None) };
}

/// How many threads wait without the GIL, on their way back into Python.
static DETACHED: AtomicUsize = AtomicUsize::new(0);

/// Runs `wait` without the GIL.
pub(crate) fn detach<T: Send>(py: Python<'_>, wait: impl FnOnce() -> T + Send) -> T {
    DETACHED.fetch_add(1, Ordering::Relaxed);
    let result = py.detach(wait);
    DETACHED.fetch_sub(1, Ordering::Relaxed);
    result
}

/// Runs `work` attached to Python, on a thread that is in [`detach`]. `None`: the interpreter is
/// shutting down.
pub(crate) fn attach<T>(work: impl FnOnce(Python<'_>) -> T) -> Option<T> {
    Python::try_attach(|py| {
        DETACHED.fetch_sub(1, Ordering::Relaxed);
        let result = work(py);
        DETACHED.fetch_add(1, Ordering::Relaxed);
        result
    })
}

/// How many threads are in [`detach`].
pub(crate) fn detached() -> usize {
    DETACHED.load(Ordering::Relaxed)
}

static NEXT: AtomicU64 = AtomicU64::new(0);

/// This thread's waker.
///
/// # Panics
/// If the system gives no event descriptor (none are left): nothing could ever be waited for.
pub(crate) fn waker() -> Arc<Waker> {
    WAKER.with_borrow_mut(|slot| {
        Arc::clone(slot.get_or_insert_with(|| {
            Arc::new(Waker::new().expect("objspace: no file descriptor left for a waker"))
        }))
    })
}

/// The logical thread of whatever this thread does now, and the call of `link`'s peer that it is
/// nested in.
pub(crate) fn context(link: &Arc<Link>) -> (LogicalThread, Option<AnswerId>) {
    RUNNING.with_borrow(|running| {
        let thread = running
            .last()
            .map_or_else(own, |innermost| innermost.thread);
        let parent = running
            .iter()
            .rev()
            .find(|call| Arc::ptr_eq(&call.link, link) && call.thread == thread)
            .map(|call| call.answer);
        (thread, parent)
    })
}

/// How many requests of peers this thread has begun to serve.
pub(crate) fn requests_served() -> u64 {
    SERVED.with(Cell::get)
}

/// Marks this thread as running `answer` of `link`'s peer until the guard is dropped.
pub(crate) fn enter(
    thread: LogicalThread,
    link: &Arc<Link>,
    answer: AnswerId,
    deadline: Option<Instant>,
) -> Guard {
    SERVED.with(|served| served.set(served.get() + 1));
    RUNNING.with_borrow_mut(|running| {
        running.push(Running {
            thread,
            link: Arc::clone(link),
            answer,
            deadline,
        })
    });
    Guard
}

/// In how many calls of other processes this thread is nested.
pub(crate) fn nesting() -> usize {
    RUNNING.with_borrow(Vec::len)
}

/// When the first of the calls that this thread is nested in is given up.
pub(crate) fn inherited_deadline() -> Option<Instant> {
    RUNNING.with_borrow(|running| running.iter().filter_map(|call| call.deadline).min())
}

/// Ends the mark of [`enter`].
pub(crate) struct Guard;

impl Drop for Guard {
    fn drop(&mut self) {
        let ended = RUNNING.with_borrow_mut(Vec::pop);
        drop(ended);
    }
}

/// How often a wait on this thread looks for signals: Python handles them on the main thread only,
/// and one that arrives just before the wait begins would not end it.
pub(crate) fn signal_check() -> Option<Duration> {
    thread_local! {
        static MAIN: bool = rustix::thread::gettid() == rustix::process::getpid();
    }
    MAIN.with(|main| *main)
        .then_some(Duration::from_millis(100))
}

/// Makes the next calls of this thread those of another logical thread.
pub(crate) fn renew() {
    OWN.with_borrow_mut(|own| *own = None);
}

/// The number of a new logical thread.
pub(crate) fn fresh() -> LogicalThread {
    let high = u64::from(std::process::id()) << 32;
    LogicalThread(high ^ (super::nonce() << 24) ^ NEXT.fetch_add(1, Ordering::Relaxed))
}

fn own() -> LogicalThread {
    OWN.with_borrow_mut(|own| *own.get_or_insert_with(fresh))
}
