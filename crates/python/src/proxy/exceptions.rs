//! Proxies of exceptions. The interpreter insists that what is raised is a C-level instance of
//! `BaseException`, and keeps the traceback, context and cause of what is being raised in its memory:
//! these the proxy has for itself. Everything else is its controller's.

use std::ffi::CStr;
use std::ptr;

use pyo3::exceptions::PyTypeError;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyTuple;

use super::object::Object;
use super::types::static_base;

/// What the interpreter keeps in the exception itself.
const OWN: [&CStr; 5] = [
    c"__traceback__",
    c"__context__",
    c"__cause__",
    c"__suppress_context__",
    c"with_traceback",
];

fn own_index(name: Object) -> Option<usize> {
    // SAFETY: callers are attached, with a live object; a str is checked for before it is compared.
    unsafe {
        if ffi::PyUnicode_Check(name) == 0 {
            return None;
        }
        OWN.iter()
            .position(|own| ffi::PyUnicode_CompareWithASCIIString(name, own.as_ptr()) == 0)
    }
}

/// Whether assigning the attribute is the proxy's own affair.
pub(super) fn is_own(name: Object) -> bool {
    own_index(name).is_some_and(|index| index < 4)
}

/// An attribute that the proxy answers itself: what raising it has left, `None` here if nothing has.
///
/// # Safety
/// Attached; `proxy` is a live proxy of an exception.
pub(super) unsafe fn own_attribute(proxy: Object, name: Object) -> Option<Object> {
    // SAFETY: as the caller says; the three getters return a new reference or null without an error.
    unsafe {
        let found = match own_index(name)? {
            0 => ffi::PyException_GetTraceback(proxy),
            1 => ffi::PyException_GetContext(proxy),
            2 => ffi::PyException_GetCause(proxy),
            3 => {
                let cause = ffi::PyException_GetCause(proxy);
                let context = ffi::PyException_GetContext(proxy);
                let any = !cause.is_null() || !context.is_null();
                ffi::Py_XDECREF(cause);
                ffi::Py_XDECREF(context);
                if any {
                    ffi::PyObject_GenericGetAttr(proxy, name)
                } else {
                    return None;
                }
            }
            _ => return Some(ffi::PyObject_GenericGetAttr(proxy, name)),
        };
        (!found.is_null()).then_some(found)
    }
}

/// Fills the memory that C code reads without asking: a group's members, an iterator's value.
pub(super) fn initialise(proxy: &Bound<'_, PyAny>) -> PyResult<()> {
    let py = proxy.py();
    // SAFETY: attached, with a new proxy that nothing else knows. The built-in base initialises its
    // own memory from arguments, which is what every exception made by calling a class goes through.
    unsafe {
        let base = static_base(ffi::Py_TYPE(proxy.as_ptr()));
        let is = |class: Object| ffi::PyType_IsSubtype(base, class.cast()) != 0;
        if is(ffi::PyExc_BaseExceptionGroup) {
            return Err(PyTypeError::new_err(format!(
                "cannot make a proxy of type '{}': the interpreter takes groups apart without asking",
                proxy.getattr("__class__")?.getattr("__name__")?
            )));
        }
        let args = if is(ffi::PyExc_StopIteration) {
            PyTuple::new(py, [proxy.getattr("value")?])?
        } else {
            PyTuple::empty(py)
        };
        if let Some(init) = (*base).tp_init
            && init(proxy.as_ptr(), args.as_ptr(), ptr::null_mut()) != 0
        {
            ffi::PyErr_Clear();
        }
    }
    Ok(())
}
