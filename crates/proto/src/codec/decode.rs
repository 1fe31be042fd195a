//! Bytes into tokens, checked as they come: nothing is allocated for what is only announced.

use super::{ClassRef, IncomingClass, Token, tag, varint};
use crate::error::{DecodeError, DecodeErrorKind, Limit};
use crate::{ExportId, ImportId, Kind, Limits, StructKind};

/// Reads the tokens of one payload, in order.
#[derive(Clone, Debug)]
pub struct Decoder<'a> {
    rest: &'a [u8],
    /// The length of the whole input, for offsets.
    total: usize,
    depth: usize,
    container_len: usize,
    /// How many tokens each open container still waits for, outermost first.
    open: Vec<usize>,
}

impl<'a> Decoder<'a> {
    /// Reads `bytes`, which is a payload or a part of one that starts at a token.
    #[must_use]
    pub fn new(bytes: &'a [u8], limits: &Limits) -> Self {
        Self {
            rest: bytes,
            total: bytes.len(),
            depth: limits.depth.min(Limits::MAX_DEPTH),
            container_len: limits.container_len,
            open: Vec::new(),
        }
    }

    /// How far it has read.
    #[must_use]
    pub const fn offset(&self) -> usize {
        self.total - self.rest.len()
    }

    /// Whether everything is read.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// The next token.
    ///
    /// # Errors
    /// The bytes are not a token, or one that the limits do not allow.
    #[inline]
    pub fn token(&mut self) -> Result<Token<'a>, DecodeError> {
        let start = self.offset();
        let token = self.read().map_err(|kind| DecodeError {
            offset: start,
            kind,
        })?;
        self.account(&token).map_err(|kind| DecodeError {
            offset: start,
            kind,
        })?;
        Ok(token)
    }

    /// The head of the arguments of a call: how many positional values follow, and how many
    /// pairs of name and value after them.
    ///
    /// # Errors
    /// Something else comes next.
    pub fn arguments(&mut self) -> Result<(usize, usize), DecodeError> {
        let offset = self.offset();
        match self.token()? {
            Token::Arguments {
                positional,
                keywords,
            } => Ok((positional, keywords)),
            _ => Err(DecodeError {
                offset,
                kind: DecodeErrorKind::Expected("arguments"),
            }),
        }
    }

    /// The name of a keyword argument, or any other string without lone surrogates.
    ///
    /// # Errors
    /// Something else comes next.
    pub fn str(&mut self) -> Result<&'a str, DecodeError> {
        let offset = self.offset();
        match self.token()? {
            Token::Str(name) => Ok(name),
            _ => Err(DecodeError {
                offset,
                kind: DecodeErrorKind::Expected("a string"),
            }),
        }
    }

    /// Skips one whole value, with everything in it.
    ///
    /// # Errors
    /// As of [`token`](Self::token).
    pub fn skip(&mut self) -> Result<(), DecodeError> {
        let mut left = 1usize;
        while left > 0 {
            let token = self.token()?;
            left = (left - 1).saturating_add(token.children());
        }
        Ok(())
    }

    /// Checks that the payload ends here.
    ///
    /// # Errors
    /// It does not, or a container is not complete.
    pub fn finish(&self) -> Result<(), DecodeError> {
        let kind = if !self.rest.is_empty() {
            DecodeErrorKind::TrailingBytes
        } else if !self.open.is_empty() {
            DecodeErrorKind::UnexpectedEnd
        } else {
            return Ok(());
        };
        Err(DecodeError {
            offset: self.offset(),
            kind,
        })
    }

    #[inline]
    fn read(&mut self) -> Result<Token<'a>, DecodeErrorKind> {
        let byte = self.byte()?;
        Ok(match byte {
            tag::SHORT_STR.. => Token::Str(self.utf8_of(usize::from(byte & 0x3f))?),
            tag::SMALL_INT.. => Token::Int(i64::from(byte & 0x3f)),
            tag::NONE => Token::None,
            tag::TRUE => Token::Bool(true),
            tag::FALSE => Token::Bool(false),
            tag::ELLIPSIS => Token::Ellipsis,
            tag::NOT_IMPLEMENTED => Token::NotImplemented,
            tag::INT => Token::Int(varint::unzigzag(self.varint()?)),
            tag::BIG_POSITIVE => self.bigint(false)?,
            tag::BIG_NEGATIVE => self.bigint(true)?,
            tag::FLOAT => Token::Float(self.f64()?),
            tag::COMPLEX => Token::Complex(self.f64()?, self.f64()?),
            tag::STR => Token::Str(self.utf8()?),
            tag::SURROGATE_STR => Token::SurrogateStr(self.sized()?),
            tag::BYTES => Token::Bytes(self.sized()?),
            tag::ATTACHMENT => Token::Attachment(self.u32()?),
            tag::TUPLE => Token::Tuple(self.count(1)?),
            tag::FROZENSET => Token::FrozenSet(self.count(1)?),
            tag::SLICE => Token::Slice,
            tag::RANGE => Token::Range,
            tag::NAMED => Token::Named {
                module: self.utf8()?,
                qualname: self.utf8()?,
            },
            tag::STRUCT => Token::Struct {
                kind: StructKind(self.byte()?),
                len: self.count(1)?,
            },
            tag::ARGUMENTS => Token::Arguments {
                positional: self.count(1)?,
                keywords: self.count(2)?,
            },
            tag::LIST => Token::List(self.count(1)?),
            tag::SET => Token::Set(self.count(1)?),
            tag::DICT => Token::Dict(self.count(2)?),
            tag::BYTEARRAY => Token::Bytearray(self.sized()?),
            tag::MINE => self.mine()?,
            tag::YOURS => Token::Yours(ExportId::new(self.u32()?, self.u32()?)),
            tag::ANSWER => Token::Answer(self.u32()?),
            unknown => return Err(DecodeErrorKind::UnknownTag(unknown)),
        })
    }

    fn bigint(&mut self, negative: bool) -> Result<Token<'a>, DecodeErrorKind> {
        Ok(Token::BigInt {
            negative,
            magnitude: self.sized()?,
        })
    }

    fn mine(&mut self) -> Result<Token<'a>, DecodeErrorKind> {
        let id = ImportId::new(self.u32()?, self.u32()?);
        let kind = Kind(self.byte()?);
        let class = if kind.has_class() {
            Some(self.class()?)
        } else if kind.has_name() {
            Some(self.class_name()?)
        } else {
            None
        };
        Ok(Token::Mine { id, kind, class })
    }

    fn class(&mut self) -> Result<IncomingClass<'a>, DecodeErrorKind> {
        match self.byte()? {
            tag::CLASS_MINE => Ok(ClassRef::Mine(ImportId::new(self.u32()?, self.u32()?))),
            tag::CLASS_YOURS => Ok(ClassRef::Yours(ExportId::new(self.u32()?, self.u32()?))),
            tag::CLASS_NAMED => self.class_name(),
            unknown => Err(DecodeErrorKind::UnknownCode(unknown)),
        }
    }

    fn class_name(&mut self) -> Result<IncomingClass<'a>, DecodeErrorKind> {
        Ok(ClassRef::Named {
            module: self.utf8()?,
            qualname: self.utf8()?,
        })
    }

    /// Keeps track of the open containers.
    #[inline]
    fn account(&mut self, token: &Token<'_>) -> Result<(), DecodeErrorKind> {
        let children = token.children();
        if let Some(waiting) = self.open.last_mut() {
            *waiting = waiting.saturating_sub(1);
        } else if children == 0 {
            return Ok(());
        }
        if let Token::Arguments { .. } = token {
            // The arguments of a call are no container: they stand alone, and add no depth.
            if !self.open.is_empty() {
                return Err(DecodeErrorKind::Expected("a value"));
            }
        } else if children > 0 {
            if self.open.len() >= self.depth {
                return Err(DecodeErrorKind::LimitExceeded {
                    what: Limit::Depth,
                    limit: self.depth,
                });
            }
            self.open.push(children);
        } else {
            while self.open.last() == Some(&0) {
                self.open.pop();
            }
        }
        Ok(())
    }

    #[inline]
    fn byte(&mut self) -> Result<u8, DecodeErrorKind> {
        let (&byte, rest) = self
            .rest
            .split_first()
            .ok_or(DecodeErrorKind::UnexpectedEnd)?;
        self.rest = rest;
        Ok(byte)
    }

    #[inline]
    fn varint(&mut self) -> Result<u64, DecodeErrorKind> {
        varint::take(&mut self.rest)
    }

    fn u32(&mut self) -> Result<u32, DecodeErrorKind> {
        u32::try_from(self.varint()?).map_err(|_| DecodeErrorKind::InvalidVarint)
    }

    fn f64(&mut self) -> Result<f64, DecodeErrorKind> {
        let (bytes, rest) = self
            .rest
            .split_first_chunk()
            .ok_or(DecodeErrorKind::UnexpectedEnd)?;
        self.rest = rest;
        Ok(f64::from_le_bytes(*bytes))
    }

    /// A count of elements of which each takes at least `width` bytes.
    #[inline]
    fn count(&mut self, width: usize) -> Result<usize, DecodeErrorKind> {
        let count =
            usize::try_from(self.varint()?).map_err(|_| DecodeErrorKind::CountExceedsInput)?;
        if count > self.container_len {
            return Err(DecodeErrorKind::LimitExceeded {
                what: Limit::ContainerLen,
                limit: self.container_len,
            });
        }
        if count.saturating_mul(width) > self.rest.len() {
            return Err(DecodeErrorKind::CountExceedsInput);
        }
        Ok(count)
    }

    #[inline]
    fn take(&mut self, len: usize) -> Result<&'a [u8], DecodeErrorKind> {
        let (taken, rest) = self
            .rest
            .split_at_checked(len)
            .ok_or(DecodeErrorKind::UnexpectedEnd)?;
        self.rest = rest;
        Ok(taken)
    }

    fn sized(&mut self) -> Result<&'a [u8], DecodeErrorKind> {
        let len = usize::try_from(self.varint()?).map_err(|_| DecodeErrorKind::UnexpectedEnd)?;
        self.take(len)
    }

    #[inline]
    fn utf8_of(&mut self, len: usize) -> Result<&'a str, DecodeErrorKind> {
        std::str::from_utf8(self.take(len)?).map_err(|_| DecodeErrorKind::InvalidUtf8)
    }

    fn utf8(&mut self) -> Result<&'a str, DecodeErrorKind> {
        std::str::from_utf8(self.sized()?).map_err(|_| DecodeErrorKind::InvalidUtf8)
    }
}
