//! What the interpreter reports: an instruction is about to be executed, an exception is raised, a
//! frame is left. Each report first ends the operation of its frame, then begins one.

use objspace_interp::observe::{self, RunningFrame};
use objspace_log::raw::{self, word};
use objspace_log::{Kind, Status};
use pyo3::ffi;

use super::super::plan::{
    End, LEAVE, NOWHERE, Name, OPERANDS_MAX, OPERATION, Operands, PREFIX, Unit,
};
use super::plans::{OwnedPlan, unit_of};
use super::{BUFFER, ROOM, Recorder};

impl Recorder {
    /// An instruction is about to be executed. False: never report this one again.
    ///
    /// # Safety
    /// The GIL is held; `frame` is the innermost frame of `state`, and stands before the
    /// instruction at `unit`.
    #[inline]
    pub(in crate::dump) unsafe fn instruction(
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
            let mut plan = std::ptr::null_mut();
            if let Some(top) = (*self.current).frames.last()
                && top.frame == frame
                && top.code == code
            {
                plan = top.plan;
            }
            let known = !plan.is_null();
            if !known {
                match self.plan(code, frame) {
                    Some(found) => plan = found,
                    None => return false,
                }
            }
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
            let mut begins = this.flags & OPERATION != 0;
            if begins && self.looks_at_operands {
                begins = self.wants(frame, this);
            }
            if !known {
                if !begins && self.looks_at_operands && !self.is_known(frame, code) {
                    return true;
                }
                self.enter(frame, code, plan);
            }
            let Some(top) = (*self.current).frames.last_mut() else {
                return true;
            };
            if top.pending != NOWHERE {
                let pending = unit_of(plan, top.pending);
                top.pending = NOWHERE;
                if let Some(pending) = pending {
                    self.ended_before(frame, pending, unit);
                }
            }
            if begins {
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
    pub(in crate::dump) unsafe fn resumed(
        &mut self,
        state: *mut ffi::PyThreadState,
        frame: RunningFrame,
    ) {
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
    pub(super) unsafe fn ended_before(&mut self, frame: RunningFrame, pending: &Unit, unit: u32) {
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
                End::Truth(_) if unit == pending.branch => {
                    self.end_with(pending, frame.slot(pending.slot));
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
    pub(super) unsafe fn end_with(&mut self, pending: &Unit, result: *mut ffi::PyObject) {
        if matches!(pending.kind, Kind::Call | Kind::CallEx) {
            self.time();
        }
        // SAFETY: the caller's promise.
        let value = unsafe { self.names.value(result, &mut self.words) };
        self.end(Status::Result, Some(value));
    }

    #[inline]
    pub(super) fn end(&mut self, status: Status, value: Option<(u64, Option<u64>)>) {
        self.bury();
        self.words.push(raw::END | (status as u64) << 8);
        if let Some((first, second)) = value {
            self.words.push(first);
            if let Some(second) = second {
                self.words.push(second);
            }
        }
    }

    pub(super) fn lose(&mut self) {
        self.lost += 1;
        self.end(Status::Lost, None);
    }

    #[inline]
    pub(super) unsafe fn operation(
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

    /// Writes the beginning of an operation.
    #[inline]
    unsafe fn begin(&mut self, frame: RunningFrame, this: &Unit, site: u32) {
        // SAFETY: as in `instruction`.
        unsafe {
            if !self.begin_known(frame, this, site) {
                self.begin_unknown(frame, this, site);
            }
        }
    }

    /// Writes the beginning of an operation, if all its operands have names already.
    #[inline]
    unsafe fn begin_known(&mut self, frame: RunningFrame, this: &Unit, site: u32) -> bool {
        // SAFETY: as in `instruction`. No more is written than there is room for, and all that is
        // counted is written.
        unsafe {
            // One operand more than counted, and two words each.
            self.words.reserve(2 * usize::from(OPERANDS_MAX) + 4);
            let names = &self.names;
            let head = self.words.as_mut_ptr().add(self.words.len());
            let mut next = head.add(1);
            let mut count = 0_u64;
            let mut put = |object: *mut ffi::PyObject| {
                count += 1;
                match names.known(object) {
                    Some((first, second)) => {
                        next.write(first);
                        next = next.add(1);
                        if let Some(second) = second {
                            next.write(second);
                            next = next.add(1);
                        }
                        true
                    }
                    None => false,
                }
            };
            let top = this.top;
            let all = match this.operands {
                Operands::Forward => {
                    let operands = u32::from(this.count);
                    this.count <= OPERANDS_MAX
                        && (0..operands).all(|index| put(frame.slot(top - operands + index)))
                }
                Operands::At(places) => places[..usize::from(this.count)]
                    .iter()
                    .all(|&distance| put(frame.slot(top - u32::from(distance)))),
                Operands::Call if this.count <= OPERANDS_MAX => {
                    let [callable, own, first, last] = call(frame, this);
                    put(frame.slot(callable))
                        && (own == NOWHERE || put(frame.slot(own)))
                        && (first..last).all(|slot| put(frame.slot(slot)))
                }
                Operands::Call | Operands::CallEx => false,
            };
            if all {
                head.write(raw::OPERATION | count << 8 | u64::from(site) << 32);
                let length = next.offset_from_unsigned(self.words.as_ptr());
                self.words.set_len(length);
            }
            all
        }
    }

    /// The same for any operands: definitions of those that are new come before it.
    #[cold]
    unsafe fn begin_unknown(&mut self, frame: RunningFrame, this: &Unit, site: u32) {
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

    /// An operation has ended, and another instruction is being executed than the one where its
    /// result would be picked up.
    #[cold]
    pub(super) unsafe fn ended_elsewhere(
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
                End::Send => return self.lose(),
                End::Truth(_) | End::Result | End::Method | End::Next => {}
            }
            let nlocals = observe::facts(code).nlocals;
            let plan: &OwnedPlan = &*plan;
            let instructions = observe::instructions(code);
            if matches!(pending.end, End::Truth(_)) {
                let truth = instructions.and_then(|instructions| {
                    plan.plan
                        .decided(&self.opcodes, &instructions, nlocals, operation, executing)
                });
                return match truth {
                    Some(true) => self.end(Status::Result, Some((word::TRUE, None))),
                    Some(false) => self.end(Status::Result, Some((word::FALSE, None))),
                    None => self.lose(),
                };
            }
            let place = instructions.and_then(|instructions| {
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
    pub(in crate::dump) unsafe fn raised(
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

    pub(super) unsafe fn failed(&mut self, pending: &Unit, exception: *mut ffi::PyObject) {
        if matches!(pending.kind, Kind::Call | Kind::CallEx) {
            self.time();
        }
        // SAFETY: the caller's promise.
        let value = unsafe { self.names.value(exception, &mut self.words) };
        self.end(Status::Raised, Some(value));
    }

    /// A frame is left by an exception.
    ///
    /// # Safety
    /// As [`raised`](Self::raised).
    pub(in crate::dump) unsafe fn unwound(
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
}

/// Whether an exception is what ends an iteration.
pub(super) unsafe fn is_stop_iteration(exception: *mut ffi::PyObject) -> bool {
    // SAFETY: a live exception, or null.
    unsafe {
        !exception.is_null()
            && ffi::PyType_IsSubtype(ffi::Py_TYPE(exception), ffi::PyExc_StopIteration.cast()) != 0
    }
}

/// The slots of a call: the callable, its `self` or [`NOWHERE`], the first argument, and behind the
/// last one.
pub(super) unsafe fn call(frame: RunningFrame, this: &Unit) -> [u32; 4] {
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
