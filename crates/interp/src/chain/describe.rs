//! The C code that a chain cannot be captured across, in words.

use std::ffi::CStr;

use pyo3_ffi::{
    Py_TYPE, PyCFunction_Check, PyErr_Clear, PyObject, PyObject_GetAttrString,
    PyObject_HasAttrString, PyType_Check, PyUnicode_AsUTF8,
};

use crate::bytecode::Instruction;
use crate::layout::{Opcode, opcode, opcode_name};
use crate::owned::Owned;

/// What C code is in the way, in words.
pub(super) fn describe(instruction: Instruction, stack: &[*mut PyObject]) -> String {
    let name = opcode_name(instruction.opcode);
    let kind = opcode(instruction.opcode);
    let operands = match kind {
        Opcode::Call => instruction.argument as usize + 2,
        Opcode::CallKw => instruction.argument as usize + 3,
        Opcode::CallFunctionEx => 3 + (instruction.argument as usize & 1),
        Opcode::ForIter => 1,
        Opcode::Send => 2,
        _ => {
            return format!("C code runs there that cannot be captured ({name})");
        }
    };
    let of = stack
        .len()
        .checked_sub(operands)
        .map_or(&[][..], |from| &stack[from..]);
    let object = of.iter().copied().find(|object| !object.is_null());
    let text = object.map_or_else(|| "?".to_owned(), text_of);
    if kind == Opcode::ForIter || kind == Opcode::Send {
        format!("C code of {text} runs there, which cannot be captured ({name})")
    } else {
        format!("it has called C code, {text}, which cannot be captured")
    }
}

/// A short name of an object.
fn text_of(object: *mut PyObject) -> String {
    // SAFETY: the object is alive: it lies on the stack of a frame that waits.
    unsafe {
        let kind = CStr::from_ptr((*Py_TYPE(object)).tp_name).to_string_lossy();
        // Only of what runs no code to say its name.
        let named = PyCFunction_Check(object) != 0
            || Py_TYPE(object) == &raw mut pyo3_ffi::PyMethodDescr_Type
            || PyType_Check(object) != 0;
        if named && PyObject_HasAttrString(object, c"__name__".as_ptr()) != 0 {
            let name = Owned::taking(PyObject_GetAttrString(object, c"__name__".as_ptr()));
            let text = name.as_ref().map(|name| PyUnicode_AsUTF8(name.as_ptr()));
            match text {
                Some(text) if !text.is_null() => {
                    let text = CStr::from_ptr(text).to_string_lossy();
                    return format!("{text}()");
                }
                _ => PyErr_Clear(),
            }
        }
        format!("an object of type {kind}")
    }
}
