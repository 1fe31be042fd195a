//! `objspace.read_ahead`: items of a remote iterator, several with each message.
//!
//! Opt-in, because the other side then runs ahead: it has produced items that nobody has asked for
//! yet. Nothing is lost and nothing changes its place: items, the value of `StopIteration`, or an error
//! come in the order in which they were produced.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use objspace_proto::{FetchKind, Op};
use pyo3::exceptions::{PyStopIteration, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyTuple;

use super::controller::{Remote, remote_of};
use crate::proxy;
use crate::session::perform::{Arguments, perform};

/// As many items come with one message at most.
const MOST: usize = 4096;

/// What follows the items of a reply.
const MORE: u8 = 0;
const EXHAUSTED: u8 = 1;
const FAILED: u8 = 2;

/// Iterates over a remote iterator with up to `n` items in each message, instead of one.
///
/// The other side runs up to `n` items ahead of this one. Remote containers come whole with their
/// first item anyway, and local iterables are iterated as they are. `n` is from 1 to 4096. Raises
/// `ValueError` for another `n`, `TypeError` for what cannot be iterated.
#[pyfunction]
#[pyo3(signature = (iterable, /, n = 64))]
pub(crate) fn read_ahead<'py>(
    iterable: &Bound<'py, PyAny>,
    n: usize,
) -> PyResult<Bound<'py, PyAny>> {
    let py = iterable.py();
    if n == 0 || n > MOST {
        return Err(PyValueError::new_err(format!(
            "read_ahead takes from 1 to {MOST} items, not {n}"
        )));
    }
    let iterator = iterable.try_iter()?.into_any();
    let remote = match proxy::as_proxy(&iterator) {
        Some(found) => remote_of(&found, py)?,
        None => None,
    };
    let Some(remote) = remote else {
        return Ok(iterator);
    };
    let reader = ReadAhead {
        iterator: iterator.unbind(),
        remote: remote.unbind(),
        n,
        buffer: Mutex::new(Buffer::default()),
    };
    Ok(Bound::new(py, reader)?.into_any())
}

#[derive(Default)]
struct Buffer {
    items: VecDeque<Py<PyAny>>,
    /// What ends the iteration, after the items.
    end: Option<PyErr>,
    ended: bool,
}

/// An iterator that reads ahead.
#[pyclass(frozen, module = "objspace", name = "ReadAhead")]
struct ReadAhead {
    /// Keeps the reference.
    iterator: Py<PyAny>,
    remote: Py<Remote>,
    n: usize,
    buffer: Mutex<Buffer>,
}

impl ReadAhead {
    fn lock(&self) -> MutexGuard<'_, Buffer> {
        self.buffer.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[pymethods]
impl ReadAhead {
    fn __iter__(this: PyRef<'_, Self>) -> PyRef<'_, Self> {
        this
    }

    fn __next__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        loop {
            {
                let mut buffer = self.lock();
                if let Some(item) = buffer.items.pop_front() {
                    return Ok(item.into_bound(py));
                }
                if let Some(end) = buffer.end.take() {
                    return Err(end);
                }
                if buffer.ended {
                    return Err(PyStopIteration::new_err(()));
                }
            }
            let remote = self.remote.get();
            let count = self.n.into_pyobject(py)?.into_any();
            let reply =
                remote
                    .connection()
                    .fetch(py, remote.target(), FetchKind::ITEMS, &[count], &[])?;
            let (items, state, value) =
                reply.extract::<(Vec<Py<PyAny>>, u8, Bound<'py, PyAny>)>()?;
            let mut buffer = self.lock();
            buffer.items.extend(items);
            buffer.ended |= state != MORE;
            buffer.end = match state {
                EXHAUSTED => Some(PyStopIteration::new_err((value.unbind(),))),
                FAILED => Some(PyErr::from_value(value)),
                _ => None,
            };
            let _ = &self.iterator;
        }
    }
}

/// The owner's side: the next items of `target`, and what comes after them.
pub(crate) fn answer<'py>(
    target: &Bound<'py, PyAny>,
    arguments: &[Bound<'py, PyAny>],
) -> PyResult<Bound<'py, PyTuple>> {
    let py = target.py();
    let count = match arguments.first() {
        Some(count) => count.extract::<usize>()?.min(MOST),
        None => 1,
    };
    let none = Arguments {
        positional: Vec::new(),
        keywords: None,
    };
    let mut items = Vec::new();
    let mut after = (MORE, py.None().into_bound(py));
    while items.len() < count {
        match perform(target, Op::NEXT, &none) {
            Ok(item) => items.push(item),
            Err(error) if error.is_instance_of::<PyStopIteration>(py) => {
                after = (EXHAUSTED, error.value(py).getattr("value")?);
                break;
            }
            Err(error) if items.is_empty() => return Err(error),
            Err(error) => {
                after = (FAILED, error.into_value(py).into_bound(py).into_any());
                break;
            }
        }
    }
    let (state, value) = after;
    PyTuple::new(
        py,
        [
            PyTuple::new(py, items)?.into_any(),
            state.into_pyobject(py)?.into_any(),
            value,
        ],
    )
}
