//! Handing out what has arrived: a reply to the thread that waits for it, a nested call likewise,
//! any other call to the workers.

use std::collections::VecDeque;
use std::collections::hash_map::Entry;
use std::sync::Arc;

use objspace_net::Waker;
use objspace_proto::{AnswerId, Event, ImportId, Received};

use super::{Answer, End, Held, Request, State, Waiter};
use crate::session::deadline;
use crate::session::threads::LogicalThread;

/// So many classes may be described before any of them is mentioned.
const MOST_UNREAD_SHAPES: usize = 4096;

impl Waiter {
    /// Tells the waiting thread that there is something for it, unless it is the one that reads.
    fn wake_unless(&self, reader: Option<&Arc<Waker>>) {
        if !reader.is_some_and(|reader| Arc::ptr_eq(reader, &self.waker)) {
            self.waker.wake();
        }
    }
}

impl State {
    /// Queues a call that nobody in particular waits for: behind those of its logical thread.
    pub(super) fn queue(&mut self, request: Request) {
        match self.lanes.entry(request.thread()) {
            Entry::Occupied(mut lane) => lane.get_mut().push_back(request),
            Entry::Vacant(lane) => {
                lane.insert(VecDeque::new());
                self.work.push_back(request);
            }
        }
    }

    /// The next call of a logical thread that was idle.
    pub(super) fn next_work(&mut self) -> Option<Request> {
        if self.congested() {
            return None;
        }
        let request = self.work.pop_front()?;
        self.running.push(request.running());
        Some(request)
    }

    /// The next call of a logical thread whose last one has run; it is idle if there is none.
    pub(super) fn next_of(&mut self, thread: LogicalThread) -> Option<Request> {
        let next = self.lanes.get_mut(&thread).and_then(VecDeque::pop_front);
        match &next {
            Some(request) => self.running.push(request.running()),
            None => drop(self.lanes.remove(&thread)),
        }
        next
    }

    /// Gives back what a payload holds that nobody will read.
    pub(super) fn let_go(&mut self, payload: &Received) {
        // A malformed rest holds no references that could be given back.
        let _ = self.engine.discard(payload, 0);
        let mut dropped = self.engine.finish_reading(payload.ticket());
        self.garbage.append(&mut dropped);
    }

    /// The rest of a run of requests goes back to where it came from, to be run later.
    pub(super) fn put_back(&mut self, thread: LogicalThread) {
        if let Some(mut lane) = self.lanes.remove(&thread) {
            while let Some(request) = lane.pop_back() {
                self.work.push_front(request);
            }
        }
    }

    /// A request of the peer has been answered.
    pub(crate) fn ran(&mut self, answer: AnswerId) {
        if let Some(at) = self.running.iter().rposition(|run| run.answer == answer) {
            self.running.swap_remove(at);
            self.answered += 1;
        }
    }

    /// Sorts what arrived. Returns why the session ends, if it does.
    pub(super) fn take(&mut self, event: Event<Held>, reader: Option<&Arc<Waker>>) -> Option<End> {
        match event {
            Event::Call(call) => return self.route(Request::Call(call), reader),
            Event::Fetch(fetch) => return self.route(Request::Fetch(fetch), reader),
            Event::Reply {
                question,
                outcome,
                payload,
            } => {
                let wait = self.waits.remove(&question);
                if let Some(wait) = wait
                    && let Some(waiter) = self.waiters.get_mut(&wait)
                {
                    waiter.answer = Some(Answer { outcome, payload });
                    waiter.wake_unless(reader);
                } else if let Some(Answer { payload, .. }) =
                    self.notices.answered(question, Answer { outcome, payload })
                {
                    // Nobody waits any more: the call was cancelled.
                    self.let_go(&payload);
                } else {
                    self.round_trips += 1;
                }
            }
            Event::Cancelled(answer) => self.notices.cancelled(answer),
            Event::Released(mut objects) => self.garbage.append(&mut objects),
            Event::Shape { class, payload } => return self.keep_shape(class, payload),
            Event::Closed { reason, .. } => return Some(End::ByPeer(reason)),
            _ => {}
        }
        None
    }

    /// Keeps a shape until its class is first met. Two threads of the peer may both have sent it: the
    /// first counts.
    pub(super) fn keep_shape(&mut self, class: ImportId, payload: Received) -> Option<End> {
        if self.shaped.insert(class) {
            self.shapes.insert(class, payload);
            if self.shapes.len() > MOST_UNREAD_SHAPES {
                let reason = "it describes classes that it never mentions";
                return Some(End::Broken(reason.into()));
            }
        } else {
            // It refers to nothing that the first did not.
            self.let_go(&payload);
        }
        None
    }

    /// Gives a request to whoever is to run it. Returns why the session ends, if it does.
    pub(super) fn route(&mut self, request: Request, reader: Option<&Arc<Waker>>) -> Option<End> {
        if let Some((answer, milliseconds)) = request.deadline() {
            self.deadlines.insert(answer, deadline::after(milliseconds));
        }
        self.weight += request.weight();
        if self.weight > self.engine.limits().message_size.saturating_mul(2) {
            let reason = "more than twice the limit of a message waits in its requests";
            return Some(End::Broken(reason.into()));
        }
        if let Some(parent) = request.parent()
            && let Some(wait) = self.waits.get(&parent).copied()
            && let Some(waiter) = self.waiters.get_mut(&wait)
        {
            waiter.nested.push_back(request);
            waiter.wake_unless(reader);
            return None;
        }
        self.queue(request);
        None
    }
}
