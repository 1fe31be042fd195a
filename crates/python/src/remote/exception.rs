//! Exceptions that cross a session: described as one flat tuple here, real exceptions there.
//!
//! [`describe`] walks an exception with its causes, contexts and group members and writes each
//! down as a *node*; nodes refer to one another by index, so cycles are no trouble. [`build`] makes
//! the exceptions again without running any `__init__` or `__new__` of a user's class: the builtin
//! base makes the instance, then its fields are set.
//!
//! An exception that was built knows where it came from: its instance dict holds an [`Arrival`]
//! under the key `__objspace_origin__`. [`origin`] reads it, which is how the exception goes home as the original object.
//!
//! What this is not: no session, no encoding. In a node, the class, the arguments, the attributes,
//! the live exception and the frames in the traceback's entries are live objects, which the caller
//! encodes by its rules. The live exception ([`node::LIVE`]) must arrive either as the original
//! exception itself (it came home) or as an opaque token.

use std::cell::RefCell;
use std::collections::HashMap;

use pyo3::exceptions::{
    PyAttributeError, PyBaseException, PyBaseExceptionGroup, PyBlockingIOError, PyImportError,
    PyNameError, PyOSError, PyStopIteration, PySyntaxError, PySystemExit, PyTypeError,
    PyUnicodeDecodeError, PyUnicodeEncodeError, PyUnicodeTranslateError, PyValueError,
};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyList, PyString, PyTraceback, PyTuple, PyType};
use pyo3::{PyTraverseError, PyTypeInfo, PyVisit, intern};

use super::class::{is_remote, statics};
use super::traceback::{self, Shown};

/// Positions in a node.
pub(crate) mod node {
    /// The class (live).
    pub(crate) const CLASS: usize = 0;
    /// `args` (live values); of a group only the message.
    pub(crate) const ARGS: usize = 1;
    /// `((name, value), …)`: the instance dict and slots (live values).
    pub(crate) const ATTRIBUTES: usize = 2;
    /// `((name, value), …)`: the fields of the builtin base that differ from `None` (live values).
    pub(crate) const FIELDS: usize = 3;
    /// A tuple of notes, or `None`.
    pub(crate) const NOTES: usize = 4;
    /// The index of `__cause__`, or -1.
    pub(crate) const CAUSE: usize = 5;
    /// The index of `__context__`, or -1.
    pub(crate) const CONTEXT: usize = 6;
    /// `__suppress_context__`.
    pub(crate) const SUPPRESS: usize = 7;
    /// The indices of a group's members, or `None`.
    pub(crate) const MEMBERS: usize = 8;
    /// The entries of the traceback.
    pub(crate) const TRACEBACK: usize = 9;
    /// `str(e)` where the class defines its own, or `None`.
    pub(crate) const STR: usize = 10;
    /// `repr(e)` where the class defines its own, or `None`.
    pub(crate) const REPR: usize = 11;
    /// The live exception, for coming home.
    pub(crate) const LIVE: usize = 12;
    /// How many there are.
    pub(crate) const LEN: usize = 13;
}

/// How much of an exception is told.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Options {
    /// What lets the reader look into this process, and what does not.
    pub(crate) shown: Shown,
    /// How many exceptions of a web of causes, contexts and members are described; the rest is cut.
    pub(crate) limit: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            shown: Shown::Full,
            limit: 128,
        }
    }
}

/// What an exception that was built here remembers.
#[pyclass(module = "objspace", frozen)]
pub(crate) struct Arrival {
    origin: Py<PyAny>,
    #[pyo3(get)]
    text: Option<Py<PyString>>,
    #[pyo3(get)]
    representation: Option<Py<PyString>>,
}

#[pymethods]
impl Arrival {
    fn __repr__(&self) -> &'static str {
        "<origin of a remote exception>"
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.origin)
    }
}

fn arrival<'py>(exception: &Bound<'py, PyAny>) -> Option<Bound<'py, Arrival>> {
    let exception = exception.cast::<PyBaseException>().ok()?;
    let found = dict_of(exception)
        .ok()?
        .get_item(intern!(exception.py(), "__objspace_origin__"))
        .ok()??;
    found.cast_into_exact::<Arrival>().ok()
}

/// The token that [`build`] was given for this exception, if it was built here.
pub(crate) fn origin(exception: &Bound<'_, PyAny>) -> Option<Py<PyAny>> {
    arrival(exception).map(|arrival| arrival.get().origin.clone_ref(exception.py()))
}

/// The shipped `str(e)` (or `repr(e)`) of an exception that was built here.
pub(crate) fn shipped_text<'py>(
    exception: &Bound<'py, PyAny>,
    method: &str,
) -> Option<Bound<'py, PyString>> {
    let arrival = arrival(exception)?;
    let arrival = arrival.get();
    let text = if method == "__repr__" {
        &arrival.representation
    } else {
        &arrival.text
    };
    text.as_ref().map(|text| text.bind(exception.py()).clone())
}

/// The instance dict, whatever the class makes of `__dict__`.
fn dict_of<'py>(exception: &Bound<'py, PyBaseException>) -> PyResult<Bound<'py, PyDict>> {
    // SAFETY: the object has a dict slot, as all exceptions; the result is a new reference or null with an error set.
    let dict = unsafe {
        Bound::from_owned_ptr_or_err(
            exception.py(),
            pyo3::ffi::PyObject_GenericGetDict(exception.as_ptr(), std::ptr::null_mut()),
        )
    }?;
    Ok(dict.cast_into::<PyDict>()?)
}

/// The fields that a builtin class keeps outside `args`.
fn builtin_fields(
    exception: &Bound<'_, PyBaseException>,
) -> impl Iterator<Item = (Py<PyType>, &'static str)> {
    type Kind = (fn(Python<'_>) -> Bound<'_, PyType>, &'static [&'static str]);
    const UNICODE: &[&str] = &["encoding", "object", "start", "end", "reason"];
    const KINDS: &[Kind] = &[
        (
            PyOSError::type_object,
            &["errno", "strerror", "filename", "filename2"],
        ),
        (PyBlockingIOError::type_object, &["characters_written"]),
        (
            PySyntaxError::type_object,
            &[
                "msg",
                "filename",
                "lineno",
                "offset",
                "text",
                "end_lineno",
                "end_offset",
                "print_file_and_line",
            ],
        ),
        (PyUnicodeDecodeError::type_object, UNICODE),
        (PyUnicodeEncodeError::type_object, UNICODE),
        (
            PyUnicodeTranslateError::type_object,
            &["object", "start", "end", "reason"],
        ),
        (
            PyImportError::type_object,
            &["msg", "name", "path", "name_from"],
        ),
        (PyStopIteration::type_object, &["value"]),
        (PySystemExit::type_object, &["code"]),
        (PyNameError::type_object, &["name"]),
        (PyAttributeError::type_object, &["name", "obj"]),
    ];
    let py = exception.py();
    let mut found = Vec::new();
    for (class, names) in KINDS {
        let class = class(py);
        if exception.is_instance(&class).unwrap_or(false) {
            found.extend(names.iter().map(|name| (class.clone().unbind(), *name)));
        }
    }
    found.into_iter()
}

/// A field of a builtin class as the class itself reads it.
fn field<'py>(
    class: &Bound<'py, PyType>,
    exception: &Bound<'py, PyBaseException>,
    name: &str,
) -> PyResult<Option<Bound<'py, PyAny>>> {
    let py = class.py();
    let Some(descriptor) = class.getattr_opt(name)? else {
        return Ok(None);
    };
    match descriptor.call_method1(intern!(py, "__get__"), (exception, exception.get_type())) {
        Ok(value) if value.is_none() => Ok(None),
        Ok(value) => Ok(Some(value)),
        // A UnicodeError without an object, a BlockingIOError without a count.
        Err(_) => Ok(None),
    }
}

/// An exception and all that it refers to, as a tuple of nodes; the first is the exception itself.
///
/// Runs a `__str__` or `__repr__` of the exception's class where it has one; nothing else of the user's.
///
/// # Errors
/// Those of memory only.
pub(crate) fn describe<'py>(
    py: Python<'py>,
    exception: &Bound<'py, PyBaseException>,
    options: Options,
) -> PyResult<Bound<'py, PyTuple>> {
    let mut web = Web {
        all: Vec::new(),
        index: HashMap::new(),
        limit: options.limit.max(1),
    };
    web.add(exception);
    let mut nodes = Vec::new();
    while nodes.len() < web.all.len() {
        let next = web.all[nodes.len()].clone();
        nodes.push(describe_one(py, &next, options, &mut web)?);
    }
    PyTuple::new(py, nodes)
}

/// The exceptions found so far, by address: each lives as long as this.
struct Web<'py> {
    all: Vec<Bound<'py, PyBaseException>>,
    index: HashMap<usize, usize>,
    limit: usize,
}

impl<'py> Web<'py> {
    /// The index of an exception, or `None` when there are too many.
    fn add(&mut self, exception: &Bound<'py, PyBaseException>) -> Option<usize> {
        let address = exception.as_ptr() as usize;
        if let Some(index) = self.index.get(&address) {
            return Some(*index);
        }
        if self.all.len() >= self.limit {
            return None;
        }
        let index = self.all.len();
        self.index.insert(address, index);
        self.all.push(exception.clone());
        Some(index)
    }

    fn link(&mut self, exception: Option<Bound<'py, PyBaseException>>) -> isize {
        exception
            .and_then(|exception| self.add(&exception))
            .and_then(|index| isize::try_from(index).ok())
            .unwrap_or(-1)
    }
}

fn describe_one<'py>(
    py: Python<'py>,
    exception: &Bound<'py, PyBaseException>,
    options: Options,
    web: &mut Web<'py>,
) -> PyResult<Bound<'py, PyTuple>> {
    let class = exception.get_type();
    let base = PyBaseException::type_object(py);
    let read = |name: &str| -> PyResult<Bound<'py, PyAny>> {
        base.getattr(name)?
            .call_method1(intern!(py, "__get__"), (exception, &class))
    };

    let mut args = read("args")?.cast_into::<PyTuple>()?;
    let mut members = py.None().into_bound(py);
    if exception.is_instance_of::<PyBaseExceptionGroup>() {
        let group = PyBaseExceptionGroup::type_object(py);
        let found = group
            .getattr("exceptions")?
            .call_method1(intern!(py, "__get__"), (exception, &class))?;
        let mut indices = Vec::new();
        for member in found.cast_into::<PyTuple>()? {
            indices.extend(web.add(&member.cast_into::<PyBaseException>()?));
        }
        members = PyTuple::new(py, indices)?.into_any();
        args = args.get_slice(0, 1);
    }

    let notes_key = intern!(py, "__notes__");
    let mut notes = py.None().into_bound(py);
    let mut attributes = Vec::new();
    for (name, value) in dict_of(exception)? {
        if !name.is_instance_of::<PyString>() || value.is_instance_of::<Arrival>() {
            continue;
        }
        if name.eq(notes_key)?
            && let Ok(list) = value.cast::<PyList>()
        {
            notes = list.to_tuple().into_any();
            continue;
        }
        attributes.push((name, value));
    }
    attributes.extend(slots(exception, &class)?);
    if !options.shown.is_full() {
        attributes.retain(|(name, _)| {
            name.cast::<PyString>()
                .is_ok_and(|name| !name.to_string_lossy().starts_with('_'))
        });
    }

    let mut fields = Vec::new();
    for (kind, name) in builtin_fields(exception) {
        // The object that has no such attribute may be one that the peer was never given.
        let withheld = name == "obj" && !options.shown.is_full();
        if !withheld && let Some(value) = field(kind.bind(py), exception, name)? {
            fields.push((name, value));
        }
    }

    // The error as raised is what `__cause__` and `__context__` of C say, not what a property does.
    let error = PyErr::from_value(exception.clone().into_any());
    let told = |linked: Option<PyErr>| {
        linked
            .filter(|_| options.shown != Shown::Nothing)
            .map(|linked| linked.into_value(py).into_bound(py))
    };
    let cause = web.link(told(error.cause(py)));
    let context = web.link(told(error.context(py)));
    let entries = traceback::describe(py, error.traceback(py).as_ref(), options.shown)?;

    let (text, representation) = texts(exception, &class)?;

    let items: [Bound<'py, PyAny>; node::LEN] = [
        class.clone().into_any(),
        args.into_any(),
        PyTuple::new(py, attributes)?.into_any(),
        PyTuple::new(py, fields)?.into_any(),
        notes,
        cause.into_pyobject(py)?.into_any(),
        context.into_pyobject(py)?.into_any(),
        read("__suppress_context__")?,
        members,
        entries.into_any(),
        text.into_pyobject(py)?.into_any(),
        representation.into_pyobject(py)?.into_any(),
        exception.clone().into_any(),
    ];
    PyTuple::new(py, items)
}

/// The values of `__slots__` of user classes.
fn slots<'py>(
    exception: &Bound<'py, PyBaseException>,
    class: &Bound<'py, PyType>,
) -> PyResult<Vec<(Bound<'py, PyAny>, Bound<'py, PyAny>)>> {
    let py = class.py();
    let mut found = Vec::new();
    for base in class.mro() {
        let base = base.cast_into::<PyType>()?;
        if !statics::is_heap(&base) {
            break;
        }
        for (name, value) in statics::dict(&base)? {
            if statics::is_member(&value)
                && let Ok(value) = value.call_method1(intern!(py, "__get__"), (exception, class))
            {
                found.push((name, value));
            }
        }
    }
    Ok(found)
}

type Texts<'py> = (Option<Bound<'py, PyString>>, Option<Bound<'py, PyString>>);

/// `str` and `repr` of an exception, where a class of the user's makes them.
fn texts<'py>(
    exception: &Bound<'py, PyBaseException>,
    class: &Bound<'py, PyType>,
) -> PyResult<Texts<'py>> {
    let py = class.py();
    if let Some(arrival) = arrival(exception.as_any()) {
        let arrival = arrival.get();
        let again = |text: &Option<Py<PyString>>| text.as_ref().map(|text| text.bind(py).clone());
        return Ok((again(&arrival.text), again(&arrival.representation)));
    }
    let (mut own_str, mut own_repr) = (false, false);
    for base in class.mro() {
        let base = base.cast_into::<PyType>()?;
        if !statics::is_heap(&base) {
            break;
        }
        // A class that came over has its methods over there, where they work on what arrives.
        if is_remote(&base) {
            continue;
        }
        let dict = statics::dict(&base)?;
        own_str |= dict.contains(intern!(py, "__str__"))?;
        own_repr |= dict.contains(intern!(py, "__repr__"))?;
    }
    if !own_str && !own_repr {
        return Ok((None, None));
    }
    // Its method may send the very exception somewhere: it is not printed again for that.
    let Some(_guard) = Printing::start(exception.as_ptr() as usize) else {
        return Ok((None, None));
    };
    Ok((
        own_str.then(|| printed(exception.as_any(), false)),
        own_repr.then(|| printed(exception.as_any(), true)),
    ))
}

thread_local! {
    static PRINTING: RefCell<Vec<usize>> = const { RefCell::new(Vec::new()) };
}

/// While it lives, this thread is printing an exception.
struct Printing;

impl Printing {
    /// `None` if this thread is printing that exception already.
    fn start(address: usize) -> Option<Self> {
        PRINTING.with_borrow_mut(|printing| {
            if printing.contains(&address) {
                return None;
            }
            printing.push(address);
            Some(Self)
        })
    }
}

impl Drop for Printing {
    fn drop(&mut self) {
        PRINTING.with_borrow_mut(|printing| printing.pop());
    }
}

fn printed<'py>(exception: &Bound<'py, PyAny>, representation: bool) -> Bound<'py, PyString> {
    let text = if representation {
        exception.repr()
    } else {
        exception.str()
    };
    text.unwrap_or_else(|_| {
        let which = if representation { "repr()" } else { "str()" };
        PyString::new(exception.py(), &format!("<exception {which} failed>"))
    })
}

/// The exception that a tuple of nodes describes.
///
/// Classes in the nodes are already those of this process. `access` and `label` are those of
/// [`traceback::build`].
///
/// # Errors
/// `TypeError` or `ValueError` for a description that is none.
pub(crate) fn build<'py>(
    py: Python<'py>,
    description: &Bound<'py, PyTuple>,
    access: &Bound<'py, PyAny>,
    label: &str,
) -> PyResult<Bound<'py, PyBaseException>> {
    let nodes = description
        .iter()
        .map(|item| {
            let item = item.cast_into::<PyTuple>()?;
            if item.len() == node::LEN {
                Ok(item)
            } else {
                Err(malformed())
            }
        })
        .collect::<PyResult<Vec<_>>>()?;
    let mut built = Built {
        made: nodes.iter().map(|_| State::Waiting).collect(),
        nodes,
    };
    for index in 0..built.nodes.len() {
        built.make(py, index, 0)?;
    }
    for index in 0..built.nodes.len() {
        built.link(py, index, access, label)?;
    }
    match built.made.into_iter().next() {
        Some(State::Made(exception) | State::Home(exception)) => Ok(exception),
        _ => Err(malformed()),
    }
}

fn malformed() -> PyErr {
    PyValueError::new_err("a malformed description of an exception")
}

enum State<'py> {
    Waiting,
    /// Its members are being made.
    Started,
    Made(Bound<'py, PyBaseException>),
    /// The original object, which came home.
    Home(Bound<'py, PyBaseException>),
}

struct Built<'py> {
    nodes: Vec<Bound<'py, PyTuple>>,
    made: Vec<State<'py>>,
}

impl<'py> Built<'py> {
    fn get(&self, index: usize) -> PyResult<Bound<'py, PyBaseException>> {
        match self.made.get(index) {
            Some(State::Made(exception) | State::Home(exception)) => Ok(exception.clone()),
            _ => Err(malformed()),
        }
    }

    /// Makes the instance, members first, and sets what belongs to it alone.
    fn make(&mut self, py: Python<'py>, index: usize, depth: u8) -> PyResult<()> {
        match self.made.get(index) {
            Some(State::Waiting) if depth < 64 => {}
            Some(State::Made(_) | State::Home(_)) => return Ok(()),
            _ => return Err(malformed()),
        }
        let node = self.nodes[index].clone();
        let live = node.get_item(node::LIVE)?;
        if let Ok(original) = live.cast::<PyBaseException>() {
            self.made[index] = State::Home(original.clone());
            return Ok(());
        }
        self.made[index] = State::Started;
        let members = node.get_item(node::MEMBERS)?;
        let mut args = node.get_item(node::ARGS)?.cast_into::<PyTuple>()?;
        if !members.is_none() {
            let list = PyList::empty(py);
            for member in members.cast::<PyTuple>()? {
                let member: usize = member.extract()?;
                self.make(py, member, depth + 1)?;
                list.append(self.get(member)?)?;
            }
            args = PyTuple::new(py, [args.get_item(0)?, list.into_any()])?;
        }
        let class = node.get_item(node::CLASS)?.cast_into::<PyType>()?;
        let exception = instance(&class, &args)?;
        self.fill(&exception, &node)?;
        let arrival = Arrival {
            origin: live.unbind(),
            text: node.get_item(node::STR)?.extract()?,
            representation: node.get_item(node::REPR)?.extract()?,
        };
        dict_of(&exception)?.set_item(intern!(py, "__objspace_origin__"), Py::new(py, arrival)?)?;
        self.made[index] = State::Made(exception);
        Ok(())
    }

    #[expect(clippy::unused_self, reason = "a step of `make`")]
    fn fill(
        &self,
        exception: &Bound<'py, PyBaseException>,
        node: &Bound<'py, PyTuple>,
    ) -> PyResult<()> {
        let py = node.py();
        if exception.is_instance_of::<PyStopIteration>() {
            // Made without `__init__`, it has no value at all, which the interpreter does not expect.
            set_value(exception, &py.None().into_bound(py))?;
        }
        for item in node.get_item(node::FIELDS)?.cast_into::<PyTuple>()? {
            let (name, value): (String, Bound<'py, PyAny>) = item.extract()?;
            for (class, known) in builtin_fields(exception) {
                if known == name
                    && is_sound(exception, &name, &value)
                    && let Some(descriptor) = class.bind(py).getattr_opt(known)?
                {
                    descriptor.call_method1(intern!(py, "__set__"), (exception, &value))?;
                }
            }
        }
        for item in node.get_item(node::ATTRIBUTES)?.cast_into::<PyTuple>()? {
            let (name, value): (Bound<'py, PyString>, Bound<'py, PyAny>) = item.extract()?;
            // SAFETY: both are live objects; the class's own `__setattr__` is passed by.
            let status = unsafe {
                pyo3::ffi::PyObject_GenericSetAttr(
                    exception.as_ptr(),
                    name.as_ptr(),
                    value.as_ptr(),
                )
            };
            if status < 0 {
                // A read-only property of the class hides the name: it stays in the dict alone.
                drop(PyErr::take(py));
                dict_of(exception)?.set_item(name, value)?;
            }
        }
        let notes = node.get_item(node::NOTES)?;
        if !notes.is_none() {
            let notes = PyList::new(py, notes.cast::<PyTuple>()?)?;
            dict_of(exception)?.set_item(intern!(py, "__notes__"), notes)?;
        }
        Ok(())
    }

    /// Sets what refers to other exceptions, and the traceback.
    fn link(
        &self,
        py: Python<'py>,
        index: usize,
        access: &Bound<'py, PyAny>,
        label: &str,
    ) -> PyResult<()> {
        let node = &self.nodes[index];
        let entries = node.get_item(node::TRACEBACK)?.cast_into::<PyTuple>()?;
        let exception = match &self.made[index] {
            State::Made(exception) => exception,
            State::Home(exception) => {
                // Seen from here it went through the other side's frames and on; withheld frames
                // would hide the own ones.
                let hidden = entries
                    .iter()
                    .any(|entry| entry.cast::<PyTuple>().is_ok_and(traceback::is_redacted));
                if !hidden && !entries.is_empty() {
                    set_traceback(exception, traceback::build(py, &entries, access, label)?)?;
                }
                return Ok(());
            }
            State::Waiting | State::Started => return Err(malformed()),
        };
        let linked = |position: usize| -> PyResult<Option<Bound<'py, PyBaseException>>> {
            let index: isize = node.get_item(position)?.extract()?;
            usize::try_from(index)
                .ok()
                .map(|index| self.get(index))
                .transpose()
        };
        let base = PyBaseException::type_object(py);
        let write = |name: &str, value: &Bound<'py, PyAny>| -> PyResult<()> {
            base.getattr(name)?
                .call_method1(intern!(py, "__set__"), (exception, value))
                .map(drop)
        };
        if let Some(cause) = linked(node::CAUSE)? {
            write("__cause__", cause.as_any())?;
        }
        if let Some(context) = linked(node::CONTEXT)? {
            write("__context__", context.as_any())?;
        }
        // After the cause, which sets it.
        write("__suppress_context__", &node.get_item(node::SUPPRESS)?)?;
        set_traceback(exception, traceback::build(py, &entries, access, label)?)
    }
}

fn set_value(exception: &Bound<'_, PyBaseException>, value: &Bound<'_, PyAny>) -> PyResult<()> {
    let py = exception.py();
    PyStopIteration::type_object(py)
        .getattr(intern!(py, "value"))?
        .call_method1(intern!(py, "__set__"), (exception, value))
        .map(drop)
}

/// Whether a field may have that value. `str()` of a `UnicodeError` trusts that its object is of the
/// right type and its start not negative, which its constructor has checked and assignment does not.
fn is_sound(exception: &Bound<'_, PyBaseException>, name: &str, value: &Bound<'_, PyAny>) -> bool {
    let decoding = exception.is_instance_of::<PyUnicodeDecodeError>();
    if !decoding
        && !exception.is_instance_of::<PyUnicodeEncodeError>()
        && !exception.is_instance_of::<PyUnicodeTranslateError>()
    {
        return true;
    }
    match name {
        "object" if decoding => value.is_exact_instance_of::<PyBytes>(),
        "object" => value.is_exact_instance_of::<PyString>(),
        "start" | "end" => value.extract::<isize>().map_or(true, |index| index >= 0),
        _ => true,
    }
}

fn set_traceback(
    exception: &Bound<'_, PyBaseException>,
    traceback: Option<Bound<'_, PyTraceback>>,
) -> PyResult<()> {
    let py = exception.py();
    let base = PyBaseException::type_object(py);
    base.getattr(intern!(py, "__traceback__"))?
        .call_method1(intern!(py, "__set__"), (exception, traceback))
        .map(drop)
}

/// An instance of an exception class as its builtin base makes it: no code of a user's runs.
fn instance<'py>(
    class: &Bound<'py, PyType>,
    args: &Bound<'py, PyTuple>,
) -> PyResult<Bound<'py, PyBaseException>> {
    let py = class.py();
    if !class.is_subclass_of::<PyBaseException>()? {
        return Err(PyTypeError::new_err(format!(
            "{} is not an exception class",
            class.qualname()?
        )));
    }
    let builtin = statics::builtin_base(class)?;
    let group = builtin.is_subclass_of::<PyBaseExceptionGroup>()?;
    let make = builtin.getattr(intern!(py, "__new__"))?;
    // Only a group needs its arguments to be made; others parse them in ways of their own (OSError
    // picks a subclass), so they get them afterwards.
    let made = if group {
        make.call1((class, args.get_item(0)?, args.get_item(1)?))?
    } else {
        make.call1((class,))?
    };
    let made = made.cast_into::<PyBaseException>()?;
    if !group {
        PyBaseException::type_object(py)
            .getattr(intern!(py, "args"))?
            .call_method1(intern!(py, "__set__"), (&made, args))?;
    }
    Ok(made)
}
