//! The dict of a class that refuses to be changed.

use pyo3_ffi::{Py_INCREF, PyObject, PyTypeObject};

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
