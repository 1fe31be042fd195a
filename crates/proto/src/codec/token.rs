//! What a [`crate::Decoder`] yields: one value, or the head of a container.

use crate::{ExportId, ImportId, Kind, StructKind};

/// The class of an instance that is sent by reference; "mine" and "yours" are the sender's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(
    clippy::exhaustive_enums,
    reason = "a fourth kind would change the format"
)]
pub enum ClassRef<'a, Mine, Yours> {
    /// A class of the sender. It is not counted: the sender keeps it until the session ends.
    Mine(Mine),
    /// A class of the receiver.
    Yours(Yours),
    /// A builtin class.
    Named {
        /// Its module.
        module: &'a str,
        /// Its qualified name.
        qualname: &'a str,
    },
}

/// A class as it is sent.
pub type OutgoingClass<'a> = ClassRef<'a, ExportId, ImportId>;

/// A class as it is received.
pub type IncomingClass<'a> = ClassRef<'a, ImportId, ExportId>;

/// One value, or the head of a container whose elements are the next tokens.
#[derive(Clone, Copy, Debug, PartialEq)]
#[allow(
    missing_docs,
    reason = "named after the Python types; `tag` documents each"
)]
#[non_exhaustive]
pub enum Token<'a> {
    None,
    Bool(bool),
    Ellipsis,
    NotImplemented,
    Int(i64),
    /// An integer beyond 64 bits (or any: the sender chooses); the magnitude is little-endian.
    BigInt {
        negative: bool,
        magnitude: &'a [u8],
    },
    Float(f64),
    Complex(f64, f64),
    Str(&'a str),
    /// Bytes that the host must check: UTF-8 plus encoded surrogates (`surrogatepass`).
    SurrogateStr(&'a [u8]),
    Bytes(&'a [u8]),
    /// The bytes are in the attachment of this index.
    Attachment(u32),
    Tuple(usize),
    FrozenSet(usize),
    /// Three values follow.
    Slice,
    /// Three values follow.
    Range,
    Named {
        module: &'a str,
        qualname: &'a str,
    },
    Struct {
        kind: StructKind,
        len: usize,
    },
    /// `positional` values follow, then `keywords` times a name and a value.
    Arguments {
        positional: usize,
        keywords: usize,
    },
    List(usize),
    Set(usize),
    /// So many keys and values follow, alternating.
    Dict(usize),
    Bytearray(&'a [u8]),
    /// An object of the peer: count it with [`crate::Session::import`].
    Mine {
        id: ImportId,
        kind: Kind,
        /// For an instance its class, for a kind with a name that name.
        class: Option<IncomingClass<'a>>,
    },
    /// An object of this side that comes home.
    Yours(ExportId),
    /// The result of an earlier question of the peer.
    Answer(u32),
}

impl Token<'_> {
    /// How many values follow that belong to this one.
    #[must_use]
    pub const fn children(&self) -> usize {
        match *self {
            Self::Tuple(n) | Self::FrozenSet(n) | Self::List(n) | Self::Set(n) => n,
            Self::Struct { len, .. } => len,
            Self::Dict(n) => n.saturating_mul(2),
            Self::Slice | Self::Range => 3,
            Self::Arguments {
                positional,
                keywords,
            } => positional.saturating_add(keywords.saturating_mul(2)),
            _ => 0,
        }
    }
}
