//! Proxies of exceptions. The interpreter insists that what is raised is a C-level instance of
//! `BaseException`, and keeps the traceback, context and cause of what is being raised in its memory:
//! these the proxy has for itself. Everything else is its controller's.

use std::ffi::CStr;
use std::ptr;

use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyTuple;

use super::object::Object;
use super::types::static_base;

/// What the interpreter keeps in the exception itself.
const OWN: [&CStr; 7] = [
    c"__traceback__",
    c"__context__",
    c"__cause__",
    c"__suppress_context__",
    c"with_traceback",
    c"split",
    c"subgroup",
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

/// Whether a proxy of an exception is one of a group.
///
/// # Safety
/// Attached; `proxy` is a live proxy of an exception.
unsafe fn is_group(proxy: Object) -> bool {
    // SAFETY: as the caller says; the type of groups lives for ever.
    unsafe { ffi::PyObject_TypeCheck(proxy, ffi::PyExc_BaseExceptionGroup.cast()) != 0 }
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
            4 => return Some(ffi::PyObject_GenericGetAttr(proxy, name)),
            // They give the parts the traceback, context and cause that the proxy itself has.
            _ if is_group(proxy) => return Some(ffi::PyObject_GenericGetAttr(proxy, name)),
            _ => return None,
        };
        (!found.is_null()).then_some(found)
    }
}

/// Gives a proxy of a group the message and the members that the interpreter reads from its memory:
/// `except*` and the printer of uncaught errors take groups apart without asking. Both are fixed when
/// a group is made, so that asking once is enough; a real group made of them proves them valid.
fn fill_group(proxy: &Bound<'_, PyAny>) -> PyResult<()> {
    let py = proxy.py();
    let members = proxy.getattr("exceptions")?.try_iter()?;
    let members = members.collect::<PyResult<Vec<_>>>()?;
    let group = py
        .import("builtins")?
        .getattr("BaseExceptionGroup")?
        .call1((proxy.getattr("message")?, members))?;
    // SAFETY: attached; both objects have the memory of a group, whose table of members says where in
    // it the two are. That of the proxy is new: its fields are null, and own what is put there.
    unsafe {
        let mut member = (*ffi::PyExc_BaseExceptionGroup.cast::<ffi::PyTypeObject>()).tp_members;
        while !member.is_null() && !(*member).name.is_null() {
            let name = CStr::from_ptr((*member).name);
            if name == c"message" || name == c"exceptions" {
                let place = |object: &Bound<'_, PyAny>| {
                    object
                        .as_ptr()
                        .byte_offset((*member).offset)
                        .cast::<Object>()
                };
                let before = ptr::replace(place(proxy), ffi::Py_NewRef(*place(&group)));
                ffi::Py_XDECREF(before);
            }
            member = member.add(1);
        }
        // The tuple of arguments, which is null so far, is never expected to be.
        let init = (*ffi::PyExc_BaseException.cast::<ffi::PyTypeObject>()).tp_init;
        let args = group.getattr("args")?;
        if let Some(init) = init
            && init(proxy.as_ptr(), args.as_ptr(), ptr::null_mut()) != 0
        {
            return Err(PyErr::fetch(py));
        }
    }
    Ok(())
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
            return fill_group(proxy);
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
