//! Replies that nobody waits for on a thread: they are handed to a callback, which an event loop gave.
//!
//! A *listener* is kept for each such question. What arrives becomes a *notice*, under the lock;
//! whichever thread next comes out of reading, attached to Python, delivers it. The other direction is
//! here too: requests of the peer that an event loop performs, and that a Cancel is to reach.

use std::collections::{HashMap, VecDeque};

use objspace_proto::{AnswerId, QuestionId};
use pyo3::prelude::*;

use super::{Answer, End, Link, State};

/// What a listener is told: the answer, or how the session ended before it came.
pub(crate) type Told = Result<Answer, End>;

/// Takes what is told. It is called attached to Python, without a lock, on any thread.
pub(crate) type Callback = Box<dyn FnOnce(Python<'_>, Told) + Send>;

struct Listener {
    /// Numbers of questions are used again; this one is not.
    number: u64,
    callback: Callback,
}

enum Notice {
    Answer(Callback, Told),
    /// The peer no longer waits for what this object (with a method `cancel`) is doing.
    Cancel(Py<PyAny>),
}

/// The listeners of a session, the requests that are under way in event loops, and what is yet to
/// be delivered.
#[derive(Default)]
pub(crate) struct Notices {
    listeners: HashMap<QuestionId, Listener>,
    running: HashMap<AnswerId, Py<PyAny>>,
    pending: VecDeque<Notice>,
    next: u64,
}

impl Notices {
    /// Whether there is something to deliver.
    pub(super) fn any(&self) -> bool {
        !self.pending.is_empty()
    }

    /// Whether a listener wants this answer; it is given back if not.
    pub(super) fn answered(&mut self, question: QuestionId, answer: Answer) -> Option<Answer> {
        match self.listeners.remove(&question) {
            Some(listener) => {
                let notice = Notice::Answer(listener.callback, Ok(answer));
                self.pending.push_back(notice);
                None
            }
            None => Some(answer),
        }
    }

    /// The peer cancelled a request.
    pub(super) fn cancelled(&mut self, answer: AnswerId) {
        if let Some(running) = self.running.remove(&answer) {
            self.pending.push_back(Notice::Cancel(running));
        }
    }

    /// The session is over: everybody is told.
    pub(super) fn end(&mut self, end: &End) {
        for (_, listener) in self.listeners.drain() {
            let notice = Notice::Answer(listener.callback, Err(end.clone()));
            self.pending.push_back(notice);
        }
        let running = self
            .running
            .drain()
            .map(|(_, object)| Notice::Cancel(object));
        self.pending.extend(running);
    }

    /// A request of the peer goes on in an event loop; `object.cancel()` ends it.
    pub(crate) fn begin(&mut self, answer: AnswerId, object: Py<PyAny>) {
        self.running.insert(answer, object);
    }

    /// It is done. What is returned is to be dropped without the lock.
    pub(crate) fn done(&mut self, answer: AnswerId) -> Option<Py<PyAny>> {
        self.running.remove(&answer)
    }
}

/// A question whose answer goes to a listener.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Listening {
    question: QuestionId,
    number: u64,
}

impl State {
    /// Hands the answer to `question` to `callback`.
    pub(crate) fn listen(&mut self, question: QuestionId, callback: Callback) -> Listening {
        let number = self.notices.next;
        self.notices.next += 1;
        self.notices
            .listeners
            .insert(question, Listener { number, callback });
        Listening { question, number }
    }

    /// Tells the peer that the answer is no longer wanted; it comes all the same.
    pub(crate) fn cancel_listening(&mut self, listening: Listening) {
        let open = self
            .notices
            .listeners
            .get(&listening.question)
            .is_some_and(|listener| listener.number == listening.number);
        if open {
            // A session that has ended has told the listener already.
            let _ = self.engine.cancel(listening.question);
        }
    }
}

impl Link {
    /// Delivers what has come for listeners. The caller is attached to Python and holds no lock.
    pub(super) fn deliver(&self, py: Python<'_>) {
        loop {
            let Some(notice) = self.state().notices.pending.pop_front() else {
                return;
            };
            match notice {
                Notice::Answer(callback, told) => callback(py, told),
                Notice::Cancel(object) => {
                    if let Err(error) = object.call_method0(py, "cancel") {
                        error.write_unraisable(py, Some(object.bind(py)));
                    }
                }
            }
        }
    }
}
