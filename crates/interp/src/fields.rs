//! Fields of objects of C types whose structs no header declares. Where a field lies is found by
//! looking at an object that is known to hold a certain value.

use pyo3_ffi::{Py_TYPE, Py_XDECREF, Py_XINCREF, PyObject};

use crate::owned::Owned;

/// A field of the objects of one type, as an offset in words.
#[derive(Clone, Copy, Debug)]
pub struct Field(usize);

impl Field {
    /// The one field of `object` that holds this word. `None`: there is none, or more than one.
    ///
    /// # Safety
    /// See the crate. The object is of a type of fixed size that is a multiple of a word.
    pub unsafe fn holding(object: *mut PyObject, word: usize) -> Option<Self> {
        // SAFETY: only what the type says is the object is read.
        unsafe {
            let size = usize::try_from((*Py_TYPE(object)).tp_basicsize).ok()?;
            let head = size_of::<PyObject>() / size_of::<usize>();
            let mut found = (head..size / size_of::<usize>())
                .filter(|&offset| object.cast::<usize>().add(offset).read() == word);
            let field = found.next()?;
            found.next().is_none().then_some(Self(field))
        }
    }

    /// The field behind this one.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }

    /// What the field holds.
    ///
    /// # Safety
    /// See the crate; the object is of the type that the field is of.
    pub unsafe fn word(self, object: *mut PyObject) -> usize {
        // SAFETY: passed on.
        unsafe { object.cast::<usize>().add(self.0).read() }
    }

    /// The object in the field, if any.
    ///
    /// # Safety
    /// As [`word`](Self::word); the field holds an object or null.
    pub unsafe fn object(self, object: *mut PyObject) -> Option<Owned> {
        // SAFETY: passed on.
        unsafe { Owned::new(self.word(object) as *mut PyObject) }
    }

    /// Puts an object into the field, or null.
    ///
    /// # Safety
    /// As [`object`](Self::object); C code that uses the field accepts this one there.
    pub unsafe fn set(self, object: *mut PyObject, value: *mut PyObject) {
        // SAFETY: passed on; what was there goes when it is no more reached.
        unsafe {
            Py_XINCREF(value);
            let field = object.cast::<*mut PyObject>().add(self.0);
            Py_XDECREF(field.replace(value));
        }
    }
}
