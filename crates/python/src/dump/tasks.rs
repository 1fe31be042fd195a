//! Who runs: the thread and the asyncio task, found without running Python code.

use std::sync::atomic::{AtomicPtr, Ordering};

use pyo3::ffi;

use super::naming::string;

static ASYNCIO: AtomicPtr<ffi::PyObject> = AtomicPtr::new(std::ptr::null_mut());

/// `sys.modules[name]`; borrowed.
unsafe fn module(name: &std::ffi::CStr) -> *mut ffi::PyObject {
    // SAFETY: the GIL is held; `sys.modules` is normally a dict, and looked into only if it is.
    unsafe {
        let modules = ffi::PyImport_GetModuleDict();
        if modules.is_null() || ffi::PyDict_CheckExact(modules) == 0 {
            return std::ptr::null_mut();
        }
        ffi::PyDict_GetItemString(modules, name.as_ptr())
    }
}

/// What a module's dict has; borrowed.
unsafe fn member(module: *mut ffi::PyObject, name: &std::ffi::CStr) -> *mut ffi::PyObject {
    // SAFETY: an exact module has a dict of its own.
    unsafe {
        if module.is_null() || ffi::PyModule_Check(module) == 0 {
            return std::ptr::null_mut();
        }
        ffi::PyDict_GetItemString(ffi::PyModule_GetDict(module), name.as_ptr())
    }
}

/// The accelerator of asyncio, if it was imported.
unsafe fn asyncio() -> *mut ffi::PyObject {
    let known = ASYNCIO.load(Ordering::Relaxed);
    if !known.is_null() {
        return known;
    }
    // SAFETY: the GIL is held. A reference is kept for good, as the module is.
    unsafe {
        let found = module(c"_asyncio");
        if !found.is_null() {
            ffi::Py_INCREF(found);
            ASYNCIO.store(found, Ordering::Relaxed);
        }
        found
    }
}

/// The task that runs in this thread; borrowed.
///
/// # Safety
/// The GIL is held.
pub(super) unsafe fn current() -> Option<*mut ffi::PyObject> {
    // SAFETY: `_get_running_loop` is a C function that runs nobody's code; the tasks are in a dict
    // from loops to tasks, searched by identity.
    unsafe {
        let asyncio = asyncio();
        let running = member(asyncio, c"_get_running_loop");
        let tasks = member(asyncio, c"_current_tasks");
        if running.is_null()
            || ffi::Py_TYPE(running) != &raw mut ffi::PyCFunction_Type
            || tasks.is_null()
            || ffi::PyDict_Check(tasks) == 0
        {
            return None;
        }
        let running = ffi::PyObject_CallNoArgs(running);
        if running.is_null() {
            ffi::PyErr_Clear();
            return None;
        }
        // The loop is running, so it stays alive.
        ffi::Py_DECREF(running);
        let (mut position, mut key, mut value) = (0, std::ptr::null_mut(), std::ptr::null_mut());
        while ffi::PyDict_Next(tasks, &raw mut position, &raw mut key, &raw mut value) != 0 {
            if key == running {
                return Some(value);
            }
        }
        None
    }
}

/// The name of a task, if it is one of asyncio's own or derived from it.
///
/// # Safety
/// The GIL is held; `task` is alive.
pub(super) unsafe fn name(task: *mut ffi::PyObject) -> String {
    // SAFETY: `Task.get_name` of C, called on an instance, returns a string it has.
    unsafe {
        let class = member(asyncio(), c"Task");
        if class.is_null()
            || ffi::PyType_Check(class) == 0
            || ffi::PyObject_TypeCheck(task, class.cast()) == 0
        {
            return String::new();
        }
        let dict = (*class.cast::<ffi::PyTypeObject>()).tp_dict;
        let method = if dict.is_null() {
            std::ptr::null_mut()
        } else {
            ffi::PyDict_GetItemString(dict, c"get_name".as_ptr())
        };
        if method.is_null() || ffi::Py_TYPE(method) != &raw mut ffi::PyMethodDescr_Type {
            return String::new();
        }
        let name = ffi::PyObject_CallOneArg(method, task);
        if name.is_null() {
            ffi::PyErr_Clear();
            return String::new();
        }
        let mut text = Vec::new();
        string(name, 160, &mut text);
        ffi::Py_DECREF(name);
        String::from_utf8_lossy(&text).into_owned()
    }
}

/// What `threading.get_ident()` says.
pub(super) fn thread_ident() -> u64 {
    // SAFETY: no conditions.
    unsafe { ffi::PyThread_get_thread_ident() as u64 }
}

/// The name of a thread, if `threading` knows it.
///
/// # Safety
/// The GIL is held.
pub(super) unsafe fn thread_name(ident: u64) -> String {
    // SAFETY: `threading._active` is a dict from numbers to threads, whose instance dicts have
    // their names: read without asking the objects.
    unsafe {
        let active = member(module(c"threading"), c"_active");
        if active.is_null() || ffi::PyDict_Check(active) == 0 {
            return String::new();
        }
        let key = ffi::PyLong_FromUnsignedLongLong(ident);
        if key.is_null() {
            ffi::PyErr_Clear();
            return String::new();
        }
        let thread = ffi::PyDict_GetItemWithError(active, key);
        ffi::Py_DECREF(key);
        if thread.is_null() {
            ffi::PyErr_Clear();
            return String::new();
        }
        let dict = ffi::PyObject_GenericGetDict(thread, std::ptr::null_mut());
        if dict.is_null() {
            ffi::PyErr_Clear();
            return String::new();
        }
        let name = ffi::PyDict_GetItemString(dict, c"_name".as_ptr());
        let mut text = Vec::new();
        if !name.is_null() {
            string(name, 160, &mut text);
        }
        ffi::Py_DECREF(dict);
        String::from_utf8_lossy(&text).into_owned()
    }
}
