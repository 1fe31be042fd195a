//! The plans of code objects, each kept with its code; and the rows of the log that describe
//! code: strings, code objects and sites.

use objspace_interp::observe::{self, CodeFacts, RunningFrame};
use objspace_log::Row;
use objspace_log::raw::{self, SiteRow};
use pyo3::ffi;

use super::super::naming::string;
use super::super::plan::{NOWHERE, Name, Plan, Unit};
use super::{Active, Recorder};

/// A code object is gone: its plan goes with it, and nobody may refer to it any more.
pub(in crate::dump) unsafe extern "C" fn free_plan(extra: *mut std::ffi::c_void) {
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
pub(in crate::dump) struct OwnedPlan {
    pub(super) plan: Plan,
    pub(super) recording: u64,
    /// Whether its code is made to report.
    #[cfg(Py_3_12)]
    pub(super) reports: bool,
}

/// An instruction of a plan.
///
/// # Safety
/// The plan's code is alive for as long as the result is used.
#[inline]
pub(super) unsafe fn unit_of<'a>(plan: *mut OwnedPlan, unit: u32) -> Option<&'a Unit> {
    // SAFETY: the caller's promise; a plan is only read.
    let plan: &OwnedPlan = unsafe { &*plan };
    plan.plan.units.get(unit as usize)
}

impl Recorder {
    /// The plan of a code object; made at its first use.
    ///
    /// # Safety
    /// The GIL is held; `frame` is live and runs `code`.
    #[inline]
    pub(in crate::dump) unsafe fn plan(
        &mut self,
        code: *mut ffi::PyObject,
        frame: RunningFrame,
    ) -> Option<*mut OwnedPlan> {
        if self.last_plan.0 == code {
            return Some(self.last_plan.1);
        }
        // SAFETY: passed on.
        let plan = unsafe { self.find_plan(code, frame) }?;
        self.last_plan = (code, plan);
        Some(plan)
    }

    unsafe fn find_plan(
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
    pub(in crate::dump) unsafe fn wants_code(
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
    pub(in crate::dump) unsafe fn watch_once(&mut self, code: *mut ffi::PyObject) -> bool {
        // SAFETY: the slot holds a plan, or nothing.
        unsafe {
            let plan: *mut OwnedPlan = self.extra.get(code).cast();
            !plan.is_null() && std::mem::replace(&mut (*plan).reports, true)
        }
    }

    pub(super) fn forget_plan(&mut self, plan: *mut OwnedPlan) {
        if self.last_plan.1 == plan {
            self.last_plan = (std::ptr::null_mut(), std::ptr::null_mut());
        }
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
    pub(super) unsafe fn site(
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

    pub(super) fn define_site(&mut self, row: SiteRow) -> u32 {
        raw::push_row(&mut self.words, &Row::Site(row));
        self.sites += 1;
        self.sites - 1
    }

    /// The index of a string.
    pub(super) fn intern(&mut self, text: &str) -> u32 {
        if let Some(&index) = self.strings.get(text) {
            return index;
        }
        let index = self.strings.len() as u32;
        raw::push_row(&mut self.words, &Row::String(text));
        self.strings.insert(text.to_owned(), index);
        index
    }

    pub(super) unsafe fn name_of(&self, facts: &CodeFacts, name: Name) -> Option<String> {
        match name {
            Name::Operator(index) => self.opcodes.operators.get(index as usize).cloned(),
            Name::Comparison(index) => self.opcodes.comparisons.get(index as usize).cloned(),
            // SAFETY: passed on.
            other => unsafe { plain_name(facts, other) },
        }
    }
}

/// The name of an operation, unless it is an operator.
pub(super) unsafe fn plain_name(facts: &CodeFacts, name: Name) -> Option<String> {
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

pub(super) unsafe fn text(object: *mut ffi::PyObject) -> String {
    let mut bytes = Vec::new();
    // SAFETY: passed on.
    unsafe { string(object, 4096, &mut bytes) };
    String::from_utf8_lossy(&bytes).into_owned()
}

/// `__name__` in the globals of a frame.
pub(super) unsafe fn module_of(frame: RunningFrame) -> String {
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
