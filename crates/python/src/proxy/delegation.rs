//! `delegate` as the controller of a proxy: each operation is performed on the underlying object, and
//! no Python code and no `ProxyOperation` stands between. The controller of such a proxy is the
//! object itself.

use objspace_proto::Op;
use pyo3::exceptions::PyRuntimeError;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;

use super::bypass;
use super::object::{Keywords, Native, Object, Payload, is_proxy};
use super::perform::perform;
use super::tputil::ProxyOperation;

/// The controller that only delegates. `make_proxy(delegate, obj=x)` is the fastest proxy of `x`;
/// called with a `ProxyOperation`, as by a controller of your own, it is `operation.delegate()`.
#[pyfunction]
#[pyo3(signature = (operation, /))]
pub(crate) fn delegate<'py>(operation: &Bound<'py, ProxyOperation>) -> PyResult<Bound<'py, PyAny>> {
    ProxyOperation::delegate(operation)
}

static FUNCTION: PyOnceLock<Py<PyAny>> = PyOnceLock::new();

/// Remembers the function, so that it is known when it is given as a controller.
pub(crate) fn remember_delegate(module: &Bound<'_, PyModule>) -> PyResult<()> {
    let function = module.getattr("delegate")?.unbind();
    // Set already: a second import of the module, whose function is another object.
    let _ = FUNCTION.set(module.py(), function);
    Ok(())
}

/// The function itself.
pub(super) fn function<'py>(py: Python<'py>) -> Option<Bound<'py, PyAny>> {
    FUNCTION.get(py).map(|function| function.bind(py).clone())
}

/// What tells a proxy that only delegates; `object::operate` knows it, and asks [`forwarded`].
pub(super) static DELEGATE: Native = Native {
    operate,
    dropped,
    resolve,
    attributes: false,
};

/// Performs an operation on the underlying object. A result that is this object is the proxy.
///
/// # Safety
/// As of `object::operate`; `target` is the controller of the proxy.
#[inline]
pub(super) unsafe fn forwarded(
    proxy: Object,
    target: Object,
    op: Op,
    args: &[Object],
    kwnames: Object,
) -> Object {
    // SAFETY: as the caller says; the result is owned here.
    unsafe {
        let result = if bypass::taken(proxy, op) {
            bypass::perform_around(target, op, args)
        } else {
            perform(target, op, args, kwnames)
        };
        if result == target {
            ffi::Py_DECREF(result);
            return ffi::Py_NewRef(proxy);
        }
        result
    }
}

/// What `ask` says of the object behind a proxy that only delegates, where a result in terms of C
/// saves making an object; `None` for every other proxy, and for a proxy of a proxy.
///
/// It counts nothing against the limit of recursion: for operations only whose implementations do, or
/// that cannot lead back to the proxy without one that does.
///
/// # Safety
/// Attached; `proxy` is a live proxy. `ask` gets a live object.
#[inline]
pub(super) unsafe fn directly<T>(proxy: Object, ask: impl FnOnce(Object) -> T) -> Option<T> {
    // SAFETY: as the caller says. The object is held meanwhile, in which the proxy may be cleared.
    unsafe {
        let target = Payload::delegate_of(proxy)?;
        if is_proxy(target) {
            return None;
        }
        ffi::Py_INCREF(target);
        let answer = ask(target);
        ffi::Py_DECREF(target);
        Some(answer)
    }
}

fn unreachable() -> PyErr {
    PyRuntimeError::new_err("objspace: a delegating proxy was asked as another kind; please report")
}

fn operate<'py>(
    _: Python<'py>,
    _: &Bound<'py, PyAny>,
    _: &Bound<'py, PyAny>,
    _: Op,
    _: &[Bound<'py, PyAny>],
    _: &Keywords<'py>,
) -> PyResult<Bound<'py, PyAny>> {
    Err(unreachable())
}

fn dropped(_: *mut ffi::PyObject, _: *mut ffi::PyObject) {}

fn resolve<'py>(
    _: Python<'py>,
    _: &Bound<'py, PyAny>,
    _: &Bound<'py, PyAny>,
) -> PyResult<Bound<'py, PyAny>> {
    Err(unreachable())
}
