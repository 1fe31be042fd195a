//! `d.keys()`, `d.values()` and `d.items()` of a remote dict, made here without asking anybody.
//!
//! A view says what the dict says at the moment when it is asked, so that all it needs is the dict.
//! Iteration fetches one snapshot, `len` and `in` ask the dict. For everything else, and when the view
//! travels, the owner makes a view too; from then on this is the proxy of that one.
//!
//! C code that merges a mapping into a dict (`dict(d)`, `{**d}`, `f(**d)`, `x.update(d)`) asks for the
//! keys, iterates over them, and asks for each item, all in one instruction. It is told by just that:
//! the view is iterated in the instruction that made it, which no Python expression does. Then the
//! values come with the keys, and the items are answered from them, in their order only.

use std::sync::OnceLock;

use objspace_proto::Op;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList, PyString};

use super::contents::{self, Part};
use super::controller::{self, Remote};
use super::operand::operand;
use crate::proxy::{self, Native, ProxyRef};
use crate::session::threads;

/// The controller of a view.
#[pyclass(frozen, module = "objspace._core", name = "DictView")]
pub(crate) struct View {
    dict: Py<PyAny>,
    remote: Py<Remote>,
    part: Part,
    made: Position,
    /// The owner's view, once it was asked for one.
    resolved: OnceLock<Py<Remote>>,
}

/// An instruction, in one run of this thread's requests: a thread that serves has no Python frame.
type Position = ((usize, usize), u64);

fn position() -> Position {
    // SAFETY: callers are attached.
    (
        unsafe { objspace_interp::position() },
        threads::requests_served(),
    )
}

/// The items of a dict that is being merged.
pub(crate) struct Merge {
    position: Position,
    keys: Py<PyList>,
    values: Py<PyList>,
    next: usize,
}

impl Merge {
    /// The value for `key`, if it is the next one of the merge that this very instruction performs.
    /// Then the rest of the merge, if there is any.
    pub(crate) fn take(mut self, key: &Bound<'_, PyAny>) -> Option<(Py<PyAny>, Option<Self>)> {
        let py = key.py();
        if self.position != position() {
            return None;
        }
        let (keys, values) = (self.keys.bind(py), self.values.bind(py));
        if !keys.get_item(self.next).ok()?.is(key) {
            return None;
        }
        let value = values.get_item(self.next).ok()?.unbind();
        self.next += 1;
        let more = self.next < keys.len();
        Some((value, more.then_some(self)))
    }
}

static VIEW: Native = Native {
    operate,
    dropped,
    resolve,
    attributes: false,
};

/// The part of a dict that the method `name` gives a view of.
pub(crate) fn part_of(name: &str) -> Option<Part> {
    match name {
        "keys" => Some(Part::Keys),
        "values" => Some(Part::Values),
        "items" => Some(Part::Items),
        _ => None,
    }
}

/// A view of the remote dict `dict`.
pub(crate) fn new<'py>(
    dict: &Bound<'py, PyAny>,
    remote: &Bound<'py, Remote>,
    part: Part,
) -> PyResult<Option<Bound<'py, PyAny>>> {
    let py = dict.py();
    let Some(class) = contents::view_type(dict, part)? else {
        return Ok(None);
    };
    let view = View {
        dict: dict.clone().unbind(),
        remote: remote.clone().unbind(),
        part,
        made: position(),
        resolved: OnceLock::new(),
    };
    let controller = Py::new(py, view)?.into_any();
    proxy::new_proxy(py, &class, controller, Some(&VIEW)).map(|view| Some(view.into_bound(py)))
}

/// The owner's view behind `proxy`, if it is one of these.
pub(crate) fn remote_of<'py>(
    proxy: &ProxyRef<'py>,
    object: &Bound<'py, PyAny>,
) -> PyResult<Option<Bound<'py, Remote>>> {
    if !proxy.is_native(&VIEW) {
        return Ok(None);
    }
    match proxy.controller() {
        Some(controller) => Ok(Some(owners(object, controller.cast::<View>()?)?)),
        None => Ok(None),
    }
}

/// A real view over a snapshot, if `object` is one of these.
pub(crate) fn snapshot<'py>(object: &Bound<'py, PyAny>) -> PyResult<Option<Bound<'py, PyAny>>> {
    let Some(proxy) = proxy::as_proxy(object) else {
        return Ok(None);
    };
    if !proxy.is_native(&VIEW) {
        return Ok(None);
    }
    let Some(controller) = proxy.controller() else {
        return Ok(None);
    };
    let view = controller.cast::<View>()?.get();
    Ok(match view.part {
        Part::Values => None,
        _ => Some(real(object.py(), view)?),
    })
}

fn real<'py>(py: Python<'py>, view: &View) -> PyResult<Bound<'py, PyAny>> {
    let remote = view.remote.get();
    let contents = contents::fetch(py, remote, view.part)?;
    let dict = py.get_type::<PyDict>();
    match view.part {
        Part::Items => dict.call1((contents,))?.call_method0("items"),
        _ => dict
            .call_method1("fromkeys", (contents,))?
            .call_method0("keys"),
    }
}

/// The view over there, made when it is first needed. This proxy stands for it from then on.
fn owners<'py>(proxy: &Bound<'py, PyAny>, view: &Bound<'py, View>) -> PyResult<Bound<'py, Remote>> {
    let py = proxy.py();
    let own = view.get();
    if let Some(resolved) = own.resolved.get() {
        return Ok(resolved.bind(py).clone());
    }
    let dict = own.remote.get();
    let name = PyString::intern(py, own.part.word().unwrap_or("keys")).into_any();
    let made = dict
        .connection()
        .call(py, dict.target(), Op::CALL_METHOD, &[name], &[])?;
    let remote = match proxy::as_proxy(&made) {
        Some(made) => controller::remote_of(&made, py)?,
        None => None,
    };
    let Some(remote) = remote else {
        return Err(pyo3::exceptions::PyTypeError::new_err(
            "the other side answered a dict's view with something else",
        ));
    };
    if own.resolved.set(remote.clone().unbind()).is_ok() {
        // The same object is the same proxy: this one, not the one that is just going.
        remote
            .get()
            .connection()
            .rebind(remote.get().import(), proxy);
    }
    drop(made);
    let resolved = own.resolved.get();
    Ok(resolved.map_or(remote, |resolved| resolved.bind(py).clone()))
}

fn dropped(controller: *mut ffi::PyObject, proxy: *mut ffi::PyObject) {
    // SAFETY: called first thing in the proxy's destructor, attached, with the proxy's own
    // controller, which is still alive; the result is not kept beyond this function.
    let controller = unsafe { Bound::from_borrowed_ptr(Python::assume_attached(), controller) };
    if let Ok(view) = controller.cast::<View>()
        && let Some(remote) = view.get().resolved.get()
    {
        let remote = remote.get();
        remote
            .connection()
            .link
            .forget(remote.import(), proxy as u64);
    }
}

fn resolve<'py>(
    _: Python<'py>,
    proxy: &Bound<'py, PyAny>,
    _: &Bound<'py, PyAny>,
) -> PyResult<Bound<'py, PyAny>> {
    Ok(proxy.clone())
}

fn operate<'py>(
    py: Python<'py>,
    proxy: &Bound<'py, PyAny>,
    controller: &Bound<'py, PyAny>,
    op: Op,
    args: &[Bound<'py, PyAny>],
    keywords: &[(Bound<'py, PyString>, Bound<'py, PyAny>)],
) -> PyResult<Bound<'py, PyAny>> {
    let view = controller.cast::<View>()?;
    let own = view.get();
    let dict = own.remote.get();
    let set_like = own.part != Part::Values;
    match op {
        Op::ITER if own.part == Part::Keys && own.made == position() => return merge(py, own),
        Op::ITER => return dict.iterate(py, own.part),
        Op::REVERSED => {
            let contents = contents::fetch(py, dict, own.part)?;
            return py.import("builtins")?.call_method1("reversed", (contents,));
        }
        Op::LEN => {
            if let Some(length) = dict.hint() {
                return Ok(length.into_pyobject(py)?.into_any());
            }
            return dict
                .connection()
                .call(py, dict.target(), Op::LEN, args, keywords);
        }
        Op::CONTAINS if own.part == Part::Keys => {
            return dict
                .connection()
                .call(py, dict.target(), Op::CONTAINS, args, keywords);
        }
        Op::EQ | Op::NE | Op::LT | Op::LE | Op::GT | Op::GE if set_like => {
            return here(py, own, op, args);
        }
        _ if set_like
            && ((Op::ADD..=Op::OR).contains(&op) || (Op::RADD..=Op::ROR).contains(&op)) =>
        {
            return here(py, own, op, args);
        }
        _ => {}
    }
    let remote = owners(proxy, view)?;
    let remote = remote.get();
    remote
        .connection()
        .call(py, remote.target(), op, args, keywords)
}

/// A set operator, on a real view of a snapshot.
fn here<'py>(
    py: Python<'py>,
    view: &View,
    op: Op,
    args: &[Bound<'py, PyAny>],
) -> PyResult<Bound<'py, PyAny>> {
    let (Some(other), Some(name)) = (args.first(), op.name()) else {
        return Ok(py.NotImplemented().into_bound(py));
    };
    let real = real(py, view)?;
    match real.getattr_opt(name)? {
        Some(method) => method.call1((operand(other)?,)),
        None => Ok(py.NotImplemented().into_bound(py)),
    }
}

/// The keys for C code that will ask for each item at once: the values come along.
fn merge<'py>(py: Python<'py>, view: &View) -> PyResult<Bound<'py, PyAny>> {
    let remote = view.remote.get();
    let contents = contents::fetch(py, remote, Part::Items)?;
    let keys = PyList::empty(py);
    let values = PyList::empty(py);
    for pair in contents.try_iter()? {
        let (key, value) = pair?.extract::<(Bound<'py, PyAny>, Bound<'py, PyAny>)>()?;
        keys.append(key)?;
        values.append(value)?;
    }
    // The list that is kept is not the one that is handed out.
    let handed = keys.get_slice(0, keys.len());
    let merge = (!keys.is_empty()).then(|| Merge {
        position: position(),
        keys: keys.unbind(),
        values: values.unbind(),
        next: 0,
    });
    remote.begin_merge(merge);
    // The dict must stay as long as its items are asked for.
    let _ = &view.dict;
    Ok(handed.try_iter()?.into_any())
}
