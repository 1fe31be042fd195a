//! Ending a coroutine that stands at an `await`, with a result that was computed elsewhere.
//!
//! The frame is given other code, of the same size, which returns or raises what lies on its stack; what
//! the frame held is dropped. Whoever awaits the coroutine continues as if it had ended by itself.

use std::ffi::c_int;
use std::ptr;

use pyo3_ffi::{
    Py_DECREF, Py_INCREF, Py_TYPE, PyCode_Type, PyErr_SetString, PyExc_TypeError, PyExc_ValueError,
    PyObject,
};

use crate::layout::{AHEAD, Code, Generator, SUSPENDED};
use crate::suspended::{Kind, Stage, stage};

/// The unit at which the new code begins to run: a `RESUME`.
const START: usize = 1;

/// Gives a coroutine at rest `code`, with `value` as the only thing on its stack. -1: an exception is
/// set, and nothing has changed.
///
/// The code must have as many variables and as large a stack as the one before, and go on at its second
/// instruction.
///
/// # Safety
/// See the crate. The code takes two values off the stack, the sent one and `value`, and leaves the
/// frame by that.
pub unsafe fn finish_with(
    coroutine: *mut PyObject,
    code: *mut PyObject,
    value: *mut PyObject,
) -> c_int {
    // SAFETY: kinds and sizes are checked before anything is changed. Every reference that the frame
    // gives up is collected first and released last, when the frame is whole again: releasing runs
    // Python code.
    unsafe {
        if Kind::of(coroutine) != Some(Kind::Coroutine) || Py_TYPE(code) != &raw mut PyCode_Type {
            PyErr_SetString(
                PyExc_TypeError,
                c"a coroutine and a code object are needed".as_ptr(),
            );
            return -1;
        }
        if stage(coroutine) != Stage::AtRest {
            PyErr_SetString(
                PyExc_ValueError,
                c"the coroutine is running, or has ended".as_ptr(),
            );
            return -1;
        }
        let generator = coroutine.cast::<Generator>();
        let frame = &raw mut (*generator).frame;
        let (old, new) = ((*frame).code.cast::<Code>(), code.cast::<Code>());
        let variables = usize::try_from((*old).nlocalsplus).unwrap_or(0);
        if (*old).nlocalsplus != (*new).nlocalsplus
            || (*old).stacksize != (*new).stacksize
            || (*new).stacksize < 2
            || (*new).base.ob_size < 4
        {
            PyErr_SetString(
                PyExc_ValueError,
                c"the code does not fit the frame".as_ptr(),
            );
            return -1;
        }
        let slots = (&raw mut (*frame).localsplus).cast::<*mut PyObject>();
        let top = usize::try_from((*frame).stacktop).unwrap_or(0);
        let mut given_up: Vec<*mut PyObject> = Vec::with_capacity(top + 2);
        for index in 0..top.max(variables) {
            let slot = slots.add(index);
            given_up.push(*slot);
            *slot = ptr::null_mut();
        }
        Py_INCREF(value);
        *slots.add(variables) = value;
        (*frame).stacktop = c_int::try_from(variables + 1).unwrap_or(c_int::MAX);
        Py_INCREF(code);
        given_up.push((*frame).code.cast());
        (*frame).code = code.cast();
        #[cfg(not(Py_3_12))]
        {
            Py_INCREF(code);
            given_up.push((*generator).code.cast());
            (*generator).code = code.cast();
        }
        // `AHEAD` is how far the instruction pointer stands before the next instruction.
        (*frame).instruction = (&raw const (*new).adaptive)
            .cast::<u16>()
            .wrapping_add(START)
            .wrapping_sub(AHEAD);
        given_up.push((*generator).handled.value);
        (*generator).handled.value = ptr::null_mut();
        (*generator).state = SUSPENDED;
        for object in given_up {
            if !object.is_null() {
                Py_DECREF(object);
            }
        }
        0
    }
}
