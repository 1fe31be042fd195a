//! What Python code may not change about a class: the dict of one that refuses it, the metaclass.

use pyo3_ffi::{Py_DECREF, Py_INCREF, PyObject, PyType_HasFeature, PyTypeObject};

/// The dict of attributes of a class: a new reference. Whoever changes it calls `PyType_Modified`.
///
/// # Safety
/// See the crate. The class is not one of the static types of the core, which keep their dicts
/// elsewhere from 3.12 on; for those it may be null, with an exception set.
pub unsafe fn type_dict(class: *mut PyTypeObject) -> *mut PyObject {
    // SAFETY: a ready type of an extension module has a dict.
    unsafe {
        let dict = (*class).tp_dict;
        if dict.is_null() {
            pyo3_ffi::PyErr_SetString(
                pyo3_ffi::PyExc_TypeError,
                c"the class does not show its dict".as_ptr(),
            );
        } else {
            Py_INCREF(dict);
        }
        dict
    }
}

/// Makes `metaclass` the class of `class`. Assigning to `__class__` does the same, but not where one of
/// the two is `type`.
///
/// # Safety
/// See the crate. `class` is a heap type; its present metaclass is a heap type that derives directly
/// from `metaclass` and adds no slots and no dict to it, so that both lay their classes out alike.
pub unsafe fn set_metaclass(class: *mut PyTypeObject, metaclass: *mut PyTypeObject) {
    // SAFETY: a heap type owns a reference to its metaclass if that is a heap type, as every object does.
    unsafe {
        let object = class.cast::<PyObject>();
        let before = (*object).ob_type;
        debug_assert_eq!((*before).tp_base, metaclass);
        debug_assert_eq!((*before).tp_basicsize, (*metaclass).tp_basicsize);
        if PyType_HasFeature(metaclass, pyo3_ffi::Py_TPFLAGS_HEAPTYPE) != 0 {
            Py_INCREF(metaclass.cast());
        }
        (*object).ob_type = metaclass;
        Py_DECREF(before.cast());
        pyo3_ffi::PyType_Modified(class);
    }
}
