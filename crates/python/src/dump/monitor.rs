//! Reports of instructions by `sys.monitoring`, on 3.12 and later.
//!
//! The recorder has a tool id of its own, so that debuggers and coverage keep theirs. Code reports
//! its first start or resumption; if the filter wants it, its instructions are reported from then
//! on, and those that do nothing are switched off one by one as they come. Code that is not wanted
//! is asked about once.

use std::ffi::{c_char, c_int};
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicI32, AtomicPtr, AtomicU32, Ordering};

use objspace_interp::observe::{RunningFrame, small_int};
use pyo3::exceptions::PyRuntimeError;
use pyo3::ffi::compat::PyThreadState_GetUnchecked;
use pyo3::prelude::*;
use pyo3::types::{PyWeakrefMethods, PyWeakrefReference};
use pyo3::{ffi, intern};

use super::recorder::{Active, Recorder};

/// The tool ids to try: not those that have a meaning.
const TOOLS: [i32; 3] = [4, 3, 2];
const NAME: &str = "objspace.dump";

static TOOL: AtomicI32 = AtomicI32::new(-1);
static DISABLE: AtomicPtr<ffi::PyObject> = AtomicPtr::new(std::ptr::null_mut());
static SET_LOCAL_EVENTS: AtomicPtr<ffi::PyObject> = AtomicPtr::new(std::ptr::null_mut());
static INSTRUCTION: AtomicU32 = AtomicU32::new(0);
/// The code objects that report their instructions.
static CODES: Mutex<Vec<Py<PyWeakrefReference>>> = Mutex::new(Vec::new());

type Fast = unsafe extern "C" fn(
    *mut ffi::PyObject,
    *mut *mut ffi::PyObject,
    ffi::Py_ssize_t,
) -> *mut ffi::PyObject;

fn none() -> *mut ffi::PyObject {
    // SAFETY: immortal since 3.12.
    unsafe { ffi::Py_None() }
}

fn disable() -> *mut ffi::PyObject {
    let object = DISABLE.load(Ordering::Relaxed);
    // SAFETY: `start` keeps a reference for good.
    unsafe { ffi::Py_INCREF(object) };
    object
}

/// INSTRUCTION: the code and the byte offset.
unsafe extern "C" fn on_instruction(
    _: *mut ffi::PyObject,
    arguments: *mut *mut ffi::PyObject,
    count: ffi::Py_ssize_t,
) -> *mut ffi::PyObject {
    let Some(mut active) = Active::enter() else {
        return none();
    };
    // SAFETY: the interpreter calls this from the evaluation loop, with a code object and an int,
    // before it executes that instruction of the innermost frame.
    unsafe {
        if count != 2 {
            return none();
        }
        let code = *arguments;
        let Some(offset) = small_int(*arguments.add(1)) else {
            return none();
        };
        let state = PyThreadState_GetUnchecked();
        let frame = RunningFrame::innermost(state);
        if frame.code() != code {
            return none();
        }
        let (recorder, unit) = (active.recorder(), (offset / 2) as u32);
        if recorder.is_unwanted(state, frame, code, unit)
            || recorder.instruction(state, frame, code, unit)
        {
            none()
        } else {
            disable()
        }
    }
}

/// Reports an exception in the frame that runs: the code, the byte offset, the exception.
unsafe fn report(
    arguments: *mut *mut ffi::PyObject,
    count: ffi::Py_ssize_t,
    tell: impl FnOnce(&mut Recorder, *mut ffi::PyThreadState, RunningFrame, *mut ffi::PyObject),
) -> *mut ffi::PyObject {
    if count == 3
        && let Some(mut active) = Active::enter()
    {
        // SAFETY: as in `on_instruction`.
        unsafe {
            let state = PyThreadState_GetUnchecked();
            let frame = RunningFrame::innermost(state);
            if frame.code() == *arguments {
                tell(active.recorder(), state, frame, *arguments.add(2));
            }
        }
    }
    none()
}

/// RAISE and RERAISE.
unsafe extern "C" fn on_raise(
    _: *mut ffi::PyObject,
    arguments: *mut *mut ffi::PyObject,
    count: ffi::Py_ssize_t,
) -> *mut ffi::PyObject {
    // SAFETY: as in `on_instruction`. The offset is that before the instruction if the exception
    // comes from a frame that it called (3.13); what the frame itself says is right each time.
    unsafe {
        report(arguments, count, |recorder, state, frame, exception| {
            recorder.raised(state, frame, frame.unit(), exception);
        })
    }
}

/// PY_UNWIND.
unsafe extern "C" fn on_unwind(
    _: *mut ffi::PyObject,
    arguments: *mut *mut ffi::PyObject,
    count: ffi::Py_ssize_t,
) -> *mut ffi::PyObject {
    // SAFETY: as in `on_instruction`.
    unsafe {
        report(arguments, count, |recorder, state, frame, exception| {
            recorder.unwound(state, frame, exception);
        })
    }
}

/// PY_START and PY_RESUME: the code, the byte offset.
unsafe extern "C" fn on_start(
    _: *mut ffi::PyObject,
    arguments: *mut *mut ffi::PyObject,
    count: ffi::Py_ssize_t,
) -> *mut ffi::PyObject {
    // SAFETY: as in `on_instruction`; the GIL is held.
    unsafe {
        if count != 2 {
            return none();
        }
        let code = *arguments;
        let state = PyThreadState_GetUnchecked();
        let frame = RunningFrame::innermost(state);
        if frame.code() != code {
            return none();
        }
        let Some(wanted) =
            Active::enter().map(|mut active| active.recorder().wants_code(code, frame))
        else {
            return none();
        };
        let known =
            wanted && Active::enter().is_some_and(|mut active| active.recorder().watch_once(code));
        if wanted && !known {
            let py = Python::assume_attached();
            let code = Bound::from_borrowed_ptr(py, code);
            if let Err(error) = watch(py, &code) {
                error.restore(py);
                return std::ptr::null_mut();
            }
        }
        disable()
    }
}

/// PY_RESUME: as PY_START; and the instruction that resumes is reported by this alone.
unsafe extern "C" fn on_resume(
    this: *mut ffi::PyObject,
    arguments: *mut *mut ffi::PyObject,
    count: ffi::Py_ssize_t,
) -> *mut ffi::PyObject {
    // SAFETY: as in `on_instruction`.
    unsafe {
        if count != 2 {
            return none();
        }
        let (code, offset) = (*arguments, small_int(*arguments.add(1)).unwrap_or(0));
        let state = PyThreadState_GetUnchecked();
        let frame = RunningFrame::innermost(state);
        if frame.code() != code {
            return none();
        }
        let reports = Active::enter().is_some_and(|mut active| {
            let recorder = active.recorder();
            recorder.wants_code(code, frame)
                && recorder.instruction(state, frame, code, (offset / 2) as u32)
        });
        let object = on_start(this, arguments, count);
        if reports && !object.is_null() {
            ffi::Py_DECREF(object);
            return none();
        }
        object
    }
}

/// Makes a code object report its instructions.
fn watch(py: Python<'_>, code: &Bound<'_, PyAny>) -> PyResult<()> {
    // Nothing is imported here: the frame that runs may have no builtins.
    let setter = SET_LOCAL_EVENTS.load(Ordering::Relaxed);
    // SAFETY: `start` keeps a reference for good.
    let setter = unsafe { Bound::from_borrowed_ptr(py, setter) };
    let reference = PyWeakrefReference::new(code)?.unbind();
    CODES
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .push(reference);
    setter.call1((
        TOOL.load(Ordering::Relaxed),
        code,
        INSTRUCTION.load(Ordering::Relaxed),
    ))?;
    Ok(())
}

fn monitoring(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    py.import(intern!(py, "sys"))?
        .getattr(intern!(py, "monitoring"))
}

/// A builtin function, made once of a static definition.
fn callback<'py>(py: Python<'py>, which: usize) -> PyResult<Bound<'py, PyAny>> {
    struct Definition(ffi::PyMethodDef);
    // SAFETY: never written; it holds pointers to static data only.
    unsafe impl Sync for Definition {}
    const fn definition(name: *const c_char, function: Fast) -> Definition {
        Definition(ffi::PyMethodDef {
            ml_name: name,
            ml_meth: ffi::PyMethodDefPointer {
                PyCFunctionFast: function,
            },
            ml_flags: ffi::METH_FASTCALL as c_int,
            ml_doc: std::ptr::null(),
        })
    }
    static DEFINITIONS: [Definition; 5] = [
        definition(c"on_instruction".as_ptr(), on_instruction),
        definition(c"on_raise".as_ptr(), on_raise),
        definition(c"on_unwind".as_ptr(), on_unwind),
        definition(c"on_start".as_ptr(), on_start),
        definition(c"on_resume".as_ptr(), on_resume),
    ];
    // SAFETY: the definition is static, and is only read.
    unsafe {
        Bound::from_owned_ptr_or_err(
            py,
            ffi::PyCFunction_NewEx(
                (&raw const DEFINITIONS[which].0).cast_mut(),
                std::ptr::null_mut(),
                std::ptr::null_mut(),
            ),
        )
    }
}

const EVENTS: [(&str, usize); 6] = [
    ("INSTRUCTION", 0),
    ("RAISE", 1),
    ("RERAISE", 1),
    ("PY_UNWIND", 2),
    ("PY_START", 3),
    ("PY_RESUME", 4),
];

/// Begins to report.
pub(super) fn start(py: Python<'_>) -> PyResult<()> {
    let monitoring = monitoring(py)?;
    let disable = monitoring.getattr("DISABLE")?;
    DISABLE.store(disable.into_ptr(), Ordering::Relaxed);
    let setter = monitoring.getattr("set_local_events")?;
    SET_LOCAL_EVENTS.store(setter.into_ptr(), Ordering::Relaxed);
    let mut tool = None;
    for candidate in TOOLS {
        if monitoring.call_method1("get_tool", (candidate,))?.is_none() {
            monitoring.call_method1("use_tool_id", (candidate, NAME))?;
            tool = Some(candidate);
            break;
        }
    }
    let tool = tool.ok_or_else(|| {
        PyRuntimeError::new_err("no tool id of sys.monitoring is free (2, 3 and 4 are in use)")
    })?;
    TOOL.store(tool, Ordering::Relaxed);
    let events = monitoring.getattr("events")?;
    let mut global = 0_u32;
    for (name, which) in EVENTS {
        let event: u32 = events.getattr(name)?.extract()?;
        monitoring.call_method1("register_callback", (tool, event, callback(py, which)?))?;
        if name == "INSTRUCTION" {
            INSTRUCTION.store(event, Ordering::Relaxed);
        } else {
            global |= event;
        }
    }
    watch_running(py)?;
    monitoring.call_method1("set_events", (tool, global))?;
    // What another recording had switched off.
    monitoring.call_method0("restart_events")?;
    Ok(())
}

/// Code that runs already does not start any more.
fn watch_running(py: Python<'_>) -> PyResult<()> {
    for code in wanted_running(py) {
        watch(py, &code)?;
    }
    Ok(())
}

/// After somebody set a trace function: code that runs may have lost its reports, although they are
/// still set. Setting what is set already would change nothing.
pub(super) fn retrace(py: Python<'_>) -> PyResult<()> {
    let tool = TOOL.load(Ordering::Relaxed);
    let setter = SET_LOCAL_EVENTS.load(Ordering::Relaxed);
    if tool < 0 || setter.is_null() {
        return Ok(());
    }
    // SAFETY: `start` keeps a reference for good.
    let setter = unsafe { Bound::from_borrowed_ptr(py, setter) };
    for code in wanted_running(py) {
        setter.call1((tool, &code, 0))?;
        setter.call1((tool, &code, INSTRUCTION.load(Ordering::Relaxed)))?;
    }
    Ok(())
}

/// The code of all frames of all threads, as far as the filter wants it.
fn wanted_running(py: Python<'_>) -> Vec<Bound<'_, PyAny>> {
    let mut codes: Vec<Bound<'_, PyAny>> = Vec::new();
    if let Some(mut active) = Active::enter() {
        // SAFETY: with the GIL held the threads and their frames stand still.
        unsafe {
            let mut state = ffi::PyInterpreterState_ThreadHead(ffi::PyInterpreterState_Get());
            while !state.is_null() {
                let mut frame = RunningFrame::find(state);
                while let Some(running) = frame {
                    let code = running.code();
                    if active.recorder().wants_code(code, running) {
                        codes.push(Bound::from_borrowed_ptr(py, code));
                    }
                    frame = running.caller();
                }
                state = ffi::PyThreadState_Next(state);
            }
        }
    }
    codes
}

/// Ends it; what is to be said about it, if anything.
pub(super) fn stop(py: Python<'_>) -> PyResult<Option<String>> {
    let tool = TOOL.swap(-1, Ordering::Relaxed);
    if tool < 0 {
        return Ok(None);
    }
    let monitoring = monitoring(py)?;
    monitoring.call_method1("set_events", (tool, 0))?;
    let events = monitoring.getattr("events")?;
    for (name, _) in EVENTS {
        monitoring.call_method1(
            "register_callback",
            (tool, events.getattr(name)?, py.None()),
        )?;
    }
    let codes = std::mem::take(&mut *CODES.lock().unwrap_or_else(PoisonError::into_inner));
    for code in codes {
        if let Some(code) = code.bind(py).upgrade() {
            monitoring.call_method1("set_local_events", (tool, code, 0))?;
        }
    }
    monitoring.call_method1("free_tool_id", (tool,))?;
    Ok(None)
}
