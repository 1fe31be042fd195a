//! Source lines of files that live on the other side.
//!
//! Python finds source by file name alone. A remote file keeps its name where that cannot mislead:
//! where the file here is the same (size and time of last change are), or where there is none of
//! that name. Otherwise its name here is `name [label]`, which no file has, and its lines are
//! fetched when somebody looks.
use std::collections::HashMap;
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::UNIX_EPOCH;

use pyo3::exceptions::{PyKeyError, PyOSError};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyList, PyString, PyTuple, PyWeakrefReference};
use pyo3::{PyTraverseError, PyVisit};

use super::locals::RemoteLocals;

/// Size and time of last change of a file, in bytes and nanoseconds.
pub(crate) type Stamp = (u64, u64);

/// The stamp of a file of this machine; `None` if there is no such file.
pub(crate) fn stamp_of(file: &str) -> Option<Stamp> {
    if file.starts_with('<') && file.ends_with('>') {
        return None;
    }
    let meta = std::fs::metadata(file)
        .ok()
        .filter(std::fs::Metadata::is_file)?;
    let changed = meta.modified().ok()?.duration_since(UNIX_EPOCH).ok()?;
    Some((meta.len(), u64::try_from(changed.as_nanos()).ok()?))
}

/// The loader in a remote frame's globals: `linecache` asks it for the text of the frame's file. Also
/// the fetcher in the line cache, which has one source for each frame or class that shows the file.
#[pyclass(module = "objspace", frozen)]
pub(crate) struct SourceFile {
    sources: Mutex<Vec<Source>>,
    /// The entry that the frame was built from; `None` for files of classes.
    pub(super) entry: Option<Py<PyTuple>>,
}

/// Whom to ask, and about what.
struct Source {
    access: Py<PyAny>,
    subject: Subject,
}

/// What the other side is asked about.
enum Subject {
    /// A frame, in the frame's own globals.
    Frame(Py<PyAny>),
    /// The locals of a frame's picture, weakly: the line cache keeps nothing alive over there.
    Weak(Py<PyWeakrefReference>),
    /// A file's name.
    Name(Py<PyString>),
}

impl Source {
    fn clone_ref(&self, py: Python<'_>) -> Self {
        Self {
            access: self.access.clone_ref(py),
            subject: match &self.subject {
                Subject::Frame(frame) => Subject::Frame(frame.clone_ref(py)),
                Subject::Weak(locals) => Subject::Weak(locals.clone_ref(py)),
                Subject::Name(name) => Subject::Name(name.clone_ref(py)),
            },
        }
    }

    /// What to ask about; `None` if it is gone.
    fn live<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        Ok(match &self.subject {
            Subject::Frame(frame) => Some(frame.bind(py).clone()),
            Subject::Weak(locals) => match locals.bind(py).upgrade() {
                Some(locals) => Some(locals.cast_into_exact::<RemoteLocals>()?.get().frame(py)),
                None => None,
            },
            Subject::Name(name) => Some(name.bind(py).clone().into_any()),
        })
    }
}

impl SourceFile {
    fn new(access: Py<PyAny>, subject: Subject, entry: Option<Py<PyTuple>>) -> Self {
        Self {
            sources: Mutex::new(vec![Source { access, subject }]),
            entry,
        }
    }

    /// The loader in the globals of the frame that is built from `entry`.
    pub(super) fn of_frame(access: Py<PyAny>, frame: Py<PyAny>, entry: Py<PyTuple>) -> Self {
        Self::new(access, Subject::Frame(frame), Some(entry))
    }

    /// The fetcher of a frame's file, which works as long as the frame's picture is held by somebody.
    pub(super) fn for_cache(access: Py<PyAny>, locals: &Bound<'_, RemoteLocals>) -> PyResult<Self> {
        let subject = Subject::Weak(PyWeakrefReference::new(locals)?.unbind());
        Ok(Self::new(access, subject, None))
    }

    /// The fetcher of a class's file.
    pub(crate) fn of_class(access: Py<PyAny>, name: Py<PyString>) -> Self {
        Self::new(access, Subject::Name(name), None)
    }

    fn sources(&self) -> MutexGuard<'_, Vec<Source>> {
        self.sources.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes over what another fetcher of the same file asks, and forgets what is gone.
    fn absorb(&self, py: Python<'_>, other: &Self) -> PyResult<()> {
        let all: Vec<Source> = {
            let (old, new) = (self.sources(), other.sources());
            old.iter()
                .chain(new.iter())
                .map(|source| source.clone_ref(py))
                .collect()
        };
        let mut kept: Vec<Source> = Vec::new();
        for source in all {
            let told = |known: &Source| {
                matches!(
                    (&known.subject, &source.subject),
                    (Subject::Name(_), Subject::Name(_))
                )
            };
            if source.live(py)?.is_some() && !kept.iter().any(told) {
                kept.push(source);
            }
        }
        let old = std::mem::replace(&mut *self.sources(), kept);
        drop(old);
        Ok(())
    }
}

#[pymethods]
impl SourceFile {
    /// Tells the printer of uncaught errors that the frame stands for one elsewhere.
    #[classattr]
    #[pyo3(name = "is_remote")]
    const IS_REMOTE: bool = true;

    /// The text of the file, fetched from the other side; `None` if it has none.
    #[pyo3(signature = (name=None))]
    fn get_source<'py>(
        &self,
        py: Python<'py>,
        name: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let _ = name;
        let all: Vec<Source> = self
            .sources()
            .iter()
            .map(|source| source.clone_ref(py))
            .collect();
        // The latest first: the session of an older one may be gone.
        for source in all.into_iter().rev() {
            let Some(subject) = source.live(py)?.filter(|subject| !subject.is_none()) else {
                continue;
            };
            match source.access.bind(py).call1(("source", subject)) {
                Ok(text) if text.is_none() => {}
                Ok(text) => return Ok(text),
                // linecache goes on without lines after this one; whoever prints a traceback must not
                // fail because the other side is gone.
                Err(error) if error.is_instance_of::<PyOSError>(py) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(py.None().into_bound(py))
    }

    fn __call__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.get_source(py, None)
    }

    fn __repr__(&self) -> &'static str {
        "<loader of remote source lines>"
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        // Whoever holds the lock is in the middle of something, and the collector comes again.
        if let Ok(sources) = self.sources.try_lock() {
            for source in sources.iter() {
                visit.call(&source.access)?;
                if let Subject::Frame(subject) = &source.subject {
                    visit.call(subject)?;
                }
            }
        }
        visit.call(&self.entry)
    }
}

fn linecache(py: Python<'_>) -> PyResult<Bound<'_, PyDict>> {
    static CACHE: PyOnceLock<Py<PyModule>> = PyOnceLock::new();
    let module = CACHE.get_or_try_init(py, || py.import("linecache").map(Bound::unbind))?;
    Ok(module.bind(py).getattr("cache")?.cast_into::<PyDict>()?)
}

/// Whether CPython's own printer of tracebacks would take some other file for this missing one: it
/// looks for the last part of the name along `sys.path`.
fn found_on_path(py: Python<'_>, file: &str) -> PyResult<bool> {
    let Some(tail) = file.rsplit('/').next().filter(|tail| !tail.is_empty()) else {
        return Ok(false);
    };
    let path = py.import("sys")?.getattr("path")?;
    let Ok(path) = path.cast::<PyList>() else {
        return Ok(false);
    };
    for folder in path {
        if let Ok(folder) = folder.extract::<std::path::PathBuf>()
            && folder.join(tail).is_file()
        {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The name under which a remote file is known here, and its lines registered for `linecache` if
/// they are not those of a file of this machine.
///
/// `source` makes the fetcher of the text; `None` for a file whose text is withheld.
pub(crate) fn local_name<'py>(
    py: Python<'py>,
    file: &str,
    stamp: Option<Stamp>,
    label: &str,
    source: Option<impl FnOnce() -> PyResult<Py<SourceFile>>>,
) -> PyResult<Bound<'py, PyString>> {
    let here = stamp_of(file);
    if here.is_some() && here == stamp {
        return Ok(PyString::new(py, file));
    }
    let Some(source) = source else {
        let inner = file.trim_start_matches('<').trim_end_matches('>');
        return Ok(PyString::new(py, &format!("<{inner} [{label}]>")));
    };
    let cache = linecache(py)?;
    let decorated = format!("{file} [{label}]");
    let pseudo = file.starts_with('<') && file.ends_with('>');
    let plain_is_safe =
        !pseudo && here.is_none() && free(&cache, file, label)? && !found_on_path(py, file)?;
    let name = if plain_is_safe {
        file.to_owned()
    } else {
        decorated
    };
    let current = registered()
        .get(&name)
        .is_some_and(|known| *known == (label.to_owned(), stamp));
    static PRINTER: PyOnceLock<()> = PyOnceLock::new();
    PRINTER.get_or_try_init(py, || {
        py.import("objspace._stubs")?
            .call_method0("install_printer")
            .map(drop)
    })?;
    // Lines that were fetched stay, and so does a fetcher: it may be the only one that works when the
    // others are gone.
    let entry = cache
        .get_item(&name)?
        .filter(|_| current)
        .and_then(|entry| entry.cast_into::<PyTuple>().ok());
    match entry {
        Some(entry) if entry.len() > 1 => {}
        Some(entry)
            if entry
                .get_item(0)
                .is_ok_and(|item| item.is_instance_of::<SourceFile>()) =>
        {
            let fetcher = entry.get_item(0)?.cast_into::<SourceFile>()?;
            fetcher.get().absorb(py, source()?.get())?;
        }
        _ => {
            cache.set_item(&name, PyTuple::new(py, [source()?])?)?;
            registered().insert(name.clone(), (label.to_owned(), stamp));
        }
    }
    Ok(PyString::new(py, &name))
}

/// By name: who registered lines with `linecache`, and of which state of the file.
type Registry = HashMap<String, (String, Option<Stamp>)>;

fn registered() -> MutexGuard<'static, Registry> {
    static REGISTERED: LazyLock<Mutex<Registry>> = LazyLock::new(Mutex::default);
    REGISTERED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whether lines under that name, if there are any, come from the same other side.
fn free(cache: &Bound<'_, PyDict>, file: &str, label: &str) -> PyResult<bool> {
    let owner = registered().get(file).map(|(owner, _)| owner == label);
    match owner {
        Some(same) => Ok(same),
        None => Ok(!cache.contains(file)?),
    }
}

/// The text of a file as `linecache` has it here; `globals` are those of a frame of it, if known.
pub(crate) fn text_of<'py>(
    file: &Bound<'py, PyString>,
    globals: Option<&Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyAny>> {
    let py = file.py();
    let module = py.import("linecache")?;
    // With both sides in one process the cache may hold the very fetcher that is asking.
    let cache = linecache(py)?;
    if let Some(entry) = cache.get_item(file)?
        && entry
            .cast::<PyTuple>()
            .is_ok_and(|entry| entry.iter().any(|item| item.is_instance_of::<SourceFile>()))
    {
        cache.del_item(file)?;
    }
    module.call_method1("checkcache", (file,))?;
    let lines = module.call_method1("getlines", (file, globals))?;
    if lines.is_empty()? {
        return Ok(py.None().into_bound(py));
    }
    PyString::new(py, "").call_method1("join", (lines,))
}

/// A name that a frame's globals lack.
pub(super) fn missing(name: &Bound<'_, PyAny>) -> PyErr {
    PyKeyError::new_err((name.clone().unbind(),))
}
