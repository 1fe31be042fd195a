//! Frames of code that runs elsewhere, under `traceback`, `pdb` and `inspect`.

mod common;

use std::ffi::c_int;
use std::ptr;

use objspace_interp::frames;
use pyo3_ffi::{
    METH_VARARGS, Py_None, PyLong_AsLong, PyMethodDef, PyMethodDefPointer, PyObject,
    PyTuple_GET_ITEM,
};

/// The line number at `index` of a tuple.
unsafe fn line(arguments: *mut PyObject, index: isize) -> i32 {
    // SAFETY: attached; the script passes numbers there.
    unsafe { i32::try_from(PyLong_AsLong(PyTuple_GET_ITEM(arguments, index))).expect("a line") }
}

unsafe extern "C" fn remote_code(
    _module: *mut PyObject,
    arguments: *mut PyObject,
) -> *mut PyObject {
    // SAFETY: attached; the script passes three strings and two numbers.
    unsafe {
        let text = |index| PyTuple_GET_ITEM(arguments, index);
        frames::remote_code(
            text(0),
            text(1),
            text(2),
            line(arguments, 3),
            line(arguments, 4),
        )
    }
}

unsafe extern "C" fn new_frame(_module: *mut PyObject, arguments: *mut PyObject) -> *mut PyObject {
    // SAFETY: attached; the script passes a code object and two namespaces.
    unsafe {
        let item = |index| PyTuple_GET_ITEM(arguments, index);
        frames::new_frame(item(0), item(1), item(2))
    }
}

unsafe extern "C" fn make_traceback(
    _module: *mut PyObject,
    arguments: *mut PyObject,
) -> *mut PyObject {
    // SAFETY: attached; the script passes a traceback or `None`, a frame and a number.
    unsafe {
        let next = PyTuple_GET_ITEM(arguments, 0);
        let next = if next == Py_None() {
            ptr::null_mut()
        } else {
            next
        };
        frames::traceback(next, PyTuple_GET_ITEM(arguments, 1), line(arguments, 2))
    }
}

#[test]
fn remote_frames_look_like_local_ones() {
    type Function = unsafe extern "C" fn(*mut PyObject, *mut PyObject) -> *mut PyObject;
    let table: [(&'static std::ffi::CStr, Function, c_int); 3] = [
        (c"remote_code", remote_code, METH_VARARGS),
        (c"new_frame", new_frame, METH_VARARGS),
        (c"make_traceback", make_traceback, METH_VARARGS),
    ];
    let definitions: Vec<PyMethodDef> = table
        .into_iter()
        .map(|(name, function, flags)| PyMethodDef {
            ml_name: name.as_ptr(),
            ml_meth: PyMethodDefPointer {
                PyCFunction: function,
            },
            ml_flags: flags,
            ml_doc: ptr::null(),
        })
        .collect();
    common::run(
        "frames.py",
        include_str!("scripts/frames.py"),
        definitions.leak(),
    );
}
