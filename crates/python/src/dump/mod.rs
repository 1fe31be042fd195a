//! The dump object space: recording every operation of a running program into a log.
//!
//! What flows where: the interpreter reports instructions ([`monitor`] on 3.12 and later, [`trace`]
//! on 3.11) to the [`recorder`], which looks up in the code's [`plan`] what the instruction does,
//! asks the [`filter`], gives the operands their [`naming`], and appends to the buffer of a log
//! (`objspace-log`, whose thread compresses and writes it). [`reading`] is the way back.
//!
//! Not here: the format of the log, and anything that knows CPython's structs.

mod filter;
#[cfg(Py_3_12)]
mod monitor;
#[cfg(not(Py_3_12))]
#[path = "trace.rs"]
mod monitor;
mod naming;
mod plan;
pub(crate) mod reading;
mod recorder;
mod settrace;
mod tasks;
pub(crate) mod watch;

#[cfg(not(Py_3_12))]
pub(crate) use monitor::_dump_traced;
pub(crate) use settrace::_dump_retrace;

use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use objspace_interp::lifetimes;
use objspace_interp::observe::Extra;
use objspace_log::{Kind, Options, Retention, Writer};
use pyo3::exceptions::{PyOSError, PyRuntimeError, PyValueError};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use filter::Filter;
use plan::Opcodes;
use recorder::{Active, Recorder, Settings};

/// The numbers of recordings: plans of a former one are made anew.
static RECORDINGS: AtomicU64 = AtomicU64::new(1);

fn failed(error: &objspace_log::Error) -> PyErr {
    match error {
        objspace_log::Error::Io(error) => PyOSError::new_err(match error.raw_os_error() {
            Some(_) => error.to_string(),
            None => format!("the log cannot be written: {error}"),
        }),
        other => PyRuntimeError::new_err(other.to_string()),
    }
}

/// The error that Python has for an error number of a file.
fn os_error(errno: i32, path: &Path) -> PyErr {
    let text = std::io::Error::from_raw_os_error(errno).to_string();
    // Python shows the number itself.
    let text = text.split(" (os error").next().unwrap_or_default();
    PyOSError::new_err((errno, text.to_owned(), path.to_owned()))
}

/// The slot for plans in code objects, taken once.
fn extra() -> PyResult<Extra> {
    static EXTRA: OnceLock<Option<Extra>> = OnceLock::new();
    EXTRA
        // SAFETY: callers hold the GIL.
        .get_or_init(|| unsafe { Extra::take(recorder::free_plan) })
        .ok_or_else(|| PyRuntimeError::new_err("no slot is left in code objects"))
}

/// Opcodes, operators and comparisons of the running interpreter.
fn opcodes(py: Python<'_>) -> PyResult<Opcodes> {
    let opcode = py.import("opcode")?;
    let operators: Vec<(String, String)> = opcode.getattr("_nb_ops")?.extract()?;
    let minor = py.version_info().minor;
    Ok(Opcodes::new(
        opcode.getattr("opname")?.extract()?,
        operators
            .into_iter()
            .map(|(_, operator)| operator)
            .collect(),
        opcode.getattr("cmp_op")?.extract()?,
        minor,
    ))
}

/// What the Python face says about what to record.
fn filter(options: &Bound<'_, PyDict>) -> PyResult<Filter> {
    let strings = |name: &str| -> PyResult<Vec<String>> {
        options
            .get_item(name)?
            .map_or_else(|| Ok(Vec::new()), |value| value.extract())
    };
    let kinds = strings("operations")?
        .iter()
        .map(|name| {
            Kind::from_name(name).ok_or_else(|| {
                let known: Vec<&str> = Kind::ALL.iter().map(|kind| kind.name()).collect();
                PyValueError::new_err(format!(
                    "there is no operation '{name}'; there are {}",
                    known.join(", ")
                ))
            })
        })
        .collect::<PyResult<_>>()?;
    let attributes = strings("attributes")?
        .iter()
        .map(|text| match text.rsplit_once('.') {
            Some((class, attribute)) => (Some(class.to_owned()), attribute.to_owned()),
            None => (None, text.clone()),
        })
        .collect();
    let objects: Vec<Bound<'_, PyAny>> = options
        .get_item("objects")?
        .map_or_else(|| Ok(Vec::new()), |value| value.extract())?;
    Ok(Filter {
        modules: strings("modules")?,
        exclude: strings("exclude")?,
        files: strings("files")?,
        functions: strings("functions")?,
        kinds,
        attributes,
        types: strings("types")?,
        // Kept alive by the recording, which gives the references back.
        objects: objects
            .into_iter()
            .map(|object| object.into_ptr() as usize)
            .collect(),
        hidden: strings("hidden")?,
    })
}

/// Begins to record into the file `path`. `options`: see `objspace.dump.start`.
#[pyfunction]
pub(crate) fn _dump_start(
    py: Python<'_>,
    path: PathBuf,
    options: &Bound<'_, PyDict>,
) -> PyResult<()> {
    if recorder::is_installed() {
        return Err(PyRuntimeError::new_err(
            "a recording is under way already: objspace.dump.stop() ends it",
        ));
    }
    let number = |name: &str| -> PyResult<Option<u64>> {
        options
            .get_item(name)?
            .map_or(Ok(None), |value| value.extract())
    };
    let settings = Settings {
        filter: filter(options)?,
        opcodes: opcodes(py)?,
        keep_alive: options
            .get_item("keep_alive")?
            .is_some_and(|value| value.is_truthy().unwrap_or(false)),
    };
    let extra = extra()?;
    let mut writing = Options::new(&path);
    writing.size_max = number("max_bytes")?;
    if let Some(last) = number("last")? {
        writing.retention = Retention::Last(last);
    }
    let writer = Writer::start(writing).map_err(|error| match &error {
        objspace_log::Error::Io(io) => {
            let errno = io.raw_os_error();
            match errno {
                // With a number, Python chooses the right class of error.
                Some(errno) => os_error(errno, &path),
                None => failed(&error),
            }
        }
        _ => failed(&error),
    })?;
    let recording = RECORDINGS.fetch_add(1, Ordering::Relaxed);
    let mut recorder = Recorder::new(settings, writer, extra, recording);
    let meta: Vec<(String, String)> = options
        .get_item("meta")?
        .map_or_else(|| Ok(Vec::new()), |value| value.extract())?;
    for (key, value) in &meta {
        recorder.meta(key, value);
    }
    recorder::install(recorder);
    // SAFETY: the GIL is held, and stays so until both are in place.
    unsafe { lifetimes::start(recorder::gone) };
    settrace::start();
    if let Err(error) = monitor::start(py) {
        let _ = end(py, false);
        return Err(error);
    }
    Ok(())
}

fn end(py: Python<'_>, keep: bool) -> PyResult<(u64, u64, u64, u64, u64)> {
    settrace::stop();
    let stopped = monitor::stop(py);
    // SAFETY: the GIL is held.
    unsafe { lifetimes::stop() };
    let Some(mut recorder) = recorder::remove() else {
        return Err(PyRuntimeError::new_err("nothing is being recorded"));
    };
    if let Ok(Some(note)) = &stopped {
        recorder.note(note);
    }
    let operations = recorder.statistics().0;
    // SAFETY: the GIL is held.
    let (writer, kept) = unsafe { recorder.finish() };
    // The writer's thread needs no GIL; others may run meanwhile.
    let result = writer.and_then(|writer| match writer {
        Some(writer) => py.detach(move || writer.finish(keep)),
        None => Ok(objspace_log::Statistics::default()),
    });
    for object in kept {
        // SAFETY: a reference that the recording held.
        unsafe { ffi::Py_DECREF(object) };
    }
    let written = result.map_err(|error| failed(&error))?;
    stopped?;
    Ok((
        operations,
        written.bytes,
        written.stalls,
        written.stalled_ns,
        written.dropped,
    ))
}

/// Ends the recording. `keep`: whether to write what a ring holds. The numbers of operations, bytes,
/// waits for the writer, nanoseconds waited, and operations dropped for the size limit.
#[pyfunction]
pub(crate) fn _dump_stop(py: Python<'_>, keep: bool) -> PyResult<(u64, u64, u64, u64, u64)> {
    if !recorder::is_installed() {
        return Err(PyRuntimeError::new_err("nothing is being recorded"));
    }
    end(py, keep)
}

/// Whether something is being recorded, and how many operations so far.
#[pyfunction]
pub(crate) fn _dump_operations() -> Option<u64> {
    Some(Active::enter()?.recorder().statistics().0)
}

/// Brings what was recorded so far to the file; of a ring, what it holds now.
#[pyfunction]
pub(crate) fn _dump_flush() -> PyResult<()> {
    match Active::enter() {
        Some(mut active) => active.recorder().flush().map_err(|error| failed(&error)),
        None => Err(PyRuntimeError::new_err("nothing is being recorded")),
    }
}

/// In a child process after `fork`: lets go of the recording, which is the parent's.
#[pyfunction]
pub(crate) fn _dump_abandon(py: Python<'_>) {
    settrace::stop();
    let _ = monitor::stop(py);
    // SAFETY: the GIL is held.
    unsafe { lifetimes::stop() };
    if let Some(recorder) = recorder::remove() {
        recorder.abandon();
    }
}
