//! Whether the structs of this build are those of the running interpreter.

use crate::layout;

/// Whether the running interpreter is one whose structs this build knows.
///
/// # Errors
/// One line that says what runs and what is supported.
pub fn supported() -> Result<(), String> {
    // SAFETY: an integer constant that libpython exports since 3.11, never written.
    let version = unsafe { pyo3_ffi::Py_Version };
    let (major, minor) = (version >> 24, (version >> 16) & 0xff);
    if (major, minor) != (3, u64::from(layout::MINOR)) {
        return Err(format!(
            "this build of objspace is for CPython 3.{}, and this is Python {major}.{minor}; \
             objspace supports CPython 3.11, 3.12 and 3.13, each with a build of its own",
            layout::MINOR
        ));
    }
    offsets::check()
}

/// CPython 3.13 says itself where its fields are; the answer must be the one compiled in.
#[cfg(Py_3_13)]
mod offsets {
    use std::mem::offset_of;

    use crate::layout::{Code, Frame, Thread};

    /// The beginning of `_Py_DebugOffsets`, the first field of `_PyRuntime`.
    #[repr(C)]
    struct DebugOffsets {
        cookie: [u8; 8],
        version: u64,
        free_threaded: u64,
        runtime_state: [u64; 3],
        interpreter_state: [u64; 13],
        /// size, prev, next, interp, current_frame, thread_id, native_thread_id, datastack, status
        thread_state: [u64; 9],
        /// size, previous, executable, instr_ptr, localsplus, owner
        interpreter_frame: [u64; 6],
        /// size, filename, name, qualname, linetable, firstlineno, argcount, localsplusnames,
        /// localspluskinds, co_code_adaptive
        code_object: [u64; 10],
    }

    unsafe extern "C" {
        static _PyRuntime: DebugOffsets;
    }

    pub(super) fn check() -> Result<(), String> {
        // SAFETY: `_PyRuntime` is exported by every 3.13 and begins with this struct, whose cookie
        // is checked before anything else of it is used. These fields are never written.
        let offsets = unsafe { &_PyRuntime };
        if offsets.cookie != *b"xdebugpy" {
            return Err(
                "this Python has no table of offsets; objspace supports CPython only".to_owned(),
            );
        }
        if offsets.free_threaded != 0 {
            return Err(
                "this is a free-threaded Python, which objspace does not support".to_owned(),
            );
        }
        let (thread, frame, code) = (
            &offsets.thread_state,
            &offsets.interpreter_frame,
            &offsets.code_object,
        );
        let pairs = [
            (
                "thread.current_frame",
                thread[4],
                offset_of!(Thread, current_frame),
            ),
            ("frame", frame[0], size_of::<Frame>()),
            ("frame.previous", frame[1], offset_of!(Frame, previous)),
            ("frame.executable", frame[2], offset_of!(Frame, code)),
            ("frame.instr_ptr", frame[3], offset_of!(Frame, instruction)),
            ("frame.localsplus", frame[4], offset_of!(Frame, localsplus)),
            ("frame.owner", frame[5], offset_of!(Frame, owner)),
            (
                "code.localsplusnames",
                code[7],
                offset_of!(Code, localsplusnames),
            ),
            ("code.co_code_adaptive", code[9], offset_of!(Code, adaptive)),
        ];
        match pairs
            .iter()
            .find(|(_, theirs, ours)| *theirs != *ours as u64)
        {
            None => Ok(()),
            Some((name, theirs, ours)) => Err(format!(
                "this Python keeps {name} at {theirs} and objspace expects it at {ours}: \
                 it was changed, and objspace cannot work with it"
            )),
        }
    }
}

#[cfg(not(Py_3_13))]
mod offsets {
    /// Before 3.13 there is nothing to ask; `tools/layout-check` compares with the headers.
    #[expect(clippy::unnecessary_wraps, reason = "its twin for 3.13 can fail")]
    pub(super) fn check() -> Result<(), String> {
        Ok(())
    }
}
