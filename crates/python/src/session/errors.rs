//! The exceptions of the distributed part, and the one place that words the end of a session.

use pyo3::create_exception;
use pyo3::exceptions::{PyConnectionError, PyException, PyKeyError};
use pyo3::prelude::*;

use super::link::End;

create_exception!(
    objspace,
    ConnectionLost,
    PyConnectionError,
    "The session with the other process has ended; the message names the endpoint and the cause."
);
create_exception!(
    objspace,
    ObjectNotFound,
    PyKeyError,
    "The other side exports nothing under this name."
);
create_exception!(
    objspace,
    ProtocolError,
    PyException,
    "The other side sent something that the protocol does not allow."
);

/// What every operation on a session raises once it has ended.
pub(crate) fn session_ended(peer: &str, end: &End) -> PyErr {
    ConnectionLost::new_err(match end {
        End::Closed => format!("the session with {peer} was closed on this side"),
        End::ByPeer(reason) if reason.is_empty() => format!("{peer} closed the session"),
        End::ByPeer(reason) => format!("{peer} closed the session: {reason}"),
        End::Lost(cause) => format!("the connection to {peer} is lost: {cause}"),
        End::Broken(cause) => format!(
            "the session with {peer} was ended, because the other side broke the protocol: {cause}"
        ),
    })
}

/// What is raised by something that outlived its session.
pub(crate) fn gone(peer: &str) -> PyErr {
    ConnectionLost::new_err(format!("the session with {peer} has ended"))
}

/// What a forked child gets that uses a session of its parent.
pub(crate) fn forked(peer: &str) -> PyErr {
    ConnectionLost::new_err(format!(
        "the session with {peer} belongs to the parent process: open one in the forked child"
    ))
}

/// What an error of the engine raises where it concerns one call only.
pub(crate) fn protocol(error: &objspace_proto::Error) -> PyErr {
    ProtocolError::new_err(error.to_string())
}
