//! Frames and code objects that stand for code which runs elsewhere.
//!
//! Tracebacks, `pdb` and `inspect` work on real frame objects only. Such a frame is made of a code
//! object that has the name, file and line of the remote one and is never executed, and of any
//! mapping as its locals: `frame.f_locals` *is* that mapping, so values can be fetched when they
//! are looked at.

use std::ffi::c_int;
use std::ptr;

use pyo3_ffi::{
    Py_DECREF, Py_None, PyBytes_FromStringAndSize, PyBytes_Size, PyCode_NewEmpty, PyDict_New,
    PyDict_SetItemString, PyErr_SetString, PyExc_ValueError, PyFrame_New, PyLong_FromLong,
    PyObject, PyObject_Call, PyObject_CallFunction, PyObject_GetAttrString, PyThreadState_Get,
    PyTraceBack_Type, PyTuple_New,
};

use crate::layout::{Code, FrameObject};

/// A code object for a frame: every instruction of it stands on `lineno`.
///
/// `filename`, `name` and `qualname` are strings. `first_lineno` is the line of the `def`, which
/// `inspect` and `pdb`'s `ll` start from. The code is not optimised in CPython's sense
/// (`CO_OPTIMIZED`), which makes a frame's locals any mapping. Executing it raises
/// `AssertionError`.
///
/// # Safety
/// See the crate.
pub unsafe fn remote_code(
    filename: *mut PyObject,
    name: *mut PyObject,
    qualname: *mut PyObject,
    first_lineno: i32,
    lineno: i32,
) -> *mut PyObject {
    // SAFETY: every new object is checked before use and given back; `replace` checks the types of
    // what it is given.
    unsafe {
        let empty = PyCode_NewEmpty(c"".as_ptr(), c"".as_ptr(), first_lineno);
        if empty.is_null() {
            return ptr::null_mut();
        }
        let bytecode = PyObject_GetAttrString(empty.cast(), c"co_code".as_ptr());
        let replace = PyObject_GetAttrString(empty.cast(), c"replace".as_ptr());
        Py_DECREF(empty.cast());
        if bytecode.is_null() || replace.is_null() {
            release([bytecode, replace]);
            return ptr::null_mut();
        }
        let units = usize::try_from(PyBytes_Size(bytecode)).unwrap_or(0) / 2;
        Py_DECREF(bytecode);
        let table = line_table(units, i64::from(lineno) - i64::from(first_lineno));
        let table = PyBytes_FromStringAndSize(table.as_ptr().cast(), table.len().cast_signed());
        let (line, names, nothing) = (
            PyLong_FromLong(first_lineno.into()),
            PyDict_New(),
            PyTuple_New(0),
        );
        let mut code = ptr::null_mut();
        if !table.is_null() && !line.is_null() && !names.is_null() && !nothing.is_null() {
            let fields = [
                (c"co_filename", filename),
                (c"co_firstlineno", line),
                (c"co_linetable", table),
                (c"co_name", name),
                (c"co_qualname", qualname),
            ];
            if fields
                .iter()
                .all(|(key, value)| PyDict_SetItemString(names, key.as_ptr(), *value) == 0)
            {
                code = PyObject_Call(replace, nothing, names);
            }
        }
        release([replace, table, line, names, nothing]);
        code
    }
}

/// A frame that is not running and has no caller.
///
/// `globals` is a dict or of a class derived from it (`pdb` evaluates only with such), `locals` any
/// mapping. `f_lineno` is the line of [`remote_code`].
///
/// # Safety
/// See the crate; `code` is a code object made by [`remote_code`].
pub unsafe fn new_frame(
    code: *mut PyObject,
    globals: *mut PyObject,
    locals: *mut PyObject,
) -> *mut PyObject {
    // SAFETY: the frame object is new and owns its frame, which nobody executes. CPython puts such
    // a frame behind the instruction with which a function starts, of which this code has none, so
    // behind its end; it is put on the first instruction, where line numbers are known.
    unsafe {
        if pyo3_ffi::PyDict_Check(globals) == 0 {
            PyErr_SetString(
                pyo3_ffi::PyExc_TypeError,
                c"the globals of a frame must be a dict".as_ptr(),
            );
            return ptr::null_mut();
        }
        let object: *mut PyObject =
            PyFrame_New(PyThreadState_Get(), code.cast(), globals, locals).cast();
        if !object.is_null() {
            let frame = (*object.cast::<FrameObject>()).frame;
            (*frame).instruction = (&raw const (*code.cast::<Code>()).adaptive).cast();
            (*frame).previous = ptr::null_mut();
        }
        object
    }
}

/// A traceback entry: `frame` at `lineno`, followed by `next` (a traceback, or null for none).
///
/// # Safety
/// See the crate; `frame` is a frame object.
pub unsafe fn traceback(next: *mut PyObject, frame: *mut PyObject, lineno: i32) -> *mut PyObject {
    // SAFETY: the arguments are as the format says.
    unsafe {
        if lineno < 1 {
            PyErr_SetString(PyExc_ValueError, c"lines are counted from 1".as_ptr());
            return ptr::null_mut();
        }
        let next = if next.is_null() { Py_None() } else { next };
        let first_instruction: c_int = 0;
        PyObject_CallFunction(
            (&raw mut PyTraceBack_Type).cast(),
            c"OOii".as_ptr(),
            next,
            frame,
            first_instruction,
            c_int::from(lineno),
        )
    }
}

/// A location table (PEP 626, as of 3.11) that puts all units on one line, `delta` lines behind the
/// first line of the code.
fn line_table(mut units: usize, delta: i64) -> Vec<u8> {
    /// Lines only, no columns.
    const NO_COLUMNS: u8 = 13;
    let mut table = Vec::new();
    // Only the first entry moves the line.
    let mut number = (delta.unsigned_abs() << 1) | u64::from(delta < 0);
    while units > 0 {
        let length = units.min(8);
        table.push(0x80 | (NO_COLUMNS << 3) | (length as u8 - 1));
        while number >= 64 {
            table.push(64 | (number & 63) as u8);
            number >>= 6;
        }
        table.push(number as u8);
        number = 0;
        units -= length;
    }
    table
}

/// Gives references back; null is none.
///
/// # Safety
/// See the crate; the references are the caller's own.
unsafe fn release<const N: usize>(objects: [*mut PyObject; N]) {
    for object in objects {
        if !object.is_null() {
            // SAFETY: the caller's promise.
            unsafe { Py_DECREF(object) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::line_table;

    #[test]
    fn the_line_table_covers_all_units() {
        assert_eq!(line_table(1, 0), [0xe8, 0]);
        assert_eq!(line_table(3, 1), [0xea, 2]);
        assert_eq!(line_table(9, -1), [0xef, 3, 0xe8, 0]);
        assert_eq!(line_table(1, 100), [0xe8, 64 | (200 & 63), 3]);
    }
}
