//! Pickles written and read without CPython's pickler.
//!
//! A generator with a few variables is some three hundred bytes of pickle. CPython's pickler asks a
//! function for each object that it does not know, gets a tuple of tuples, and looks up each function
//! that these name, at ten to twenty times the cost of the bytes. Here the most frequent objects are
//! written directly: values of the builtin types, generators and the like, continuations, code and
//! globals by reference, and what is found by its name.
//!
//! What is written is an ordinary pickle of protocol 5, with the same functions in it and the same
//! things shared as in what CPython's pickler writes. Whatever is not exactly as expected (another
//! type, a reducer of the user's, code by value, very deep or very large data) is [`Unfit`]: then
//! nothing of this is used, and CPython's pickler writes everything. So errors are its errors, too.
//!
//! Reading is the same backwards: a pickle that consists of instructions known here is read here, any
//! other by CPython's unpickler. Functions are called and names are looked up under the same rules.
//!
//! | file | |
//! | --- | --- |
//! | `opcode` | the instructions of pickles |
//! | `memo` | which objects have been written |
//! | `values` | writes values of builtin types |
//! | `iterators` | writes builtin iterators and ranges |
//! | `names` | writes what is found by its name |
//! | `frames` | writes generators, continuations, code and globals |
//! | `read` | reads |

mod frames;
mod iterators;
mod memo;
mod names;
mod opcode;
pub(crate) mod read;
mod values;

use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString};

use super::reducer::{self, CodeMode};
use memo::Memo;
use names::Names;

/// This cannot be written directly.
#[derive(Debug)]
pub(crate) struct Unfit;

/// CPython's pickler will meet the same error, and say what is to be said about it.
impl From<PyErr> for Unfit {
    fn from(_: PyErr) -> Self {
        Self
    }
}

type Written = Result<(), Unfit>;

/// How deep objects may lie in each other; each level takes some of the C stack.
const DEEPEST: u32 = 100;
/// The longest payload. Where there is more to write, that is what takes the time.
const LONGEST: usize = 1 << 18;

/// Writes one pickle.
struct Writer<'py> {
    py: Python<'py>,
    out: Vec<u8>,
    memo: Memo<'py>,
    names: Names,
    /// How deep the object lies that is written.
    depth: u32,
    mode: CodeMode,
    /// Whether there are reducers of the user's.
    registered: bool,
    /// The module whose code was written last, and the name under which it was found.
    module: Option<(Bound<'py, PyAny>, Bound<'py, PyString>)>,
    /// Generators that run in a chain of this pickle, with their globals.
    running: Vec<(Bound<'py, PyAny>, Bound<'py, PyDict>)>,
}

/// A pickle of `object`, without a header.
pub(crate) fn write(object: &Bound<'_, PyAny>, mode: CodeMode) -> Result<Vec<u8>, Unfit> {
    if !matches!(mode, CodeMode::Auto | CodeMode::Reference) {
        return Err(Unfit);
    }
    let py = object.py();
    let mut writer = Writer {
        py,
        out: Vec::with_capacity(512),
        memo: Memo::new(),
        names: Names::default(),
        depth: 0,
        mode,
        registered: reducer::any_registered(py),
        module: None,
        running: Vec::new(),
    };
    writer.out.extend([opcode::PROTO, 5, opcode::FRAME]);
    let begin = writer.out.len();
    writer.out.extend([0; 8]);
    writer.object(object)?;
    writer.out.push(opcode::STOP);
    let mut out = std::mem::take(&mut writer.out);
    let length = (out.len() - begin - 8) as u64;
    out[begin..begin + 8].copy_from_slice(&length.to_le_bytes());
    Ok(out)
}

impl<'py> Writer<'py> {
    fn put(&mut self, byte: u8) {
        self.out.push(byte);
    }

    /// Refers to what was written before. `false`: nothing was written under that key.
    fn again(&mut self, key: usize) -> bool {
        let Some(number) = self.memo.get(key) else {
            return false;
        };
        self.number(number);
        true
    }

    /// Refers to an entry of the memo.
    fn number(&mut self, number: u32) {
        match u8::try_from(number) {
            Ok(number) => self.out.extend([opcode::BINGET, number]),
            Err(_) => {
                self.put(opcode::LONG_BINGET);
                self.out.extend(number.to_le_bytes());
            }
        }
    }

    /// What was just written is this object.
    fn remember(&mut self, object: &Bound<'py, PyAny>) {
        self.put(opcode::MEMOIZE);
        self.memo.add(object.as_ptr() as usize, object);
    }
}
