//! Calling a remote class, and finishing a local subclass of one.

use std::ffi::c_int;
use std::ptr;

use pyo3::exceptions::PyTypeError;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString, PyTuple, PyType};

use super::checks::abc_init;
use super::spec::{any, class, slot_body};
use super::{ask, record, statics, visible_metaclass};

pub(super) unsafe extern "C" fn call(
    object: *mut ffi::PyObject,
    args: *mut ffi::PyObject,
    kwargs: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    // SAFETY: called by the interpreter with a class, a tuple and a dict or null.
    unsafe {
        slot_body(ptr::null_mut(), |py| {
            let class = class(py, object)?;
            let arguments = any(py, args).cast_into::<PyTuple>()?;
            let keywords = Bound::from_borrowed_ptr_or_opt(py, kwargs)
                .map(Bound::cast_into::<PyDict>)
                .transpose()?;
            let made = if let Some(record) = record(&class) {
                ask(
                    record.get().access.bind(py),
                    "new",
                    &py.None().into_bound(py),
                    &arguments,
                    keywords.as_ref(),
                )?
            } else if let Some(custom) = metaclass_method(&class, "__call__")? {
                let all = PyTuple::new(py, [&class])?
                    .as_sequence()
                    .concat(arguments.as_sequence())?
                    .to_tuple()?;
                custom.call(all, keywords.as_ref())?
            } else {
                let Some(usual) = (*ptr::addr_of!(ffi::PyType_Type)).tp_call else {
                    return Ok(ptr::null_mut());
                };
                Bound::from_owned_ptr_or_err(py, usual(object, args, kwargs))?
            };
            Ok(made.into_ptr())
        })
    }
}

/// A method that a metaclass of the user's defines, as the function (stub) it is.
fn metaclass_method<'py>(
    class: &Bound<'py, PyType>,
    name: &str,
) -> PyResult<Option<Bound<'py, PyAny>>> {
    for base in statics::true_type(class.as_any()).mro() {
        let base = base.cast_into::<PyType>()?;
        if record(&base).is_some()
            && let Some(found) = statics::dict(&base)?.get_item(name)?
        {
            return Ok(Some(found));
        }
    }
    Ok(None)
}

/// Finishes a local subclass, which `type.__new__` made.
pub(super) unsafe extern "C" fn init(
    object: *mut ffi::PyObject,
    args: *mut ffi::PyObject,
    kwargs: *mut ffi::PyObject,
) -> c_int {
    // SAFETY: called by the interpreter with a class, a tuple and a dict or null.
    unsafe {
        slot_body(-1, |py| {
            let class = class(py, object)?;
            if metaclass_method(&class, "__new__")?.is_some() {
                let meta = visible_metaclass(&class)
                    .map_or_else(|| Ok(PyString::new(py, "?")), |meta| meta.qualname())?;
                return Err(PyTypeError::new_err(format!(
                    "cannot subclass a remote class of metaclass '{}' here: the metaclass defines __new__, which makes \
                     classes in the other process only",
                    meta.to_string_lossy()
                )));
            }
            abc_init(&class)?;
            if let Some(custom) = metaclass_method(&class, "__init__")? {
                let all = PyTuple::new(py, [&class])?
                    .as_sequence()
                    .concat(any(py, args).cast::<PyTuple>()?.as_sequence())?;
                let keywords = Bound::from_borrowed_ptr_or_opt(py, kwargs)
                    .map(Bound::cast_into::<PyDict>)
                    .transpose()?;
                custom.call(all.to_tuple()?, keywords.as_ref())?;
            }
            Ok(0)
        })
    }
}

/// Makes an instance of `class` as `class.__new__(class, *args, **kwargs)` should, where a remote
/// base defines `__new__`.
pub(in crate::remote::class) fn make<'py>(
    class: &Bound<'py, PyType>,
    args: &Bound<'py, PyTuple>,
    kwargs: Option<&Bound<'py, PyDict>>,
) -> PyResult<Bound<'py, PyAny>> {
    let py = class.py();
    if let Some(record) = record(class) {
        return ask(
            record.get().access.bind(py),
            "new",
            &py.None().into_bound(py),
            args,
            kwargs,
        );
    }
    let mut owner = class.qualname()?;
    for base in class.mro() {
        let base = base.cast_into::<PyType>()?;
        if record(&base).is_some() && statics::dict(&base)?.contains("__new__")? {
            owner = base.qualname()?;
            break;
        }
    }
    Err(PyTypeError::new_err(format!(
        "cannot make an object of the local class '{}': its remote base '{}' defines __new__, which makes objects in \
         the other process only; call '{}' itself, or wrap what it makes",
        class.qualname()?.to_string_lossy(),
        owner.to_string_lossy(),
        owner.to_string_lossy(),
    )))
}
