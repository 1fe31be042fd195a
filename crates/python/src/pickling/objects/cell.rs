//! Cells: variables that several functions share. A cell may contain what refers to it.

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyTuple;

use crate::pickling::maker;
use crate::pickling::reducer::phased;

pub(super) fn reduce<'py>(cell: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyTuple>> {
    let py = cell.py();
    let make = maker::get(py, "make_cell")?;
    let empty = PyTuple::empty(py);
    match cell.getattr(intern!(py, "cell_contents")) {
        // To pickle, a state of `None` is no state.
        Ok(contents) if contents.is_none() => {
            let contents = PyTuple::new(py, [contents])?;
            PyTuple::new(py, [make, contents.into_any()])
        }
        Ok(contents) => phased(py, make, empty.into_any(), contents, "set_cell"),
        // It has no value yet, or no more.
        Err(_) => PyTuple::new(py, [make, empty.into_any()]),
    }
}

/// A cell that is empty, or has the one argument in it.
#[pyfunction]
#[pyo3(signature = (*contents))]
fn make_cell<'py>(contents: &Bound<'py, PyTuple>) -> PyResult<Bound<'py, PyAny>> {
    let py = contents.py();
    py.import(intern!(py, "types"))?
        .getattr(intern!(py, "CellType"))?
        .call1(contents)
}

/// Fills a cell.
#[pyfunction]
fn set_cell(cell: &Bound<'_, PyAny>, contents: &Bound<'_, PyAny>) -> PyResult<()> {
    let class = cell.py().import("types")?.getattr("CellType")?;
    if !cell.get_type().is(&class) {
        return Err(crate::pickling::errors::unpickling("this is no cell"));
    }
    cell.setattr(intern!(cell.py(), "cell_contents"), contents)
}

pub(super) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    maker::add(module, wrap_pyfunction!(make_cell, module)?)?;
    maker::add(module, wrap_pyfunction!(set_cell, module)?)
}
