//! What a code object does with each attribute that it fetches, found once per code object.
//!
//! For every instruction that fetches an attribute: where the object lies on the value stack, which
//! attributes of the result are fetched next, and whether the last of them is called at once with
//! arguments whose evaluation nobody can observe. "Nobody can observe" means that only instructions
//! from a short list come in between ([`Plan::of_call`]); everything else ends the search.

use pyo3_ffi::{PyBytes_AsString, PyBytes_Size};

use crate::bytecode::{Base, Instruction, handlers};
use crate::layout::{Code, Jump, Op, RETURN_GENERATOR, attribute, ends, jump, op};

use std::ffi::c_int;
use std::slice;

unsafe extern "C" {
    /// Public, but not declared by `pyo3-ffi`.
    fn PyCompile_OpcodeStackEffectWithJump(opcode: c_int, argument: c_int, jump: c_int) -> c_int;
}

/// How many instructions a call may be away from its method.
const INSTRUCTIONS_MAX: usize = 256;

/// The sites of one code object.
pub(crate) struct Analysis {
    /// Ordered by unit.
    sites: Box<[Site]>,
    /// Whether the code was understood at all; without sites if not.
    pub(crate) understood: bool,
}

/// An instruction that fetches an attribute.
pub(crate) struct Site {
    /// Where it is.
    pub(crate) unit: u32,
    /// The index of the attribute's name in `co_names`.
    pub(crate) name: u32,
    /// The object's place in the frame: behind the locals, on the value stack.
    pub(crate) slot: u32,
    /// Whether it is a fetch of a method that is to be called.
    pub(crate) method: bool,
    /// What comes next.
    pub(crate) plan: Plan,
}

/// What comes after the fetch of an attribute.
#[derive(Default)]
pub(crate) struct Plan {
    /// The attributes that are fetched next, each of the one before: indices of names.
    pub(crate) chain: Box<[u32]>,
    /// Whether the last attribute is called at once.
    pub(crate) call: bool,
    /// What must be there for the arguments to be evaluated without an exception.
    pub(crate) needs: Box<[Need]>,
    /// The units of the instructions of the plan: none may be instrumented.
    pub(crate) units: Box<[u32]>,
}

/// Something that an argument refers to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Need {
    /// A cell that is not empty, by its place in the frame.
    Cell(u32),
    /// A name in the globals or builtins.
    Global(u32),
    /// A variable that is bound, by its place in the frame.
    Local(u32),
    /// A name in the locals, globals or builtins.
    Name(u32),
}

/// What is known of a value on the stack.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Value {
    /// Of a builtin immutable type all through: hashing and iterating it runs nobody's code.
    Constant,
    Unknown,
}

impl Analysis {
    /// Analyses a code object. `None`: out of memory (with a Python exception set).
    ///
    /// # Safety
    /// See the crate; `code` is a code object.
    pub(crate) unsafe fn of(code: *mut Code) -> Option<Self> {
        // SAFETY: `code` is a code object, whose exception table is a `bytes` object.
        let (base, table, locals) = unsafe {
            let table = (*code).exceptiontable;
            let length = usize::try_from(PyBytes_Size(table)).unwrap_or(0);
            let table = slice::from_raw_parts(PyBytes_AsString(table).cast::<u8>(), length);
            (
                Base::of(code)?,
                table,
                u32::try_from((*code).nlocalsplus).unwrap_or(0),
            )
        };
        let mut sites = Vec::new();
        let depths = depths(&base, table);
        let understood = depths.is_some();
        if let Some(depths) = depths {
            for instruction in base.instructions() {
                let Some((name, method)) = fetch(instruction) else {
                    continue;
                };
                // A depth of zero: the instruction is never reached.
                let Some(top) = depths[instruction.unit].checked_sub(1) else {
                    continue;
                };
                let Ok(unit) = u32::try_from(instruction.unit) else {
                    break;
                };
                let slot = locals + top;
                sites.push(Site {
                    unit,
                    name,
                    slot,
                    method,
                    plan: Plan::of(&base, instruction, method),
                });
            }
        }
        Some(Self {
            sites: sites.into(),
            understood,
        })
    }

    /// The site at a unit.
    pub(crate) fn site(&self, unit: u32) -> Option<&Site> {
        let index = self
            .sites
            .binary_search_by_key(&unit, |site| site.unit)
            .ok()?;
        self.sites.get(index)
    }
}

/// The name that an instruction fetches, and whether as a method.
fn fetch(instruction: Instruction) -> Option<(u32, bool)> {
    match op(instruction.opcode) {
        Op::LoadAttr => Some(attribute(instruction.argument)),
        Op::LoadMethod => Some((instruction.argument, true)),
        _ => None,
    }
}

impl Plan {
    fn of(base: &Base, first: Instruction, mut method: bool) -> Self {
        let mut chain = Vec::new();
        let mut last = first;
        let mut units = vec![first.unit as u32];
        while !method
            && let Some(next) = base.at(last.next)
            && let Some((name, is_method)) = fetch(next)
        {
            units.extend((last.next..=next.unit).map(|unit| unit as u32));
            chain.push(name);
            (last, method) = (next, is_method);
        }
        let mut plan = Self {
            chain: chain.into(),
            ..Self::default()
        };
        if method && let Some((needs, call_units)) = Self::of_call(base, last.next) {
            units.extend(call_units);
            (plan.call, plan.needs) = (true, needs.into());
        }
        plan.units = units.into();
        plan
    }

    /// Follows the evaluation of arguments from behind the fetch of a method to its call. `None` if
    /// anything on the way could run somebody's code, or be seen to have run.
    fn of_call(base: &Base, mut unit: usize) -> Option<(Vec<Need>, Vec<u32>)> {
        // The values above the method (and its `self` or null).
        let mut stack: Vec<Value> = Vec::new();
        let mut needs = Vec::new();
        let mut units = Vec::new();
        for _ in 0..INSTRUCTIONS_MAX {
            let instruction = base.at(unit)?;
            units.extend((unit..=instruction.unit).map(|unit| unit as u32));
            unit = instruction.next;
            let argument = instruction.argument;
            let count = argument as usize;
            match op(instruction.opcode) {
                Op::Nop | Op::KwNames => {}
                Op::LoadConst => stack.push(Value::Constant),
                Op::LoadFast => {
                    needs.push(Need::Local(argument));
                    stack.push(Value::Unknown);
                }
                Op::LoadFastLoadFast => {
                    needs.extend([Need::Local(argument >> 4), Need::Local(argument & 15)]);
                    stack.extend([Value::Unknown; 2]);
                }
                Op::LoadClosure => stack.push(Value::Unknown),
                Op::LoadDeref => {
                    needs.push(Need::Cell(argument));
                    stack.push(Value::Unknown);
                }
                // With the lowest bit it prepares another call.
                Op::LoadGlobal if argument & 1 == 0 => {
                    needs.push(Need::Global(argument >> 1));
                    stack.push(Value::Unknown);
                }
                Op::LoadName => {
                    needs.push(Need::Name(argument));
                    stack.push(Value::Unknown);
                }
                Op::BuildTuple | Op::BuildList | Op::BuildSlice => {
                    pop(&mut stack, count)?;
                    stack.push(Value::Unknown);
                }
                Op::BuildSet => {
                    if pop(&mut stack, count)?.contains(&Value::Unknown) {
                        return None;
                    }
                    stack.push(Value::Unknown);
                }
                Op::BuildMap => {
                    let mut keys = pop(&mut stack, 2 * count)?.into_iter().step_by(2);
                    if keys.any(|key| key == Value::Unknown) {
                        return None;
                    }
                    stack.push(Value::Unknown);
                }
                Op::BuildConstKeyMap => {
                    pop(&mut stack, count + 1)?;
                    stack.push(Value::Unknown);
                }
                Op::ListExtend | Op::SetUpdate => {
                    if stack.pop()? == Value::Unknown || stack.len() < count {
                        return None;
                    }
                }
                Op::Is => {
                    pop(&mut stack, 2)?;
                    stack.push(Value::Unknown);
                }
                Op::Copy => {
                    let index = stack.len().checked_sub(count)?;
                    stack.push(*stack.get(index)?);
                }
                Op::Swap => {
                    let (top, other) =
                        (stack.len().checked_sub(1)?, stack.len().checked_sub(count)?);
                    if other > top {
                        return None;
                    }
                    stack.swap(top, other);
                }
                Op::MakeFunction => {
                    // Defaults, keyword defaults, annotations and closure: a bit for each (none
                    // in 3.13, where `SET_FUNCTION_ATTRIBUTE` follows).
                    pop(&mut stack, 1 + (argument & 15).count_ones() as usize)?;
                    stack.push(Value::Unknown);
                }
                Op::SetFunctionAttribute => {
                    pop(&mut stack, 2)?;
                    stack.push(Value::Unknown);
                }
                Op::PreCall if stack.len() == count => {}
                Op::Call if stack.len() == count => return Some((needs, units)),
                Op::CallKw if stack.len() == count + 1 => return Some((needs, units)),
                _ => return None,
            }
        }
        None
    }
}

/// Takes values off the stack. `None`: there are not that many above the method.
fn pop(stack: &mut Vec<Value>, count: usize) -> Option<Vec<Value>> {
    let left = stack.len().checked_sub(count)?;
    Some(stack.split_off(left))
}

/// How many values lie on the stack before each instruction, by the unit of its opcode; zero also
/// where it is never reached. `None` if two ways to an instruction disagree, which the compiler
/// never does: then this file misunderstands the code, and nothing is claimed about it.
pub(crate) fn depths(base: &Base, exception_table: &[u8]) -> Option<Vec<u32>> {
    const UNKNOWN: u32 = u32::MAX;
    let mut known = vec![UNKNOWN; base.len()];
    let mut result = vec![0; base.len()];
    let mut open = vec![(0, 0)];
    for handler in handlers(exception_table) {
        // The exception, and below it the failed instruction if the handler asks for that.
        let depth = handler.depth + usize::from(handler.lasti) + 1;
        open.push((handler.target, u32::try_from(depth).ok()?));
    }
    while let Some((mut unit, mut depth)) = open.pop() {
        loop {
            let seen = known.get_mut(unit)?;
            if *seen != UNKNOWN {
                if *seen != depth {
                    return None;
                }
                break;
            }
            *seen = depth;
            let instruction = base.at(unit)?;
            result[instruction.unit] = depth;
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
                open.push((
                    target,
                    depth.checked_add_signed(effect(instruction, true)?)?,
                ));
            }
            if ends(instruction.opcode) {
                break;
            }
            depth = depth.checked_add_signed(effect(instruction, false)?)?;
            unit = instruction.next;
            if unit >= base.len() {
                // What `PyCode_NewEmpty` and the like make need not end in a return.
                break;
            }
        }
    }
    Some(result)
}

/// By how much an instruction changes the depth of the stack.
fn effect(instruction: Instruction, jumps: bool) -> Option<i32> {
    if instruction.opcode == RETURN_GENERATOR {
        return Some(1);
    }
    let argument = c_int::try_from(instruction.argument).ok()?;
    // SAFETY: a pure function on numbers.
    let effect = unsafe {
        PyCompile_OpcodeStackEffectWithJump(instruction.opcode.into(), argument, jumps.into())
    };
    (effect.abs() < c_int::MAX).then_some(effect)
}
