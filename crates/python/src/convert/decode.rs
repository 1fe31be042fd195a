//! Wire bytes to Python values. References become proxies, classes local twins.

use std::sync::Arc;

use objspace_proto::{
    ClassRef, Decoder, ExportId, ImportId, IncomingClass, Kind, Limits, Received, StructKind,
    Ticket, Token,
};
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::{
    PyByteArray, PyBytes, PyComplex, PyDict, PyFloat, PyFrozenSet, PyList, PySet, PySlice,
    PyString, PyTuple, PyType,
};

use super::capability::{self, Place};
use super::{declared, graph, named, types, values};
use crate::remote::buffer::Buffer;
use crate::remote::controller;
use crate::remote::exception;
use crate::remote::frame_access::FrameAccess;
use crate::session::connection::Connection;
use crate::session::errors;
use crate::session::perform::Arguments;

/// Reads one payload.
pub(crate) struct Reader<'c, 'p> {
    connection: &'c Arc<Connection>,
    decoder: Decoder<'p>,
    attachments: &'p mut [Vec<u8>],
    ticket: Ticket,
    place: Place,
}

impl<'c, 'p> Reader<'c, 'p> {
    fn new(connection: &'c Arc<Connection>, payload: &'p mut Received, place: Place) -> Self {
        let ticket = payload.ticket();
        let (tokens, attachments) = payload.split();
        Self {
            connection,
            decoder: Decoder::new(tokens, &Limits::default()),
            attachments,
            ticket,
            place,
        }
    }

    /// The one value of a reply or a shape.
    pub(crate) fn read_one<'py>(
        connection: &Arc<Connection>,
        py: Python<'py>,
        payload: Received,
        place: Place,
    ) -> PyResult<Bound<'py, PyAny>> {
        read(connection, payload, place, |reader| reader.value(py))
    }

    /// The arguments of a call.
    pub(crate) fn read_arguments<'py>(
        connection: &Arc<Connection>,
        py: Python<'py>,
        payload: Received,
    ) -> PyResult<Arguments<'py>> {
        read(connection, payload, Place::Request, |reader| {
            reader.arguments(py)
        })
    }

    fn arguments<'py>(&mut self, py: Python<'py>) -> PyResult<Arguments<'py>> {
        let (count, named) = self.decoder.arguments().map_err(malformed)?;
        let mut positional = Vec::with_capacity(count.min(64));
        for _ in 0..count {
            positional.push(self.value(py)?);
        }
        let keywords = if named == 0 {
            None
        } else {
            Some(PyDict::new(py))
        };
        if let Some(keywords) = &keywords {
            for _ in 0..named {
                let name = self.value(py)?.cast_into::<PyString>()?;
                keywords.set_item(name, self.value(py)?)?;
            }
        }
        Ok(Arguments {
            positional,
            keywords,
        })
    }

    fn items<'py>(&mut self, py: Python<'py>, count: usize) -> PyResult<Vec<Bound<'py, PyAny>>> {
        let mut items = Vec::with_capacity(count);
        for _ in 0..count {
            items.push(self.value(py)?);
        }
        Ok(items)
    }

    fn value<'py>(&mut self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let token = self.decoder.token().map_err(malformed)?;
        self.valued(py, token)
    }

    /// The value that begins with `token`.
    fn valued<'py>(&mut self, py: Python<'py>, token: Token<'p>) -> PyResult<Bound<'py, PyAny>> {
        Ok(match token {
            Token::None => py.None().into_bound(py),
            Token::Bool(flag) => flag.into_pyobject(py)?.to_owned().into_any(),
            Token::Ellipsis => py.Ellipsis().into_bound(py),
            Token::NotImplemented => py.NotImplemented().into_bound(py),
            Token::Int(number) => number.into_pyobject(py)?.into_any(),
            Token::BigInt {
                negative,
                magnitude,
            } => {
                let bytes = PyBytes::new(py, magnitude);
                let number = py
                    .get_type::<pyo3::types::PyInt>()
                    .call_method1("from_bytes", (bytes, "little"))?;
                if negative { number.neg()? } else { number }
            }
            Token::Float(number) => PyFloat::new(py, number).into_any(),
            Token::Complex(real, imaginary) => {
                PyComplex::from_doubles(py, real, imaginary).into_any()
            }
            Token::Str(text) => PyString::new(py, text).into_any(),
            Token::SurrogateStr(bytes) => {
                PyBytes::new(py, bytes).call_method1("decode", ("utf-8", "surrogatepass"))?
            }
            Token::Bytes(bytes) => PyBytes::new(py, bytes).into_any(),
            Token::Attachment(index) => PyBytes::new(py, self.attachment(index)?).into_any(),
            Token::Tuple(count) => PyTuple::new(py, self.items(py, count)?)?.into_any(),
            Token::FrozenSet(count) => PyFrozenSet::new(py, self.items(py, count)?)?.into_any(),
            Token::List(count) => PyList::new(py, self.items(py, count)?)?.into_any(),
            Token::Set(count) => PySet::new(py, self.items(py, count)?)?.into_any(),
            Token::Bytearray(bytes) => PyByteArray::new(py, bytes).into_any(),
            Token::Dict(count) => {
                let dict = PyDict::new(py);
                for _ in 0..count {
                    let key = self.value(py)?;
                    dict.set_item(key, self.value(py)?)?;
                }
                dict.into_any()
            }
            Token::Slice => {
                let parts = self.items(py, 3)?;
                py.get_type::<PySlice>().call1(PyTuple::new(py, parts)?)?
            }
            Token::Range => {
                let parts = self.items(py, 3)?;
                py.get_type::<pyo3::types::PyRange>()
                    .call1(PyTuple::new(py, parts)?)?
            }
            Token::Named { module, qualname } => {
                let found = named::resolve(py, module, qualname)?;
                if !self.connection.policy().is_full() {
                    capability::check(&found, self.place)?;
                }
                found
            }
            Token::Struct {
                kind: StructKind::EXCEPTION,
                len,
            } => self.exception(py, len)?,
            Token::Struct {
                kind: StructKind::BUFFER,
                len: 4,
            } => self.buffer(py)?,
            Token::Struct {
                kind: StructKind::INSTANCE,
                len,
            } => self.declared_instance(py, len)?,
            Token::Struct {
                kind: StructKind::GRAPH,
                len,
            } => self.graph(py, len)?,
            Token::Struct { kind, len } => {
                let parts = self.items(py, len)?;
                values::build(py, kind, &parts)?
            }
            Token::Mine { id, kind, class } => self.reference(py, id, kind, class)?,
            Token::Yours(id) => self.connection.exported(py, id)?,
            Token::Answer(question) => self.connection.answered(py, question, self.ticket)?,
            other => return Err(PyTypeError::new_err(format!("{other:?} is no value"))),
        })
    }

    fn reference<'py>(
        &mut self,
        py: Python<'py>,
        id: ImportId,
        kind: Kind,
        class: Option<IncomingClass<'_>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        if kind == Kind::EXCEPTION {
            return controller::import_handle(self.connection, py, id);
        }
        // Whatever goes wrong before the reference is entered, it has arrived and is counted.
        let declared = match (kind, class) {
            (Kind::CLASS, _) => Ok(None),
            (_, Some(ClassRef::Mine(class))) => self.connection.class_of(py, class).map(Some),
            (_, Some(ClassRef::Yours(class))) => self.own_class(py, class).map(Some),
            (_, Some(ClassRef::Named { module, qualname })) => named::resolve(py, module, qualname)
                .and_then(|class| Ok(Some(class.cast_into::<PyType>()?))),
            (kind, None) => types::type_of_kind(py, kind).and_then(|class| {
                class.map(Some).ok_or_else(|| {
                    PyTypeError::new_err(format!(
                        "the other side sent an object of an unknown kind ({})",
                        kind.0
                    ))
                })
            }),
        };
        match declared {
            Ok(Some(class)) => controller::import(self.connection, py, id, kind, &class),
            Ok(None) => {
                let class = self.connection.class_of(py, id);
                self.connection
                    .import(py, id, || class.map(Bound::into_any))
            }
            // It has arrived all the same: it is counted, and given back.
            Err(error) => self.connection.import(py, id, || Err(error)),
        }
    }

    fn attachment(&mut self, index: u32) -> PyResult<&mut Vec<u8>> {
        usize::try_from(index)
            .ok()
            .and_then(|index| self.attachments.get_mut(index))
            .ok_or_else(|| {
                errors::ProtocolError::new_err(format!(
                    "the other side refers to an attachment {index}, which is not there"
                ))
            })
    }

    /// A copy of a buffer, which keeps the bytes where they were received.
    fn buffer<'py>(&mut self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let parts = self.items(py, 3)?;
        let data = match self.decoder.token().map_err(malformed)? {
            Token::Attachment(index) => std::mem::take(self.attachment(index)?),
            Token::Bytes(bytes) => bytes.to_vec(),
            other => return Err(PyTypeError::new_err(format!("{other:?} is no buffer"))),
        };
        let buffer = Buffer::new(&PyTuple::new(py, parts)?, data)?;
        Ok(Bound::new(py, buffer)?.into_any())
    }

    /// An instance of a class that is declared here to travel by value.
    fn declared_instance<'py>(
        &mut self,
        py: Python<'py>,
        len: usize,
    ) -> PyResult<Bound<'py, PyAny>> {
        let parts = self.items(py, len)?;
        let [module, qualname, value, attributes @ ..] = parts.as_slice() else {
            return Err(errors::ProtocolError::new_err(
                "the other side sent an instance without a class",
            ));
        };
        let (module, qualname) = (module.extract::<String>()?, qualname.extract::<String>()?);
        let found = self.connection.declared().named(py, &module, &qualname);
        let Some(found) = found.filter(|found| found.by_value) else {
            return Err(PyTypeError::new_err(format!(
                "{} sent a {module}.{qualname} by value, and this process has not declared that class \
                 with by_value(…)",
                self.connection.peer()
            )));
        };
        let attributes = attributes
            .chunks_exact(2)
            .filter_map(|pair| match pair {
                [name, value] => Some((name, value)),
                _ => None,
            })
            .map(|(name, value)| Ok((name.cast::<PyString>()?.clone(), value.clone())))
            .collect::<PyResult<Vec<_>>>()?;
        let object = declared::make(&found.class, value)?;
        declared::fill(&object, &found.class, value, &attributes)?;
        Ok(object)
    }

    /// A deep copy.
    fn graph<'py>(&mut self, py: Python<'py>, len: usize) -> PyResult<Bound<'py, PyAny>> {
        let mut nodes = Vec::with_capacity(len.min(4096));
        for _ in 0..len {
            let Token::Tuple(count) = self.decoder.token().map_err(malformed)? else {
                return Err(errors::ProtocolError::new_err(
                    "the other side sent a copy of something that is no container",
                ));
            };
            let mut slots = Vec::with_capacity(count.min(4096));
            let mut code = None;
            for index in 0..count {
                let token = self.decoder.token().map_err(malformed)?;
                if index == 0 {
                    code = Some(self.valued(py, token)?.extract::<usize>()?);
                } else if let Token::Struct {
                    kind: StructKind::NODE,
                    len: 1,
                } = token
                {
                    slots.push(graph::Slot::Node(self.value(py)?.extract()?));
                } else {
                    slots.push(graph::Slot::Value(self.valued(py, token)?));
                }
            }
            nodes.push(graph::node(code.unwrap_or(usize::MAX), slots)?);
        }
        graph::build(py, self.connection, nodes)
    }

    fn own_class<'py>(&self, py: Python<'py>, id: ExportId) -> PyResult<Bound<'py, PyType>> {
        Ok(self.connection.exported(py, id)?.cast_into::<PyType>()?)
    }

    /// An exception, from the web of nodes that describes it.
    fn exception<'py>(&mut self, py: Python<'py>, count: usize) -> PyResult<Bound<'py, PyAny>> {
        let nodes = PyTuple::new(py, self.items(py, count)?)?;
        let access = Bound::new(py, FrameAccess::new(self.connection))?;
        let label = self.connection.label();
        exception::build(py, &nodes, access.as_any(), label).map(Bound::into_any)
    }
}

fn read<T>(
    connection: &Arc<Connection>,
    payload: Received,
    place: Place,
    read: impl FnOnce(&mut Reader<'_, '_>) -> PyResult<T>,
) -> PyResult<T> {
    let mut payload = payload;
    let mut reader = Reader::new(connection, &mut payload, place);
    let result = read(&mut reader);
    // If it failed midway, the references that were not reached are given back.
    let failed_at = result.is_err().then(|| reader.decoder.offset());
    connection.finish_reading(payload, failed_at);
    result
}

fn malformed(error: objspace_proto::DecodeError) -> PyErr {
    errors::ProtocolError::new_err(format!("the other side sent what cannot be read: {error}"))
}
