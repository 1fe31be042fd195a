//! Waiting for the reply to a question: the waiting thread reads the stream itself if nobody else
//! does, and runs the peer's calls that are nested in its own.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use objspace_net::Waker;
use objspace_proto::QuestionId;
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;

use super::reading::shorter;
use super::{Answer, End, Link, Reader, Request, Seen, State, Wait, Waiter};
use crate::session::{errors, threads};

impl Link {
    /// Announces that this thread will wait for the answer to `question`.
    pub(crate) fn expect(
        state: &mut State,
        question: QuestionId,
        deadline: Option<Instant>,
    ) -> Wait {
        let wait = Wait(state.next_wait);
        state.next_wait += 1;
        let waker = threads::waker();
        state.waiters.insert(
            wait,
            Waiter {
                question,
                waker,
                answer: None,
                nested: VecDeque::new(),
                deadline,
                parked: false,
            },
        );
        state.waits.insert(question, wait);
        wait
    }

    /// Waits for the answer, running calls nested in it meanwhile. `None`: it was given up, because
    /// its deadline came first.
    ///
    /// `counts`: as a round trip. `run` performs a nested call and queues its reply. `interrupted` is asked on a signal; its error cancels the call.
    pub(crate) fn wait_for(
        self: &Arc<Self>,
        py: Python<'_>,
        wait: Wait,
        counts: bool,
        mut run: impl FnMut(Python<'_>, Request),
    ) -> PyResult<Option<Answer>> {
        enum Step {
            Done(Answer),
            Run(Request),
            Read(u64),
            Park(Arc<Waker>, Option<Duration>),
            Ended(End),
            Expired,
        }
        let mut mine: Option<u64> = None;
        loop {
            let step = {
                let mut guard = self.state();
                let state = &mut *guard;
                let congested = state.congested();
                let Some(waiter) = state.waiters.get_mut(&wait) else {
                    return Err(PyRuntimeError::new_err(
                        "objspace: a wait without a question; please report this",
                    ));
                };
                waiter.parked = false;
                if let Some(answer) = waiter.answer.take() {
                    state.waiters.remove(&wait);
                    state.round_trips += u64::from(counts);
                    Step::Done(answer)
                } else if !congested && let Some(request) = waiter.nested.pop_front() {
                    state.running.push(request.running());
                    Step::Run(request)
                } else if let Some(end) = &state.end {
                    let end = end.clone();
                    state.waiters.remove(&wait);
                    Step::Ended(end)
                } else if waiter.deadline.is_some_and(|until| until <= Instant::now()) {
                    Step::Expired
                } else if let Some(epoch) = mine {
                    Step::Read(epoch)
                } else {
                    match state.reader {
                        Reader::Nobody | Reader::Idle(_) => {
                            if let (Reader::Idle(_), Some(waker)) =
                                (state.reader, &state.idle_waker)
                            {
                                state.served = 0;
                                waker.wake();
                            }
                            state.epoch += 1;
                            state.reader = Reader::Busy(state.epoch);
                            state.idle_waker = Some(threads::waker());
                            mine = Some(state.epoch);
                            Step::Read(state.epoch)
                        }
                        Reader::Busy(_) => {
                            waiter.parked = true;
                            state.served = 0;
                            let mut time = shorter(threads::signal_check(), waiter.deadline);
                            if !waiter.nested.is_empty() {
                                // The peer reads too slowly: look again soon.
                                let soon = Duration::from_millis(20);
                                time = Some(time.map_or(soon, |time| time.min(soon)));
                            }
                            Step::Park(Arc::clone(&waiter.waker), time)
                        }
                    }
                }
            };
            match step {
                Step::Done(answer) => {
                    self.leave_reading(mine);
                    self.drop_garbage();
                    return Ok(Some(answer));
                }
                Step::Expired => {
                    self.give_up(py, wait, &mut mine)?;
                    return Ok(None);
                }
                Step::Ended(end) => {
                    self.leave_reading(mine);
                    self.drop_garbage();
                    return Err(errors::session_ended(&self.peer, &end));
                }
                Step::Run(request) => {
                    // Others may read while the nested call runs.
                    self.leave_reading(mine.take());
                    run(py, request);
                    self.flush(py)?;
                }
                Step::Read(epoch) => {
                    let seen = self.read_for(py, epoch, Some(wait));
                    match seen {
                        Seen::Interrupted => self.check_signals(py, wait, &mut mine)?,
                        Seen::LostRight => mine = None,
                        Seen::Work => self.call_workers(),
                        Seen::Mine | Seen::Woken | Seen::Ended => {}
                    }
                }
                Step::Park(waker, time) => {
                    let interrupted = threads::detach(py, || park(&waker, time));
                    if interrupted {
                        self.check_signals(py, wait, &mut mine)?;
                    }
                }
            }
        }
    }

    /// Stops waiting, and tells the peer so.
    pub(crate) fn cancel(&self, wait: Wait) {
        let mut state = self.state();
        let state = &mut *state;
        let Some(waiter) = state.waiters.remove(&wait) else {
            return;
        };
        match waiter.answer {
            Some(answer) => state.let_go(&answer.payload),
            // The reply comes all the same, and is let go then.
            None => drop(state.engine.cancel(waiter.question)),
        }
        // Calls nested in it run all the same: the peer waits for their replies.
        for request in waiter.nested {
            state.queue(request);
        }
        self.call_workers();
    }

    /// Runs Python's signal handlers; an exception of theirs (Ctrl-C) cancels the call.
    pub(super) fn check_signals(
        &self,
        py: Python<'_>,
        wait: Wait,
        mine: &mut Option<u64>,
    ) -> PyResult<()> {
        let Err(error) = py.check_signals() else {
            return Ok(());
        };
        self.give_up(py, wait, mine)?;
        Err(error)
    }

    /// Cancels what this thread waits for.
    fn give_up(&self, py: Python<'_>, wait: Wait, mine: &mut Option<u64>) -> PyResult<()> {
        self.cancel(wait);
        self.leave_reading(mine.take());
        // The cancelled call may go on over there: later calls are not to wait for it.
        threads::renew();
        self.flush(py)
    }

    /// Gives the right to read to a parked waiter, or leaves it to the workers.
    pub(super) fn leave_reading(&self, mine: Option<u64>) {
        let Some(epoch) = mine else { return };
        let mut state = self.state();
        if state.reader == Reader::Busy(epoch) {
            state.reader = Reader::Nobody;
            state.idle_waker = None;
            state.activity += 1;
            if let Some(waiter) = state
                .waiters
                .values()
                .find(|w| w.parked && w.answer.is_none())
            {
                waiter.waker.wake();
            } else {
                self.keep_watch(&state);
            }
        }
    }

    /// Makes sure that a worker is awake to take over reading if nobody else does.
    pub(super) fn keep_watch(&self, state: &State) {
        if state.sleeping > 0 && state.sleeping + state.working >= state.workers {
            self.work_ready.notify_one();
        }
    }
}

/// Waits until the waker is woken; true if signals are to be looked at.
pub(crate) fn park(waker: &Waker, timeout: Option<Duration>) -> bool {
    waker
        .wait(timeout)
        .is_ok_and(|ready| ready.interrupted || ready.timed_out)
}
