//! Hears that somebody sets a trace function (a debugger, coverage), which disturbs the reports.
//!
//! On 3.11 there is one trace function per thread, and another one would take the recorder's place.
//! On 3.12 and 3.13 the code that runs at that moment can cease to report its instructions, although
//! `sys.monitoring` says that it does. Both are put right at once if it was `sys.settrace`, which
//! `objspace.dump` stands in for while a recording lasts; and if it was C code, as soon as the main
//! thread makes its next call or turn of a loop. An audit hook hears of that; it stays when the
//! recording has ended, since it cannot be removed, and does nothing then.

use std::ffi::{CStr, c_char, c_int, c_void};
use std::sync::atomic::{AtomicBool, Ordering};

use objspace_interp::observe::add_audit_hook;
use pyo3::ffi;
use pyo3::prelude::*;

use super::monitor;

static ON: AtomicBool = AtomicBool::new(false);
static IS_ADDED: AtomicBool = AtomicBool::new(false);

/// Begins to listen.
pub(super) fn start() {
    ON.store(true, Ordering::Relaxed);
    if !IS_ADDED.swap(true, Ordering::Relaxed) {
        // SAFETY: the hook needs no more than the GIL.
        unsafe { add_audit_hook(audit) };
    }
}

/// Ends it.
pub(super) fn stop() {
    ON.store(false, Ordering::Relaxed);
}

unsafe extern "C" fn audit(event: *const c_char, _: *mut ffi::PyObject, _: *mut c_void) -> c_int {
    if ON.load(Ordering::Relaxed)
        // SAFETY: the interpreter hands over the name of the event.
        && unsafe { CStr::from_ptr(event) } == c"sys.settrace"
    {
        // The event comes before the change. If too many calls are pending already, one of those
        // is this one, or the next change will do.
        // SAFETY: the function may be called by the main thread at any time.
        unsafe { ffi::Py_AddPendingCall(Some(retrace), std::ptr::null_mut()) };
    }
    0
}

extern "C" fn retrace(_: *mut c_void) -> c_int {
    // SAFETY: the main thread calls this between two instructions, with the GIL.
    let py = unsafe { Python::assume_attached() };
    match _dump_retrace(py) {
        Ok(_) => 0,
        Err(error) => {
            error.restore(py);
            -1
        }
    }
}

/// After a trace function was set: puts the reports right. False: nothing is recorded.
#[pyfunction]
pub(crate) fn _dump_retrace(py: Python<'_>) -> PyResult<bool> {
    if !ON.load(Ordering::Relaxed) {
        return Ok(false);
    }
    monitor::retrace(py)?;
    Ok(true)
}
