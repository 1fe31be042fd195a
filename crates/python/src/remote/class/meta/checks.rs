//! `isinstance` and `issubclass` of remote classes.

use std::ptr;

use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyTuple, PyType};
use pyo3::{PyTypeInfo, intern};

use super::spec::{any, class, slot_body};
use super::{abc_meta, is_subtype, record, set_here, statics, visible_metaclass};
use crate::remote::class::flag;

/// Gives a remote class the registry of an abstract one. Its abstract names are known; working them
/// out would read attributes of it.
pub(in crate::remote::class) fn abc_registry(class: &Bound<'_, PyType>) -> PyResult<()> {
    let py = class.py();
    let names = PyDict::new(py);
    names.set_item("__bases__", PyTuple::empty(py))?;
    let blank = py
        .import("types")?
        .getattr("SimpleNamespace")?
        .call((), Some(&names))?;
    py.import("_abc")?.getattr("_abc_init")?.call1((&blank,))?;
    set_here(
        class,
        intern!(py, "_abc_impl").as_any(),
        Some(&blank.getattr("_abc_impl")?),
    )
}

/// What `ABCMeta.__new__` does after making the class.
pub(super) fn abc_init(class: &Bound<'_, PyType>) -> PyResult<()> {
    static INIT: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let py = class.py();
    let init = INIT.get_or_try_init(py, || {
        py.import("_abc")?.getattr("_abc_init").map(Bound::unbind)
    })?;
    init.bind(py).call1((class,)).map(drop)
}

/// Asks the true owner of a class whose metaclass (or registrations, for abstract classes) decide.
fn ask_check(
    class: &Bound<'_, PyType>,
    operation: &str,
    subject: &Bound<'_, PyAny>,
) -> PyResult<Option<bool>> {
    let py = class.py();
    let Some(record) = record(class) else {
        return Ok(None);
    };
    let record = record.get();
    if record.flags & (flag::OWN_CHECK | flag::ABC) == 0 {
        return Ok(None);
    }
    record
        .access
        .bind(py)
        .call1((operation, py.None(), subject))?
        .is_truthy()
        .map(Some)
}

/// Whether `ABCMeta` is going through the subclasses of some abstract class in this very moment: the
/// innermost Python frame is one of its two checks, and the class at hand is one of those subclasses.
///
/// The other side is not asked then. If the abstract class is a remote one, it is asked about the
/// whole afterwards. If it is a class of this process, such as `Mapping`, then `isinstance(x, Mapping)`
/// of anything at all comes by here: it must not cost a message, nor fail when a session has ended.
fn within_abstract_check(py: Python<'_>) -> bool {
    static CHECKS: PyOnceLock<Option<Vec<Py<PyAny>>>> = PyOnceLock::new();
    let checks = CHECKS.get_or_init(py, || codes_of_checks(py).ok());
    // SAFETY: attached; the frame is borrowed from the thread, and its code object is a new reference.
    let code = unsafe {
        let frame = ffi::PyEval_GetFrame();
        if frame.is_null() {
            return false;
        }
        Bound::from_owned_ptr_or_opt(py, ffi::PyFrame_GetCode(frame).cast())
    };
    code.is_some_and(|code| checks.iter().flatten().any(|check| code.is(check.bind(py))))
}

/// The code of the checks of `ABCMeta`, and of those of protocols, which call the same C functions.
fn codes_of_checks(py: Python<'_>) -> PyResult<Vec<Py<PyAny>>> {
    let mut codes = Vec::new();
    let protocol = statics::true_type(&py.import("typing")?.getattr("Protocol")?);
    for meta in [abc_meta(py)?, protocol] {
        for name in ["__instancecheck__", "__subclasscheck__"] {
            if let Some(check) = statics::own(&meta, name)? {
                codes.push(check.getattr(intern!(py, "__code__"))?.unbind());
            }
        }
    }
    Ok(codes)
}

/// What both checks do.
///
/// # Safety
/// Called by the interpreter with a class and any object.
unsafe fn check(
    object: *mut ffi::PyObject,
    subject: *mut ffi::PyObject,
    operation: &'static str,
) -> *mut ffi::PyObject {
    // SAFETY: called by the interpreter with a class and any object.
    unsafe {
        slot_body(ptr::null_mut(), |py| {
            let class = class(py, object)?;
            let subject = any(py, subject);
            let by_instance = operation == "__instancecheck__";
            let own = statics::true_type(&subject);
            let exact = if by_instance {
                is_subtype(&own, &class)
            } else {
                subject
                    .cast::<PyType>()
                    .is_ok_and(|subject| is_subtype(subject, &class))
            };
            let own_check =
                record(&class).is_some_and(|record| record.get().flags & flag::OWN_CHECK != 0);
            let mut answer = exact && !own_check;
            if !answer && !own_check {
                let shown = visible_metaclass(&class).unwrap_or_else(|| PyType::type_object(py));
                let abc = abc_meta(py)?;
                let usual = |meta: Bound<'_, PyType>| {
                    meta.getattr(operation)?
                        .call1((&class, &subject))?
                        .is_truthy()
                };
                answer = if is_subtype(&shown, &abc) {
                    usual(abc)?
                } else {
                    usual(PyType::type_object(py))?
                };
            }
            if !answer && !within_abstract_check(py) {
                answer = ask_check(&class, operation, &subject)?.unwrap_or(false);
            }
            Ok(ffi::PyBool_FromLong(answer.into()))
        })
    }
}

pub(super) unsafe extern "C" fn check_instance(
    object: *mut ffi::PyObject,
    subject: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    // SAFETY: passed on.
    unsafe { check(object, subject, "__instancecheck__") }
}

pub(super) unsafe extern "C" fn check_subclass(
    object: *mut ffi::PyObject,
    subject: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    // SAFETY: passed on.
    unsafe { check(object, subject, "__subclasscheck__") }
}
