//! `type.__subclasses__` leaves out the hidden subclasses that proxy types are.

use std::ffi::c_void;
use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering};

use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyType;

use crate::proxy::object::{Object, dealloc_proxy};

static SUBCLASSES: AtomicPtr<c_void> = AtomicPtr::new(ptr::null_mut());

pub(super) fn prepare(py: Python<'_>) -> PyResult<()> {
    // SAFETY: attached. The definition of a method of a static type is static, and is written with
    // the GIL held; only one that takes no arguments is replaced.
    unsafe {
        let method = py
            .get_type::<PyType>()
            .getattr("__dict__")?
            .get_item("__subclasses__")?;
        if ffi::Py_TYPE(method.as_ptr()) != &raw mut ffi::PyMethodDescr_Type {
            return Ok(());
        }
        let definition = (*method.as_ptr().cast::<ffi::PyMethodDescrObject>()).d_method;
        if (*definition).ml_flags & ffi::METH_NOARGS == 0 {
            return Ok(());
        }
        SUBCLASSES.store(
            (*definition).ml_meth.PyCFunction as *mut c_void,
            Ordering::Relaxed,
        );
        (*definition).ml_meth = ffi::PyMethodDefPointer {
            PyCFunction: visible_subclasses,
        };
    }
    Ok(())
}

unsafe extern "C" fn visible_subclasses(class: Object, unused: Object) -> Object {
    // SAFETY: called by the interpreter as a method without arguments, after the original was
    // remembered; that returns a new list or null.
    unsafe {
        let before = SUBCLASSES.load(Ordering::Relaxed);
        let list = std::mem::transmute::<*mut c_void, ffi::PyCFunction>(before)(class, unused);
        if list.is_null() || ffi::PyList_Check(list) == 0 {
            return list;
        }
        let mut index = ffi::PyList_GET_SIZE(list);
        while index > 0 {
            index -= 1;
            let subclass = ffi::PyList_GET_ITEM(list, index).cast::<ffi::PyTypeObject>();
            let hidden = (*subclass)
                .tp_dealloc
                .is_some_and(|own| ptr::fn_addr_eq(own, dealloc_proxy as ffi::destructor));
            if hidden && ffi::PyList_SetSlice(list, index, index + 1, ptr::null_mut()) != 0 {
                ffi::Py_DECREF(list);
                return ptr::null_mut();
            }
        }
        list
    }
}
