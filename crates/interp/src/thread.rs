//! From a thread to its frames.

use pyo3_ffi::{Py_TYPE, PyCode_Type, PyThreadState};

use crate::layout::{Frame, OWNED_BY_GENERATOR, OWNED_BY_THREAD, Thread};

/// The innermost frame of a thread, which may belong to no Python code.
///
/// # Safety
/// `thread` is a thread state, and the calling thread holds the GIL.
pub(crate) unsafe fn current_frame(thread: *mut PyThreadState) -> *mut Frame {
    // SAFETY: the layout is that of the running interpreter (`supported`).
    unsafe { (*thread.cast::<Thread>()).frame() }
}

/// Whether a frame belongs to Python code: a function, a module, or a generator that runs.
///
/// # Safety
/// `frame` is a frame of a thread of this interpreter, and the calling thread holds the GIL.
pub(crate) unsafe fn is_python(frame: *const Frame) -> bool {
    // SAFETY: the owner is set in every frame that is linked. A frame of the C stack has no code,
    // or (3.12) a tiny one of its own, and its other fields mean nothing.
    unsafe {
        matches!((*frame).owner, OWNED_BY_THREAD | OWNED_BY_GENERATOR)
            && !(*frame).code.is_null()
            && Py_TYPE((*frame).code) == &raw mut PyCode_Type
    }
}

/// Where the calling thread is: its innermost frame and the instruction that runs there. Two calls
/// from C code that answer the same were made by one instruction, or by the same one run again.
///
/// # Safety
/// The calling thread holds the GIL.
pub unsafe fn position() -> (usize, usize) {
    // SAFETY: attached, so that there is a thread state; its frames are linked and live.
    unsafe {
        let frame = current_frame(pyo3_ffi::PyThreadState_Get());
        if frame.is_null() {
            (0, 0)
        } else {
            (frame as usize, (*frame).instruction as usize)
        }
    }
}
