//! Regular files, where the user has said that they may be opened again: path, mode, position.
//!
//! What was written is flushed first. A file opened for writing is opened again without being emptied.

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};

use crate::pickling::reducer::{reduced, refused};
use crate::pickling::{allow, errors, maker};

/// The reducer of open files: `pickling.reopen_files()` registers it. Which `newline` a text file was
/// opened with cannot be asked of it, so it is an argument.
#[pyfunction]
#[pyo3(signature = (file, newline = None))]
pub(crate) fn reduce_file<'py>(
    file: &Bound<'py, PyAny>,
    newline: Option<Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyTuple>> {
    let py = file.py();
    let refuse = |why: &str| -> PyErr {
        refused(format!(
            "cannot pickle an open file: {why} ({})",
            file.repr()
                .map_or_else(|_| "?".into(), |text| text.to_string())
        ))
    };
    if file.getattr(intern!(py, "closed"))?.is_truthy()? {
        return Err(refuse("it is closed"));
    }
    let raw = raw(file)?;
    let path = raw.getattr(intern!(py, "name"))?;
    let descriptor = raw.call_method0(intern!(py, "fileno"))?;
    let os = py.import(intern!(py, "os"))?;
    let mode = os
        .call_method1(intern!(py, "fstat"), (&descriptor,))?
        .getattr(intern!(py, "st_mode"))?;
    let regular = py
        .import(intern!(py, "stat"))?
        .call_method1(intern!(py, "S_ISREG"), (mode,))?
        .is_truthy()?;
    if !regular {
        return Err(refuse("it is no regular file"));
    }
    // Another file may have taken the name since.
    let same = path.extract::<i64>().is_err()
        && os.call_method1("stat", (&path,)).is_ok_and(|there| {
            let here = os.call_method1("fstat", (&descriptor,));
            here.is_ok_and(|here| {
                os.getattr("path")
                    .and_then(|module| module.call_method1("samestat", (there, here)))
                    .is_ok_and(|same| same.is_truthy().unwrap_or(false))
            })
        });
    if !same {
        return Err(refuse("it has no name by which it could be opened again"));
    }
    let path = os.getattr("path")?.call_method1("abspath", (&path,))?;
    if file.call_method0("writable")?.is_truthy()? {
        file.call_method0("flush")?;
    }
    let position = file.call_method0("tell")?;
    let class = file.get_type();
    let text = class.name()?.to_cow()? == "TextIOWrapper";
    let raw_mode: String = raw.getattr("mode")?.extract()?;
    // Opening anew must neither empty the file nor insist on making it.
    let mode = match raw_mode.trim_end_matches('b') {
        "rb+" | "wb" | "wb+" | "xb" | "xb+" | "w" | "w+" | "x" | "x+" | "r+" => "r+b",
        "ab" | "ab+" | "a" | "a+" => "ab",
        _ => "rb",
    };
    let plus = raw_mode.contains('+');
    let options = PyDict::new(py);
    if text {
        for name in ["encoding", "errors", "line_buffering", "write_through"] {
            options.set_item(name, file.getattr(name)?)?;
        }
        options.set_item("newline", newline)?;
    }
    let mode = if mode == "ab" && plus { "a+b" } else { mode };
    reduced(
        py,
        "open_file",
        (path, class.name()?, mode, position, options),
    )
}

/// The object that reads and writes the descriptor.
fn raw<'py>(file: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    let mut file = file.clone();
    for name in ["buffer", "raw"] {
        if let Ok(inner) = file.getattr(name) {
            file = inner;
        }
    }
    Ok(file)
}

/// Opens a regular file where another process has left it.
#[pyfunction]
fn open_file<'py>(
    py: Python<'py>,
    path: &Bound<'py, PyAny>,
    class: &str,
    mode: &str,
    position: &Bound<'py, PyAny>,
    options: &Bound<'py, PyDict>,
) -> PyResult<Bound<'py, PyAny>> {
    allow::module("io")?;
    if !matches!(mode, "rb" | "r+b" | "ab" | "a+b") {
        return Err(errors::unpickling(format!(
            "no mode of an open file: {mode:?}"
        )));
    }
    let io = py.import(intern!(py, "io"))?;
    let raw = io.call_method1(intern!(py, "FileIO"), (path, mode))?;
    let file = match class {
        "FileIO" => raw,
        "BufferedReader" | "BufferedWriter" | "BufferedRandom" => {
            io.getattr(class)?.call1((raw,))?
        }
        "TextIOWrapper" => {
            let buffer = match mode {
                "rb" => "BufferedReader",
                "ab" => "BufferedWriter",
                _ => "BufferedRandom",
            };
            let buffer = io.getattr(buffer)?.call1((raw,))?;
            io.getattr(class)?.call((buffer,), Some(options))?
        }
        _ => return Err(errors::unpickling(format!("no class of files: {class:?}"))),
    };
    file.call_method1(intern!(py, "seek"), (position,))?;
    Ok(file)
}

pub(super) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    maker::add(module, wrap_pyfunction!(reduce_file, module)?)?;
    maker::add(module, wrap_pyfunction!(open_file, module)?)
}
