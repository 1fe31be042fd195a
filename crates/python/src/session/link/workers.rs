//! The threads that serve a session: one of them reads while nobody waits for a reply, and all of
//! them run the peer's calls.
//!
//! A worker that read a call runs it itself. Another takes over reading only if that lasts, which it
//! notices by looking every few milliseconds; when nothing happens it sleeps until it is woken.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use objspace_net::Waker;
use pyo3::prelude::*;

use super::writing::CONGESTED;
use super::{Channel, End, Link, Reader, Request, Seen, Serve};
use crate::session::threads;

/// How long the stream may stay unread before an idle worker takes over reading.
const TAKE_OVER: Duration = Duration::from_millis(4);
/// How long replies are held back for others that follow at once.
const HOLD: Duration = Duration::from_micros(300);
/// How many quiet looks a worker takes before it sleeps until it is woken.
const QUIET_LOOKS: u32 = 8;
/// How long a surplus worker stays.
const SURPLUS: Duration = Duration::from_secs(5);

impl Link {
    /// Starts the threads that serve this session while nobody waits on it.
    pub(crate) fn start_workers(self: &Arc<Self>, serve: &Arc<Serve>) {
        if let Channel::Stream(stream) = &self.channel {
            // The first message, which needs no answer to anything.
            self.write_some(stream);
        }
        self.state().workers += 2;
        for _ in 0..2 {
            self.start_worker(serve);
        }
    }

    fn start_worker(self: &Arc<Self>, serve: &Arc<Serve>) {
        let link = Arc::clone(self);
        let serve = Arc::clone(serve);
        let spawned = std::thread::Builder::new()
            .name("objspace-session".into())
            .stack_size(16 << 20)
            .spawn(move || {
                // Python's state of this thread is made once: making it for each call maps and
                // unmaps memory, which costs a third of a round trip.
                Python::try_attach(|py| threads::detach(py, || link.work_loop(&serve)));
            });
        if spawned.is_err() {
            self.state().workers -= 1;
        }
    }

    /// Wakes the workers for what has just been queued.
    pub(super) fn call_workers(&self) {
        self.work_ready.notify_all();
    }

    /// Runs on the calling thread until the session ends.
    pub(crate) fn serve_here(
        &self,
        py: Python<'_>,
        serve: &dyn Fn(Python<'_>, Request),
    ) -> PyResult<()> {
        self.state().workers += 1;
        loop {
            let next = {
                let mut state = self.state();
                if state.end.is_some() {
                    break;
                }
                match state.next_work() {
                    Some(request) => Ok(request),
                    None => Err(state.take_right(Reader::Busy)),
                }
            };
            match next {
                Ok(request) => self.run_work(py, serve, request),
                Err(Some(epoch)) => {
                    let seen = self.read_for(py, epoch, None);
                    self.leave_reading(Some(epoch));
                    if matches!(seen, Seen::Interrupted)
                        && let Err(error) = py.check_signals()
                    {
                        self.end(End::Closed);
                        return Err(error);
                    }
                    self.drop_garbage();
                }
                Err(None) => {
                    py.detach(|| {
                        let state = self.state();
                        let _ = self
                            .work_ready
                            .wait_timeout(state, Duration::from_millis(50));
                    });
                    py.check_signals()?;
                }
            }
        }
        self.drop_garbage();
        Ok(())
    }

    /// The life of a worker thread.
    fn work_loop(self: &Arc<Self>, serve: &Arc<Serve>) {
        let waker = threads::waker();
        let mut quiet = 0;
        let mut last = 0;
        loop {
            let mut state = self.state();
            if state.end.is_some() {
                state.workers -= 1;
                drop(state);
                let _ = threads::attach(|_| self.drop_garbage());
                return;
            }
            if state.notices.any() {
                drop(state);
                if threads::attach(|_| self.drop_garbage()).is_none() {
                    // The interpreter is shutting down.
                    self.state().workers -= 1;
                    return;
                }
                continue;
            }
            if let Some(request) = state.next_work() {
                state.working += 1;
                // Someone must be left to take over reading if this call lasts.
                if state.working == state.workers {
                    state.workers += 1;
                    drop(state);
                    self.start_worker(serve);
                } else {
                    self.keep_watch(&state);
                    drop(state);
                }
                let attached = threads::attach(|py| self.run_work(py, &**serve, request));
                let mut state = self.state();
                state.working -= 1;
                state.served += 1;
                if attached.is_none() {
                    // The interpreter is shutting down.
                    state.workers -= 1;
                    return;
                }
                // This thread was busy with the stream: it reads on at once.
                if let Some(epoch) = state.take_right(Reader::Idle) {
                    state.idle_waker = Some(Arc::clone(&waker));
                    drop(state);
                    self.read_idle(&waker, epoch);
                }
                quiet = 0;
                continue;
            }
            if !state.engine.poll_output().is_empty()
                && !state.flushing
                && let Channel::Stream(stream) = &self.channel
            {
                drop(state);
                self.write_some(stream);
                continue;
            }
            let idle = state.activity == last;
            last = state.activity;
            if idle && let Some(epoch) = state.take_right(Reader::Idle) {
                state.idle_waker = Some(Arc::clone(&waker));
                drop(state);
                self.read_idle(&waker, epoch);
                quiet = 0;
                continue;
            }
            quiet = if idle { quiet + 1 } else { 0 };
            if quiet > QUIET_LOOKS && !matches!(state.reader, Reader::Nobody) {
                let surplus = state.workers > state.working + 2;
                state.sleeping += 1;
                let (mut woken, timeout) = self
                    .work_ready
                    .wait_timeout(
                        state,
                        if surplus {
                            SURPLUS
                        } else {
                            Duration::from_secs(3600)
                        },
                    )
                    .unwrap_or_else(PoisonError::into_inner);
                woken.sleeping -= 1;
                if surplus && timeout.timed_out() && woken.workers > woken.working + 2 {
                    woken.workers -= 1;
                    return;
                }
                quiet = 0;
            } else {
                let _ = self.work_ready.wait_timeout(state, TAKE_OVER);
            }
        }
    }

    /// Reads for everybody while nobody waits.
    fn read_idle(&self, waker: &Waker, epoch: u64) {
        let Channel::Stream(stream) = &self.channel else {
            return;
        };
        let seen = self.read_stream(stream, waker, epoch, None);
        let mut state = self.state();
        if state.reader == Reader::Idle(epoch) {
            state.reader = Reader::Nobody;
            state.idle_waker = None;
        }
        let garbage = !state.garbage.is_empty() || state.notices.any();
        drop(state);
        if garbage && matches!(seen, Seen::Work | Seen::Ended) {
            let _ = threads::attach(|_| self.drop_garbage());
        }
    }

    fn run_work(&self, py: Python<'_>, serve: &dyn Fn(Python<'_>, Request), request: Request) {
        let thread = request.thread();
        let mut next = Some(request);
        let mut held = None;
        while let Some(request) = next {
            if catch_unwind(AssertUnwindSafe(|| serve(py, request))).is_err() {
                // The peer waits for a reply that will not come.
                self.end(End::Broken(
                    "a panic inside objspace; please report this".into(),
                ));
                return;
            }
            let mut guard = self.state();
            if guard.waiting_to_be_written() > CONGESTED {
                drop(guard);
                let _ = self.flush(py);
                guard = self.state();
                if guard.congested() {
                    // The peer does not read: the rest waits until it does.
                    guard.put_back(thread);
                    break;
                }
            }
            next = guard.next_of(thread);
            drop(guard);
            // The replies to a run of calls go together. Should the next one last, the worker that
            // looks after the stream sends what is held back.
            let since = *held.get_or_insert_with(Instant::now);
            if next.is_none() || since.elapsed() > HOLD {
                held = None;
                // A stream that fails here ends the session, which whoever reads it reports.
                let _ = self.flush(py);
            }
        }
        self.drop_garbage();
    }
}
