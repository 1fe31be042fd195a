//! The end of a session: by this side, by the peer, by a lost stream, or with the process.

use std::sync::{Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use objspace_proto::{CloseCode, ImportId, Received};
use pyo3::prelude::*;

use super::{Channel, End, Link, Reader};
use crate::session::threads;

impl Link {
    /// A proxy of this session has died: its entry goes now, the peer is told later.
    ///
    /// Called from a destructor: it neither runs Python code nor writes to the stream.
    pub(crate) fn forget(&self, import: ImportId, proxy: u64) {
        if self.inherited() {
            return;
        }
        let mut state = self.state();
        let first = state.engine.releases_pending() == 0;
        state.engine.unbind(import, proxy);
        if first && let (Reader::Idle(_), Some(waker)) = (state.reader, &state.idle_waker) {
            waker.wake();
        }
    }

    /// Ends the session: everybody who waits is told, everything the peer held is let go.
    pub(crate) fn end(&self, end: End) {
        if self.inherited() {
            return;
        }
        let mut state = self.state();
        if state.end.is_some() {
            return;
        }
        state.notices.end(&end);
        state.end = Some(end);
        let mut dropped = state.engine.lost();
        state.garbage.append(&mut dropped);
        state.work.clear();
        state.lanes.clear();
        state.running.clear();
        state.deadlines.clear();
        state.shapes.clear();
        for waiter in state.waiters.values() {
            waiter.waker.wake();
        }
        if let Some(waker) = &state.idle_waker {
            waker.wake();
        }
        self.work_ready.notify_all();
        drop(state);
        if let Channel::Stream(stream) = &self.channel {
            stream.shutdown();
        }
    }

    /// Ends the session on this side, with a last word to the peer. Again: no effect.
    pub(crate) fn close(&self, py: Python<'_>, code: CloseCode, reason: &str) {
        let open = {
            let mut state = self.state();
            // A session that is closed already has said its last word.
            state.end.is_none() && state.engine.close(code, reason).is_ok()
        };
        if open {
            // A peer that is gone already needs no farewell.
            match &self.channel {
                Channel::Stream(stream) => threads::detach(py, || self.write_last(stream)),
                Channel::Functions { .. } => drop(self.flush(py)),
            }
        }
        self.end(End::Closed);
        self.drop_garbage();
    }

    /// Drops what the peer has released, and delivers what has come for event loops. The caller is
    /// attached to Python.
    pub(crate) fn drop_garbage(&self) {
        let (garbage, notices) = {
            let mut state = self.state();
            (std::mem::take(&mut state.garbage), state.notices.any())
        };
        drop(garbage);
        if notices {
            Python::attach(|py| self.deliver(py));
        }
    }

    /// Gives back what an answer brought that nobody reads. Runs no Python code.
    pub(crate) fn give_back(&self, payload: Received) {
        if self.inherited() {
            return;
        }
        let mut state = self.state();
        let _ = state.engine.discard(&payload, 0);
        let mut dropped = state.engine.finish_reading(payload.ticket());
        state.garbage.append(&mut dropped);
    }
}

pub(super) fn all_links() -> MutexGuard<'static, Vec<Weak<Link>>> {
    static LINKS: Mutex<Vec<Weak<Link>>> = Mutex::new(Vec::new());
    LINKS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Ends every session of this process and gives its threads a moment to leave: a thread that comes
/// back to an interpreter that is shutting down takes the process down.
#[pyfunction]
pub(crate) fn end_all_sessions(py: Python<'_>) {
    let links: Vec<_> = all_links()
        .iter()
        .filter_map(Weak::upgrade)
        .filter(|link| !link.inherited())
        .collect();
    for link in &links {
        link.end(End::Closed);
        link.drop_garbage();
    }
    for _ in 0..500 {
        if threads::detached() == 0 {
            break;
        }
        py.detach(|| std::thread::sleep(Duration::from_millis(1)));
    }
}
