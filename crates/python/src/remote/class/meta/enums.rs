//! What an enum class can do, done over there.

use std::ffi::{c_int, c_void};
use std::ptr;

use pyo3::exceptions::{PyAttributeError, PyTypeError};
use pyo3::ffi;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyTuple, PyType};

use super::spec::{any, class, slot_body};
use super::{ask, nearest};

/// An operation on an enum class, done over there.
fn on_class<'py>(
    class: &Bound<'py, PyType>,
    operation: &str,
    argument: Option<Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyAny>> {
    let py = class.py();
    let Some(record) = nearest(class) else {
        return Err(PyTypeError::new_err("not a remote enum"));
    };
    let arguments = PyTuple::new(py, argument)?;
    ask(
        record.get().access.bind(py),
        operation,
        &py.None().into_bound(py),
        &arguments,
        None,
    )
}

pub(super) unsafe extern "C" fn enum_new(
    _: *mut ffi::PyTypeObject,
    _: *mut ffi::PyObject,
    _: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    // SAFETY: called by the interpreter.
    unsafe {
        slot_body(ptr::null_mut(), |_| {
            Err(PyTypeError::new_err(
                "a remote enum cannot be subclassed here: its members are made in the other process",
            ))
        })
    }
}

pub(super) unsafe extern "C" fn enum_iter(object: *mut ffi::PyObject) -> *mut ffi::PyObject {
    // SAFETY: called by the interpreter with a class.
    unsafe {
        slot_body(ptr::null_mut(), |py| {
            let members = on_class(&class(py, object)?, "__iter__", None)?;
            Ok(members.try_iter()?.into_any().into_ptr())
        })
    }
}

pub(super) unsafe extern "C" fn enum_reversed(
    object: *mut ffi::PyObject,
    _: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    // SAFETY: called by the interpreter with a class.
    unsafe {
        slot_body(ptr::null_mut(), |py| {
            on_class(&class(py, object)?, "__reversed__", None).map(Bound::into_ptr)
        })
    }
}

pub(super) unsafe extern "C" fn enum_members(
    object: *mut ffi::PyObject,
    _: *mut c_void,
) -> *mut ffi::PyObject {
    // SAFETY: called by the interpreter with a class.
    unsafe {
        slot_body(ptr::null_mut(), |py| {
            let Some(record) = nearest(&class(py, object)?) else {
                return Err(PyAttributeError::new_err("__members__"));
            };
            record
                .get()
                .access
                .bind(py)
                .call1((intern!(py, "get"), intern!(py, "__members__")))
                .map(Bound::into_ptr)
        })
    }
}

pub(super) unsafe extern "C" fn enum_len(object: *mut ffi::PyObject) -> ffi::Py_ssize_t {
    // SAFETY: called by the interpreter with a class.
    unsafe {
        slot_body(-1, |py| {
            on_class(&class(py, object)?, "__len__", None)?.extract()
        })
    }
}

pub(super) unsafe extern "C" fn enum_item(
    object: *mut ffi::PyObject,
    key: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    // SAFETY: called by the interpreter with a class and a key.
    unsafe {
        slot_body(ptr::null_mut(), |py| {
            on_class(&class(py, object)?, "__getitem__", Some(any(py, key))).map(Bound::into_ptr)
        })
    }
}

pub(super) unsafe extern "C" fn enum_contains(
    object: *mut ffi::PyObject,
    value: *mut ffi::PyObject,
) -> c_int {
    // SAFETY: called by the interpreter with a class and a value.
    unsafe {
        slot_body(-1, |py| {
            on_class(&class(py, object)?, "__contains__", Some(any(py, value)))?
                .is_truthy()
                .map(c_int::from)
        })
    }
}
