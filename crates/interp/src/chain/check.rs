//! Whether a saved chain is one that its code can have. Looked at before anything is built.

use pyo3_ffi::{
    Py_TYPE, PyCode_Type, PyDict_Check, PyErr_SetString, PyExc_TypeError, PyExc_ValueError,
    PyExceptionInstance_Check, PyLong_AsLong, PyLong_CheckExact, PyObject,
};

use super::settle::keeps_condition;
use super::{Action, Record};
use crate::effects::Holds;
use crate::layout::{Code, Opcode, opcode};
use crate::suspended::{Kind, Stage, begins, code_of, stage};
use crate::verify::{self, Shape, Step};

/// Checks a chain. Returns false with an exception set if it is not one that can be resumed.
///
/// # Safety
/// See the crate. The objects in the records may be any.
pub unsafe fn check(records: &[Record], null: *mut PyObject) -> bool {
    // SAFETY: passed on.
    unsafe {
        if records.is_empty() {
            PyErr_SetString(PyExc_ValueError, c"a chain of no frames".as_ptr());
            return false;
        }
        records.iter().enumerate().all(|(index, record)| {
            let inner = records.get(index + 1);
            one(record, inner, null).is_some()
        })
    }
}

/// # Safety
/// As [`check`].
unsafe fn one(record: &Record, inner: Option<&Record>, null: *mut PyObject) -> Option<()> {
    // SAFETY: types are checked before anything relies on them.
    unsafe {
        if Py_TYPE(record.code.as_ptr()) != &raw mut PyCode_Type
            || PyDict_Check(record.globals.as_ptr()) == 0
        {
            PyErr_SetString(
                PyExc_TypeError,
                c"a frame needs a code object and a dict".as_ptr(),
            );
            return None;
        }
        let code: *mut Code = record.code.as_ptr().cast();
        let damaged = || verify::refuse(code, c"%R cannot wait at unit %zd", record.at as usize);
        let shape = Shape::of(code)?;
        match &record.generator {
            None => {
                if begins(code) {
                    return damaged();
                }
            }
            Some(generator) => {
                let generator = generator.as_ptr();
                if Kind::of(generator).is_none()
                    || stage(generator) != Stage::Unfinished
                    || code_of(&*generator.cast()) != code
                {
                    return damaged();
                }
            }
        }
        if let Some(handled) = &record.handled
            && (record.generator.is_none() || PyExceptionInstance_Check(handled.as_ptr()) == 0)
        {
            return damaged();
        }
        let Some((waits, step)) = shape
            .step(record.at as usize)
            .filter(|_| shape.understood())
        else {
            return damaged();
        };
        let Some((number, _, stack)) = shape.beginning(record.next as usize) else {
            return damaged();
        };
        // The call may be the second half of what the instruction pointer stands on.
        let call = if opcode(step.instruction.opcode) == Opcode::Precall {
            shape.instructions.get(waits + 1)
        } else {
            Some(step)
        };
        let Some(call) = call.filter(|call| call.instruction.next == record.next as usize) else {
            return damaged();
        };
        let by_generator = inner.is_some_and(|inner| inner.generator.is_some());
        let Some(below) = below(record, call, stack, by_generator) else {
            return damaged();
        };
        let values: Vec<_> = record
            .values
            .iter()
            .map(|value| value.as_ref().map_or(null, |value| value.as_ptr()))
            .collect();
        verify::check(code, shape, number, below, &values, null)?;
        if let Some(inner) = inner
            && matches!(record.then.action, Action::Loop | Action::Send)
        {
            // What is waited for is what lies on the stack.
            let awaited = record.values.last().and_then(Option::as_ref);
            let runs = inner.generator.as_ref();
            if awaited.map(|value| value.as_ptr()) != runs.map(|value| value.as_ptr()) {
                return damaged();
            }
        }
        Some(())
    }
}

/// The stack that stays while the frame waits, if the action is one of the instruction's.
fn below<'a>(
    record: &Record,
    call: &'a Step,
    stack: &'a [Holds],
    by_generator: bool,
) -> Option<&'a [Holds]> {
    let action = record.then.action;
    let operands = &record.then.operands;
    let is = opcode(call.instruction.opcode);
    let steps = matches!(action, Action::Loop | Action::Send | Action::Next);
    if steps != by_generator {
        return None;
    }
    let fits = match is {
        Opcode::Call | Opcode::CallKw | Opcode::CallFunctionEx => {
            matches!(action, Action::Push | Action::Init | Action::Next)
        }
        Opcode::BinarySubscr
        | Opcode::BinarySlice
        | Opcode::BeforeWith
        | Opcode::WithExceptStart
        | Opcode::UnaryNegative
        | Opcode::UnaryInvert
        | Opcode::UnaryPositive
        | Opcode::CallIntrinsic1 => action == Action::Push,
        Opcode::StoreSubscr
        | Opcode::StoreSlice
        | Opcode::DeleteSubscr
        | Opcode::StoreAttr
        | Opcode::DeleteAttr => action == Action::Drop,
        Opcode::LoadAttr => matches!(
            action,
            Action::Push | Action::PushCallable | Action::Attribute | Action::CallableAttribute
        ),
        Opcode::LoadMethod => matches!(action, Action::PushCallable | Action::CallableAttribute),
        Opcode::UnaryNot | Opcode::ToBool => action == Action::Bool,
        Opcode::PopJumpForwardIfFalse
        | Opcode::PopJumpForwardIfTrue
        | Opcode::PopJumpBackwardIfFalse
        | Opcode::PopJumpBackwardIfTrue
        | Opcode::PopJumpIfFalse
        | Opcode::PopJumpIfTrue
        | Opcode::JumpIfFalseOrPop
        | Opcode::JumpIfTrueOrPop => action == Action::Branch,
        Opcode::GetIter | Opcode::GetYieldFromIter => action == Action::Iterator,
        Opcode::GetAwaitable => action == Action::Await,
        Opcode::ForIter => matches!(action, Action::Step | Action::Loop),
        Opcode::Send => action == Action::Send,
        Opcode::BinaryOp => action == Action::Binary,
        Opcode::CompareOp => action == Action::Compare,
        Opcode::ContainsOp => action == Action::Contains,
        _ => false,
    };
    let count = match action {
        Action::Init | Action::Attribute | Action::CallableAttribute => operands.len() == 1,
        Action::Next => operands.len() <= 1,
        Action::Binary | Action::Compare => {
            operands.len() == 3 && {
                let stage = operands[2].as_ptr();
                // SAFETY: attached, like all of this crate; only an exact int is read.
                unsafe {
                    PyLong_CheckExact(stage) != 0 && {
                        let stage = PyLong_AsLong(stage);
                        pyo3_ffi::PyErr_Clear();
                        (0..=2).contains(&stage)
                    }
                }
            }
        }
        _ => operands.is_empty(),
    };
    if action == Action::Branch && keeps_condition(call.instruction) {
        let before = call.stack.as_deref()?;
        return (fits && count).then_some(before);
    }
    let pushed = match action {
        Action::Drop | Action::Branch => 0,
        Action::PushCallable | Action::CallableAttribute => 2,
        _ => 1,
    };
    let keep = stack.len().checked_sub(pushed)?;
    (fits && count).then_some(&stack[..keep])
}
