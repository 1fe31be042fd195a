//! One operation of a peer, performed on the real object.
//!
//! The operation is performed as the special method of the object's type, not as the operator: a
//! `NotImplemented` goes back to the caller, whose interpreter then tries the other operand.

use objspace_proto::Op;
use pyo3::exceptions::{PyAttributeError, PyBaseException, PyNotImplementedError, PyTypeError};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString, PyTuple, PyType};

use crate::remote::operand::{is_native, operand};

/// The arguments of an operation, decoded.
pub(crate) struct Arguments<'py> {
    pub(crate) positional: Vec<Bound<'py, PyAny>>,
    pub(crate) keywords: Option<Bound<'py, PyDict>>,
}

impl<'py> Arguments<'py> {
    fn tuple(&self, py: Python<'py>, from: usize) -> PyResult<Bound<'py, PyTuple>> {
        PyTuple::new(py, self.positional.get(from..).unwrap_or_default())
    }

    fn at(&self, index: usize, op: Op) -> PyResult<&Bound<'py, PyAny>> {
        self.positional.get(index).ok_or_else(|| {
            PyTypeError::new_err(format!("{op:?} arrived without its argument {index}"))
        })
    }

    /// The attribute name that an attribute operation carries first.
    pub(crate) fn name(&self, op: Op) -> PyResult<&Bound<'py, PyString>> {
        self.at(0, op)?
            .cast::<PyString>()
            .map_err(|_| PyTypeError::new_err(format!("{op:?}: the attribute name must be a str")))
    }
}

/// Performs `op` on `target`: what the object itself would answer.
pub(crate) fn perform<'py>(
    target: &Bound<'py, PyAny>,
    op: Op,
    args: &Arguments<'py>,
) -> PyResult<Bound<'py, PyAny>> {
    let py = target.py();
    match op {
        Op::GETATTR => target.getattr(args.name(op)?),
        Op::SETATTR => {
            target.setattr(args.name(op)?, args.at(1, op)?)?;
            Ok(py.None().into_bound(py))
        }
        Op::DELATTR => {
            target.delattr(args.name(op)?)?;
            Ok(py.None().into_bound(py))
        }
        Op::CALL => target.call(args.tuple(py, 0)?, args.keywords.as_ref()),
        Op::CALL_METHOD => {
            let name = args.name(op)?;
            let method = target.getattr(name)?;
            let mut positional = args.tuple(py, 1)?;
            if let Some(op) = name.to_str().ok().and_then(Op::from_name)
                && is_binary(op)
                && is_native(&method)
            {
                let copied: PyResult<Vec<_>> =
                    positional.iter().map(|other| operand(&other)).collect();
                positional = PyTuple::new(py, copied?)?;
            }
            if matches!(
                name.to_str(),
                Ok("__exit__" | "__aexit__" | "throw" | "athrow")
            ) {
                positional = PyTuple::new(py, with_traceback(positional.iter().collect())?)?;
            }
            method.call(positional, args.keywords.as_ref())
        }
        Op::GETITEM => target.get_item(args.at(0, op)?),
        Op::SETITEM => {
            target.set_item(args.at(0, op)?, args.at(1, op)?)?;
            Ok(py.None().into_bound(py))
        }
        Op::DELITEM => {
            target.del_item(args.at(0, op)?)?;
            Ok(py.None().into_bound(py))
        }
        Op::LEN => Ok(target.len()?.into_pyobject(py)?.into_any()),
        Op::CONTAINS => Ok(target
            .contains(args.at(0, op)?)?
            .into_pyobject(py)?
            .to_owned()
            .into_any()),
        Op::BOOL => Ok(target.is_truthy()?.into_pyobject(py)?.to_owned().into_any()),
        Op::HASH => Ok(target.hash()?.into_pyobject(py)?.into_any()),
        Op::REPR => Ok(target.repr()?.into_any()),
        Op::STR => Ok(target.str()?.into_any()),
        Op::ITER => Ok(target.try_iter()?.into_any()),
        Op::NEXT => next(target),
        Op::DIR => Ok(target.dir()?.into_any()),
        Op::FORMAT => {
            let spec = args.at(0, op)?;
            // SAFETY: both are live objects; PyObject_Format returns a new reference or sets an error.
            unsafe {
                Bound::from_owned_ptr_or_err(
                    py,
                    ffi::PyObject_Format(target.as_ptr(), spec.as_ptr()),
                )
            }
        }
        Op::BUFFER => Err(PyNotImplementedError::new_err(
            "buffers of remote objects are not available yet: take bytes(obj) over there",
        )),
        _ => special(target, op, args),
    }
}

/// Performs `op` on `target` for a caller who cannot ask the other operand himself: a binary
/// operation is performed as the operator, and never answers `NotImplemented` in its place.
pub(crate) fn apply_operator<'py>(
    target: &Bound<'py, PyAny>,
    op: Op,
    args: &Arguments<'py>,
) -> PyResult<Bound<'py, PyAny>> {
    if let [other] = args.positional.as_slice()
        && let Some(result) = crate::proxy::operator(target, op, other)
    {
        return result;
    }
    perform(target, op, args)
}

/// `next(target)`: StopIteration with its value when the iterator is exhausted.
fn next<'py>(target: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    let py = target.py();
    // SAFETY: the object is live and its type's slots may be read while attached.
    let step = unsafe { (*ffi::Py_TYPE(target.as_ptr())).tp_iternext };
    let Some(step) = step else {
        return Err(PyTypeError::new_err(format!(
            "'{}' object is not an iterator",
            target.get_type().name()?
        )));
    };
    // SAFETY: a tp_iternext slot of the object's own type, called with that object; NULL means an
    // error or, without one, exhaustion.
    let item = unsafe { Bound::from_owned_ptr_or_opt(py, step(target.as_ptr())) };
    match item {
        Some(item) => Ok(item),
        None => {
            Err(PyErr::take(py).unwrap_or_else(|| pyo3::exceptions::PyStopIteration::new_err(())))
        }
    }
}

/// Any other special method, looked up on the type as the interpreter does.
fn special<'py>(
    target: &Bound<'py, PyAny>,
    op: Op,
    args: &Arguments<'py>,
) -> PyResult<Bound<'py, PyAny>> {
    let py = target.py();
    let Some(name) = op.name() else {
        return Err(PyTypeError::new_err(format!(
            "unknown operation code {}",
            op.0
        )));
    };
    let kind: Bound<'py, PyType> = target.get_type();
    let method = match kind.getattr(name) {
        Ok(method) => method,
        Err(error) if error.is_instance_of::<PyAttributeError>(py) => {
            if is_binary(op) {
                return Ok(py.NotImplemented().into_bound(py));
            }
            return Err(PyTypeError::new_err(format!(
                "'{}' object has no {name}",
                kind.name()?
            )));
        }
        Err(error) => return Err(error),
    };
    let mut positional = Vec::with_capacity(args.positional.len() + 1);
    positional.push(target.clone());
    if matches!(op, Op::EXIT | Op::AEXIT) {
        positional.extend(with_traceback(args.positional.clone())?);
    } else if is_binary(op) && is_native(&method) {
        for other in &args.positional {
            positional.push(operand(other)?);
        }
    } else {
        positional.extend(args.positional.iter().cloned());
    }
    method.call(PyTuple::new(py, positional)?, args.keywords.as_ref())
}

/// What the end of a `with` block is told, with a real traceback: that of the exception, which has
/// arrived with it, in the place of a reference to the peer's.
fn with_traceback(mut told: Vec<Bound<'_, PyAny>>) -> PyResult<Vec<Bound<'_, PyAny>>> {
    if let [_, error, traceback] = told.as_mut_slice()
        && error.is_instance_of::<PyBaseException>()
        && !traceback.is_none()
        && crate::proxy::as_proxy(traceback).is_some()
    {
        *traceback = error.getattr("__traceback__")?;
    }
    Ok(told)
}

/// Operators whose absence is `NotImplemented`, so that the other operand is asked.
fn is_binary(op: Op) -> bool {
    (Op::LT..=Op::GE).contains(&op) || (Op::ADD..=Op::IOR).contains(&op)
}

#[cfg(test)]
mod tests {
    use super::is_binary;
    use objspace_proto::Op;

    #[test]
    fn binary_operators_are_the_comparisons_and_the_arithmetic() {
        for op in Op::ALL {
            let name = op.name().unwrap_or_default();
            let arithmetic = [
                "__add__", "__radd__", "__iadd__", "__ror__", "__ior__", "__lt__", "__ge__",
            ];
            if arithmetic.contains(&name) {
                assert!(is_binary(*op), "{name}");
            }
            if ["__len__", "__call__", "__get__", "__neg__", "__enter__"].contains(&name) {
                assert!(!is_binary(*op), "{name}");
            }
        }
    }
}
