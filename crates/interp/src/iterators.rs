//! Iterators over lists and tuples: what they iterate over, and where they are.

use std::mem::offset_of;

use pyo3_ffi::{
    Py_DECREF, Py_ssize_t, PyIter_Next, PyList_Append, PyList_New, PyLong_FromLong, PyObject,
    PyObject_GetIter, PyTuple_New,
};

/// `_PyListIterObject` and `_PyTupleIterObject`, the same in all versions.
#[repr(C)]
struct SequenceIterator {
    base: PyObject,
    index: Py_ssize_t,
    /// Null when it is exhausted.
    sequence: *mut PyObject,
}
const _: () = assert!(offset_of!(SequenceIterator, index) == size_of::<PyObject>());

/// The list or tuple of an iterator over it, borrowed, and the index of its next item. `None`: it is
/// exhausted.
///
/// # Safety
/// See the crate; it is an iterator over a list or a tuple, and [`matches`] was true.
pub unsafe fn position(iterator: *mut PyObject) -> Option<(*mut PyObject, isize)> {
    // SAFETY: the struct is as `matches` has seen.
    unsafe {
        let iterator = &*iterator.cast::<SequenceIterator>();
        (!iterator.sequence.is_null()).then_some((iterator.sequence, iterator.index))
    }
}

/// Whether this interpreter's iterators are laid out as this file believes.
///
/// # Safety
/// See the crate.
pub unsafe fn matches() -> bool {
    // SAFETY: the objects are new, and large enough: an iterator that is exhausted, or has more fields,
    // would not have these two values there.
    unsafe {
        let (list, item, tuple) = (PyList_New(0), PyLong_FromLong(7), PyTuple_New(2));
        let mut fine = !list.is_null() && !item.is_null() && !tuple.is_null();
        if fine {
            for index in 0..2 {
                fine &= PyList_Append(list, item) == 0;
                pyo3_ffi::Py_INCREF(item);
                pyo3_ffi::PyTuple_SET_ITEM(tuple, index, item);
            }
            for sequence in [list, tuple] {
                let iterator = PyObject_GetIter(sequence);
                fine &= !iterator.is_null()
                    && (*pyo3_ffi::Py_TYPE(iterator)).tp_basicsize
                        == size_of::<SequenceIterator>().cast_signed()
                    && position(iterator) == Some((sequence, 0));
                if fine {
                    pyo3_ffi::Py_XDECREF(PyIter_Next(iterator));
                    fine &= position(iterator) == Some((sequence, 1));
                }
                pyo3_ffi::Py_XDECREF(iterator);
            }
        }
        for object in [list, item, tuple] {
            if !object.is_null() {
                Py_DECREF(object);
            }
        }
        pyo3_ffi::PyErr_Clear();
        fine
    }
}
