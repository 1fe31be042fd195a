//! Values that are copied as they are, and texts that stand for values that are not.
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyBytes, PyComplex, PyFloat, PyInt, PyString, PyTuple};

/// How deep tuples in a plain value may nest.
const DEPTH: u8 = 8;

/// Whether a value is copied whatever happens: a constant, or a tuple of such. Subclasses are not.
pub(crate) fn is_plain(value: &Bound<'_, PyAny>) -> bool {
    fn within(value: &Bound<'_, PyAny>, depth: u8) -> bool {
        let py = value.py();
        value.is_none()
            || value.is_exact_instance_of::<PyBool>()
            || value.is_exact_instance_of::<PyInt>()
            || value.is_exact_instance_of::<PyFloat>()
            || value.is_exact_instance_of::<PyComplex>()
            || value.is_exact_instance_of::<PyString>()
            || value.is_exact_instance_of::<PyBytes>()
            || value.is(py.Ellipsis())
            || value.is(py.NotImplemented())
            || (depth > 0
                && value
                    .cast_exact::<PyTuple>()
                    .is_ok_and(|items| items.iter().all(|item| within(&item, depth - 1))))
    }
    within(value, DEPTH)
}

/// Stands for a value that stayed where it is, in signatures and annotations: shown by its text.
#[pyclass(module = "objspace", frozen, eq, hash)]
#[derive(PartialEq, Eq, Hash)]
pub(crate) struct Text(pub(crate) String);

#[pymethods]
impl Text {
    fn __repr__(&self) -> &str {
        &self.0
    }
}
