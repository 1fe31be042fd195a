//! A value as a tree: for tests, fuzzing and peers that have no objects of their own.

use super::{ClassRef, Decoder, Encoder, Token, tag};
use crate::error::{DecodeError, DecodeErrorKind, Error, Limit};
use crate::{Kind, Limits, StructKind};

/// The class of a [`Value::Mine`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "as ClassRef, but owned")]
#[allow(clippy::exhaustive_enums, reason = "as ClassRef")]
pub enum OwnedClass {
    Mine { slot: u32, generation: u32 },
    Yours { slot: u32, generation: u32 },
    Named { module: String, qualname: String },
}

/// One value with everything in it.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs, reason = "as Token, but owned")]
#[non_exhaustive]
pub enum Value {
    None,
    Bool(bool),
    Ellipsis,
    NotImplemented,
    Int(i64),
    BigInt {
        negative: bool,
        magnitude: Vec<u8>,
    },
    Float(f64),
    Complex(f64, f64),
    Str(String),
    SurrogateStr(Vec<u8>),
    Bytes(Vec<u8>),
    Attachment(u32),
    Tuple(Vec<Self>),
    FrozenSet(Vec<Self>),
    Slice(Box<[Self; 3]>),
    Range(Box<[Self; 3]>),
    Named {
        module: String,
        qualname: String,
    },
    Struct(StructKind, Vec<Self>),
    List(Vec<Self>),
    Set(Vec<Self>),
    Dict(Vec<(Self, Self)>),
    Bytearray(Vec<u8>),
    Mine {
        slot: u32,
        generation: u32,
        kind: Kind,
        class: Option<OwnedClass>,
    },
    Yours {
        slot: u32,
        generation: u32,
    },
    Answer(u32),
}

impl Value {
    /// Appends the value.
    ///
    /// # Errors
    /// It is deeper than [`Limits::MAX_DEPTH`], or an object has a class that does not fit its kind.
    pub fn encode(&self, out: &mut Vec<u8>) -> Result<(), Error> {
        let start = out.len();
        let result = self.write(&mut Encoder::new(out), Limits::MAX_DEPTH);
        if result.is_err() {
            out.truncate(start);
        }
        result
    }

    /// Reads one value that is all of `bytes`.
    ///
    /// # Errors
    /// The bytes are not one value, or one that the limits do not allow.
    pub fn decode(bytes: &[u8], limits: &Limits) -> Result<Self, DecodeError> {
        let mut decoder = Decoder::new(bytes, limits);
        let value = Self::read(&mut decoder)?;
        decoder.finish()?;
        Ok(value)
    }

    /// Reads the next value. The depth of recursion is the decoder's limit of depth.
    ///
    /// # Errors
    /// As of [`Decoder::token`].
    pub fn read(decoder: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        let offset = decoder.offset();
        Ok(match decoder.token()? {
            Token::None => Self::None,
            Token::Bool(value) => Self::Bool(value),
            Token::Ellipsis => Self::Ellipsis,
            Token::NotImplemented => Self::NotImplemented,
            Token::Int(value) => Self::Int(value),
            Token::BigInt {
                negative,
                magnitude,
            } => Self::BigInt {
                negative,
                magnitude: magnitude.to_vec(),
            },
            Token::Float(value) => Self::Float(value),
            Token::Complex(real, imaginary) => Self::Complex(real, imaginary),
            Token::Str(value) => Self::Str(value.to_owned()),
            Token::SurrogateStr(value) => Self::SurrogateStr(value.to_vec()),
            Token::Bytes(value) => Self::Bytes(value.to_vec()),
            Token::Attachment(index) => Self::Attachment(index),
            Token::Tuple(len) => Self::Tuple(Self::read_many(decoder, len)?),
            Token::FrozenSet(len) => Self::FrozenSet(Self::read_many(decoder, len)?),
            Token::Slice => Self::Slice(Self::read_three(decoder)?),
            Token::Range => Self::Range(Self::read_three(decoder)?),
            Token::Named { module, qualname } => Self::Named {
                module: module.to_owned(),
                qualname: qualname.to_owned(),
            },
            Token::Struct { kind, len } => Self::Struct(kind, Self::read_many(decoder, len)?),
            Token::List(len) => Self::List(Self::read_many(decoder, len)?),
            Token::Set(len) => Self::Set(Self::read_many(decoder, len)?),
            Token::Dict(len) => {
                let mut pairs = Vec::new();
                for _ in 0..len {
                    pairs.push((Self::read(decoder)?, Self::read(decoder)?));
                }
                Self::Dict(pairs)
            }
            Token::Bytearray(value) => Self::Bytearray(value.to_vec()),
            Token::Mine { id, kind, class } => Self::Mine {
                slot: id.slot(),
                generation: id.generation(),
                kind,
                class: class.map(|class| match class {
                    ClassRef::Mine(id) => OwnedClass::Mine {
                        slot: id.slot(),
                        generation: id.generation(),
                    },
                    ClassRef::Yours(id) => OwnedClass::Yours {
                        slot: id.slot(),
                        generation: id.generation(),
                    },
                    ClassRef::Named { module, qualname } => OwnedClass::Named {
                        module: module.to_owned(),
                        qualname: qualname.to_owned(),
                    },
                }),
            },
            Token::Yours(id) => Self::Yours {
                slot: id.slot(),
                generation: id.generation(),
            },
            Token::Answer(question) => Self::Answer(question),
            Token::Arguments { .. } => {
                return Err(DecodeError {
                    offset,
                    kind: DecodeErrorKind::Expected("a value"),
                });
            }
        })
    }

    fn read_many(decoder: &mut Decoder<'_>, len: usize) -> Result<Vec<Self>, DecodeError> {
        // Grows with what is really there: `len` is the peer's word.
        let mut values = Vec::with_capacity(len.min(64));
        for _ in 0..len {
            values.push(Self::read(decoder)?);
        }
        Ok(values)
    }

    fn read_three(decoder: &mut Decoder<'_>) -> Result<Box<[Self; 3]>, DecodeError> {
        Ok(Box::new([
            Self::read(decoder)?,
            Self::read(decoder)?,
            Self::read(decoder)?,
        ]))
    }

    fn write(&self, out: &mut Encoder<'_>, depth: usize) -> Result<(), Error> {
        match self {
            Self::None => out.none(),
            Self::Bool(value) => out.bool(*value),
            Self::Ellipsis => out.ellipsis(),
            Self::NotImplemented => out.not_implemented(),
            Self::Int(value) => out.int(*value),
            Self::BigInt {
                negative,
                magnitude,
            } => out.bigint(*negative, magnitude),
            Self::Float(value) => out.float(*value),
            Self::Complex(real, imaginary) => out.complex(*real, *imaginary),
            Self::Str(value) => out.str(value),
            Self::SurrogateStr(value) => out.surrogate_str(value),
            Self::Bytes(value) => out.bytes(value),
            Self::Attachment(index) => out.attachment(*index),
            Self::Tuple(values) => {
                out.tuple(values.len());
                Self::write_many(values, out, depth)?;
            }
            Self::FrozenSet(values) => {
                out.frozenset(values.len());
                Self::write_many(values, out, depth)?;
            }
            Self::Slice(values) => {
                out.slice();
                Self::write_many(values.as_slice(), out, depth)?;
            }
            Self::Range(values) => {
                out.range();
                Self::write_many(values.as_slice(), out, depth)?;
            }
            Self::Named { module, qualname } => out.named(module, qualname),
            Self::Struct(kind, values) => {
                out.r#struct(*kind, values.len());
                Self::write_many(values, out, depth)?;
            }
            Self::List(values) => {
                out.list(values.len());
                Self::write_many(values, out, depth)?;
            }
            Self::Set(values) => {
                out.set(values.len());
                Self::write_many(values, out, depth)?;
            }
            Self::Dict(pairs) => {
                out.dict(pairs.len());
                let depth = Self::deeper(depth)?;
                for (key, value) in pairs {
                    key.write(out, depth)?;
                    value.write(out, depth)?;
                }
            }
            Self::Bytearray(value) => out.bytearray(value),
            Self::Mine {
                slot,
                generation,
                kind,
                class,
            } => {
                out.raw_mine(*slot, *generation, *kind);
                Self::write_class(*kind, class.as_ref(), out)?;
            }
            Self::Yours { slot, generation } => out.raw_tag(tag::YOURS, *slot, *generation),
            Self::Answer(question) => out.raw_answer(*question),
        }
        Ok(())
    }

    fn write_class(
        kind: Kind,
        class: Option<&OwnedClass>,
        out: &mut Encoder<'_>,
    ) -> Result<(), Error> {
        let with_code = kind.has_class();
        match class {
            None if !with_code && !kind.has_name() => {}
            Some(OwnedClass::Mine { slot, generation }) if with_code => {
                out.raw_tag(tag::CLASS_MINE, *slot, *generation);
            }
            Some(OwnedClass::Yours { slot, generation }) if with_code => {
                out.raw_tag(tag::CLASS_YOURS, *slot, *generation);
            }
            Some(OwnedClass::Named { module, qualname }) if with_code || kind.has_name() => {
                if with_code {
                    out.raw_byte(tag::CLASS_NAMED);
                }
                out.sized(module.as_bytes());
                out.sized(qualname.as_bytes());
            }
            _ => {
                return Err(Error::Internal(
                    "the class of an object does not fit its kind",
                ));
            }
        }
        Ok(())
    }

    fn write_many(values: &[Self], out: &mut Encoder<'_>, depth: usize) -> Result<(), Error> {
        let depth = Self::deeper(depth)?;
        for value in values {
            value.write(out, depth)?;
        }
        Ok(())
    }

    fn deeper(depth: usize) -> Result<usize, Error> {
        depth.checked_sub(1).ok_or(Error::LimitExceeded {
            what: Limit::Depth,
            limit: Limits::MAX_DEPTH,
        })
    }
}
