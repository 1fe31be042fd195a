//! What each base instruction does to the value stack, and what it takes for granted of it.
//!
//! The interpreter checks little: `LIST_APPEND` takes for a list what lies where the compiler put
//! one. So beside the depth of the stack it matters *what* lies there, as far as some instruction
//! relies on it ([`Holds`]).

use crate::bytecode::Instruction;
use crate::layout::{Opcode, opcode};

/// What the interpreter relies on of a value on the stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Holds {
    /// Any object.
    Any,
    Dict,
    Exception,
    /// An exception, or `None` where there was none.
    ExceptionOrNone,
    /// A list of such, which `except*` gathers.
    Exceptions,
    /// Something whose type has `tp_iternext`.
    Iterator,
    /// The unit of an instruction that failed.
    Lasti,
    List,
    /// Null.
    Null,
    /// An object or null.
    Nullable,
    /// The value that a variable had before a comprehension in this frame, or null.
    Saved(u32),
    Set,
    Tuple,
}

impl Holds {
    /// What can be said where two ways meet.
    fn join(self, other: Self) -> Self {
        match (self, other) {
            (one, same) if one == same => one,
            (Self::Exception, Self::ExceptionOrNone) | (Self::ExceptionOrNone, Self::Exception) => {
                Self::ExceptionOrNone
            }
            (one, another) if one.may_be_null() || another.may_be_null() => Self::Nullable,
            _ => Self::Any,
        }
    }

    pub(crate) const fn may_be_null(self) -> bool {
        matches!(self, Self::Null | Self::Nullable | Self::Saved(_))
    }
}

/// The value stack before an instruction, from its bottom.
pub(crate) type Stack = Vec<Holds>;

/// Brings what is known at an instruction together with what another way to it says. `None`: they
/// disagree about the depth. Otherwise whether anything changed.
pub(crate) fn meet(known: &mut [Holds], other: &[Holds]) -> Option<bool> {
    if known.len() != other.len() {
        return None;
    }
    let mut changed = false;
    for (one, &another) in known.iter_mut().zip(other) {
        let joined = one.join(another);
        changed |= joined != *one;
        *one = joined;
    }
    Some(changed)
}

/// What an instruction does, besides what its own code in [`apply`] says.
pub(crate) struct Context {
    /// Whether a constant is a tuple.
    pub(crate) constant_is_tuple: bool,
    /// Whether the list that is built gathers the exceptions of an `except*`.
    pub(crate) gathers_exceptions: bool,
    /// Whether the next instruction iterates over what this one loads.
    pub(crate) loads_iterator: bool,
}

/// Carries the stack over an instruction; `jumps`: along its jump. `None`: the stack is not one that
/// the instruction can work on, or nobody knows the instruction.
pub(crate) fn apply(
    stack: &mut Stack,
    instruction: Instruction,
    jumps: bool,
    context: &Context,
) -> Option<()> {
    use Holds::{
        Any, Dict, Exception, ExceptionOrNone, Exceptions, Iterator, Lasti, List, Null, Saved, Set,
        Tuple,
    };
    let argument = instruction.argument as usize;
    let low = argument & 1;
    let kind = opcode(instruction.opcode);
    match kind {
        Opcode::CopyFreeVars
        | Opcode::DeleteDeref
        | Opcode::DeleteFast
        | Opcode::DeleteGlobal
        | Opcode::DeleteName
        | Opcode::ExtendedArg
        | Opcode::JumpBackward
        | Opcode::JumpBackwardNoInterrupt
        | Opcode::JumpForward
        | Opcode::KwNames
        | Opcode::MakeCell
        | Opcode::Nop
        | Opcode::Precall
        | Opcode::Resume
        | Opcode::ReturnConst
        | Opcode::SetupAnnotations => {}

        Opcode::GetAnext
        | Opcode::GetLen
        | Opcode::ImportFrom
        | Opcode::LoadAssertionError
        | Opcode::LoadBuildClass
        | Opcode::LoadClassderef
        | Opcode::LoadClosure
        | Opcode::LoadDeref
        | Opcode::LoadFastCheck
        | Opcode::LoadLocals
        | Opcode::LoadName
        | Opcode::MatchMapping
        | Opcode::MatchSequence
        | Opcode::ReturnGenerator => {
            if matches!(
                kind,
                Opcode::GetAnext
                    | Opcode::GetLen
                    | Opcode::ImportFrom
                    | Opcode::MatchMapping
                    | Opcode::MatchSequence
            ) {
                peek(stack, 1, |_| true)?;
            }
            stack.push(Any);
        }
        Opcode::LoadFast => stack.push(if context.loads_iterator {
            Iterator
        } else {
            Any
        }),
        Opcode::LoadFastLoadFast => stack.extend([Any, Any]),
        Opcode::LoadFastAndClear => stack.push(Saved(instruction.argument)),
        Opcode::LoadConst => stack.push(if context.constant_is_tuple {
            Tuple
        } else {
            Any
        }),
        Opcode::PushNull => stack.push(Null),
        Opcode::LoadGlobal => callable(stack, low == 1),
        Opcode::LoadMethod => {
            take(stack, 1)?;
            callable_from_object(stack, true);
        }
        Opcode::LoadAttr => {
            take(stack, 1)?;
            callable_from_object(stack, cfg!(Py_3_12) && low == 1);
        }
        Opcode::LoadSuperAttr => {
            take(stack, 3)?;
            callable_from_object(stack, low == 1);
        }
        Opcode::MatchKeys => {
            peek(stack, 1, |holds| holds == Tuple)?;
            stack.push(Any);
        }
        Opcode::WithExceptStart => {
            peek(stack, 1, |holds| holds == Exception)?;
            peek(stack, 4, |holds| holds == Any)?;
            stack.push(Any);
        }

        Opcode::PopTop
        | Opcode::DeleteAttr
        | Opcode::ImportStar
        | Opcode::PrintExpr
        | Opcode::ReturnValue
        | Opcode::StoreDeref
        | Opcode::StoreGlobal
        | Opcode::StoreName
        | Opcode::PopJumpBackwardIfFalse
        | Opcode::PopJumpBackwardIfNone
        | Opcode::PopJumpBackwardIfNotNone
        | Opcode::PopJumpBackwardIfTrue
        | Opcode::PopJumpForwardIfFalse
        | Opcode::PopJumpForwardIfNone
        | Opcode::PopJumpForwardIfNotNone
        | Opcode::PopJumpForwardIfTrue
        | Opcode::PopJumpIfFalse
        | Opcode::PopJumpIfNone
        | Opcode::PopJumpIfNotNone
        | Opcode::PopJumpIfTrue => {
            // `POP_TOP` copes with null nowhere, but with `Saved` the compiler never asks it to.
            take(stack, 1)?;
        }
        Opcode::StoreFast => {
            stack.pop()?;
        }
        Opcode::StoreFastLoadFast => {
            stack.pop()?;
            stack.push(Any);
        }
        Opcode::StoreFastStoreFast => {
            stack.pop()?;
            stack.pop()?;
        }
        Opcode::PopExcept => {
            let handled = stack.pop()?;
            (handled == ExceptionOrNone || handled == Exception).then_some(())?;
        }
        Opcode::StoreAttr | Opcode::DeleteSubscr => take(stack, 2)?,
        Opcode::EndAsyncFor => {
            peek(stack, 1, |holds| holds == Exception)?;
            take(stack, 2)?;
        }
        Opcode::StoreSubscr => take(stack, 3)?,
        Opcode::StoreSlice => take(stack, 4)?,
        Opcode::RaiseVarargs => take(stack, argument)?,
        Opcode::Reraise => {
            peek(stack, 1, |holds| {
                matches!(holds, Exception | ExceptionOrNone)
            })?;
            if argument > 0 {
                peek(stack, argument + 1, |holds| holds == Lasti)?;
            }
            stack.pop()?;
        }
        Opcode::EndFor => take(stack, if cfg!(Py_3_13) { 1 } else { 2 })?,
        Opcode::ExitInitCheck => take(stack, 1)?,
        Opcode::EndSend => {
            take(stack, 2)?;
            stack.push(Any);
        }

        Opcode::UnaryInvert
        | Opcode::UnaryNegative
        | Opcode::UnaryNot
        | Opcode::UnaryPositive
        | Opcode::ToBool
        | Opcode::AsyncGenWrap
        | Opcode::ConvertValue
        | Opcode::FormatSimple
        | Opcode::GetAiter
        | Opcode::GetAwaitable
        | Opcode::GetYieldFromIter
        | Opcode::LoadFromDictOrDeref
        | Opcode::LoadFromDictOrGlobals
        | Opcode::YieldValue => one(stack, 1, Any)?,
        Opcode::GetIter => one(stack, 1, Iterator)?,
        Opcode::ListToTuple => {
            peek(stack, 1, |holds| holds == List)?;
            one(stack, 1, Tuple)?;
        }
        Opcode::CallIntrinsic1 => {
            const STOPITERATION_ERROR: usize = 3;
            const LIST_TO_TUPLE: usize = 6;
            if argument == STOPITERATION_ERROR {
                peek(stack, 1, |holds| holds == Exception)?;
            } else if argument == LIST_TO_TUPLE {
                peek(stack, 1, |holds| holds == List)?;
                one(stack, 1, Tuple)?;
            } else {
                one(stack, 1, Any)?;
            }
        }
        Opcode::CallIntrinsic2 => {
            const PREP_RERAISE_STAR: usize = 1;
            if argument == PREP_RERAISE_STAR {
                prepare_star(stack)?;
            } else {
                one(stack, 2, Any)?;
            }
        }
        Opcode::PrepReraiseStar => prepare_star(stack)?,
        Opcode::BinaryOp
        | Opcode::BinarySubscr
        | Opcode::CompareOp
        | Opcode::ContainsOp
        | Opcode::FormatWithSpec
        | Opcode::ImportName
        | Opcode::IsOp => one(stack, 2, Any)?,
        Opcode::SetFunctionAttribute => {
            const CLOSURE: usize = 8;
            const KEYWORD_DEFAULTS: usize = 2;
            let holds = if argument == KEYWORD_DEFAULTS {
                Dict
            } else {
                Tuple
            };
            debug_assert!(argument <= CLOSURE);
            peek(stack, 2, |value| value == holds)?;
            one(stack, 2, Any)?;
        }
        Opcode::BinarySlice | Opcode::MatchClass => one(stack, 3, Any)?,
        Opcode::CheckExcMatch => {
            peek(stack, 2, |holds| holds == Exception)?;
            one(stack, 1, Any)?;
        }
        Opcode::CheckEgMatch => {
            peek(stack, 2, |holds| {
                matches!(holds, Exception | ExceptionOrNone)
            })?;
            take(stack, 2)?;
            stack.extend([ExceptionOrNone, ExceptionOrNone]);
        }
        Opcode::PushExcInfo => {
            peek(stack, 1, |holds| holds == Exception)?;
            stack.pop()?;
            stack.extend([ExceptionOrNone, Exception]);
        }
        Opcode::CleanupThrow => {
            peek(stack, 1, |holds| holds == Exception)?;
            take(stack, 3)?;
            stack.extend([Any, Any]);
        }
        Opcode::BeforeAsyncWith | Opcode::BeforeWith => {
            take(stack, 1)?;
            stack.extend([Any, Any]);
        }
        Opcode::BuildList if context.gathers_exceptions => one(stack, argument, Exceptions)?,
        Opcode::BuildList => one(stack, argument, List)?,
        Opcode::BuildSet => one(stack, argument, Set)?,
        Opcode::BuildTuple => one(stack, argument, Tuple)?,
        Opcode::BuildMap => one(stack, 2 * argument, Dict)?,
        Opcode::BuildConstKeyMap => one(stack, argument + 1, Dict)?,
        Opcode::BuildSlice | Opcode::BuildString => one(stack, argument, Any)?,
        Opcode::FormatValue => {
            const WITH_SPEC: usize = 4;
            one(stack, 1 + usize::from(argument & WITH_SPEC != 0), Any)?;
        }
        Opcode::MakeFunction => {
            if !cfg!(Py_3_13) {
                // From the bottom: defaults, keyword defaults, annotations, closure, code.
                let present: Vec<_> = [Tuple, Dict, Tuple, Tuple]
                    .into_iter()
                    .enumerate()
                    .filter(|(bit, _)| argument >> bit & 1 != 0)
                    .collect();
                for (index, (_, holds)) in present.iter().rev().enumerate() {
                    peek(stack, 2 + index, |value| value == *holds)?;
                }
                take(stack, present.len())?;
            }
            one(stack, 1, Any)?;
        }
        Opcode::UnpackSequence => {
            take(stack, 1)?;
            push(stack, argument)?;
        }
        Opcode::UnpackEx => {
            take(stack, 1)?;
            push(stack, (argument & 0xff) + (argument >> 8) + 1)?;
        }

        Opcode::Call => call(stack, argument, 0)?,
        Opcode::CallKw => call(stack, argument, 1)?,
        Opcode::CallFunctionEx => call(stack, 1 + low, 0)?,

        Opcode::Copy => {
            let index = stack.len().checked_sub(argument)?;
            stack.push(*stack.get(index)?);
        }
        Opcode::Swap => {
            let top = stack.len().checked_sub(1)?;
            let other = stack.len().checked_sub(argument)?;
            stack.get(other)?;
            stack.swap(top, other);
        }
        Opcode::ListAppend if peek(stack, argument + 1, |holds| holds == Exceptions).is_some() => {
            // What does not match, and what the handlers raise.
            peek(stack, 1, |holds| {
                matches!(holds, Exception | ExceptionOrNone)
            })?;
            take(stack, 1)?;
        }
        Opcode::ListAppend | Opcode::ListExtend => collect(stack, 1, argument, List)?,
        Opcode::SetAdd | Opcode::SetUpdate => collect(stack, 1, argument, Set)?,
        Opcode::DictMerge | Opcode::DictUpdate => collect(stack, 1, argument, Dict)?,
        Opcode::MapAdd => collect(stack, 2, argument, Dict)?,

        Opcode::ForIter => {
            peek(stack, 1, |holds| holds == Iterator)?;
            if jumps && !cfg!(Py_3_12) {
                stack.pop()?;
            } else {
                stack.push(Any);
            }
        }
        Opcode::Send => {
            if jumps && !cfg!(Py_3_12) {
                one(stack, 2, Any)?;
            } else {
                one(stack, 1, Any)?;
                peek(stack, 2, |holds| !holds.may_be_null())?;
            }
        }
        Opcode::JumpIfFalseOrPop | Opcode::JumpIfTrueOrPop => {
            peek(stack, 1, |holds| !holds.may_be_null())?;
            if !jumps {
                stack.pop()?;
            }
        }
        Opcode::Unknown => return None,
    }
    Some(())
}

/// The stack with which an exception handler begins.
pub(crate) fn handler(stack: &[Holds], depth: usize, lasti: bool) -> Option<Stack> {
    let mut handler = stack.get(..depth)?.to_vec();
    if lasti {
        handler.push(Holds::Lasti);
    }
    handler.push(Holds::Exception);
    Some(handler)
}

/// Takes values that must be objects.
fn take(stack: &mut Stack, count: usize) -> Option<()> {
    let left = stack.len().checked_sub(count)?;
    let taken = stack.split_off(left);
    taken.iter().all(|holds| !holds.may_be_null()).then_some(())
}

/// Takes values and puts one in their place.
fn one(stack: &mut Stack, count: usize, result: Holds) -> Option<()> {
    take(stack, count)?;
    stack.push(result);
    Some(())
}

fn push(stack: &mut Stack, count: usize) -> Option<()> {
    // No code has a stack of more than this many values.
    const MOST: usize = 1 << 20;
    (count < MOST).then(|| stack.extend(std::iter::repeat_n(Holds::Any, count)))
}

/// Looks at the value that lies `index` deep, from one.
fn peek(stack: &[Holds], index: usize, is: impl FnOnce(Holds) -> bool) -> Option<()> {
    is(*stack.get(stack.len().checked_sub(index)?)?).then_some(())
}

/// Adds to a collection that lies under the values taken.
fn collect(stack: &mut Stack, count: usize, index: usize, holds: Holds) -> Option<()> {
    take(stack, count)?;
    peek(stack, index, |value| value == holds)
}

/// Puts a callable and the null beside it, if it is to be called.
fn callable(stack: &mut Stack, call: bool) {
    match (call, cfg!(Py_3_13)) {
        (false, _) => stack.push(Holds::Any),
        (true, false) => stack.extend([Holds::Null, Holds::Any]),
        (true, true) => stack.extend([Holds::Any, Holds::Null]),
    }
}

/// Puts an attribute, and its object or a null beside it if it is to be called.
fn callable_from_object(stack: &mut Stack, call: bool) {
    match (call, cfg!(Py_3_13)) {
        (false, _) => stack.push(Holds::Any),
        (true, false) => stack.extend([Holds::Nullable, Holds::Any]),
        (true, true) => stack.extend([Holds::Any, Holds::Nullable]),
    }
}

/// Takes a callable, what is beside it, arguments, and names.
fn call(stack: &mut Stack, arguments: usize, names: usize) -> Option<()> {
    if names > 0 {
        peek(stack, 1, |holds| holds == Holds::Tuple)?;
    }
    take(stack, arguments + names)?;
    let (first, second) = (stack.pop()?, stack.pop()?);
    let callable = if cfg!(Py_3_13) { second } else { first };
    (!callable.may_be_null()).then(|| stack.push(Holds::Any))
}

/// `except*`: a list of exceptions and the original make the exception to be raised, or `None`.
fn prepare_star(stack: &mut Stack) -> Option<()> {
    peek(stack, 1, |holds| holds == Holds::Exceptions)?;
    peek(stack, 2, |holds| {
        matches!(holds, Holds::Exception | Holds::ExceptionOrNone)
    })?;
    one(stack, 2, Holds::ExceptionOrNone)
}
