//! Python values to wire bytes, by the rules of copying.
//!
//! Objects that travel by reference are entered in the table of exports while they are written; if
//! the conversion fails midway the entries are taken back, and only that call fails.

use std::sync::Arc;

use objspace_proto::{ClassRef, Encoder, ExportId, Kind, Payload, StructKind};
use pyo3::exceptions::{PyBaseException, PyRecursionError, PyRuntimeError};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{
    PyBool, PyByteArray, PyBytes, PyComplex, PyDict, PyFloat, PyFrozenSet, PyInt, PyList, PySet,
    PySlice, PyString, PyTuple, PyType,
};

use super::types::{self, Rule};
use super::{declared, graph, named};
use crate::proxy;
use crate::remote::controller::{self, Remote};
use crate::remote::exception;
use crate::session::connection::Connection;
use crate::session::promise::Promise;

/// How deep containers may nest: less than what a decoder accepts.
const DEPTH: usize = 180;

/// A payload, and what must stay alive until it is queued.
pub(crate) type Prepared = (Payload, Vec<Py<PyAny>>);

/// Writes one payload.
pub(crate) struct Writer<'c> {
    connection: &'c Arc<Connection>,
    payload: Payload,
    exported: Vec<ExportId>,
    depth: usize,
    describing: Vec<Py<PyAny>>,
    going_home: Vec<Py<PyAny>>,
    promises: Vec<Py<Promise>>,
}

impl<'c> Writer<'c> {
    pub(crate) fn new(connection: &'c Arc<Connection>) -> Self {
        Self {
            connection,
            payload: Payload::new(),
            exported: Vec::new(),
            depth: 0,
            describing: Vec::new(),
            going_home: Vec::new(),
            promises: Vec::new(),
        }
    }

    /// The bytes, ready to be sent, and what must stay alive until they are queued: an object that
    /// is sent home may not be released before.
    pub(crate) fn finish(mut self) -> Prepared {
        self.exported.clear();
        (
            std::mem::take(&mut self.payload),
            std::mem::take(&mut self.going_home),
        )
    }

    /// Whether every promise that was mentioned is still under way. If not, the payload must be
    /// written again: the peer need not keep the answers of those that have arrived.
    pub(crate) fn promises_are_pending(&self) -> bool {
        self.promises
            .iter()
            .all(|promise| promise.get().question().is_some())
    }

    /// As [`finish`](Self::finish), with the promises that are mentioned.
    pub(crate) fn finish_with_promises(mut self) -> (Prepared, Vec<Py<Promise>>) {
        let promises = std::mem::take(&mut self.promises);
        (self.finish(), promises)
    }

    fn encoder(&mut self) -> Encoder<'_> {
        Encoder::new(&mut self.payload.body)
    }

    /// The positional and keyword arguments of a call.
    pub(crate) fn arguments<'py>(
        &mut self,
        positional: &[Bound<'py, PyAny>],
        keywords: &[(Bound<'py, PyString>, Bound<'py, PyAny>)],
    ) -> PyResult<()> {
        self.encoder().arguments(positional.len(), keywords.len());
        for value in positional {
            self.value(value)?;
        }
        for (name, value) in keywords {
            self.text(name)?;
            self.value(value)?;
        }
        Ok(())
    }

    /// One value by its own rule.
    pub(crate) fn value(&mut self, value: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = value.py();
        let pointer = value.as_ptr();
        // SAFETY: a live object; reading its type is allowed while attached.
        let class = unsafe { ffi::Py_TYPE(pointer) };
        if let Ok(value) = value.cast_exact::<PyInt>() {
            self.integer(value)?;
        } else if let Ok(text) = value.cast_exact::<PyString>() {
            self.text(text)?;
        } else if value.is_none() {
            self.encoder().none();
        } else if let Ok(flag) = value.cast_exact::<PyBool>() {
            self.encoder().bool(flag.is_true());
        } else if let Ok(number) = value.cast_exact::<PyFloat>() {
            self.encoder().float(number.value());
        } else if let Ok(tuple) = value.cast_exact::<PyTuple>() {
            self.nested(|writer| {
                writer.encoder().tuple(tuple.len());
                tuple.iter().try_for_each(|item| writer.value(&item))
            })?;
        } else if let Ok(bytes) = value.cast_exact::<PyBytes>() {
            self.bytes(bytes);
        } else if let Some(proxy) = proxy::as_proxy(value) {
            match controller::remote_of(&proxy, py)? {
                Some(remote) if Arc::ptr_eq(remote.get().connection(), self.connection) => {
                    self.home(value, remote.get())
                }
                Some(_) | None => {
                    let class = proxy.declared(py)?;
                    self.reference(value, &class)?;
                }
            }
        } else if let Ok(promise) = value.cast_exact::<Promise>() {
            self.promise(promise)?;
        } else if let Ok(number) = value.cast_exact::<PyComplex>() {
            self.encoder().complex(number.real(), number.imag());
        } else if let Ok(set) = value.cast_exact::<PyFrozenSet>() {
            self.nested(|writer| {
                writer.encoder().frozenset(set.len());
                set.iter().try_for_each(|item| writer.value(&item))
            })?;
        } else if value.cast_exact::<PySlice>().is_ok() {
            self.nested(|writer| {
                writer.encoder().slice();
                ["start", "stop", "step"]
                    .iter()
                    .try_for_each(|name| writer.value(&value.getattr(*name)?))
            })?;
        } else if std::ptr::eq(class, &raw mut ffi::PyRange_Type) {
            self.nested(|writer| {
                writer.encoder().range();
                ["start", "stop", "step"]
                    .iter()
                    .try_for_each(|name| writer.value(&value.getattr(*name)?))
            })?;
        } else if value.is(py.Ellipsis()) {
            self.encoder().ellipsis();
        } else if value.is(py.NotImplemented()) {
            self.encoder().not_implemented();
        } else if value.is_instance_of::<PyBaseException>() && !value.is_instance_of::<PyType>() {
            self.exception(value)?;
        } else if let Ok(class) = value.cast::<PyType>() {
            self.class(class)?;
        } else {
            self.by_reference_or_name(value)?;
        }
        Ok(())
    }

    /// What has arrived travels as itself; the rest by the number of its question.
    fn promise(&mut self, promise: &Bound<'_, Promise>) -> PyResult<()> {
        if let Some(arrived) = promise.get().arrived(promise.py()) {
            return self.value(&arrived?);
        }
        Promise::check_here(promise)?;
        let to = promise.get().pipeline().get().connection();
        if !Arc::ptr_eq(to, self.connection) {
            return Err(PyRuntimeError::new_err(format!(
                "a promise of {} that is under way cannot be sent to {}: send its value",
                to.peer(),
                self.connection.peer()
            )));
        }
        let Some(question) = promise.get().question() else {
            return self.promise(promise);
        };
        self.encoder().answer(question);
        self.promises.push(promise.clone().unbind());
        Ok(())
    }

    fn by_reference_or_name(&mut self, value: &Bound<'_, PyAny>) -> PyResult<()> {
        if let Some(remote) = controller::remote_handle(value)
            && Arc::ptr_eq(remote.get().connection(), self.connection)
        {
            self.home(value, remote.get());
            return Ok(());
        }
        let class = value.get_type();
        match types::rule_of(&class)? {
            Rule::Described if self.connection.declared().sends_by_value(&class)? => {
                self.declared_instance(value, &class)
            }
            Rule::Value(kind) => self.structure(kind, value),
            Rule::Builtin(Kind::BUILTIN) => {
                if let Some((module, qualname)) = named::name_of(value)? {
                    self.encoder().named(&module, &qualname);
                    return Ok(());
                }
                self.reference(value, &class)
            }
            _ => self.reference(value, &class),
        }
    }

    /// An exception travels with its parts, and with a reference to itself for the way home.
    pub(crate) fn exception(&mut self, error: &Bound<'_, PyAny>) -> PyResult<()> {
        if self.describing.iter().any(|other| other.is(error)) {
            // It refers to itself: a bare reference to what is being described.
            return self.simple_reference(error, Kind::EXCEPTION);
        }
        let options = exception::Options {
            shown: self.connection.policy().tracebacks(),
            ..exception::Options::default()
        };
        let nodes = exception::describe(error.py(), error.cast()?, options)?;
        self.describing.push(error.clone().unbind());
        let written = self.nested(|writer| {
            writer
                .encoder()
                .r#struct(StructKind::EXCEPTION, nodes.len());
            nodes
                .iter()
                .try_for_each(|node| writer.exception_node(node.cast()?))
        });
        self.describing.pop();
        written
    }

    /// One exception of a web of causes and contexts: its parts, and itself by reference.
    fn exception_node(&mut self, node: &Bound<'_, PyTuple>) -> PyResult<()> {
        self.nested(|writer| {
            writer.encoder().tuple(node.len());
            for (index, part) in node.iter().enumerate() {
                if index != exception::node::LIVE {
                    writer.value(&part)?;
                } else if let Some(remote) = writer.origin_of(&part) {
                    writer.home(&part, remote.get());
                } else {
                    writer.simple_reference(&part, Kind::EXCEPTION)?;
                }
            }
            Ok(())
        })
    }

    /// The original of an exception that came from this very peer.
    fn origin_of<'py>(&self, error: &Bound<'py, PyAny>) -> Option<Bound<'py, Remote>> {
        let origin = exception::origin(error)?;
        controller::remote_handle(origin.bind(error.py()))
            .filter(|remote| Arc::ptr_eq(remote.get().connection(), self.connection))
    }

    fn home(&mut self, alive: &Bound<'_, PyAny>, remote: &Remote) {
        self.going_home.push(alive.clone().unbind());
        let id = remote.import();
        self.encoder().yours(id);
    }

    /// A reference to an object of this process, of the type `class`.
    fn reference(&mut self, value: &Bound<'_, PyAny>, class: &Bound<'_, PyType>) -> PyResult<()> {
        match types::rule_of(class)? {
            Rule::Builtin(kind) => self.simple_reference(value, kind),
            Rule::Named => {
                let Some((module, qualname)) = named::name_of(class)? else {
                    return self.instance(value, class);
                };
                let id = self.count_reference(value)?;
                self.encoder().other_builtin(id, &module, &qualname);
                Ok(())
            }
            Rule::Described | Rule::Value(_) => self.instance(value, class),
        }
    }

    fn instance(&mut self, value: &Bound<'_, PyAny>, class: &Bound<'_, PyType>) -> PyResult<()> {
        if let Some(class) = self.connection.imported_class(class) {
            let id = self.count_reference(value)?;
            self.encoder().instance(id, ClassRef::Yours(class));
        } else {
            let class = self.connection.send_shape(class)?;
            let id = self.count_reference(value)?;
            self.encoder().instance(id, ClassRef::Mine(class));
        }
        Ok(())
    }

    fn simple_reference(&mut self, value: &Bound<'_, PyAny>, kind: Kind) -> PyResult<()> {
        let id = self.count_reference(value)?;
        self.encoder().mine(id, kind);
        Ok(())
    }

    fn count_reference(&mut self, value: &Bound<'_, PyAny>) -> PyResult<ExportId> {
        let id = self.connection.export(value)?;
        self.exported.push(id);
        Ok(id)
    }

    /// A class: by name, coming home, or described once a session.
    pub(crate) fn class(&mut self, class: &Bound<'_, PyType>) -> PyResult<()> {
        if let Some(id) = self.connection.imported_class(class) {
            self.encoder().yours(id);
        } else if let Some((module, qualname)) = named::name_of(class)? {
            self.encoder().named(&module, &qualname);
        } else {
            self.connection.send_shape(class)?;
            self.simple_reference(class.as_any(), Kind::CLASS)?;
        }
        Ok(())
    }

    /// The whole contents of a built-in container, by value; its items by their own rules.
    pub(crate) fn contents(&mut self, value: &Bound<'_, PyAny>) -> PyResult<()> {
        if let Ok(list) = value.cast::<PyList>() {
            self.items(list.len(), |mut e, n| e.list(n), list.iter().map(Ok))
        } else if let Ok(tuple) = value.cast::<PyTuple>() {
            self.items(tuple.len(), |mut e, n| e.tuple(n), tuple.iter().map(Ok))
        } else if let Ok(dict) = value.cast::<PyDict>() {
            let pairs = pairs(dict)?;
            self.encoder().dict(pairs.len());
            pairs.iter().try_for_each(|(key, item)| {
                self.value(key)?;
                self.value(item)
            })
        } else if let Ok(set) = value.cast::<PySet>() {
            let items: Vec<_> = set.iter().collect();
            self.items(items.len(), |mut e, n| e.set(n), items.into_iter().map(Ok))
        } else if let Ok(set) = value.cast::<PyFrozenSet>() {
            self.items(set.len(), |mut e, n| e.frozenset(n), set.iter().map(Ok))
        } else if let Ok(array) = value.cast::<PyByteArray>() {
            self.encoder().bytearray(&array.to_vec());
            Ok(())
        } else if let Ok(text) = value.cast::<PyString>() {
            // An object of a subclass: its text, whatever the subclass makes of it.
            let whole = (0_isize, isize::MAX, 1_isize).into_pyobject(value.py())?;
            let whole = value.py().get_type::<PySlice>().call1(whole)?;
            let plain = value
                .py()
                .get_type::<PyString>()
                .call_method1("__getitem__", (text, whole))?;
            self.value(&plain)
        } else if let Ok(bytes) = value.cast::<PyBytes>() {
            self.value(PyBytes::new(value.py(), bytes.as_bytes()).as_any())
        } else {
            // What is endless or lazy has no length.
            value.len()?;
            let items = value.try_iter()?.collect::<PyResult<Vec<_>>>()?;
            self.items(items.len(), |mut e, n| e.list(n), items.into_iter().map(Ok))
        }
    }

    fn items<'py>(
        &mut self,
        count: usize,
        header: impl Fn(Encoder<'_>, usize),
        items: impl Iterator<Item = PyResult<Bound<'py, PyAny>>>,
    ) -> PyResult<()> {
        header(self.encoder(), count);
        let mut written = 0;
        for item in items {
            self.value(&item?)?;
            written += 1;
        }
        if written != count {
            return Err(PyRuntimeError::new_err(
                "the container changed its size while it was sent",
            ));
        }
        Ok(())
    }

    fn integer(&mut self, value: &Bound<'_, PyInt>) -> PyResult<()> {
        if let Ok(small) = value.extract::<i64>() {
            self.encoder().int(small);
            return Ok(());
        }
        let py = value.py();
        let negative = value.lt(0)?;
        let magnitude = value.abs()?;
        let bits: usize = magnitude.call_method0("bit_length")?.extract()?;
        let bytes =
            magnitude.call_method1("to_bytes", (bits.div_ceil(8), pyo3::intern!(py, "little")))?;
        self.encoder()
            .bigint(negative, bytes.cast::<PyBytes>()?.as_bytes());
        Ok(())
    }

    fn text(&mut self, text: &Bound<'_, PyString>) -> PyResult<()> {
        if let Ok(utf8) = text.to_str() {
            self.encoder().str(utf8);
            return Ok(());
        }
        let bytes = text.call_method1("encode", ("utf-8", "surrogatepass"))?;
        self.encoder()
            .surrogate_str(bytes.cast::<PyBytes>()?.as_bytes());
        Ok(())
    }

    fn bytes(&mut self, bytes: &Bound<'_, PyBytes>) {
        let data = bytes.as_bytes();
        if data.len() < ATTACH {
            self.encoder().bytes(data);
        } else {
            let shared = SharedBytes {
                owner: bytes.clone().unbind(),
                data: data.as_ptr(),
                len: data.len(),
            };
            self.payload.attach(Box::new(shared));
        }
    }

    /// A copy of a buffer.
    pub(crate) fn buffer(&mut self, parts: &[Bound<'_, PyAny>; 4]) -> PyResult<()> {
        self.encoder().r#struct(StructKind::BUFFER, parts.len());
        parts.iter().try_for_each(|part| self.value(part))
    }

    /// An instance of a class that is declared to travel by value.
    fn declared_instance(
        &mut self,
        value: &Bound<'_, PyAny>,
        class: &Bound<'_, PyType>,
    ) -> PyResult<()> {
        let (module, qualname) = declared::name_of(class)?;
        let state = declared::state(value, class)?;
        self.nested(|writer| {
            writer
                .encoder()
                .r#struct(StructKind::INSTANCE, 3 + 2 * state.attributes.len());
            writer.encoder().str(&module);
            writer.encoder().str(&qualname);
            writer.value(&state.value)?;
            state.attributes.iter().try_for_each(|(name, value)| {
                writer.text(name)?;
                writer.value(value)
            })
        })
    }

    /// A deep copy of a container, as `graph` takes it apart.
    pub(crate) fn copy(&mut self, value: &Bound<'_, PyAny>, rest: graph::Rest) -> PyResult<()> {
        let nodes = graph::collect(self.connection, value, rest)?;
        self.encoder().r#struct(StructKind::GRAPH, nodes.len());
        for node in &nodes {
            self.encoder().tuple(1 + node.slots.len());
            self.encoder().int(i64::try_from(node.number())?);
            for slot in &node.slots {
                match slot {
                    graph::Slot::Value(value) => self.value(value)?,
                    graph::Slot::Node(index) => {
                        self.encoder().r#struct(StructKind::NODE, 1);
                        self.encoder().int(i64::try_from(*index)?);
                    }
                }
            }
        }
        Ok(())
    }

    fn structure(&mut self, kind: StructKind, value: &Bound<'_, PyAny>) -> PyResult<()> {
        let parts = super::values::parts(kind, value)?;
        self.nested(|writer| {
            writer.encoder().r#struct(kind, parts.len());
            parts.iter().try_for_each(|part| writer.value(part))
        })
    }

    fn nested(&mut self, write: impl FnOnce(&mut Self) -> PyResult<()>) -> PyResult<()> {
        if self.depth >= DEPTH {
            return Err(PyRecursionError::new_err(format!(
                "values that are copied may nest {DEPTH} deep at most on their way to {}",
                self.connection.peer()
            )));
        }
        self.depth += 1;
        let written = write(self);
        self.depth -= 1;
        written
    }
}

impl Drop for Writer<'_> {
    fn drop(&mut self) {
        // Only a conversion that failed has entries left: nothing of it was sent.
        if !self.exported.is_empty() {
            self.connection.unexport(&self.exported);
        }
    }
}

/// From this size on, bytes go beside the message instead of being copied into it.
const ATTACH: usize = 64 << 10;

/// The pairs of a dict in its own order, which for an `OrderedDict` is not that of its memory.
fn pairs<'py>(dict: &Bound<'py, PyDict>) -> PyResult<Vec<(Bound<'py, PyAny>, Bound<'py, PyAny>)>> {
    static ORDERED: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    let py = dict.py();
    if dict.is_exact_instance_of::<PyDict>() {
        return Ok(dict.iter().collect());
    }
    let ordered = ORDERED.import(py, "collections", "OrderedDict")?;
    if !dict.is_instance(ordered)? {
        return Ok(dict.iter().collect());
    }
    let items = ordered.call_method1("items", (dict,))?;
    items.try_iter()?.map(|pair| pair?.extract()).collect()
}

/// The contents of a bytes object, kept alive while they are written to the stream.
struct SharedBytes {
    owner: Py<PyBytes>,
    data: *const u8,
    len: usize,
}

// SAFETY: bytes objects are immutable and `owner` keeps this one alive; the pointer is only read.
unsafe impl Send for SharedBytes {}
// SAFETY: as above: shared reads of immutable memory.
unsafe impl Sync for SharedBytes {}

impl AsRef<[u8]> for SharedBytes {
    fn as_ref(&self) -> &[u8] {
        // SAFETY: `data` and `len` describe the buffer of `owner`, which is immutable and alive.
        unsafe { std::slice::from_raw_parts(self.data, self.len) }
    }
}

impl Drop for SharedBytes {
    fn drop(&mut self) {
        // Named so that the field is seen to be used: dropping it lets the bytes go, at once when
        // attached to Python and else at the next chance.
        let _ = &self.owner;
    }
}
