//! `json` over proxies of containers: the encoder that is written in C tells containers by their C
//! type; what is written in Python asks `isinstance`, and works by itself.

use std::ffi::c_void;
use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering};

use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple, PyType};

use super::{Container, container, contents};
use crate::proxy::object::{Object, Payload, as_proxy, guarded, is_proxy};
use crate::remote::copy_out;

type Class = *mut ffi::PyTypeObject;

static ENCODER_NEW: AtomicPtr<c_void> = AtomicPtr::new(ptr::null_mut());

/// The encoder of `json` that is written in C asks its `default` for what it does not know. It gets
/// one that answers for proxies of containers, and leaves the rest to the user's.
pub(super) fn prepare(py: Python<'_>) -> PyResult<()> {
    let Ok(module) = py.import("_json") else {
        // Not every Python is built with it; what is written in Python works by itself.
        return Ok(());
    };
    let Ok(class) = module.getattr("make_encoder")?.cast_into::<PyType>() else {
        return Ok(());
    };
    // SAFETY: attached, with a live type, whose slot is written with the GIL held.
    unsafe {
        let class = class.as_type_ptr();
        if let Some(new) = (*class).tp_new {
            ENCODER_NEW.store(new as *mut c_void, Ordering::Relaxed);
            (*class).tp_new = Some(new_encoder);
        }
    }
    Ok(())
}

unsafe extern "C" fn new_encoder(class: Class, args: Object, kwargs: Object) -> Object {
    // SAFETY: called by the interpreter as `tp_new`, after the original was remembered.
    unsafe {
        let before = ENCODER_NEW.load(Ordering::Relaxed);
        let before = std::mem::transmute::<*mut c_void, ffi::newfunc>(before);
        Python::attach_unchecked(|py| {
            guarded(py, || {
                let args = Bound::from_borrowed_ptr(py, args).cast_into::<PyTuple>()?;
                let kwargs = Bound::from_borrowed_ptr_or_opt(py, kwargs);
                let kwargs = kwargs
                    .map(|kwargs| kwargs.cast::<PyDict>()?.copy())
                    .transpose()?;
                let mut values: Vec<_> = args.iter().collect();
                if let Some(default) = values.get_mut(1) {
                    *default = wrapped_default(default.clone())?;
                } else if let Some(kwargs) = &kwargs
                    && let Some(default) = kwargs.get_item("default")?
                {
                    kwargs.set_item("default", wrapped_default(default)?)?;
                }
                let args = PyTuple::new(py, values)?;
                let kwargs = kwargs.map_or(ptr::null_mut(), |kwargs| kwargs.into_ptr());
                let made = before(class, args.as_ptr(), kwargs);
                ffi::Py_XDECREF(kwargs);
                Ok(Bound::from_owned_ptr_or_err(py, made)?.into_ptr())
            })
        })
    }
}

fn wrapped_default(default: Bound<'_, PyAny>) -> PyResult<Bound<'_, PyAny>> {
    let py = default.py();
    Ok(Bound::new(
        py,
        JsonDefault {
            default: default.unbind(),
        },
    )?
    .into_any())
}

/// The `default` of a `json` encoder, for proxies of containers first.
#[pyclass(frozen, module = "objspace._core")]
struct JsonDefault {
    default: Py<PyAny>,
}

#[pymethods]
impl JsonDefault {
    fn __call__<'py>(&self, value: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        let py = value.py();
        if let Some(proxy) = as_proxy(value) {
            let value = if is_deferred(value) {
                proxy.resolved(py)?
            } else {
                value.clone()
            };
            // All that is inside comes in one message.
            if let Some(copy) = copy_out::for_reading(&value)? {
                return Ok(copy);
            }
            // SAFETY: attached, with a live object, which is a proxy of a known type where it is asked.
            unsafe {
                if !is_proxy(value.as_ptr()) {
                    return Ok(value);
                }
                if let Some(container @ (Container::Dict | Container::List | Container::Tuple)) =
                    container(value.as_ptr())
                {
                    return Bound::from_owned_ptr_or_err(py, contents(value.as_ptr(), container));
                }
            }
        }
        self.default.bind(py).call1((value,))
    }

    fn __traverse__(&self, visit: pyo3::gc::PyVisit<'_>) -> Result<(), pyo3::gc::PyTraverseError> {
        visit.call(&self.default)
    }
}

fn is_deferred(value: &Bound<'_, PyAny>) -> bool {
    // SAFETY: attached, with a live object.
    unsafe { Payload::find(value.as_ptr()).as_ref() }.is_some_and(Payload::is_deferred)
}
