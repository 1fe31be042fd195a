//! Frames built anew, and run on.
//!
//! A function of the code is called with nothing; CPython allocates a frame and hands it to the hook of
//! PEP 523, which is ours for as long as the chain goes down. The hook overwrites what is in the frame,
//! links it below the ones before, and calls the next function. When the last frame is there the hook
//! is taken out, the value (or the exception) arrives, and the frames are evaluated from the inside to
//! the outside, by CPython's own evaluation loop: an inner frame is done before the one that
//! waits for it is evaluated, so the loop is never nested. While an inner frame runs, those that wait
//! are linked behind it: callers, tracebacks and line numbers are those of the original.
//!
//! A frame of a generator lies in the generator; it is filled, linked and evaluated the way
//! `gen.send()` does it.

use std::cell::Cell;
use std::ffi::c_int;
use std::ptr;
use std::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};

use pyo3_ffi::{
    Py_None, Py_XDECREF, Py_XINCREF, PyErr_SetString, PyExc_RecursionError, PyExc_RuntimeError,
    PyInterpreterState, PyIter_Send, PyObject, PyObject_Vectorcall, PySendResult, PyThreadState,
    PyThreadState_Get, PyThreadState_GetInterpreter,
};

use super::Record;
use super::capture::{wait, wait_no_more};
use super::settle::{self, Step};
use crate::layout::{Code, EXECUTING, Frame, Generator, Handled, SUSPENDED, Thread};
use crate::owned::Owned;
use crate::suspended::{UNFINISHED, function_for, overwrite, set_unit};

unsafe extern "C" {
    #[link_name = "_PyEval_EvalFrameDefault"]
    fn evaluate(thread: *mut PyThreadState, frame: *mut Frame, throw: c_int) -> *mut PyObject;
    #[link_name = "_PyInterpreterState_GetEvalFrameFunc"]
    fn get_hook(interpreter: *mut PyInterpreterState) -> Hook;
    #[link_name = "_PyInterpreterState_SetEvalFrameFunc"]
    fn set_hook(interpreter: *mut PyInterpreterState, hook: Hook);
}

type Hook = unsafe extern "C" fn(*mut PyThreadState, *mut Frame, c_int) -> *mut PyObject;

/// What a frame ended with, or a value or exception to begin with.
#[derive(Debug)]
#[expect(clippy::exhaustive_enums, reason = "there are three")]
pub enum Outcome {
    /// A Python exception is set.
    Raise,
    /// A value, returned.
    Return(Owned),
    /// A value, yielded by a generator.
    Yield(Owned),
}

/// What a chain is resumed with.
#[expect(clippy::exhaustive_enums, reason = "there are two")]
pub enum Start<'a> {
    /// What its innermost frame waits for; an exception is set for [`Outcome::Raise`].
    With(Outcome),
    /// What this returns, which is called when all frames are there: they wait meanwhile, linked as
    /// if the innermost had called it.
    Asking(&'a mut dyn FnMut() -> Outcome),
}

impl std::fmt::Debug for Start<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::With(outcome) => f.debug_tuple("With").field(outcome).finish(),
            Self::Asking(_) => f.write_str("Asking"),
        }
    }
}

/// A chain that is being resumed. It lies on the C stack of the thread that does it.
struct Run<'a> {
    records: &'a [Record],
    /// Which record the function that is called next is for.
    index: usize,
    /// This function: the frames of all others are none of ours.
    function: *mut PyObject,
    /// The frame of the generator that is run on next; null if it is none.
    generator: *mut Frame,
    /// What was on top of its stack.
    top: Option<*mut PyObject>,
    /// As many times `None` as it takes arguments, and more.
    nothing: Vec<*mut PyObject>,
    count: usize,
    /// The function made last, for the next frame of the same code.
    last: Option<(usize, Owned)>,
    thread: *mut Thread,
    state: *mut PyThreadState,
    interpreter: *mut PyInterpreterState,
    /// What the innermost frame waits for; taken when it is reached.
    first: Option<First>,
    /// What is asked for it instead, once.
    ask: Option<&'a mut dyn FnMut() -> Outcome>,
    /// The run that was the current one of this thread before this one.
    before: *mut Run<'static>,
    /// The lowest address that the C stack may reach.
    limit: usize,
    /// Whether the hook is in.
    hooked: bool,
    /// Whether a frame could not be built: none of the others is run then.
    failed: bool,
}

/// What arrives first.
enum First {
    Value(Owned),
    /// An exception, as `PyErr_Fetch` gives it.
    Error([*mut PyObject; 3]),
}

thread_local! {
    static CURRENT: Cell<*mut Run<'static>> = const { Cell::new(ptr::null_mut()) };
}

/// How many chains are on their way down, in all threads, and the hook that was there before them.
static DESCENDING: AtomicUsize = AtomicUsize::new(0);
static BEFORE: AtomicPtr<()> = AtomicPtr::new(ptr::null_mut());

/// Runs a chain on from where it was captured. Returns the outcome of the outermost frame.
///
/// `limit` is the lowest address that the C stack may reach: the chain takes some hundred bytes of it
/// for each frame, and a chain that is too deep raises `RecursionError` before it runs.
///
/// `alone`: nothing else is below in this greenlet, so that the exception that is handled is noted
/// where the library keeps it while the greenlet waits.
///
/// # Safety
/// See the crate. The records have been checked ([`check`](super::check())), and none of their
/// generators runs.
pub unsafe fn resume<'a>(
    records: &'a [Record],
    handled: Option<&Owned>,
    start: Start<'a>,
    limit: usize,
    alone: bool,
) -> Outcome {
    // SAFETY: attached. The item of handled exceptions is taken off again before it goes away: all
    // frames have ended by then, and generators take off their own.
    unsafe {
        let state = PyThreadState_Get();
        let thread = state.cast::<Thread>();
        let (first, ask) = match start {
            Start::With(Outcome::Return(value) | Outcome::Yield(value)) => {
                (Some(First::Value(value)), None)
            }
            // Functions are not to be called while an exception is set.
            Start::With(Outcome::Raise) => (Some(First::Error(fetch())), None),
            Start::Asking(ask) => (None, Some(ask)),
        };
        let mut item = Handled {
            value: handled.map_or(ptr::null_mut(), Owned::as_ptr),
            previous: (*thread).exc_info,
        };
        Py_XINCREF(item.value);
        if alone {
            std::mem::swap(&mut item.value, &mut (*item.previous).value);
        } else {
            (*thread).exc_info = &raw mut item;
        }
        let mut run = Run {
            records,
            index: 0,
            function: ptr::null_mut(),
            generator: ptr::null_mut(),
            top: None,
            nothing: Vec::new(),
            count: 0,
            last: None,
            thread,
            state,
            interpreter: PyThreadState_GetInterpreter(state),
            first,
            ask,
            before: ptr::null_mut(),
            limit,
            hooked: false,
            failed: false,
        };
        run.hook();
        let outcome = descend(&raw mut run, 0);
        run.unhook();
        (*thread).exc_info = item.previous;
        if alone {
            std::mem::swap(&mut item.value, &mut (*item.previous).value);
        }
        Py_XDECREF(item.value);
        if let Some(First::Error(error)) = run.first.take() {
            for object in error {
                Py_XDECREF(object);
            }
        }
        outcome
    }
}

impl Run<'_> {
    fn hook(&mut self) {
        // SAFETY: attached. The hook hands on all frames that are not ours.
        unsafe {
            if DESCENDING.fetch_add(1, Ordering::Relaxed) == 0 {
                BEFORE.store(get_hook(self.interpreter) as *mut (), Ordering::Relaxed);
                set_hook(self.interpreter, arrive);
            }
        }
        self.hooked = true;
        // Only for so long: the greenlet that this runs in may switch away later, with its stack.
        self.before = CURRENT.replace(ptr::from_mut(self).cast());
    }

    fn unhook(&mut self) {
        if !std::mem::take(&mut self.hooked) {
            return;
        }
        CURRENT.set(std::mem::replace(&mut self.before, ptr::null_mut()));
        // SAFETY: attached. If somebody else has put in a hook meanwhile, theirs stays.
        unsafe {
            if DESCENDING.fetch_sub(1, Ordering::Relaxed) == 1 {
                let hook: Hook = arrive;
                if ptr::fn_addr_eq(get_hook(self.interpreter), hook) {
                    set_hook(self.interpreter, before());
                }
            }
        }
    }
}

/// The hook that was there before the first chain went down.
fn before() -> Hook {
    let hook = BEFORE.load(Ordering::Relaxed);
    // SAFETY: ours is not in before this is stored, and such a function is all that ever is.
    unsafe { std::mem::transmute::<*mut (), Hook>(hook) }
}

/// The hook: a frame arrives that is to be evaluated.
unsafe extern "C" fn arrive(
    state: *mut PyThreadState,
    frame: *mut Frame,
    throw: c_int,
) -> *mut PyObject {
    let run = CURRENT.get();
    // SAFETY: the run of this thread lies below on its stack. A frame of the function that it has
    // just made is the one that it waits for. What was the hook before takes all others.
    unsafe {
        if !run.is_null() && (*run).hooked {
            if !(*run).function.is_null() && (*frame).function == (*run).function {
                (*run).function = ptr::null_mut();
                return on_frame(run, frame);
            }
            if frame == (*run).generator {
                return go_on(run, frame);
            }
        }
        before()(state, frame, throw)
    }
}

/// Builds the frame of a record, and all behind it, and runs it. The caller gets what it ended with.
///
/// # Safety
/// The run is the current one of this thread.
#[inline(always)]
unsafe fn descend(run: *mut Run<'_>, index: usize) -> Outcome {
    // SAFETY: passed on; the records outlive the run.
    unsafe {
        if !prepare(run, index) {
            return Outcome::Raise;
        }
        let generator = generator_of(run, index);
        match generator.is_null() {
            false => on_generator(run, index, generator),
            true => {
                let result = PyObject_Vectorcall(
                    (*run).function,
                    (*run).nothing.as_ptr(),
                    (*run).count,
                    ptr::null_mut(),
                );
                match Owned::taking(result) {
                    Some(value) => Outcome::Return(value),
                    None => {
                        // The frame did not arrive if its function could not even be called.
                        if !(*run).function.is_null() {
                            (*run).function = ptr::null_mut();
                            (*run).failed = true;
                        }
                        Outcome::Raise
                    }
                }
            }
        }
    }
}

/// The generator of a record, or null.
///
/// # Safety
/// As [`descend`].
unsafe fn generator_of(run: *const Run<'_>, index: usize) -> *mut Generator {
    // SAFETY: passed on.
    let record = unsafe { &records(run)[index] };
    let generator = record.generator.as_ref();
    generator.map_or(ptr::null_mut(), |generator| generator.as_ptr().cast())
}

/// Whether the frame of a record can be built now. For a function it is made.
///
/// # Safety
/// As [`descend`].
#[inline(never)]
unsafe fn prepare(run: *mut Run<'_>, index: usize) -> bool {
    // SAFETY: passed on.
    unsafe {
        let here = (&raw const index).addr();
        (*run).failed = true;
        if here < (*run).limit {
            PyErr_SetString(
                PyExc_RecursionError,
                c"the chain of frames is too deep for the stack of this thread".as_ptr(),
            );
            return false;
        }
        if (*(*run).thread).recursion_remaining <= 0 {
            PyErr_SetString(
                PyExc_RecursionError,
                c"the chain of frames is deeper than sys.getrecursionlimit()".as_ptr(),
            );
            return false;
        }
        (*run).index = index;
        let record = &records(run)[index];
        if let Some(generator) = &record.generator {
            if (*generator.as_ptr().cast::<Generator>()).state != UNFINISHED {
                PyErr_SetString(
                    PyExc_RuntimeError,
                    c"a generator of this chain of frames has run on meanwhile".as_ptr(),
                );
                return false;
            }
        } else {
            // Frames of one function, one behind the other, share what is called for them.
            let same = (*run).last.as_ref().is_some_and(|&(last, _)| {
                let last = &records(run)[last];
                last.code.as_ptr() == record.code.as_ptr()
                    && last.globals.as_ptr() == record.globals.as_ptr()
            });
            if !same {
                let code: *mut Code = record.code.as_ptr().cast();
                let Some(function) = function_for(code, record.globals.as_ptr()) else {
                    return false;
                };
                (*run).last = Some((index, function));
            }
            let code: *mut Code = record.code.as_ptr().cast();
            (*run).count = usize::try_from((*code).argcount).unwrap_or(0);
            if (*run).nothing.len() < (*run).count {
                (*run).nothing = vec![Py_None(); (*run).count];
            }
            (*run).function = (*run)
                .last
                .as_ref()
                .map_or(ptr::null_mut(), |(_, function)| function.as_ptr());
        }
        (*run).failed = false;
        true
    }
}

/// The records of a run.
///
/// # Safety
/// As [`descend`].
const unsafe fn records<'a>(run: *const Run<'a>) -> &'a [Record] {
    // SAFETY: passed on.
    unsafe { (*run).records }
}

/// The frame of a function has arrived.
///
/// # Safety
/// As [`descend`]; the frame is new, and that of the record at `index`.
unsafe fn on_frame(run: *mut Run<'_>, frame: *mut Frame) -> *mut PyObject {
    // SAFETY: passed on. The frame is linked only while it waits, during which it stays where it is.
    unsafe {
        let index = (*run).index;
        fill(run, index, frame);
        link(run, index, frame);
        let outcome = if index + 1 < records(run).len() {
            descend(run, index + 1)
        } else {
            begin(run)
        };
        if (*run).failed {
            drop(outcome);
            unlink(run, frame);
            return ptr::null_mut();
        }
        let step = settle::settle(&records(run)[index], frame, outcome);
        unlink(run, frame);
        match step {
            Step::Go => evaluate((*run).state, frame, 0),
            Step::Throw => evaluate((*run).state, frame, 1),
        }
    }
}

/// The frame of a generator.
///
/// # Safety
/// As [`descend`]; the generator is that of the record at `index` and unfinished.
#[inline(never)]
unsafe fn on_generator(run: *mut Run<'_>, index: usize, generator: *mut Generator) -> Outcome {
    // SAFETY: passed on. The record owns the generator, and with it the frame.
    unsafe {
        let frame = &raw mut (*generator).frame;
        fill_generator(run, index, generator);
        enter(run, generator);
        link(run, index, frame);
        let outcome = if index + 1 < records(run).len() {
            descend(run, index + 1)
        } else {
            begin(run)
        };
        if (*run).failed {
            unlink(run, frame);
            leave(run, generator);
            (*generator).state = UNFINISHED;
            return outcome;
        }
        let step = settle::settle(&records(run)[index], frame, outcome);
        unlink(run, frame);
        leave(run, generator);
        if matches!(step, Step::Throw) {
            (*run).first = Some(First::Error(fetch()));
        }
        // `gen.send()` does all that is to be done around the evaluation. It also pushes what is
        // sent, for which a full stack has no room: `go_on` puts back what it takes the place of.
        (*run).top = settle::take_top(frame);
        (*generator).state = SUSPENDED;
        (*run).generator = frame;
        (*run).hook();
        let mut result = ptr::null_mut();
        let how = PyIter_Send(generator.cast(), Py_None(), &raw mut result);
        (*run).generator = ptr::null_mut();
        if let Some(top) = (*run).top.take() {
            Py_XDECREF(top);
        }
        match Owned::taking(result) {
            Some(value) if how == PySendResult::PYGEN_NEXT => Outcome::Yield(value),
            Some(value) => Outcome::Return(value),
            None => Outcome::Raise,
        }
    }
}

/// The frame of a generator has arrived that is to run on.
///
/// # Safety
/// As [`descend`]; `gen.send()` has pushed a value on what `settle` has left there.
unsafe fn go_on(run: *mut Run<'_>, frame: *mut Frame) -> *mut PyObject {
    // SAFETY: passed on.
    unsafe {
        (*run).generator = ptr::null_mut();
        (*run).unhook();
        settle::put_top(frame, (*run).top.take());
        let throw = matches!(begin_with(run), Outcome::Raise);
        evaluate((*run).state, frame, c_int::from(throw))
    }
}

/// The exception that is set, as `PyErr_Fetch` gives it; none is set then.
///
/// # Safety
/// See the crate.
#[allow(deprecated, reason = "what replaces it is not in 3.11")]
unsafe fn fetch() -> [*mut PyObject; 3] {
    let mut error = [ptr::null_mut(); 3];
    let [kind, value, traceback] = &mut error;
    // SAFETY: passed on.
    unsafe { pyo3_ffi::PyErr_Fetch(kind, value, traceback) };
    error
}

/// Puts what a record holds into its frame.
///
/// # Safety
/// As [`on_frame`].
#[inline(never)]
unsafe fn fill(run: *mut Run<'_>, index: usize, frame: *mut Frame) {
    // SAFETY: the number of values is what the code has room for, as was checked.
    unsafe {
        let record = &records(run)[index];
        let values = record.values.iter().map(|value| {
            let value = value.as_ref();
            value.map_or(ptr::null_mut(), Owned::as_ptr)
        });
        let old = overwrite(frame, values);
        set_unit(frame, record.at as usize);
        drop(old);
    }
}

/// # Safety
/// As [`on_generator`].
#[inline(never)]
unsafe fn fill_generator(run: *mut Run<'_>, index: usize, generator: *mut Generator) {
    // SAFETY: passed on.
    unsafe {
        fill(run, index, &raw mut (*generator).frame);
        let record = &records(run)[index];
        let handled = record
            .handled
            .as_ref()
            .map_or(ptr::null_mut(), Owned::as_ptr);
        Py_XINCREF(handled);
        Py_XDECREF((&raw mut (*generator).handled.value).replace(handled));
    }
}

/// Makes a generator one that runs.
///
/// # Safety
/// As [`on_generator`].
unsafe fn enter(run: *mut Run<'_>, generator: *mut Generator) {
    // SAFETY: passed on; the evaluation, or `leave`, takes the item off again.
    unsafe {
        let thread = (*run).thread;
        (*generator).state = EXECUTING;
        (*generator).handled.previous = (*thread).exc_info;
        (*thread).exc_info = &raw mut (*generator).handled;
    }
}

/// Undoes [`enter`].
///
/// # Safety
/// As [`on_generator`].
unsafe fn leave(run: *mut Run<'_>, generator: *mut Generator) {
    // SAFETY: passed on.
    unsafe {
        let item = &raw mut (*generator).handled;
        debug_assert_eq!((*(*run).thread).exc_info, item);
        (*(*run).thread).exc_info = (*item).previous;
        (*item).previous = ptr::null_mut();
    }
}

/// Makes a frame the innermost one, which waits.
///
/// # Safety
/// As [`on_frame`].
#[inline(never)]
unsafe fn link(run: *mut Run<'_>, index: usize, frame: *mut Frame) {
    // SAFETY: passed on.
    unsafe {
        let record = &records(run)[index];
        let thread = &mut *(*run).thread;
        (*frame).previous = thread.frame();
        (*frame).set_return(record.at as usize, record.next as usize);
        thread.set_frame(frame);
        thread.recursion_remaining -= 1;
        wait(frame, record);
    }
}

/// Undoes [`link`].
///
/// # Safety
/// As [`on_frame`].
#[inline(never)]
unsafe fn unlink(run: *mut Run<'_>, frame: *mut Frame) {
    // SAFETY: passed on.
    unsafe {
        let thread = &mut *(*run).thread;
        thread.set_frame((*frame).previous);
        thread.recursion_remaining += 1;
        (*frame).previous = ptr::null_mut();
        wait_no_more(frame);
    }
}

/// All frames are there: the hook is taken out, and what the innermost waits for arrives.
///
/// # Safety
/// As [`descend`].
#[inline(never)]
unsafe fn begin(run: *mut Run<'_>) -> Outcome {
    // SAFETY: passed on.
    unsafe {
        (*run).unhook();
        match (*run).ask.take() {
            Some(ask) => ask(),
            None => begin_with(run),
        }
    }
}

/// What was put aside, as an outcome; `None`, if it was nothing.
///
/// # Safety
/// As [`descend`].
#[allow(deprecated, reason = "what replaces it is not in 3.11")]
unsafe fn begin_with(run: *mut Run<'_>) -> Outcome {
    // SAFETY: passed on; the references of the exception go to the interpreter.
    unsafe {
        match (*run).first.take() {
            Some(First::Value(value)) => Outcome::Return(value),
            Some(First::Error([kind, value, traceback])) => {
                pyo3_ffi::PyErr_Restore(kind, value, traceback);
                Outcome::Raise
            }
            None => match Owned::new(Py_None()) {
                Some(none) => Outcome::Return(none),
                None => Outcome::Raise,
            },
        }
    }
}

/// How many frames [`foreign_hook`] has seen.
static SEEN: AtomicUsize = AtomicUsize::new(0);

/// Puts in, or takes out, a hook of PEP 523 that counts frames and hands them on, as somebody else's
/// would. For tests. Returns how many it has seen.
///
/// # Safety
/// See the crate.
#[doc(hidden)]
pub unsafe fn foreign_hook(on: bool) -> usize {
    unsafe extern "C" fn hand_on(
        state: *mut PyThreadState,
        frame: *mut Frame,
        throw: c_int,
    ) -> *mut PyObject {
        SEEN.fetch_add(1, Ordering::Relaxed);
        // SAFETY: passed on.
        unsafe { evaluate(state, frame, throw) }
    }
    let hook: Hook = if on { hand_on } else { evaluate };
    // SAFETY: attached.
    unsafe {
        let interpreter = PyThreadState_GetInterpreter(PyThreadState_Get());
        set_hook(interpreter, hook);
    }
    SEEN.load(Ordering::Relaxed)
}
