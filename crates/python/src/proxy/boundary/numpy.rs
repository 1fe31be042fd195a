//! Indexing of numpy's arrays. `array[t]` picks one element if `t` is a tuple, and several if it is
//! any other sequence, which a proxy of a tuple would be: silently another answer. So an index that is
//! such a proxy is looked at as the tuple of its contents.
//!
//! numpy may be imported before or after; `objspace._numpy` waits for it.

use std::ffi::{c_int, c_void};
use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering};

use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyType;

use super::{Class, Container, real_operand};
use crate::proxy::object::{Object, is_proxy};

static GET: AtomicPtr<c_void> = AtomicPtr::new(ptr::null_mut());
static SET: AtomicPtr<c_void> = AtomicPtr::new(ptr::null_mut());

/// Waits for numpy, or hooks it at once if it is there.
pub(super) fn prepare(py: Python<'_>) -> PyResult<()> {
    py.import("objspace._numpy")?.call_method0("prepare")?;
    Ok(())
}

/// Lets `class`, which is numpy's array, and its subclasses take a proxy of a tuple for an index.
#[pyfunction]
#[pyo3(signature = (class_, /))]
pub(crate) fn hook_indexing(class_: &Bound<'_, PyType>) -> PyResult<()> {
    let class = class_;
    if !GET.load(Ordering::Relaxed).is_null() {
        return Ok(());
    }
    // SAFETY: attached, with a live class, whose table lives as long and is written with the GIL held.
    unsafe {
        let table = (*class.as_type_ptr()).tp_as_mapping;
        if table.is_null() {
            return Ok(());
        }
        let (Some(get), Some(set)) = ((*table).mp_subscript, (*table).mp_ass_subscript) else {
            return Ok(());
        };
        GET.store(get as *mut c_void, Ordering::Relaxed);
        SET.store(set as *mut c_void, Ordering::Relaxed);
        for (name, own, hook) in [
            ("__getitem__", get as *mut c_void, get_item as *mut c_void),
            ("__setitem__", set as *mut c_void, set_item as *mut c_void),
            ("__delitem__", set as *mut c_void, set_item as *mut c_void),
        ] {
            let wrapper = class.getattr("__dict__")?.get_item(name)?;
            if ffi::Py_TYPE(wrapper.as_ptr()) == &raw mut ffi::PyWrapperDescr_Type {
                let wrapper = wrapper.as_ptr().cast::<ffi::PyWrapperDescrObject>();
                if (*wrapper).d_wrapped == own {
                    (*wrapper).d_wrapped = hook;
                }
            }
        }
        replace(class, get, set)
    }
}

/// Replaces both slots in a class and in all subclasses that inherited them.
///
/// # Safety
/// Attached.
unsafe fn replace(
    class: &Bound<'_, PyType>,
    get: ffi::binaryfunc,
    set: ffi::objobjargproc,
) -> PyResult<()> {
    // SAFETY: as the caller says; the class is live, and so is its table.
    unsafe {
        let kind: Class = class.as_type_ptr();
        let Some(table) = (*kind).tp_as_mapping.as_mut() else {
            return Ok(());
        };
        if table
            .mp_subscript
            .is_some_and(|own| ptr::fn_addr_eq(own, get))
        {
            table.mp_subscript = Some(get_item);
        }
        if table
            .mp_ass_subscript
            .is_some_and(|own| ptr::fn_addr_eq(own, set))
        {
            table.mp_ass_subscript = Some(set_item);
        }
        let subclasses = class
            .py()
            .get_type::<PyType>()
            .call_method1("__subclasses__", (class,))?;
        for subclass in subclasses.try_iter()? {
            replace(subclass?.cast::<PyType>()?, get, set)?;
        }
    }
    Ok(())
}

unsafe extern "C" fn get_item(array: Object, key: Object) -> Object {
    // SAFETY: called by the interpreter as a slot, after the function of that slot was remembered.
    unsafe {
        let before = GET.load(Ordering::Relaxed);
        let before = std::mem::transmute::<*mut c_void, ffi::binaryfunc>(before);
        if !is_proxy(key) {
            return before(array, key);
        }
        let real = real_operand(key, &[Container::Tuple]);
        if real.is_null() {
            return real;
        }
        let result = before(array, real);
        ffi::Py_DECREF(real);
        result
    }
}

unsafe extern "C" fn set_item(array: Object, key: Object, value: Object) -> c_int {
    // SAFETY: as in `get_item`.
    unsafe {
        let before = SET.load(Ordering::Relaxed);
        let before = std::mem::transmute::<*mut c_void, ffi::objobjargproc>(before);
        if !is_proxy(key) {
            return before(array, key, value);
        }
        let real = real_operand(key, &[Container::Tuple]);
        if real.is_null() {
            return -1;
        }
        let status = before(array, real, value);
        ffi::Py_DECREF(real);
        status
    }
}
