//! Values into bytes. The caller writes the head of a container, then its elements.
//!
//! Nothing is checked here: a host that writes fewer elements than it announced sends a message
//! that its peer refuses.

use super::{ClassRef, OutgoingClass, tag, varint};
use crate::{ExportId, ImportId, Kind, QuestionId, StructKind};

/// Appends values to a buffer.
#[derive(Debug)]
pub struct Encoder<'a> {
    out: &'a mut Vec<u8>,
}

impl<'a> Encoder<'a> {
    /// Appends to `out`, often the body of a [`crate::Payload`].
    #[inline]
    pub const fn new(out: &'a mut Vec<u8>) -> Self {
        Self { out }
    }

    /// How many bytes there are in the buffer: a place to [`truncate`](Self::truncate) to.
    #[must_use]
    pub const fn position(&self) -> usize {
        self.out.len()
    }

    /// Takes back everything written after `position`.
    pub fn truncate(&mut self, position: usize) {
        self.out.truncate(position);
    }

    /// `None`.
    #[inline]
    pub fn none(&mut self) {
        self.out.push(tag::NONE);
    }

    /// `True` or `False`.
    #[inline]
    pub fn bool(&mut self, value: bool) {
        self.out.push(if value { tag::TRUE } else { tag::FALSE });
    }

    /// `Ellipsis`.
    pub fn ellipsis(&mut self) {
        self.out.push(tag::ELLIPSIS);
    }

    /// `NotImplemented`.
    pub fn not_implemented(&mut self) {
        self.out.push(tag::NOT_IMPLEMENTED);
    }

    /// An `int` of 64 bits.
    #[inline]
    pub fn int(&mut self, value: i64) {
        match u8::try_from(value) {
            Ok(small) if small < 64 => self.out.push(tag::SMALL_INT | small),
            _ => {
                self.out.push(tag::INT);
                varint::put(self.out, varint::zigzag(value));
            }
        }
    }

    /// An `int` of any size; `magnitude` is little-endian.
    pub fn bigint(&mut self, negative: bool, magnitude: &[u8]) {
        self.out.push(if negative {
            tag::BIG_NEGATIVE
        } else {
            tag::BIG_POSITIVE
        });
        self.sized(magnitude);
    }

    /// A `float`.
    pub fn float(&mut self, value: f64) {
        self.out.push(tag::FLOAT);
        self.out.extend_from_slice(&value.to_le_bytes());
    }

    /// A `complex`.
    pub fn complex(&mut self, real: f64, imaginary: f64) {
        self.out.push(tag::COMPLEX);
        self.out.extend_from_slice(&real.to_le_bytes());
        self.out.extend_from_slice(&imaginary.to_le_bytes());
    }

    /// A `str` without lone surrogates.
    #[inline]
    pub fn str(&mut self, value: &str) {
        match u8::try_from(value.len()) {
            Ok(short) if short < 64 => {
                self.out.push(tag::SHORT_STR | short);
                self.out.extend_from_slice(value.as_bytes());
            }
            _ => {
                self.out.push(tag::STR);
                self.sized(value.as_bytes());
            }
        }
    }

    /// A `str` with lone surrogates, as Python's `encode("utf-8", "surrogatepass")` gives it.
    pub fn surrogate_str(&mut self, encoded: &[u8]) {
        self.out.push(tag::SURROGATE_STR);
        self.sized(encoded);
    }

    /// A `bytes`.
    pub fn bytes(&mut self, value: &[u8]) {
        self.out.push(tag::BYTES);
        self.sized(value);
    }

    /// A `bytes` that travels as the attachment of this index.
    pub fn attachment(&mut self, index: u32) {
        self.out.push(tag::ATTACHMENT);
        varint::put(self.out, u64::from(index));
    }

    /// A `tuple` of the next `len` values.
    #[inline]
    pub fn tuple(&mut self, len: usize) {
        self.head(tag::TUPLE, len);
    }

    /// A `frozenset` of the next `len` values.
    pub fn frozenset(&mut self, len: usize) {
        self.head(tag::FROZENSET, len);
    }

    /// A `slice` of the next three values.
    pub fn slice(&mut self) {
        self.out.push(tag::SLICE);
    }

    /// A `range` of the next three values.
    pub fn range(&mut self) {
        self.out.push(tag::RANGE);
    }

    /// A builtin by its name.
    pub fn named(&mut self, module: &str, qualname: &str) {
        self.out.push(tag::NAMED);
        self.sized(module.as_bytes());
        self.sized(qualname.as_bytes());
    }

    /// A library value whose arguments are the next `len` values.
    pub fn r#struct(&mut self, kind: StructKind, len: usize) {
        self.out.push(tag::STRUCT);
        self.out.push(kind.0);
        self.count(len);
    }

    /// The arguments of a call: the next `positional` values, then `keywords` times a name (as
    /// [`str`](Self::str)) and a value.
    #[inline]
    pub fn arguments(&mut self, positional: usize, keywords: usize) {
        self.out.push(tag::ARGUMENTS);
        self.count(positional);
        self.count(keywords);
    }

    /// A snapshot of a `list` of the next `len` values.
    pub fn list(&mut self, len: usize) {
        self.head(tag::LIST, len);
    }

    /// A snapshot of a `set` of the next `len` values.
    pub fn set(&mut self, len: usize) {
        self.head(tag::SET, len);
    }

    /// A snapshot of a `dict` of the next `len` keys and values, alternating.
    pub fn dict(&mut self, len: usize) {
        self.head(tag::DICT, len);
    }

    /// A snapshot of a `bytearray`.
    pub fn bytearray(&mut self, value: &[u8]) {
        self.out.push(tag::BYTEARRAY);
        self.sized(value);
    }

    /// An object of this side whose kind says all. Counted: `id` comes from
    /// [`crate::Session::export`], one call for each time it is written.
    #[inline]
    pub fn mine(&mut self, id: ExportId, kind: Kind) {
        debug_assert!(!kind.has_class() && !kind.has_name(), "{kind:?} needs more");
        self.mine_head(id, kind);
    }

    /// An instance of a user's class. A class of this side must be pinned, and its shape sent.
    pub fn instance(&mut self, id: ExportId, class: OutgoingClass<'_>) {
        self.mine_head(id, Kind::INSTANCE);
        match class {
            ClassRef::Mine(class) => {
                self.out.push(tag::CLASS_MINE);
                self.pair(class.slot(), class.generation());
            }
            ClassRef::Yours(class) => {
                self.out.push(tag::CLASS_YOURS);
                self.pair(class.slot(), class.generation());
            }
            ClassRef::Named { module, qualname } => {
                self.out.push(tag::CLASS_NAMED);
                self.sized(module.as_bytes());
                self.sized(qualname.as_bytes());
            }
        }
    }

    /// An object of this side of a builtin type that has no kind of its own.
    pub fn other_builtin(&mut self, id: ExportId, module: &str, qualname: &str) {
        self.mine_head(id, Kind::OTHER_BUILTIN);
        self.sized(module.as_bytes());
        self.sized(qualname.as_bytes());
    }

    /// An object of the peer. Keep its proxy alive until the message is queued.
    #[inline]
    pub fn yours(&mut self, id: ImportId) {
        self.out.push(tag::YOURS);
        self.pair(id.slot(), id.generation());
    }

    /// The result of an earlier question whose answer is kept.
    pub fn answer(&mut self, question: QuestionId) {
        self.out.push(tag::ANSWER);
        varint::put(self.out, u64::from(question.number()));
    }

    fn mine_head(&mut self, id: ExportId, kind: Kind) {
        self.raw_mine(id.slot(), id.generation(), kind);
    }

    pub(super) fn raw_mine(&mut self, slot: u32, generation: u32, kind: Kind) {
        self.out.push(tag::MINE);
        self.pair(slot, generation);
        self.out.push(kind.0);
    }

    pub(super) fn raw_byte(&mut self, byte: u8) {
        self.out.push(byte);
    }

    pub(super) fn raw_tag(&mut self, tag: u8, slot: u32, generation: u32) {
        self.out.push(tag);
        self.pair(slot, generation);
    }

    pub(super) fn raw_answer(&mut self, question: u32) {
        self.out.push(tag::ANSWER);
        varint::put(self.out, u64::from(question));
    }

    fn pair(&mut self, slot: u32, generation: u32) {
        varint::put(self.out, u64::from(slot));
        varint::put(self.out, u64::from(generation));
    }

    #[inline]
    fn head(&mut self, tag: u8, len: usize) {
        self.out.push(tag);
        self.count(len);
    }

    #[inline]
    fn count(&mut self, len: usize) {
        // A usize has at most 64 bits on every platform of Rust.
        varint::put(self.out, u64::try_from(len).unwrap_or(u64::MAX));
    }

    pub(super) fn sized(&mut self, bytes: &[u8]) {
        self.count(bytes.len());
        self.out.extend_from_slice(bytes);
    }
}
