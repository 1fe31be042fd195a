//! Whether the saved state of a frame is one that its code can have.
//!
//! A [`Shape`] holds what the bytecode says, found once per code object by following all its ways:
//! how deep the value stack is before each instruction and what the interpreter takes for granted
//! of each value ([`crate::effects`]); and, backwards, which variables must be bound and which slots
//! must be cells ([`crate::needs`]). A state that agrees cannot make the interpreter touch what is
//! not there. It can still be a *wrong* state: that is what signatures are for.

use std::ffi::c_int;
use std::sync::OnceLock;

use pyo3_ffi::{
    Py_None, Py_TYPE, PyBytes_AsString, PyBytes_Size, PyCell_Type, PyDict_CheckExact, PyErr_Format,
    PyErr_NoMemory, PyExc_ValueError, PyExceptionInstance_Check, PyIter_Check, PyList_CheckExact,
    PyLong_AsLong, PyLong_CheckExact, PyObject, PySet_Type, PyTuple_CheckExact, PyTuple_GET_ITEM,
    PyTuple_GET_SIZE,
};

use crate::bytecode::{Base, Handler, Instruction, handlers};
use crate::effects::{self, Context, Holds, Stack};
use crate::extra::Slot;
use crate::layout::{CREATED, Code, DELEGATING, Jump, Opcode, SUSPENDED, ends, jump, opcode};
use crate::needs::Needs;

/// The shapes of code objects.
static SHAPES: Slot<Shape> = Slot::new();

/// What the bytecode of a code object says about its frames.
pub(crate) struct Shape {
    pub(crate) instructions: Box<[Step]>,
    /// For each unit, the index of the instruction that it is part of (with its caches).
    index: Box<[u32]>,
    /// Whether all ways through the code were understood.
    understood: bool,
    /// Whether a call does nothing but make a generator, coroutine or the like.
    generator: bool,
    /// Whether the first variable is the iterator that a comprehension was called with.
    iterates_argument: bool,
    pub(crate) kinds: Box<[SlotKind]>,
    needs: OnceLock<Needs>,
}

/// An instruction and the stack before it; `None`: it is never reached.
pub(crate) struct Step {
    pub(crate) instruction: Instruction,
    /// Where it begins: at its first `EXTENDED_ARG`.
    pub(crate) start: usize,
    pub(crate) stack: Option<Box<[Holds]>>,
    /// The instruction that handles its exceptions.
    pub(crate) handler: Option<u32>,
}

/// What a slot before the stack is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SlotKind {
    /// A variable.
    Local,
    /// A variable that others share; `by` says whether it may hold a plain value too.
    Cell { or_value: bool },
    /// A variable of an outer function.
    Free,
}

impl Shape {
    /// The shape of a code object. `None`: an exception is set.
    ///
    /// # Safety
    /// See the crate. The result lives as long as the code object.
    pub(crate) unsafe fn of<'a>(code: *mut Code) -> Option<&'a Self> {
        // SAFETY: passed on.
        unsafe {
            let shape = SHAPES.of(code.cast(), || Self::find(code));
            if shape.is_none() {
                PyErr_NoMemory();
            }
            shape
        }
    }

    /// # Safety
    /// See the crate.
    unsafe fn find(code: *mut Code) -> Option<Self> {
        // SAFETY: `code` is a code object, whose fields have the types that CPython gave them.
        let (base, handlers, kinds, constants) = unsafe {
            let bytes = |object| {
                let length = usize::try_from(PyBytes_Size(object)).unwrap_or(0);
                std::slice::from_raw_parts(PyBytes_AsString(object).cast::<u8>(), length)
            };
            let kinds: Box<[_]> = bytes((*code).localspluskinds)
                .iter()
                .map(|&kind| SlotKind::of(kind))
                .collect();
            (
                Base::of(code)?,
                handlers(bytes((*code).exceptiontable)),
                kinds,
                (*code).consts,
            )
        };
        let mut instructions = Vec::new();
        let mut index = vec![u32::MAX; base.len()];
        let mut start = 0;
        while let Some(instruction) = base.at(start) {
            let number = instructions.len() as u32;
            index
                .get_mut(start..instruction.next.min(base.len()))?
                .fill(number);
            instructions.push(Step {
                instruction,
                start,
                stack: None,
                handler: None,
            });
            start = instruction.next;
        }
        let mut shape = Self {
            index: index.into(),
            understood: false,
            generator: begins_as_generator(&instructions),
            iterates_argument: false,
            kinds,
            needs: OnceLock::new(),
            instructions: instructions.into(),
        };
        let is_tuple = |index: u32| {
            // SAFETY: `co_consts` is a tuple; the index is checked.
            unsafe {
                (i64::from(index) < PyTuple_GET_SIZE(constants) as i64)
                    .then(|| PyTuple_CheckExact(PyTuple_GET_ITEM(constants, index as isize)) != 0)
            }
        };
        // SAFETY: as above.
        let (names, deepest) = unsafe {
            (
                PyTuple_GET_SIZE((*code).names),
                usize::try_from((*code).stacksize).unwrap_or(0),
            )
        };
        shape.understood = shape
            .flow(&handlers, is_tuple, names.cast_unsigned(), deepest)
            .is_some();
        Some(shape)
    }

    /// Follows all ways through the code. `None`: they make no sense.
    fn flow(
        &mut self,
        handlers: &[Handler],
        constant_is_tuple: impl Fn(u32) -> Option<bool>,
        names: usize,
        deepest: usize,
    ) -> Option<()> {
        let mut open = vec![0usize];
        self.instructions.first_mut()?.stack = Some(Box::default());
        while let Some(number) = open.pop() {
            let step = &self.instructions[number];
            let instruction = step.instruction;
            let stack: Stack = step.stack.as_deref()?.to_vec();
            let start = step.start;
            self.in_range(instruction, names)?;
            let next = self.instructions.get(number + 1);
            let next = next.map(|next| opcode(next.instruction.opcode));
            let is = opcode(instruction.opcode);
            let loads_iterator = is == Opcode::LoadFast
                && instruction.argument == 0
                && next == Some(Opcode::ForIter);
            let before = |index: usize| {
                let step = number
                    .checked_sub(index)
                    .map(|index| &self.instructions[index]);
                step.map(|step| opcode(step.instruction.opcode))
            };
            let context = Context {
                // `except*` goes on with the exception; a display in a `finally`, which begins the
                // same way, with its first element.
                gathers_exceptions: is == Opcode::BuildList
                    && instruction.argument == 0
                    && if cfg!(Py_3_12) {
                        before(1) == Some(Opcode::PushExcInfo) && next == Some(Opcode::Copy)
                    } else {
                        before(1) == Some(Opcode::Copy)
                            && before(2) == Some(Opcode::PushExcInfo)
                            && next == Some(Opcode::Swap)
                    },
                constant_is_tuple: is == Opcode::LoadConst
                    && constant_is_tuple(instruction.argument)?,
                loads_iterator,
            };
            self.iterates_argument |= loads_iterator;
            // Before and after the instruction an exception may be raised that finds the stack at
            // least as deep as the handler asks for, and what lies below is the same then.
            if let Some(handler) = handlers
                .iter()
                .find(|handler| (handler.start..handler.end).contains(&start))
            {
                let target = *self.index.get(handler.target)?;
                self.instructions[number].handler = Some(target);
                let begins = effects::handler(&stack, handler.depth, handler.lasti)?;
                self.reach(target, begins, deepest, &mut open)?;
            }
            let target = match jump(instruction.opcode) {
                Jump::Backward => Some(
                    instruction
                        .next
                        .checked_sub(instruction.argument as usize)?,
                ),
                Jump::Forward => Some(instruction.next + instruction.argument as usize),
                Jump::None => None,
            };
            if let Some(target) = target {
                let mut along = stack.clone();
                effects::apply(&mut along, instruction, true, &context)?;
                let target = *self.index.get(target)?;
                self.reach(target, along, deepest, &mut open)?;
            }
            let mut behind = stack;
            effects::apply(&mut behind, instruction, false, &context)?;
            if !ends(instruction.opcode) {
                let next = u32::try_from(number + 1).ok()?;
                self.reach(next, behind, deepest, &mut open)?;
            }
        }
        Some(())
    }

    /// Notes that an instruction is reached with this stack.
    fn reach(
        &mut self,
        number: u32,
        stack: Stack,
        deepest: usize,
        open: &mut Vec<usize>,
    ) -> Option<()> {
        if stack.len() > deepest {
            return None;
        }
        let step = self.instructions.get_mut(number as usize)?;
        match &mut step.stack {
            None => step.stack = Some(stack.into()),
            Some(known) => {
                if !effects::meet(known, &stack)? {
                    return Some(());
                }
            }
        }
        open.push(number as usize);
        Some(())
    }

    /// Whether the slots and names that an instruction refers to exist.
    fn in_range(&self, instruction: Instruction, names: usize) -> Option<()> {
        let argument = instruction.argument as usize;
        let slots = self.kinds.len();
        let fine = match opcode(instruction.opcode) {
            Opcode::LoadFast
            | Opcode::LoadFastCheck
            | Opcode::LoadFastAndClear
            | Opcode::StoreFast
            | Opcode::DeleteFast
            | Opcode::LoadClosure
            | Opcode::LoadClassderef
            | Opcode::LoadDeref
            | Opcode::LoadFromDictOrDeref
            | Opcode::StoreDeref
            | Opcode::DeleteDeref
            | Opcode::MakeCell => argument < slots,
            Opcode::LoadFastLoadFast | Opcode::StoreFastLoadFast | Opcode::StoreFastStoreFast => {
                argument >> 4 < slots && argument & 15 < slots
            }
            Opcode::LoadName
            | Opcode::StoreName
            | Opcode::DeleteName
            | Opcode::StoreGlobal
            | Opcode::DeleteGlobal
            | Opcode::StoreAttr
            | Opcode::DeleteAttr
            | Opcode::ImportName
            | Opcode::ImportFrom
            | Opcode::LoadMethod
            | Opcode::LoadFromDictOrGlobals => argument < names,
            Opcode::LoadGlobal => argument >> 1 < names,
            Opcode::LoadAttr => argument >> u32::from(cfg!(Py_3_12)) < names,
            Opcode::LoadSuperAttr => argument >> 2 < names,
            _ => true,
        };
        fine.then_some(())
    }

    /// Whether a call of the code does nothing but make a generator, coroutine or the like.
    pub(crate) const fn begins_as_generator(&self) -> bool {
        self.understood && self.generator
    }

    /// The instruction that a unit is part of.
    pub(crate) fn step(&self, unit: usize) -> Option<(usize, &Step)> {
        let number = *self.index.get(unit)? as usize;
        Some((number, self.instructions.get(number)?))
    }

    /// The instruction that begins at a unit, if it can be reached.
    pub(crate) fn beginning(&self, unit: usize) -> Option<(usize, &Step, &[Holds])> {
        let (number, step) = self.step(unit)?;
        let stack = step.stack.as_deref()?;
        (self.understood && step.start == unit).then_some((number, step, stack))
    }

    /// Whether all ways through the code were understood.
    pub(crate) const fn understood(&self) -> bool {
        self.understood
    }

    fn needs(&self) -> &Needs {
        self.needs.get_or_init(|| Needs::of(self))
    }
}

impl SlotKind {
    const fn of(kind: u8) -> Self {
        const LOCAL: u8 = 0x20;
        const CELL: u8 = 0x40;
        const FREE: u8 = 0x80;
        if kind & FREE != 0 {
            Self::Free
        } else if kind & CELL != 0 {
            Self::Cell {
                or_value: kind & LOCAL != 0,
            }
        } else {
            Self::Local
        }
    }
}

fn begins_as_generator(steps: &[Step]) -> bool {
    steps
        .iter()
        .map(|step| opcode(step.instruction.opcode))
        .find(|kind| !matches!(kind, Opcode::CopyFreeVars | Opcode::MakeCell))
        == Some(Opcode::ReturnGenerator)
}

/// Checks the state of a generator at rest. Returns its `gi_frame_state`; `None`: it is none that
/// this code can have, and `ValueError` is set.
///
/// # Safety
/// See the crate. The values are alive; `null` stands for null pointers among them.
pub(crate) unsafe fn suspended(
    code: *mut Code,
    next: usize,
    values: &[*mut PyObject],
    handled: *mut PyObject,
    null: *mut PyObject,
) -> Option<i8> {
    // SAFETY: passed on.
    unsafe {
        let shape = Shape::of(code)?;
        let Some((number, _, stack)) = shape.beginning(next) else {
            return refuse(code, c"%R cannot go on at unit %zd", next);
        };
        let before = number
            .checked_sub(1)
            .map(|number| &shape.instructions[number]);
        let state = match before.map(|step| (opcode(step.instruction.opcode), step)) {
            Some((Opcode::ReturnGenerator, _)) => CREATED,
            Some((Opcode::YieldValue, step)) => {
                // From 3.13 on its argument says whether it is part of a delegation.
                let delegates = DELEGATING != 0 && step.instruction.argument == 1;
                SUSPENDED + if delegates { DELEGATING } else { 0 }
            }
            _ => return refuse(code, c"%R does not wait at unit %zd", next),
        };
        // What is sent in comes on top.
        let (_, below) = stack.split_last()?;
        check(code, shape, number, below, values, null)?;
        check_handled(code, next, handled, null)?;
        Some(state)
    }
}

/// Checks the variables and the stack of a frame that goes on at an instruction.
///
/// # Safety
/// As [`suspended`].
pub(crate) unsafe fn check(
    code: *mut Code,
    shape: &Shape,
    number: usize,
    stack: &[Holds],
    values: &[*mut PyObject],
    null: *mut PyObject,
) -> Option<()> {
    // SAFETY: the values are alive.
    unsafe {
        let variables = shape.kinds.len();
        if values.len() != variables + stack.len() {
            return refuse(
                code,
                c"%R has another number of values there than %zd",
                values.len(),
            );
        }
        let (variables, pushed) = values.split_at(variables);
        let needs = shape.needs();
        for (index, (&value, &kind)) in variables.iter().zip(&shape.kinds).enumerate() {
            let need = needs.at(number, index);
            let is_null = value == null;
            let is_cell = !is_null && Py_TYPE(value) == &raw mut PyCell_Type;
            let fine = match kind {
                SlotKind::Local => !(is_null && need.bound),
                SlotKind::Cell { or_value: true } => {
                    (is_cell || !need.cell) && !(is_null && need.bound)
                }
                SlotKind::Cell { or_value: false } => {
                    is_cell || (is_null && !need.cell && !need.bound)
                }
                SlotKind::Free => is_cell,
            };
            let iterates = index == 0 && shape.iterates_argument;
            if !fine || (iterates && (is_null || PyIter_Check(value) == 0)) {
                return refuse(code, c"%R cannot have such a variable %zd", index);
            }
        }
        for (index, (&value, &holds)) in pushed.iter().zip(stack).enumerate() {
            let callable = index.checked_sub(1).map(|index| pushed[index]);
            let alone = cfg!(Py_3_13)
                && value == null
                && holds == Holds::Nullable
                && callable.is_some_and(|callable| is_list_append(callable));
            if alone || !fits(value, holds, shape, needs, number, null) {
                return refuse(
                    code,
                    c"%R cannot have such a value on its stack: %zd",
                    index,
                );
            }
        }
        Some(())
    }
}

/// Whether an object is `list.append`, a call of which 3.13 specialises so that it relies on the list.
///
/// # Safety
/// See the crate.
unsafe fn is_list_append(object: *mut PyObject) -> bool {
    // SAFETY: only a method of a type has this struct.
    unsafe {
        if Py_TYPE(object) != &raw mut pyo3_ffi::PyMethodDescr_Type {
            return false;
        }
        let method = object.cast::<pyo3_ffi::PyMethodDescrObject>();
        let definition = (*method).d_method;
        (*method).d_common.d_type == &raw mut pyo3_ffi::PyList_Type
            && std::ffi::CStr::from_ptr((*definition).ml_name) == c"append"
    }
}

/// Whether a value is what the interpreter takes it for.
///
/// # Safety
/// As [`check`].
unsafe fn fits(
    value: *mut PyObject,
    holds: Holds,
    shape: &Shape,
    needs: &Needs,
    number: usize,
    null: *mut PyObject,
) -> bool {
    // SAFETY: the value is alive, and not the sentinel where it is looked into.
    unsafe {
        if value == null {
            return match holds {
                Holds::Null | Holds::Nullable => true,
                Holds::Saved(index) => {
                    let need = needs.saved(number, index as usize);
                    !need.bound && !need.cell
                }
                _ => false,
            };
        }
        match holds {
            Holds::Any | Holds::Nullable => true,
            Holds::Saved(index) => {
                // What is put back into the slot of a cell must be one, if anything relies on it.
                let cells = matches!(
                    shape.kinds.get(index as usize),
                    Some(SlotKind::Free | SlotKind::Cell { or_value: false })
                );
                let cells = cells || needs.saved(number, index as usize).cell;
                !cells || Py_TYPE(value) == &raw mut PyCell_Type
            }
            Holds::Null => false,
            Holds::Dict => PyDict_CheckExact(value) != 0,
            Holds::Exception => PyExceptionInstance_Check(value) != 0,
            Holds::ExceptionOrNone => value == Py_None() || PyExceptionInstance_Check(value) != 0,
            Holds::Exceptions => {
                PyList_CheckExact(value) != 0
                    && (0..pyo3_ffi::PyList_GET_SIZE(value)).all(|index| {
                        let item = pyo3_ffi::PyList_GET_ITEM(value, index);
                        item == Py_None() || PyExceptionInstance_Check(item) != 0
                    })
            }
            Holds::Iterator => PyIter_Check(value) != 0,
            Holds::Lasti => {
                PyLong_CheckExact(value) != 0 && {
                    let unit = PyLong_AsLong(value);
                    pyo3_ffi::PyErr_Clear();
                    usize::try_from(unit).is_ok_and(|unit| unit < shape.index.len())
                }
            }
            Holds::List => PyList_CheckExact(value) != 0,
            Holds::Set => Py_TYPE(value) == &raw mut PySet_Type,
            Holds::Tuple => PyTuple_CheckExact(value) != 0,
        }
    }
}

/// Checks the exception that is being handled; null is none.
///
/// # Safety
/// As [`check`].
pub(crate) unsafe fn check_handled(
    code: *mut Code,
    next: usize,
    handled: *mut PyObject,
    null: *mut PyObject,
) -> Option<()> {
    // SAFETY: as `check`.
    unsafe {
        if !handled.is_null() && (handled == null || PyExceptionInstance_Check(handled) == 0) {
            return refuse(code, c"%R handles no exception at unit %zd", next);
        }
        Some(())
    }
}

/// Sets `ValueError`.
///
/// # Safety
/// See the crate; the format has `%R` and `%zd`.
pub(crate) unsafe fn refuse<T>(
    code: *mut Code,
    format: &std::ffi::CStr,
    number: usize,
) -> Option<T> {
    // SAFETY: passed on.
    unsafe {
        PyErr_Format(
            PyExc_ValueError,
            format.as_ptr(),
            code.cast::<PyObject>(),
            number.cast_signed(),
        );
    }
    None
}

/// Whether a code object is understood. For tests, which ask it about the whole standard library.
///
/// # Safety
/// See the crate; `code` is a code object.
#[doc(hidden)]
pub unsafe fn understands(code: *mut PyObject) -> c_int {
    // SAFETY: passed on.
    unsafe { Shape::of(code.cast()).map_or(-1, |shape| shape.understood().into()) }
}
