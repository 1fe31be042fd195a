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

pub(super) fn reduce<'py>(
    object: &Bound<'py, PyAny>,
    pass: &Pass,
) -> PyResult<Bound<'py, PyTuple>> {
    let py = object.py();
    let pointer = object.as_ptr();
    // SAFETY: attached; an object of one of the three types, by whose kind this was found.
    let (kind, stage, parts) = unsafe {
        let kind = Kind::of(pointer).ok_or_else(|| refused("not a generator"))?;
        (kind, suspended::stage(pointer), suspended::parts(pointer))
    };
    // What runs in a chain of this pickle has its state there.
    let in_chain = pass.frames.globals(object);
    if in_chain.is_none() && matches!(stage, Stage::Executing | Stage::Unfinished) {
        let why = if stage == Stage::Executing {
            "it is running"
        } else {
            "it is still being loaded"
        };
        return Err(refused(format!("cannot pickle {}: {why}", object.repr()?)));
    }
    let mut tag = tag(kind);
    // SAFETY: borrowed from `object`, which is alive.
    let part = |pointer| unsafe { Bound::from_borrowed_ptr(py, pointer) };
    let code = part(parts.code);
    let mut args = vec![code.clone()];
    let globals = if let Some(globals) = &in_chain {
        args.push(globals::wrap(globals)?.into_any());
        None
    } else if stage == Stage::Finished {
        tag |= FINISHED | if parts.closed { CLOSED } else { 0 };
        args.push(py.None().into_bound(py));
        None
    } else {
        let globals = part(parts.globals).cast_into::<PyDict>()?;
        args.push(globals::wrap(&globals)?.into_any());
        Some(globals)
    };
    if !parts.names_of_code {
        args.extend([part(parts.name), part(parts.qualname)]);
    }
    args.insert(0, tag.into_pyobject(py)?.into_any());
    let args = PyTuple::new(py, args)?.into_any();
    let make = maker::get(py, "make_suspended")?;
    let Some(globals) = globals else {
        return PyTuple::new(py, [make, args]);
    };
    // SAFETY: attached; the generator is at rest, and nothing has run since that was seen: reducing
    // runs no Python code but `repr` of what is refused.
    let state =
        unsafe { Bound::from_owned_ptr_or_err(py, suspended::state(pointer, null(py)?.as_ptr()))? };
    let reduction = phased(py, make, args, state, "set_suspended")?;
    let code = code.cast_into::<PyCode>()?;
    globals::with_used(reduction, &globals, &code, pass.mode)
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
