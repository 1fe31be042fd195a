//! `pickling.dumps` and `pickling.loads`: directly where that is possible, else by CPython's pickler.

use pyo3::exceptions::PyTypeError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyString};

use super::reducer::CodeMode;
use super::unpickler::unwrap_pickle;
use super::{allow, bounds, direct, stream};

const PROTOCOL: i64 = 5;

/// Return the pickle of an object.
///
/// For the arguments see `Pickler`.
#[pyfunction]
#[pyo3(signature = (obj, protocol=None, *, fix_imports=true, buffer_callback=None, code="auto", key=None))]
pub(crate) fn dumps<'py>(
    py: Python<'py>,
    obj: &Bound<'py, PyAny>,
    protocol: Option<&Bound<'py, PyAny>>,
    fix_imports: bool,
    buffer_callback: Option<&Bound<'py, PyAny>>,
    code: &str,
    key: Option<&[u8]>,
) -> PyResult<Bound<'py, PyBytes>> {
    let newest = match protocol {
        None => true,
        Some(protocol) => protocol
            .extract::<i64>()
            .is_ok_and(|protocol| protocol < 0 || protocol == PROTOCOL),
    };
    if newest
        && buffer_callback.is_none()
        && let Ok(payload) = direct::write(obj, CodeMode::parse(code)?)
    {
        return stream::wrap(py, &payload, key);
    }
    py.import(intern!(py, "objspace.pickling"))?
        .getattr(intern!(py, "_dumps_by_pickler"))?
        .call1((obj, protocol, fix_imports, buffer_callback, code, key))?
        .cast_into()
        .map_err(PyErr::from)
}

/// Return the object of a pickle.
///
/// For the arguments see `Unpickler`.
#[pyfunction]
#[pyo3(signature = (data, /, *, fix_imports=true, encoding="ASCII", errors="strict", buffers=None, key=None, allow=None, limit=None))]
#[expect(
    clippy::too_many_arguments,
    reason = "those of `pickle.loads`, and ours"
)]
pub(crate) fn loads<'py>(
    py: Python<'py>,
    data: &Bound<'py, PyAny>,
    fix_imports: bool,
    encoding: &str,
    errors: &str,
    buffers: Option<&Bound<'py, PyAny>>,
    key: Option<&[u8]>,
    allow: Option<&Bound<'py, PyAny>>,
    limit: Option<u64>,
) -> PyResult<Bound<'py, PyAny>> {
    let data = match data.cast::<PyBytes>() {
        Ok(data) => data.clone(),
        Err(_) => {
            let view = pyo3::types::PyMemoryView::from(data)?;
            view.call_method0(intern!(py, "tobytes"))?.cast_into()?
        }
    };
    let allowed = modules(allow)?;
    let bounds = unwrap_pickle(py, data.as_bytes(), key, limit)?;
    let payload = match bounds {
        None => data.clone(),
        Some((begin, end)) => {
            let payload = &data.as_bytes()[begin..end];
            let _guard = allow::Guard::new(allowed.clone());
            if let Some(object) = direct::read::read(py, payload)? {
                return Ok(object);
            }
            PyBytes::new(py, payload)
        }
    };
    bounds::check(payload.as_bytes())?;
    py.import(intern!(py, "objspace.pickling"))?
        .getattr(intern!(py, "_load_payload"))?
        .call1((payload, allowed, fix_imports, encoding, errors, buffers))
}

/// The payload of a pickle that is written without CPython's pickler; `None` where that cannot be done.
#[pyfunction]
#[pyo3(signature = (object, code = "auto", /))]
pub(crate) fn write_directly<'py>(
    object: &Bound<'py, PyAny>,
    code: &str,
) -> PyResult<Option<Bound<'py, PyBytes>>> {
    let payload = direct::write(object, CodeMode::parse(code)?).ok();
    Ok(payload.map(|payload| PyBytes::new(object.py(), &payload)))
}

/// `(object,)`: what is read from a payload without CPython's unpickler; `None` where that cannot be done.
#[pyfunction]
#[pyo3(signature = (payload, /))]
pub(crate) fn read_directly<'py>(
    py: Python<'py>,
    payload: &[u8],
) -> PyResult<Option<(Bound<'py, PyAny>,)>> {
    let _guard = allow::Guard::new(None);
    Ok(direct::read::read(py, payload)?.map(|object| (object,)))
}

fn modules(allow: Option<&Bound<'_, PyAny>>) -> PyResult<Option<Vec<String>>> {
    let Some(allow) = allow else {
        return Ok(None);
    };
    if allow.is_instance_of::<PyString>() {
        return Err(PyTypeError::new_err(
            "allow= takes a list of names of modules, not one string",
        ));
    }
    allow
        .try_iter()?
        .map(|name| name?.extract())
        .collect::<PyResult<_>>()
        .map(Some)
}
