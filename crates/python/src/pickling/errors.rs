//! The two exceptions of `pickle`, raised with a message.

use pyo3::PyErr;

mod imported {
    use pyo3::import_exception;
    import_exception!(pickle, PicklingError);
    import_exception!(pickle, UnpicklingError);
}

pub(crate) use imported::{PicklingError, UnpicklingError};

/// `pickle.PicklingError`
pub(crate) fn pickling(message: impl Into<String>) -> PyErr {
    PicklingError::new_err(message.into())
}

/// `pickle.UnpicklingError`
pub(crate) fn unpickling(message: impl Into<String>) -> PyErr {
    UnpicklingError::new_err(message.into())
}
