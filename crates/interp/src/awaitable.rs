//! What `asend()`, `athrow()` and `aclose()` of an asynchronous generator return.
//!
//! Their structs are in no header, so they are looked at before anything relies on them: [`matches`]
//! compares an object of known contents with what is believed here.

use std::ffi::c_int;

use pyo3_ffi::{Py_TYPE, Py_XDECREF, Py_XINCREF, PyObject};

use crate::layout::Generator;

/// `PyAsyncGenASend` and `PyAsyncGenAThrow`.
#[repr(C)]
struct Awaitable {
    base: PyObject,
    generator: *mut PyObject,
    /// What is sent in, or a tuple of what is thrown in; null for `None` and for `aclose()`.
    value: *mut PyObject,
    stage: c_int,
}

/// Where such an awaitable is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "CPython has three")]
pub enum Stage {
    /// Nobody has awaited it yet.
    Begin,
    /// It is being awaited.
    Under,
    /// It is done.
    Closed,
}

impl Stage {
    /// The stage with a number of CPython's.
    pub const fn of(number: i32) -> Option<Self> {
        match number {
            0 => Some(Self::Begin),
            1 => Some(Self::Under),
            2 => Some(Self::Closed),
            _ => None,
        }
    }

    /// CPython's number.
    pub const fn number(self) -> i32 {
        self as i32
    }
}

/// Whether a new awaitable is laid out as this file believes.
///
/// # Safety
/// See the crate; `object` is what a method of the asynchronous generator `generator` returned.
pub unsafe fn matches(
    object: *mut PyObject,
    generator: *mut PyObject,
    is_value: impl FnOnce(*mut PyObject) -> bool,
) -> bool {
    // SAFETY: nothing is read before the size is known; all of it is initialised then.
    unsafe {
        if (*Py_TYPE(object)).tp_basicsize != size_of::<Awaitable>().cast_signed() {
            return false;
        }
        let this = &*object.cast::<Awaitable>();
        this.generator == generator && this.stage == Stage::Begin.number() && is_value(this.value)
    }
}

/// Its generator, its value (which may be null) and its stage, borrowed. `None`: it is in a stage
/// that nobody knows.
///
/// # Safety
/// See the crate; the object is of a type that [`matches`] has looked at.
pub unsafe fn parts(object: *mut PyObject) -> Option<(*mut PyObject, *mut PyObject, Stage)> {
    // SAFETY: passed on.
    let this = unsafe { &*object.cast::<Awaitable>() };
    Some((this.generator, this.value, Stage::of(this.stage)?))
}

/// Overwrites its value (which may be null) and its stage.
///
/// # Safety
/// As [`parts`]; for what throws, the value is null or a tuple of one to three items.
pub unsafe fn set(object: *mut PyObject, value: *mut PyObject, stage: Stage) {
    // SAFETY: passed on; the old value is given back when it is out of the object.
    unsafe {
        let this = object.cast::<Awaitable>();
        (*this).stage = stage.number();
        Py_XINCREF(value);
        Py_XDECREF((&raw mut (*this).value).replace(value));
    }
}

/// Runs `work` while an asynchronous generator takes its hooks for installed, so that nothing that
/// `work` asks of it calls them.
///
/// # Safety
/// See the crate; the object is an asynchronous generator and outlives the call.
pub unsafe fn without_hooks<T>(generator: *mut PyObject, work: impl FnOnce() -> T) -> T {
    // SAFETY: its struct is a `Generator`; the field is a flag.
    unsafe {
        let flag = &raw mut (*generator.cast::<Generator>()).hooks_inited;
        let before = flag.replace(1);
        let result = work();
        flag.write(before);
        result
    }
}
