//! Looking at running code: the instructions of a code object, and the frames and value stacks of
//! the thread that runs.
//!
//! Nothing here changes anything. How deep the value stack is comes from the code's analysis, since
//! a running frame does not keep that in memory.

use std::ffi::{c_int, c_void};
use std::slice;

use pyo3_ffi::{PyBytes_AsString, PyBytes_Size, PyObject, PyThreadState};

use crate::analysis::depths;
use crate::bytecode::Base;
use crate::layout::{
    Code, Frame, FrameObject, Jump, code_extra_index, code_get_extra, code_set_extra, ends, jump,
    small_int as layout_small_int,
};
use crate::thread::{current_frame, is_python};

/// An instruction of a code object, as compiled: without specialisation and instrumentation.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Instruction {
    /// Its unit: two bytes each.
    pub unit: u32,
    /// The unit where the next one begins.
    pub next: u32,
    /// Its opcode.
    pub opcode: u8,
    /// Its argument.
    pub argument: u32,
    /// How many values are on the stack before it; zero also if it is never reached.
    pub depth: u32,
    /// Where it may jump to.
    pub target: Option<u32>,
    /// Whether it never continues with the next one.
    pub ends: bool,
}

/// The instructions of a code object. `None`: its stack is not understood, or out of memory (no
/// exception is set).
///
/// # Safety
/// See the crate; `code` is a code object.
pub unsafe fn instructions(code: *mut PyObject) -> Option<Vec<Instruction>> {
    // SAFETY: `code` is a code object, whose exception table is a `bytes` object.
    let (base, table) = unsafe {
        let code: *mut Code = code.cast();
        let table = (*code).exceptiontable;
        let length = usize::try_from(PyBytes_Size(table)).unwrap_or(0);
        let Some(base) = Base::of(code) else {
            pyo3_ffi::PyErr_Clear();
            return None;
        };
        (
            base,
            slice::from_raw_parts(PyBytes_AsString(table).cast::<u8>(), length),
        )
    };
    let depths = depths(&base, table)?;
    base.instructions()
        .map(|instruction| {
            let argument = instruction.argument as usize;
            let target = match jump(instruction.opcode) {
                Jump::Forward => Some(instruction.next + argument),
                Jump::Backward => Some(instruction.next.checked_sub(argument)?),
                Jump::None => None,
            };
            Some(Instruction {
                unit: u32::try_from(instruction.unit).ok()?,
                next: u32::try_from(instruction.next).ok()?,
                opcode: instruction.opcode,
                argument: instruction.argument,
                depth: depths[instruction.unit],
                target: target.map(u32::try_from).transpose().ok()?,
                ends: ends(instruction.opcode),
            })
        })
        .collect()
}

/// What a code object says of itself. Borrowed from it.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct CodeFacts {
    /// `co_names`
    pub names: *mut PyObject,
    /// `co_consts`
    pub consts: *mut PyObject,
    /// The names of all locals, cells and free variables.
    pub locals: *mut PyObject,
    /// `co_filename`
    pub filename: *mut PyObject,
    /// `co_qualname`
    pub qualname: *mut PyObject,
    /// `co_flags`
    pub flags: c_int,
    /// `co_firstlineno`
    pub first_line: c_int,
    /// How many locals, cells and free variables there are: the value stack begins behind them.
    pub nlocals: u32,
}

/// What a code object says of itself.
///
/// # Safety
/// See the crate; `code` is a code object.
pub unsafe fn facts(code: *mut PyObject) -> CodeFacts {
    // SAFETY: the caller's promise.
    unsafe {
        let code: *mut Code = code.cast();
        CodeFacts {
            names: (*code).names,
            consts: (*code).consts,
            locals: (*code).localsplusnames,
            filename: (*code).filename,
            qualname: (*code).qualname,
            flags: (*code).flags,
            first_line: (*code).firstlineno,
            nlocals: u32::try_from((*code).nlocalsplus).unwrap_or(0),
        }
    }
}

unsafe extern "C" {
    /// Exported since 3.11, but not declared by `pyo3-ffi`.
    fn PyCode_Addr2Location(
        code: *mut PyObject,
        offset: c_int,
        line: *mut c_int,
        column: *mut c_int,
        end_line: *mut c_int,
        end_column: *mut c_int,
    ) -> c_int;
}

/// Where a unit of a code object is in the source: first line, last line, column and the column
/// behind the end, in bytes. Zero for what is not known.
///
/// # Safety
/// See the crate; `code` is a code object and has that unit.
pub unsafe fn location(code: *mut PyObject, unit: u32) -> [u32; 4] {
    let (mut line, mut column, mut end_line, mut end_column) = (0, 0, 0, 0);
    // SAFETY: the caller's promise; an exception can only be one for lack of memory.
    unsafe {
        let offset = c_int::try_from(2 * u64::from(unit)).unwrap_or(0);
        if PyCode_Addr2Location(
            code,
            offset,
            &raw mut line,
            &raw mut column,
            &raw mut end_line,
            &raw mut end_column,
        ) == 0
        {
            pyo3_ffi::PyErr_Clear();
        }
    }
    [line, end_line, column, end_column].map(|number| u32::try_from(number).unwrap_or(0))
}

/// A frame of Python code that runs or waits for one that it called. Two are equal if they are at
/// the same address, which is used again when a frame is left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RunningFrame(*const Frame);

impl RunningFrame {
    /// No frame.
    pub const NONE: Self = Self(std::ptr::null());

    /// The innermost frame of a thread, which must be one of Python code.
    ///
    /// # Safety
    /// See the crate; the thread runs Python code: it called back from the evaluation loop.
    #[inline]
    pub unsafe fn innermost(thread: *mut PyThreadState) -> Self {
        // SAFETY: the caller's promise.
        Self(unsafe { current_frame(thread) })
    }

    /// The innermost frame of Python code of a thread.
    ///
    /// # Safety
    /// See the crate.
    pub unsafe fn find(thread: *mut PyThreadState) -> Option<Self> {
        // SAFETY: the frames of a thread are linked and live while the GIL is held.
        unsafe { Self(current_frame(thread)).or_outer() }
    }

    /// The frame of a frame object.
    ///
    /// # Safety
    /// See the crate; `object` is a frame object whose frame is running.
    #[inline]
    pub unsafe fn of_object(object: *mut PyObject) -> Self {
        // SAFETY: the caller's promise.
        Self(unsafe { (*object.cast::<FrameObject>()).frame })
    }

    /// # Safety
    /// It is a live frame, or null.
    unsafe fn or_outer(self) -> Option<Self> {
        let mut frame = self.0;
        // SAFETY: frames are linked and live.
        unsafe {
            while !frame.is_null() {
                if is_python(frame) {
                    return Some(Self(frame));
                }
                frame = (*frame).previous;
            }
        }
        None
    }

    /// The frame of Python code that (through C code perhaps) called this one.
    ///
    /// # Safety
    /// See the crate; it is live.
    pub unsafe fn caller(self) -> Option<Self> {
        // SAFETY: the caller's promise.
        unsafe { Self((*self.0).previous).or_outer() }
    }

    /// Its code object; borrowed.
    ///
    /// # Safety
    /// See the crate; it is live.
    #[inline]
    pub unsafe fn code(self) -> *mut PyObject {
        // SAFETY: the caller's promise.
        unsafe { (*self.0).code }
    }

    /// Its globals; borrowed.
    ///
    /// # Safety
    /// See the crate; it is live.
    pub unsafe fn globals(self) -> *mut PyObject {
        // SAFETY: the caller's promise.
        unsafe { (*self.0).globals }
    }

    /// The unit of the instruction that it executes, or one of that instruction's caches.
    ///
    /// # Safety
    /// See the crate; it is live and has begun.
    #[inline]
    pub unsafe fn unit(self) -> u32 {
        // SAFETY: the instruction of a frame that runs lies in its code.
        unsafe {
            let first = &raw const (*(*self.0).code.cast::<Code>()).adaptive;
            (((*self.0).instruction.addr() - first.addr()) / size_of::<u16>()) as u32
        }
    }

    /// A local, or a value on the stack; borrowed, null for none.
    ///
    /// # Safety
    /// See the crate; it is live, and so is the slot at the instruction that it executes.
    #[inline]
    pub unsafe fn slot(self, index: u32) -> *mut PyObject {
        // SAFETY: the caller's promise.
        unsafe {
            *(&raw const (*self.0).localsplus)
                .cast::<*mut PyObject>()
                .add(index as usize)
        }
    }
}

/// Whether a frame object reports lines and opcodes to trace functions.
///
/// # Safety
/// See the crate; `object` is a frame object.
#[cfg(not(Py_3_12))]
pub unsafe fn set_tracing(object: *mut PyObject, lines: bool, opcodes: bool) {
    // SAFETY: the caller's promise; these two are what `f_trace_lines` and `f_trace_opcodes` set.
    unsafe {
        let object: *mut FrameObject = object.cast();
        (*object).trace_lines = lines.into();
        (*object).trace_opcodes = opcodes.into();
    }
}

/// Whether a frame object asks for events of lines and opcodes.
///
/// # Safety
/// See the crate; `object` is a frame object.
#[cfg(not(Py_3_12))]
pub unsafe fn tracing(object: *mut PyObject) -> (bool, bool) {
    // SAFETY: the caller's promise.
    unsafe {
        let object: *mut FrameObject = object.cast();
        ((*object).trace_lines != 0, (*object).trace_opcodes != 0)
    }
}

/// The value of an `int` that fits into 30 bits.
///
/// # Safety
/// See the crate; `int` is an exact `int`.
#[inline]
pub unsafe fn small_int(int: *mut PyObject) -> Option<i64> {
    // SAFETY: passed on.
    unsafe { layout_small_int(int) }
}

/// A slot for something of one's own in every code object.
#[derive(Clone, Copy, Debug)]
pub struct Extra(isize);

impl Extra {
    /// Takes a slot, for the life of the interpreter. `free` gets what is in the slot of a code
    /// object that goes away.
    ///
    /// # Safety
    /// See the crate.
    pub unsafe fn take(free: unsafe extern "C" fn(*mut c_void)) -> Option<Self> {
        // SAFETY: the GIL is held.
        let index = unsafe { code_extra_index(free) };
        (index >= 0).then_some(Self(index))
    }

    /// What is in the slot of a code object, or null.
    ///
    /// # Safety
    /// See the crate; `code` is a code object of the interpreter that the slot is of.
    #[inline]
    pub unsafe fn get(self, code: *mut PyObject) -> *mut c_void {
        let mut extra = std::ptr::null_mut();
        // SAFETY: the caller's promise.
        if unsafe { code_get_extra(code, self.0, &raw mut extra) } != 0 {
            // SAFETY: the GIL is held.
            unsafe { pyo3_ffi::PyErr_Clear() };
        }
        extra
    }

    /// Puts something into the slot; what was there is freed. False: out of memory.
    ///
    /// # Safety
    /// As [`get`](Self::get).
    pub unsafe fn set(self, code: *mut PyObject, extra: *mut c_void) -> bool {
        // SAFETY: the caller's promise.
        if unsafe { code_set_extra(code, self.0, extra) } != 0 {
            // SAFETY: the GIL is held.
            unsafe { pyo3_ffi::PyErr_Clear() };
            return false;
        }
        true
    }
}

/// A trace function of C, as `PyEval_SetTrace` takes it.
#[cfg(not(Py_3_12))]
pub type TraceFunction =
    unsafe extern "C" fn(*mut PyObject, *mut PyObject, c_int, *mut PyObject) -> c_int;

/// The trace function of a thread and its object; borrowed.
///
/// # Safety
/// See the crate; `thread` is a live thread state.
#[cfg(not(Py_3_12))]
pub unsafe fn trace_function(thread: *mut PyThreadState) -> (Option<TraceFunction>, *mut PyObject) {
    // SAFETY: the caller's promise; the field is null or such a function.
    unsafe {
        let thread: *mut crate::layout::Thread = thread.cast();
        let function = (*thread).trace_function;
        let function = (!function.is_null())
            .then(|| std::mem::transmute::<*const c_void, TraceFunction>(function));
        (function, (*thread).trace_object)
    }
}

/// What is told each event of `sys.audit`; an error (not 0) would forbid what the event announces.
pub type AuditHook =
    unsafe extern "C" fn(*const std::ffi::c_char, *mut PyObject, *mut c_void) -> c_int;

/// Adds an audit hook, for the rest of the process. False: it could not be added.
///
/// # Safety
/// See the crate; the hook may be called at any time by a thread that holds the GIL.
pub unsafe fn add_audit_hook(hook: AuditHook) -> bool {
    unsafe extern "C" {
        fn PySys_AddAuditHook(hook: AuditHook, data: *mut c_void) -> c_int;
    }
    // SAFETY: a public function; the hook uses no data.
    unsafe { PySys_AddAuditHook(hook, std::ptr::null_mut()) == 0 }
}

/// Gives a thread a trace function. False: an exception is set.
///
/// # Safety
/// See the crate; `thread` is a live thread state.
#[cfg(not(Py_3_12))]
pub unsafe fn set_trace_function(
    thread: *mut PyThreadState,
    function: Option<TraceFunction>,
    object: *mut PyObject,
) -> bool {
    unsafe extern "C" {
        /// Exported, as the public function for the calling thread is.
        fn _PyEval_SetTrace(
            thread: *mut PyThreadState,
            function: Option<TraceFunction>,
            object: *mut PyObject,
        ) -> c_int;
    }
    // SAFETY: the caller's promise.
    unsafe { _PyEval_SetTrace(thread, function, object) == 0 }
}
