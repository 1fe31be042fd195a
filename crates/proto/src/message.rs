//! The messages: what the body of a frame says before its payload.
//!
//! A body is one type byte, the fields, and for some types a payload that reaches to the end of
//! the body. This is the form on the wire, with bare numbers; [`crate::Session`] gives them meaning.

use crate::codec::varint;
use crate::error::{DecodeError, DecodeErrorKind};
use crate::{CloseCode, FetchKind, Op};

/// The version of the protocol that this crate speaks.
pub const VERSION: u16 = 1;

const HELLO: u8 = 1;
const CALL: u8 = 2;
const REPLY: u8 = 3;
const CANCEL: u8 = 4;
const RELEASE: u8 = 5;
const SHAPE: u8 = 6;
const FETCH: u8 = 7;
const PING: u8 = 8;
const CLOSE: u8 = 9;
const DEADLINE: u8 = 10;

/// What a request is addressed to, as numbers of the receiver (exports) or sender (answers).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(
    clippy::exhaustive_enums,
    reason = "a fourth kind would change the format"
)]
pub enum Target {
    /// The receiver itself: the names that it exports.
    Root,
    /// An object of the receiver.
    Export {
        /// Its slot.
        slot: u32,
        /// Its generation.
        generation: u32,
    },
    /// The result of an earlier question of the sender.
    Answer {
        /// That question.
        question: u32,
    },
}

/// Bits of a call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(
    clippy::exhaustive_structs,
    reason = "an open number is complete by nature"
)]
pub struct CallFlags(pub u8);

impl CallFlags {
    /// Nothing special.
    pub const NONE: Self = Self(0);
    /// The result is kept for later calls until the question is finished.
    pub const KEEP: Self = Self(1);
    /// Reserved: no reply is wanted.
    pub const ONEWAY: Self = Self(2);

    /// Whether [`KEEP`](Self::KEEP) is set.
    #[must_use]
    pub const fn keep(self) -> bool {
        self.0 & Self::KEEP.0 != 0
    }
}

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(clippy::exhaustive_enums, reason = "a request succeeds or fails")]
pub enum Outcome {
    /// The payload is the result.
    Value,
    /// The payload is the error.
    Error,
}

/// References given back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(clippy::exhaustive_structs, reason = "the entry of a wire format")]
pub struct ReleaseEntry {
    /// The slot in the receiver's table of exports.
    pub slot: u32,
    /// Its generation.
    pub generation: u32,
    /// How many references.
    pub count: u64,
}

/// One message.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "docs/protocol.md describes the fields")]
#[non_exhaustive]
pub enum Message<'a> {
    /// The first message of each side.
    Hello {
        version: u16,
        agent: &'a str,
        nonce: u64,
    },
    /// Perform an operation.
    Call {
        question: u32,
        thread: u64,
        /// The question of the receiver in whose execution this call is made.
        parent: Option<u32>,
        target: Target,
        op: Op,
        flags: CallFlags,
        payload: &'a [u8],
    },
    /// The end of a request.
    Reply {
        question: u32,
        outcome: Outcome,
        payload: &'a [u8],
    },
    /// The sender no longer wants the reply, which comes nevertheless.
    Cancel { question: u32 },
    /// References and kept answers given back.
    Release {
        entries: Vec<ReleaseEntry>,
        finished: Vec<u32>,
    },
    /// The shape of a class of the sender.
    Shape {
        slot: u32,
        generation: u32,
        payload: &'a [u8],
    },
    /// Hand over something about an object without an operation on it.
    Fetch {
        question: u32,
        thread: u64,
        parent: Option<u32>,
        target: Target,
        what: FetchKind,
        payload: &'a [u8],
    },
    /// A sign of life, or the answer to one.
    Ping { token: u64, pong: bool },
    /// The last message of each side.
    Close { code: CloseCode, reason: &'a str },
    /// How long the sender waits for the reply to its request of this number, which comes next.
    Deadline { question: u32, milliseconds: u64 },
}

impl<'a> Message<'a> {
    /// Appends the message as the body of a frame.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Hello {
                version,
                agent,
                nonce,
            } => {
                out.push(HELLO);
                out.extend_from_slice(&version.to_le_bytes());
                out.extend_from_slice(&nonce.to_le_bytes());
                put_str(out, agent);
            }
            Self::Call {
                question,
                thread,
                parent,
                target,
                op,
                flags,
                payload,
            } => {
                out.push(CALL);
                put_request(out, *question, *thread, *parent, *target);
                out.extend_from_slice(&[op.0, flags.0]);
                out.extend_from_slice(payload);
            }
            Self::Reply {
                question,
                outcome,
                payload,
            } => {
                out.push(REPLY);
                varint::put(out, u64::from(*question));
                out.push(match outcome {
                    Outcome::Value => 0,
                    Outcome::Error => 1,
                });
                out.extend_from_slice(payload);
            }
            Self::Cancel { question } => {
                out.push(CANCEL);
                varint::put(out, u64::from(*question));
            }
            Self::Release { entries, finished } => {
                out.push(RELEASE);
                put_count(out, entries.len());
                for entry in entries {
                    varint::put(out, u64::from(entry.slot));
                    varint::put(out, u64::from(entry.generation));
                    varint::put(out, entry.count);
                }
                put_count(out, finished.len());
                for question in finished {
                    varint::put(out, u64::from(*question));
                }
            }
            Self::Shape {
                slot,
                generation,
                payload,
            } => {
                out.push(SHAPE);
                varint::put(out, u64::from(*slot));
                varint::put(out, u64::from(*generation));
                out.extend_from_slice(payload);
            }
            Self::Fetch {
                question,
                thread,
                parent,
                target,
                what,
                payload,
            } => {
                out.push(FETCH);
                put_request(out, *question, *thread, *parent, *target);
                out.push(what.0);
                out.extend_from_slice(payload);
            }
            Self::Ping { token, pong } => {
                out.push(PING);
                out.push(u8::from(*pong));
                out.extend_from_slice(&token.to_le_bytes());
            }
            Self::Close { code, reason } => {
                out.push(CLOSE);
                out.push(code.0);
                put_str(out, reason);
            }
            Self::Deadline {
                question,
                milliseconds,
            } => {
                out.push(DEADLINE);
                varint::put(out, u64::from(*question));
                varint::put(out, *milliseconds);
            }
        }
    }

    /// Reads the body of a frame.
    ///
    /// # Errors
    /// The bytes are not a message.
    pub fn decode(body: &'a [u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader { rest: body };
        reader.message().map_err(|kind| DecodeError {
            offset: body.len() - reader.rest.len(),
            kind,
        })
    }
}

fn put_count(out: &mut Vec<u8>, count: usize) {
    varint::put(out, u64::try_from(count).unwrap_or(u64::MAX));
}

fn put_str(out: &mut Vec<u8>, text: &str) {
    put_count(out, text.len());
    out.extend_from_slice(text.as_bytes());
}

fn put_request(out: &mut Vec<u8>, question: u32, thread: u64, parent: Option<u32>, target: Target) {
    varint::put(out, u64::from(question));
    varint::put(out, thread);
    varint::put(out, parent.map_or(0, |parent| u64::from(parent) + 1));
    match target {
        Target::Root => out.push(0),
        Target::Export { slot, generation } => {
            out.push(1);
            varint::put(out, u64::from(slot));
            varint::put(out, u64::from(generation));
        }
        Target::Answer { question } => {
            out.push(2);
            varint::put(out, u64::from(question));
        }
    }
}

struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    fn message(&mut self) -> Result<Message<'a>, DecodeErrorKind> {
        let message = match self.byte()? {
            HELLO => Message::Hello {
                version: u16::from_le_bytes(self.array()?),
                nonce: u64::from_le_bytes(self.array()?),
                agent: self.str()?,
            },
            CALL => {
                let (question, thread, parent, target) = self.request()?;
                Message::Call {
                    question,
                    thread,
                    parent,
                    target,
                    op: Op(self.byte()?),
                    flags: CallFlags(self.byte()?),
                    payload: self.payload(),
                }
            }
            REPLY => Message::Reply {
                question: self.u32()?,
                outcome: match self.byte()? {
                    0 => Outcome::Value,
                    1 => Outcome::Error,
                    unknown => return Err(DecodeErrorKind::UnknownCode(unknown)),
                },
                payload: self.payload(),
            },
            CANCEL => Message::Cancel {
                question: self.u32()?,
            },
            RELEASE => {
                let count = self.count(3)?;
                let mut entries = Vec::with_capacity(count);
                for _ in 0..count {
                    entries.push(ReleaseEntry {
                        slot: self.u32()?,
                        generation: self.u32()?,
                        count: varint::take(&mut self.rest)?,
                    });
                }
                let count = self.count(1)?;
                let mut finished = Vec::with_capacity(count);
                for _ in 0..count {
                    finished.push(self.u32()?);
                }
                Message::Release { entries, finished }
            }
            SHAPE => Message::Shape {
                slot: self.u32()?,
                generation: self.u32()?,
                payload: self.payload(),
            },
            FETCH => {
                let (question, thread, parent, target) = self.request()?;
                Message::Fetch {
                    question,
                    thread,
                    parent,
                    target,
                    what: FetchKind(self.byte()?),
                    payload: self.payload(),
                }
            }
            PING => Message::Ping {
                pong: match self.byte()? {
                    0 => false,
                    1 => true,
                    unknown => return Err(DecodeErrorKind::UnknownCode(unknown)),
                },
                token: u64::from_le_bytes(self.array()?),
            },
            CLOSE => Message::Close {
                code: CloseCode(self.byte()?),
                reason: self.str()?,
            },
            DEADLINE => Message::Deadline {
                question: self.u32()?,
                milliseconds: varint::take(&mut self.rest)?,
            },
            unknown => return Err(DecodeErrorKind::UnknownMessage(unknown)),
        };
        if self.rest.is_empty() {
            Ok(message)
        } else {
            Err(DecodeErrorKind::TrailingBytes)
        }
    }

    fn request(&mut self) -> Result<(u32, u64, Option<u32>, Target), DecodeErrorKind> {
        let question = self.u32()?;
        let thread = varint::take(&mut self.rest)?;
        let parent = match varint::take(&mut self.rest)? {
            0 => None,
            number => Some(u32::try_from(number - 1).map_err(|_| DecodeErrorKind::InvalidVarint)?),
        };
        let target = match self.byte()? {
            0 => Target::Root,
            1 => Target::Export {
                slot: self.u32()?,
                generation: self.u32()?,
            },
            2 => Target::Answer {
                question: self.u32()?,
            },
            unknown => return Err(DecodeErrorKind::UnknownCode(unknown)),
        };
        Ok((question, thread, parent, target))
    }

    fn payload(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.rest)
    }

    fn byte(&mut self) -> Result<u8, DecodeErrorKind> {
        let (&byte, rest) = self
            .rest
            .split_first()
            .ok_or(DecodeErrorKind::UnexpectedEnd)?;
        self.rest = rest;
        Ok(byte)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeErrorKind> {
        let (bytes, rest) = self
            .rest
            .split_first_chunk()
            .ok_or(DecodeErrorKind::UnexpectedEnd)?;
        self.rest = rest;
        Ok(*bytes)
    }

    fn u32(&mut self) -> Result<u32, DecodeErrorKind> {
        u32::try_from(varint::take(&mut self.rest)?).map_err(|_| DecodeErrorKind::InvalidVarint)
    }

    /// A count of things of which each takes at least `width` bytes.
    fn count(&mut self, width: usize) -> Result<usize, DecodeErrorKind> {
        let count = usize::try_from(varint::take(&mut self.rest)?)
            .map_err(|_| DecodeErrorKind::CountExceedsInput)?;
        if count.saturating_mul(width) > self.rest.len() {
            return Err(DecodeErrorKind::CountExceedsInput);
        }
        Ok(count)
    }

    fn str(&mut self) -> Result<&'a str, DecodeErrorKind> {
        let len = usize::try_from(varint::take(&mut self.rest)?)
            .map_err(|_| DecodeErrorKind::UnexpectedEnd)?;
        let (bytes, rest) = self
            .rest
            .split_at_checked(len)
            .ok_or(DecodeErrorKind::UnexpectedEnd)?;
        self.rest = rest;
        std::str::from_utf8(bytes).map_err(|_| DecodeErrorKind::InvalidUtf8)
    }
}
