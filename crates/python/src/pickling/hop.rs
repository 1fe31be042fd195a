//! What `objspace.hop` asks of sessions and frames: which objects are remote, what the peer may do, and
//! to let a coroutine end with a result that was computed elsewhere.

use std::sync::Arc;

use objspace_interp::owned::Owned;
use pyo3::exceptions::PyTypeError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyCode, PyDict, PyFrame, PyList, PyType};

use crate::proxy::as_proxy;
use crate::remote::controller::remote_of;
use crate::remote::view::RemoteView;
use crate::session::Session;
use crate::session::connection::Connection;

/// The beginning of the names under which a process takes coroutines and tasklets. They cannot be
/// exported by a user: they are no names of attributes.
const PREFIX: &str = "objspace.hop.";

/// What a peer gets when it asks for such a name; `None` if it is another one.
pub(crate) fn arrivals<'py>(
    py: Python<'py>,
    connection: &Arc<Connection>,
    name: &str,
) -> PyResult<Option<Bound<'py, PyAny>>> {
    let Some(what @ ("coroutine" | "tasklet")) = name.strip_prefix(PREFIX) else {
        return Ok(None);
    };
    let session = Bound::new(py, Session::of(Arc::clone(connection)))?;
    py.import(intern!(py, "objspace._hop"))?
        .getattr(intern!(py, "Arrivals"))?
        .call1((session, connection.policy().is_full()))?
        .getattr(what)
        .map(Some)
}

/// Whether the other side of a session may do everything with objects of this one.
#[pyfunction]
pub(crate) fn peer_may_everything(session: &Bound<'_, Session>) -> bool {
    session.get().connection().policy().is_full()
}

/// What an object is to a session: "reference" for a remote object of any session and for a class of
/// the peer's, "view" for the `RemoteView` of this session, `None` for a local object.
#[pyfunction]
pub(crate) fn remote_kind(
    object: &Bound<'_, PyAny>,
    session: &Bound<'_, Session>,
) -> PyResult<Option<&'static str>> {
    let py = object.py();
    let connection = session.get().connection();
    if let Ok(view) = object.cast::<RemoteView>() {
        return Ok(Arc::ptr_eq(view.get().connection(), connection).then_some("view"));
    }
    if let Ok(other) = object.cast::<Session>() {
        return Ok(Arc::ptr_eq(other.get().connection(), connection).then_some("session"));
    }
    if let Some(proxy) = as_proxy(object) {
        return Ok(remote_of(&proxy, py)?.map(|_| "reference"));
    }
    if let Ok(class) = object.cast::<PyType>()
        && connection.imported_class(class).is_some()
    {
        return Ok(Some("reference"));
    }
    Ok(None)
}

/// The names that this side exports to the peer.
#[pyfunction]
pub(crate) fn exported_to_peer<'py>(session: &Bound<'py, Session>) -> Bound<'py, PyAny> {
    let py = session.py();
    session.get().connection().names().bind(py).clone()
}

/// The coroutine that a frame belongs to; `TypeError` for another frame.
#[pyfunction]
pub(crate) fn coroutine_of<'py>(frame: &Bound<'py, PyFrame>) -> PyResult<Bound<'py, PyAny>> {
    let py = frame.py();
    // SAFETY: attached; a frame object. What is returned is borrowed from the frame.
    let owner = unsafe {
        Bound::from_borrowed_ptr_or_opt(
            py,
            objspace_interp::suspended::generator_of(frame.as_ptr()),
        )
    };
    let class = py.import("types")?.getattr("CoroutineType")?;
    owner
        .filter(|owner| owner.get_type().is(&class))
        .ok_or_else(|| PyTypeError::new_err("the frame does not belong to a coroutine"))
}

/// Lets a coroutine that stands at an `await` end: it returns `value`, or raises it.
#[pyfunction]
pub(crate) fn finish_coroutine<'py>(
    coroutine: &Bound<'py, PyAny>,
    value: &Bound<'py, PyAny>,
    raises: bool,
) -> PyResult<()> {
    let py = coroutine.py();
    let opcodes = py.import("opcode")?.getattr("opmap")?;
    let number = |name: &str| -> PyResult<u8> { opcodes.get_item(name)?.extract() };
    let last = if raises {
        [number("RAISE_VARARGS")?, 1]
    } else {
        [number("RETURN_VALUE")?, 0]
    };
    let code = [
        [number("RETURN_GENERATOR")?, 0],
        [number("RESUME")?, 0],
        // What is sent when the coroutine goes on.
        [number("POP_TOP")?, 0],
        last,
    ]
    .concat();
    let parts = PyDict::new(py);
    parts.set_item("co_code", PyBytes::new(py, &code))?;
    parts.set_item("co_exceptiontable", PyBytes::new(py, b""))?;
    // One entry, without columns, of four units on the first line.
    parts.set_item("co_linetable", PyBytes::new(py, &[0x80 | (13 << 3) | 3, 0]))?;
    let code = coroutine
        .getattr("cr_code")?
        .call_method("replace", (), Some(&parts))?;
    // SAFETY: attached; the code is that of the coroutine, so it fits the frame, and its instructions
    // take the sent value and `value` off the stack.
    let done = unsafe {
        objspace_interp::finish::finish_with(coroutine.as_ptr(), code.as_ptr(), value.as_ptr())
    };
    if done < 0 {
        return Err(PyErr::fetch(py));
    }
    Ok(())
}

/// Makes the frames of a greenlet that has switched away end without running anything, when an
/// exception is thrown there: those from `top` to that which runs `last`, without it. `probe` is a
/// code that has just run for the first time. Returns their codes, to be kept until they have ended, or
/// `None`, if that cannot be done in a process that is, or has been, monitored.
#[pyfunction]
pub(crate) fn abandon_frames<'py>(
    top: &Bound<'py, PyFrame>,
    last: &Bound<'py, PyCode>,
    probe: &Bound<'py, PyCode>,
) -> PyResult<Option<Bound<'py, PyList>>> {
    let py = top.py();
    let parts = PyDict::new(py);
    parts.set_item("co_exceptiontable", PyBytes::new(py, b""))?;
    let codes = PyList::empty(py);
    let mut bare = |code| {
        // SAFETY: attached; the code of a frame.
        let code: Bound<'_, PyAny> = unsafe { Bound::from_borrowed_ptr(py, code) };
        codes.append(&code).ok()?;
        let made = code.call_method("replace", (), Some(&parts)).ok()?;
        // SAFETY: the reference is given away.
        unsafe { Owned::taking(made.into_ptr()) }
    };
    // SAFETY: attached; the frame is that of a greenlet that has switched away (a frame that runs has
    // others behind it than `last` is called by), and `replace` keeps all else.
    let done = unsafe {
        objspace_interp::chain::abandon(top.as_ptr(), last.as_ptr(), probe.as_ptr(), &mut bare)
    };
    Ok(done.map(|_| codes))
}

/// Keeps an object alive until the process ends, and then leaves it alone. For greenlets whose frames
/// have moved elsewhere, where they cannot be made to end without running their `finally`.
#[pyfunction]
pub(crate) fn keep_forever(object: Py<PyAny>) {
    std::mem::forget(object);
}
