//! A remote container as the operand of C code.
//!
//! `{1}.__or__(x)` of a built-in set looks into the memory of `x`, and a proxy has none: it answers
//! `NotImplemented`, or `False` to a comparison. So where the method that is about to run is one of C,
//! a remote container is replaced by a copy of its contents, of the same built-in type. A method
//! written in Python is given the proxy itself.
//!
//! What this is not: the rules of copying of arguments. It is for the two operands of an operator.

use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyString, PyType};

use super::class::statics;
use super::controller::{remote_of, snapshot};
use super::dict_view;
use crate::proxy;

/// What is done with one snapshot to have a container of the built-in type again.
const REBUILT: &[(&str, Rebuild)] = &[
    ("list", Rebuild::AsIs),
    ("tuple", Rebuild::AsIs),
    ("dict", Rebuild::AsIs),
    ("set", Rebuild::AsIs),
    ("frozenset", Rebuild::AsIs),
    ("bytearray", Rebuild::AsIs),
    ("str", Rebuild::AsIs),
    ("bytes", Rebuild::AsIs),
    ("defaultdict", Rebuild::AsIs),
    ("OrderedDict", Rebuild::Call),
    ("deque", Rebuild::Call),
    ("array", Rebuild::Array),
    ("dict_keys", Rebuild::Keys),
    ("dict_items", Rebuild::Items),
    ("odict_keys", Rebuild::Keys),
    ("odict_items", Rebuild::Items),
];

#[derive(Clone, Copy)]
enum Rebuild {
    /// The snapshot is of that type, or one that C code takes as well.
    AsIs,
    /// The type is called with the snapshot.
    Call,
    /// The type is called with the type code, which is asked for, and the snapshot.
    Array,
    /// The keys of a dict with these keys.
    Keys,
    /// The items of a dict of these pairs.
    Items,
}

/// `other`, or a copy of it if it is a remote container, an object of a subclass of one included.
///
/// # Errors
/// Those of fetching the contents.
pub(crate) fn operand<'py>(other: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    let py = other.py();
    let Some(proxy) = proxy::as_proxy(other) else {
        return Ok(other.clone());
    };
    if let Some(view) = dict_view::snapshot(other)? {
        return Ok(view);
    }
    let base = native_base(&proxy.declared(py)?)?;
    let name = base.name()?;
    let Some((_, how)) = REBUILT
        .iter()
        .find(|(known, _)| name.to_str().is_ok_and(|name| name == *known))
    else {
        return Ok(other.clone());
    };
    let Some(remote) = remote_of(&proxy, py)? else {
        return Ok(other.clone());
    };
    let contents = snapshot(py, remote.get())?;
    let dict = || py.get_type::<pyo3::types::PyDict>();
    match how {
        Rebuild::AsIs => Ok(contents),
        Rebuild::Call => base.call1((contents,)),
        Rebuild::Array => base.call1((other.getattr("typecode")?, contents)),
        Rebuild::Keys => dict()
            .call_method1("fromkeys", (contents,))?
            .call_method0("keys"),
        // The values need not be hashable, so that a set of the pairs would not do.
        Rebuild::Items => dict().call1((contents,))?.call_method0("items"),
    }
}

/// The answer of `other` to `name`, the reflected operator of one that `proxy` could not answer: where
/// both are containers and the method of `other` is one of C. `None` if that is not the case.
///
/// # Errors
/// Those of fetching the contents, and of the operator.
pub(crate) fn reflected<'py>(
    proxy: &Bound<'py, PyAny>,
    name: &str,
    other: &Bound<'py, PyAny>,
) -> PyResult<Option<Bound<'py, PyAny>>> {
    let Some(method) = native_method(other, name)? else {
        return Ok(None);
    };
    let copy = operand(proxy)?;
    if copy.is(proxy) {
        return Ok(None);
    }
    method.call1((other, copy)).map(Some)
}

/// The method `name` of a container of this process, if it is one of C.
pub(crate) fn native_method<'py>(
    other: &Bound<'py, PyAny>,
    name: &str,
) -> PyResult<Option<Bound<'py, PyAny>>> {
    if proxy::as_proxy(other).is_some() {
        return Ok(None);
    }
    let kind = statics::true_type(other);
    let found = statics::lookup(&kind, PyString::new(other.py(), name).as_any())?;
    match found {
        Some(method) if is_native(&method) && is_container(&native_base(&kind)?)? => {
            Ok(Some(method))
        }
        _ => Ok(None),
    }
}

/// The hash of a remote object whose class inherits that of a built-in immutable type: hashes of text
/// differ from process to process, and such an object equals local values of the built-in type.
/// `None` if the class is none of these.
///
/// # Errors
/// Those of fetching the contents, and of hashing them.
pub(crate) fn builtin_hash(
    proxy: &Bound<'_, PyAny>,
    declared: &Bound<'_, PyType>,
) -> PyResult<Option<isize>> {
    let base = native_base(declared)?;
    let name = base.name()?;
    if !matches!(name.to_str(), Ok("str" | "bytes" | "tuple" | "frozenset")) {
        return Ok(None);
    }
    let inherited = statics::lookup(declared, pyo3::intern!(proxy.py(), "__hash__").as_any())?;
    if !inherited.is_some_and(|hash| is_native(&hash)) {
        return Ok(None);
    }
    operand(proxy)?.hash().map(Some)
}

/// The nearest base that is a type of C: a static one, or one that nobody can change.
fn native_base<'py>(class: &Bound<'py, PyType>) -> PyResult<Bound<'py, PyType>> {
    for base in class.mro() {
        let base = base.cast_into::<PyType>()?;
        if !statics::is_heap(&base) || statics::flags(&base) & ffi::Py_TPFLAGS_IMMUTABLETYPE != 0 {
            return Ok(base);
        }
    }
    statics::builtin_base(class)
}

fn is_container(base: &Bound<'_, PyType>) -> PyResult<bool> {
    let name = base.name()?;
    let name = name.to_str()?;
    Ok(REBUILT.iter().any(|(known, _)| name == *known))
}

/// Whether a method, bound or as the type has it, is one of C.
pub(crate) fn is_native(method: &Bound<'_, PyAny>) -> bool {
    let kind: Bound<'_, PyType> = statics::true_type(method);
    kind.name().is_ok_and(|name| {
        matches!(
            name.to_str(),
            Ok("wrapper_descriptor"
                | "method-wrapper"
                | "method_descriptor"
                | "builtin_function_or_method")
        )
    })
}
