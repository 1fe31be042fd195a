//! Reading: whoever has the right to read feeds the engine and hands out what arrived.

use std::collections::VecDeque;
use std::io::ErrorKind;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use objspace_net::{Interest, Stream, Waker};
use objspace_proto::{Deframer, Frame};
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use super::{Channel, End, Link, Reader, Seen, State, Wait};
use crate::session::threads;

/// How long releases gather while the session is idle.
const GATHER: Duration = Duration::from_millis(10);

/// After so many calls that nobody here interrupted with a call of its own, a worker reads without
/// listening to its waker.
const SERVES_ONLY: u32 = 4;

/// How much room a read gets at least.
const READ_AT_LEAST: usize = 16 << 10;

impl Link {
    /// Reads and hands out until something for `wait` (or any work, for a worker) has arrived.
    pub(super) fn read_for(&self, py: Python<'_>, epoch: u64, wait: Option<Wait>) -> Seen {
        match &self.channel {
            Channel::Stream(stream) => {
                let waker = threads::waker();
                threads::detach(py, || self.read_stream(stream, &waker, epoch, wait))
            }
            Channel::Functions { receive, .. } => self.read_function(py, receive, wait),
        }
    }

    pub(super) fn read_function(
        &self,
        py: Python<'_>,
        receive: &Py<PyAny>,
        wait: Option<Wait>,
    ) -> Seen {
        let received = receive.call0(py).and_then(|data| {
            let data = data.into_bound(py).cast_into::<PyBytes>()?;
            let mut deframer = self.deframer.lock().unwrap_or_else(PoisonError::into_inner);
            let bytes = data.as_bytes();
            let mut frames = VecDeque::new();
            let whole = deframer.extend(bytes, |frame| frames.push_back(Ok(Some(frame))));
            frames.extend(whole.err().map(Err));
            Ok((
                bytes.is_empty(),
                self.hand_out(|| frames.pop_front().unwrap_or(Ok(None)), wait),
            ))
        });
        match received {
            Ok((true, _)) => {
                self.end(End::Lost(
                    "its receive function returned no bytes: the channel has ended".into(),
                ));
                Seen::Ended
            }
            Ok((false, seen)) => {
                // The answer to a ping; a send that fails ends the session.
                let _ = self.flush(py);
                seen.unwrap_or(Seen::Woken)
            }
            Err(error) => {
                self.end(End::Lost(format!("its receive function failed: {error}")));
                Seen::Ended
            }
        }
    }

    pub(super) fn read_stream(
        &self,
        stream: &Stream,
        waker: &Waker,
        epoch: u64,
        wait: Option<Wait>,
    ) -> Seen {
        let mut gathered = 0;
        let mut direct = true;
        loop {
            let (writing, reader, releases, deadline) = {
                let state = self.state();
                // A worker that a caller may want to replace must hear its waker.
                direct &= wait.is_some() || state.served >= SERVES_ONLY;
                let deadline = wait.and_then(|wait| state.waiters.get(&wait)?.deadline);
                let releases = state.engine.releases_pending();
                (state.blocked, state.reader, releases, deadline)
            };
            if !holds(reader, epoch) {
                return Seen::LostRight;
            }
            if std::mem::take(&mut direct) && !writing {
                match self.read_soon(stream, waker, epoch, wait) {
                    Some(seen) => return seen,
                    None => continue,
                }
            }
            // While the session is idle, releases gather for a moment and then go in one message.
            let timeout = match reader {
                Reader::Idle(_) => (releases > 0).then_some(GATHER),
                _ => shorter(threads::signal_check(), deadline),
            };
            let ready = match stream.wait(
                Interest {
                    read: true,
                    write: writing,
                },
                Some(waker),
                timeout,
            ) {
                Ok(ready) => ready,
                Err(error) => {
                    self.end(End::Lost(error.to_string()));
                    return Seen::Ended;
                }
            };
            if ready.interrupted {
                return Seen::Interrupted;
            }
            if ready.woken {
                waker.drain();
            }
            if ready.timed_out && matches!(reader, Reader::Busy(_)) {
                return Seen::Interrupted;
            }
            if ready.timed_out && releases > gathered {
                // More objects are dying: they go together.
                gathered = releases;
            } else if ready.timed_out {
                gathered = 0;
                // On a closed session there is nothing to give back.
                let _ = self.state().engine.flush_releases();
                self.write_some(stream);
            }
            if ready.writable {
                self.write_some(stream);
                // Requests have waited for this.
                let mut state = self.state();
                if !state.congested() {
                    let nested = wait.and_then(|wait| state.waiters.get(&wait));
                    if nested.is_some_and(|waiter| !waiter.nested.is_empty()) {
                        return Seen::Mine;
                    }
                    if !state.work.is_empty() {
                        return Seen::Work;
                    }
                }
            }
            if ready.readable
                && let Some(seen) = self.read_once(stream, epoch, wait)
            {
                return seen;
            }
            // An idle worker is woken to look at the right and at the releases, and reads on.
            if ready.woken && wait.is_some() {
                return Seen::Woken;
            }
        }
    }

    /// One read that does not wait.
    pub(super) fn read_once(
        &self,
        stream: &Stream,
        epoch: u64,
        wait: Option<Wait>,
    ) -> Option<Seen> {
        let mut deframer = self.deframer.lock().unwrap_or_else(PoisonError::into_inner);
        if !holds(self.state().reader, epoch) {
            return Some(Seen::LostRight);
        }
        let read = stream.try_read(deframer.space(READ_AT_LEAST));
        self.take_in(read, &mut deframer, wait)
    }

    /// Reads without polling: one system call instead of two, during which nobody can wake this
    /// thread. That is bounded by [`Stream::read_soon`].
    fn read_soon(
        &self,
        stream: &Stream,
        waker: &Waker,
        epoch: u64,
        wait: Option<Wait>,
    ) -> Option<Seen> {
        let mut deframer = self.deframer.lock().unwrap_or_else(PoisonError::into_inner);
        if !holds(self.state().reader, epoch) {
            return Some(Seen::LostRight);
        }
        // Whoever read before has handed something to this thread meanwhile.
        if waker.is_woken() {
            return None;
        }
        // If the right is lost during this, what came is handed out all the same: whoever has it
        // now waits for the deframer.
        let read = stream.read_soon(deframer.space(READ_AT_LEAST));
        if matches!(&read, Err(error) if error.kind() == ErrorKind::Interrupted) {
            return Some(Seen::Interrupted);
        }
        self.take_in(read, &mut deframer, wait)
    }

    /// What a read has brought; tells the reader why it should stop reading, if it should.
    fn take_in(
        &self,
        read: std::io::Result<Option<usize>>,
        deframer: &mut Deframer,
        wait: Option<Wait>,
    ) -> Option<Seen> {
        match read {
            Ok(Some(0)) => {
                self.end(End::Lost("the other side is gone (end of stream)".into()));
                Some(Seen::Ended)
            }
            Ok(Some(count)) => {
                deframer.advance(count);
                self.hand_out(|| deframer.next_frame(), wait)
            }
            Ok(None) => None,
            Err(error) if error.kind() == ErrorKind::Interrupted => None,
            Err(error) => {
                self.end(End::Lost(error.to_string()));
                Some(Seen::Ended)
            }
        }
    }

    /// Feeds complete frames to the engine; tells the reader why it should stop reading, if it should.
    pub(super) fn hand_out(
        &self,
        mut next: impl FnMut() -> Result<Option<Frame>, objspace_proto::Error>,
        wait: Option<Wait>,
    ) -> Option<Seen> {
        let mut guard = self.state();
        let state = &mut *guard;
        state.activity += 1;
        let reader = wait
            .and_then(|wait| state.waiters.get(&wait))
            .map(|waiter| Arc::clone(&waiter.waker));
        state.reads += 1;
        loop {
            let frame = match next() {
                Ok(Some(frame)) => frame,
                Ok(None) => break,
                Err(error) => {
                    drop(guard);
                    self.broken(&error);
                    return Some(Seen::Ended);
                }
            };
            let event = match state.engine.handle_frame(frame) {
                Ok(event) => event,
                Err(error) => {
                    drop(guard);
                    self.broken(&error);
                    return Some(Seen::Ended);
                }
            };
            if let Some(end) = state.take(event, reader.as_ref()) {
                drop(guard);
                self.end(end);
                return Some(Seen::Ended);
            }
        }
        // The answer to a ping, which no host gives, must not wait for another message.
        let owed = !state.engine.poll_output().is_empty();
        let seen = state.seen(wait);
        // Work for others that came in the same read must not wait for this thread.
        if matches!(seen, Some(Seen::Mine)) && (!state.work.is_empty() || state.notices.any()) {
            self.call_workers();
        }
        drop(guard);
        if owed && let Channel::Stream(stream) = &self.channel {
            self.write_some(stream);
        }
        seen
    }

    pub(super) fn broken(&self, error: &objspace_proto::Error) {
        let reason = error.to_string();
        if let Some(code) = error.close_code() {
            // A session that is closed already has said farewell.
            let _ = self.state().engine.close(code, &reason);
        }
        if let Channel::Stream(stream) = &self.channel {
            self.write_last(stream);
        }
        self.end(End::Broken(reason));
    }
}

fn holds(reader: Reader, epoch: u64) -> bool {
    matches!(reader, Reader::Busy(e) | Reader::Idle(e) if e == epoch)
}

/// The time until `deadline`, but at most `time`.
pub(super) fn shorter(time: Option<Duration>, deadline: Option<Instant>) -> Option<Duration> {
    let left = deadline.map(|until| until.saturating_duration_since(Instant::now()));
    match (time, left) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}

impl State {
    /// Why a reader should stop reading after what has come, if it should.
    fn seen(&self, wait: Option<Wait>) -> Option<Seen> {
        let waiter = wait.and_then(|wait| self.waiters.get(&wait));
        if waiter.is_some_and(|waiter| waiter.answer.is_some() || !waiter.nested.is_empty()) {
            return Some(Seen::Mine);
        }
        (!self.work.is_empty() || !self.garbage.is_empty() || self.notices.any())
            .then_some(Seen::Work)
    }

    /// Takes the right to read if nobody has it.
    pub(super) fn take_right(&mut self, kind: fn(u64) -> Reader) -> Option<u64> {
        if self.reader != Reader::Nobody || self.end.is_some() {
            return None;
        }
        self.epoch += 1;
        self.reader = kind(self.epoch);
        Some(self.epoch)
    }
}
