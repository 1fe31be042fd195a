//! Reading code objects: the base instructions, free of specialisation and instrumentation.

use std::slice;

use pyo3_ffi::{Py_DECREF, PyBytes_AsString, PyBytes_Size, PyObject};

use crate::layout::{Code, Op, caches, op};

unsafe extern "C" {
    /// Public since 3.11, but not declared by `pyo3-ffi`.
    fn PyCode_GetCode(code: *mut PyObject) -> *mut PyObject;
}

/// The base instructions of a code object: `co_code`, two bytes per unit.
pub(crate) struct Base {
    bytes: Box<[u8]>,
}

/// One instruction; its `EXTENDED_ARG`s are part of it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Instruction {
    /// The unit of the opcode itself, behind any `EXTENDED_ARG`.
    pub(crate) unit: usize,
    /// The unit where the next instruction begins.
    pub(crate) next: usize,
    pub(crate) opcode: u8,
    pub(crate) argument: u32,
}

impl Base {
    /// Reads a code object. `None`: out of memory (with a Python exception set).
    ///
    /// # Safety
    /// `code` is a code object.
    pub(crate) unsafe fn of(code: *mut Code) -> Option<Self> {
        // SAFETY: `code` is a code object; the result is a new `bytes` object or null, and its
        // buffer is copied before the reference is given back. Runs no Python code.
        unsafe {
            let object = PyCode_GetCode(code.cast());
            if object.is_null() {
                return None;
            }
            let length = usize::try_from(PyBytes_Size(object)).unwrap_or(0);
            let bytes = slice::from_raw_parts(PyBytes_AsString(object).cast::<u8>(), length).into();
            Py_DECREF(object);
            Some(Self { bytes })
        }
    }

    /// The number of units.
    pub(crate) fn len(&self) -> usize {
        self.bytes.len() / 2
    }

    /// The instruction that begins at `unit`.
    pub(crate) fn at(&self, mut unit: usize) -> Option<Instruction> {
        let mut argument = 0;
        loop {
            let opcode = *self.bytes.get(2 * unit)?;
            argument = (argument << 8) | u32::from(*self.bytes.get(2 * unit + 1)?);
            if op(opcode) != Op::ExtendedArg {
                return Some(Instruction {
                    unit,
                    next: unit + 1 + caches(opcode),
                    opcode,
                    argument,
                });
            }
            unit += 1;
        }
    }

    /// All instructions, in order.
    pub(crate) fn instructions(&self) -> impl Iterator<Item = Instruction> {
        let mut unit = 0;
        std::iter::from_fn(move || {
            let instruction = self.at(unit)?;
            unit = instruction.next;
            Some(instruction)
        })
    }
}

/// An entry of the exception table, in units.
pub(crate) struct Handler {
    pub(crate) start: usize,
    pub(crate) end: usize,
    pub(crate) target: usize,
    /// How many values lie on the stack below what the handler is given.
    pub(crate) depth: usize,
    /// Whether it is given the failed instruction too.
    pub(crate) lasti: bool,
}

/// The entries of an exception table.
pub(crate) fn handlers(table: &[u8]) -> Vec<Handler> {
    let mut bytes = table.iter().copied();
    // Numbers of six bits a byte, the highest first; bit 6 says that more follow. (Bit 7 marks the
    // beginning of an entry.)
    let mut number = || {
        let mut byte = bytes.next()?;
        let mut value = usize::from(byte & 63);
        while byte & 64 != 0 {
            byte = bytes.next()?;
            value = (value << 6) | usize::from(byte & 63);
        }
        Some(value)
    };
    let mut found = Vec::new();
    while let (Some(start), Some(length), Some(target), Some(depth)) =
        (number(), number(), number(), number())
    {
        found.push(Handler {
            start,
            end: start.saturating_add(length),
            target,
            depth: depth >> 1,
            lasti: depth & 1 != 0,
        });
    }
    found
}
