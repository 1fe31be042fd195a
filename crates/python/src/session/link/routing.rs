//! Handing out what has arrived: a reply to the thread that waits for it, a nested call likewise,
//! any other call to the workers.

use std::collections::VecDeque;

use objspace_proto::{AnswerId, Event, ImportId, Received};

use super::{Answer, End, Held, Request, State, Wait};
use crate::session::deadline;

/// So many classes may be described before any of them is mentioned.
const MOST_UNREAD_SHAPES: usize = 4096;

impl State {
    /// The next call that may run now; its logical thread is then busy.
    pub(super) fn next_work(&mut self) -> Option<Request> {
        if self.congested() {
            return None;
        }
        while let Some(request) = self.work.pop_front() {
            let thread = request.thread();
            if let Some(lane) = self.lanes.get_mut(&thread) {
                lane.push_back(request);
            } else {
                self.lanes.insert(thread, VecDeque::new());
                self.running.push(request.running());
                return Some(request);
            }
        }
        None
    }

    /// A request of the peer has been answered.
    pub(crate) fn ran(&mut self, answer: AnswerId) {
        if let Some(at) = self.running.iter().rposition(|run| run.answer == answer) {
            self.running.swap_remove(at);
            self.answered += 1;
        }
    }

    /// Sorts what arrived. Returns why the session ends, if it does.
    pub(super) fn take(&mut self, event: Event<Held>, reader: Option<Wait>) -> Option<End> {
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
                    if reader != Some(wait) {
                        waiter.waker.wake();
                    }
                } else if let Some(Answer { payload, .. }) =
                    self.notices.answered(question, Answer { outcome, payload })
                {
                    // Nobody waits any more (the call was cancelled): what it brought goes back.
                    let _ = self.engine.discard(&payload, 0);
                    self.garbage
                        .append(&mut self.engine.finish_reading(payload.ticket()));
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
            let _ = self.engine.discard(&payload, 0);
            self.garbage
                .append(&mut self.engine.finish_reading(payload.ticket()));
        }
        None
    }

    /// Gives a request to whoever is to run it. Returns why the session ends, if it does.
    pub(super) fn route(&mut self, request: Request, reader: Option<Wait>) -> Option<End> {
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
            if reader != Some(wait) {
                waiter.waker.wake();
            }
            return None;
        }
        self.work.push_back(request);
        None
    }
}
