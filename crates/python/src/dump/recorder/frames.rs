//! Who performs operations: threads, the frames of each that are known, and asyncio tasks.

use objspace_interp::observe::{self, RunningFrame};
use objspace_log::{Row, raw};
use pyo3::ffi;

use super::super::plan::NOWHERE;
use super::super::tasks;
use super::Recorder;
use super::plans::{OwnedPlan, unit_of};

/// `CO_COROUTINE`, `CO_ITERABLE_COROUTINE`, `CO_ASYNC_GENERATOR`.
const ASYNC: i32 = 0x80 | 0x100 | 0x200;

pub(super) struct Frame {
    pub(super) frame: RunningFrame,
    pub(super) code: *mut ffi::PyObject,
    pub(super) plan: *mut OwnedPlan,
    /// The unit of the operation that has begun.
    pub(super) pending: u32,
    pub(super) task: u64,
}

/// No frame at all.
const STRANGER: (RunningFrame, *mut ffi::PyObject) = (RunningFrame::NONE, std::ptr::null_mut());

pub(super) struct Thread {
    pub(super) index: u32,
    pub(super) id: i64,
    pub(super) named: bool,
    pub(super) frames: Vec<Frame>,
    /// A frame that is none of these, so that they need not be searched again.
    pub(super) stranger: (RunningFrame, *mut ffi::PyObject),
    /// The task that the log says this thread is in.
    pub(super) task: u64,
}

impl Thread {
    const fn new(index: u32, id: i64) -> Self {
        Self {
            index,
            id,
            named: false,
            frames: Vec::new(),
            stranger: STRANGER,
            task: 0,
        }
    }
}

impl Recorder {
    /// Another thread runs.
    #[cold]
    pub(super) unsafe fn switch(&mut self, state: *mut ffi::PyThreadState) {
        // SAFETY: a live thread state, and frames of the thread that runs.
        unsafe {
            let id = ffi::PyThreadState_GetID(state);
            if let Some(thread) = self.threads.get_mut(&(state as usize)) {
                self.current = &raw mut **thread;
                self.current_state = state;
                self.words.push(raw::THREAD | u64::from(thread.index) << 8);
                if thread.id == id {
                    if !thread.named {
                        let index = thread.index;
                        (*self.current).named = self.define_thread(index);
                    }
                    return;
                }
                // At the same address, but another one: the former ended unnoticed.
                self.drop_frames(0);
            }
            let index = self.next_thread;
            self.next_thread += 1;
            let mut thread = Box::new(Thread::new(index, id));
            self.current = &raw mut *thread;
            self.threads.insert(state as usize, thread);
            self.current_state = state;
            (*self.current).named = self.define_thread(index);
            self.words.push(raw::THREAD | u64::from(index) << 8);
        }
    }

    /// Writes who a thread is. False: it has no name yet, and is to be asked again.
    pub(super) unsafe fn define_thread(&mut self, index: u32) -> bool {
        let ident = tasks::thread_ident();
        // SAFETY: the GIL is held.
        let name = unsafe { tasks::thread_name(ident) };
        raw::push_row(
            &mut self.words,
            &Row::Thread {
                index,
                ident,
                name: &name,
            },
        );
        !name.is_empty()
    }

    /// Makes a thread the current one.
    ///
    /// # Safety
    /// The GIL is held; `state` is the thread that runs.
    pub(super) unsafe fn be_in(&mut self, state: *mut ffi::PyThreadState) {
        if state != self.current_state {
            // SAFETY: passed on.
            unsafe { self.switch(state) };
        }
    }

    /// Leaves frames that were left without a report, down to so many.
    pub(super) fn drop_frames(&mut self, down_to: usize) {
        // SAFETY: `switch` has set it.
        let thread = unsafe { &mut *self.current };
        while thread.frames.len() > down_to {
            if let Some(frame) = thread.frames.pop()
                && frame.pending != NOWHERE
            {
                self.lose();
            }
        }
    }

    /// A frame reports that is not the innermost one known.
    #[cold]
    pub(super) unsafe fn enter(
        &mut self,
        frame: RunningFrame,
        code: *mut ffi::PyObject,
        plan: *mut OwnedPlan,
    ) {
        // SAFETY: the frames of the current thread are linked and live; those in `frames` are
        // compared by address and code before they are looked at.
        unsafe {
            if (*self.current).frames.is_empty()
                && ffi::PyThreadState_GetID(self.current_state) != (*self.current).id
            {
                let state = self.current_state;
                self.switch(state);
            }
            let thread = &mut *self.current;
            let is = |known: &Frame, frame: RunningFrame| {
                known.frame == frame && known.code == frame.code()
            };
            let caller = frame.caller();
            let called_by_top = matches!(
                (thread.frames.last(), caller), (Some(top), Some(caller)) if is(top, caller)
            );
            if !called_by_top && !thread.frames.is_empty() {
                if let Some(at) = thread.frames.iter().rposition(|known| is(known, frame)) {
                    self.drop_frames(at + 1);
                    return;
                }
                let mut ancestor = caller;
                let mut at = None;
                while let Some(outer) = ancestor {
                    at = thread.frames.iter().rposition(|known| is(known, outer));
                    if at.is_some() {
                        break;
                    }
                    ancestor = outer.caller();
                }
                self.drop_frames(at.map_or(0, |at| at + 1));
            }
            self.settle_caller();
            let thread = &mut *self.current;
            let mut task = thread.frames.last().map_or(0, |top| top.task);
            if observe::facts(code).flags & ASYNC != 0 {
                task = self.task();
            }
            (*self.current).stranger = STRANGER;
            (*self.current).frames.push(Frame {
                frame,
                code,
                plan,
                pending: NOWHERE,
                task,
            });
        }
    }

    /// Ends the operation of the innermost known frame if something else is executing there: a
    /// finalizer or a signal handler runs between two of its operations.
    pub(super) unsafe fn settle_caller(&mut self) {
        // SAFETY: the innermost known frame was just found among the live ones.
        unsafe {
            let Some(top) = (*self.current).frames.last_mut() else {
                return;
            };
            if top.pending == NOWHERE {
                return;
            }
            let Some(pending) = unit_of(top.plan, top.pending) else {
                return;
            };
            let executing = top.frame.unit();
            if (top.pending..pending.next).contains(&executing) {
                return;
            }
            let operation = std::mem::replace(&mut top.pending, NOWHERE);
            let (frame, code, plan) = (top.frame, top.code, top.plan);
            self.ended_elsewhere(frame, code, plan, operation, executing);
        }
    }

    /// Ends the operations that have ended although their frames reported nothing since.
    ///
    /// # Safety
    /// The GIL is held.
    pub(super) unsafe fn settle_all(&mut self) {
        // SAFETY: with the GIL held the threads and their frames stand still. Known frames are
        // looked at only if they are among those that live.
        unsafe {
            let mut state = ffi::PyInterpreterState_ThreadHead(ffi::PyInterpreterState_Get());
            while !state.is_null() {
                let waits = self.threads.get(&(state as usize)).is_some_and(|thread| {
                    thread.id == ffi::PyThreadState_GetID(state)
                        && thread.frames.iter().any(|frame| frame.pending != NOWHERE)
                });
                if waits {
                    self.be_in(state);
                    self.settle(state);
                }
                state = ffi::PyThreadState_Next(state);
            }
        }
    }

    /// The same for the current thread.
    unsafe fn settle(&mut self, state: *mut ffi::PyThreadState) {
        // SAFETY: as in `settle_all`.
        unsafe {
            let mut live = RunningFrame::find(state);
            for index in (0..(*self.current).frames.len()).rev() {
                let known = &mut (&mut (*self.current).frames)[index];
                while let Some(frame) = live
                    && (frame != known.frame || frame.code() != known.code)
                {
                    live = frame.caller();
                }
                if known.pending == NOWHERE {
                    continue;
                }
                let (Some(frame), Some(pending)) = (live, unit_of(known.plan, known.pending))
                else {
                    return;
                };
                let executing = frame.unit();
                if (known.pending..pending.next).contains(&executing) {
                    // It is under way, and so are those around it.
                    return;
                }
                let operation = std::mem::replace(&mut known.pending, NOWHERE);
                let (code, plan) = (known.code, known.plan);
                self.ended_elsewhere(frame, code, plan, operation, executing);
            }
        }
    }

    /// Whether a frame that is not the innermost known one is known.
    #[inline]
    pub(super) unsafe fn is_known(
        &mut self,
        frame: RunningFrame,
        code: *mut ffi::PyObject,
    ) -> bool {
        // SAFETY: `switch` has set it.
        let thread = unsafe { &mut *self.current };
        if thread.stranger == (frame, code) {
            return false;
        }
        let known = thread
            .frames
            .iter()
            .any(|known| known.frame == frame && known.code == code);
        if !known {
            thread.stranger = (frame, code);
        }
        known
    }

    /// Makes a frame the innermost known one, if it is known.
    pub(super) unsafe fn find(&mut self, frame: RunningFrame) -> bool {
        // SAFETY: `be_in` has set it; frames are compared by address and code.
        unsafe {
            let frames = &(*self.current).frames;
            let code = frame.code();
            let at = frames
                .iter()
                .rposition(|known| known.frame == frame && known.code == code);
            match at {
                Some(at) => {
                    self.drop_frames(at + 1);
                    true
                }
                None => false,
            }
        }
    }

    /// The serial of the task that runs, or zero.
    pub(super) unsafe fn task(&mut self) -> u64 {
        // SAFETY: the GIL is held.
        unsafe {
            let Some(task) = tasks::current() else {
                return 0;
            };
            let serial = self.names.serial(task, &mut self.words);
            if self.tasks.insert(serial) {
                let name = tasks::name(task);
                raw::push_row(
                    &mut self.words,
                    &Row::Task {
                        serial,
                        name: &name,
                    },
                );
            }
            serial
        }
    }
}
