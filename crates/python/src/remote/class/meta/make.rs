//! Making the hidden metaclass of a visible one, and classes by it, without running anything of the
//! user's.

use pyo3::exceptions::PyTypeError;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyTuple, PyType};
use pyo3::{PyTypeInfo, intern};
use std::ptr;

use super::spec::{remote, remote_enum};
use super::{abc_meta, enum_meta, is_subtype, record, statics};

/// The hidden metaclass for classes whose metaclass is `visible`.
pub(in crate::remote::class) fn hidden<'py>(
    visible: &Bound<'py, PyType>,
) -> PyResult<Bound<'py, PyType>> {
    let py = visible.py();
    if visible.is(PyType::type_object(py)) || visible.is(abc_meta(py)?) {
        return remote(py);
    }
    if visible.is(enum_meta(py)?) {
        return remote_enum(py);
    }
    // Another metaclass, made visible by deriving from it. One that came over keeps its hidden one
    // itself; the few of this process are kept for good.
    static OTHERS: PyOnceLock<Py<PyDict>> = PyOnceLock::new();
    let make = || -> PyResult<Py<PyType>> {
        let first = if is_subtype(visible, &enum_meta(py)?) {
            remote_enum(py)?
        } else {
            remote(py)?
        };
        let bases = PyTuple::new(py, [first, visible.clone()])?;
        let dict = PyDict::new(py);
        dict.set_item("__module__", "builtins")?;
        let meta = statics::true_type(visible.as_any());
        quietly(&meta, &visible.name()?.to_string_lossy(), &bases, &dict).map(Bound::unbind)
    };
    if let Some(record) = record(visible) {
        let slot = &record.get().hidden;
        if let Some(made) = slot.get() {
            return Ok(made.bind(py).clone());
        }
        let made = make()?;
        return Ok(slot.get_or_init(|| made).bind(py).clone());
    }
    let others = OTHERS.get_or_init(py, || PyDict::new(py).unbind()).bind(py);
    if let Some(found) = others.get_item(visible)? {
        return Ok(found.cast_into::<PyType>()?);
    }
    let made = make()?.into_bound(py);
    others.set_item(visible, &made)?;
    Ok(made)
}

/// Makes a class by `type.__new__` alone: no `__init_subclass__` of any base runs.
///
/// # Errors
/// Those of `type.__new__` (layouts that do not fit).
pub(in crate::remote::class) fn quietly<'py>(
    meta: &Bound<'py, PyType>,
    name: &str,
    bases: &Bound<'py, PyTuple>,
    dict: &Bound<'py, PyDict>,
) -> PyResult<Bound<'py, PyType>> {
    let py = meta.py();
    let name_of_hook = intern!(py, "__init_subclass__").as_any();
    let silent = statics::lookup(&py.get_type::<PyAny>(), name_of_hook)?;
    let mut loud = false;
    for base in bases {
        let found = statics::lookup(&base.cast_into::<PyType>()?, name_of_hook)?;
        loud |= !found.is_none_or(|found| silent.as_ref().is_some_and(|silent| found.is(silent)));
    }
    if !loud {
        return type_new(meta, name, bases, dict);
    }
    // A metaclass that puts a silent class right after the new one in its order, for as long as it
    // takes to make it.
    static MUTE: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let order = MUTE.get_or_try_init(py, || {
        py.import("objspace._stubs")?
            .getattr("quiet_order")
            .map(Bound::unbind)
    })?;
    let muted = PyDict::new(py);
    muted.set_item("mro", order)?;
    let muted = type_new(
        &statics::true_type(meta.as_any()),
        &meta.name()?.to_string_lossy(),
        &PyTuple::new(py, [meta])?,
        &muted,
    )?;
    let class = type_new(&muted, name, bases, dict)?;
    let object = py.get_type::<PyAny>();
    statics::own(&object, "__class__")?
        .ok_or_else(|| PyTypeError::new_err("object has no __class__"))?
        .call_method1("__set__", (&class, meta))?;
    statics::own(&PyType::type_object(py), "__bases__")?
        .ok_or_else(|| PyTypeError::new_err("type has no __bases__"))?
        .call_method1("__set__", (&class, bases))?;
    Ok(class)
}

fn type_new<'py>(
    meta: &Bound<'py, PyType>,
    name: &str,
    bases: &Bound<'py, PyTuple>,
    dict: &Bound<'py, PyDict>,
) -> PyResult<Bound<'py, PyType>> {
    let py = meta.py();
    let arguments = (name, bases, dict).into_pyobject(py)?;
    // SAFETY: `type` itself has a `tp_new`; called as `type.__new__(meta, name, bases, dict)`.
    let made = unsafe {
        let Some(new) = (*ptr::addr_of!(ffi::PyType_Type)).tp_new else {
            return Err(PyTypeError::new_err("type cannot be instantiated"));
        };
        Bound::from_owned_ptr_or_err(
            py,
            new(meta.as_type_ptr(), arguments.as_ptr(), ptr::null_mut()),
        )
    }?;
    Ok(made.cast_into::<PyType>()?)
}
