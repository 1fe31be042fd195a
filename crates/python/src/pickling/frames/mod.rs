//! Frames in pickles: those at rest in generators and coroutines, and those that run.
//!
//! | file | |
//! | --- | --- |
//! | `null` | what stands for a null pointer among the values of a frame |
//! | `suspended` | generators, coroutines, asynchronous generators |
//! | `chain` | `run`, `capture`, `Continuation` |
//! | `greenlet` | greenlets that have switched away, fresh and dead ones |
//! | `awaitable` | what these return to be awaited: `asend()`, `athrow()`, `anext()`, `__await__()` |
//!
//! What a frame holds, and whether saved values fit a frame, is known by `objspace_interp` alone. Here
//! it becomes a reduction: an object is made first, and a state fills it.

mod awaitable;
pub(crate) mod chain;
pub(crate) mod greenlet;
pub(super) mod null;
pub(super) mod suspended;

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple, PyType};

use super::errors;
use super::reducer::Pass;

/// The version of the states that are written here.
const FORMAT: u32 = 1;
/// The minor version of Python that this is built for.
const MINOR: u32 = objspace_interp::MINOR;

/// The kinds of objects that this folder reduces.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Kind {
    /// `anext(iterator, default)`
    Anext,
    Asend,
    Athrow,
    /// A captured chain of frames.
    Continuation,
    /// `coroutine.__await__()`
    CoroutineWrapper,
    /// A generator, coroutine or asynchronous generator.
    Suspended,
}

/// The types that this folder reduces.
pub(crate) fn types(py: Python<'_>) -> PyResult<Vec<(Bound<'_, PyType>, Kind)>> {
    let mut types = awaitable::types(py)?;
    for name in ["GeneratorType", "CoroutineType", "AsyncGeneratorType"] {
        let class = py.import("types")?.getattr(name)?.cast_into::<PyType>()?;
        types.push((class, Kind::Suspended));
    }
    types.push((py.get_type::<chain::Continuation>(), Kind::Continuation));
    Ok(types)
}

/// The reduction of an object of one of these types.
pub(crate) fn reduce<'py>(
    object: &Bound<'py, PyAny>,
    kind: Kind,
    pass: &Pass,
) -> PyResult<Bound<'py, PyTuple>> {
    match kind {
        Kind::Anext => awaitable::reduce_anext(object),
        Kind::Asend => awaitable::reduce(object, "make_asend"),
        Kind::Athrow => awaitable::reduce(object, "make_athrow"),
        Kind::Continuation => chain::reduce(object, pass),
        Kind::CoroutineWrapper => awaitable::reduce_wrapper(object),
        Kind::Suspended => suspended::reduce(object, pass),
    }
}

/// Registers the makers of this folder.
pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    null::register(module)?;
    suspended::register(module)?;
    chain::register(module)?;
    greenlet::register(module)?;
    awaitable::register(module)
}

/// A tag for some bits: with the format and the minor version of this Python.
fn tag(bits: u32) -> u32 {
    MINOR << 16 | FORMAT << 8 | bits
}

/// The bits of a tag. An error if it is one of another format or another Python.
fn check_tag(tag: u32) -> PyResult<u32> {
    let (minor, format) = (tag >> 16, tag >> 8 & 0xff);
    if minor != MINOR {
        return Err(errors::unpickling(format!(
            "a frame of Python 3.{minor} cannot be loaded by Python 3.{MINOR}"
        )));
    }
    if format != FORMAT {
        return Err(errors::unpickling(format!(
            "a frame in format {format} cannot be loaded by this objspace, which has format {FORMAT}"
        )));
    }
    Ok(tag & 0xff)
}

/// The error about what this package cannot have written.
fn damaged() -> PyErr {
    PyValueError::new_err("the pickle is damaged")
}

/// Generators whose frames a continuation of the same pickle writes, with their globals. They need not
/// be at the same point any more.
#[derive(Default)]
pub(crate) struct Running(Mutex<HashMap<usize, Py<PyDict>>>);

impl Running {
    fn add(&self, generator: &Bound<'_, PyAny>, globals: Bound<'_, PyDict>) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // The same ones each time: nothing is dropped inside of the lock.
        all.entry(generator.as_ptr() as usize)
            .or_insert_with(|| globals.unbind());
    }

    fn globals<'py>(&self, generator: &Bound<'py, PyAny>) -> Option<Bound<'py, PyDict>> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if all.is_empty() {
            return None;
        }
        let globals = all.get(&(generator.as_ptr() as usize))?;
        Some(globals.bind(generator.py()).clone())
    }

    /// Forgets all: another pickle begins.
    pub(crate) fn clear(&self) {
        let all = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        drop(all);
    }
}
