//! Attributes of remote classes: facts are here, state is asked for, changes are made over there.

use std::ffi::c_int;
use std::ptr;

use pyo3::exceptions::{PyAttributeError, PyTypeError};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyList, PyString, PyType};
use pyo3::{PyTypeInfo, intern};

use super::spec::{any, class, slot_body, text};
use super::{KEY, Record, abc_meta, is_subtype, nearest, record, statics, visible_metaclass};
use crate::remote::class::attribute::RemoteAttribute;

fn is_dunder(name: &str) -> bool {
    name.len() > 4 && name.starts_with("__") && name.ends_with("__")
}

/// What `ABCMeta` adds to its classes; only abstract classes may show it.
const ABC_NAMES: [&str; 4] = [
    "register",
    "_dump_registry",
    "_abc_registry_clear",
    "_abc_caches_clear",
];

/// Names that the standard library looks for on any class, in vain: not worth a message.
const PROBED: [&str; 4] = ["_abc_impl", "_fields", "_is_protocol", "_partialmethod"];

pub(super) unsafe extern "C" fn getattro(
    object: *mut ffi::PyObject,
    name: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    // SAFETY: called by the interpreter with a class and a name.
    unsafe {
        let wanted = text(name);
        if wanted == "__class__" {
            return slot_body(ptr::null_mut(), |py| {
                let class = class(py, object)?;
                let shown =
                    visible_metaclass(&class).unwrap_or_else(|| statics::true_type(class.as_any()));
                Ok(shown.into_any().into_ptr())
            });
        }
        if ABC_NAMES.contains(&wanted) {
            return slot_body(ptr::null_mut(), |py| {
                abc_attribute(&class(py, object)?, &any(py, name)).map(Bound::into_ptr)
            });
        }
        let Some(usual) = (*ptr::addr_of!(ffi::PyType_Type)).tp_getattro else {
            return ptr::null_mut();
        };
        let found = usual(object, name);
        if !found.is_null()
            || is_dunder(wanted)
            || PROBED.contains(&wanted)
            || ffi::PyErr_ExceptionMatches(ffi::PyExc_AttributeError) == 0
        {
            return found;
        }
        slot_body(ptr::null_mut(), |py| {
            let error = PyErr::fetch(py);
            ask_for(&class(py, object)?, &any(py, name), error).map(Bound::into_ptr)
        })
    }
}

/// An attribute that no dict here has: the other side may have got it since.
fn ask_for<'py>(
    class: &Bound<'py, PyType>,
    name: &Bound<'py, PyAny>,
    error: PyErr,
) -> PyResult<Bound<'py, PyAny>> {
    let py = class.py();
    let Some(record) = nearest(class) else {
        return Err(error);
    };
    let answer = record
        .get()
        .access
        .bind(py)
        .call1((intern!(py, "get"), name));
    answer.map_err(|other| {
        if other.is_instance_of::<PyAttributeError>(py) {
            error
        } else {
            other
        }
    })
}

fn abc_attribute<'py>(
    class: &Bound<'py, PyType>,
    name: &Bound<'py, PyAny>,
) -> PyResult<Bound<'py, PyAny>> {
    let py = class.py();
    let own = statics::lookup(class, name)?.is_some();
    let local = record(class).is_none()
        && visible_metaclass(class)
            .is_some_and(|shown| abc_meta(py).is_ok_and(|abc| is_subtype(&shown, &abc)));
    if own || local {
        // SAFETY: as the slot itself would.
        return unsafe {
            match (*ptr::addr_of!(ffi::PyType_Type)).tp_getattro {
                Some(usual) => {
                    Bound::from_owned_ptr_or_err(py, usual(class.as_ptr(), name.as_ptr()))
                }
                None => Err(PyAttributeError::new_err(name.clone().unbind())),
            }
        };
    }
    let text = format!(
        "type object '{}' has no attribute '{name}'",
        class.name()?.to_string_lossy()
    );
    ask_for(class, name, PyAttributeError::new_err(text))
}

pub(super) unsafe extern "C" fn setattro(
    object: *mut ffi::PyObject,
    name: *mut ffi::PyObject,
    value: *mut ffi::PyObject,
) -> c_int {
    // SAFETY: called by the interpreter with a class, a name and a value or null.
    unsafe {
        slot_body(-1, |py| {
            let class = class(py, object)?;
            let name = any(py, name);
            let value = Bound::from_borrowed_ptr_or_opt(py, value);
            match record(&class) {
                None => set_here(&class, &name, value.as_ref())?,
                Some(record) => set_there(&class, record.get(), &name, value.as_ref())?,
            }
            Ok(0)
        })
    }
}

/// Sets or deletes an attribute of the class object itself, as `type` does it.
pub(in crate::remote::class) fn set_here(
    class: &Bound<'_, PyType>,
    name: &Bound<'_, PyAny>,
    value: Option<&Bound<'_, PyAny>>,
) -> PyResult<()> {
    let py = class.py();
    // SAFETY: as the slot of `type` is called, with a class, a name and a value or null.
    let status = unsafe {
        match (*ptr::addr_of!(ffi::PyType_Type)).tp_setattro {
            Some(usual) => usual(
                class.as_ptr(),
                name.as_ptr(),
                value.map_or(ptr::null_mut(), |value| value.as_ptr()),
            ),
            None => 0,
        }
    };
    if status < 0 {
        Err(PyErr::fetch(py))
    } else {
        Ok(())
    }
}

fn set_there(
    class: &Bound<'_, PyType>,
    record: &Record,
    name: &Bound<'_, PyAny>,
    value: Option<&Bound<'_, PyAny>>,
) -> PyResult<()> {
    let py = class.py();
    let text = name.cast::<PyString>()?.to_string_lossy();
    match &*text {
        // Notes of the interpreter and the standard library about this very class object.
        "__abstractmethods__" | "_abc_impl" | "__slotnames__" | KEY => {
            return set_here(class, name, value);
        }
        "__bases__" | "__class__" | "__mro__" => {
            return Err(PyTypeError::new_err(format!(
                "{text} of the remote class '{}' cannot be changed",
                class.qualname()?.to_string_lossy()
            )));
        }
        _ => {}
    }
    let access = record.access.bind(py);
    match value {
        Some(value) => access.call1((intern!(py, "set"), name, value))?,
        None => access.call1((intern!(py, "delete"), name))?,
    };
    match (&*text, value) {
        ("__name__" | "__qualname__" | "__doc__" | "__module__", Some(value)) => {
            set_here(class, name, Some(value))
        }
        // From now on it is state.
        (_, Some(_)) => {
            let attribute = RemoteAttribute::new(
                access.clone().unbind(),
                name.clone().cast_into::<PyString>()?.unbind(),
                true,
            );
            set_here(class, name, Some(Bound::new(py, attribute)?.as_any()))
        }
        (_, None) => {
            if statics::dict(class)?.contains(name)? {
                set_here(class, name, None)
            } else {
                Ok(())
            }
        }
    }
}

pub(super) unsafe extern "C" fn list_names(
    object: *mut ffi::PyObject,
    _: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    // SAFETY: called by the interpreter with a class.
    unsafe {
        slot_body(ptr::null_mut(), |py| {
            let class = class(py, object)?;
            let usual = PyType::type_object(py).getattr(intern!(py, "__dir__"))?;
            let abstract_class = visible_metaclass(&class)
                .is_some_and(|shown| abc_meta(py).is_ok_and(|abc| is_subtype(&shown, &abc)));
            let names = PyList::empty(py);
            for name in usual.call1((&class,))?.try_iter()? {
                let name = name?;
                let text = name.cast::<PyString>()?.to_string_lossy();
                if text != KEY && (abstract_class || text != "_abc_impl") {
                    names.append(&name)?;
                }
            }
            Ok(names.into_any().into_ptr())
        })
    }
}
