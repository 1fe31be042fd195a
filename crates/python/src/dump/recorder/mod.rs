//! The recorder: from what the interpreter reports to the words of a log.
//!
//! For each thread it keeps the frames that have performed an operation, and of each frame the one
//! operation that has begun and not ended: an operation of a frame ends before the next one of the
//! same frame begins, so nesting is that of frames. A report (an instruction is about to be
//! executed, an exception is raised, a frame is left) first ends the operation of its frame, then
//! begins one.
//!
//! [`reports`] is the way in, [`frames`] knows who performs, [`plans`] what code does, [`selection`]
//! which operands are wanted, [`watched`] records what comes through a proxy. Here: the recorder
//! itself, and what it hands to the writer.
//!
//! Everything here runs with the GIL held and calls no Python code, so that only one report is
//! handled at a time; `BUSY` makes sure of that.

mod frames;
mod plans;
mod reports;
mod selection;
mod watched;

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, AtomicPtr, Ordering};

use objspace_interp::clock::{self, Rate};
use objspace_interp::observe::Extra;
use objspace_log::{Error, Row, Statistics, Writer, raw};
use pyo3::ffi;

use super::filter::{Filter, Types};
use super::naming::Names;
use super::plan::Opcodes;

use frames::Thread;
use plans::OwnedPlan;
pub(super) use plans::free_plan;

/// How many words a buffer has.
const BUFFER: usize = 1 << 17;
/// More than one report can append.
const ROOM: usize = 1 << 12;
/// The clock is not read more often than this into the log.
const RESOLUTION_NS: u64 = 1000;
/// What was recorded is handed to the writer at least this often, while anything is recorded.
const FLUSH_NS: u64 = 500_000_000;

static RECORDER: AtomicPtr<Recorder> = AtomicPtr::new(std::ptr::null_mut());
static BUSY: AtomicBool = AtomicBool::new(false);

/// The recorder at work, for the time of one report.
pub(super) struct Active(*mut Recorder);

impl Active {
    /// The recorder, unless there is none or it is at work already.
    ///
    /// The GIL is held, by the contract of everybody who calls this.
    #[inline]
    pub(super) fn enter() -> Option<Self> {
        let recorder = RECORDER.load(Ordering::Relaxed);
        if recorder.is_null() || BUSY.load(Ordering::Relaxed) {
            return None;
        }
        BUSY.store(true, Ordering::Relaxed);
        Some(Self(recorder))
    }

    #[inline]
    pub(super) fn recorder(&mut self) -> &mut Recorder {
        // SAFETY: `install` put it there and `remove` takes it away only when nobody is at work;
        // `BUSY` lets nobody else in.
        unsafe { &mut *self.0 }
    }
}

impl Drop for Active {
    #[inline]
    fn drop(&mut self) {
        BUSY.store(false, Ordering::Relaxed);
    }
}

/// Makes a recorder the one that reports go to. False: there is one.
pub(super) fn install(recorder: Recorder) -> bool {
    if !RECORDER.load(Ordering::Relaxed).is_null() {
        return false;
    }
    RECORDER.store(Box::into_raw(Box::new(recorder)), Ordering::Relaxed);
    true
}

/// Whether there is one.
pub(super) fn is_installed() -> bool {
    !RECORDER.load(Ordering::Relaxed).is_null()
}

/// Takes the recorder back.
pub(super) fn remove() -> Option<Box<Recorder>> {
    if BUSY.load(Ordering::Relaxed) {
        return None;
    }
    let recorder = RECORDER.swap(std::ptr::null_mut(), Ordering::Relaxed);
    // SAFETY: made by `install`, and nobody else has it any more.
    (!recorder.is_null()).then(|| unsafe { Box::from_raw(recorder) })
}

/// An object is gone, or some other memory: see [`objspace_interp::lifetimes`]. While the recorder
/// works, nothing that it knows can go.
pub(super) fn gone(key: usize) {
    if let Some(mut active) = Active::enter() {
        active.recorder().names.forget(key);
    }
}

/// How to record.
pub(super) struct Settings {
    pub(super) filter: Filter,
    pub(super) opcodes: Opcodes,
    pub(super) keep_alive: bool,
}

/// The recorder.
pub(super) struct Recorder {
    words: Vec<u64>,
    writer: Option<Writer>,
    pub(super) names: Names,
    threads: HashMap<usize, Box<Thread>>,
    next_thread: u32,
    tasks: HashSet<u64>,
    watch_sites: HashMap<(u32, u32, [u32; 4], u32), u32>,
    current: *mut Thread,
    current_state: *mut ffi::PyThreadState,
    operations: u64,
    strings: HashMap<String, u32>,
    codes: u32,
    sites: u32,
    rate: Rate,
    last_time: u64,
    last_flush: u64,
    filter: Filter,
    looks_at_operands: bool,
    looks_at_types_only: bool,
    types: Types,
    opcodes: Opcodes,
    extra: Extra,
    recording: u64,
    /// The code object whose plan was asked for last, and the plan.
    last_plan: (*mut ffi::PyObject, *mut OwnedPlan),
    failure: Option<Error>,
    operands: Vec<(u64, Option<u64>)>,
    /// Operations that ended in a way that was not seen.
    pub(super) lost: u64,
}

impl Recorder {
    pub(super) fn new(settings: Settings, writer: Writer, extra: Extra, recording: u64) -> Self {
        Self {
            words: Vec::with_capacity(BUFFER),
            writer: Some(writer),
            names: Names::new(settings.keep_alive),
            threads: HashMap::new(),
            next_thread: 0,
            tasks: HashSet::new(),
            watch_sites: HashMap::new(),
            current: std::ptr::null_mut(),
            current_state: std::ptr::null_mut(),
            operations: 0,
            strings: HashMap::new(),
            codes: 0,
            sites: 0,
            rate: Rate::measure(),
            last_time: 0,
            last_flush: 0,
            looks_at_operands: settings.filter.looks_at_operands(),
            looks_at_types_only: settings.filter.looks_at_types_only(),
            filter: settings.filter,
            types: Types::default(),
            opcodes: settings.opcodes,
            extra,
            recording,
            last_plan: (std::ptr::null_mut(), std::ptr::null_mut()),
            failure: None,
            operands: Vec::new(),
            lost: 0,
        }
    }

    /// Says which objects are gone.
    #[inline]
    fn bury(&mut self) {
        if !self.names.gone.is_empty() {
            self.bury_all();
        }
    }

    #[inline(never)]
    fn bury_all(&mut self) {
        for index in 0..self.names.gone.len() {
            if self.words.len() + ROOM > BUFFER {
                self.hand_over();
            }
            self.words.push(raw::DEATH | self.names.gone[index] << 8);
        }
        self.names.gone.clear();
    }

    /// Reads the clock into the log, unless that was just done.
    #[inline]
    fn time(&mut self) {
        let now = self.rate.nanoseconds(clock::ticks());
        if now > self.last_time + RESOLUTION_NS {
            self.last_time = now;
            self.words.push(raw::TIME | now << 8);
            if now > self.last_flush + FLUSH_NS {
                self.last_flush = now;
                self.hand_over();
            }
        }
    }

    /// Gives the buffer to the writer.
    #[cold]
    pub(super) fn hand_over(&mut self) {
        let full = std::mem::take(&mut self.words);
        match &self.writer {
            Some(writer) if self.failure.is_none() => match writer.send(full) {
                Ok(empty) => self.words = empty,
                Err(error) => self.failure = Some(error),
            },
            _ => {
                self.words = full;
                self.words.clear();
            }
        }
    }

    /// The number of this recording.
    pub(super) const fn recording(&self) -> u64 {
        self.recording
    }

    /// Writes something about the recording itself.
    pub(super) fn note(&mut self, text: &str) {
        let operation = self.operations;
        raw::push_row(&mut self.words, &Row::Note { operation, text });
    }

    pub(super) fn meta(&mut self, key: &str, value: &str) {
        raw::push_row(&mut self.words, &Row::Meta { key, value });
    }

    /// What was written, and what was recorded.
    pub(super) fn statistics(&self) -> (u64, Statistics) {
        let written = self
            .writer
            .as_ref()
            .map_or_else(Statistics::default, Writer::statistics);
        (self.operations, written)
    }

    /// Brings everything recorded so far to the file.
    pub(super) fn flush(&mut self) -> Result<(), Error> {
        self.bury();
        self.hand_over();
        if let Some(error) = self.failure.take() {
            return Err(error);
        }
        self.writer.as_ref().map_or(Ok(()), Writer::flush)
    }

    /// Ends the recording: hands over the rest. The writer is to be finished, without the GIL; and
    /// what was kept alive is to be let go of.
    ///
    /// # Safety
    /// The GIL is held.
    pub(super) unsafe fn finish(
        mut self,
    ) -> (Result<Option<Writer>, Error>, Vec<*mut ffi::PyObject>) {
        // SAFETY: the caller's promise.
        unsafe { self.settle_all() };
        self.bury();
        if self.lost > 0 {
            let note = format!(
                "{} operations ended in a way that was not seen (status lost)",
                self.lost
            );
            self.note(&note);
        }
        if let Some(writer) = &self.writer {
            let stalls = writer.statistics();
            if stalls.stalls > 0 {
                let note = format!(
                    "the program waited {} times for the writer, {} ms in all; nothing is lost",
                    stalls.stalls,
                    stalls.stalled_ns / 1_000_000
                );
                self.note(&note);
            }
        }
        self.hand_over();
        let mut kept = self.names.take_kept();
        kept.append(&mut self.types.kept);
        kept.extend(
            self.filter
                .objects
                .iter()
                .map(|&object| object as *mut ffi::PyObject),
        );
        let result = match self.failure.take() {
            Some(error) => Err(error),
            None => Ok(self.writer.take()),
        };
        (result, kept)
    }

    /// In a child process after `fork`: the writer's thread is not there.
    pub(super) fn abandon(mut self) {
        if let Some(writer) = self.writer.take() {
            writer.abandon();
        }
    }
}
