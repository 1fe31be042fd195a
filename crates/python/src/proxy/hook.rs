//! The hook of `type(x)`, as this extension uses it: what it is told of an object, and its coming and
//! going. How it works is in `objspace_interp::type_hook`.

use objspace_interp::type_hook::{self, Answer};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyType;

use super::object::{Payload, dealloc_proxy, declared_type};
use crate::remote::class::visible_metaclass;

/// What the hook of `type(x)` asks of what may be a proxy: its declared type.
unsafe fn classify(object: *mut ffi::PyObject) -> Answer {
    // SAFETY: the interpreter calls `type(x)` attached, with a live object, which keeps its declared
    // type alive.
    unsafe {
        let payload = Payload::find(object);
        if payload.is_null() {
            // The twin of a remote class shows another metaclass than it has; any class whose
            // metaclass is `type` itself is none.
            if ffi::PyType_Check(object) == 0 || ffi::Py_TYPE(object) == &raw mut ffi::PyType_Type {
                return Answer::NotAProxy;
            }
            let class = Bound::from_borrowed_ptr(Python::assume_attached(), object);
            let visible = class.cast::<PyType>().ok().and_then(visible_metaclass);
            return visible.map_or(Answer::NotAProxy, |visible| {
                Answer::New(visible.into_ptr().cast())
            });
        }
        if !(*payload).is_deferred() {
            return Answer::Borrowed((*payload).declared.cast());
        }
        let found = declared_type(object);
        if found.is_null() {
            Answer::Failed
        } else {
            Answer::New(found.cast())
        }
    }
}

/// Makes `type(proxy)` answer the declared type, unless `OBJSPACE_TYPE_HOOK=0`.
pub(crate) fn install_unless_left_out(py: Python<'_>) -> PyResult<()> {
    if std::env::var_os("OBJSPACE_TYPE_HOOK").is_some_and(|value| value == "0") {
        return Ok(());
    }
    install_type_hook(py)
}

fn finish(py: Python<'_>, status: std::ffi::c_int) -> PyResult<()> {
    if status == 0 {
        Ok(())
    } else {
        Err(PyErr::fetch(py))
    }
}

/// Makes `type(proxy)` answer the declared type. Importing this package has done so already, unless
/// `OBJSPACE_TYPE_HOOK=0`. Installed: no effect.
#[pyfunction]
pub(crate) fn install_type_hook(py: Python<'_>) -> PyResult<()> {
    // SAFETY: attached; `classify` tells the truth about its references.
    finish(py, unsafe { type_hook::install(classify, dealloc_proxy) })
}

/// Takes the hook of `type(x)` out: `type` is as it was before the import, and `type(proxy)` answers
/// a type of this package. `proxy.__class__` and `isinstance` stay true. Not installed: no effect.
#[pyfunction]
pub(crate) fn uninstall_type_hook(py: Python<'_>) -> PyResult<()> {
    // SAFETY: attached.
    finish(py, unsafe { type_hook::uninstall() })
}

/// Whether `type(proxy)` answers the declared type now.
#[pyfunction]
pub(crate) fn type_hook_installed() -> bool {
    type_hook::installed()
}
