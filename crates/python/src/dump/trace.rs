//! Reports of instructions by a trace function, on 3.11.
//!
//! There is one trace function per thread. The one that was there is called too, with every event
//! but those of opcodes; `sys.settrace` is replaced while a recording lasts, so that a debugger or
//! coverage that comes later is called too and does not end the recording. Whoever sets one from C
//! (coverage does) gets the recorder on top as soon as the main thread can do that ([`super::settrace`]).
//! Where it never could is noticed at the end, and said.
//!
//! Even code that is not wanted runs slower, since the interpreter looks for the trace function at
//! every instruction.

use std::collections::VecDeque;
use std::ffi::c_int;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicPtr, Ordering};
use std::sync::{Mutex, PoisonError};

use objspace_interp::observe::{
    RunningFrame, TraceFunction, set_trace_function, set_tracing, trace_function,
};
use pyo3::ffi;
use pyo3::ffi::compat::PyThreadState_GetUnchecked;
use pyo3::prelude::*;

use super::recorder::Active;

const CALL: c_int = 0;
const EXCEPTION: c_int = 1;
const RETURN: c_int = 3;
const OPCODE: c_int = 7;

static ON: AtomicBool = AtomicBool::new(false);
/// The newest thread that was given the trace function.
static NEWEST: AtomicPtr<ffi::PyThreadState> = AtomicPtr::new(std::ptr::null_mut());
/// The largest id among them.
static NEWEST_ID: AtomicI64 = AtomicI64::new(0);

/// The trace function that was there before, or came later.
#[pyclass(frozen, module = "objspace._core")]
struct Chain {
    function: Option<TraceFunction>,
    object: Option<Py<PyAny>>,
}

/// # Safety
/// Called by the interpreter, as a trace function is.
unsafe extern "C" fn trace(
    chain: *mut ffi::PyObject,
    frame: *mut ffi::PyObject,
    what: c_int,
    argument: *mut ffi::PyObject,
) -> c_int {
    // SAFETY: a trace function gets its object, the frame that runs, and what the event has; the
    // GIL is held.
    unsafe {
        let py = Python::assume_attached();
        let object = Bound::from_borrowed_ptr(py, chain);
        let chain = object.cast_unchecked::<Chain>().get();
        let state = PyThreadState_GetUnchecked();
        let running = RunningFrame::of_object(frame);
        if let Some(mut active) = Active::enter() {
            let recorder = active.recorder();
            match what {
                OPCODE => {
                    let (code, unit) = (running.code(), running.unit());
                    if !recorder.is_unwanted(state, running, code, unit) {
                        recorder.instruction(state, running, code, unit);
                    }
                }
                CALL => {
                    let wanted = recorder.wants_code(running.code(), running);
                    set_tracing(frame, chain.function.is_some(), wanted);
                    // The instruction that starts or resumes is reported by this alone.
                    if wanted {
                        recorder.resumed(state, running);
                    }
                }
                EXCEPTION
                    if ffi::PyTuple_Check(argument) != 0 && ffi::PyTuple_GET_SIZE(argument) > 1 =>
                {
                    let exception = ffi::PyTuple_GET_ITEM(argument, 1);
                    recorder.raised(state, running, running.unit(), exception);
                }
                RETURN if argument.is_null() => {
                    recorder.unwound(state, running, std::ptr::null_mut());
                }
                _ => {}
            }
        }
        if ffi::PyInterpreterState_ThreadHead(ffi::PyThreadState_GetInterpreter(state))
            != NEWEST.load(Ordering::Relaxed)
            && ON.load(Ordering::Relaxed)
            && let Err(error) = trace_threads(py)
        {
            error.restore(py);
            return -1;
        }
        match (what, chain.function) {
            (OPCODE, _) | (_, None) => 0,
            (_, Some(function)) => {
                // It may take itself away, and what it belongs to.
                let below = chain.object.as_ref().map(|below| below.clone_ref(py));
                let below = below.as_ref().map_or(std::ptr::null_mut(), Py::as_ptr);
                let result = function(below, frame, what, argument);
                let (now, _) = trace_function(state);
                if result == 0
                    && ON.load(Ordering::Relaxed)
                    && !now.is_some_and(is_ours)
                    && let Err(error) = install(py, state)
                {
                    error.restore(py);
                    return -1;
                }
                result
            }
        }
    }
}

/// Keeps a chain beyond the time when another trace function takes its place: the interpreter calls
/// us for a line and then for an instruction with the same borrowed object, and what we call in
/// between may set another trace function. More than so many cannot be set in one event.
fn keep(chain: Py<Chain>) {
    const KEPT: usize = 64;
    static CHAINS: Mutex<VecDeque<Py<Chain>>> = Mutex::new(VecDeque::new());
    let oldest = {
        let mut chains = CHAINS.lock().unwrap_or_else(PoisonError::into_inner);
        chains.push_back(chain);
        (chains.len() > KEPT).then(|| chains.pop_front())
    };
    // Not before the lock is let go: it may be the last reference to somebody's object.
    drop(oldest);
}

/// Puts the trace function on top of the one that a thread has.
unsafe fn install(py: Python<'_>, state: *mut ffi::PyThreadState) -> PyResult<()> {
    // SAFETY: the GIL is held, and the thread state is live.
    unsafe {
        let (function, object) = trace_function(state);
        if function.is_some_and(is_ours) {
            return Ok(());
        }
        let object = (!object.is_null()).then(|| Bound::from_borrowed_ptr(py, object).unbind());
        let chain = Py::new(py, Chain { function, object })?;
        if !set_trace_function(state, Some(trace), chain.as_ptr()) {
            return Err(PyErr::fetch(py));
        }
        keep(chain);
        // Frames that run already were not called, so they are told here.
        each_frame(state, |object| {
            let running = RunningFrame::of_object(object);
            let wanted = Active::enter()
                .is_some_and(|mut active| active.recorder().wants_code(running.code(), running));
            set_tracing(object, function.is_some(), wanted);
        });
    }
    Ok(())
}

/// Calls something with the object of each frame of a thread.
unsafe fn each_frame(state: *mut ffi::PyThreadState, mut each: impl FnMut(*mut ffi::PyObject)) {
    // SAFETY: public functions on a live thread state and its frames; both give new references.
    unsafe {
        let mut frame: *mut ffi::PyFrameObject = ffi::PyThreadState_GetFrame(state);
        while !frame.is_null() {
            each(frame.cast());
            let back = ffi::PyFrame_GetBack(frame);
            ffi::Py_DECREF(frame.cast());
            frame = back;
        }
    }
}

fn is_ours(function: TraceFunction) -> bool {
    function as usize == trace as *const () as usize
}

/// Gives the trace function to threads that are new.
fn trace_threads(py: Python<'_>) -> PyResult<()> {
    // SAFETY: the GIL is held; the list of threads changes only with it.
    unsafe {
        let last = NEWEST_ID.load(Ordering::Relaxed);
        let head = ffi::PyInterpreterState_ThreadHead(ffi::PyInterpreterState_Get());
        NEWEST.store(head, Ordering::Relaxed);
        let mut state = head;
        let mut newest = last;
        let mut new = Vec::new();
        while !state.is_null() {
            let id = ffi::PyThreadState_GetID(state);
            if id > last {
                new.push(state);
            }
            newest = newest.max(id);
            state = ffi::PyThreadState_Next(state);
        }
        NEWEST_ID.store(newest, Ordering::Relaxed);
        for state in new {
            install(py, state)?;
        }
    }
    Ok(())
}

/// Begins to report.
pub(super) fn start(py: Python<'_>) -> PyResult<()> {
    NEWEST_ID.store(0, Ordering::Relaxed);
    ON.store(true, Ordering::Relaxed);
    trace_threads(py)
}

/// Ends it; what is to be said about it, if anything.
pub(super) fn stop(_: Python<'_>) -> PyResult<Option<String>> {
    if !ON.swap(false, Ordering::Relaxed) {
        return Ok(None);
    }
    NEWEST.store(std::ptr::null_mut(), Ordering::Relaxed);
    let mut replaced = 0;
    // SAFETY: the GIL is held; the object of our trace function is a `Chain`.
    unsafe {
        let py = Python::assume_attached();
        let mut state = ffi::PyInterpreterState_ThreadHead(ffi::PyInterpreterState_Get());
        while !state.is_null() {
            let (function, object) = trace_function(state);
            if function.is_some_and(is_ours) {
                let object = Bound::from_borrowed_ptr(py, object);
                let chain = object.cast_unchecked::<Chain>().get();
                let below = chain
                    .object
                    .as_ref()
                    .map_or(std::ptr::null_mut(), Py::as_ptr);
                each_frame(state, |object| set_tracing(object, true, false));
                if !set_trace_function(state, chain.function, below) {
                    ffi::PyErr_Clear();
                }
            } else {
                replaced += 1;
            }
            state = ffi::PyThreadState_Next(state);
        }
    }
    Ok((replaced > 0).then(|| {
        format!(
            "in {replaced} threads another trace function took over; what they did since then is \
             not recorded"
        )
    }))
}

/// Puts the trace function back on top in each thread that has another one by now.
pub(super) fn retrace(py: Python<'_>) -> PyResult<()> {
    // SAFETY: the GIL is held; the list of threads changes only with it.
    unsafe {
        let mut state = ffi::PyInterpreterState_ThreadHead(ffi::PyInterpreterState_Get());
        while !state.is_null() {
            install(py, state)?;
            state = ffi::PyThreadState_Next(state);
        }
    }
    Ok(())
}

/// What `sys.gettrace` would answer without the recorder.
#[pyfunction]
pub(crate) fn _dump_traced(py: Python<'_>) -> Option<Py<PyAny>> {
    // SAFETY: the GIL is held; the object of our trace function is a `Chain`.
    unsafe {
        let (function, object) = trace_function(PyThreadState_GetUnchecked());
        if object.is_null() {
            return None;
        }
        let object = Bound::from_borrowed_ptr(py, object);
        if function.is_some_and(is_ours) {
            let chain = object.cast_unchecked::<Chain>().get();
            return chain.object.as_ref().map(|object| object.clone_ref(py));
        }
        Some(object.unbind())
    }
}
