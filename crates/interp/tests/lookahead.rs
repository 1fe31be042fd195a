//! What a `tp_getattro` learns about the bytecode that called it.

mod common;

use std::ffi::{c_char, c_int, c_void};
use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering};

use objspace_interp::lookahead::{attribute_chain, method_call_position, understands};
use objspace_interp::verifies;
use pyo3_ffi::{
    METH_NOARGS, METH_O, Py_DECREF, Py_IncRef, Py_NewRef, Py_None, Py_TPFLAGS_DEFAULT, Py_tp_call,
    Py_tp_getattro, PyBool_FromLong, PyList_Append, PyList_New, PyMethodDef, PyMethodDefPointer,
    PyObject, PyObject_CallNoArgs, PyObject_GenericGetAttr, PyObject_GetAttr, PyTuple_New,
    PyTuple_SetItem, PyType_FromSpec, PyType_Slot, PyType_Spec, PyUnicode_ReadChar,
};

/// What spies were asked for: `(name, called at once, names that follow or None, and their call)`.
static LOG: AtomicPtr<PyObject> = AtomicPtr::new(ptr::null_mut());
static SPY: AtomicPtr<PyObject> = AtomicPtr::new(ptr::null_mut());

/// Notes what can be learnt, and answers with the spy itself.
unsafe extern "C" fn spy_getattro(spy: *mut PyObject, name: *mut PyObject) -> *mut PyObject {
    // SAFETY: attached; `tuple` is new and gets a reference for each place.
    unsafe {
        if PyUnicode_ReadChar(name, 0) == u32::from(b'_') {
            return PyObject_GenericGetAttr(spy, name);
        }
        let called = method_call_position(spy, name);
        let chain = attribute_chain(spy, name);
        let tuple = PyTuple_New(4);
        PyTuple_SetItem(tuple, 0, Py_NewRef(name));
        PyTuple_SetItem(tuple, 1, PyBool_FromLong(called.into()));
        let (names, call) = match chain {
            None => (Py_NewRef(Py_None()), false),
            Some(chain) => {
                let names = PyList_New(0);
                for name in chain.names {
                    PyList_Append(names, name);
                }
                (names, chain.call)
            }
        };
        PyTuple_SetItem(tuple, 2, names);
        PyTuple_SetItem(tuple, 3, PyBool_FromLong(call.into()));
        PyList_Append(LOG.load(Ordering::Relaxed), tuple);
        Py_DECREF(tuple);
        Py_NewRef(spy)
    }
}

unsafe extern "C" fn spy_call(
    _spy: *mut PyObject,
    _arguments: *mut PyObject,
    _names: *mut PyObject,
) -> *mut PyObject {
    none()
}

/// An object of C code that asks the spy on behalf of whoever asked it.
unsafe extern "C" fn agent_getattro(_agent: *mut PyObject, name: *mut PyObject) -> *mut PyObject {
    // SAFETY: attached.
    unsafe { PyObject_GetAttr(SPY.load(Ordering::Relaxed), name) }
}

/// Asks nothing: what a fetch costs without the lookahead.
unsafe extern "C" fn deaf_getattro(deaf: *mut PyObject, _name: *mut PyObject) -> *mut PyObject {
    // SAFETY: attached.
    unsafe { Py_NewRef(deaf) }
}

unsafe extern "C" fn keen_getattro(keen: *mut PyObject, name: *mut PyObject) -> *mut PyObject {
    // SAFETY: attached.
    unsafe {
        std::hint::black_box(method_call_position(keen, name));
        Py_NewRef(keen)
    }
}

fn none() -> *mut PyObject {
    // SAFETY: `None` is always there.
    unsafe {
        Py_IncRef(Py_None());
        Py_None()
    }
}

type GetAttr = unsafe extern "C" fn(*mut PyObject, *mut PyObject) -> *mut PyObject;

fn instance(name: *const c_char, getattro: GetAttr) -> *mut PyObject {
    let mut slots = [
        PyType_Slot {
            slot: Py_tp_getattro,
            pfunc: getattro as *mut c_void,
        },
        PyType_Slot {
            slot: Py_tp_call,
            pfunc: spy_call as *mut c_void,
        },
        PyType_Slot {
            slot: 0,
            pfunc: ptr::null_mut(),
        },
    ];
    let mut spec = PyType_Spec {
        name,
        basicsize: size_of::<PyObject>() as c_int,
        itemsize: 0,
        flags: Py_TPFLAGS_DEFAULT as u32,
        slots: slots.as_mut_ptr(),
    };
    // SAFETY: attached; the spec is copied.
    unsafe {
        let class = PyType_FromSpec(&raw mut spec);
        assert!(!class.is_null());
        PyObject_CallNoArgs(class)
    }
}

unsafe extern "C" fn spy(_module: *mut PyObject, _none: *mut PyObject) -> *mut PyObject {
    // SAFETY: attached.
    unsafe {
        LOG.store(PyList_New(0), Ordering::Relaxed);
        let spy = instance(c"Spy".as_ptr(), spy_getattro);
        SPY.store(Py_NewRef(spy), Ordering::Relaxed);
        spy
    }
}

unsafe extern "C" fn agent(_module: *mut PyObject, _none: *mut PyObject) -> *mut PyObject {
    instance(c"Agent".as_ptr(), agent_getattro)
}

unsafe extern "C" fn deaf(_module: *mut PyObject, _none: *mut PyObject) -> *mut PyObject {
    instance(c"Deaf".as_ptr(), deaf_getattro)
}

unsafe extern "C" fn keen(_module: *mut PyObject, _none: *mut PyObject) -> *mut PyObject {
    instance(c"Keen".as_ptr(), keen_getattro)
}

/// What was noted since the last call.
unsafe extern "C" fn log(_module: *mut PyObject, _none: *mut PyObject) -> *mut PyObject {
    // SAFETY: attached.
    LOG.swap(unsafe { PyList_New(0) }, Ordering::Relaxed)
}

unsafe extern "C" fn understood(_module: *mut PyObject, code: *mut PyObject) -> *mut PyObject {
    // SAFETY: attached; the script passes code objects.
    unsafe { PyBool_FromLong((understands(code) && verifies(code) == 1).into()) }
}

#[test]
fn the_calling_bytecode_is_read() {
    type Function = unsafe extern "C" fn(*mut PyObject, *mut PyObject) -> *mut PyObject;
    let table: [(&'static std::ffi::CStr, Function, c_int); 6] = [
        (c"spy", spy, METH_NOARGS),
        (c"agent", agent, METH_NOARGS),
        (c"deaf", deaf, METH_NOARGS),
        (c"keen", keen, METH_NOARGS),
        (c"log", log, METH_NOARGS),
        (c"understood", understood, METH_O),
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
    common::run(
        "lookahead.py",
        include_str!("scripts/lookahead.py"),
        definitions.leak(),
    );
}
