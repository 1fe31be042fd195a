//! Writing: what the engine has queued goes to the stream without blocking, by one thread at a time;
//! what the stream does not take is written by whoever reads next.

use std::io::IoSlice;
use std::time::Duration;

use objspace_net::Stream;
use objspace_proto::Output;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use super::{Channel, End, Link, State};
use crate::session::errors;

/// How many milliseconds the last words of a session may take another thread.
const LAST_LOOKS: u32 = 100;
/// Requests of a peer that leaves more than so much unread have to wait.
pub(super) const CONGESTED: usize = 16 << 20;

impl Link {
    /// Writes what is queued, as far as the stream takes it now.
    pub(crate) fn flush(&self, py: Python<'_>) -> PyResult<()> {
        match &self.channel {
            Channel::Stream(stream) => {
                // The write cannot block, so the GIL is kept: small messages go at once. What does
                // not fit is written by whoever reads next.
                self.write_some(stream);
                Ok(())
            }
            Channel::Functions { send, .. } => {
                loop {
                    // Not in the head of the loop, where the lock would be held throughout.
                    let Some(mut output) = self.state().start_writing() else {
                        return Ok(());
                    };
                    let bytes = output.chunks().flatten().copied().collect::<Vec<u8>>();
                    output.clear();
                    let sent = send.call1(py, (PyBytes::new(py, &bytes),));
                    self.state().stop_writing(output);
                    if let Err(error) = sent {
                        let end = End::Lost(format!("its send function failed: {error}"));
                        self.end(end.clone());
                        return Err(errors::session_ended(&self.peer, &end));
                    }
                }
            }
        }
    }

    /// How many bytes wait to be written.
    pub(crate) fn queued(&self) -> usize {
        let mut state = self.state();
        state.unsent.len() + state.engine.poll_output().len()
    }

    /// Writes the last words of a session, before the stream is shut down: also if another thread
    /// has taken them along and is writing them now.
    pub(super) fn write_last(&self, stream: &Stream) {
        for _ in 0..LAST_LOOKS {
            self.write_some(stream);
            if !self.state().flushing {
                return;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Writes queued output until it is gone or the stream takes no more.
    pub(super) fn write_some(&self, stream: &Stream) {
        loop {
            let Some(mut output) = self.state().start_writing() else {
                return;
            };
            let written = write_output(stream, &mut output);
            let mut state = self.state();
            let all = output.is_empty();
            state.writes += u64::from(matches!(written, Ok(some) if some));
            state.stop_writing(output);
            match written {
                Ok(_) if all => state.blocked = false,
                Ok(_) => {
                    state.blocked = true;
                    // Whoever polls must now poll for room as well.
                    if let Some(waker) = &state.idle_waker {
                        waker.wake();
                    }
                    return;
                }
                Err(error) => {
                    drop(state);
                    self.end(End::Lost(error.to_string()));
                    return;
                }
            }
        }
    }
}

impl State {
    /// What is to be written, if there is anything and nobody writes it already.
    pub(super) fn start_writing(&mut self) -> Option<Output> {
        if self.flushing {
            return None;
        }
        if self.unsent.is_empty() {
            std::mem::swap(&mut self.unsent, self.engine.poll_output());
        }
        if self.unsent.is_empty() {
            return None;
        }
        self.flushing = true;
        Some(std::mem::take(&mut self.unsent))
    }

    pub(super) fn stop_writing(&mut self, rest: Output) {
        self.flushing = false;
        self.unsent = rest;
    }

    /// How many bytes wait to be written.
    pub(crate) fn waiting_to_be_written(&mut self) -> usize {
        self.unsent.len() + self.engine.poll_output().len()
    }

    /// Whether the peer is so far behind with reading that it gets no more replies for now: what
    /// waits to be written is bounded by this, however much is asked.
    pub(super) fn congested(&mut self) -> bool {
        self.blocked && self.waiting_to_be_written() > CONGESTED
    }

    /// Whether a call of the peer runs or waits to, or a reply is still on its way.
    pub(crate) fn busy(&mut self) -> bool {
        self.end.is_none()
            && (self.working > 0
                || !self.work.is_empty()
                || self.flushing
                || self.waiting_to_be_written() > 0)
    }
}

/// Writes as much as the stream takes; whether it took anything.
fn write_output(stream: &Stream, output: &mut Output) -> std::io::Result<bool> {
    let mut some = false;
    while !output.is_empty() {
        let slices: Vec<IoSlice<'_>> = output.chunks().take(64).map(IoSlice::new).collect();
        match stream.try_write_vectored(&slices)? {
            Some(written) => {
                some = true;
                output.advance(written);
            }
            None => break,
        }
    }
    Ok(some)
}
