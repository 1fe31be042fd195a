//! Parts of a remote container that are fetched whole, in one message: which operations that is right
//! for, and how the owner takes the part.
//!
//! An operation is answered from a snapshot only where the method that would run over there is the
//! built-in one: a subclass with an `__iter__` of its own is asked step by step, as it may be lazy. A
//! slice of a built-in sequence is a new object that nobody else has: it is made here.

use objspace_proto::{FetchKind, Kind};
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{
    PyByteArray, PyDict, PyFrozenSet, PyList, PySet, PySlice, PyString, PyTuple, PyType,
};

use super::class::statics;
use super::controller::Remote;
use crate::proxy;

/// What of a container is fetched.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Part {
    /// Everything, as a container of the same kind.
    All,
    /// What iterating over it gives.
    Keys,
    /// The values of a dict, in order.
    Values,
    /// The pairs of a dict, in order.
    Items,
}

impl Part {
    /// The word on the wire.
    pub(crate) fn word(self) -> Option<&'static str> {
        match self {
            Self::All => None,
            Self::Keys => Some("keys"),
            Self::Values => Some("values"),
            Self::Items => Some("items"),
        }
    }
}

/// One part of the contents, by one message.
pub(crate) fn fetch<'py>(
    py: Python<'py>,
    remote: &Remote,
    part: Part,
) -> PyResult<Bound<'py, PyAny>> {
    let word = part
        .word()
        .map(|word| PyString::intern(py, word).into_any());
    remote.connection().fetch(
        py,
        remote.target(),
        FetchKind::CONTENTS,
        word.as_slice(),
        &[],
    )
}

/// A slice, which is a new container of its own: made here, by one message.
pub(crate) fn fetch_slice<'py>(
    py: Python<'py>,
    remote: &Remote,
    slice: &Bound<'py, PyAny>,
) -> PyResult<Bound<'py, PyAny>> {
    remote.connection().fetch(
        py,
        remote.target(),
        FetchKind::CONTENTS,
        std::slice::from_ref(slice),
        &[],
    )
}

/// The built-in types whose methods may be answered from a snapshot.
struct Types {
    plain: Vec<Py<PyType>>,
    dicts: Vec<Py<PyType>>,
    views: Vec<Py<PyType>>,
}

fn types(py: Python<'_>) -> PyResult<&Types> {
    static TYPES: PyOnceLock<Types> = PyOnceLock::new();
    TYPES.get_or_try_init(py, || {
        let class = |module: &str, name: &str| -> PyResult<Py<PyType>> {
            Ok(py
                .import(module)?
                .getattr(name)?
                .cast_into::<PyType>()?
                .unbind())
        };
        let dict = PyDict::new(py);
        let ordered = class("collections", "OrderedDict")?;
        let empty = ordered.bind(py).call0()?;
        let mut views = Vec::new();
        for mapping in [dict.as_any(), &empty] {
            for name in ["keys", "values", "items"] {
                views.push(mapping.call_method0(name)?.get_type().unbind());
            }
        }
        Ok(Types {
            plain: vec![
                py.get_type::<PyList>().unbind(),
                py.get_type::<PyTuple>().unbind(),
                py.get_type::<PySet>().unbind(),
                py.get_type::<PyFrozenSet>().unbind(),
                py.get_type::<PyByteArray>().unbind(),
                class("collections", "deque")?,
                class("array", "array")?,
            ],
            dicts: vec![
                py.get_type::<PyDict>().unbind(),
                ordered,
                class("collections", "defaultdict")?,
            ],
            views,
        })
    })
}

/// The class among the bases of `class`, itself included, that has the method `name`.
fn owner<'py>(class: &Bound<'py, PyType>, name: &str) -> PyResult<Option<Bound<'py, PyType>>> {
    for base in class.mro() {
        let base = base.cast_into::<PyType>()?;
        if statics::own(&base, name)?.is_some() {
            return Ok(Some(base));
        }
    }
    Ok(None)
}

fn among(classes: &[Py<PyType>], class: &Bound<'_, PyType>) -> bool {
    classes.iter().any(|known| known.is(class))
}

/// What is fetched to do `method`, which needs all the contents, here. `None` if it is not built-in.
pub(crate) fn whole(
    proxy: &Bound<'_, PyAny>,
    remote: &Remote,
    method: &str,
) -> PyResult<Option<Part>> {
    match remote.kind() {
        Kind::LIST | Kind::TUPLE | Kind::SET | Kind::FROZENSET | Kind::BYTEARRAY => {
            return Ok(Some(Part::All));
        }
        Kind::DICT => return Ok(Some(Part::Keys)),
        Kind::INSTANCE | Kind::OTHER_BUILTIN => {}
        _ => return Ok(None),
    }
    let py = proxy.py();
    let Some(proxy) = proxy::as_proxy(proxy) else {
        return Ok(None);
    };
    let Some(owner) = owner(&proxy.declared(py)?, method)? else {
        return Ok(None);
    };
    let types = types(py)?;
    Ok(if among(&types.plain, &owner) {
        Some(Part::All)
    } else if among(&types.dicts, &owner) || among(&types.views, &owner) {
        Some(Part::Keys)
    } else {
        None
    })
}

/// Whether `proxy[a:b]` is a new built-in sequence.
pub(crate) fn slices_here(proxy: &Bound<'_, PyAny>, remote: &Remote) -> PyResult<bool> {
    match remote.kind() {
        Kind::LIST | Kind::BYTEARRAY => return Ok(true),
        Kind::INSTANCE => {}
        _ => return Ok(false),
    }
    let py = proxy.py();
    let Some(proxy) = proxy::as_proxy(proxy) else {
        return Ok(false);
    };
    Ok(
        owner(&proxy.declared(py)?, "__getitem__")?.is_some_and(|owner| {
            owner.is(py.get_type::<PyList>())
                || owner.is(py.get_type::<PyTuple>())
                || owner.is(py.get_type::<PyByteArray>())
        }),
    )
}

/// Whether the views of a remote dict are the built-in ones: `keys`, `values` and `items`, iteration
/// and items are not redefined by a subclass.
pub(crate) fn is_plain_dict(proxy: &Bound<'_, PyAny>, remote: &Remote) -> PyResult<bool> {
    match remote.kind() {
        Kind::DICT => return Ok(true),
        Kind::INSTANCE | Kind::OTHER_BUILTIN => {}
        _ => return Ok(false),
    }
    let py = proxy.py();
    let Some(proxy) = proxy::as_proxy(proxy) else {
        return Ok(false);
    };
    let class = proxy.declared(py)?;
    let dict = py.get_type::<PyDict>();
    if !class.is_subclass(&dict)? {
        return Ok(false);
    }
    let types = types(py)?;
    for method in [
        "keys",
        "values",
        "items",
        "__iter__",
        "__getitem__",
        "__len__",
        "__contains__",
    ] {
        if !owner(&class, method)?.is_some_and(|owner| among(&types.dicts, &owner)) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// The type of the views of a remote dict: an `OrderedDict` has its own.
pub(crate) fn view_type<'py>(
    proxy: &Bound<'py, PyAny>,
    part: Part,
) -> PyResult<Option<Bound<'py, PyType>>> {
    let py = proxy.py();
    let Some(proxy) = proxy::as_proxy(proxy) else {
        return Ok(None);
    };
    let types = types(py)?;
    let ordered = owner(&proxy.declared(py)?, "keys")?
        .is_some_and(|owner| !owner.is(py.get_type::<PyDict>()));
    let index = match part {
        Part::All | Part::Keys => 0,
        Part::Values => 1,
        Part::Items => 2,
    };
    let index = index + if ordered { 3 } else { 0 };
    Ok(types.views.get(index).map(|class| class.bind(py).clone()))
}

// ------------------------------------------------------------------ the owner's side

/// The part of `target` that a peer asks for, as a container to be written by value.
pub(crate) fn part_of<'py>(
    target: &Bound<'py, PyAny>,
    arguments: &[Bound<'py, PyAny>],
) -> PyResult<Bound<'py, PyAny>> {
    let py = target.py();
    let Some(asked) = arguments.first() else {
        return Ok(target.clone());
    };
    if asked.cast::<PySlice>().is_ok() {
        return target.get_item(asked);
    }
    let iterable = match asked.cast::<PyString>()?.to_str()? {
        "keys" => target.clone(),
        word @ ("values" | "items") if target.cast::<PyDict>().is_ok() => {
            target.call_method0(word)?
        }
        word => {
            return Err(PyTypeError::new_err(format!(
                "a '{}' object has no part {word:?} to fetch",
                target.get_type().qualname()?
            )));
        }
    };
    // What is endless or lazy has no length.
    iterable.len()?;
    let items = iterable.try_iter()?.collect::<PyResult<Vec<_>>>()?;
    Ok(PyList::new(py, items)?.into_any())
}
