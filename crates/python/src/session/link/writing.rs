//! Writing: what the engine has queued goes to the stream without blocking, by one thread at a time;
//! what the stream does not take is written by whoever reads next.

use std::io::IoSlice;

use objspace_net::Stream;
use objspace_proto::Output;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use super::{Channel, End, Link, State};
use crate::session::errors;

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

    /// Writes queued output until it is gone or the stream takes no more.
    pub(super) fn write_some(&self, stream: &Stream) {
        loop {
            let Some(mut output) = self.state().start_writing() else {
                return;
            };
            let written = write_output(stream, &mut output);
            let mut state = self.state();
            let all = output.is_empty();
            state.stop_writing(output);
            match written {
                Ok(()) if all => state.blocked = false,
                Ok(()) => {
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
}

/// Writes as much as the stream takes.
fn write_output(stream: &Stream, output: &mut Output) -> std::io::Result<()> {
    while !output.is_empty() {
        let slices: Vec<IoSlice<'_>> = output.chunks().take(64).map(IoSlice::new).collect();
        match stream.try_write_vectored(&slices)? {
            Some(written) => output.advance(written),
            None => break,
        }
    }
    Ok(())
}
