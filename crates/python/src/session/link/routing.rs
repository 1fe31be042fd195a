//! Handing out what has arrived: a reply to the thread that waits for it, a nested call likewise,
//! any other call to the workers.

use std::collections::VecDeque;
use std::collections::hash_map::Entry;
use std::sync::Arc;

use objspace_net::Waker;
use objspace_proto::{Event, ImportId, Received};

use super::{Answer, End, Held, Request, State, Waiter};

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
        self.work.pop_front()
    }

    /// Gives back what a payload holds that nobody will read.
    pub(super) fn let_go(&mut self, payload: &Received) {
        // A malformed rest holds no references that could be given back.
        let _ = self.engine.discard(payload, 0);
        let mut dropped = self.engine.finish_reading(payload.ticket());
        self.garbage.append(&mut dropped);
    }

    /// Sorts what arrived. Returns why the session ends, if it does.
    pub(super) fn take(&mut self, event: Event<Held>, reader: Option<&Arc<Waker>>) -> Option<End> {
        match event {
            Event::Call(call) => self.route(Request::Call(call), reader),
            Event::Fetch(fetch) => self.route(Request::Fetch(fetch), reader),
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
                } else {
                    // Nobody waits any more: the call was cancelled.
                    self.let_go(&payload);
                }
            }
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

    pub(super) fn route(&mut self, request: Request, reader: Option<&Arc<Waker>>) {
        if let Some(parent) = request.parent()
            && let Some(wait) = self.waits.get(&parent).copied()
            && let Some(waiter) = self.waiters.get_mut(&wait)
        {
            waiter.nested.push_back(request);
            waiter.wake_unless(reader);
            return;
        }
        self.queue(request);
    }
}
