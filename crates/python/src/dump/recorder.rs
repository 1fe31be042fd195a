//! The recorder: from what the interpreter reports to the words of a log.
//!
//! For each thread it keeps the frames that have performed an operation, and of each frame the one
//! operation that has begun and not ended: an operation of a frame ends before the next one of the
//! same frame begins, so nesting is that of frames. A report (an instruction is about to be
//! executed, an exception is raised, a frame is left) first ends the operation of its frame, then
//! begins one.
//!
//! Everything here runs with the GIL held and calls no Python code, so that only one report is
//! handled at a time; `BUSY` makes sure of that.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, AtomicPtr, Ordering};

use objspace_interp::clock::{self, Rate};
use objspace_interp::observe::{self, CodeFacts, Extra, RunningFrame};
use objspace_log::raw::{self, SiteRow, word};
use objspace_log::{Error, Kind, Row, Statistics, Status, Writer};
use pyo3::ffi;

use super::filter::{Filter, Types};
use super::naming::{Names, string};
use super::plan::{
    End, LEAVE, NOWHERE, Name, OPERANDS_MAX, OPERATION, Opcodes, Operands, PREFIX, Plan, Unit,
};
use super::tasks;

/// How many words a buffer has.
const BUFFER: usize = 1 << 17;
/// More than one report can append.
const ROOM: usize = 1 << 12;
/// The clock is not read more often than this into the log.
const RESOLUTION_NS: u64 = 1000;
/// What was recorded is handed to the writer at least this often, while anything is recorded.
const FLUSH_NS: u64 = 500_000_000;
/// `CO_COROUTINE`, `CO_ITERABLE_COROUTINE`, `CO_ASYNC_GENERATOR`.
const ASYNC: i32 = 0x80 | 0x100 | 0x200;

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

/// A code object is gone: its plan goes with it, and nobody may refer to it any more.
pub(super) unsafe extern "C" fn free_plan(extra: *mut std::ffi::c_void) {
    if extra.is_null() {
        return;
    }
    // A recorder that is at work replaces the plan of a former recording, which no frame refers to.
    if let Some(mut active) = Active::enter() {
        active.recorder().forget_plan(extra.cast());
    }
    // SAFETY: `Recorder::plan` made it; it is in no other slot.
    drop(unsafe { Box::from_raw(extra.cast::<OwnedPlan>()) });
}

/// A plan and the recording that it was made for.
pub(super) struct OwnedPlan {
    plan: Plan,
    recording: u64,
    /// Whether its code is made to report.
    #[cfg(Py_3_12)]
    reports: bool,
}

/// An instruction of a plan.
///
/// # Safety
/// The plan's code is alive for as long as the result is used.
#[inline]
unsafe fn unit_of<'a>(plan: *mut OwnedPlan, unit: u32) -> Option<&'a Unit> {
    // SAFETY: the caller's promise; a plan is only read.
    let plan: &OwnedPlan = unsafe { &*plan };
    plan.plan.units.get(unit as usize)
}

struct Frame {
    frame: RunningFrame,
    code: *mut ffi::PyObject,
    plan: *mut OwnedPlan,
    /// The unit of the operation that has begun.
    pending: u32,
    task: u64,
}

#[derive(Default)]
struct Thread {
    index: u32,
    id: i64,
    named: bool,
    frames: Vec<Frame>,
    /// The task that the log says this thread is in.
    task: u64,
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
    types: Types,
    opcodes: Opcodes,
    extra: Extra,
    recording: u64,
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
            filter: settings.filter,
            types: Types::default(),
            opcodes: settings.opcodes,
            extra,
            recording,
            failure: None,
            operands: Vec::new(),
            lost: 0,
        }
    }

    /// An instruction is about to be executed. False: never report this one again.
    ///
    /// # Safety
    /// The GIL is held; `frame` is the innermost frame of `state`, and stands before the
    /// instruction at `unit`.
    #[inline]
    pub(super) unsafe fn instruction(
        &mut self,
        state: *mut ffi::PyThreadState,
        frame: RunningFrame,
        code: *mut ffi::PyObject,
        mut unit: u32,
    ) -> bool {
        // SAFETY: the thread's entry is a box of its own that stays where it is; plans live as
        // long as their code, which the frame keeps alive. Slots are those that the plan of this
        // very code says are live before this instruction.
        unsafe {
            if state != self.current_state {
                self.switch(state);
            }
            let thread = &mut *self.current;
            let known = thread
                .frames
                .last()
                .is_some_and(|top| top.frame == frame && top.code == code);
            if !known {
                let Some(plan) = self.plan(code, frame) else {
                    return false;
                };
                let flags = unit_of(plan, unit).map_or(0, |unit| unit.flags);
                if flags == 0 {
                    return false;
                }
                self.enter(frame, code, plan);
            }
            let thread = &mut *self.current;
            let Some(top) = thread.frames.last_mut() else {
                return true;
            };
            let plan = top.plan;
            let Some(mut this) = unit_of(plan, unit) else {
                return false;
            };
            if cfg!(not(Py_3_12)) && this.flags == PREFIX {
                unit = this.next;
                let Some(prefixed) = unit_of(plan, unit) else {
                    return false;
                };
                this = prefixed;
            }
            if this.flags == 0 {
                return false;
            }
            if top.pending != NOWHERE {
                let pending = unit_of(plan, top.pending);
                top.pending = NOWHERE;
                if let Some(pending) = pending {
                    self.ended_before(frame, pending, unit);
                }
            }
            if this.flags & OPERATION != 0 {
                self.operation(frame, code, plan, unit, this);
            }
            if this.flags & LEAVE != 0 {
                (*self.current).frames.pop();
            }
            true
        }
    }

    /// A frame is started or resumed, unless an exception is thrown into it: only then it stands on
    /// the instruction that resumes.
    ///
    /// # Safety
    /// As [`instruction`](Self::instruction).
    #[cfg(not(Py_3_12))]
    pub(super) unsafe fn resumed(&mut self, state: *mut ffi::PyThreadState, frame: RunningFrame) {
        // SAFETY: passed on.
        unsafe {
            let (code, unit) = (frame.code(), frame.unit());
            let resumes = self
                .plan(code, frame)
                .and_then(|plan| unit_of(plan, unit))
                .is_some_and(|unit| unit.kind == Kind::Resume && unit.flags & OPERATION != 0);
            if resumes {
                self.instruction(state, frame, code, unit);
            }
        }
    }

    /// The operation that began last in this frame has ended, since the instruction at `unit` comes
    /// next.
    #[inline]
    unsafe fn ended_before(&mut self, frame: RunningFrame, pending: &Unit, unit: u32) {
        // SAFETY: the plan says that the result is in this slot before this instruction.
        unsafe {
            match pending.end {
                End::Result | End::Next if unit == pending.resolve => {
                    self.end_with(pending, frame.slot(pending.slot));
                }
                End::Method if unit == pending.resolve => {
                    let mut result = frame.slot(pending.slot);
                    if result.is_null() {
                        result = frame.slot(pending.slot + 1);
                    }
                    self.end_with(pending, result);
                }
                End::Done | End::AtOnce => self.end(Status::Done, None),
                End::Next => self.end(Status::Exhausted, None),
                End::Truth(sense) if unit == pending.resolve || unit == pending.jump_resolve => {
                    let truth = (unit == pending.jump_resolve) == sense;
                    let word = if truth { word::TRUE } else { word::FALSE };
                    self.end(Status::Result, Some((word, None)));
                }
                End::Send if unit == pending.resolve => {
                    self.end_with(pending, frame.slot(pending.slot));
                }
                End::Send if unit == pending.jump_resolve => {
                    self.end_with(pending, frame.slot(pending.jump_slot));
                }
                End::Never => self.end(Status::Raised, Some((word::UNKNOWN, None))),
                _ => self.lose(),
            }
        }
    }

    #[inline]
    unsafe fn end_with(&mut self, pending: &Unit, result: *mut ffi::PyObject) {
        if matches!(pending.kind, Kind::Call | Kind::CallEx) {
            self.time();
        }
        // SAFETY: the caller's promise.
        let value = unsafe { self.names.value(result, &mut self.words) };
        self.end(Status::Result, Some(value));
    }

    #[inline]
    fn end(&mut self, status: Status, value: Option<(u64, Option<u64>)>) {
        self.bury();
        self.words.push(raw::END | (status as u64) << 8);
        if let Some((first, second)) = value {
            self.words.push(first);
            if let Some(second) = second {
                self.words.push(second);
            }
        }
    }

    fn lose(&mut self) {
        self.lost += 1;
        self.end(Status::Lost, None);
    }

    /// Says which objects are gone.
    #[inline]
    fn bury(&mut self) {
        if !self.names.gone.is_empty() {
            for index in 0..self.names.gone.len() {
                if self.words.len() + ROOM > BUFFER {
                    self.hand_over();
                }
                self.words.push(raw::DEATH | self.names.gone[index] << 8);
            }
            self.names.gone.clear();
        }
    }

    #[inline]
    unsafe fn operation(
        &mut self,
        frame: RunningFrame,
        code: *mut ffi::PyObject,
        plan: *mut OwnedPlan,
        unit: u32,
        this: &Unit,
    ) {
        // SAFETY: as in `instruction`.
        unsafe {
            if this.kind == Kind::Truth
                && ffi::Py_TYPE(frame.slot(this.top - 1)) == &raw mut ffi::PyBool_Type
            {
                // The truth of a bool is no operation on an object.
                return;
            }
            if self.looks_at_operands && !self.wants(frame, this) {
                return;
            }
            if self.words.len() + ROOM > BUFFER {
                self.hand_over();
            }
            self.bury();
            let mut site = this.site.get();
            if site == NOWHERE {
                site = self.site(code, plan, unit, this);
            }
            if matches!(this.kind, Kind::Call | Kind::CallEx) {
                self.time();
            }
            let thread = &mut *self.current;
            let Some(top) = thread.frames.last_mut() else {
                return;
            };
            if top.task != thread.task {
                thread.task = top.task;
                self.words.push(raw::TASK | top.task << 8);
            }
            let at_once = this.end == End::AtOnce;
            if !at_once {
                top.pending = unit;
            }
            self.operations += 1;
            self.begin(frame, this, site);
            if at_once {
                self.end(Status::Done, None);
            }
        }
    }

    /// Writes the beginning of an operation. Definitions of operands come before it.
    #[inline]
    unsafe fn begin(&mut self, frame: RunningFrame, this: &Unit, site: u32) {
        // SAFETY: as in `instruction`.
        unsafe {
            let top = this.top;
            let mut operands = std::mem::take(&mut self.operands);
            operands.clear();
            match this.operands {
                Operands::Forward => {
                    let count = u32::from(this.count);
                    for distance in (1..=count).rev() {
                        if operands.len() >= usize::from(OPERANDS_MAX) {
                            break;
                        }
                        operands.push(
                            self.names
                                .value(frame.slot(top - distance), &mut self.words),
                        );
                    }
                }
                Operands::At(places) => {
                    for &distance in &places[..usize::from(this.count)] {
                        operands.push(
                            self.names
                                .value(frame.slot(top - u32::from(distance)), &mut self.words),
                        );
                    }
                }
                Operands::Call => {
                    let [callable, own, first, last] = call(frame, this);
                    operands.push(self.names.value(frame.slot(callable), &mut self.words));
                    if own != NOWHERE {
                        operands.push(self.names.value(frame.slot(own), &mut self.words));
                    }
                    for slot in first..last {
                        if operands.len() >= usize::from(OPERANDS_MAX) {
                            break;
                        }
                        operands.push(self.names.value(frame.slot(slot), &mut self.words));
                    }
                }
                Operands::CallEx => {
                    let base = top - u32::from(this.count);
                    let (callable, rest) = if cfg!(Py_3_13) {
                        (base, base + 2)
                    } else {
                        (base + 1, base + 2)
                    };
                    operands.push(self.names.value(frame.slot(callable), &mut self.words));
                    for slot in rest..top {
                        operands.push(self.names.value(frame.slot(slot), &mut self.words));
                    }
                }
            }
            let wanted = usize::from(this.count);
            if operands.len() >= usize::from(OPERANDS_MAX) && wanted > operands.len() {
                operands.push((word::UNKNOWN, None));
            }
            self.words
                .push(raw::OPERATION | (operands.len() as u64) << 8 | u64::from(site) << 32);
            for &(first, second) in &operands {
                self.words.push(first);
                if let Some(second) = second {
                    self.words.push(second);
                }
            }
            self.operands = operands;
        }
    }

    /// Whether the operands are among those that the filter asks for.
    unsafe fn wants(&mut self, frame: RunningFrame, this: &Unit) -> bool {
        // SAFETY: as in `instruction`.
        unsafe {
            let base = this.top - u32::from(this.count);
            if !self.filter.objects.is_empty() {
                // Containers that are added to lie deeper than what is added.
                let deeper = match this.operands {
                    Operands::At(places) => places[..usize::from(this.count)]
                        .iter()
                        .map(|&distance| this.top - u32::from(distance))
                        .any(|slot| self.filter.objects.contains(&(frame.slot(slot) as usize))),
                    _ => false,
                };
                if !deeper
                    && !(base..this.top)
                        .any(|slot| self.filter.objects.contains(&(frame.slot(slot) as usize)))
                {
                    return false;
                }
            }
            if !self.filter.types.is_empty() {
                let mut found = false;
                for slot in base..this.top {
                    let object = frame.slot(slot);
                    if !object.is_null() {
                        let names: Vec<&str>;
                        let class = ffi::Py_TYPE(object);
                        found = match self.types.known(class) {
                            Some(known) => known,
                            None => {
                                names = self.filter.types.iter().map(String::as_str).collect();
                                self.types.is_one_of(class, &names)
                            }
                        };
                        if found {
                            break;
                        }
                    }
                }
                if !found {
                    return false;
                }
            }
            if !self.filter.attributes.is_empty() {
                // The receiver is on top, for reading, writing and deleting alike.
                let class = ffi::Py_TYPE(frame.slot(this.top - 1));
                return self.attribute_types(class, this.name, frame);
            }
            true
        }
    }

    unsafe fn attribute_types(
        &mut self,
        class: *mut ffi::PyTypeObject,
        name: Name,
        frame: RunningFrame,
    ) -> bool {
        // SAFETY: as in `instruction`.
        unsafe {
            let facts = observe::facts(frame.code());
            let name = self.name_of(&facts, name);
            let owners: Vec<&str> = self
                .filter
                .attributes
                .iter()
                .filter(|(_, attribute)| Some(attribute.as_str()) == name.as_deref())
                .map(|(owner, _)| owner.as_deref().unwrap_or(""))
                .collect();
            if owners.contains(&"") {
                return true;
            }
            // The class itself is asked for its attributes too.
            let mut mro_names = Vec::new();
            let order = (*class).tp_mro;
            if order.is_null() {
                return false;
            }
            for index in 0..ffi::PyTuple_GET_SIZE(order) {
                mro_names.clear();
                super::naming::class_name(
                    ffi::PyTuple_GET_ITEM(order, index).cast(),
                    &mut mro_names,
                );
                let path = String::from_utf8_lossy(&mro_names);
                if owners.iter().any(|owner| {
                    path.strip_suffix(owner)
                        .is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
                }) {
                    return true;
                }
            }
            false
        }
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

    /// Another thread runs.
    #[cold]
    unsafe fn switch(&mut self, state: *mut ffi::PyThreadState) {
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
            let thread = self.threads.entry(state as usize).or_default();
            **thread = Thread {
                index,
                id,
                ..Thread::default()
            };
            self.current = &raw mut **thread;
            self.current_state = state;
            (*self.current).named = self.define_thread(index);
            self.words.push(raw::THREAD | u64::from(index) << 8);
        }
    }

    /// Writes who a thread is. False: it has no name yet, and is to be asked again.
    unsafe fn define_thread(&mut self, index: u32) -> bool {
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
    unsafe fn be_in(&mut self, state: *mut ffi::PyThreadState) {
        if state != self.current_state {
            // SAFETY: passed on.
            unsafe { self.switch(state) };
        }
    }

    /// Leaves frames that were left without a report, down to so many.
    fn drop_frames(&mut self, down_to: usize) {
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
    unsafe fn enter(
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
    unsafe fn settle_caller(&mut self) {
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

    /// An operation has ended, and another instruction is being executed than the one where its
    /// result would be picked up.
    #[cold]
    unsafe fn ended_elsewhere(
        &mut self,
        frame: RunningFrame,
        code: *mut ffi::PyObject,
        plan: *mut OwnedPlan,
        operation: u32,
        executing: u32,
    ) {
        // SAFETY: as in `settle_caller`.
        unsafe {
            let Some(pending) = unit_of(plan, operation) else {
                return self.lose();
            };
            match pending.end {
                End::Done | End::AtOnce => return self.end(Status::Done, None),
                End::Never => {
                    return self.end(Status::Raised, Some((word::UNKNOWN, None)));
                }
                End::Truth(_) | End::Send => return self.lose(),
                End::Result | End::Method | End::Next => {}
            }
            let nlocals = observe::facts(code).nlocals;
            let plan: &OwnedPlan = &*plan;
            let place = observe::instructions(code).and_then(|instructions| {
                plan.plan
                    .locate(&self.opcodes, &instructions, nlocals, operation, executing)
            });
            match place {
                Some(place) => {
                    let mut result = frame.slot(place);
                    if result.is_null() && pending.end == End::Method {
                        result = frame.slot(place + 1);
                    }
                    self.end_with(pending, result);
                }
                None => self.lose(),
            }
        }
    }

    /// An exception is raised in a frame, or passes through it.
    ///
    /// # Safety
    /// The GIL is held; the frame is the innermost one of the thread that runs, and `exception` is
    /// alive.
    pub(super) unsafe fn raised(
        &mut self,
        state: *mut ffi::PyThreadState,
        frame: RunningFrame,
        unit: u32,
        exception: *mut ffi::PyObject,
    ) {
        // SAFETY: as in `instruction`.
        unsafe {
            self.be_in(state);
            if !self.find(frame) {
                return;
            }
            let Some(top) = (*self.current).frames.last_mut() else {
                return;
            };
            if top.pending == NOWHERE {
                return;
            }
            let (code, plan) = (top.code, top.plan);
            let Some(pending) = unit_of(plan, top.pending) else {
                return self.lose();
            };
            if pending.end == End::Send && is_stop_iteration(exception) {
                // It brings the result, and goes no further.
                return;
            }
            let operation = std::mem::replace(&mut top.pending, NOWHERE);
            if pending.end == End::Next && is_stop_iteration(exception) {
                return self.end(Status::Exhausted, None);
            }
            if (operation..pending.next).contains(&unit) {
                self.failed(pending, exception);
            } else {
                self.ended_elsewhere(frame, code, plan, operation, unit);
            }
        }
    }

    unsafe fn failed(&mut self, pending: &Unit, exception: *mut ffi::PyObject) {
        if matches!(pending.kind, Kind::Call | Kind::CallEx) {
            self.time();
        }
        // SAFETY: the caller's promise.
        let value = unsafe { self.names.value(exception, &mut self.words) };
        self.end(Status::Raised, Some(value));
    }

    /// Makes a frame the innermost known one, if it is known.
    unsafe fn find(&mut self, frame: RunningFrame) -> bool {
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

    /// A frame is left by an exception.
    ///
    /// # Safety
    /// As [`raised`](Self::raised).
    pub(super) unsafe fn unwound(
        &mut self,
        state: *mut ffi::PyThreadState,
        frame: RunningFrame,
        exception: *mut ffi::PyObject,
    ) {
        // SAFETY: as in `raised`.
        unsafe {
            self.be_in(state);
            if !self.find(frame) {
                return;
            }
            if let Some(top) = (*self.current).frames.pop()
                && let Some(pending) = unit_of(top.plan, top.pending)
            {
                self.failed(pending, exception);
            }
        }
    }

    /// The plan of a code object; made at its first use.
    ///
    /// # Safety
    /// The GIL is held; `frame` is live and runs `code`.
    pub(super) unsafe fn plan(
        &mut self,
        code: *mut ffi::PyObject,
        frame: RunningFrame,
    ) -> Option<*mut OwnedPlan> {
        // SAFETY: the slot holds nothing but what is put there below.
        unsafe {
            let known: *mut OwnedPlan = self.extra.get(code).cast();
            if !known.is_null() && (*known).recording == self.recording {
                return Some(known);
            }
            let facts = observe::facts(code);
            let [file, function] = [facts.filename, facts.qualname].map(|object| text(object));
            let module = module_of(frame);
            let mut plan = Plan::empty();
            if self.filter.wants_code(&file, &function, &module) {
                match observe::instructions(code) {
                    Some(instructions) => {
                        let filter = &self.filter;
                        plan =
                            Plan::new(&self.opcodes, &instructions, facts.nlocals, |kind, name| {
                                filter.wants_operation(kind, plain_name(&facts, name).as_deref())
                            });
                    }
                    None => {
                        let operation = self.operations;
                        let note =
                            format!("{file}: {function} is not understood, and not recorded");
                        raw::push_row(
                            &mut self.words,
                            &Row::Note {
                                operation,
                                text: &note,
                            },
                        );
                    }
                }
            }
            if plan.wanted {
                plan.code = self.codes;
                self.codes += 1;
                let row = Row::Code {
                    file: self.intern(&file),
                    name: self.intern(&function),
                    module: self.intern(&module),
                    line: u32::try_from(facts.first_line).unwrap_or(0),
                };
                raw::push_row(&mut self.words, &row);
            }
            let plan = Box::into_raw(Box::new(OwnedPlan {
                plan,
                recording: self.recording,
                #[cfg(Py_3_12)]
                reports: false,
            }));
            if !self.extra.set(code, plan.cast()) {
                drop(Box::from_raw(plan));
                return None;
            }
            Some(plan)
        }
    }

    /// Whether anything in a code object is to be reported.
    ///
    /// # Safety
    /// As [`plan`](Self::plan).
    pub(super) unsafe fn wants_code(
        &mut self,
        code: *mut ffi::PyObject,
        frame: RunningFrame,
    ) -> bool {
        // SAFETY: passed on.
        unsafe {
            self.plan(code, frame)
                .is_some_and(|plan| (*plan).plan.wanted)
        }
    }

    /// Whether a code object is already made to report; from now on it is.
    ///
    /// # Safety
    /// The GIL is held; `code` is a code object.
    #[cfg(Py_3_12)]
    pub(super) unsafe fn watch_once(&mut self, code: *mut ffi::PyObject) -> bool {
        // SAFETY: the slot holds a plan, or nothing.
        unsafe {
            let plan: *mut OwnedPlan = self.extra.get(code).cast();
            !plan.is_null() && std::mem::replace(&mut (*plan).reports, true)
        }
    }

    fn forget_plan(&mut self, plan: *mut OwnedPlan) {
        for thread in self.threads.values_mut() {
            for frame in &mut thread.frames {
                if frame.plan == plan {
                    // Left long ago, unnoticed: it is never found again.
                    frame.frame = RunningFrame::NONE;
                    if frame.pending != NOWHERE {
                        frame.pending = NOWHERE;
                    }
                }
            }
        }
    }

    /// The index of a site; defined at its first use.
    #[cold]
    unsafe fn site(
        &mut self,
        code: *mut ffi::PyObject,
        plan: *mut OwnedPlan,
        unit: u32,
        this: &Unit,
    ) -> u32 {
        // SAFETY: as in `instruction`.
        unsafe {
            let facts = observe::facts(code);
            let name = self.name_of(&facts, this.name).unwrap_or_default();
            let name = self.intern(&name);
            let row = SiteRow {
                code: (*plan).plan.code,
                kind: this.kind,
                name,
                offset: 2 * unit,
                position: observe::location(code, unit),
            };
            let index = self.define_site(row);
            this.site.set(index);
            index
        }
    }

    fn define_site(&mut self, row: SiteRow) -> u32 {
        raw::push_row(&mut self.words, &Row::Site(row));
        self.sites += 1;
        self.sites - 1
    }

    /// The index of a string.
    fn intern(&mut self, text: &str) -> u32 {
        if let Some(&index) = self.strings.get(text) {
            return index;
        }
        let index = self.strings.len() as u32;
        raw::push_row(&mut self.words, &Row::String(text));
        self.strings.insert(text.to_owned(), index);
        index
    }

    unsafe fn name_of(&self, facts: &CodeFacts, name: Name) -> Option<String> {
        match name {
            Name::Operator(index) => self.opcodes.operators.get(index as usize).cloned(),
            Name::Comparison(index) => self.opcodes.comparisons.get(index as usize).cloned(),
            // SAFETY: passed on.
            other => unsafe { plain_name(facts, other) },
        }
    }

    /// The serial of the task that runs, or zero.
    unsafe fn task(&mut self) -> u64 {
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

    /// An operation begins on a watched object, through its proxy.
    ///
    /// # Safety
    /// The GIL is held by the thread that runs; the objects are alive.
    pub(super) unsafe fn watched(
        &mut self,
        state: *mut ffi::PyThreadState,
        opname: &str,
        operands: &[*mut ffi::PyObject],
    ) {
        // SAFETY: the frames of a thread are live while the GIL is held.
        unsafe {
            self.be_in(state);
            if self.words.len() + ROOM > BUFFER {
                self.hand_over();
            }
            self.bury();
            let mut place = (String::new(), String::new(), String::new(), [0; 4]);
            if let Some(frame) = RunningFrame::find(state) {
                let facts = observe::facts(frame.code());
                place = (
                    text(facts.filename),
                    text(facts.qualname),
                    module_of(frame),
                    observe::location(frame.code(), frame.unit()),
                );
                // What is done to the proxy by a finalizer is no part of what came before.
                self.find(frame);
                self.settle_caller();
            }
            let (file, function, module, position) = place;
            let name = self.intern(opname);
            let file = self.intern(&file);
            let function = self.intern(&function);
            let key = (file, function, position, name);
            let site = match self.watch_sites.get(&key) {
                Some(&site) => site,
                None => {
                    let module = self.intern(&module);
                    raw::push_row(
                        &mut self.words,
                        &Row::Code {
                            file,
                            name: function,
                            module,
                            line: 0,
                        },
                    );
                    let code = self.codes;
                    self.codes += 1;
                    let site = self.define_site(SiteRow {
                        code,
                        kind: Kind::Watch,
                        name,
                        offset: 0,
                        position,
                    });
                    self.watch_sites.insert(key, site);
                    site
                }
            };
            self.time();
            self.operations += 1;
            let mut values = Vec::with_capacity(operands.len());
            for &operand in operands.iter().take(usize::from(OPERANDS_MAX)) {
                values.push(self.names.value(operand, &mut self.words));
            }
            self.words
                .push(raw::OPERATION | (values.len() as u64) << 8 | u64::from(site) << 32);
            for (first, second) in values {
                self.words.push(first);
                self.words.extend(second);
            }
        }
    }

    /// An operation on a watched object ends.
    ///
    /// # Safety
    /// As [`watched`](Self::watched).
    pub(super) unsafe fn watch_ended(
        &mut self,
        state: *mut ffi::PyThreadState,
        status: Status,
        value: *mut ffi::PyObject,
    ) {
        // SAFETY: passed on.
        unsafe {
            self.be_in(state);
            if let Some(frame) = RunningFrame::find(state) {
                self.find(frame);
            }
            self.time();
            let value = self.names.value(value, &mut self.words);
            self.end(status, Some(value));
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
    pub(super) fn finish(mut self) -> (Result<Option<Writer>, Error>, Vec<*mut ffi::PyObject>) {
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

/// Whether an exception is what ends an iteration.
unsafe fn is_stop_iteration(exception: *mut ffi::PyObject) -> bool {
    // SAFETY: a live exception, or null.
    unsafe {
        !exception.is_null()
            && ffi::PyType_IsSubtype(ffi::Py_TYPE(exception), ffi::PyExc_StopIteration.cast()) != 0
    }
}

/// The slots of a call: the callable, its `self` or [`NOWHERE`], the first argument, and behind the
/// last one.
unsafe fn call(frame: RunningFrame, this: &Unit) -> [u32; 4] {
    let base = this.top - u32::from(this.count);
    // SAFETY: the operands of a call are live; either of the first two may be null.
    unsafe {
        if cfg!(Py_3_13) {
            // The callable, its `self` or null, arguments, perhaps the names of keywords.
            let own = if frame.slot(base + 1).is_null() {
                NOWHERE
            } else {
                base + 1
            };
            let names = u32::from(matches!(this.name, Name::Keywords(_)));
            [base, own, base + 2, this.top - names]
        } else if frame.slot(base).is_null() {
            [base + 1, NOWHERE, base + 2, this.top]
        } else {
            [base, base + 1, base + 2, this.top]
        }
    }
}

/// The name of an operation, unless it is an operator.
unsafe fn plain_name(facts: &CodeFacts, name: Name) -> Option<String> {
    // SAFETY: indices as the compiler made them, checked; the tuples belong to the code object.
    unsafe {
        let item = |tuple: *mut ffi::PyObject, index: u32| {
            let index = index as isize;
            (index < ffi::PyTuple_GET_SIZE(tuple)).then(|| ffi::PyTuple_GET_ITEM(tuple, index))
        };
        match name {
            Name::None | Name::Operator(_) | Name::Comparison(_) => None,
            Name::Global(index) => Some(text(item(facts.names, index)?)),
            Name::Variable(index) => Some(text(item(facts.locals, index)?)),
            Name::Text(text) => Some(text.to_owned()),
            Name::Keywords(index) => {
                let names = item(facts.consts, index)?;
                if ffi::PyTuple_Check(names) == 0 {
                    return None;
                }
                let names: Vec<String> = (0..ffi::PyTuple_GET_SIZE(names))
                    .map(|index| text(ffi::PyTuple_GET_ITEM(names, index)))
                    .collect();
                Some(names.join(","))
            }
        }
    }
}

unsafe fn text(object: *mut ffi::PyObject) -> String {
    let mut bytes = Vec::new();
    // SAFETY: passed on.
    unsafe { string(object, 4096, &mut bytes) };
    String::from_utf8_lossy(&bytes).into_owned()
}

/// `__name__` in the globals of a frame.
unsafe fn module_of(frame: RunningFrame) -> String {
    // SAFETY: the globals of a frame are a dict or of a class derived from it, whose own dict is
    // asked: no code of that class runs.
    unsafe {
        let globals = frame.globals();
        if globals.is_null() || ffi::PyDict_Check(globals) == 0 {
            return String::new();
        }
        let name = ffi::PyDict_GetItemString(globals, c"__name__".as_ptr());
        if name.is_null() {
            String::new()
        } else {
            text(name)
        }
    }
}
