//! Whether a pickle asks for more memory than its length accounts for.
//!
//! CPython's unpickler allocates what the numbers in a pickle say before it looks whether there is as
//! much: a memo of the index that is put, bytes and byte arrays of the length that is announced. Checksums
//! do not help against who makes them. So instructions are gone through once before it sees them. What
//! else may be wrong with them it finds by itself, and allocates for nothing that is not there.

use pyo3::prelude::*;

use super::errors;

/// What follows an instruction.
enum Argument {
    None,
    Bytes(usize),
    /// Lines of text.
    Lines(usize),
    /// So many bytes of a length, and as many bytes as that says.
    Counted(usize),
    /// A line with an index of the memo.
    PutLine,
    /// Four bytes with an index of the memo.
    Put,
    /// The unpickler raises an error here.
    Unknown,
}

const fn argument(instruction: u8) -> Argument {
    match instruction {
        // BINGET BINPUT BININT1 EXT1 PROTO
        b'h' | b'q' | b'K' | 0x82 | 0x80 => Argument::Bytes(1),
        // BININT2 EXT2
        b'M' | 0x83 => Argument::Bytes(2),
        // BININT LONG_BINGET EXT4
        b'J' | b'j' | 0x84 => Argument::Bytes(4),
        // BINFLOAT FRAME
        b'G' | 0x95 => Argument::Bytes(8),
        // FLOAT INT LONG STRING UNICODE PERSID GET
        b'F' | b'I' | b'L' | b'S' | b'V' | b'P' | b'g' => Argument::Lines(1),
        // GLOBAL INST
        b'c' | b'i' => Argument::Lines(2),
        // SHORT_BINSTRING SHORT_BINBYTES SHORT_BINUNICODE LONG1
        b'U' | b'C' | 0x8c | 0x8a => Argument::Counted(1),
        // BINSTRING BINBYTES BINUNICODE LONG4
        b'T' | b'B' | b'X' | 0x8b => Argument::Counted(4),
        // BINUNICODE8 BINBYTES8 BYTEARRAY8
        0x8d | 0x8e | 0x96 => Argument::Counted(8),
        b'p' => Argument::PutLine,
        b'r' => Argument::Put,
        // MARK POP POP_MARK DUP NONE BINPERSID REDUCE APPEND BUILD DICT APPENDS LIST OBJ SETITEM TUPLE
        // SETITEMS EMPTY_TUPLE EMPTY_LIST EMPTY_DICT
        b'(' | b'0' | b'1' | b'2' | b'N' | b'Q' | b'R' | b'a' | b'b' | b'd' | b'e' | b'l'
        | b'o' | b's' | b't' | b'u' | b')' | b']' | b'}'
        // NEWOBJ TUPLE1 TUPLE2 TUPLE3 NEWTRUE NEWFALSE
        | 0x81 | 0x85..=0x89
        // EMPTY_SET ADDITEMS FROZENSET NEWOBJ_EX STACK_GLOBAL MEMOIZE NEXT_BUFFER READONLY_BUFFER
        | 0x8f..=0x94 | 0x97 | 0x98 => Argument::None,
        _ => Argument::Unknown,
    }
}

/// Refuses a pickle that would make the unpickler allocate more than its own length asks for.
pub(crate) fn check(pickle: &[u8]) -> PyResult<()> {
    if within(pickle) {
        return Ok(());
    }
    Err(errors::unpickling(
        "the pickle is damaged: it asks for more memory than it can fill",
    ))
}

fn within(pickle: &[u8]) -> bool {
    let mut rest = pickle;
    while let Some((&instruction, behind)) = rest.split_first() {
        // `None`: the pickle ends within an instruction, which the unpickler finds.
        let next = match argument(instruction) {
            Argument::None => Some(behind),
            Argument::Bytes(count) => behind.get(count..),
            Argument::Lines(count) => (0..count).try_fold(behind, |rest, _| Some(line(rest)?.1)),
            Argument::Counted(size) => {
                let Some((length, behind)) = number(behind, size) else {
                    return true;
                };
                let end = usize::try_from(length).ok();
                let Some(behind) = end.and_then(|end| behind.get(end..)) else {
                    return false;
                };
                Some(behind)
            }
            Argument::Put => match number(behind, 4) {
                Some((index, behind)) if index < pickle.len() as u64 => Some(behind),
                Some(_) => return false,
                None => None,
            },
            Argument::PutLine => match line(behind) {
                Some((text, behind)) => {
                    // As Python reads a number: what cannot be one is an error there.
                    let text = String::from_utf8_lossy(text).replace('_', "");
                    let digits = text.trim().trim_start_matches('+').trim_start_matches('0');
                    if digits.len() > 18
                        || digits
                            .parse()
                            .is_ok_and(|index: u64| index >= pickle.len() as u64)
                    {
                        return false;
                    }
                    Some(behind)
                }
                None => None,
            },
            Argument::Unknown => None,
        };
        match next {
            Some(next) => rest = next,
            None => return true,
        }
    }
    true
}

/// A number of so many bytes, and what follows it.
fn number(bytes: &[u8], size: usize) -> Option<(u64, &[u8])> {
    let (number, rest) = bytes.split_at_checked(size)?;
    let mut all = [0; 8];
    all[..size].copy_from_slice(number);
    Some((u64::from_le_bytes(all), rest))
}

/// A line without its end, and what follows it.
fn line(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = bytes.iter().position(|&byte| byte == b'\n')?;
    Some((&bytes[..end], &bytes[end + 1..]))
}
