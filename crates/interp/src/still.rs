//! Frames that will not run: those of tracebacks, read and made again.
//!
//! Reading works on any frame object, also of a function that is running: what it has at that moment.
//! What is made is a frame object that owns its frame, as CPython makes of a frame that has returned.

use std::ffi::c_int;
use std::ptr;

use pyo3_ffi::{
    Py_DECREF, Py_INCREF, Py_TYPE, Py_XDECREF, PyCell_Type, PyCode_Type, PyDict_Check, PyDict_New,
    PyDict_Next, PyDict_SetItem, PyErr_Occurred, PyErr_SetString, PyExc_TypeError,
    PyExc_ValueError, PyFrame_New, PyFrame_Type, PyLong_AsSsize_t, PyLong_FromSsize_t, PyObject,
    PyThreadState_Get,
};

use crate::layout::{Code, Frame, FrameObject, Generator, OWNED_BY_FRAME_OBJECT, SUSPENDED};
use crate::suspended::{Kind, Stage, generator_of, stage};

/// `CO_OPTIMIZED`: variables are slots of the frame.
const OPTIMIZED: c_int = 1;
/// `CO_FAST_FREE` of a variable's kind: it is always a cell.
const FREE: u8 = 0x80;

/// The code of a frame.
///
/// # Safety
/// See the crate; `frame` is a frame object.
unsafe fn parts(frame: *mut PyObject) -> (*mut Frame, *mut Code) {
    // SAFETY: a frame object always has a frame, and that its code.
    unsafe {
        let frame = (*frame.cast::<FrameObject>()).frame;
        (frame, (*frame).code.cast::<Code>())
    }
}

/// The variables of a frame as a new dict from index to value. Cells stay cells; what is unbound is
/// left out.
///
/// # Safety
/// See the crate; `frame` is a frame object.
pub unsafe fn variables(frame: *mut PyObject) -> *mut PyObject {
    // SAFETY: a frame has as many slots as its code says, each null or an object. No Python code runs
    // while they are read: the keys are ints, and values are only stored.
    unsafe {
        let (frame, code) = parts(frame);
        let found = PyDict_New();
        if found.is_null() {
            return found;
        }
        let slots = (&raw const (*frame).localsplus).cast::<*mut PyObject>();
        for index in 0..usize::try_from((*code).nlocalsplus).unwrap_or(0) {
            let value = *slots.add(index);
            if value.is_null() {
                continue;
            }
            let key = PyLong_FromSsize_t(index.cast_signed());
            if key.is_null() || PyDict_SetItem(found, key, value) < 0 {
                Py_XDECREF(key);
                Py_DECREF(found);
                return ptr::null_mut();
            }
            Py_DECREF(key);
        }
        found
    }
}

/// The mapping that holds the variables of a class body, a module or `exec`: a new reference; null,
/// without an exception, for functions.
///
/// # Safety
/// See the crate; `frame` is a frame object.
pub unsafe fn locals(frame: *mut PyObject) -> *mut PyObject {
    // SAFETY: the field is null or an object.
    unsafe {
        let (frame, code) = parts(frame);
        let locals = (*frame).locals;
        if (*code).flags & OPTIMIZED != 0 || locals.is_null() {
            return ptr::null_mut();
        }
        Py_INCREF(locals);
        locals
    }
}

/// A frame without variables that stands at the byte offset `lasti` of its code.
///
/// # Safety
/// See the crate.
pub unsafe fn new_frame(code: *mut PyObject, globals: *mut PyObject, lasti: i64) -> *mut PyObject {
    // SAFETY: the types are checked; the frame object is new and owns its frame, which nobody
    // executes. The offset is within the code.
    unsafe {
        if Py_TYPE(code) != &raw mut PyCode_Type || PyDict_Check(globals) == 0 {
            PyErr_SetString(
                PyExc_TypeError,
                c"a frame is made of a code object and a dict".as_ptr(),
            );
            return ptr::null_mut();
        }
        let struct_ = code.cast::<Code>();
        let size = (*struct_).base.ob_size as i64 * 2;
        if lasti % 2 != 0 || lasti < -2 || lasti >= size {
            PyErr_SetString(
                PyExc_ValueError,
                c"the position of a frame is not within its code".as_ptr(),
            );
            return ptr::null_mut();
        }
        let object: *mut PyObject =
            PyFrame_New(PyThreadState_Get(), code.cast(), globals, ptr::null_mut()).cast();
        if !object.is_null() {
            let frame = (*object.cast::<FrameObject>()).frame;
            let first = (&raw const (*struct_).adaptive).cast::<u16>();
            // One before the first is where a function stands that has not begun.
            (*frame).instruction = first.wrapping_offset((lasti / 2) as isize);
            (*frame).previous = ptr::null_mut();
        }
        object
    }
}

/// Whether a frame object owns its frame and has no variables yet, as [`new_frame`] makes it.
unsafe fn is_fresh(frame: *mut PyObject) -> bool {
    // SAFETY: a frame object.
    unsafe {
        let (inner, code) = parts(frame);
        if (*inner).owner != OWNED_BY_FRAME_OBJECT || !(*inner).previous.is_null() {
            return false;
        }
        let slots = (&raw const (*inner).localsplus).cast::<*mut PyObject>();
        (0..usize::try_from((*code).nlocalsplus).unwrap_or(0))
            .all(|index| (*slots.add(index)).is_null())
    }
}

/// Gives a frame that [`new_frame`] has made its variables: a dict from index to value, and a mapping
/// (or null) for code that is no function. -1: an exception is set.
///
/// # Safety
/// See the crate; `frame` is a frame object, `values` a dict.
pub unsafe fn set_variables(
    frame: *mut PyObject,
    values: *mut PyObject,
    locals: *mut PyObject,
) -> c_int {
    let refuse = |text: &std::ffi::CStr| {
        // SAFETY: attached, as the caller says.
        unsafe { PyErr_SetString(PyExc_ValueError, text.as_ptr()) };
        -1
    };
    // SAFETY: slots are within what the code says; each is null before and owns what it is given.
    unsafe {
        if Py_TYPE(frame) != &raw mut PyFrame_Type || !is_fresh(frame) {
            return refuse(c"only a frame that was just made can be given variables");
        }
        let (inner, code) = parts(frame);
        let count = usize::try_from((*code).nlocalsplus).unwrap_or(0);
        let kinds = pyo3_ffi::PyBytes_AsString((*code).localspluskinds).cast::<u8>();
        if kinds.is_null() {
            return -1;
        }
        let slots = (&raw mut (*inner).localsplus).cast::<*mut PyObject>();
        let (mut position, mut key, mut value) = (0, ptr::null_mut(), ptr::null_mut());
        while PyDict_Next(values, &raw mut position, &raw mut key, &raw mut value) != 0 {
            let index = PyLong_AsSsize_t(key);
            if index == -1 && !PyErr_Occurred().is_null() {
                return -1;
            }
            let Some(index) = usize::try_from(index).ok().filter(|index| *index < count) else {
                return refuse(c"a frame has no variable of that number");
            };
            if !(*slots.add(index)).is_null() {
                return refuse(c"a variable of a frame was given twice");
            }
            // A free variable is always read as a cell.
            let kind = *kinds.add(index);
            let is_cell = Py_TYPE(value) == &raw mut PyCell_Type;
            if kind & FREE != 0 && !is_cell {
                return refuse(c"a variable of a frame that others share must be a cell");
            }
            Py_INCREF(value);
            *slots.add(index) = value;
        }
        if !locals.is_null() && (*code).flags & OPTIMIZED == 0 {
            Py_INCREF(locals);
            let old = (*inner).locals;
            (*inner).locals = locals;
            Py_XDECREF(old);
        }
        0
    }
}

/// Makes `outer` the caller of `inner` (`f_back`), where `inner` was made by [`new_frame`] and has
/// none.
///
/// # Safety
/// See the crate; both are frame objects.
pub unsafe fn set_back(inner: *mut PyObject, outer: *mut PyObject) {
    // SAFETY: the field is null, or an owned reference to a frame object.
    unsafe {
        let object = inner.cast::<FrameObject>();
        let owner = (*(*object).frame).owner;
        if owner == OWNED_BY_FRAME_OBJECT && (*object).back.is_null() && inner != outer {
            // A circle of callers would hang whoever follows it.
            let mut caller = outer;
            while !caller.is_null() {
                if caller == inner {
                    return;
                }
                caller = (*caller.cast::<FrameObject>()).back;
            }
            Py_INCREF(outer);
            (*object).back = outer;
        }
    }
}

/// The generator, coroutine or asynchronous generator that a frame belongs to, if it is at rest: a
/// new reference; null, without an exception, for other frames.
///
/// # Safety
/// See the crate; `frame` is a frame object.
pub unsafe fn suspended_generator(frame: *mut PyObject) -> *mut PyObject {
    // SAFETY: a generator outlives the frame that lies in it.
    unsafe {
        let generator = generator_of(frame);
        if generator.is_null() || stage(generator) != Stage::AtRest {
            return ptr::null_mut();
        }
        Py_INCREF(generator);
        generator
    }
}

/// The frame object of a generator, coroutine or asynchronous generator that is at rest, or that was made
/// and waits for its state: a new reference. Null: an exception is set.
///
/// # Safety
/// See the crate.
pub unsafe fn frame_of(generator: *mut PyObject) -> *mut PyObject {
    // SAFETY: the struct is a generator's, as its type says. CPython makes no frame object for what
    // counts as finished, so that what is still to be filled is shown as suspended meanwhile; the
    // getter runs no code of the generator, and an audit hook sees a frame without variables.
    unsafe {
        let name = match Kind::of(generator) {
            Some(Kind::Generator) => c"gi_frame",
            Some(Kind::Coroutine) => c"cr_frame",
            Some(Kind::AsyncGenerator) => c"ag_frame",
            None => {
                PyErr_SetString(PyExc_TypeError, c"only a generator has a frame".as_ptr());
                return ptr::null_mut();
            }
        };
        let struct_ = generator.cast::<Generator>();
        let before = (*struct_).state;
        let waits = stage(generator) == Stage::Unfinished;
        if waits {
            (*struct_).state = SUSPENDED;
        }
        let frame = pyo3_ffi::PyObject_GetAttrString(generator, name.as_ptr());
        if waits {
            (*struct_).state = before;
        }
        frame
    }
}
