//! Reading classes without running any code of theirs.
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyMappingProxy, PyType};
use pyo3::{PyTypeInfo, intern};

/// The class's own dict: not to be changed, and to be copied before anything runs that could.
pub(crate) fn dict<'py>(class: &Bound<'py, PyType>) -> PyResult<Bound<'py, PyDict>> {
    static GETTER: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let py = class.py();
    if is_heap(class) {
        // SAFETY: a ready heap type keeps its dict here for life.
        let dict = unsafe { Bound::from_borrowed_ptr_or_opt(py, (*class.as_type_ptr()).tp_dict) };
        if let Some(dict) = dict {
            return Ok(dict.cast_into::<PyDict>()?);
        }
    }
    let getter = GETTER.get_or_try_init(py, || {
        let own = PyType::type_object(py).getattr("__dict__")?;
        own.get_item("__dict__")?
            .getattr("__get__")
            .map(Bound::unbind)
    })?;
    let proxy = getter
        .bind(py)
        .call1((class, class.get_type()))?
        .cast_into::<PyMappingProxy>()?;
    Ok(proxy
        .call_method0(intern!(py, "copy"))?
        .cast_into::<PyDict>()?)
}

/// One entry of the class's own dict.
pub(crate) fn own<'py>(
    class: &Bound<'py, PyType>,
    name: &str,
) -> PyResult<Option<Bound<'py, PyAny>>> {
    dict(class)?.get_item(name)
}

/// The first entry of that name in the class and its bases.
pub(crate) fn lookup<'py>(
    class: &Bound<'py, PyType>,
    name: &Bound<'py, PyAny>,
) -> PyResult<Option<Bound<'py, PyAny>>> {
    for base in class.mro() {
        if let Some(found) = dict(&base.cast_into::<PyType>()?)?.get_item(name)? {
            return Ok(Some(found));
        }
    }
    Ok(None)
}

/// The flags of a type.
pub(crate) fn flags(class: &Bound<'_, PyType>) -> std::ffi::c_ulong {
    // SAFETY: a live type object.
    unsafe { pyo3::ffi::PyType_GetFlags(class.as_type_ptr()) }
}

/// Whether a class was made at run time (by Python code or a heap type of C).
pub(crate) fn is_heap(class: &Bound<'_, PyType>) -> bool {
    flags(class) & pyo3::ffi::Py_TPFLAGS_HEAPTYPE != 0
}

/// The nearest base that is a static type of C.
pub(crate) fn builtin_base<'py>(class: &Bound<'py, PyType>) -> PyResult<Bound<'py, PyType>> {
    let py = class.py();
    static BASE: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let getter = BASE.get_or_try_init(py, || {
        let own = PyType::type_object(py).getattr("__dict__")?;
        own.get_item("__base__")?
            .getattr("__get__")
            .map(Bound::unbind)
    })?;
    let mut class = class.clone();
    while is_heap(&class) {
        class = getter
            .bind(py)
            .call1((&class,))?
            .cast_into::<PyType>()
            .map_err(|_| PyTypeError::new_err("a class without a builtin base"))?;
    }
    Ok(class)
}

/// Whether a value is the descriptor of a slot (`__slots__`).
pub(crate) fn is_member(value: &Bound<'_, PyAny>) -> bool {
    static MEMBER: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    let py = value.py();
    MEMBER
        .import(py, "types", "MemberDescriptorType")
        .is_ok_and(|member| value.is_exact_instance(member))
}

/// Which of `__get__`, `__set__` or `__delete__` the value's type has: `(get, set or delete)`.
pub(crate) fn descriptor(value: &Bound<'_, PyAny>) -> (bool, bool) {
    // SAFETY: reading two fields of a live, ready type object.
    unsafe {
        let class = pyo3::ffi::Py_TYPE(value.as_ptr());
        (
            (*class).tp_descr_get.is_some(),
            (*class).tp_descr_set.is_some(),
        )
    }
}

/// The true type of a value, whatever `type(value)` is made to answer.
pub(crate) fn true_type<'py>(value: &Bound<'py, PyAny>) -> Bound<'py, PyType> {
    // SAFETY: every object has a type, which lives as long as the object.
    unsafe { PyType::from_borrowed_type_ptr(value.py(), pyo3::ffi::Py_TYPE(value.as_ptr())) }
}

/// An entry of a function's or other object's `__dict__`, without asking the object's class.
pub(crate) fn instance_entry<'py>(
    object: &Bound<'py, PyAny>,
    name: &str,
) -> PyResult<Option<Bound<'py, PyAny>>> {
    let py = object.py();
    let Ok(dict) = object.getattr(intern!(py, "__dict__")) else {
        return Ok(None);
    };
    let Ok(dict) = dict.cast_into::<PyDict>() else {
        return Ok(None);
    };
    dict.get_item(name)
}
