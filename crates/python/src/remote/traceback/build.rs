//! Real traceback and frame objects out of entries.
use pyo3::exceptions::PyValueError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBytes, PyCode, PyDict, PyFrame, PyString, PyTraceback, PyTuple};

use super::entry::{
    ARGUMENTS, FILE, FIRST_LINE, FRAME, INSTRUCTION, LEN, LINE, MODULE, NAME, POSITION, QUALNAME,
    STAMP,
};
use super::locals::RemoteLocals;
use super::source::{SourceFile, Stamp, local_name};

/// The traceback that `entries` describe, or `None` if there are none.
///
/// A frame that came home (its entry holds a real frame of this process) stands for itself. `label`
/// names the other side where a file name must not be taken for one of this machine.
///
/// # Errors
/// `TypeError` or `ValueError` for entries that are no entries.
pub(crate) fn build<'py>(
    py: Python<'py>,
    entries: &Bound<'py, PyTuple>,
    access: &Bound<'py, PyAny>,
    label: &str,
) -> PyResult<Option<Bound<'py, PyTraceback>>> {
    let mut chain: Option<Bound<'py, PyTraceback>> = None;
    for entry in entries.iter().rev() {
        let entry = entry.cast_into::<PyTuple>()?;
        if entry.len() != LEN {
            return Err(PyValueError::new_err("a malformed entry of a traceback"));
        }
        let line: i32 = entry.get_item(LINE)?.extract()?;
        let live = entry.get_item(FRAME)?;
        let (frame, instruction) = match live.cast_exact::<PyFrame>() {
            Ok(frame) => (frame.clone(), entry.get_item(INSTRUCTION)?.extract()?),
            Err(_) => (picture(py, &entry, access, label)?, 0),
        };
        chain = Some(PyTraceback::new(py, chain, frame, instruction, line)?);
    }
    Ok(chain)
}

/// Whether an entry has no live frame: its locals and source are withheld.
pub(crate) fn is_redacted(entry: &Bound<'_, PyTuple>) -> bool {
    entry.get_item(FRAME).is_ok_and(|frame| frame.is_none())
}

/// A frame that looks like the one of the entry.
fn picture<'py>(
    py: Python<'py>,
    entry: &Bound<'py, PyTuple>,
    access: &Bound<'py, PyAny>,
    label: &str,
) -> PyResult<Bound<'py, PyFrame>> {
    let file = entry.get_item(FILE)?.cast_into::<PyString>()?;
    let module = entry.get_item(MODULE)?;
    let frame = entry.get_item(FRAME)?;
    let stamp: Option<Stamp> = entry.get_item(STAMP)?.extract()?;
    let redacted = frame.is_none();

    let locals = RemoteLocals::new(
        py,
        (!redacted).then(|| access.clone().unbind()),
        frame.clone().unbind(),
    );
    let locals = Bound::new(py, locals)?;
    // The line cache may keep its fetcher for long, so that one does not keep the frame.
    let source = || Py::new(py, SourceFile::for_cache(access.clone().unbind(), &locals)?);
    let name = local_name(
        py,
        &file.to_string_lossy(),
        stamp,
        label,
        (!redacted).then_some(source),
    )?;

    let globals = PyDict::new(py);
    if module.is_instance_of::<PyString>() {
        globals.set_item(intern!(py, "__name__"), module)?;
    }
    globals.set_item(intern!(py, "__file__"), &name)?;
    globals.set_item(
        intern!(py, "__builtins__"),
        py.import(intern!(py, "builtins"))?,
    )?;
    let loader = SourceFile::of_frame(
        access.clone().unbind(),
        frame.clone().unbind(),
        entry.clone().unbind(),
    );
    globals.set_item(intern!(py, "__loader__"), Py::new(py, loader)?)?;

    new_frame(&code(py, entry, &name)?, &globals, locals.as_any())
}

/// A frame that never ran.
fn new_frame<'py>(
    code: &Bound<'py, PyCode>,
    globals: &Bound<'py, PyDict>,
    locals: &Bound<'py, PyAny>,
) -> PyResult<Bound<'py, PyFrame>> {
    let py = code.py();
    // SAFETY: this thread is attached; `code` is a code object, `globals` a real dict and `locals` a
    // mapping, which code without CO_OPTIMIZED may have.
    let frame = unsafe {
        pyo3::ffi::PyFrame_New(
            pyo3::ffi::PyThreadState_Get(),
            code.as_ptr().cast(),
            globals.as_ptr(),
            locals.as_ptr(),
        )
    };
    // SAFETY: a new reference, or null with an error set.
    let frame = unsafe { Bound::from_owned_ptr_or_err(py, frame.cast()) }?;
    Ok(frame.cast_into::<PyFrame>()?)
}

/// Code of the name, file and line of the entry, whose frames have a mapping for locals.
fn code<'py>(
    py: Python<'py>,
    entry: &Bound<'py, PyTuple>,
    file: &Bound<'py, PyString>,
) -> PyResult<Bound<'py, PyCode>> {
    static BLANK: PyOnceLock<(Py<PyCode>, usize, u32)> = PyOnceLock::new();
    let (blank, units, flags) = BLANK.get_or_try_init(py, || {
        let blank = PyCode::compile(
            py,
            c"None",
            c"<remote>",
            pyo3::types::code::PyCodeInput::File,
        )?;
        let units = blank.getattr("co_code")?.len()? / 2;
        let flags: u32 = blank.getattr("co_flags")?.extract()?;
        Ok::<_, PyErr>((blank.unbind(), units, flags))
    })?;
    let first_line: i64 = entry.get_item(FIRST_LINE)?.extract::<u32>()?.into();
    let line: i64 = entry.get_item(LINE)?.extract::<u32>()?.into();
    let position: Option<(u32, u32, u32)> = entry.get_item(POSITION)?.extract()?;

    let fields = PyDict::new(py);
    fields.set_item(intern!(py, "co_filename"), file)?;
    fields.set_item(intern!(py, "co_name"), entry.get_item(NAME)?)?;
    fields.set_item(intern!(py, "co_qualname"), entry.get_item(QUALNAME)?)?;
    fields.set_item(intern!(py, "co_firstlineno"), first_line)?;
    let table = line_table(*units, first_line, line, position);
    fields.set_item(intern!(py, "co_linetable"), PyBytes::new(py, &table))?;
    let arguments = entry.get_item(ARGUMENTS)?;
    if !arguments.is_none() {
        let (positional, only, keyword, extra, names): (u32, u32, u32, u32, Bound<'py, PyTuple>) =
            arguments.extract()?;
        let extra = extra & 0x0c;
        let count = u64::from(positional) + u64::from(keyword) + u64::from(extra.count_ones());
        let strings = names
            .iter()
            .all(|name| name.is_exact_instance_of::<PyString>());
        if !strings || names.len() as u64 != count || only > positional || count > 255 {
            return Err(PyValueError::new_err("a malformed entry of a traceback"));
        }
        fields.set_item(intern!(py, "co_argcount"), positional)?;
        fields.set_item(intern!(py, "co_posonlyargcount"), only)?;
        fields.set_item(intern!(py, "co_kwonlyargcount"), keyword)?;
        fields.set_item(intern!(py, "co_flags"), flags | extra)?;
        fields.set_item(intern!(py, "co_nlocals"), count)?;
        fields.set_item(intern!(py, "co_varnames"), names)?;
    }
    let code = blank
        .bind(py)
        .call_method(intern!(py, "replace"), (), Some(&fields))?;
    Ok(code.cast_into::<PyCode>()?)
}

/// A table of locations (PEP 626 and 657, the format of 3.11 to 3.13) that gives every one of
/// `units` instructions the same place.
fn line_table(
    units: usize,
    first_line: i64,
    line: i64,
    position: Option<(u32, u32, u32)>,
) -> Vec<u8> {
    /// A location with line, end line and both columns; one with a line only.
    const LONG: u8 = 14;
    const NO_COLUMN: u8 = 13;
    let mut table = Vec::with_capacity(16);
    let mut left = units.max(1);
    let mut from = first_line;
    while left > 0 {
        let run = left.min(8);
        left -= run;
        #[expect(clippy::cast_possible_truncation, reason = "at most 8")]
        let run = (run - 1) as u8;
        let step = line - from;
        let step = if step < 0 {
            (step.unsigned_abs() << 1) | 1
        } else {
            step.unsigned_abs() << 1
        };
        from = line;
        // A range that ends before it starts cannot be written down.
        match position.filter(|&(end_line, ..)| i64::from(end_line) >= line) {
            Some((end_line, column, end_column)) => {
                table.push(0x80 | (LONG << 3) | run);
                varint(&mut table, step);
                varint(&mut table, (i64::from(end_line) - line).unsigned_abs());
                varint(&mut table, u64::from(column) + 1);
                varint(&mut table, u64::from(end_column) + 1);
            }
            None => {
                table.push(0x80 | (NO_COLUMN << 3) | run);
                varint(&mut table, step);
            }
        }
    }
    table
}

/// Six bits a byte, the lowest first; `0x40` says that more follow.
fn varint(table: &mut Vec<u8>, mut value: u64) {
    while value >= 64 {
        table.push(0x40 | (value & 0x3f) as u8);
        value >>= 6;
    }
    table.push((value & 0x3f) as u8);
}
