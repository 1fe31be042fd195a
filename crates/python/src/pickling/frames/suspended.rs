//! Generators, coroutines and asynchronous generators at rest.
//!
//! `(make_suspended, (tag, code, globals[, name, qualname]), state, None, None, set_suspended)`: `tag`
//! says which of the three it is, in which format and for which Python; names that differ from those of
//! the code follow. A finished one is made at once, without globals and state.

use objspace_interp::suspended::{self, Kind, Stage};
use pyo3::prelude::*;
use pyo3::types::{PyCode, PyDict, PyTuple};

use super::null::null;
use crate::pickling::globals;
use crate::pickling::maker;
use crate::pickling::reducer::{Pass, phased, refused};

/// Bits of a tag: the kind in two, then these; format and minor version have a byte each.
const FINISHED: u32 = 4;
const CLOSED: u32 = 8;

/// What is written of a generator, but for its state.
pub(crate) struct Head<'py> {
    pub(crate) tag: u32,
    pub(crate) code: Bound<'py, PyCode>,
    /// `None`: it is finished.
    pub(crate) globals: Option<Bound<'py, PyDict>>,
    /// The names, where they are not those of the code.
    pub(crate) names: Option<[Bound<'py, PyAny>; 2]>,
    /// Whether a state follows: it is at rest.
    pub(crate) state: bool,
}

impl<'py> Head<'py> {
    /// `in_chain`: the globals of one that runs in a chain of the same pickle, and has its state there.
    pub(crate) fn of(
        object: &Bound<'py, PyAny>,
        in_chain: Option<Bound<'py, PyDict>>,
    ) -> PyResult<Self> {
        let py = object.py();
        let pointer = object.as_ptr();
        // SAFETY: attached; an object of one of the three types, by whose kind this was found.
        let (kind, stage, parts) = unsafe {
            let kind = Kind::of(pointer).ok_or_else(|| refused("not a generator"))?;
            (kind, suspended::stage(pointer), suspended::parts(pointer))
        };
        if in_chain.is_none() && matches!(stage, Stage::Executing | Stage::Unfinished) {
            let why = if stage == Stage::Executing {
                "it is running"
            } else {
                "it is still being loaded"
            };
            return Err(refused(format!("cannot pickle {}: {why}", object.repr()?)));
        }
        // SAFETY: borrowed from `object`, which is alive.
        let part = |pointer| unsafe { Bound::from_borrowed_ptr(py, pointer) };
        let mut tag = tag(kind);
        let state = in_chain.is_none() && stage != Stage::Finished;
        let globals = if state {
            Some(part(parts.globals).cast_into::<PyDict>()?)
        } else {
            if in_chain.is_none() {
                tag |= FINISHED | if parts.closed { CLOSED } else { 0 };
            }
            in_chain
        };
        let names = !parts.names_of_code;
        Ok(Self {
            tag,
            code: part(parts.code).cast_into::<PyCode>()?,
            globals,
            names: names.then(|| [part(parts.name), part(parts.qualname)]),
            state,
        })
    }
}

pub(super) fn reduce<'py>(
    object: &Bound<'py, PyAny>,
    pass: &Pass,
) -> PyResult<Bound<'py, PyTuple>> {
    let py = object.py();
    // What runs in a chain of this pickle has its state there.
    let head = Head::of(object, pass.frames.globals(object))?;
    let globals = match &head.globals {
        Some(globals) => globals::wrap(globals)?.into_any(),
        None => py.None().into_bound(py),
    };
    let args = [
        head.tag.into_pyobject(py)?.into_any(),
        head.code.clone().into_any(),
        globals,
    ];
    let args = PyTuple::new(
        py,
        args.into_iter()
            .chain(head.names.into_iter().flatten())
            .collect::<Vec<_>>(),
    )?;
    let make = maker::get(py, "make_suspended")?;
    let (Some(globals), true) = (head.globals, head.state) else {
        return PyTuple::new(py, [make, args.into_any()]);
    };
    // SAFETY: attached; the generator was at rest, and nothing has run since that was seen: reducing
    // runs no Python code but `repr` of what is refused.
    let state = unsafe {
        let state = suspended::state(object.as_ptr(), null(py)?.as_ptr());
        Bound::from_owned_ptr_or_err(py, state)?
    };
    let reduction = phased(py, make, args.into_any(), state, "set_suspended")?;
    globals::with_used(reduction, &globals, &head.code, pass.mode)
}

/// The state of a generator at rest: its numbers, and the values behind them; `None` for no value.
pub(crate) type State<'py> = ([i64; 2], Vec<Option<Bound<'py, PyAny>>>);

/// The parts of the tuple that is the state of a generator at rest.
pub(crate) fn state<'py>(object: &Bound<'py, PyAny>) -> Option<State<'py>> {
    let py = object.py();
    let pointer = object.as_ptr();
    // SAFETY: attached; what has a kind has a stage, and is looked at only if it is at rest. What is
    // borrowed from it is held before anything else happens.
    unsafe {
        Kind::of(pointer)?;
        if suspended::stage(pointer) != Stage::AtRest {
            return None;
        }
        let view = suspended::view(pointer);
        let values = [view.handled, view.origin];
        let values = values.iter().chain(view.values);
        let values = values
            .map(|&value| Bound::from_borrowed_ptr_or_opt(py, value))
            .collect();
        Some(([view.next as i64, view.flags], values))
    }
}

fn tag(kind: Kind) -> u32 {
    let kind = match kind {
        Kind::Generator => 0,
        Kind::Coroutine => 1,
        Kind::AsyncGenerator => 2,
    };
    super::tag(kind)
}

/// An object without a state, or a finished one.
#[pyfunction]
#[pyo3(signature = (tag, code, globals, name = None, qualname = None, /))]
fn make_suspended<'py>(
    tag: u32,
    code: &Bound<'py, PyAny>,
    globals: &Bound<'py, PyAny>,
    name: Option<&Bound<'py, PyAny>>,
    qualname: Option<&Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyAny>> {
    let py = code.py();
    let bits = super::check_tag(tag)?;
    let kind = match bits & 3 {
        0 => Kind::Generator,
        1 => Kind::Coroutine,
        2 => Kind::AsyncGenerator,
        _ => return Err(super::damaged()),
    };
    let globals = if bits & FINISHED == 0 {
        Some(globals::unwrap(globals)?)
    } else {
        None
    };
    let pointer = |object: Option<&Bound<'py, PyAny>>| {
        object.map_or(std::ptr::null_mut(), |object| object.as_ptr())
    };
    // SAFETY: attached; all arguments are objects or null, and checked over there.
    unsafe {
        let made = suspended::make(
            kind,
            code.as_ptr(),
            pointer(globals.as_deref()),
            pointer(name),
            pointer(qualname),
        );
        let made = Bound::from_owned_ptr_or_err(py, made)?;
        if bits & CLOSED != 0 {
            suspended::set_closed(made.as_ptr());
        }
        Ok(made)
    }
}

/// Fills what `make_suspended` made.
#[pyfunction]
#[pyo3(signature = (object, state, /))]
fn set_suspended(object: &Bound<'_, PyAny>, state: &Bound<'_, PyAny>) -> PyResult<()> {
    let py = object.py();
    // SAFETY: attached; both are objects, and checked over there.
    let result = unsafe { suspended::restore(object.as_ptr(), state.as_ptr(), null(py)?.as_ptr()) };
    if result == 0 {
        Ok(())
    } else {
        Err(PyErr::fetch(py))
    }
}

pub(super) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    maker::add(module, wrap_pyfunction!(make_suspended, module)?)?;
    maker::add(module, wrap_pyfunction!(set_suspended, module)?)
}
