//! What those who run a server may ask of it: its status, and the last error of a call for a debugger.
//!
//! Both are fetches from the root, which pass a gate of their own: who has proved who they are (a key,
//! a certificate), or reached a socket that only the server's own user can, may ask for the status;
//! the last error is for a debugger, needs `debug=True` besides, and gives every right.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError};
use std::time::Instant;

use objspace_proto::{FetchKind, IncomingTarget, OutgoingTarget};
use pyo3::exceptions::{PyPermissionError, PyStopAsyncIteration, PyStopIteration};
use pyo3::prelude::*;
use pyo3::types::{PyString, PyTuple};

use super::connection::Connection;
use super::link::Asked;
use super::reception::Reception;
use crate::remote::view::RemoteView;

/// The last error that left a call of a client.
pub(super) struct LastError {
    error: Py<PyAny>,
    when: Instant,
    peer: String,
}

/// So many of the oldest exports are told.
const OLDEST: usize = 20;
/// So many kinds of exports are told, the most numerous first.
const KINDS: usize = 50;

fn refuse(what: &str, rule: &str) -> PyErr {
    PyPermissionError::new_err(format!("the server refuses {what}: {rule}"))
}

/// The server, if this client may ask for `what`.
fn gate(
    connection: &Connection,
    what: &str,
    allowed: impl FnOnce(&Reception, bool) -> Result<(), &'static str>,
) -> PyResult<Arc<Reception>> {
    let Some(host) = connection.host() else {
        return Err(refuse(what, "this session is not one of a server"));
    };
    let Some(reception) = host.reception() else {
        return Err(refuse(what, "it has been closed"));
    };
    allowed(&reception, host.trusted).map_err(|rule| refuse(what, rule))?;
    Ok(reception)
}

/// What `objspace top` shows, as a tuple of tuples: see `python/objspace/_cli/top.py`.
pub(super) fn status<'py>(
    py: Python<'py>,
    connection: &Arc<Connection>,
) -> PyResult<Bound<'py, PyAny>> {
    let full = connection.policy().is_full();
    let reception = gate(connection, "its status", |reception, trusted| {
        if trusted || full || reception.operators.status {
            Ok(())
        } else {
            Err(
                "it is for those who have shown a key or a certificate, or come by a Unix socket \
                 (a server with status=True, or serve --status, tells everybody)",
            )
        }
    })?;
    let (guests, refused, last_refusal) = {
        let mut guests = reception.guests();
        (guests.live(), guests.refused, guests.last_refusal.clone())
    };
    let now = Instant::now();
    let mut kinds: HashMap<String, (u64, u64)> = HashMap::new();
    let mut oldest = Vec::new();
    let mut sessions = Vec::new();
    for guest in &guests {
        let (stats, served, waiting, running, exports) = {
            let mut state = guest.link.state();
            let engine = &state.engine;
            // Taking a reference runs no code: the lock may be held.
            let running: Vec<_> = state
                .running
                .iter()
                .map(|run| {
                    let target = match run.target {
                        IncomingTarget::Export(id) => engine.exported(id).ok(),
                        _ => None,
                    };
                    (*run, target.map(|held| held.clone_ref(py)))
                })
                .collect();
            let exports: Vec<_> = engine
                .exports()
                .map(|(held, count)| (held.clone_ref(py), held.since, count))
                .collect();
            let stats = engine.stats();
            let waiting = state.waiting_to_be_written();
            (stats, state.answered, waiting, running, exports)
        };
        for (object, since, count) in exports {
            let kind = kind_of(object.bind(py));
            let entry = kinds.entry(kind.clone()).or_default();
            entry.0 += 1;
            entry.1 += count;
            oldest.push((since, kind, guest.peer().to_owned()));
        }
        let running: Vec<_> = running
            .into_iter()
            // The question that is being answered is of no interest.
            .filter(|(run, _)| !matches!(run.what, Asked::Fetch(FetchKind::STATUS)))
            .map(|(run, target)| {
                let what = match run.what {
                    Asked::Op(op) => format!("{op:?}"),
                    Asked::Fetch(what) => format!("fetch {what:?}"),
                };
                let target = target.map(|target| kind_of(target.bind(py)));
                (
                    what,
                    target.unwrap_or_default(),
                    (now - run.since).as_secs_f64(),
                )
            })
            .collect();
        let age = guest
            .host()
            .map_or(0.0, |host| (now - host.since).as_secs_f64());
        sessions.push(PyTuple::new(
            py,
            [
                PyString::new(py, guest.peer()).into_any(),
                age.into_pyobject(py)?.into_any(),
                served.into_pyobject(py)?.into_any(),
                PyTuple::new(py, running)?.into_any(),
                stats.messages_received.into_pyobject(py)?.into_any(),
                stats.messages_sent.into_pyobject(py)?.into_any(),
                stats.bytes_received.into_pyobject(py)?.into_any(),
                stats.bytes_sent.into_pyobject(py)?.into_any(),
                stats.exports.into_pyobject(py)?.into_any(),
                stats.imports.into_pyobject(py)?.into_any(),
                waiting.into_pyobject(py)?.into_any(),
            ],
        )?);
    }
    oldest.sort_by_key(|(since, ..)| *since);
    let oldest: Vec<_> = oldest
        .into_iter()
        .take(OLDEST)
        .map(|(since, kind, peer)| ((now - since).as_secs_f64(), kind, peer))
        .collect();
    let mut kinds: Vec<_> = kinds
        .into_iter()
        .map(|(kind, (objects, references))| (kind, objects, references))
        .collect();
    kinds.sort_by(|one, other| other.1.cmp(&one.1).then_with(|| one.0.cmp(&other.0)));
    kinds.truncate(KINDS);
    let last_error = reception
        .last_error
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .as_ref()
        .map(|last| {
            let kind = kind_of(last.error.bind(py));
            ((now - last.when).as_secs_f64(), kind, last.peer.clone())
        });
    let server = (
        &reception.address,
        std::process::id(),
        (now - reception.started).as_secs_f64(),
        reception.max_clients,
        refused,
        last_refusal,
        last_error,
    );
    let all = (
        server,
        PyTuple::new(py, sessions)?,
        PyTuple::new(py, kinds)?,
        PyTuple::new(py, oldest)?,
    );
    Ok(all.into_pyobject(py)?.into_any())
}

/// The name of an object's type, without asking the object.
fn kind_of(object: &Bound<'_, PyAny>) -> String {
    let class = match crate::proxy::as_proxy(object) {
        Some(proxy) => proxy.declared(object.py()).ok(),
        None => Some(object.get_type()),
    };
    class.and_then(|class| class.qualname().ok()).map_or_else(
        || "?".to_owned(),
        |name| name.to_string_lossy().into_owned(),
    )
}

/// Remembers an error that is about to be sent to a client, if the server keeps them for a debugger.
pub(super) fn note(py: Python<'_>, connection: &Connection, error: &PyErr) {
    let Some(reception) = connection
        .host()
        .and_then(super::reception::Host::reception)
    else {
        return;
    };
    let ordinary = error.is_instance_of::<PyStopIteration>(py)
        || error.is_instance_of::<PyStopAsyncIteration>(py);
    // Without a traceback it comes from no code of the server: a refusal, a missing attribute.
    if !reception.operators.debug || ordinary || error.traceback(py).is_none() {
        return;
    }
    let last = LastError {
        error: error.value(py).clone().into_any().unbind(),
        when: Instant::now(),
        peer: connection.peer().to_owned(),
    };
    let former = reception
        .last_error
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .replace(last);
    drop(former);
}

/// The age of the last error in seconds and whose call it was, or `None`; raised itself if `again`.
/// Gives the peer every right.
pub(super) fn last_error<'py>(
    py: Python<'py>,
    connection: &Arc<Connection>,
    again: bool,
) -> PyResult<Bound<'py, PyAny>> {
    let reception = gate(connection, "to be debugged", |reception, trusted| {
        if !reception.operators.debug {
            Err("it was started without debug=True (serve --debug)")
        } else if !trusted {
            Err("only those may who have shown a key or a certificate, or come by a Unix socket")
        } else {
            Ok(())
        }
    })?;
    connection.let_debug();
    let last = reception
        .last_error
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .as_ref()
        .map(|last| (last.error.clone_ref(py), last.when, last.peer.clone()));
    let Some((error, when, peer)) = last else {
        return Ok(py.None().into_bound(py));
    };
    if again {
        return Err(PyErr::from_value(error.into_bound(py)));
    }
    let told = (when.elapsed().as_secs_f64(), peer);
    Ok(told.into_pyobject(py)?.into_any())
}

/// What a server says about itself, for `objspace top`.
#[pyfunction]
pub(crate) fn server_status<'py>(
    py: Python<'py>,
    remote: &Bound<'py, RemoteView>,
) -> PyResult<Bound<'py, PyAny>> {
    let connection = remote.get().connection();
    connection.fetch(py, OutgoingTarget::Root, FetchKind::STATUS, &[], &[])
}

/// The age in seconds of a server's last error and whose call it was, or `None`; raises it if `again`.
#[pyfunction]
pub(crate) fn server_last_error<'py>(
    py: Python<'py>,
    remote: &Bound<'py, RemoteView>,
    again: bool,
) -> PyResult<Bound<'py, PyAny>> {
    let connection = remote.get().connection();
    let again = again.into_pyobject(py)?.to_owned().into_any();
    connection.fetch(
        py,
        OutgoingTarget::Root,
        FetchKind::LAST_ERROR,
        &[again],
        &[],
    )
}
