//! Matches of regular expressions. A match is found again by the same search in the same text, and is
//! checked to be the same one: when it is written, and when it is loaded.

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyTuple;

use crate::pickling::reducer::{reduced, refused};
use crate::pickling::{errors, maker};

/// The ways in which a match is found; what `search` does not find was one of several.
const WAYS: [&str; 4] = ["search", "match", "fullmatch", "finditer"];

pub(super) fn reduce<'py>(object: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyTuple>> {
    let py = object.py();
    let part = |name: &str| object.getattr(name);
    let (pattern, text) = (part("re")?, part("string")?);
    let (begin, end) = (part("pos")?, part("endpos")?);
    let spans = (part("regs")?, part("lastindex")?).into_pyobject(py)?;
    for way in WAYS {
        if let Some(found) = find(&pattern, way, &text, &begin, &end, &spans)?
            && found.getattr("pos")?.eq(&begin)?
            && found.getattr("endpos")?.eq(&end)?
        {
            return reduced(py, "make_match", (pattern, way, text, begin, end, spans));
        }
    }
    Err(refused(format!(
        "cannot pickle {}: the same search does not find it any more",
        object.repr()?
    )))
}

fn find<'py>(
    pattern: &Bound<'py, PyAny>,
    way: &str,
    text: &Bound<'py, PyAny>,
    begin: &Bound<'py, PyAny>,
    end: &Bound<'py, PyAny>,
    spans: &Bound<'py, PyTuple>,
) -> PyResult<Option<Bound<'py, PyAny>>> {
    let found = pattern.call_method1(way, (text, begin, end))?;
    if way == "finditer" {
        for found in found.try_iter()? {
            let found = found?;
            if same(&found, spans)? {
                return Ok(Some(found));
            }
        }
        return Ok(None);
    }
    Ok(if !found.is_none() && same(&found, spans)? {
        Some(found)
    } else {
        None
    })
}

fn same(found: &Bound<'_, PyAny>, spans: &Bound<'_, PyTuple>) -> PyResult<bool> {
    let py = found.py();
    let theirs = (
        found.getattr(intern!(py, "regs"))?,
        found.getattr(intern!(py, "lastindex"))?,
    )
        .into_pyobject(py)?;
    theirs.eq(spans)
}

#[pyfunction]
fn make_match<'py>(
    pattern: &Bound<'py, PyAny>,
    way: &str,
    text: &Bound<'py, PyAny>,
    begin: &Bound<'py, PyAny>,
    end: &Bound<'py, PyAny>,
    spans: &Bound<'py, PyTuple>,
) -> PyResult<Bound<'py, PyAny>> {
    let py = pattern.py();
    let class = py.import("re")?.getattr("Pattern")?;
    if !pattern.is_instance(&class)? || !WAYS.contains(&way) {
        return Err(errors::unpickling("a match without a pattern"));
    }
    find(pattern, way, text, begin, end, spans)?
        .ok_or_else(|| errors::unpickling("the pattern does not match here as it did"))
}

pub(super) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    maker::add(module, wrap_pyfunction!(make_match, module)?)
}
