//! `itertools.pairwise` and `itertools.batched`, which do not tell their state: it is read from their
//! fields, and put into those of the copy.

use std::ptr;

use objspace_interp::fields::Field;
use pyo3::exceptions::PyTypeError;
use pyo3::ffi;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyTuple};

use crate::pickling::maker;
use crate::pickling::reducer::{reduced, refused};

/// Where both keep what they iterate over, and what else they keep.
struct Fields {
    pairwise: (Field, Field),
    batched: Option<(Field, Field)>,
}

fn fields(py: Python<'_>) -> PyResult<&'static Fields> {
    static FIELDS: PyOnceLock<Option<Fields>> = PyOnceLock::new();
    FIELDS
        .get_or_try_init(py, || find(py))?
        .as_ref()
        .ok_or_else(|| refused("the iterators of this itertools are not known"))
}

fn find(py: Python<'_>) -> PyResult<Option<Fields>> {
    const COUNT: usize = 0x5eed;
    let module = py.import(intern!(py, "itertools"))?;
    let field = |object: &Bound<'_, PyAny>, word: usize| {
        // SAFETY: attached; an object of an iterator type of C.
        unsafe { Field::holding(object.as_ptr(), word) }
    };
    let of = |object: &Bound<'_, PyAny>| object.as_ptr() as usize;
    // The second of two is what is remembered.
    let kept = PyDict::new(py);
    let items = PyTuple::new(py, [py.None().bind(py), kept.as_any()])?;
    let items = items.as_any().try_iter()?.into_any();
    let pairs = module.getattr("pairwise")?.call1((&items,))?;
    let source = field(&pairs, of(&items));
    pairs.call_method0(intern!(py, "__next__"))?;
    let (Some(source), Some(last)) = (source, field(&pairs, of(kept.as_any()))) else {
        return Ok(None);
    };
    let batched = match module.getattr("batched") {
        Err(_) => None,
        Ok(class) => {
            let batches = class.call1((&items, COUNT))?;
            match (field(&batches, of(&items)), field(&batches, COUNT)) {
                (Some(source), Some(count)) => Some((source, count)),
                _ => return Ok(None),
            }
        }
    };
    Ok(Some(Fields {
        pairwise: (source, last),
        batched,
    }))
}

/// The types of this file.
pub(super) fn types(py: Python<'_>) -> PyResult<Vec<Bound<'_, PyAny>>> {
    let module = py.import(intern!(py, "itertools"))?;
    Ok(["pairwise", "batched"]
        .iter()
        .filter_map(|name| module.getattr(*name).ok())
        .collect())
}

/// An object in a tuple; an empty one for null.
fn held<'py>(object: &Bound<'py, PyAny>, field: Field) -> PyResult<Bound<'py, PyTuple>> {
    let py = object.py();
    // SAFETY: attached; the field is of this type, and holds an object or null.
    let value = unsafe { field.object(object.as_ptr()) };
    // SAFETY: attached; a new reference.
    let value = value.map(|value| unsafe { Bound::from_owned_ptr(py, value.into_ptr()) });
    PyTuple::new(py, value)
}

pub(super) fn reduce<'py>(object: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyTuple>> {
    let py = object.py();
    let fields = fields(py)?;
    let class = object.get_type();
    if class.name()?.to_string_lossy() == "pairwise" {
        let (source, last) = fields.pairwise;
        let parts = (held(object, source)?, held(object, last)?);
        return reduced(py, "make_pairwise", parts);
    }
    let (source, count) = fields
        .batched
        .ok_or_else(|| refused("the iterators of this itertools are not known"))?;
    // SAFETY: attached; the field is of this type. In 3.13 a truth value follows, in the first byte of
    // the next word, which is part of the object.
    let (size, strict) = unsafe {
        let strict = objspace_interp::MINOR >= 13 && count.next().word(object.as_ptr()) & 0xff != 0;
        (count.word(object.as_ptr()), strict)
    };
    reduced(py, "make_batched", (held(object, source)?, size, strict))
}

/// Lets an iterator go on with this one; with none it is exhausted.
fn set_source(
    object: &Bound<'_, PyAny>,
    field: Field,
    source: &Bound<'_, PyTuple>,
) -> PyResult<()> {
    let value = match source.get_item(0) {
        Ok(value) => {
            // SAFETY: attached; a live object.
            if unsafe { ffi::PyIter_Check(value.as_ptr()) } == 0 {
                return Err(PyTypeError::new_err("what is iterated over is no iterator"));
            }
            value.into_ptr()
        }
        Err(_) => ptr::null_mut(),
    };
    // SAFETY: attached; the field is of this type and holds an iterator or null. The reference that
    // `into_ptr` has given away is given back.
    unsafe {
        field.set(object.as_ptr(), value);
        ffi::Py_XDECREF(value);
    }
    Ok(())
}

#[pyfunction]
fn make_pairwise<'py>(
    py: Python<'py>,
    source: &Bound<'py, PyTuple>,
    last: &Bound<'py, PyTuple>,
) -> PyResult<Bound<'py, PyAny>> {
    let (source_field, last_field) = fields(py)?.pairwise;
    let made = py
        .import(intern!(py, "itertools"))?
        .getattr(intern!(py, "pairwise"))?
        .call1((PyTuple::empty(py),))?;
    set_source(&made, source_field, source)?;
    if let Ok(last) = last.get_item(0) {
        // SAFETY: attached; the field is of this type and holds any object or null.
        unsafe { last_field.set(made.as_ptr(), last.as_ptr()) };
    }
    Ok(made)
}

#[pyfunction]
fn make_batched<'py>(
    py: Python<'py>,
    source: &Bound<'py, PyTuple>,
    size: usize,
    strict: bool,
) -> PyResult<Bound<'py, PyAny>> {
    let class = py
        .import(intern!(py, "itertools"))?
        .getattr(intern!(py, "batched"))?;
    let options = PyDict::new(py);
    if strict {
        options.set_item("strict", true)?;
    }
    let made = class.call((PyTuple::empty(py), size), Some(&options))?;
    if let Some((field, _)) = fields(py)?.batched {
        set_source(&made, field, source)?;
    }
    Ok(made)
}

pub(super) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    maker::add(module, wrap_pyfunction!(make_pairwise, module)?)?;
    maker::add(module, wrap_pyfunction!(make_batched, module)?)
}
