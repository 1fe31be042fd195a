//! The tag bytes. Codes are never reused; `docs/protocol.md` has the same table.

/// `None`.
pub const NONE: u8 = 0x01;
/// `True`.
pub const TRUE: u8 = 0x02;
/// `False`.
pub const FALSE: u8 = 0x03;
/// `Ellipsis`.
pub const ELLIPSIS: u8 = 0x04;
/// `NotImplemented`.
pub const NOT_IMPLEMENTED: u8 = 0x05;
/// An integer of 64 bits: a zigzag varint.
pub const INT: u8 = 0x08;
/// A larger integer from 0 up: length, magnitude (little-endian).
pub const BIG_POSITIVE: u8 = 0x09;
/// A larger integer below 0: length, magnitude (little-endian).
pub const BIG_NEGATIVE: u8 = 0x0a;
/// A float: 8 bytes, little-endian IEEE 754.
pub const FLOAT: u8 = 0x0b;
/// A complex: two floats.
pub const COMPLEX: u8 = 0x0c;
/// A string: length in bytes, UTF-8.
pub const STR: u8 = 0x10;
/// A string with lone surrogates: length, UTF-8 with the surrogates encoded as if they were characters.
pub const SURROGATE_STR: u8 = 0x11;
/// Bytes: length, bytes.
pub const BYTES: u8 = 0x12;
/// Bytes that travel outside the body: index of the attachment.
pub const ATTACHMENT: u8 = 0x13;
/// A tuple: count; elements follow.
pub const TUPLE: u8 = 0x20;
/// A frozenset: count; elements follow.
pub const FROZENSET: u8 = 0x21;
/// A slice; start, stop and step follow.
pub const SLICE: u8 = 0x22;
/// A range; start, stop and step follow.
pub const RANGE: u8 = 0x23;
/// A builtin type, function or exception: two strings (length, UTF-8), module and qualified name.
pub const NAMED: u8 = 0x24;
/// An immutable library value: kind (one byte), count; arguments follow.
pub const STRUCT: u8 = 0x25;
/// The arguments of a call: count of positional ones, count of keyword ones; the positional
/// values follow, then name and value of each keyword.
pub const ARGUMENTS: u8 = 0x26;
/// A snapshot of a list: count; elements follow.
pub const LIST: u8 = 0x30;
/// A snapshot of a set: count; elements follow.
pub const SET: u8 = 0x31;
/// A snapshot of a dict: count of pairs; keys and values follow, alternating.
pub const DICT: u8 = 0x32;
/// A snapshot of a bytearray: length, bytes.
pub const BYTEARRAY: u8 = 0x33;
/// An object of the sender: slot, generation, kind (one byte), and what the kind asks for.
pub const MINE: u8 = 0x40;
/// An object of the receiver: slot, generation.
pub const YOURS: u8 = 0x41;
/// The result of an earlier question of the sender: its number.
pub const ANSWER: u8 = 0x42;
/// The first of 64 tags of the integers 0 to 63.
pub const SMALL_INT: u8 = 0x80;
/// The first of 64 tags of strings of 0 to 63 bytes.
pub const SHORT_STR: u8 = 0xc0;

/// In [`MINE`] of an instance: the class is the sender's (slot, generation).
pub const CLASS_MINE: u8 = 0;
/// In [`MINE`] of an instance: the class is the receiver's (slot, generation).
pub const CLASS_YOURS: u8 = 1;
/// In [`MINE`] of an instance: the class is a builtin (module, qualified name).
pub const CLASS_NAMED: u8 = 2;
