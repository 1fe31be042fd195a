//! Running frames: `run`, `capture`, `Continuation`.
//!
//! A continuation holds its frames in the form in which they are pickled, a tuple of plain objects:
//! `(tag, handled, (frame, …))`, each frame
//! `(code, globals, generator, handled, at, next, action, operands, *values)`, outermost first. So
//! capturing and pickling it is little work, and whatever is resumed has been checked as if it came
//! from outside. A generator that runs in a chain is pickled without a state: it gets its frame from
//! the chain when that is resumed.

use std::cell::Cell;
use std::sync::{Mutex, PoisonError};

use objspace_interp::chain::{self, Action, Outcome, Record, Refused, Start, Then};
use objspace_interp::owned::Owned;
use objspace_interp::suspended::{self, Stage};
use pyo3::exceptions::{PyBaseException, PyRuntimeError, PyTypeError};
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyCode, PyDict, PyTuple, PyType};
use pyo3::{ffi, intern};

use super::null::null;
use crate::pickling::globals::{self, Globals};
use crate::pickling::maker;
use crate::pickling::reducer::{CodeMode, Pass, phased, refused};

/// The values of a frame's tuple before its variables.
const HEAD: usize = 8;

/// The rest of a running program: frames that wait for the value that `capture()` returns.
///
/// `resume(value)` runs them on with that value, here or, from a pickle, elsewhere, and returns what
/// the function that was given to `run()` returns. It can be done any number of times, each with frames
/// of its own; what the frames refer to is the same each time, if it is not pickled in between.
#[pyclass(subclass, weakref, dict, module = "objspace.pickling")]
pub(crate) struct Continuation {
    state: Mutex<Option<Py<PyTuple>>>,
}

#[pymethods]
impl Continuation {
    #[new]
    #[pyo3(signature = (*_args, **_kwargs))]
    fn new(_args: &Bound<'_, PyTuple>, _kwargs: Option<&Bound<'_, PyDict>>) -> Self {
        Self {
            state: Mutex::new(None),
        }
    }

    /// Run on, with `value` as the result of `capture()`, and return what the outermost function returns.
    #[pyo3(signature = (value = None, /))]
    fn resume<'py>(
        this: &Bound<'py, Self>,
        value: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let py = this.py();
        let value = value.unwrap_or_else(|| py.None().into_bound(py));
        let state = this.borrow().state(py)?;
        run_on(&state, Some(value))
    }

    /// Run on, with an exception raised by `capture()`.
    #[pyo3(signature = (exception, /))]
    fn throw<'py>(
        this: &Bound<'py, Self>,
        exception: Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let py = this.py();
        let state = this.borrow().state(py)?;
        let exception = match exception.cast::<PyType>() {
            Ok(class) if class.is_subclass_of::<PyBaseException>()? => exception.call0()?,
            _ => exception,
        };
        if !exception.is_instance_of::<PyBaseException>() {
            return Err(PyTypeError::new_err(
                "exceptions must derive from BaseException",
            ));
        }
        PyErr::from_value(exception).restore(py);
        run_on(&state, None)
    }

    /// Forget the frames, without running anything on: no `finally`, no `__exit__`.
    fn discard(&self) {
        let state = self.lock().take();
        drop(state);
    }

    /// The frames, outermost first: for each the code, and the line it is at.
    #[getter]
    fn frames<'py>(&self, py: Python<'py>) -> PyResult<Vec<(Bound<'py, PyAny>, i32)>> {
        let state = self.state(py)?;
        let mut found = Vec::new();
        for frame in frames_of(&state)? {
            let frame = frame.cast_into::<PyTuple>()?;
            let code = frame.get_item(0)?;
            let at: i32 = frame.get_item(4)?.extract()?;
            // SAFETY: attached; `check` has seen that it is a code object.
            let line = unsafe { ffi::PyCode_Addr2Line(code.as_ptr().cast(), 2 * at) };
            found.push((code, line));
        }
        Ok(found)
    }

    fn __reduce_ex__<'py>(this: &Bound<'py, Self>, _protocol: i32) -> PyResult<Bound<'py, PyAny>> {
        reduce_in(this, None, &Pass::new(CodeMode::Plain, true))
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        // Not locked: a collector that finds it so looks again later.
        if let Ok(state) = self.state.try_lock()
            && let Some(state) = &*state
        {
            visit.call(state)?;
        }
        Ok(())
    }

    fn __clear__(&self) {
        let state = self.lock().take();
        drop(state);
    }
}

impl Continuation {
    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Py<PyTuple>>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn state<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        let state = self.lock().as_ref().map(|state| state.clone_ref(py));
        state
            .map(|state| state.into_bound(py))
            .ok_or_else(|| PyRuntimeError::new_err("this continuation has no frames"))
    }
}

/// The state of a continuation that has nothing but that: it is of the class itself, without attributes.
/// `Err`: it has more.
pub(crate) fn plain_state<'py>(
    this: &Bound<'py, Continuation>,
) -> Result<Option<Bound<'py, PyTuple>>, ()> {
    let py = this.py();
    let attributes = this.getattr(intern!(py, "__dict__")).map_err(|_| ())?;
    let attributes = attributes.cast_into_exact::<PyDict>().map_err(|_| ())?;
    if !this.get_type().is(py.get_type::<Continuation>()) || !attributes.is_empty() {
        return Err(());
    }
    let state = this
        .borrow()
        .lock()
        .as_ref()
        .map(|state| state.clone_ref(py));
    state
        .map(|state| with_wrapped_globals(state.into_bound(py)))
        .transpose()
        .map_err(|_| ())
}

/// The generators that run in a chain, with their globals.
pub(crate) fn running<'py>(
    state: &Bound<'py, PyTuple>,
) -> PyResult<Vec<(Bound<'py, PyAny>, Bound<'py, PyDict>)>> {
    let mut running = Vec::new();
    for frame in frames_of(state)? {
        let frame = frame.cast_into::<PyTuple>()?;
        let generator = frame.get_item(2)?;
        if !generator.is_none() {
            running.push((generator, globals::unwrap(&frame.get_item(1)?)?));
        }
    }
    Ok(running)
}

pub(super) fn frames_of<'py>(state: &Bound<'py, PyTuple>) -> PyResult<Bound<'py, PyTuple>> {
    Ok(state.get_item(2)?.cast_into::<PyTuple>()?)
}

/// Calls `function(*args, **kwargs)`. What `capture()` captures meanwhile ends with its frame.
#[pyfunction]
#[pyo3(signature = (function, /, *args, **kwargs))]
pub(crate) fn run<'py>(
    function: &Bound<'py, PyAny>,
    args: &Bound<'py, PyTuple>,
    kwargs: Option<&Bound<'py, PyDict>>,
) -> PyResult<Bound<'py, PyAny>> {
    // SAFETY: attached; the function outlives the call.
    unsafe { chain::based(function.as_ptr(), || function.call(args, kwargs)) }
}

static CAPTURE: PyOnceLock<Py<PyAny>> = PyOnceLock::new();

/// A `Continuation` of the running program, from the frame of the function that `run()` was given up to
/// this call. When it is resumed, this call returns again, with the value that it is resumed with.
///
/// `kind` is the class of the continuation. `PicklingError`: a call on the way cannot be captured.
#[pyfunction]
#[pyo3(signature = (kind = None, /))]
pub(crate) fn capture<'py>(
    py: Python<'py>,
    kind: Option<&Bound<'py, PyType>>,
) -> PyResult<Bound<'py, PyAny>> {
    let callee = CAPTURE
        .get(py)
        .ok_or_else(|| PyRuntimeError::new_err("objspace is not initialised"))?;
    // SAFETY: attached.
    let captured = unsafe { chain::capture(callee.as_ptr()) };
    let (records, handled) = captured.map_err(|why| {
        not_captured(
            py,
            why,
            "capture() was not called by a function that run() runs",
        )
    })?;
    let continuation = match kind {
        Some(kind) => empty(kind)?,
        None => empty(&py.get_type::<Continuation>())?,
    };
    let state = state_of(py, &records, handled.as_ref())?;
    *continuation.borrow().lock() = Some(state.unbind());
    Ok(continuation.into_any())
}

pub(super) fn bind<'py>(py: Python<'py>, object: &Owned) -> Bound<'py, PyAny> {
    // SAFETY: attached; the object is alive.
    unsafe { Bound::from_borrowed_ptr(py, object.as_ptr()) }
}

/// The error for a chain that cannot be captured; `no_base` if it has no end.
pub(super) fn not_captured(py: Python<'_>, why: Refused, no_base: &'static str) -> PyErr {
    let named = |code: Owned, line: i32, reason: String| {
        let code = bind(py, &code);
        let name: String = code.getattr("co_qualname")?.extract()?;
        let file: String = code.getattr("co_filename")?.extract()?;
        Ok::<_, PyErr>(refused(format!(
            "cannot capture frame {name}() line {line} of {file}: {reason}"
        )))
    };
    match why {
        Refused::Error => PyErr::fetch(py),
        Refused::Frame { code, line, reason } => {
            named(code, line, reason).unwrap_or_else(|error| error)
        }
        _ => PyRuntimeError::new_err(no_base),
    }
}

/// The tuple of a chain.
pub(super) fn state_of<'py>(
    py: Python<'py>,
    records: &[Record],
    handled: Option<&Owned>,
) -> PyResult<Bound<'py, PyTuple>> {
    let none = py.None().into_bound(py);
    let or_none = |object: Option<&Owned>| object.map_or_else(|| none.clone(), |o| bind(py, o));
    let null = null(py)?;
    let mut last: Option<(*mut ffi::PyObject, Bound<'py, Globals>)> = None;
    let mut frames = Vec::with_capacity(records.len());
    for record in records {
        let dict = record.globals.as_ptr();
        let globals = match &last {
            Some((known, globals)) if *known == dict => globals.clone(),
            _ => globals::wrap(&bind(py, &record.globals).cast_into::<PyDict>()?)?,
        };
        last = Some((dict, globals.clone()));
        let operands = &record.then.operands;
        let operands = if operands.is_empty() {
            none.clone()
        } else {
            PyTuple::new(py, operands.iter().map(|operand| bind(py, operand)))?.into_any()
        };
        let head: [Bound<'py, PyAny>; HEAD] = [
            bind(py, &record.code),
            globals.into_any(),
            or_none(record.generator.as_ref()),
            or_none(record.handled.as_ref()),
            record.at.into_pyobject(py)?.into_any(),
            record.next.into_pyobject(py)?.into_any(),
            (record.then.action as u8).into_pyobject(py)?.into_any(),
            operands,
        ];
        let values = record.values.iter().map(|value| match value {
            Some(value) => bind(py, value),
            None => null.clone().into_any(),
        });
        let items: Vec<_> = head.into_iter().chain(values).collect();
        frames.push(PyTuple::new(py, items)?);
    }
    let tag = super::tag(0).into_pyobject(py)?.into_any();
    let frames = PyTuple::new(py, frames)?.into_any();
    PyTuple::new(py, [tag, or_none(handled), frames])
}

/// The chain of a tuple, checked.
pub(super) fn records_of(state: &Bound<'_, PyTuple>) -> PyResult<(Vec<Record>, Option<Owned>)> {
    let py = state.py();
    if state.len() != 3 {
        return Err(super::damaged());
    }
    super::check_tag(state.get_item(0)?.extract()?)?;
    let own = |object: &Bound<'_, PyAny>| {
        // SAFETY: attached; a borrowed object.
        unsafe { Owned::new(object.as_ptr()) }.ok_or_else(super::damaged)
    };
    let unless_none = |object: Bound<'_, PyAny>| {
        if object.is_none() {
            Ok(None)
        } else {
            own(&object).map(Some)
        }
    };
    let null = null(py)?;
    let handled = state.get_item(1)?;
    if !handled.is_none() && !handled.is_instance_of::<PyBaseException>() {
        return Err(super::damaged());
    }
    let mut records = Vec::new();
    for frame in frames_of(state)? {
        let frame = frame
            .cast_into_exact::<PyTuple>()
            .map_err(|_| super::damaged())?;
        if frame.len() < HEAD {
            return Err(super::damaged());
        }
        let operands = match frame.get_item(7)? {
            none if none.is_none() => Vec::new(),
            some => some
                .cast_into_exact::<PyTuple>()
                .map_err(|_| super::damaged())?
                .iter()
                .map(|operand| own(&operand))
                .collect::<PyResult<_>>()?,
        };
        let action = Action::of(frame.get_item(6)?.extract()?).ok_or_else(super::damaged)?;
        let values = frame
            .iter()
            .skip(HEAD)
            .map(|value| {
                if value.is(null) {
                    Ok(None)
                } else {
                    own(&value).map(Some)
                }
            })
            .collect::<PyResult<_>>()?;
        records.push(Record {
            code: own(&frame.get_item(0)?)?,
            globals: own(&globals::unwrap(&frame.get_item(1)?)?.into_any())?,
            generator: unless_none(frame.get_item(2)?)?,
            handled: unless_none(frame.get_item(3)?)?,
            at: frame.get_item(4)?.extract()?,
            next: frame.get_item(5)?.extract()?,
            values,
            then: Then { action, operands },
        });
    }
    for generator in records
        .iter()
        .filter_map(|record| record.generator.as_ref())
    {
        let generator = generator.as_ptr();
        // SAFETY: attached; any object may be asked for its kind, and what has one for its stage.
        let stage = unsafe { suspended::Kind::of(generator).map(|_| suspended::stage(generator)) };
        match stage {
            None => return Err(super::damaged()),
            Some(Stage::Unfinished) => {}
            Some(_) => {
                return Err(PyRuntimeError::new_err(
                    "a generator of this chain runs elsewhere: pickle the continuation, and resume \
                     each copy once",
                ));
            }
        }
    }
    // SAFETY: attached.
    if unsafe { chain::check(&records, null.as_ptr()) } {
        Ok((records, unless_none(handled)?))
    } else {
        Err(PyErr::fetch(py))
    }
}

/// Resumes a chain; without a value, with the exception that is set.
fn run_on<'py>(
    state: &Bound<'py, PyTuple>,
    value: Option<Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyAny>> {
    let py = state.py();
    let error = value.is_none().then(|| PyErr::fetch(py));
    let (records, handled) = records_of(state)?;
    let first = match (value, error) {
        (Some(value), _) => {
            // SAFETY: attached; the reference is given away.
            match unsafe { Owned::taking(value.into_ptr()) } {
                Some(value) => Outcome::Return(value),
                None => return Err(super::damaged()),
            }
        }
        (None, Some(error)) => {
            error.restore(py);
            Outcome::Raise
        }
        (None, None) => return Err(super::damaged()),
    };
    // SAFETY: attached; the records were just checked.
    let outcome = unsafe {
        chain::based(std::ptr::null_mut(), || {
            let start = Start::With(first);
            chain::resume(&records, handled.as_ref(), start, stack_limit(), false)
        })
    };
    ended(py, outcome)
}

/// Builds the frames of a chain in a greenlet that runs nothing else. When they are there `ask` is
/// called, which switches away; what it returns arrives where they wait.
pub(super) fn run_on_alone<'py>(
    state: &Bound<'py, PyTuple>,
    mut ask: impl FnMut() -> PyResult<Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyAny>> {
    let py = state.py();
    let (records, handled) = records_of(state)?;
    let mut ask = || match ask() {
        // SAFETY: attached; the reference is given away.
        Ok(value) => match unsafe { Owned::taking(value.into_ptr()) } {
            Some(value) => Outcome::Return(value),
            None => Outcome::Raise,
        },
        Err(error) => {
            error.restore(py);
            Outcome::Raise
        }
    };
    // SAFETY: attached; the records were just checked.
    let outcome = unsafe {
        let start = Start::Asking(&mut ask);
        chain::resume(&records, handled.as_ref(), start, stack_limit(), true)
    };
    ended(py, outcome)
}

/// What a chain has ended with.
fn ended(py: Python<'_>, outcome: Outcome) -> PyResult<Bound<'_, PyAny>> {
    match outcome {
        Outcome::Raise => Err(PyErr::fetch(py)),
        Outcome::Return(value) | Outcome::Yield(value) => {
            // SAFETY: attached; the reference was given to us.
            Ok(unsafe { Bound::from_owned_ptr(py, value.into_ptr()) })
        }
    }
}

/// How much of the C stack is left to the frames themselves.
const RESERVE: usize = 256 * 1024;

/// The lowest address that building frames may take the C stack of this thread to.
fn stack_limit() -> usize {
    thread_local! {
        static LIMIT: Cell<Option<usize>> = const { Cell::new(None) };
    }
    LIMIT.get().unwrap_or_else(|| {
        let limit = stack_end() + RESERVE;
        LIMIT.set(Some(limit));
        limit
    })
}

/// The lowest address of the C stack of this thread.
#[cfg(target_os = "linux")]
fn stack_end() -> usize {
    // SAFETY: the attributes are initialised by the first call and freed by the last.
    unsafe {
        let mut attributes = std::mem::zeroed::<libc::pthread_attr_t>();
        let (mut address, mut size) = (std::ptr::null_mut(), 0);
        if libc::pthread_getattr_np(libc::pthread_self(), &raw mut attributes) == 0 {
            libc::pthread_attr_getstack(&raw const attributes, &raw mut address, &raw mut size);
            libc::pthread_attr_destroy(&raw mut attributes);
            return address.addr();
        }
    }
    unknown_stack_end()
}

#[cfg(target_os = "macos")]
fn stack_end() -> usize {
    // SAFETY: questions about the own thread.
    unsafe {
        let thread = libc::pthread_self();
        libc::pthread_get_stackaddr_np(thread).addr() - libc::pthread_get_stacksize_np(thread)
    }
}

#[cfg(not(any(target_os = "linux", target_os = "macos")))]
fn stack_end() -> usize {
    unknown_stack_end()
}

/// Where nobody can be asked: as if half a megabyte were left.
#[cfg(not(target_os = "macos"))]
fn unknown_stack_end() -> usize {
    let here = 0_u8;
    (&raw const here).addr().saturating_sub(512 * 1024)
}

/// An object of a class of continuations, made without its `__init__`.
fn empty<'py>(kind: &Bound<'py, PyType>) -> PyResult<Bound<'py, Continuation>> {
    let py = kind.py();
    if kind.is(py.get_type::<Continuation>()) {
        let state = Mutex::new(None);
        return Bound::new(py, Continuation { state });
    }
    if !kind.is_subclass_of::<Continuation>()? {
        return Err(PyTypeError::new_err(format!(
            "{} is no class of continuations",
            kind.repr()?
        )));
    }
    let new = py
        .get_type::<Continuation>()
        .getattr(intern!(py, "__new__"))?;
    Ok(new.call1((kind,))?.cast_into::<Continuation>()?)
}

/// The reduction of a continuation: `(make, (class,), (state, attributes), None, None, setter)`.
pub(super) fn reduce<'py>(
    object: &Bound<'py, PyAny>,
    pass: &Pass,
) -> PyResult<Bound<'py, PyTuple>> {
    let this = object.cast::<Continuation>()?;
    Ok(reduce_in(this, Some(pass), pass)?.cast_into::<PyTuple>()?)
}

fn reduce_in<'py>(
    this: &Bound<'py, Continuation>,
    within: Option<&Pass>,
    pass: &Pass,
) -> PyResult<Bound<'py, PyAny>> {
    let py = this.py();
    let state = this
        .borrow()
        .lock()
        .as_ref()
        .map(|state| state.clone_ref(py));
    let state = state
        .map(|state| with_wrapped_globals(state.into_bound(py)))
        .transpose()?;
    let pairs = match &state {
        Some(state) => used_by(state, within)?,
        None => Vec::new(),
    };
    let attributes = this
        .getattr(intern!(py, "__dict__"))?
        .cast_into::<PyDict>()?;
    let attributes = if attributes.is_empty() {
        py.None().into_bound(py)
    } else {
        attributes.into_any()
    };
    let make = maker::get(py, "make_continuation")?;
    let args = PyTuple::new(py, [this.get_type()])?.into_any();
    let state = (state, attributes).into_pyobject(py)?.into_any();
    let mut reduction = phased(py, make, args, state, "set_continuation")?;
    for (globals, code) in pairs {
        reduction = globals::with_used(reduction, &globals, &code, pass.mode)?;
    }
    Ok(reduction.into_any())
}

/// Globals, and a code that uses them.
type Used<'py> = (Bound<'py, PyDict>, Bound<'py, PyCode>);

/// What the frames of a chain use. Their generators are noted in the pass of the pickle.
pub(super) fn used_by<'py>(
    state: &Bound<'py, PyTuple>,
    within: Option<&Pass>,
) -> PyResult<Vec<Used<'py>>> {
    let mut pairs: Vec<Used<'py>> = Vec::new();
    for frame in frames_of(state)? {
        let frame = frame.cast_into::<PyTuple>()?;
        let generator = frame.get_item(2)?;
        let globals = globals::unwrap(&frame.get_item(1)?)?;
        if !generator.is_none() {
            // A pass of picklers of others is that of many pickles: nothing can be noted in it.
            let Some(within) = within.filter(|pass| pass.mode != CodeMode::Plain) else {
                return Err(refused(
                    "frames with running generators can be pickled by objspace.pickling only",
                ));
            };
            within.frames.add(&generator, globals.clone());
        }
        let code = frame.get_item(0)?.cast_into::<PyCode>()?;
        if !pairs.iter().any(|(g, c)| g.is(&globals) && c.is(&code)) {
            pairs.push((globals, code));
        }
    }
    Ok(pairs)
}

#[pyfunction]
#[pyo3(signature = (kind, /))]
fn make_continuation<'py>(kind: &Bound<'py, PyType>) -> PyResult<Bound<'py, Continuation>> {
    empty(kind)
}

/// The state as it was captured: what was loaded has the dicts themselves, which would be pickled as such.
fn with_wrapped_globals<'py>(state: Bound<'py, PyTuple>) -> PyResult<Bound<'py, PyTuple>> {
    let py = state.py();
    let mut frames = Vec::new();
    for frame in frames_of(&state)? {
        let mut items: Vec<_> = frame.cast_into::<PyTuple>()?.iter().collect();
        if !items[1].is_exact_instance_of::<PyDict>() {
            return Ok(state);
        }
        let globals = globals::wrap(items[1].cast_exact::<PyDict>()?)?;
        items[1] = globals.into_any();
        frames.push(PyTuple::new(py, items)?);
    }
    let frames = PyTuple::new(py, frames)?.into_any();
    PyTuple::new(py, [state.get_item(0)?, state.get_item(1)?, frames])
}

#[pyfunction]
#[pyo3(signature = (object, state, /))]
fn set_continuation(
    object: &Bound<'_, Continuation>,
    state: (Option<Bound<'_, PyTuple>>, Option<Bound<'_, PyDict>>),
) -> PyResult<()> {
    let py = object.py();
    let (state, attributes) = state;
    if let Some(state) = &state {
        records_of(state)?;
    }
    if let Some(attributes) = attributes {
        object
            .getattr(intern!(py, "__dict__"))?
            .cast_into::<PyDict>()?
            .update(attributes.as_mapping())?;
    }
    let old = std::mem::replace(&mut *object.borrow().lock(), state.map(Bound::unbind));
    drop(old);
    Ok(())
}

pub(super) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    maker::add(module, wrap_pyfunction!(make_continuation, module)?)?;
    maker::add(module, wrap_pyfunction!(set_continuation, module)?)
}

/// Adds what users see to the extension, and remembers the function that frames call.
pub(crate) fn export(module: &Bound<'_, PyModule>) -> PyResult<()> {
    let py = module.py();
    module.add_class::<Continuation>()?;
    module.add_function(wrap_pyfunction!(run, module)?)?;
    let function = wrap_pyfunction!(capture, module)?;
    let _ = CAPTURE.set(py, function.clone().into_any().unbind());
    module.add_function(function)
}
