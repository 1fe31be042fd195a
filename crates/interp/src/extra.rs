//! Something of one's own in every code object, made at its first use and freed with it.

use std::ffi::c_void;
use std::marker::PhantomData;
use std::ptr;
use std::sync::atomic::{AtomicIsize, AtomicPtr, Ordering};

use pyo3_ffi::{
    PyErr_Clear, PyInterpreterState, PyObject, PyThreadState_Get, PyThreadState_GetInterpreter,
};

use crate::layout::{Code, code_extra_index, code_get_extra, code_set_extra};

/// A slot in code objects for a `T`.
///
/// Interpreters number their slots each for itself, so a slot serves the first one that asks.
#[derive(Debug)]
pub struct Slot<T> {
    index: AtomicIsize,
    interpreter: AtomicPtr<PyInterpreterState>,
    of: PhantomData<fn() -> T>,
}

impl<T: Send + Sync + 'static> Slot<T> {
    /// A slot that no code object has yet.
    #[expect(clippy::new_without_default, reason = "slots are statics")]
    pub const fn new() -> Self {
        Self {
            index: AtomicIsize::new(-1),
            interpreter: AtomicPtr::new(ptr::null_mut()),
            of: PhantomData,
        }
    }

    /// What is in the slot of a code object; if nothing yet, what `make` makes, which runs no Python
    /// code. `None`: it made nothing, or there is no memory, or this is another interpreter; no
    /// exception is set.
    ///
    /// # Safety
    /// See the crate; `code` is a code object. The result lives as long as that.
    #[inline]
    pub unsafe fn of<'a>(
        &self,
        code: *mut PyObject,
        make: impl FnOnce() -> Option<T>,
    ) -> Option<&'a T> {
        // SAFETY: passed on; attached, so that there is an interpreter.
        unsafe {
            let interpreter = PyThreadState_GetInterpreter(PyThreadState_Get());
            self.get(code.cast(), interpreter, make)
        }
    }

    /// What is in the slot of a code object; if nothing yet, what `make` makes. `None`: it made
    /// nothing, or there is no memory, or this is another interpreter; no exception is set.
    ///
    /// # Safety
    /// See the crate. The result lives as long as the code object.
    #[inline]
    pub(crate) unsafe fn get<'a>(
        &self,
        code: *mut Code,
        interpreter: *mut PyInterpreterState,
        make: impl FnOnce() -> Option<T>,
    ) -> Option<&'a T> {
        // SAFETY: the slot of this index holds nothing but what `fill` puts there, and only for the
        // interpreter that gave the index; its value is never replaced.
        unsafe {
            if self.interpreter.load(Ordering::Relaxed) == interpreter {
                let mut extra = ptr::null_mut();
                let index = self.index.load(Ordering::Relaxed);
                if code_get_extra(code.cast(), index, &raw mut extra) == 0 && !extra.is_null() {
                    return Some(&*extra.cast());
                }
            }
            self.fill(code, interpreter, make)
        }
    }

    /// # Safety
    /// As [`get`](Self::get).
    #[cold]
    unsafe fn fill<'a>(
        &self,
        code: *mut Code,
        interpreter: *mut PyInterpreterState,
        make: impl FnOnce() -> Option<T>,
    ) -> Option<&'a T> {
        unsafe extern "C" fn free<T>(extra: *mut c_void) {
            if !extra.is_null() {
                // SAFETY: made by `Box::into_raw` below; its code object is going away.
                drop(unsafe { Box::from_raw(extra.cast::<T>()) });
            }
        }
        // SAFETY: the GIL is held, so that the two statics change together.
        unsafe {
            let owner = self.interpreter.load(Ordering::Relaxed);
            if owner.is_null() {
                let index = code_extra_index(free::<T>);
                if index < 0 {
                    return None;
                }
                self.index.store(index, Ordering::Relaxed);
                self.interpreter.store(interpreter, Ordering::Relaxed);
            } else if owner != interpreter {
                return None;
            }
            let Some(made) = make() else {
                PyErr_Clear();
                return None;
            };
            let extra = Box::into_raw(Box::new(made));
            if code_set_extra(
                code.cast(),
                self.index.load(Ordering::Relaxed),
                extra.cast(),
            ) != 0
            {
                PyErr_Clear();
                free::<T>(extra.cast());
                return None;
            }
            Some(&*extra)
        }
    }
}
