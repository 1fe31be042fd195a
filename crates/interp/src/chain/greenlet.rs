//! The frames of a greenlet that has switched away, read where they are.
//!
//! The greenlet library moves the C stack of a greenlet elsewhere; its frames stay, linked from the
//! innermost one, which its frame object leads to. From 3.12 on, frames of C code stand among those
//! of Python code, on the C stack: the library links past them, and keeps how it was. The innermost
//! frame waits in a call of `switch()` or `throw()`, whose result is what the greenlet is resumed with.

use std::ffi::{c_int, c_void};

use pyo3_ffi::{PyCFunction_Check, PyCFunction_GetFunction, PyObject, PyTypeObject};

use super::boundary::{self, Callee};
use super::capture::{Refused, callee_of, is_shim, refuse, waiting, was_built};
use super::{Action, Record, Then};
use crate::layout::{Code, Frame, FrameObject, OWNED_BY_THREAD, linked_before};
use crate::owned::Owned;
use crate::suspended::slots;
use crate::thread::is_python;

/// The methods by which a greenlet switches away: those of the class, and the C functions behind them.
#[derive(Clone, Copy, Debug)]
pub struct Switches {
    methods: [*mut PyObject; 2],
    functions: [usize; 2],
}

// SAFETY: the methods of a static type, which live for as long as the process; they are only compared.
unsafe impl Send for Switches {}
// SAFETY: as above.
unsafe impl Sync for Switches {}

impl Switches {
    /// From `switch` and `throw` as the class has them, and bound to some greenlet. `None`: they are
    /// not what they are in the versions known.
    ///
    /// # Safety
    /// See the crate.
    pub unsafe fn of(methods: [*mut PyObject; 2], bound: [*mut PyObject; 2]) -> Option<Self> {
        // SAFETY: passed on.
        let functions = unsafe { [function(bound[0])?, function(bound[1])?] };
        Some(Self { methods, functions })
    }

    /// Whether a callable is one of them.
    ///
    /// # Safety
    /// See the crate; null is nothing.
    pub(super) unsafe fn contain(&self, callable: *mut PyObject) -> bool {
        // SAFETY: passed on.
        self.methods.contains(&callable)
            || unsafe { function(callable) }.is_some_and(|f| self.functions.contains(&f))
    }
}

/// The address of the C code of a builtin function.
///
/// # Safety
/// See the crate; null is nothing.
unsafe fn function(object: *mut PyObject) -> Option<usize> {
    // SAFETY: the type is checked first.
    unsafe {
        if object.is_null() || PyCFunction_Check(object) == 0 {
            return None;
        }
        PyCFunction_GetFunction(object).map(|function| function as usize)
    }
}

/// The frames of a greenlet that has switched away, outermost first. `top` is its innermost frame
/// (`gr_frame`); `run` is what it runs, null if that is a chain that was resumed.
///
/// # Errors
/// See [`Refused`].
///
/// # Safety
/// See the crate. `top` is the frame object of a greenlet of this thread that has switched away, and
/// the library is one that keeps how frames were linked (3.0.3 or later).
pub unsafe fn capture_switched(
    top: *mut PyObject,
    switches: Switches,
    run: *mut PyObject,
) -> Result<Vec<Record>, Refused> {
    // SAFETY: the frames of the greenlet stand still, are linked as the module says, and have valid
    // code and slots as far as the analysis of their code says.
    unsafe {
        let mut records = Vec::new();
        let mut inner = Callee::Switch(switches);
        let mut through_c = true;
        let mut pending = None;
        let mut frame = (*top.cast::<FrameObject>()).frame;
        loop {
            if frame.is_null() || !is_python(frame) {
                return Err(Refused::NoBase);
            }
            records.push(waiting(frame, &inner, through_c, pending.take())?);
            inner = callee_of(frame);
            let outer = (*frame).previous;
            if outer.is_null() {
                break;
            }
            let before = linked_before(frame);
            through_c = (*frame).is_entered_from_c() || was_built(frame) || before != outer;
            if before != outer
                && let Some(then) = initialiser(before, outer, frame)
            {
                pending = Some(then);
                through_c = false;
            }
            frame = outer;
        }
        if !run.is_null()
            && !boundary::calls(run, inner)
            && let Some(record) = records.last()
        {
            return Err(refuse(
                record.code.as_ptr().cast(),
                record.at as usize,
                "it was not called by the greenlet itself, but by C code in between".into(),
            ));
        }
        records.reverse();
        Ok(records)
    }
}

/// If 3.13 has run `__init__` (whose frame is `frame`) on a frame of its own that keeps the new object:
/// what `outer` does with the result.
///
/// # Safety
/// `before` is what `frame` was linked to while it ran: that frame, or one of the C stack, where there
/// may be anything by now.
unsafe fn initialiser(before: *mut Frame, outer: *mut Frame, frame: *mut Frame) -> Option<Then> {
    /// More than such a frame takes.
    const NEAR: usize = 256;
    if !cfg!(Py_3_13) || before.is_null() {
        return None;
    }
    // SAFETY: frames of Python code lie one behind the other, in pieces of memory that are never on the
    // C stack. What lies between two of them, right before one of them, is such a frame itself; should a
    // piece of memory have ended just there, it is right behind the other.
    unsafe {
        let (at, next, behind) = (before.addr(), frame.addr(), end(outer));
        let adjacent = (at < next && next - at < NEAR) || at == behind;
        if !adjacent || (*before).previous != outer || !is_shim(before) {
            return None;
        }
        let new = Owned::new(slots(before, 1)[0])?;
        Some(Then {
            action: Action::Init,
            operands: vec![new],
        })
    }
}

/// The address behind a frame; 0 for one that lies in a generator.
///
/// # Safety
/// The frame is one of Python code.
unsafe fn end(frame: *mut Frame) -> usize {
    // SAFETY: passed on; no slot is read.
    unsafe {
        if (*frame).owner != OWNED_BY_THREAD {
            return 0;
        }
        let code: *mut Code = (*frame).code.cast();
        let count = usize::try_from((*code).nlocalsplus + (*code).stacksize).unwrap_or(0);
        slots(frame, 0).as_ptr().addr() + count * size_of::<*mut PyObject>()
    }
}

/// What an object refers to as one of `class`, borrowed, as it tells the collector. A greenlet that has
/// been started does so, but `gc.get_referents` does not ask it.
///
/// # Safety
/// See the crate; `class` is a type, and that of the object or a base of it.
pub unsafe fn referents(object: *mut PyObject, class: *mut PyObject) -> Vec<*mut PyObject> {
    unsafe extern "C" fn visit(object: *mut PyObject, found: *mut c_void) -> c_int {
        // SAFETY: `found` is the vector below.
        unsafe { (*found.cast::<Vec<*mut PyObject>>()).push(object) };
        0
    }
    let mut found: Vec<*mut PyObject> = Vec::new();
    // SAFETY: a traversal changes nothing, and runs no Python code.
    unsafe {
        if let Some(traverse) = (*class.cast::<PyTypeObject>()).tp_traverse {
            traverse(object, visit, (&raw mut found).cast());
        }
    }
    found
}
