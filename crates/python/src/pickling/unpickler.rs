//! What stands between a file and CPython's unpickler: the header, its checks, and what the pickle may
//! name.

use pyo3::exceptions::{PyEOFError, PyTypeError, PyValueError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyString};

use super::reducer::Reducer;
use super::{allow, bounds, errors, explain, stream};

/// Bytes that are read from a file at a time: no more is allocated than has arrived.
const PIECE: u64 = 1 << 20;

/// A header and its seal before the payload.
#[pyfunction]
#[pyo3(signature = (payload, key = None))]
pub(crate) fn wrap_pickle<'py>(
    py: Python<'py>,
    payload: &Bound<'py, PyAny>,
    key: Option<&[u8]>,
) -> PyResult<Bound<'py, PyBytes>> {
    let payload = pyo3::buffer::PyBuffer::<u8>::get(payload)?;
    let bytes = payload.to_vec(py)?;
    stream::wrap(py, &bytes, key)
}

/// The payload of a pickle in memory: its place in `data`. `None`: an ordinary pickle.
#[pyfunction]
#[pyo3(signature = (data, key = None, limit = None))]
pub(crate) fn unwrap_pickle(
    py: Python<'_>,
    data: &[u8],
    key: Option<&[u8]>,
    limit: Option<u64>,
) -> PyResult<Option<(usize, usize)>> {
    if data.first() != Some(&stream::MAGIC[0]) {
        within(data.len() as u64, limit)?;
        return unsigned(key).map(|()| None);
    }
    let header = stream::read_header(py, data)?;
    within(header.payload, limit)?;
    stream::check(&header, data, key)?;
    Ok(Some((
        header.length,
        header.length + header.payload as usize,
    )))
}

fn within(length: u64, limit: Option<u64>) -> PyResult<()> {
    match limit {
        Some(limit) if length > limit => Err(errors::unpickling(format!(
            "the pickle has {length} bytes, {limit} are allowed (limit=...)"
        ))),
        _ => Ok(()),
    }
}

fn unsigned(key: Option<&[u8]>) -> PyResult<()> {
    if key.is_some() {
        return Err(errors::unpickling(
            "a key was given, but this is an ordinary pickle, which is not signed",
        ));
    }
    Ok(())
}

/// The payload of a pickle, or the first byte of an ordinary one.
type Found<'py> = (Option<Bound<'py, PyBytes>>, Option<Bound<'py, PyBytes>>);

/// Reads one pickle from a file: its payload, or the first byte of an ordinary pickle.
///
/// Returns `(payload, None)` or `(None, first byte)`.
#[pyfunction]
#[pyo3(signature = (file, key = None, limit = None))]
pub(crate) fn read_pickle<'py>(
    file: &Bound<'py, PyAny>,
    key: Option<&[u8]>,
    limit: Option<u64>,
) -> PyResult<Found<'py>> {
    let py = file.py();
    let mut bytes = Vec::new();
    read(file, &mut bytes, 1)?;
    if bytes.is_empty() {
        return Err(PyEOFError::new_err(
            "the file ends where a pickle should begin",
        ));
    }
    if bytes[0] != stream::MAGIC[0] {
        unsigned(key)?;
        return Ok((None, Some(PyBytes::new(py, &bytes))));
    }
    let cut = || PyEOFError::new_err("the file ends within a pickle");
    read(file, &mut bytes, stream::ENOUGH)?;
    let length = stream::header_length(&bytes)?;
    if !read(file, &mut bytes, length)? {
        return Err(cut());
    }
    let header = stream::read_header(py, &bytes)?;
    within(header.payload, limit)?;
    let end = usize::try_from(header.payload)
        .ok()
        .and_then(|payload| payload.checked_add(length))
        .ok_or_else(cut)?;
    if !read(file, &mut bytes, end)? {
        return Err(cut());
    }
    stream::check(&header, &bytes, key)?;
    bounds::check(&bytes[length..])?;
    Ok((Some(PyBytes::new(py, &bytes[length..])), None))
}

/// Reads until there are `wanted` bytes; whether there are.
fn read(file: &Bound<'_, PyAny>, bytes: &mut Vec<u8>, wanted: usize) -> PyResult<bool> {
    let py = file.py();
    while bytes.len() < wanted {
        let piece = PIECE.min((wanted - bytes.len()) as u64);
        let read = file.call_method1(intern!(py, "read"), (piece,))?;
        let Ok(read) = read.cast::<PyBytes>() else {
            return Err(PyTypeError::new_err(format!(
                "the file must be opened in binary mode: read() returned '{}'",
                read.get_type().name()?
            )));
        };
        let read = read.as_bytes();
        if read.is_empty() {
            return Ok(false);
        }
        if read.len() > wanted - bytes.len() {
            return Err(PyValueError::new_err(
                "read() returned more than was asked for",
            ));
        }
        bytes.extend_from_slice(read);
    }
    Ok(true)
}

/// Calls `load()` while the rule holds that only these modules may be named; `None`: any.
#[pyfunction]
pub(crate) fn load_allowing<'py>(
    load: &Bound<'py, PyAny>,
    modules: Option<Vec<String>>,
) -> PyResult<Bound<'py, PyAny>> {
    let _guard = allow::Guard::new(modules);
    load.call0()
}

/// `find_class` of an unpickler: `find(module, name)` looks it up.
#[pyfunction]
pub(crate) fn find_allowed<'py>(
    find: &Bound<'py, PyAny>,
    module: &Bound<'py, PyString>,
    name: &Bound<'py, PyString>,
) -> PyResult<Bound<'py, PyAny>> {
    let (module_text, name_text) = (module.to_cow()?, name.to_cow()?);
    allow::find(find.py(), &module_text, &name_text, || {
        find.call1((module, name))
    })
}

/// The error to raise for one that a pickler has raised: with the path to what it failed on.
#[pyfunction]
#[pyo3(signature = (object, reducer, error, persistent_id = None))]
pub(crate) fn explain_failure<'py>(
    py: Python<'py>,
    object: &Bound<'py, PyAny>,
    reducer: &Bound<'py, Reducer>,
    error: &Bound<'py, PyAny>,
    persistent_id: Option<Bound<'py, PyAny>>,
) -> Bound<'py, PyAny> {
    let error = PyErr::from_value(error.clone());
    let pass = reducer.get().again();
    explain::explain(object, &pass, persistent_id.as_ref(), error)
        .into_value(py)
        .into_bound(py)
        .into_any()
}
