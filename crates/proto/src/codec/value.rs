//! A value as a tree: for tests, fuzzing and peers that have no objects of their own.

use super::{ClassRef, Decoder, Encoder, IncomingClass, Token, tag};
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
        let token = decoder.token()?;
        let children = token.children();
        if children == 0 {
            return Self::leaf(token, offset);
        }
        if matches!(token, Token::Arguments { .. }) {
            return Err(not_a_value(offset));
        }
        // Grows with what is really there: the count is the peer's word.
        let mut values = Vec::with_capacity(children.min(64));
        for _ in 0..children {
            values.push(Self::read(decoder)?);
        }
        Self::container(token, values, offset)
    }

    /// A value that has no others in it. Apart from [`read`](Self::read), to keep the frames of the recursion small.
    fn leaf(token: Token<'_>, offset: usize) -> Result<Self, DecodeError> {
        Ok(match token {
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
            Token::Named { module, qualname } => Self::Named {
                module: module.to_owned(),
                qualname: qualname.to_owned(),
            },
            Token::Bytearray(value) => Self::Bytearray(value.to_vec()),
            Token::Mine { id, kind, class } => Self::Mine {
                slot: id.slot(),
                generation: id.generation(),
                kind,
                class: class.map(OwnedClass::from),
            },
            Token::Yours(id) => Self::Yours {
                slot: id.slot(),
                generation: id.generation(),
            },
            Token::Answer(question) => Self::Answer(question),
            container => return Self::container(container, Vec::new(), offset),
        })
    }

    fn container(token: Token<'_>, values: Vec<Self>, offset: usize) -> Result<Self, DecodeError> {
        let three = |values: Vec<Self>| {
            <Box<[Self; 3]>>::try_from(values.into_boxed_slice()).map_err(|_| not_a_value(offset))
        };
        Ok(match token {
            Token::Tuple(_) => Self::Tuple(values),
            Token::FrozenSet(_) => Self::FrozenSet(values),
            Token::Slice => Self::Slice(three(values)?),
            Token::Range => Self::Range(three(values)?),
            Token::Struct { kind, .. } => Self::Struct(kind, values),
            Token::List(_) => Self::List(values),
            Token::Set(_) => Self::Set(values),
            Token::Dict(_) => {
                let mut pairs = Vec::with_capacity(values.len() / 2);
                let mut values = values.into_iter();
                while let (Some(key), Some(value)) = (values.next(), values.next()) {
                    pairs.push((key, value));
                }
                Self::Dict(pairs)
            }
            _ => return Err(not_a_value(offset)),
        })
    }

    fn write(&self, out: &mut Encoder<'_>, depth: usize) -> Result<(), Error> {
        let values: &[Self] = match self {
            Self::Tuple(values)
            | Self::FrozenSet(values)
            | Self::Struct(_, values)
            | Self::List(values)
            | Self::Set(values) => values,
            Self::Slice(values) | Self::Range(values) => values.as_slice(),
            _ => &[],
        };
        self.write_head(out)?;
        for value in values {
            value.write(out, deeper(depth)?)?;
        }
        if let Self::Dict(pairs) = self {
            for (key, value) in pairs {
                key.write(out, deeper(depth)?)?;
                value.write(out, deeper(depth)?)?;
            }
        }
        Ok(())
    }

    /// A leaf, or a container without its elements.
    fn write_head(&self, out: &mut Encoder<'_>) -> Result<(), Error> {
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
            Self::Tuple(values) => out.tuple(values.len()),
            Self::FrozenSet(values) => out.frozenset(values.len()),
            Self::Slice(_) => out.slice(),
            Self::Range(_) => out.range(),
            Self::Named { module, qualname } => out.named(module, qualname),
            Self::Struct(kind, values) => out.r#struct(*kind, values.len()),
            Self::List(values) => out.list(values.len()),
            Self::Set(values) => out.set(values.len()),
            Self::Dict(pairs) => out.dict(pairs.len()),
            Self::Bytearray(value) => out.bytearray(value),
            Self::Mine {
                slot,
                generation,
                kind,
                class,
            } => {
                out.raw_mine(*slot, *generation, *kind);
                return Self::write_class(*kind, class.as_ref(), out);
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
}

impl From<IncomingClass<'_>> for OwnedClass {
    fn from(class: IncomingClass<'_>) -> Self {
        match class {
            ClassRef::Mine(id) => Self::Mine {
                slot: id.slot(),
                generation: id.generation(),
            },
            ClassRef::Yours(id) => Self::Yours {
                slot: id.slot(),
                generation: id.generation(),
            },
            ClassRef::Named { module, qualname } => Self::Named {
                module: module.to_owned(),
                qualname: qualname.to_owned(),
            },
        }
    }
}

const fn not_a_value(offset: usize) -> DecodeError {
    DecodeError {
        offset,
        kind: DecodeErrorKind::Expected("a value"),
    }
}

fn deeper(depth: usize) -> Result<usize, Error> {
    depth.checked_sub(1).ok_or(Error::LimitExceeded {
        what: Limit::Depth,
        limit: Limits::MAX_DEPTH,
    })
}
