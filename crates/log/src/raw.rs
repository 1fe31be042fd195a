//! What a recorder hands to the writer: a stream of 64-bit words, made to be cheap to append to.
//!
//! Each record begins with a word whose lowest byte is its kind. The stream is in the order in which
//! things happened, of all threads together (the recorder holds the interpreter's lock); a
//! [`THREAD`] record says whose operations follow. An [`END`] belongs to the innermost operation of
//! its thread that has not ended. Everything is defined before it is used: an object by [`OBJECT`],
//! anything else by [`TABLE`].

use crate::bytes::zigzag;
use crate::tables::Row;
use crate::{Kind, Status, Value};

/// An operation begins: number of values << 8, site << 32; then its operands.
pub const OPERATION: u64 = 1;
/// An operation ends: status << 8; then its result or exception, if the status has one.
pub const END: u64 = 2;
/// An object is seen for the first time: payload kind << 8, flags << 16, length of the payload << 32;
/// then its serial, the serial of its type (zero for a type of itself), and the payload.
pub const OBJECT: u64 = 3;
/// An object is gone: serial << 8.
pub const DEATH: u64 = 4;
/// The following is of another thread: index << 8.
pub const THREAD: u64 = 5;
/// The following, of this thread, is of another asyncio task: serial << 8, or zero for none.
pub const TASK: u64 = 6;
/// A reading of the clock: nanoseconds since the start << 8. Holds until the next one.
pub const TIME: u64 = 7;
/// A row of a table: length << 32; then its bytes.
pub const TABLE: u64 = 8;

/// The flag of an [`OBJECT`] whose payload is only its beginning.
pub const TRUNCATED: u64 = 1 << 16;
/// The smallest and the largest number that is no [`OBJECT`].
pub const INTS: std::ops::RangeInclusive<i64> = -(1 << 60)..=(1 << 60) - 1;

const TAG_OBJECT: u64 = 0;
const TAG_INT: u64 = 1;
const TAG_SPECIAL: u64 = 2;
const TAG_FLOAT: u64 = 3;
/// The largest number of a special value.
const SPECIAL_MAX: u64 = word::UNKNOWN >> 3;

/// Words of values that are the same each time.
pub mod word {
    /// An argument that is not there.
    pub const ABSENT: u64 = super::TAG_SPECIAL;
    /// `None`
    pub const NONE: u64 = super::TAG_SPECIAL | 1 << 3;
    /// `True`
    pub const TRUE: u64 = super::TAG_SPECIAL | 2 << 3;
    /// `False`
    pub const FALSE: u64 = super::TAG_SPECIAL | 3 << 3;
    /// `...`
    pub const ELLIPSIS: u64 = super::TAG_SPECIAL | 4 << 3;
    /// `NotImplemented`
    pub const NOT_IMPLEMENTED: u64 = super::TAG_SPECIAL | 5 << 3;
    /// Something that is not known.
    pub const UNKNOWN: u64 = super::TAG_SPECIAL | 6 << 3;
    /// A float, whose bits are the next word.
    pub const FLOAT: u64 = super::TAG_FLOAT;

    /// An object.
    #[inline]
    pub const fn object(serial: u64) -> u64 {
        serial << 3 | super::TAG_OBJECT
    }

    /// A number in [`INTS`](super::INTS).
    #[inline]
    pub const fn int(number: i64) -> u64 {
        (number << 3) as u64 | super::TAG_INT
    }
}

/// Appends a value.
pub fn push_value(words: &mut Vec<u64>, value: Value) {
    match value {
        Value::Int(number) => words.push(word::int(number)),
        Value::Float(number) => words.extend([word::FLOAT, number.to_bits()]),
        Value::Object(serial) => words.push(word::object(serial)),
        other => words.push(other.special().unwrap_or(6) << 3 | TAG_SPECIAL),
    }
}

/// Appends the beginning of an operation.
pub fn push_operation(words: &mut Vec<u64>, site: u32, operands: &[Value]) {
    words.push(OPERATION | (operands.len() as u64) << 8 | u64::from(site) << 32);
    for &operand in operands {
        push_value(words, operand);
    }
}

/// Appends the end of an operation.
pub fn push_end(words: &mut Vec<u64>, status: Status, value: Option<Value>) {
    words.push(END | (status as u64) << 8);
    if status.has_value() {
        push_value(words, value.unwrap_or(Value::Unknown));
    }
}

/// Appends the definition of an object.
pub fn push_object(
    words: &mut Vec<u64>,
    serial: u64,
    class: u64,
    payload: u8,
    flags: u64,
    bytes: &[u8],
) {
    words.extend([
        OBJECT | u64::from(payload) << 8 | flags | (bytes.len() as u64) << 32,
        serial,
        class,
    ]);
    push_bytes(words, bytes);
}

/// Appends a row of a table.
pub fn push_row(words: &mut Vec<u64>, row: &Row<'_>) {
    let bytes = row.to_bytes();
    words.push(TABLE | (bytes.len() as u64) << 32);
    push_bytes(words, &bytes);
}

fn push_bytes(words: &mut Vec<u64>, bytes: &[u8]) {
    words.extend(bytes.chunks(8).map(|chunk| {
        let mut word = [0; 8];
        word[..chunk.len()].copy_from_slice(chunk);
        u64::from_le_bytes(word)
    }));
}

/// A position in a stream of words.
pub(crate) struct Words<'a> {
    words: &'a [u64],
}

/// A word of a value, as it stands in a log: the number, the serial or zero if it is no object, and
/// whether the bits of a float follow. `None`: it is no value.
#[inline]
pub(crate) fn logged(word: u64) -> Option<(u64, u64, bool)> {
    let (tag, rest) = (word & 7, word >> 3);
    // Which of them it is cannot be foreseen: nothing common depends on it.
    let number = if tag == TAG_INT {
        zigzag(word as i64 >> 3) << 2 | TAG_INT
    } else {
        rest << 2 | tag
    };
    let serial = if tag == TAG_OBJECT { rest } else { 0 };
    let wrong = tag > TAG_FLOAT
        || tag == TAG_SPECIAL && rest > SPECIAL_MAX
        || tag == TAG_FLOAT && rest != 0;
    (!wrong).then_some((number, serial, tag == TAG_FLOAT))
}

impl<'a> Words<'a> {
    pub(crate) const fn new(words: &'a [u64]) -> Self {
        Self { words }
    }

    #[inline]
    pub(crate) fn next(&mut self) -> Option<u64> {
        let (&first, rest) = self.words.split_first()?;
        self.words = rest;
        Some(first)
    }

    /// Passes over so many values, and gives their words.
    #[inline]
    pub(crate) fn values(&mut self, count: usize) -> Option<&'a [u64]> {
        let mut length = 0;
        for _ in 0..count {
            let word = *self.words.get(length)?;
            length += 1 + usize::from(word & 7 == TAG_FLOAT);
        }
        let (values, rest) = self.words.split_at_checked(length)?;
        self.words = rest;
        Some(values)
    }

    pub(crate) fn bytes(&mut self, length: usize, out: &mut Vec<u8>) -> Option<()> {
        out.clear();
        let (taken, rest) = self.words.split_at_checked(length.div_ceil(8))?;
        self.words = rest;
        out.extend(taken.iter().flat_map(|word| word.to_le_bytes()));
        out.truncate(length);
        Some(())
    }
}

/// The row of a site, for the recorder.
#[derive(Clone, Copy, Debug)]
pub struct SiteRow {
    /// The index of its code.
    pub code: u32,
    /// What it does.
    pub kind: Kind,
    /// The index of the string that says with what.
    pub name: u32,
    /// The byte offset of the instruction in its code.
    pub offset: u32,
    /// The line, or zero if there is none; then end line, column, end column (from zero).
    pub position: [u32; 4],
}
