//! What a remote object does with an operation: answer it here if the answer is certain, fetch one
//! snapshot if all the contents are needed, else send it to the process where the object lives.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use objspace_interp::lookahead;
use objspace_proto::{FetchKind, ImportId, Kind, Op, OutgoingTarget};
use pyo3::exceptions::{PyRuntimeError, PyTypeError};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PySlice, PyString, PyType};

use super::awaitable;
use super::buffer;
use super::chain;
use super::class::{self, statics};
use super::contents::{self, Part};
use super::dict_view;
use super::operand::{builtin_hash, native_method, operand, reflected};
use crate::proxy::{self, Native, ProxyRef};
use crate::session::connection::Connection;

/// Where a proxy's object lives. The controller of every remote object.
#[pyclass(frozen, module = "objspace._core", name = "RemoteReference")]
pub(crate) struct Remote {
    connection: Arc<Connection>,
    import: ImportId,
    kind: Kind,
    iterated: Mutex<Option<Iterated>>,
    merge: Mutex<Option<dict_view::Merge>>,
    driver: awaitable::Driver,
    buffers: buffer::Kept,
}

/// The last snapshot that was iterated over: C code that turns an iterable into a list asks for its
/// length as a hint, while it holds the iterator.
struct Iterated {
    iterator: Py<PyAny>,
    length: usize,
    position: (usize, usize),
}

impl Remote {
    pub(crate) fn new(connection: &Arc<Connection>, import: ImportId, kind: Kind) -> Self {
        Self {
            connection: Arc::clone(connection),
            import,
            kind,
            iterated: Mutex::new(None),
            merge: Mutex::new(None),
            driver: awaitable::Driver::default(),
            buffers: buffer::Kept::default(),
        }
    }

    /// Iterates over one snapshot, and remembers it for the hint of its length.
    pub(crate) fn iterate<'py>(&self, py: Python<'py>, part: Part) -> PyResult<Bound<'py, PyAny>> {
        let contents = contents::fetch(py, self, part)?;
        let iterator = contents.try_iter()?.into_any();
        // SAFETY: attached.
        let position = unsafe { objspace_interp::position() };
        let now = Iterated {
            iterator: iterator.clone().unbind(),
            length: contents.len()?,
            position,
        };
        let old = lock(&self.iterated).replace(now);
        drop(old);
        Ok(iterator)
    }

    /// The length of the snapshot that the caller iterates over in this very instruction.
    pub(crate) fn hint(&self) -> Option<usize> {
        let iterated = lock(&self.iterated).take()?;
        // SAFETY: attached.
        let same = iterated.position == unsafe { objspace_interp::position() };
        // SAFETY: a live object, whose count is only read. If it is more than ours, somebody else
        // holds the iterator too: the C code that has just asked for it.
        let shared = unsafe { ffi::Py_REFCNT(iterated.iterator.as_ptr()) } > 1;
        (same && shared).then_some(iterated.length)
    }

    /// C code is about to ask for each item of this dict.
    pub(crate) fn begin_merge(&self, merge: Option<dict_view::Merge>) {
        let old = std::mem::replace(&mut *lock(&self.merge), merge);
        drop(old);
    }

    /// The item that a merge under way asks for.
    fn merged<'py>(&self, key: &Bound<'py, PyAny>) -> Option<Bound<'py, PyAny>> {
        let merge = lock(&self.merge).take()?;
        let (value, rest) = merge.take(key)?;
        self.begin_merge(rest);
        Some(value.into_bound(key.py()))
    }

    pub(crate) fn driver(&self) -> &awaitable::Driver {
        &self.driver
    }

    pub(crate) fn buffers(&self) -> &buffer::Kept {
        &self.buffers
    }

    pub(crate) fn kind(&self) -> Kind {
        self.kind
    }

    pub(crate) fn connection(&self) -> &Arc<Connection> {
        &self.connection
    }

    pub(crate) fn import(&self) -> ImportId {
        self.import
    }

    pub(crate) fn target(&self) -> OutgoingTarget {
        OutgoingTarget::Import(self.import)
    }
}

/// An attribute of a remote object that the caller's next instruction calls: the fetch and the call
/// go in one message.
#[pyclass(frozen, module = "objspace._core", name = "DeferredAttribute")]
struct Deferred {
    object: Py<PyAny>,
    name: Py<PyString>,
}

/// Stands for a remote object that has no proxy of its own: the original of an exception.
#[pyclass(frozen, module = "objspace._core", name = "RemoteHandle", weakref)]
pub(crate) struct Handle {
    remote: Py<Remote>,
    /// Its own address, under which it is bound in the table of imports.
    address: AtomicU64,
}

impl Drop for Handle {
    fn drop(&mut self) {
        let remote = self.remote.get();
        remote
            .connection
            .link
            .forget(remote.import, self.address.load(Ordering::Relaxed));
    }
}

static REMOTE: Native = Native {
    operate,
    dropped,
    resolve: never_deferred,
    attributes: false,
};
static DEFERRED: Native = Native {
    operate: operate_deferred,
    dropped: dropped_deferred,
    resolve: resolve_deferred,
    attributes: false,
};

/// The remote reference behind a proxy, if it is the proxy of a remote object. A deferred attribute
/// is fetched first.
pub(crate) fn remote_of<'py>(
    proxy: &ProxyRef<'py>,
    py: Python<'py>,
) -> PyResult<Option<Bound<'py, Remote>>> {
    if proxy.is_native(&DEFERRED) || chain::is_chain(proxy) {
        let resolved = proxy.resolved(py)?;
        return Ok(proxy::as_proxy(&resolved).and_then(|inner| remote_controller(&inner)));
    }
    if let Some(remote) = remote_controller(proxy) {
        return Ok(Some(remote));
    }
    dict_view::remote_of(proxy, proxy.object())
}

fn remote_controller<'py>(proxy: &ProxyRef<'py>) -> Option<Bound<'py, Remote>> {
    if !proxy.is_native(&REMOTE) {
        return None;
    }
    proxy.controller()?.cast_into::<Remote>().ok()
}

/// The remote reference behind a bare handle.
pub(crate) fn remote_handle<'py>(object: &Bound<'py, PyAny>) -> Option<Bound<'py, Remote>> {
    let handle = object.cast::<Handle>().ok()?;
    Some(handle.get().remote.bind(object.py()).clone())
}

/// The proxy for a reference that has arrived.
pub(crate) fn import<'py>(
    connection: &Arc<Connection>,
    py: Python<'py>,
    id: ImportId,
    kind: Kind,
    class: &Bound<'py, PyType>,
) -> PyResult<Bound<'py, PyAny>> {
    connection.import(py, id, || {
        let controller = Py::new(py, Remote::new(connection, id, kind))?;
        proxy::new_proxy(py, class, controller.into_any(), Some(&REMOTE))
            .map(|proxy| proxy.into_bound(py))
    })
}

/// The handle for a reference that has arrived.
pub(crate) fn import_handle<'py>(
    connection: &Arc<Connection>,
    py: Python<'py>,
    id: ImportId,
) -> PyResult<Bound<'py, PyAny>> {
    connection.import(py, id, || {
        let remote = Py::new(py, Remote::new(connection, id, Kind::EXCEPTION))?;
        let handle = Bound::new(
            py,
            Handle {
                remote,
                address: AtomicU64::new(0),
            },
        )?;
        handle
            .get()
            .address
            .store(handle.as_ptr() as u64, Ordering::Relaxed);
        Ok(handle.into_any())
    })
}

fn reference<'a, 'py>(controller: &'a Bound<'py, PyAny>) -> PyResult<&'a Bound<'py, Remote>> {
    controller.cast::<Remote>().map_err(|_| {
        PyRuntimeError::new_err(
            "objspace: a remote proxy without its reference; please report this",
        )
    })
}

fn dropped(controller: *mut ffi::PyObject, proxy: *mut ffi::PyObject) {
    // SAFETY: called first thing in the proxy's destructor, attached, with the proxy's own
    // controller, which is still alive; the result is not kept beyond this function.
    let controller = unsafe { Bound::from_borrowed_ptr(Python::assume_attached(), controller) };
    if let Ok(remote) = controller.cast::<Remote>() {
        let remote = remote.get();
        remote.connection.link.forget(remote.import, proxy as u64);
    }
}

fn never_deferred<'py>(
    _: Python<'py>,
    _: &Bound<'py, PyAny>,
    _: &Bound<'py, PyAny>,
) -> PyResult<Bound<'py, PyAny>> {
    Err(PyRuntimeError::new_err(
        "objspace: a proxy of unknown type; please report this",
    ))
}

/// An operation on a remote object.
fn operate<'py>(
    py: Python<'py>,
    proxy: &Bound<'py, PyAny>,
    controller: &Bound<'py, PyAny>,
    op: Op,
    args: &[Bound<'py, PyAny>],
    keywords: &[(Bound<'py, PyString>, Bound<'py, PyAny>)],
) -> PyResult<Bound<'py, PyAny>> {
    let remote = reference(controller)?.get();
    match op {
        Op::GETATTR => {
            if let [name] = args
                && let Ok(name) = name.cast_exact::<PyString>()
            {
                return getattr(py, proxy, remote, name);
            }
        }
        Op::ITER if is_iterator(remote.kind) => return Ok(proxy.clone()),
        Op::ITER => {
            if let Some(part) = contents::whole(proxy, remote, "__iter__")? {
                return remote.iterate(py, part);
            }
        }
        Op::LEN => {
            if let Some(length) = remote.hint() {
                return Ok(length.into_pyobject(py)?.into_any());
            }
        }
        Op::REVERSED => {
            if let Some(part) = contents::whole(proxy, remote, "__reversed__")? {
                let contents = contents::fetch(py, remote, part)?;
                return py.import("builtins")?.call_method1("reversed", (contents,));
            }
        }
        Op::BUFFER => return buffer::fetch(py, remote, buffer::flags_of(args)?),
        Op::AWAIT | Op::AITER | Op::ANEXT | Op::AENTER | Op::AEXIT => {
            if let Some(answer) = awaitable::operate(proxy, remote, op, args)? {
                return Ok(answer);
            }
        }
        Op::GETITEM => {
            if let [key] = args {
                if let Some(item) = remote.merged(key) {
                    return Ok(item);
                }
                if key.cast_exact::<PySlice>().is_ok() && contents::slices_here(proxy, remote)? {
                    return contents::fetch_slice(py, remote, key);
                }
            }
        }
        Op::EQ | Op::NE | Op::LT | Op::LE | Op::GT | Op::GE => {
            return compare(py, proxy, remote, op, args, keywords);
        }
        Op::HASH if remote.kind == Kind::INSTANCE && default_special(proxy, "__hash__")? => {
            return identity_hash(proxy);
        }
        Op::HASH => {
            if let Some(proxy_ref) = proxy::as_proxy(proxy)
                && let Some(hash) = builtin_hash(proxy, &proxy_ref.declared(py)?)?
            {
                return Ok(hash.into_pyobject(py)?.into_any());
            }
        }
        Op::ADD
        | Op::MUL
        | Op::AND
        | Op::OR
        | Op::SUB
        | Op::XOR
        | Op::RMUL
        | Op::RAND
        | Op::ROR
        | Op::RSUB
        | Op::RXOR
            if is_container(remote.kind) =>
        {
            // A new container, made of all the contents: it is made here, of one snapshot.
            if let ([other], Some(name)) = (args, op.name()) {
                let contents = snapshot(py, remote)?;
                return contents
                    .get_type()
                    .call_method1(name, (&contents, operand(other)?));
            }
        }
        _ => {}
    }
    let (connection, target) = (&remote.connection, remote.target());
    if may_promise(op) {
        connection.operate(py, target, op, args, keywords)
    } else {
        connection.call(py, target, op, args, keywords)
    }
}

/// Operations whose result may be any object, or is not looked at: in a `pipeline()` block they do
/// not wait. (An operation in place gives the proxy itself, which is to stay what it is.)
fn may_promise(op: Op) -> bool {
    matches!(
        op,
        Op::GETATTR
            | Op::SETATTR
            | Op::DELATTR
            | Op::CALL
            | Op::CALL_METHOD
            | Op::GETITEM
            | Op::SETITEM
            | Op::DELITEM
            | Op::NEG
            | Op::POS
            | Op::ABS
            | Op::INVERT
    ) || (Op::ADD..=Op::ROR).contains(&op)
}

/// `proxy.name`: deferred if the caller's next instructions call it at once.
fn getattr<'py>(
    py: Python<'py>,
    proxy: &Bound<'py, PyAny>,
    remote: &Remote,
    name: &Bound<'py, PyString>,
) -> PyResult<Bound<'py, PyAny>> {
    if let Some(fact) = class_fact(py, proxy, remote, name)? {
        return Ok(fact);
    }
    if let Some(method) = awaitable::attribute(proxy, remote, name)? {
        return Ok(method);
    }
    if let Some(begun) = chain::begin(proxy, &remote.connection, remote.target(), name)? {
        return Ok(begun);
    }
    let makes_view =
        dict_view::part_of(name.to_str()?).is_some() && contents::is_plain_dict(proxy, remote)?;
    // SAFETY: attached, with the very arguments of the attribute slot that is being called.
    if makes_view || unsafe { lookahead::method_call_position(proxy.as_ptr(), name.as_ptr()) } {
        let deferred = Deferred {
            object: proxy.clone().unbind(),
            name: name.clone().unbind(),
        };
        let controller = Py::new(py, deferred)?.into_any();
        return proxy::new_deferred(py, controller, &DEFERRED)
            .map(|deferred| deferred.into_bound(py));
    }
    remote.connection.operate(
        py,
        remote.target(),
        Op::GETATTR,
        std::slice::from_ref(name.as_any()),
        &[],
    )
}

/// What the class of the object says once and for all, which must be this process's own objects: the
/// `dataclasses` module compares them by identity.
fn class_fact<'py>(
    py: Python<'py>,
    proxy: &Bound<'py, PyAny>,
    remote: &Remote,
    name: &Bound<'py, PyString>,
) -> PyResult<Option<Bound<'py, PyAny>>> {
    let name = name.to_str()?;
    if remote.kind != Kind::INSTANCE || !name.starts_with("__") {
        return Ok(None);
    }
    match proxy::as_proxy(proxy) {
        Some(proxy) => Ok(class::fact(&proxy.declared(py)?, name)),
        None => Ok(None),
    }
}

/// The whole contents, by one message.
pub(crate) fn snapshot<'py>(py: Python<'py>, remote: &Remote) -> PyResult<Bound<'py, PyAny>> {
    remote
        .connection
        .fetch(py, remote.target(), FetchKind::CONTENTS, &[], &[])
}

/// Comparisons: of containers over one snapshot, of plain objects by identity, else over there.
fn compare<'py>(
    py: Python<'py>,
    proxy: &Bound<'py, PyAny>,
    remote: &Remote,
    op: Op,
    args: &[Bound<'py, PyAny>],
    keywords: &[(Bound<'py, PyString>, Bound<'py, PyAny>)],
) -> PyResult<Bound<'py, PyAny>> {
    let ([other], Some(name)) = (args, op.name()) else {
        return Err(PyTypeError::new_err("a comparison takes one operand"));
    };
    if proxy.is(other)
        && matches!(op, Op::EQ | Op::NE)
        && (is_container(remote.kind) || default_special(proxy, name)?)
    {
        return Ok((op == Op::EQ).into_pyobject(py)?.to_owned().into_any());
    }
    if is_container(remote.kind) {
        let there = proxy::as_proxy(other)
            .map(|other| remote_of(&other, py))
            .transpose()?
            .flatten();
        let both_there =
            there.is_some_and(|other| Arc::ptr_eq(&other.get().connection, &remote.connection));
        if !both_there {
            let contents = snapshot(py, remote)?;
            let other = operand(other)?;
            let answer = contents
                .get_type()
                .call_method1(name, (&contents, &other))?;
            // A view of a dict knows sets, and a set does not know views.
            if answer.is(py.NotImplemented())
                && let Some(name) = swapped(op)
                && let Some(method) = native_method(&other, name)?
            {
                return method.call1((other, contents));
            }
            return Ok(answer);
        }
    } else if default_special(proxy, name)? {
        return Ok(py.NotImplemented().into_bound(py));
    }
    let answer = remote
        .connection
        .call(py, remote.target(), op, args, keywords)?;
    if answer.is(py.NotImplemented())
        && let Some(name) = swapped(op)
        && let Some(answer) = reflected(proxy, name, other)?
    {
        return Ok(answer);
    }
    Ok(answer)
}

/// The comparison that says the same with the operands exchanged.
fn swapped(op: Op) -> Option<&'static str> {
    match op {
        Op::EQ | Op::NE => op.name(),
        Op::LT => Op::GT.name(),
        Op::LE => Op::GE.name(),
        Op::GT => Op::LT.name(),
        Op::GE => Op::LE.name(),
        _ => None,
    }
}

/// Whether the class of `proxy` leaves a special method to `object`.
fn default_special(proxy: &Bound<'_, PyAny>, name: &str) -> PyResult<bool> {
    let py = proxy.py();
    let Some(class) = proxy::as_proxy(proxy)
        .map(|proxy| proxy.declared(py))
        .transpose()?
    else {
        return Ok(false);
    };
    let object = py.get_type::<PyAny>();
    let own = statics::lookup(&class, PyString::intern(py, name).as_any())?;
    Ok(match (own, statics::own(&object, name)?) {
        (Some(own), Some(default)) => own.is(&default),
        (own, _) => own.is_none(),
    })
}

fn identity_hash<'py>(proxy: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    // The same remote object has the same proxy while one is alive, so that its address serves.
    let address = (proxy.as_ptr() as usize).rotate_right(4);
    Ok(address.cast_signed().into_pyobject(proxy.py())?.into_any())
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn is_container(kind: Kind) -> bool {
    matches!(
        kind,
        Kind::LIST | Kind::DICT | Kind::SET | Kind::FROZENSET | Kind::TUPLE | Kind::BYTEARRAY
    )
}

fn is_iterator(kind: Kind) -> bool {
    matches!(kind, Kind::GENERATOR | Kind::ITERATOR)
}

// ------------------------------------------------------------------ deferred attributes

fn deferred_parts<'a, 'py>(
    controller: &'a Bound<'py, PyAny>,
) -> PyResult<(&'a Deferred, Bound<'py, Remote>)> {
    let py = controller.py();
    let broken = || {
        PyRuntimeError::new_err(
            "objspace: a deferred attribute without its object; please report this",
        )
    };
    let deferred = controller.cast::<Deferred>().map_err(|_| broken())?.get();
    let remote =
        proxy::as_proxy(deferred.object.bind(py)).and_then(|proxy| remote_controller(&proxy));
    Ok((deferred, remote.ok_or_else(broken)?))
}

fn operate_deferred<'py>(
    py: Python<'py>,
    _proxy: &Bound<'py, PyAny>,
    controller: &Bound<'py, PyAny>,
    op: Op,
    args: &[Bound<'py, PyAny>],
    keywords: &[(Bound<'py, PyString>, Bound<'py, PyAny>)],
) -> PyResult<Bound<'py, PyAny>> {
    if op != Op::CALL {
        return Err(PyRuntimeError::new_err(
            "objspace: a deferred attribute was asked for more than a call; please report this",
        ));
    }
    let (deferred, remote) = deferred_parts(controller)?;
    if args.is_empty()
        && keywords.is_empty()
        && let Some(part) = dict_view::part_of(deferred.name.bind(py).to_str()?)
        && contents::is_plain_dict(deferred.object.bind(py), remote.get())?
        && let Some(view) = dict_view::new(deferred.object.bind(py), &remote, part)?
    {
        return Ok(view);
    }
    let remote = remote.get();
    let mut all = Vec::with_capacity(args.len() + 1);
    all.push(deferred.name.bind(py).clone().into_any());
    all.extend_from_slice(args);
    remote
        .connection
        .operate(py, remote.target(), Op::CALL_METHOD, &all, keywords)
}

fn resolve_deferred<'py>(
    py: Python<'py>,
    _proxy: &Bound<'py, PyAny>,
    controller: &Bound<'py, PyAny>,
) -> PyResult<Bound<'py, PyAny>> {
    let (deferred, remote) = deferred_parts(controller)?;
    let remote = remote.get();
    let name = deferred.name.bind(py).clone().into_any();
    remote
        .connection
        .call(py, remote.target(), Op::GETATTR, &[name], &[])
}

fn dropped_deferred(_: *mut ffi::PyObject, _: *mut ffi::PyObject) {}
