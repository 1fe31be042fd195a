//! An interpreter inside the test program, and Python scripts that run in it.

use std::ffi::CString;
use std::ptr;
use std::sync::{Mutex, MutexGuard, Once, PoisonError};

use pyo3_ffi::{
    Py_CompileString, Py_DECREF, Py_InitializeEx, Py_file_input, PyCFunction_NewEx, PyDict_New,
    PyDict_SetItemString, PyErr_Print, PyEval_EvalCode, PyEval_GetBuiltins, PyEval_SaveThread,
    PyGILState_Ensure, PyGILState_Release, PyMethodDef, PyUnicode_FromString,
};

static START: Once = Once::new();
/// One script at a time: they change the interpreter.
static TURN: Mutex<()> = Mutex::new(());

/// Attaches this thread to the interpreter for the time of `work`, alone.
pub(crate) fn attached(work: impl FnOnce()) {
    START.call_once(|| {
        // SAFETY: no interpreter is running yet; this thread then lets go of it.
        unsafe {
            Py_InitializeEx(0);
            PyEval_SaveThread();
        }
    });
    let turn: MutexGuard<'_, ()> = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    // SAFETY: the interpreter is running; what is ensured here is released below, on this thread.
    let state = unsafe { PyGILState_Ensure() };
    let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
    // SAFETY: as above.
    unsafe { PyGILState_Release(state) };
    drop(turn);
    if let Err(panic) = result {
        std::panic::resume_unwind(panic);
    }
}

/// Runs a script with some functions as globals, and fails if it raises.
pub(crate) fn run(name: &str, source: &str, functions: &'static mut [PyMethodDef]) {
    attached(|| {
        let file = CString::new(name).expect("name");
        let source = CString::new(source).expect("source");
        // SAFETY: attached; every object is checked before it is used; the definitions of the
        // functions live for ever.
        unsafe {
            let globals = PyDict_New();
            PyDict_SetItemString(globals, c"__builtins__".as_ptr(), PyEval_GetBuiltins());
            for (key, value) in [(c"__name__", c"script"), (c"__file__", file.as_c_str())] {
                let value = PyUnicode_FromString(value.as_ptr());
                PyDict_SetItemString(globals, key.as_ptr(), value);
                Py_DECREF(value);
            }
            for definition in functions {
                let function = PyCFunction_NewEx(definition, ptr::null_mut(), ptr::null_mut());
                assert!(!function.is_null());
                PyDict_SetItemString(globals, definition.ml_name, function);
                Py_DECREF(function);
            }
            let code = Py_CompileString(source.as_ptr(), file.as_ptr(), Py_file_input);
            if code.is_null() {
                PyErr_Print();
                panic!("{name} does not compile");
            }
            let result = PyEval_EvalCode(code, globals, globals);
            if result.is_null() {
                PyErr_Print();
                panic!("{name} failed");
            }
            Py_DECREF(result);
            Py_DECREF(code);
            Py_DECREF(globals);
        }
    });
}
