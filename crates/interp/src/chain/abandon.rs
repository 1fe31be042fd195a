//! Frames of a greenlet that has switched away are made to end without running anything.
//!
//! An exception that is thrown there passes through frames whose code has no exception table: no
//! `finally`, no `except`, no `__exit__` runs, and CPython itself drops what they hold. Such a code takes
//! the place of each frame's own. The instruction pointer of the innermost frame is also in a register,
//! where it stays one into the former code: only monitoring would look at that, so nothing is done in a
//! process where there has been any.

use pyo3_ffi::{Py_TYPE, PyCode_Type, PyObject};

use crate::layout::{Code, Frame, FrameObject};
use crate::owned::Owned;
use crate::suspended::{set_unit, unit};
use crate::thread::is_python;

/// Makes all frames from `top` (`gr_frame` of a greenlet that has switched away) to that which runs
/// `last`, without it, end at the next exception. `bare` makes a code without an exception table of a
/// code. Returns how many there were; `None`: nothing was changed, because `probe`, a code that has
/// just run for the first time, or one of the frames', has been monitored, or `bare` has failed.
///
/// # Safety
/// See the crate. `top` is as said, `probe` is a code object, and `bare` returns codes that differ in
/// the table only.
pub unsafe fn abandon(
    top: *mut PyObject,
    last: *mut PyObject,
    probe: *mut PyObject,
    bare: &mut dyn FnMut(*mut PyObject) -> Option<Owned>,
) -> Option<usize> {
    // SAFETY: the frames stand still and are linked; see `greenlet`. Each keeps a reference to its code.
    unsafe {
        if (*probe.cast::<Code>()).is_monitored() {
            return None;
        }
        let mut found: Vec<(*mut Frame, Owned)> = Vec::new();
        let mut frame = (*top.cast::<FrameObject>()).frame;
        loop {
            if frame.is_null() || !is_python(frame) {
                return None;
            }
            let code = (*frame).code;
            if code == last {
                break;
            }
            if (*code.cast::<Code>()).is_monitored() {
                return None;
            }
            let known = found.iter().find(|(other, _)| (**other).code == code);
            let made = match known {
                Some((_, made)) => Owned::new(made.as_ptr())?,
                None => bare(code)?,
            };
            if Py_TYPE(made.as_ptr()) != &raw mut PyCode_Type {
                return None;
            }
            found.push((frame, made));
            frame = (*frame).previous;
        }
        let count = found.len();
        let mut former = Vec::with_capacity(count);
        for (frame, made) in found {
            let at = unit(frame);
            former.push(Owned::taking((*frame).code));
            (*frame).code = made.into_ptr().cast();
            set_unit(frame, at);
        }
        // The innermost frame is still on its way through the instructions of its code: the caller
        // keeps them by what `bare` was given.
        drop(former);
        Some(count)
    }
}
