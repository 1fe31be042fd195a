//! What a frame does with the result that it waited for.
//!
//! What CPython's instructions do behind the call that they make, in C code that is not there when a
//! chain is resumed: `a + b` tries `b.__radd__` if `a.__add__` returned `NotImplemented`, a loop ends
//! at `StopIteration`, `__init__` must return `None`.
//!
//! Meanwhile the frame stays linked, as one that waits. A method that is called here can be captured
//! with it; other code that may run (`__bool__` of a result, destructors) is refused.

use std::ffi::{CStr, CString};
use std::ptr;

use pyo3_ffi::{
    Py_False, Py_None, Py_NotImplemented, Py_TYPE, Py_True, Py_XDECREF, PyBool_Check, PyCoro_Type,
    PyErr_Clear, PyErr_ExceptionMatches, PyErr_Format, PyErr_SetNone, PyErr_SetObject,
    PyExc_AttributeError, PyExc_StopIteration, PyExc_TypeError, PyIter_Check, PyLong_AsLong,
    PyLong_FromLongLong, PyObject, PyObject_CallFunctionObjArgs, PyObject_IsTrue, PyTuple_GET_ITEM,
    PyType_IsSubtype,
};

use super::boundary::lookup;
use super::capture::{wait_for_native, while_calling};
use super::operators::{binary_names, comparison, comparison_names};
use super::resume::Outcome;
use super::{Action, Record, Then};
use crate::bytecode::Instruction;
use crate::layout::{AHEAD, Code, Frame, Opcode, attribute, opcode};
use crate::owned::Owned;
use crate::suspended::set_unit;
use crate::verify::Shape;

/// How a frame goes on.
pub(super) enum Step {
    /// With the next instruction.
    Go,
    /// With the exception that is set.
    Throw,
}

/// Hands an outcome to the frame of a record.
///
/// # Safety
/// The frame holds what the record says, waits, and nobody executes it; the record has been checked.
#[inline(never)]
pub(super) unsafe fn settle(record: &Record, frame: *mut Frame, outcome: Outcome) -> Step {
    // SAFETY: passed on.
    unsafe {
        wait_for_native(frame);
        match react(record, frame, outcome) {
            Some(next) => {
                set_unit(frame, next.wrapping_sub(AHEAD));
                Step::Go
            }
            None => {
                set_unit(frame, record.at as usize);
                Step::Throw
            }
        }
    }
}

/// The unit at which the frame goes on. `None`: an exception is set.
///
/// # Safety
/// As [`settle`].
unsafe fn react(record: &Record, frame: *mut Frame, outcome: Outcome) -> Option<usize> {
    let next = record.next as usize;
    // SAFETY: there is room for one value more than the record has, as was checked.
    unsafe {
        let instruction = instruction(record)?;
        let action = record.then.action;
        let operand = |index: usize| record.then.operands.get(index).map(Owned::as_ptr);
        let value = match outcome {
            Outcome::Raise => return raised(record, frame, instruction),
            Outcome::Yield(value)
                if matches!(action, Action::Loop | Action::Send | Action::Next) =>
            {
                push(frame, value);
                return Some(next);
            }
            Outcome::Return(value) | Outcome::Yield(value) => value,
        };
        match action {
            Action::Push => push(frame, value),
            Action::Drop => drop(value),
            Action::PushCallable | Action::CallableAttribute => push_callable(frame, value),
            Action::Attribute => push(frame, value),
            Action::Init => {
                if value.as_ptr() != Py_None() {
                    let class = (*Py_TYPE(value.as_ptr())).tp_name;
                    return fail(c"__init__() should return None, not '%.200s'", class);
                }
                push(frame, Owned::new(operand(0)?)?);
            }
            Action::Bool => {
                let truth = truth(&value)?;
                let negate = opcode(instruction.opcode) == Opcode::UnaryNot;
                push(frame, boolean(truth != negate)?);
            }
            Action::Contains => {
                let truth = match PyObject_IsTrue(value.as_ptr()) {
                    -1 => return None,
                    truth => truth != 0,
                };
                push(frame, boolean(truth != (instruction.argument == 1))?);
            }
            Action::Branch => {
                let truth = truth(&value)?;
                let jumps_if = matches!(
                    opcode(instruction.opcode),
                    Opcode::PopJumpForwardIfTrue
                        | Opcode::PopJumpBackwardIfTrue
                        | Opcode::PopJumpIfTrue
                        | Opcode::JumpIfTrueOrPop
                );
                if truth == jumps_if {
                    return target(instruction);
                }
                if keeps_condition(instruction) {
                    pop(frame);
                }
                return Some(instruction.next);
            }
            Action::Iterator => {
                if PyIter_Check(value.as_ptr()) == 0 {
                    let class = (*Py_TYPE(value.as_ptr())).tp_name;
                    return fail(c"iter() returned non-iterator of type '%.100s'", class);
                }
                push(frame, value);
            }
            Action::Await => {
                let class = Py_TYPE(value.as_ptr());
                if class == &raw mut PyCoro_Type {
                    return fail(c"%s returned a coroutine", c"__await__()".as_ptr());
                }
                if PyIter_Check(value.as_ptr()) == 0 {
                    return fail(
                        c"__await__() returned non-iterator of type '%.100s'",
                        (*class).tp_name,
                    );
                }
                push(frame, value);
            }
            Action::Step => push(frame, value),
            Action::Loop => {
                // The generator has returned.
                drop(value);
                return exhausted(frame, instruction);
            }
            Action::Send => {
                if !cfg!(Py_3_12) {
                    pop(frame);
                }
                push(frame, value);
                return target(instruction);
            }
            Action::Next => {
                let Some(default) = operand(0) else {
                    if value.as_ptr() == Py_None() {
                        PyErr_SetNone(PyExc_StopIteration);
                    } else {
                        // Not by the value: a tuple would become several arguments.
                        let stop = Owned::taking(PyObject_CallFunctionObjArgs(
                            PyExc_StopIteration,
                            value.as_ptr(),
                            ptr::null_mut::<PyObject>(),
                        ))?;
                        PyErr_SetObject(PyExc_StopIteration, stop.as_ptr());
                    }
                    return None;
                };
                push(frame, Owned::new(default)?);
            }
            Action::Binary | Action::Compare => {
                let (left, right) = (operand(0)?, operand(1)?);
                let stage = PyLong_AsLong(operand(2)?);
                let not_implemented = value.as_ptr() == Py_NotImplemented();
                let result = match (action, not_implemented) {
                    (_, false) => value,
                    (Action::Binary, true) => {
                        binary(record, frame, instruction.argument, left, right, stage)?
                    }
                    (_, true) => compare(record, frame, instruction.argument, left, right, stage)?,
                };
                let to_bool =
                    action == Action::Compare && cfg!(Py_3_13) && instruction.argument & 16 != 0;
                if to_bool {
                    let truth = match PyObject_IsTrue(result.as_ptr()) {
                        -1 => return None,
                        truth => truth != 0,
                    };
                    push(frame, boolean(truth)?);
                } else {
                    push(frame, result);
                }
            }
        }
        Some(next)
    }
}

/// An exception arrives: some are expected.
///
/// # Safety
/// As [`settle`]; an exception is set.
unsafe fn raised(record: &Record, frame: *mut Frame, instruction: Instruction) -> Option<usize> {
    // SAFETY: passed on.
    unsafe {
        match record.then.action {
            Action::Step if PyErr_ExceptionMatches(PyExc_StopIteration) != 0 => {
                PyErr_Clear();
                exhausted(frame, instruction)
            }
            Action::Next
                if !record.then.operands.is_empty()
                    && PyErr_ExceptionMatches(PyExc_StopIteration) != 0 =>
            {
                PyErr_Clear();
                push(frame, Owned::new(record.then.operands[0].as_ptr())?);
                Some(record.next as usize)
            }
            Action::Attribute | Action::CallableAttribute
                if PyErr_ExceptionMatches(PyExc_AttributeError) != 0 =>
            {
                let object = record.then.operands.first()?.as_ptr();
                let function = lookup(object, c"__getattr__");
                if function.is_null() {
                    return None;
                }
                PyErr_Clear();
                let (name, _) = if opcode(instruction.opcode) == Opcode::LoadMethod {
                    (instruction.argument, true)
                } else {
                    attribute(instruction.argument)
                };
                let code: *mut Code = record.code.as_ptr().cast();
                let name = PyTuple_GET_ITEM((*code).names, name as isize);
                let function = Owned::new(function)?;
                let then = Then::plain(match record.then.action {
                    Action::Attribute => Action::Push,
                    _ => Action::PushCallable,
                });
                let value = while_calling(frame, record, function.as_ptr(), then, || {
                    Owned::taking(PyObject_CallFunctionObjArgs(
                        function.as_ptr(),
                        object,
                        name,
                        ptr::null_mut::<PyObject>(),
                    ))
                })?;
                if record.then.action == Action::Attribute {
                    push(frame, value);
                } else {
                    push_callable(frame, value);
                }
                Some(record.next as usize)
            }
            _ => None,
        }
    }
}

/// The instruction in which a frame waits.
///
/// # Safety
/// As [`settle`].
unsafe fn instruction(record: &Record) -> Option<Instruction> {
    // SAFETY: the code is a code object.
    let shape = unsafe { Shape::of(record.code.as_ptr().cast())? };
    let (_, step) = shape.step(record.at as usize)?;
    Some(step.instruction)
}

/// Whether a branch leaves its condition on the stack if it jumps.
pub(super) const fn keeps_condition(instruction: Instruction) -> bool {
    matches!(
        opcode(instruction.opcode),
        Opcode::JumpIfFalseOrPop | Opcode::JumpIfTrueOrPop
    )
}

/// Where a loop goes on behind its end: the iterator is gone.
///
/// # Safety
/// As [`settle`]; the iterator is on top.
unsafe fn exhausted(frame: *mut Frame, instruction: Instruction) -> Option<usize> {
    // SAFETY: passed on.
    unsafe { pop(frame) };
    // The instructions there, which take the iterator and a value off, are passed over.
    let over = if cfg!(Py_3_13) {
        2
    } else {
        usize::from(cfg!(Py_3_12))
    };
    Some(target(instruction)? + over)
}

fn target(instruction: Instruction) -> Option<usize> {
    use crate::layout::{Jump, jump};
    match jump(instruction.opcode) {
        Jump::Backward => instruction.next.checked_sub(instruction.argument as usize),
        Jump::Forward => Some(instruction.next + instruction.argument as usize),
        Jump::None => None,
    }
}

/// # Safety
/// As [`settle`]; there is room.
unsafe fn push(frame: *mut Frame, value: Owned) {
    // SAFETY: passed on.
    unsafe { push_pointer(frame, value.into_ptr()) };
}

/// # Safety
/// As [`push`].
unsafe fn push_pointer(frame: *mut Frame, value: *mut PyObject) {
    // SAFETY: passed on.
    unsafe {
        let slots = (&raw mut (*frame).localsplus).cast::<*mut PyObject>();
        slots.add((*frame).stacktop as usize).write(value);
        (*frame).stacktop += 1;
    }
}

/// Pushes something to be called, and null beside it.
///
/// # Safety
/// As [`push`].
unsafe fn push_callable(frame: *mut Frame, value: Owned) {
    // SAFETY: passed on.
    unsafe {
        if cfg!(Py_3_13) {
            push(frame, value);
            push_pointer(frame, ptr::null_mut());
        } else {
            push_pointer(frame, ptr::null_mut());
            push(frame, value);
        }
    }
}

/// # Safety
/// As [`settle`]; the stack is not empty.
unsafe fn pop(frame: *mut Frame) {
    // SAFETY: passed on; the slot is out of the frame before its value goes.
    unsafe {
        (*frame).stacktop -= 1;
        let slots = (&raw mut (*frame).localsplus).cast::<*mut PyObject>();
        let slot = slots.add((*frame).stacktop as usize);
        Py_XDECREF(slot.replace(ptr::null_mut()));
    }
}

/// Takes the topmost value off the stack, which may be null. `None`: the stack is empty.
///
/// # Safety
/// As [`settle`]. The reference is the caller's.
pub(super) unsafe fn take_top(frame: *mut Frame) -> Option<*mut PyObject> {
    // SAFETY: passed on; there is such a slot above the variables.
    unsafe {
        let code: *const Code = (*frame).code.cast();
        if (*frame).stacktop <= (*code).nlocalsplus {
            return None;
        }
        (*frame).stacktop -= 1;
        let slots = (&raw mut (*frame).localsplus).cast::<*mut PyObject>();
        let slot = slots.add((*frame).stacktop as usize);
        Some(slot.replace(ptr::null_mut()))
    }
}

/// Puts what [`take_top`] took in the place of the value that was pushed since.
///
/// # Safety
/// As [`settle`]; one value has been pushed since.
pub(super) unsafe fn put_top(frame: *mut Frame, top: Option<*mut PyObject>) {
    // SAFETY: passed on; the slot is out of the frame before its value goes.
    unsafe {
        let slots = (&raw mut (*frame).localsplus).cast::<*mut PyObject>();
        let slot = slots.add((*frame).stacktop as usize - 1);
        let pushed = slot.replace(top.unwrap_or_else(ptr::null_mut));
        if top.is_none() {
            (*frame).stacktop -= 1;
        }
        Py_XDECREF(pushed);
    }
}

/// The truth of what `__bool__` returned.
///
/// # Safety
/// See the crate.
unsafe fn truth(value: &Owned) -> Option<bool> {
    // SAFETY: passed on.
    unsafe {
        if PyBool_Check(value.as_ptr()) == 0 {
            let class = (*Py_TYPE(value.as_ptr())).tp_name;
            return fail(c"__bool__ should return bool, returned %s", class);
        }
        Some(value.as_ptr() == Py_True())
    }
}

/// # Safety
/// See the crate.
unsafe fn boolean(value: bool) -> Option<Owned> {
    // SAFETY: passed on.
    unsafe { Owned::new(if value { Py_True() } else { Py_False() }) }
}

/// Sets a `TypeError`.
///
/// # Safety
/// See the crate; the format has one `%s`.
unsafe fn fail<T>(format: &CStr, argument: *const std::ffi::c_char) -> Option<T> {
    // SAFETY: passed on.
    unsafe { PyErr_Format(PyExc_TypeError, format.as_ptr(), argument) };
    None
}

/// Calls a method looked up by the type of the first operand; null pointers mean that it has none.
/// `NotImplemented` counts as none. `stage` is the number of the method for a capture meanwhile.
///
/// # Safety
/// As [`settle`]. `Err`: an exception is set.
unsafe fn try_method(
    record: &Record,
    frame: *const Frame,
    stage: i64,
    object: *mut PyObject,
    name: &CStr,
    other: *mut PyObject,
) -> Result<Option<Owned>, ()> {
    // SAFETY: passed on; a method is bound the way CPython does it, by `__get__`.
    unsafe {
        let found = lookup(object, name);
        if found.is_null() || found == Py_None() {
            return Ok(None);
        }
        let method = match (*Py_TYPE(found)).tp_descr_get {
            Some(get) => Owned::taking(get(found, object, Py_TYPE(object).cast())),
            None => Owned::new(found),
        };
        let method = method.ok_or(())?;
        let stage = Owned::taking(PyLong_FromLongLong(stage)).ok_or(())?;
        let mut operands = Vec::with_capacity(3);
        operands.extend(
            record.then.operands[..2]
                .iter()
                .filter_map(|operand| Owned::new(operand.as_ptr())),
        );
        operands.push(stage);
        let action = record.then.action;
        let then = Then { action, operands };
        let result = while_calling(frame, record, method.as_ptr(), then, || {
            Owned::taking(PyObject_CallFunctionObjArgs(
                method.as_ptr(),
                other,
                ptr::null_mut::<PyObject>(),
            ))
        });
        let result = result.ok_or(())?;
        Ok((result.as_ptr() != Py_NotImplemented()).then_some(result))
    }
}

/// What a binary operation goes on with after `NotImplemented`.
///
/// # Safety
/// See the crate. `stage`: which method returned that, 0 in place, 1 forward, 2 reflected.
unsafe fn binary(
    record: &Record,
    frame: *const Frame,
    argument: u32,
    left: *mut PyObject,
    right: *mut PyObject,
    stage: i64,
) -> Option<Owned> {
    let (in_place, forward, reflected) = binary_names(argument)?;
    let (forward, reflected) = (CString::new(forward).ok()?, CString::new(reflected).ok()?);
    // SAFETY: passed on.
    unsafe {
        let (left_type, right_type) = (Py_TYPE(left), Py_TYPE(right));
        // A subclass that has a reflected method of its own is asked before the forward one.
        let right_first = left_type != right_type
            && PyType_IsSubtype(right_type, left_type) != 0
            && lookup(right, &reflected) != lookup(left, &reflected);
        let mut order: Vec<(i64, *mut PyObject, &CStr, *mut PyObject)> =
            vec![(1, left, &forward, right)];
        if left_type != right_type {
            order.insert(usize::from(!right_first), (2, right, &reflected, left));
        }
        let from = match stage {
            0 => 0,
            _ => order
                .iter()
                .position(|(method, ..)| *method == stage)
                .map_or(order.len(), |index| index + 1),
        };
        for &(stage, object, name, other) in &order[from..] {
            match try_method(record, frame, stage, object, name, other) {
                Ok(None) => {}
                Ok(Some(result)) => return Some(result),
                Err(()) => return None,
            }
        }
        // What C types do beyond their methods of numbers: `+` and `*` of sequences.
        if let Some(result) = sequence(argument, left, right, in_place.is_some()) {
            return result;
        }
        let symbols = [
            c"+",
            c"&",
            c"//",
            c"<<",
            c"@",
            c"*",
            c"%",
            c"|",
            c"** or pow()",
            c">>",
            c"-",
            c"/",
            c"^",
        ];
        let in_place_symbols = [
            c"+=", c"&=", c"//=", c"<<=", c"@=", c"*=", c"%=", c"|=", c"**=", c">>=", c"-=", c"/=",
            c"^=",
        ];
        let index = argument as usize % symbols.len();
        let symbol = if in_place.is_some() {
            in_place_symbols[index]
        } else {
            symbols[index]
        };
        PyErr_Format(
            PyExc_TypeError,
            c"unsupported operand type(s) for %.100s: '%.100s' and '%.100s'".as_ptr(),
            symbol.as_ptr(),
            (*left_type).tp_name,
            (*right_type).tp_name,
        );
        None
    }
}

/// `+` and `*` of C sequences. `None`: neither operand is one.
///
/// # Safety
/// See the crate.
unsafe fn sequence(
    argument: u32,
    left: *mut PyObject,
    right: *mut PyObject,
    in_place: bool,
) -> Option<Option<Owned>> {
    const ADD: usize = 0;
    const MULTIPLY: usize = 5;
    // SAFETY: passed on; slots are called with operands as `PyNumber_Add` and its like do.
    unsafe {
        match argument as usize % 13 {
            ADD => {
                let methods = (*Py_TYPE(left)).tp_as_sequence.as_ref()?;
                let slot = if in_place && methods.sq_inplace_concat.is_some() {
                    methods.sq_inplace_concat
                } else {
                    methods.sq_concat
                };
                slot.map(|slot| Owned::taking(slot(left, right)))
            }
            MULTIPLY => {
                for (sequence, count) in [(left, right), (right, left)] {
                    let methods = (*Py_TYPE(sequence)).tp_as_sequence.as_ref();
                    if let Some(repeat) = methods.and_then(|methods| methods.sq_repeat) {
                        if pyo3_ffi::PyIndex_Check(count) == 0 {
                            let class = (*Py_TYPE(count)).tp_name;
                            return Some(fail(
                                c"can't multiply sequence by non-int of type '%.200s'",
                                class,
                            ));
                        }
                        let count =
                            pyo3_ffi::PyNumber_AsSsize_t(count, pyo3_ffi::PyExc_OverflowError);
                        if count == -1 && !pyo3_ffi::PyErr_Occurred().is_null() {
                            return Some(None);
                        }
                        return Some(Owned::taking(repeat(sequence, count)));
                    }
                }
                None
            }
            _ => None,
        }
    }
}

/// What a comparison goes on with after `NotImplemented`.
///
/// # Safety
/// See the crate.
unsafe fn compare(
    record: &Record,
    frame: *const Frame,
    argument: u32,
    left: *mut PyObject,
    right: *mut PyObject,
    stage: i64,
) -> Option<Owned> {
    const EQUAL: usize = 2;
    const UNEQUAL: usize = 3;
    let number = comparison(argument);
    let (name, reflected) = comparison_names(number)?;
    // SAFETY: passed on.
    unsafe {
        let (left_type, right_type) = (Py_TYPE(left), Py_TYPE(right));
        let right_first = left_type != right_type && PyType_IsSubtype(right_type, left_type) != 0;
        let mut order: Vec<(i64, *mut PyObject, &CStr, *mut PyObject)> =
            vec![(1, left, name, right), (2, right, reflected, left)];
        if right_first {
            order.reverse();
        }
        let from = order
            .iter()
            .position(|(method, ..)| *method == stage)
            .map_or(0, |index| index + 1);
        for &(stage, object, name, other) in &order[from..] {
            match try_method(record, frame, stage, object, name, other) {
                Ok(None) => {}
                Ok(Some(result)) => return Some(result),
                Err(()) => return None,
            }
        }
        if number == EQUAL || number == UNEQUAL {
            return boolean((left == right) == (number == EQUAL));
        }
        let symbols = [c"<", c"<=", c"==", c"!=", c">", c">="];
        PyErr_Format(
            PyExc_TypeError,
            c"'%s' not supported between instances of '%.100s' and '%.100s'".as_ptr(),
            symbols[number].as_ptr(),
            (*left_type).tp_name,
            (*right_type).tp_name,
        );
        None
    }
}
