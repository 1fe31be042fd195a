//! Wire bytes to Python values. References become proxies, classes local twins.

use std::sync::Arc;

use objspace_proto::{
    ClassRef, Decoder, ExportId, ImportId, IncomingClass, Kind, Limits, Received, StructKind, Token,
};
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::{
    PyByteArray, PyBytes, PyComplex, PyDict, PyFloat, PyFrozenSet, PyList, PySet, PySlice,
    PyString, PyTuple, PyType,
};

use super::capability::{self, Place};
use super::{named, types, values};
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
    payload: &'p Received,
    place: Place,
}

impl<'c, 'p> Reader<'c, 'p> {
    fn new(connection: &'c Arc<Connection>, payload: &'p Received, place: Place) -> Self {
        Self {
            connection,
            decoder: payload.decoder(&Limits::default()),
            payload,
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
            Token::Attachment(index) => {
                let data = self
                    .payload
                    .attachment(index)
                    .map_err(|error| errors::ProtocolError::new_err(error.to_string()))?;
                PyBytes::new(py, data).into_any()
            }
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
            Token::Struct { kind, len } => {
                let parts = self.items(py, len)?;
                values::build(py, kind, &parts)?
            }
            Token::Mine { id, kind, class } => self.reference(py, id, kind, class)?,
            Token::Yours(id) => self.connection.exported(py, id)?,
            Token::Answer(question) => {
                self.connection
                    .answered(py, question, self.payload.ticket())?
            }
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
    let mut reader = Reader::new(connection, &payload, place);
    let result = read(&mut reader);
    // If it failed midway, the references that were not reached are given back.
    let failed_at = result.is_err().then(|| reader.decoder.offset());
    connection.finish_reading(payload, failed_at);
    result
}

fn malformed(error: objspace_proto::DecodeError) -> PyErr {
    errors::ProtocolError::new_err(format!("the other side sent what cannot be read: {error}"))
}
