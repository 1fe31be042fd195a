//! What the calling bytecode will do with the attribute that it asks for.
//!
//! To be called from the `tp_getattro` of a type: `x.a.b.c(1)` asks for `a`, and the bytecode of
//! the caller tells that `b`, `c` and a call follow at once. Whoever knows that can do the whole
//! chain in one go. The answers here are never a guess: if anything could tell the difference
//! (another object in between, a tracer, an argument that runs code or fails to evaluate), the
//! answer is that nothing is known.

use pyo3_ffi::compat::PyThreadState_GetUnchecked;
use pyo3_ffi::{
    Py_DECREF, Py_SIZE, Py_TYPE, PyCell_Get, PyCell_Type, PyDict_CheckExact, PyDict_Contains,
    PyErr_Clear, PyInterpreterState, PyObject, PyThreadState_GetInterpreter, PyTuple_GET_ITEM,
    PyTuple_GET_SIZE,
};

use crate::analysis::{Analysis, Need, Site};
use crate::extra::Slot;
use crate::layout::{Code, Frame, INSTRUMENTED, Thread};
use crate::thread::is_python;

/// What follows the fetch of an attribute.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Chain {
    /// The attributes that are fetched next, each of the one before. Borrowed from the code object
    /// that runs: take references to keep them longer than this call of `tp_getattro`.
    pub names: Vec<*mut PyObject>,
    /// Whether the last attribute (the one asked for, if `names` is empty) is called at once. The
    /// arguments are then evaluated without an exception and without running anybody's code.
    pub call: bool,
}

/// Whether the attribute is fetched to be called at once: `owner.name(…)`.
///
/// True only if the innermost Python frame is executing the fetch of exactly this name of exactly
/// this object as a method, the call follows, and no instruction in between can have a side effect,
/// raise or be observed.
///
/// # Safety
/// See the crate. To be called from `tp_getattro` with its own arguments, before it runs any Python
/// code.
pub unsafe fn method_call_position(owner: *mut PyObject, name: *mut PyObject) -> bool {
    // SAFETY: passed on.
    unsafe { Here::find(owner, name) }.is_some_and(|here| {
        // SAFETY: nothing has run since `here` was found.
        here.site.method && here.site.plan.call && unsafe { here.can_happen() }
    })
}

/// What follows the fetch of this attribute. `None`: nothing is known, or nothing follows: the value
/// of the attribute goes to whoever asked.
///
/// # Safety
/// As [`method_call_position`].
pub unsafe fn attribute_chain(owner: *mut PyObject, name: *mut PyObject) -> Option<Chain> {
    // SAFETY: the frame that was found runs the code whose names are read; indices are within the
    // tuple, as the compiler made them (and `name` checks).
    unsafe {
        let here = Here::find(owner, name)?;
        let plan = &here.site.plan;
        let call = plan.call && here.can_happen();
        if plan.chain.is_empty() && !call {
            return None;
        }
        let mut names = Vec::with_capacity(plan.chain.len());
        for &index in &plan.chain {
            names.push(here.name(index)?);
        }
        // Not `can_happen`: without the call its arguments do not matter, but a tracer does.
        if !call && !here.unobserved() {
            return None;
        }
        Some(Chain { names, call })
    }
}

/// Whether the stack of a code object is understood; if not, nothing is known about its
/// attributes. For tests, which ask it about the whole standard library.
///
/// # Safety
/// See the crate; `code` is a code object.
#[doc(hidden)]
pub unsafe fn understands(code: *mut PyObject) -> bool {
    // SAFETY: passed on.
    match unsafe { Analysis::of(code.cast()) } {
        Some(analysis) => analysis.understood,
        None => {
            // SAFETY: the GIL is held.
            unsafe { PyErr_Clear() };
            false
        }
    }
}

/// The instruction that is being executed.
struct Here<'a> {
    frame: *const Frame,
    code: *const Code,
    site: &'a Site,
}

impl Here<'_> {
    /// # Safety
    /// As [`method_call_position`]. The result is to be used before any Python code runs.
    #[inline]
    unsafe fn find(owner: *mut PyObject, name: *mut PyObject) -> Option<Self> {
        // SAFETY: the GIL is held, so this thread has a thread state, whose innermost frame stands
        // still while this thread is here. If it belongs to Python code, its code and instruction
        // are valid: the evaluation loop stores the instruction before it executes it. The object's
        // slot is within the frame, as the compiler reserved it, and initialised, as it was pushed.
        unsafe {
            let thread = PyThreadState_GetUnchecked();
            if thread.is_null() || (*thread.cast::<Thread>()).is_traced() {
                return None;
            }
            let frame: *const Frame = (*thread.cast::<Thread>()).frame();
            if frame.is_null() || !is_python(frame) {
                return None;
            }
            let code: *mut Code = (*frame).code.cast();
            let offset = (*frame)
                .instruction
                .addr()
                .checked_sub((&raw const (*code).adaptive).addr())?;
            let unit = offset / size_of::<u16>();
            if unit >= usize::try_from(Py_SIZE(code.cast())).ok()? {
                return None;
            }
            let analysis = analysis(code, PyThreadState_GetInterpreter(thread))?;
            let here = Self {
                frame,
                code,
                site: analysis.site(u32::try_from(unit).ok()?)?,
            };
            // The very name object of the bytecode: whoever asks by another one is somebody else.
            let exact = here.name(here.site.name)? == name && here.local(here.site.slot) == owner;
            exact.then_some(here)
        }
    }

    /// Whether the call that follows will happen, unobserved.
    ///
    /// # Safety
    /// As [`find`](Self::find).
    unsafe fn can_happen(&self) -> bool {
        // SAFETY: passed on.
        unsafe { self.unobserved() && self.site.plan.needs.iter().all(|&need| self.has(need)) }
    }

    /// Whether no instruction until the end of the plan reports to a tracer or monitor.
    ///
    /// # Safety
    /// As [`find`](Self::find).
    unsafe fn unobserved(&self) -> bool {
        // SAFETY: the units are within the code; see `sweep` on who writes them.
        unsafe {
            if !(*self.code).is_monitored() {
                return true;
            }
            let first = (&raw const (*self.code).adaptive).cast::<u16>();
            self.site
                .plan
                .units
                .iter()
                .all(|&unit| *first.add(unit as usize).cast::<u8>() < INSTRUMENTED)
        }
    }

    /// Whether what an argument refers to is there.
    ///
    /// # Safety
    /// As [`find`](Self::find).
    unsafe fn has(&self, need: Need) -> bool {
        // SAFETY: a frame that runs has valid namespaces (its locals may be null), and all its local
        // slots are initialised.
        unsafe {
            match need {
                Need::Local(index) => !self.local(index).is_null(),
                Need::Cell(index) => {
                    let cell = self.local(index);
                    if cell.is_null() || Py_TYPE(cell) != &raw mut PyCell_Type {
                        return false;
                    }
                    let value = PyCell_Get(cell);
                    if value.is_null() {
                        return false;
                    }
                    // The cell holds it too.
                    Py_DECREF(value);
                    true
                }
                Need::Global(index) => self.name(index).is_some_and(|name| self.global(name)),
                Need::Name(index) => self.name(index).is_some_and(|name| {
                    let locals = (*self.frame).locals;
                    !locals.is_null()
                        && PyDict_CheckExact(locals) != 0
                        && (contains(locals, name) || self.global(name))
                }),
            }
        }
    }

    /// # Safety
    /// As [`find`](Self::find).
    unsafe fn global(&self, name: *mut PyObject) -> bool {
        // SAFETY: both namespaces of a running frame are objects.
        unsafe {
            let (globals, builtins) = ((*self.frame).globals, (*self.frame).builtins);
            PyDict_CheckExact(globals) != 0
                && PyDict_CheckExact(builtins) != 0
                && (contains(globals, name) || contains(builtins, name))
        }
    }

    /// # Safety
    /// As [`find`](Self::find); the index is that of a local or of a value on the stack.
    unsafe fn local(&self, index: u32) -> *mut PyObject {
        // SAFETY: the frame has that many slots.
        unsafe {
            *(&raw const (*self.frame).localsplus)
                .cast::<*mut PyObject>()
                .add(index as usize)
        }
    }

    /// # Safety
    /// As [`find`](Self::find).
    unsafe fn name(&self, index: u32) -> Option<*mut PyObject> {
        // SAFETY: `co_names` is a tuple; the index is checked.
        unsafe {
            let names = (*self.code).names;
            let index = isize::try_from(index).ok()?;
            (index < PyTuple_GET_SIZE(names)).then(|| PyTuple_GET_ITEM(names, index))
        }
    }
}

/// Whether a dict has a key, which is a name.
///
/// # Safety
/// See the crate.
unsafe fn contains(dict: *mut PyObject, name: *mut PyObject) -> bool {
    // SAFETY: an exact dict and a string. Other code runs only if the dict has keys that are no
    // strings, and then it would run for the lookup that follows just the same.
    unsafe {
        match PyDict_Contains(dict, name) {
            1 => true,
            0 => false,
            _ => {
                PyErr_Clear();
                false
            }
        }
    }
}

/// The analyses of code objects.
static ANALYSES: Slot<Analysis> = Slot::new();

/// The analysis of a code object; made at its first use, and freed with it.
///
/// # Safety
/// See the crate. The result lives as long as the code object.
#[inline]
unsafe fn analysis<'a>(
    code: *mut Code,
    interpreter: *mut PyInterpreterState,
) -> Option<&'a Analysis> {
    // SAFETY: passed on.
    unsafe { ANALYSES.get(code, interpreter, || Analysis::of(code)) }
}
