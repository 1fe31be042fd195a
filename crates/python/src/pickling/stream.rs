//! What stands around a pickle: who wrote it, in which format, and that it arrived as it was written.
//!
//! ```text
//! magic 4 | format 1 | flags 1 | length of the tag 1 | cache tag | magic number of the bytecode 4
//! | length of the payload 8 | seal: CRC-32 (4), or HMAC-SHA256 (32) if flags & SIGNED | payload
//! ```
//! Numbers are little-endian. The seal covers all that stands before it and the payload. The payload
//! is a pickle of protocol 5 or lower. The first byte of the magic is no opcode of pickle, so an
//! ordinary pickle is told from these by its first byte.

use hmac::{Hmac, Mac};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyBytes;
use sha2::Sha256;

use super::errors;

/// How every pickle of this package begins.
pub(crate) const MAGIC: &[u8; 4] = b"\xf0OSP";
/// The format that this code writes, and the only one that it reads.
pub(crate) const FORMAT: u8 = 1;
const SIGNED: u8 = 1;
/// Up to the cache tag.
const FIXED: usize = 7;
const SEAL: usize = 4;
const SIGNATURE: usize = 32;

/// The interpreter that this process runs: `cpython-311` and the magic number of its bytecode.
struct Interpreter {
    tag: String,
    number: [u8; 4],
}

fn interpreter(py: Python<'_>) -> PyResult<&'static Interpreter> {
    static HERE: PyOnceLock<Interpreter> = PyOnceLock::new();
    HERE.get_or_try_init(py, || {
        let tag = py
            .import("sys")?
            .getattr("implementation")?
            .getattr("cache_tag")?
            .extract()?;
        let number: Vec<u8> = py
            .import("importlib.util")?
            .getattr("MAGIC_NUMBER")?
            .extract()?;
        let number = number
            .try_into()
            .map_err(|_| PyValueError::new_err("the magic number of bytecode has 4 bytes"))?;
        Ok(Interpreter { tag, number })
    })
}

/// What a header says.
#[derive(Debug)]
pub(crate) struct Header {
    signed: bool,
    /// The length of what follows the seal.
    pub(crate) payload: u64,
    /// Where the seal begins.
    seal: usize,
    /// Where the payload begins.
    pub(crate) length: usize,
}

/// How many bytes of a header must be there to know how many there are.
pub(crate) const ENOUGH: usize = FIXED;

/// The length of the header that begins with these `ENOUGH` bytes.
pub(crate) fn header_length(start: &[u8]) -> PyResult<usize> {
    let [_, _, _, _, format, flags, tag] = start else {
        return Err(errors::unpickling("the pickle ends within its header"));
    };
    if !start.starts_with(MAGIC) {
        return Err(errors::unpickling("this is not a pickle of objspace"));
    }
    if *format != FORMAT {
        return Err(errors::unpickling(format!(
            "the pickle is of format {format}; this objspace reads format {FORMAT}"
        )));
    }
    if flags & !SIGNED != 0 {
        return Err(errors::unpickling(format!(
            "the header of the pickle has unknown flags ({flags:#x})"
        )));
    }
    let seal = if flags & SIGNED == 0 { SEAL } else { SIGNATURE };
    Ok(FIXED + usize::from(*tag) + 4 + 8 + seal)
}

/// Reads a whole header, and refuses what another version of Python wrote.
pub(crate) fn read_header(py: Python<'_>, bytes: &[u8]) -> PyResult<Header> {
    let length = header_length(bytes.get(..ENOUGH).unwrap_or(bytes))?;
    let cut = || errors::unpickling("the pickle ends within its header");
    let bytes = bytes.get(..length).ok_or_else(cut)?;
    let tag = usize::from(bytes[FIXED - 1]);
    let (tag, rest) = bytes[FIXED..].split_at(tag);
    let (number, rest) = rest.split_at(4);
    let here = interpreter(py)?;
    if tag != here.tag.as_bytes() || number != here.number {
        return Err(errors::unpickling(format!(
            "the pickle was written by {} (bytecode {}), this is {} (bytecode {}): code that runs moves \
             between processes of the same minor version only",
            String::from_utf8_lossy(tag),
            hex(number),
            here.tag,
            hex(&here.number)
        )));
    }
    let mut payload = [0; 8];
    payload.copy_from_slice(&rest[..8]);
    let signed = bytes[5] & SIGNED != 0;
    let seal = length - if signed { SIGNATURE } else { SEAL };
    Ok(Header {
        signed,
        payload: u64::from_le_bytes(payload),
        seal,
        length,
    })
}

/// Checks the seal. `bytes` begins with the header.
pub(crate) fn check(header: &Header, bytes: &[u8], key: Option<&[u8]>) -> PyResult<()> {
    let cut = || errors::unpickling("the pickle is shorter than its header says");
    let end = usize::try_from(header.payload)
        .ok()
        .and_then(|payload| header.length.checked_add(payload))
        .ok_or_else(cut)?;
    let bytes = bytes.get(..end).ok_or_else(cut)?;
    let (before, rest) = bytes.split_at(header.seal);
    let (seal, payload) = rest.split_at(header.length - header.seal);
    match (header.signed, key) {
        (true, Some(key)) => {
            let mut mac = mac(key)?;
            mac.update(before);
            mac.update(payload);
            mac.verify_slice(seal).map_err(|_| {
                errors::unpickling(
                    "the signature of the pickle does not fit its contents and the key",
                )
            })
        }
        (false, Some(_)) => Err(errors::unpickling(
            "a key was given, but the pickle is not signed",
        )),
        (true, None) => Err(errors::unpickling(
            "the pickle is signed: loading it takes the key (key=...)",
        )),
        (false, None) => {
            let mut sum = crc32fast::Hasher::new();
            sum.update(before);
            sum.update(payload);
            if sum.finalize().to_le_bytes() == seal {
                Ok(())
            } else {
                Err(errors::unpickling(
                    "the pickle is damaged: its checksum does not fit",
                ))
            }
        }
    }
}

/// A header, its seal and the payload in one bytes object.
pub(crate) fn wrap<'py>(
    py: Python<'py>,
    payload: &[u8],
    key: Option<&[u8]>,
) -> PyResult<Bound<'py, PyBytes>> {
    let here = interpreter(py)?;
    let tag = u8::try_from(here.tag.len())
        .map_err(|_| PyValueError::new_err("the cache tag of this interpreter is too long"))?;
    let mut header = Vec::with_capacity(FIXED + here.tag.len() + 12 + SIGNATURE);
    header.extend_from_slice(MAGIC);
    header.extend([FORMAT, if key.is_some() { SIGNED } else { 0 }, tag]);
    header.extend_from_slice(here.tag.as_bytes());
    header.extend_from_slice(&here.number);
    header.extend_from_slice(&(payload.len() as u64).to_le_bytes());
    if let Some(key) = key {
        let mut mac = mac(key)?;
        mac.update(&header);
        mac.update(payload);
        header.extend_from_slice(&mac.finalize().into_bytes());
    } else {
        let mut sum = crc32fast::Hasher::new();
        sum.update(&header);
        sum.update(payload);
        header.extend_from_slice(&sum.finalize().to_le_bytes());
    }
    PyBytes::new_with(py, header.len() + payload.len(), |target| {
        let (first, second) = target.split_at_mut(header.len());
        first.copy_from_slice(&header);
        second.copy_from_slice(payload);
        Ok(())
    })
}

fn mac(key: &[u8]) -> PyResult<Hmac<Sha256>> {
    if key.is_empty() {
        return Err(PyValueError::new_err(
            "the key of a signature must not be empty",
        ));
    }
    Hmac::new_from_slice(key).map_err(|error| PyValueError::new_err(error.to_string()))
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
