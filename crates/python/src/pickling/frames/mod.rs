//! Suspended and running frames.

use pyo3::prelude::*;
use pyo3::types::{PyTuple, PyType};

use super::reducer::Pass;

#[derive(Clone, Copy)]
pub(crate) enum Kind {}

#[derive(Default)]
pub(crate) struct Running;

pub(crate) fn types(_py: Python<'_>) -> PyResult<Vec<(Bound<'_, PyType>, Kind)>> {
    Ok(Vec::new())
}

pub(crate) fn reduce<'py>(
    _object: &Bound<'py, PyAny>,
    kind: Kind,
    _pass: &Pass,
) -> PyResult<Bound<'py, PyTuple>> {
    match kind {}
}

pub(crate) fn register(_module: &Bound<'_, PyModule>) -> PyResult<()> {
    Ok(())
}
