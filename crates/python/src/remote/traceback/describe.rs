//! A traceback as a tuple of entries.
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyCode, PyDict, PyString, PyTraceback, PyTuple};

use super::Shown;
use super::source::{SourceFile, stamp_of};

/// Entries at either end that are kept of a traceback that is too long (a `RecursionError`).
const KEPT: usize = 100;

const VARARGS: u32 = 0x04;
const VARKEYWORDS: u32 = 0x08;

/// The entries of a traceback, outermost first.
///
/// Redacted, it leaves out what lets the reader look into this process: live frames, folders of files,
/// names of arguments and file stamps.
///
/// # Errors
/// Those of memory only.
pub(crate) fn describe<'py>(
    py: Python<'py>,
    traceback: Option<&Bound<'py, PyTraceback>>,
    shown: Shown,
) -> PyResult<Bound<'py, PyTuple>> {
    if shown == Shown::Nothing {
        return Ok(PyTuple::empty(py));
    }
    let redact = !shown.is_full();
    let mut links = Vec::new();
    let mut next = traceback.map(|link| link.clone().into_any());
    while let Some(link) = next.filter(|link| !link.is_none()) {
        next = Some(link.getattr(intern!(py, "tb_next"))?);
        links.push(link);
    }
    let mut entries = Vec::with_capacity(links.len().min(2 * KEPT + 1));
    let cut = (links.len() > 2 * KEPT + 1).then(|| KEPT..links.len() - KEPT);
    for (index, link) in links.iter().enumerate() {
        match &cut {
            Some(cut) if index == cut.start => entries.push(left_out(py, cut.len())?),
            Some(cut) if cut.contains(&index) => {}
            _ => entries.push(entry(link, redact)?),
        }
    }
    PyTuple::new(py, entries)
}

/// The entry that stands for a run of others.
fn left_out(py: Python<'_>, count: usize) -> PyResult<Bound<'_, PyTuple>> {
    let name = format!("<{count} frames left out>");
    let none = py.None();
    (
        ("<...>", &name, &name, 1, 1, 0),
        (&none, &none, &none, &none, &none),
    )
        .into_pyobject(py)
        .and_then(|pair| {
            let (head, tail) = (pair.get_item(0)?, pair.get_item(1)?);
            Ok(head.add(tail)?.cast_into::<PyTuple>()?)
        })
}

fn entry<'py>(link: &Bound<'py, PyAny>, redact: bool) -> PyResult<Bound<'py, PyTuple>> {
    let py = link.py();
    let frame = link.getattr(intern!(py, "tb_frame"))?;
    if let Some(original) = picture_of(&frame)? {
        return if redact {
            redacted(&original)
        } else {
            // Under its name here: a file of that name may also be one of this process.
            let items = original.iter().enumerate().map(|(index, item)| {
                if index == super::entry::FILE {
                    frame
                        .getattr(intern!(py, "f_code"))?
                        .getattr(intern!(py, "co_filename"))
                } else {
                    Ok(item)
                }
            });
            PyTuple::new(py, items.collect::<PyResult<Vec<_>>>()?)
        };
    }
    let code = frame
        .getattr(intern!(py, "f_code"))?
        .cast_into::<PyCode>()?;
    let line = link
        .getattr(intern!(py, "tb_lineno"))?
        .extract::<Option<u32>>()?
        .unwrap_or(0);
    let instruction: i32 = link.getattr(intern!(py, "tb_lasti"))?.extract()?;
    let file = code
        .getattr(intern!(py, "co_filename"))?
        .cast_into::<PyString>()?;
    let name = code.getattr(intern!(py, "co_name"))?;
    let qualname = code.getattr(intern!(py, "co_qualname"))?;
    let first_line = code.getattr(intern!(py, "co_firstlineno"))?;
    let module = frame
        .getattr(intern!(py, "f_globals"))?
        .cast::<PyDict>()
        .ok()
        .and_then(|globals| globals.get_item(intern!(py, "__name__")).ok().flatten())
        .filter(|name| name.is_instance_of::<PyString>());
    let position = position(&code, instruction)?;
    let (file, arguments, stamp) = if redact {
        (base_name(&file), None, None)
    } else {
        let stamp = file.to_str().ok().and_then(stamp_of);
        if stamp.is_none() {
            // Not a plain file: its text comes from a loader, which is found by the name from now on.
            let globals = frame.getattr(intern!(py, "f_globals"))?;
            py.import(intern!(py, "linecache"))?
                .call_method1(intern!(py, "lazycache"), (&file, globals))?;
        }
        (file, Some(arguments(&code)?), stamp)
    };
    let items: [Bound<'py, PyAny>; super::entry::LEN] = [
        file.into_any(),
        name,
        qualname,
        first_line,
        line.into_pyobject(py)?.into_any(),
        instruction.into_pyobject(py)?.into_any(),
        position.into_pyobject(py)?.into_any(),
        arguments.into_pyobject(py)?.into_any(),
        module.into_pyobject(py)?.into_any(),
        stamp.into_pyobject(py)?.into_any(),
        if redact {
            py.None().into_bound(py)
        } else {
            frame
        },
    ];
    PyTuple::new(py, items)
}

/// The entry that a frame was built from, if it is itself the picture of a frame elsewhere.
fn picture_of<'py>(frame: &Bound<'py, PyAny>) -> PyResult<Option<Bound<'py, PyTuple>>> {
    let py = frame.py();
    let globals = frame.getattr(intern!(py, "f_globals"))?;
    let Ok(globals) = globals.cast::<PyDict>() else {
        return Ok(None);
    };
    let Some(loader) = globals.get_item(intern!(py, "__loader__"))? else {
        return Ok(None);
    };
    let Ok(loader) = loader.cast_exact::<SourceFile>() else {
        return Ok(None);
    };
    Ok(loader
        .get()
        .entry
        .as_ref()
        .map(|entry| entry.bind(py).clone()))
}

fn redacted<'py>(entry: &Bound<'py, PyTuple>) -> PyResult<Bound<'py, PyTuple>> {
    use super::entry::{ARGUMENTS, FILE, FRAME, STAMP};
    let py = entry.py();
    let items = entry.iter().enumerate().map(|(index, item)| match index {
        FILE => item.cast_into::<PyString>().map_or_else(
            |_| py.None().into_bound(py),
            |file| base_name(&file).into_any(),
        ),
        ARGUMENTS | STAMP | FRAME => py.None().into_bound(py),
        _ => item,
    });
    PyTuple::new(py, items.collect::<Vec<_>>())
}

fn base_name<'py>(file: &Bound<'py, PyString>) -> Bound<'py, PyString> {
    let text = file.to_string_lossy();
    PyString::new(file.py(), text.rsplit(['/', '\\']).next().unwrap_or(&text))
}

/// `(end line, column, end column)` of an instruction, where the code knows them.
fn position(code: &Bound<'_, PyCode>, instruction: i32) -> PyResult<Option<(u32, u32, u32)>> {
    let py = code.py();
    let Ok(unit) = usize::try_from(instruction / 2) else {
        return Ok(None);
    };
    if instruction < 0 {
        return Ok(None);
    }
    let Some(found) = code
        .call_method0(intern!(py, "co_positions"))?
        .try_iter()?
        .nth(unit)
    else {
        return Ok(None);
    };
    let (_, end_line, column, end_column): (Option<u32>, Option<u32>, Option<u32>, Option<u32>) =
        found?.extract()?;
    Ok(end_line
        .zip(column)
        .zip(end_column)
        .map(|((end_line, column), end_column)| (end_line, column, end_column)))
}

type Arguments<'py> = (u32, u32, u32, u32, Bound<'py, PyAny>);

/// How the function takes its arguments and what they are called: what `args` of pdb shows.
fn arguments<'py>(code: &Bound<'py, PyCode>) -> PyResult<Arguments<'py>> {
    let py = code.py();
    let positional: u32 = code.getattr(intern!(py, "co_argcount"))?.extract()?;
    let only: u32 = code.getattr(intern!(py, "co_posonlyargcount"))?.extract()?;
    let keyword: u32 = code.getattr(intern!(py, "co_kwonlyargcount"))?.extract()?;
    let flags: u32 = code.getattr(intern!(py, "co_flags"))?.extract()?;
    let flags = flags & (VARARGS | VARKEYWORDS);
    let count = positional + keyword + flags.count_ones();
    let names = code
        .getattr(intern!(py, "co_varnames"))?
        .cast_into::<PyTuple>()?;
    let names = names.get_slice(0, count as usize).into_any();
    Ok((positional, only, keyword, flags, names))
}
