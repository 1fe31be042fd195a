//! `type(proxy)` in every place from which it can be called.

mod common;

use std::ffi::c_int;
use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering};

use objspace_interp::type_hook::{self, Answer};
use pyo3_ffi::{
    METH_NOARGS, METH_O, Py_DECREF, Py_IncRef, Py_None, Py_TYPE, PyBool_FromLong, PyErr_Occurred,
    PyMethodDef, PyMethodDefPointer, PyObject, PyObject_GetAttrString, PyType_Check, PyTypeObject,
    destructor,
};

/// The class whose instances are proxies in these tests, for the type `instance.declared`.
static PROXY: AtomicPtr<PyTypeObject> = AtomicPtr::new(ptr::null_mut());

/// Runs Python code (`declared` may be a property), and fails as that fails. A declared `None`
/// means: no proxy; a declared class that is named `Borrowed` is answered as a borrowed reference.
unsafe fn classify(object: *mut PyObject) -> Answer {
    // SAFETY: attached, as every hook is; references are balanced below.
    unsafe {
        if Py_TYPE(object) != PROXY.load(Ordering::Relaxed) {
            return Answer::NotAProxy;
        }
        let declared = PyObject_GetAttrString(object, c"declared".as_ptr());
        if declared.is_null() {
            assert!(!PyErr_Occurred().is_null());
            return Answer::Failed;
        }
        if PyType_Check(declared) == 0 {
            Py_DECREF(declared);
            return Answer::NotAProxy;
        }
        if declared == (&raw mut pyo3_ffi::PyList_Type).cast() {
            Py_DECREF(declared);
            return Answer::Borrowed(&raw mut pyo3_ffi::PyList_Type);
        }
        Answer::New(declared.cast())
    }
}

/// The destructor of that class, which other classes share: the hook asks about all of them.
fn dealloc() -> destructor {
    // SAFETY: declared before the hook is installed, and live; every class has a destructor.
    unsafe { (*PROXY.load(Ordering::Relaxed)).tp_dealloc }.expect("a destructor")
}

/// A second classifier, to be refused.
unsafe fn other(_object: *mut PyObject) -> Answer {
    Answer::NotAProxy
}

unsafe extern "C" fn declare(_module: *mut PyObject, class: *mut PyObject) -> *mut PyObject {
    // SAFETY: the class is kept for ever.
    unsafe { Py_IncRef(class) };
    PROXY.store(class.cast(), Ordering::Relaxed);
    none()
}

unsafe extern "C" fn install(_module: *mut PyObject, _none: *mut PyObject) -> *mut PyObject {
    // SAFETY: attached.
    finish(unsafe { type_hook::install(classify, dealloc()) })
}

unsafe extern "C" fn install_other(_module: *mut PyObject, _none: *mut PyObject) -> *mut PyObject {
    // SAFETY: attached.
    finish(unsafe { type_hook::install(other, dealloc()) })
}

unsafe extern "C" fn uninstall(_module: *mut PyObject, _none: *mut PyObject) -> *mut PyObject {
    // SAFETY: attached.
    finish(unsafe { type_hook::uninstall() })
}

unsafe extern "C" fn installed(_module: *mut PyObject, _none: *mut PyObject) -> *mut PyObject {
    // SAFETY: attached.
    unsafe { PyBool_FromLong(type_hook::installed().into()) }
}

fn finish(status: c_int) -> *mut PyObject {
    if status < 0 { ptr::null_mut() } else { none() }
}

fn none() -> *mut PyObject {
    // SAFETY: `None` is always there.
    unsafe {
        Py_IncRef(Py_None());
        Py_None()
    }
}

fn functions() -> &'static mut [PyMethodDef] {
    type Function = unsafe extern "C" fn(*mut PyObject, *mut PyObject) -> *mut PyObject;
    let table: [(&'static std::ffi::CStr, Function, c_int); 5] = [
        (c"declare", declare, METH_O),
        (c"install", install, METH_NOARGS),
        (c"install_other", install_other, METH_NOARGS),
        (c"uninstall", uninstall, METH_NOARGS),
        (c"installed", installed, METH_NOARGS),
    ];
    let definitions: Vec<PyMethodDef> = table
        .into_iter()
        .map(|(name, function, flags)| PyMethodDef {
            ml_name: name.as_ptr(),
            ml_meth: PyMethodDefPointer {
                PyCFunction: function,
            },
            ml_flags: flags,
            ml_doc: ptr::null(),
        })
        .collect();
    definitions.leak()
}

#[test]
fn this_python_is_supported() {
    common::attached(|| assert_eq!(objspace_interp::supported(), Ok(())));
}

#[test]
fn type_of_a_proxy() {
    common::run(
        "type_hook.py",
        include_str!("scripts/type_hook.py"),
        functions(),
    );
}
