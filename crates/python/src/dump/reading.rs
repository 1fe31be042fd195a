//! A log, for Python: `objspace.dump.Log` is a thin face over this.

use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;

use objspace_log::query::{self, Query};
use objspace_log::{Error, Kind, Log, Object, Payload, Status, Value};
use pyo3::exceptions::{PyIndexError, PyKeyError, PyOSError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyEllipsis, PyInt, PyNotImplemented, PyTuple};

fn wrong(error: Error) -> PyErr {
    match error {
        Error::Io(error) => PyOSError::new_err(error.to_string()),
        error @ Error::Missing { .. } => PyKeyError::new_err(error.to_string()),
        error => PyValueError::new_err(error.to_string()),
    }
}

/// An object in a log: its serial.
#[pyclass(frozen, eq, hash, get_all, module = "objspace.dump", name = "Ref")]
#[derive(PartialEq, Eq, Hash)]
pub(crate) struct DumpRef {
    serial: u64,
}

#[pymethods]
impl DumpRef {
    #[new]
    const fn new(serial: u64) -> Self {
        Self { serial }
    }

    fn __repr__(&self) -> String {
        format!("#{}", self.serial)
    }
}

/// What stands for an operand that was not there, or that is not known.
#[pyclass(frozen, eq, hash, module = "objspace.dump", name = "Special")]
#[derive(PartialEq, Eq, Hash)]
pub(crate) struct DumpSpecial {
    text: &'static str,
}

#[pymethods]
impl DumpSpecial {
    const fn __repr__(&self) -> &'static str {
        self.text
    }
}

/// A place in the source where an operation is performed.
#[pyclass(frozen, get_all, module = "objspace.dump", name = "Site")]
pub(crate) struct DumpSite {
    index: u32,
    operation: &'static str,
    name: String,
    file: String,
    function: String,
    module: String,
    line: u32,
    end_line: u32,
    column: u32,
    end_column: u32,
    offset: u32,
    first_line: u32,
}

/// An object, as it was when it was first seen.
#[pyclass(frozen, get_all, module = "objspace.dump", name = "Object")]
pub(crate) struct DumpObject {
    serial: u64,
    type_serial: u64,
    type_name: String,
    /// What it looked like, or `None`.
    text: Option<String>,
    /// Its value, if it is a str, bytes or int that is recorded whole; otherwise `None`.
    value: Option<Py<PyAny>>,
    /// The last operation that had begun when it was first seen.
    seen: u64,
    /// Whether it is a class; `text` is then its qualified name.
    is_class: bool,
}

/// An operation.
#[pyclass(frozen, get_all, module = "objspace.dump", name = "Operation")]
pub(crate) struct DumpOperation {
    number: u64,
    operation: &'static str,
    name: String,
    site: u32,
    thread: u32,
    task: u64,
    time: u64,
    parent: u64,
    depth: u32,
    operands: Py<PyTuple>,
    /// "result", "done", "raised", "exhausted", "lost", or `None` if the log ends before it did.
    status: Option<&'static str>,
    /// The result or exception.
    value: Option<Py<PyAny>>,
    end_time: Option<u64>,
}

/// The life of an object.
#[pyclass(frozen, get_all, module = "objspace.dump", name = "Life")]
pub(crate) struct DumpLife {
    object: Py<DumpObject>,
    operations: Vec<Py<DumpOperation>>,
    /// When it was gone: the last operation that had begun then, and the thread; or `None`.
    death: Option<(u64, u32)>,
}

/// A log that was recorded. Opening reads its headers; questions read what they need.
#[pyclass(frozen, module = "objspace.dump", name = "LogFile")]
pub(crate) struct DumpLog {
    log: Arc<Log>,
}

fn value(py: Python<'_>, value: Value) -> PyResult<Py<PyAny>> {
    Ok(match value {
        Value::None => py.None(),
        Value::True => true.into_pyobject(py)?.to_owned().into_any().unbind(),
        Value::False => false.into_pyobject(py)?.to_owned().into_any().unbind(),
        Value::Ellipsis => PyEllipsis::get(py).to_owned().into_any().unbind(),
        Value::NotImplemented => PyNotImplemented::get(py).to_owned().into_any().unbind(),
        Value::Int(number) => number.into_pyobject(py)?.into_any().unbind(),
        Value::Float(number) => number.into_pyobject(py)?.into_any().unbind(),
        Value::Object(serial) => Py::new(py, DumpRef { serial })?.into_any(),
        Value::Absent => Py::new(py, DumpSpecial { text: "<nothing>" })?.into_any(),
        _ => Py::new(py, DumpSpecial { text: "<unknown>" })?.into_any(),
    })
}

impl DumpLog {
    fn operation_of(
        &self,
        py: Python<'_>,
        operation: &query::Operation,
    ) -> PyResult<Py<DumpOperation>> {
        let site = self.log.site(operation.site).map_err(wrong)?;
        let operands = operation
            .operands
            .iter()
            .map(|&operand| value(py, operand))
            .collect::<PyResult<Vec<_>>>()?;
        let outcome = operation.outcome;
        Py::new(
            py,
            DumpOperation {
                number: operation.number,
                operation: site.kind.name(),
                name: self.log.tables().string(site.name).to_owned(),
                site: operation.site,
                thread: operation.thread,
                task: operation.task,
                time: operation.time,
                parent: operation.parent,
                depth: operation.depth,
                operands: PyTuple::new(py, operands)?.unbind(),
                status: outcome.map(|outcome| outcome.status.name()),
                value: outcome
                    .and_then(|outcome| outcome.value)
                    .map(|result| value(py, result))
                    .transpose()?,
                end_time: outcome.map(|outcome| outcome.time),
            },
        )
    }

    fn object_of(&self, py: Python<'_>, object: Object) -> PyResult<Py<DumpObject>> {
        let type_name = self.log.class_name(object.class).map_err(wrong)?;
        let is_class = matches!(object.payload, Payload::Class(_));
        let (text, value) = match object.payload {
            Payload::Str { text, whole: true } => {
                let value = text.clone().into_pyobject(py)?.into_any().unbind();
                (Some(text), Some(value))
            }
            Payload::Str { text, whole: false } => (Some(format!("{text}…")), None),
            Payload::Bytes { bytes, whole } => {
                let shown = PyBytes::new(py, &bytes);
                let mut text = shown.repr()?.to_string();
                if !whole {
                    text.push('…');
                }
                (Some(text), whole.then(|| shown.into_any().unbind()))
            }
            Payload::Int { text, whole: false } => (Some(format!("{text}…")), None),
            Payload::Int { text, .. } => {
                // Bytes of a file: what is no number has no value.
                let value = py.get_type::<PyInt>().call1((&text, 16)).ok();
                (Some(text), value.map(Bound::unbind))
            }
            Payload::Text(text) | Payload::Class(text) => (Some(text), None),
            _ => (None, None),
        };
        Py::new(
            py,
            DumpObject {
                serial: object.serial,
                type_serial: object.class,
                type_name,
                text,
                value,
                seen: object.seen,
                is_class,
            },
        )
    }
}

#[pymethods]
impl DumpLog {
    #[new]
    fn new(path: PathBuf) -> PyResult<Self> {
        let log = Log::open(&path).map_err(|error| match &error {
            Error::Io(io) => match io.raw_os_error() {
                Some(errno) => super::os_error(errno, &path),
                None => wrong(error),
            },
            _ => PyValueError::new_err(format!("{}: {error}", path.display())),
        })?;
        Ok(Self { log: Arc::new(log) })
    }

    /// How many operations there are.
    #[getter]
    fn operations(&self) -> u64 {
        self.log.operations()
    }

    /// The numbers of the first and the last operation.
    #[getter]
    fn range(&self) -> (u64, u64) {
        self.log.range()
    }

    /// How many bytes at the end are no whole block: the program was killed.
    #[getter]
    fn incomplete(&self) -> Option<u64> {
        self.log.incomplete()
    }

    /// How many blocks there are.
    #[getter]
    fn blocks(&self) -> usize {
        self.log.blocks().len()
    }

    /// What is known of the whole recording.
    #[getter]
    fn meta<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let meta = PyDict::new(py);
        for (key, value) in &self.log.tables().meta {
            meta.set_item(key, value)?;
        }
        Ok(meta)
    }

    /// What the recorder had to say: after which operation, and what.
    #[getter]
    fn notes(&self) -> Vec<(u64, String)> {
        let notes = &self.log.tables().notes;
        notes
            .iter()
            .map(|note| (note.operation, note.text.clone()))
            .collect()
    }

    /// The threads: index, ident and name of each.
    #[getter]
    fn threads(&self) -> Vec<(u32, u64, String)> {
        let threads = &self.log.tables().threads;
        threads
            .iter()
            .map(|thread| (thread.index, thread.ident, thread.name.clone()))
            .collect()
    }

    /// The names of asyncio tasks, by serial.
    #[getter]
    fn tasks<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let tasks = PyDict::new(py);
        for task in &self.log.tables().tasks {
            tasks.set_item(task.serial, &task.name)?;
        }
        Ok(tasks)
    }

    /// How many sites there are; they are numbered from zero.
    #[getter]
    fn sites(&self) -> usize {
        self.log.tables().sites.len()
    }

    /// A site.
    fn site(&self, index: u32) -> PyResult<DumpSite> {
        let tables = self.log.tables();
        let site = tables
            .site(index)
            .ok_or_else(|| PyIndexError::new_err(format!("the log has no site {index}")))?;
        let code = tables.code(site);
        let string = |index: Option<u32>| {
            index.map_or_else(String::new, |index| tables.string(index).to_owned())
        };
        Ok(DumpSite {
            index,
            operation: site.kind.name(),
            name: tables.string(site.name).to_owned(),
            file: string(code.map(|code| code.file)),
            function: string(code.map(|code| code.name)),
            module: string(code.map(|code| code.module)),
            line: site.line,
            end_line: site.end_line,
            column: site.column,
            end_column: site.end_column,
            offset: site.offset,
            first_line: code.map_or(0, |code| code.line),
        })
    }

    /// An object.
    fn object(&self, py: Python<'_>, serial: u64) -> PyResult<Py<DumpObject>> {
        let object = self.log.object(serial).map_err(wrong)?;
        self.object_of(py, object)
    }

    /// One operation.
    fn operation(&self, py: Python<'_>, number: u64) -> PyResult<Py<DumpOperation>> {
        let operation = self.log.operation(number).map_err(wrong)?;
        self.operation_of(py, &operation)
    }

    /// The operations that one is part of, outermost first, and itself: numbers and sites.
    fn stack(&self, number: u64) -> PyResult<Vec<(u64, u32)>> {
        self.log.stack(number).map_err(wrong)
    }

    /// The life of an object: every operation with it among the operands or as the result.
    fn life(&self, py: Python<'_>, serial: u64) -> PyResult<DumpLife> {
        let log = &self.log;
        let life = py.detach(|| log.life(serial)).map_err(wrong)?;
        Ok(DumpLife {
            object: self.object_of(py, life.object)?,
            operations: life
                .operations
                .iter()
                .map(|operation| self.operation_of(py, operation))
                .collect::<PyResult<_>>()?,
            death: life.death,
        })
    }

    /// When an object was gone: the last operation that had begun then, and the thread; or `None`.
    fn death(&self, py: Python<'_>, serial: u64) -> PyResult<Option<(u64, u32)>> {
        py.detach(|| self.log.death(serial)).map_err(wrong)
    }

    /// The operations directly part of one (0: of none), in order, after the operation `after`.
    #[pyo3(signature = (parent, *, after = 0, limit = None))]
    fn children(
        &self,
        py: Python<'_>,
        parent: u64,
        after: u64,
        limit: Option<usize>,
    ) -> PyResult<Vec<Py<DumpOperation>>> {
        let limit = limit.unwrap_or(usize::MAX);
        py.detach(|| self.log.children(parent, after, limit))
            .map_err(wrong)?
            .iter()
            .map(|operation| self.operation_of(py, operation))
            .collect()
    }

    /// How many operations were performed at each site.
    fn counts(&self, py: Python<'_>) -> PyResult<Vec<u64>> {
        py.detach(|| self.log.counts()).map_err(wrong)
    }

    /// How many operations had an object of each type as their first operand: by type name.
    fn receiver_counts<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let log = &self.log;
        let counts = py.detach(|| log.receiver_counts()).map_err(wrong)?;
        let result = PyDict::new(py);
        for (name, count) in counts {
            result.set_item(name, count)?;
        }
        Ok(result)
    }

    /// The operations that all of these conditions hold for, in order.
    #[pyo3(signature = (
        *, operations = Vec::new(), name = None, file = None, lines = None, function = None,
        module = None, object = None, operand_type = None, receiver_type = None, thread = None,
        task = None, status = None, range = None, backwards = false, limit = None,
    ))]
    #[expect(clippy::too_many_arguments, reason = "each is a condition")]
    fn find(
        &self,
        py: Python<'_>,
        operations: Vec<String>,
        name: Option<String>,
        file: Option<String>,
        lines: Option<(u32, u32)>,
        function: Option<String>,
        module: Option<String>,
        object: Option<u64>,
        operand_type: Option<String>,
        receiver_type: Option<String>,
        thread: Option<u32>,
        task: Option<u64>,
        status: Option<String>,
        range: Option<(u64, u64)>,
        backwards: bool,
        limit: Option<usize>,
    ) -> PyResult<Vec<Py<DumpOperation>>> {
        let kinds = operations
            .iter()
            .map(|name| {
                Kind::from_name(name)
                    .ok_or_else(|| PyValueError::new_err(format!("there is no operation '{name}'")))
            })
            .collect::<PyResult<_>>()?;
        let status = status
            .map(|name| {
                [
                    Status::Result,
                    Status::Done,
                    Status::Raised,
                    Status::Exhausted,
                    Status::Lost,
                ]
                .into_iter()
                .find(|status| status.name() == name)
                .ok_or_else(|| PyValueError::new_err(format!("there is no status '{name}'")))
            })
            .transpose()?;
        let query = Query {
            kinds,
            name,
            file,
            lines,
            function,
            module,
            object,
            operand_type,
            receiver_type,
            thread,
            task,
            status,
            range,
        };
        let limit = limit.unwrap_or(usize::MAX);
        let log = &self.log;
        let found = py
            .detach(|| {
                let mut found = Vec::new();
                if limit > 0 {
                    log.search(&query, backwards, |operation| {
                        found.push(operation);
                        if found.len() < limit {
                            ControlFlow::Continue(())
                        } else {
                            ControlFlow::Break(())
                        }
                    })?;
                }
                Ok(found)
            })
            .map_err(wrong)?;
        found
            .iter()
            .map(|operation| self.operation_of(py, operation))
            .collect()
    }
}

/// The names of all operations.
#[pyfunction]
pub(crate) fn _dump_kinds() -> Vec<&'static str> {
    Kind::ALL.iter().map(|kind| kind.name()).collect()
}
