//! The structs and opcodes of one minor version of CPython. The only place that asks which.
//!
//! A layout file is plain data: `#[repr(C)]` structs that mirror CPython's up to the last field
//! that is used, opcode numbers, and [`CHECKS`], which pairs each fact with the C expression that
//! says the same. `tools/layout-check` evaluates those against the installed headers.

#[cfg(not(Py_3_11))]
compile_error!("objspace needs CPython 3.11, 3.12 or 3.13");
#[cfg(Py_3_14)]
compile_error!("objspace does not know the structs of CPython 3.14 yet");

mod opcode;
pub(crate) use opcode::Opcode;

#[cfg(all(Py_3_11, not(Py_3_12)))]
mod opcodes_3_11;
#[cfg(all(Py_3_12, not(Py_3_13)))]
mod opcodes_3_12;
#[cfg(all(Py_3_13, not(Py_3_14)))]
mod opcodes_3_13;
#[cfg(all(Py_3_11, not(Py_3_12)))]
mod v3_11;
#[cfg(all(Py_3_12, not(Py_3_13)))]
mod v3_12;
#[cfg(all(Py_3_13, not(Py_3_14)))]
mod v3_13;

#[cfg(all(Py_3_11, not(Py_3_12)))]
pub use opcodes_3_11::OPCODE_CHECKS;
#[cfg(all(Py_3_11, not(Py_3_12)))]
pub(crate) use opcodes_3_11::{opcode, opcode_name};
#[cfg(all(Py_3_12, not(Py_3_13)))]
pub use opcodes_3_12::OPCODE_CHECKS;
#[cfg(all(Py_3_12, not(Py_3_13)))]
pub(crate) use opcodes_3_12::{opcode, opcode_name};
#[cfg(all(Py_3_13, not(Py_3_14)))]
pub use opcodes_3_13::OPCODE_CHECKS;
#[cfg(all(Py_3_13, not(Py_3_14)))]
pub(crate) use opcodes_3_13::{opcode, opcode_name};
#[cfg(all(Py_3_11, not(Py_3_12)))]
pub(crate) use v3_11::*;
#[cfg(all(Py_3_11, not(Py_3_12)))]
pub use v3_11::{CHECKS, MINOR};
#[cfg(all(Py_3_12, not(Py_3_13)))]
pub(crate) use v3_12::*;
#[cfg(all(Py_3_12, not(Py_3_13)))]
pub use v3_12::{CHECKS, MINOR};
#[cfg(all(Py_3_13, not(Py_3_14)))]
pub(crate) use v3_13::*;
#[cfg(all(Py_3_13, not(Py_3_14)))]
pub use v3_13::{CHECKS, MINOR};

/// What an instruction of the base instruction set means to a reader who wants to know whether it
/// can have side effects. Specialised and instrumented instructions never get here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(dead_code, reason = "no version has all of them")]
pub(crate) enum Op {
    BuildConstKeyMap,
    BuildList,
    BuildMap,
    BuildSet,
    BuildSlice,
    BuildTuple,
    Call,
    /// The names of keyword arguments lie on top of the arguments.
    CallKw,
    Copy,
    ExtendedArg,
    Is,
    KwNames,
    ListExtend,
    LoadAttr,
    LoadClosure,
    LoadConst,
    LoadDeref,
    LoadFast,
    /// Two locals, each in four bits of the argument.
    LoadFastLoadFast,
    LoadGlobal,
    LoadMethod,
    LoadName,
    MakeFunction,
    Nop,
    /// Anything else.
    Other,
    PreCall,
    PushNull,
    SetFunctionAttribute,
    SetUpdate,
    Swap,
}

/// Where an instruction may continue besides the next one. Targets count from behind the caches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Jump {
    Backward,
    Forward,
    None,
}
