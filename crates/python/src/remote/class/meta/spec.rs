//! The two hidden metaclasses that are types of C, and what the bodies of their slots share.

use std::ffi::{CStr, c_int, c_void};
use std::ptr;

use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyTuple, PyType};

use super::attributes::{getattro, list_names, setattro};
use super::calls::{call, init};
use super::checks::{check_instance, check_subclass};
use super::enums::{
    enum_contains, enum_item, enum_iter, enum_len, enum_members, enum_new, enum_reversed,
};
use super::{abc_meta, enum_meta};

/// The hidden metaclass of plain and of abstract classes.
pub(super) fn remote(py: Python<'_>) -> PyResult<Bound<'_, PyType>> {
    static REMOTE: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    REMOTE
        .get_or_try_init(py, || {
            // SAFETY: reading a field of `type`, which is ready.
            let new = unsafe { (*ptr::addr_of!(ffi::PyType_Type)).tp_new };
            let methods = vec![
                method(c"__dir__", list_names, ffi::METH_NOARGS),
                method(c"__instancecheck__", check_instance, ffi::METH_O),
                method(c"__subclasscheck__", check_subclass, ffi::METH_O),
            ];
            let slots = vec![
                slot(
                    ffi::Py_tp_new,
                    new.map_or(ptr::null_mut(), |new| new as *mut c_void),
                ),
                slot(ffi::Py_tp_init, init as *mut c_void),
                slot(ffi::Py_tp_call, call as *mut c_void),
                slot(ffi::Py_tp_getattro, getattro as *mut c_void),
                slot(ffi::Py_tp_setattro, setattro as *mut c_void),
            ];
            let bases = PyTuple::new(py, [abc_meta(py)?])?;
            from_spec(c"builtins.type", slots, methods, Vec::new(), &bases).map(Bound::unbind)
        })
        .map(|found| found.bind(py).clone())
}

/// The hidden metaclass of enums: what an enum class can do is done over there.
pub(super) fn remote_enum(py: Python<'_>) -> PyResult<Bound<'_, PyType>> {
    static REMOTE: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    REMOTE
        .get_or_try_init(py, || {
            let methods = vec![method(c"__reversed__", enum_reversed, ffi::METH_NOARGS)];
            let members = vec![ffi::PyGetSetDef {
                name: c"__members__".as_ptr(),
                get: Some(enum_members),
                set: None,
                doc: ptr::null(),
                closure: ptr::null_mut(),
            }];
            let slots = vec![
                slot(ffi::Py_tp_new, enum_new as *mut c_void),
                slot(ffi::Py_tp_iter, enum_iter as *mut c_void),
                slot(ffi::Py_mp_length, enum_len as *mut c_void),
                slot(ffi::Py_mp_subscript, enum_item as *mut c_void),
                slot(ffi::Py_sq_contains, enum_contains as *mut c_void),
            ];
            let bases = PyTuple::new(py, [remote(py)?, enum_meta(py)?])?;
            from_spec(c"enum.EnumType", slots, methods, members, &bases).map(Bound::unbind)
        })
        .map(|found| found.bind(py).clone())
}

fn slot(slot: c_int, pfunc: *mut c_void) -> ffi::PyType_Slot {
    ffi::PyType_Slot { slot, pfunc }
}

fn method(name: &'static CStr, function: ffi::PyCFunction, flags: c_int) -> ffi::PyMethodDef {
    ffi::PyMethodDef {
        ml_name: name.as_ptr(),
        ml_meth: ffi::PyMethodDefPointer {
            PyCFunction: function,
        },
        ml_flags: flags,
        ml_doc: ptr::null(),
    }
}

/// A heap type of C. Its tables live as long as the process: so do the two that are made.
fn from_spec<'py>(
    name: &'static CStr,
    mut slots: Vec<ffi::PyType_Slot>,
    mut methods: Vec<ffi::PyMethodDef>,
    mut members: Vec<ffi::PyGetSetDef>,
    bases: &Bound<'py, PyTuple>,
) -> PyResult<Bound<'py, PyType>> {
    let py = bases.py();
    methods.push(ffi::PyMethodDef::zeroed());
    slots.push(slot(
        ffi::Py_tp_methods,
        Box::leak(methods.into_boxed_slice()).as_mut_ptr().cast(),
    ));
    if !members.is_empty() {
        members.push(ffi::PyGetSetDef {
            name: ptr::null(),
            get: None,
            set: None,
            doc: ptr::null(),
            closure: ptr::null_mut(),
        });
        slots.push(slot(
            ffi::Py_tp_getset,
            Box::leak(members.into_boxed_slice()).as_mut_ptr().cast(),
        ));
    }
    slots.push(slot(0, ptr::null_mut()));
    let mut spec = ffi::PyType_Spec {
        name: name.as_ptr(),
        // Both sizes are the base's.
        basicsize: 0,
        itemsize: 0,
        #[expect(
            clippy::cast_possible_truncation,
            reason = "the field is narrower than the constants"
        )]
        flags: (ffi::Py_TPFLAGS_DEFAULT | ffi::Py_TPFLAGS_BASETYPE) as u32,
        slots: slots.as_mut_ptr(),
    };
    // SAFETY: the spec is well formed; its tables of methods are leaked, the others are copied.
    let made = unsafe {
        Bound::from_owned_ptr_or_err(
            py,
            ffi::PyType_FromSpecWithBases(&raw mut spec, bases.as_ptr()),
        )
    }?;
    Ok(made.cast_into::<PyType>()?)
}

/// Runs the body of a slot.
///
/// # Safety
/// Called by the interpreter, with this thread attached.
pub(super) unsafe fn slot_body<R>(
    failed: R,
    body: impl for<'py> FnOnce(Python<'py>) -> PyResult<R>,
) -> R {
    Python::attach(|py| {
        body(py).unwrap_or_else(|error| {
            error.restore(py);
            failed
        })
    })
}

/// A borrowed argument of a slot.
///
/// # Safety
/// `object` is a live object.
pub(super) unsafe fn any<'py>(py: Python<'py>, object: *mut ffi::PyObject) -> Bound<'py, PyAny> {
    // SAFETY: by the contract of this function.
    unsafe { Bound::from_borrowed_ptr(py, object) }
}

/// The class that a slot of a metaclass was called for.
///
/// # Safety
/// `object` is a live class.
pub(super) unsafe fn class<'py>(
    py: Python<'py>,
    object: *mut ffi::PyObject,
) -> PyResult<Bound<'py, PyType>> {
    // SAFETY: by the contract of this function.
    Ok(unsafe { any(py, object) }.cast_into::<PyType>()?)
}

/// The text of an attribute's name, if it is a string.
///
/// # Safety
/// `name` is a live object.
pub(super) unsafe fn text<'a>(name: *mut ffi::PyObject) -> &'a str {
    let mut length = 0;
    // SAFETY: the text lives as long as the string, which the caller holds.
    unsafe {
        if ffi::PyUnicode_Check(name) == 0 {
            return "";
        }
        let data = ffi::PyUnicode_AsUTF8AndSize(name, &raw mut length);
        if data.is_null() {
            ffi::PyErr_Clear();
            return "";
        }
        let bytes =
            std::slice::from_raw_parts(data.cast::<u8>(), usize::try_from(length).unwrap_or(0));
        std::str::from_utf8(bytes).unwrap_or("")
    }
}
