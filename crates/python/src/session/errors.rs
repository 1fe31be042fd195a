//! The exceptions of the distributed part, and the one place that words the end of a session.

use pyo3::create_exception;
use std::io::ErrorKind;

use objspace_net::Error as NetError;
use pyo3::exceptions::{
    PyBaseException, PyConnectionError, PyConnectionRefusedError, PyException, PyKeyError,
    PyOSError, PyRecursionError, PyValueError,
};
use pyo3::prelude::*;

use super::link::End;

/// With so many nested calls, too many of them are a recursion, not a crowd of threads.
const MANY: usize = 500;

create_exception!(
    objspace,
    AuthenticationError,
    PyConnectionError,
    "One side does not believe the other to be who it should be: a wrong key or certificate."
);
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

/// An error of the peer, raised here: in the context of the exception that is being handled, as every
/// error is, unless it has one of its own.
pub(crate) fn in_context<'py>(py: Python<'py>, error: Bound<'py, PyAny>) -> PyErr {
    // SAFETY: attached; the result is a new reference or null.
    let handled =
        unsafe { Bound::from_owned_ptr_or_opt(py, pyo3::ffi::PyErr_GetHandledException()) };
    if let Some(handled) = handled
        && !handled.is_none()
    {
        chain(&error, &handled);
    }
    PyErr::from_value(error)
}

/// Puts `handled` at the end of the contexts of `error`, unless that would make a circle.
fn chain(error: &Bound<'_, PyAny>, handled: &Bound<'_, PyAny>) {
    const LONGEST: usize = 1000;
    let context = |of: &Bound<'_, PyAny>| -> Option<Py<PyAny>> {
        let of = of.cast::<PyBaseException>().ok()?;
        // SAFETY: an exception; the result is a new reference or null.
        unsafe {
            Bound::from_owned_ptr_or_opt(of.py(), pyo3::ffi::PyException_GetContext(of.as_ptr()))
        }
        .map(Bound::unbind)
    };
    let py = error.py();
    let mut known = handled.clone();
    for _ in 0..LONGEST {
        if known.is(error) {
            return;
        }
        match context(&known) {
            Some(next) => known = next.into_bound(py),
            None => break,
        }
    }
    let mut last = error.clone();
    for _ in 0..LONGEST {
        if last.is(handled) {
            return;
        }
        match context(&last) {
            Some(next) => last = next.into_bound(py),
            None => {
                if last.is_instance_of::<PyBaseException>() {
                    // SAFETY: an exception; the reference to its context is handed over.
                    unsafe {
                        pyo3::ffi::PyException_SetContext(
                            last.as_ptr(),
                            handled.clone().into_ptr(),
                        );
                    }
                }
                return;
            }
        }
    }
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

/// What is raised where a request could not be sent. Calls to and fro that are nested in one another
/// until no more may be under way are a recursion without end.
pub(crate) fn unsent(error: &objspace_proto::Error) -> PyErr {
    let nested = super::threads::nesting();
    match error {
        objspace_proto::Error::LimitExceeded {
            what: objspace_proto::Limit::Requests,
            ..
        } if nested > MANY => PyRecursionError::new_err(format!(
            "{error}: calls between the processes are nested {nested} deep"
        )),
        error => protocol(error),
    }
}

/// What is raised where no session comes to be. An attempt that would fail again has the attribute
/// `permanent`.
pub(crate) fn network(error: NetError) -> PyErr {
    let mut text = error.to_string();
    if let Some(number) = error.raw_os_error() {
        text = text.replace(&format!(" (os error {number})"), "");
    }
    match (&error, error.raw_os_error()) {
        (NetError::Url(_) | NetError::Tls(_), _) => PyValueError::new_err(text),
        (NetError::Listen { .. } | NetError::Accept { .. }, Some(number)) => {
            PyOSError::new_err((number, text))
        }
        (NetError::Listen { .. } | NetError::Accept { .. }, None) => PyOSError::new_err(text),
        (NetError::Handshake { failure, .. }, _) => {
            let raised = if failure.is_authentication() {
                AuthenticationError::new_err(text)
            } else {
                PyConnectionError::new_err(text)
            };
            if !failure.is_passing() {
                Python::attach(|py| {
                    // Without the attribute the attempt is made again, in vain.
                    let _ = raised.value(py).setattr("permanent", true);
                });
            }
            raised
        }
        (_, Some(number)) if error.kind() == ErrorKind::ConnectionRefused => {
            PyConnectionRefusedError::new_err((number, text))
        }
        (_, Some(number)) => PyConnectionError::new_err((number, text)),
        (_, None) => PyConnectionError::new_err(text),
    }
}
