//! `objspace.copy_out`: a remote container becomes a local one, deep, in one message.

use objspace_proto::{FetchKind, Kind};
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::{PyString, PyTuple};

use super::controller::{Remote, remote_of};
use super::plain::is_plain;
use crate::proxy;

/// A deep copy of a remote object, by value: one message, whatever its size.
///
/// Copies the containers `list`, `tuple`, `dict`, `set`, `frozenset`, `bytearray`, `array`, `deque`,
/// `OrderedDict`, `defaultdict`, `Counter` and `SimpleNamespace`, the values that travel by value
/// anyway, and instances of classes that are declared on this side by `by_value` or `adopt`. Cycles
/// and sharing stay. Objects of this process that the data refers to are themselves.
///
/// No pickle, and no code of the data's classes runs but `__hash__` and `__eq__` of keys. Raises
/// `TypeError` that names the path to what cannot be copied, such as `p['files'][0]`; `PermissionError`
/// if the other side's policy does not give out the attributes of an instance. A value that is no
/// reference is returned as it is; for any other local object: `TypeError`.
#[pyfunction]
#[pyo3(signature = (obj, /))]
pub(crate) fn copy_out<'py>(obj: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    let py = obj.py();
    if let Some(proxy) = proxy::as_proxy(obj)
        && let Some(remote) = remote_of(&proxy, py)?
    {
        return fetch(py, remote.get(), false);
    }
    if is_plain(obj) {
        return Ok(obj.clone());
    }
    if let Ok(items) = obj.cast_exact::<PyTuple>() {
        let items = items
            .iter()
            .map(|item| copy_out(&item))
            .collect::<PyResult<Vec<_>>>()?;
        return Ok(PyTuple::new(py, items)?.into_any());
    }
    Err(PyTypeError::new_err(format!(
        "copy_out() takes a remote object, not a local '{}' object",
        obj.get_type().name()?
    )))
}

/// The copy. With `references`, what cannot be copied stays a reference instead of being an error.
pub(crate) fn fetch<'py>(
    py: Python<'py>,
    remote: &Remote,
    references: bool,
) -> PyResult<Bound<'py, PyAny>> {
    let word = references.then(|| PyString::intern(py, "references").into_any());
    remote
        .connection()
        .fetch(py, remote.target(), FetchKind::COPY, word.as_slice(), &[])
}

/// A copy of a remote built-in container, for code that reads everything in it: containers inside come
/// along, everything else is a reference. `None` if `obj` is no such container.
pub(crate) fn for_reading<'py>(obj: &Bound<'py, PyAny>) -> PyResult<Option<Bound<'py, PyAny>>> {
    let py = obj.py();
    let Some(proxy) = proxy::as_proxy(obj) else {
        return Ok(None);
    };
    match remote_of(&proxy, py)? {
        Some(remote) if matches!(remote.get().kind(), Kind::LIST | Kind::DICT | Kind::TUPLE) => {
            fetch(py, remote.get(), true).map(Some)
        }
        _ => Ok(None),
    }
}
