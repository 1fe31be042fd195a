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
