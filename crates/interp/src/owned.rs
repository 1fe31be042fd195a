//! A reference to a Python object that one owns.

use std::ptr::NonNull;

use pyo3_ffi::{Py_DECREF, Py_INCREF, PyObject};

/// An owned reference. To be dropped with the GIL held, like everything in this crate; dropping it
/// can run any Python code.
#[derive(Debug)]
pub struct Owned(NonNull<PyObject>);

// SAFETY: a reference may go to another thread; whoever uses or drops it there holds the GIL, as all of
// this crate asks.
unsafe impl Send for Owned {}
// SAFETY: as above.
unsafe impl Sync for Owned {}

impl Owned {
    /// Takes over a reference. `None`: a null pointer, so that a Python exception is set.
    ///
    /// # Safety
    /// See the crate; the reference is the caller's own, and is so no longer.
    pub const unsafe fn taking(object: *mut PyObject) -> Option<Self> {
        match NonNull::new(object) {
            Some(object) => Some(Self(object)),
            None => None,
        }
    }

    /// A new reference to a borrowed object. `None`: a null pointer.
    ///
    /// # Safety
    /// See the crate.
    pub unsafe fn new(object: *mut PyObject) -> Option<Self> {
        let object = NonNull::new(object)?;
        // SAFETY: the object is alive.
        unsafe { Py_INCREF(object.as_ptr()) };
        Some(Self(object))
    }

    /// The object, borrowed.
    pub const fn as_ptr(&self) -> *mut PyObject {
        self.0.as_ptr()
    }

    /// The reference itself, which the caller then owns.
    pub const fn into_ptr(self) -> *mut PyObject {
        let object = self.0.as_ptr();
        std::mem::forget(self);
        object
    }
}

impl Drop for Owned {
    fn drop(&mut self) {
        // SAFETY: the reference is owned, and the GIL is held.
        unsafe { Py_DECREF(self.0.as_ptr()) };
    }
}
