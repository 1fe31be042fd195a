//! What to look at while a code object runs: for each instruction whether it performs an operation,
//! on which slots of the frame, and where its result will be found. Made once per code object.
//!
//! An operation is reported before it is performed. Its result is picked up at the next reported
//! instruction of the same frame: often another operation, by which time the result still lies on
//! the stack or in the local variable that it was assigned to. Only where it would be gone by then
//! is the instruction in between reported too (a *peek*). That saves a third of all events.

mod opcodes;
mod walk;

use std::cell::Cell;
use std::collections::HashSet;

use objspace_interp::observe::Instruction;
use objspace_log::Kind;

pub(super) use opcodes::Opcodes;
use opcodes::Passage;
use walk::Walk;

/// The place of a result that is not known, and a unit that no code has.
pub(super) const NOWHERE: u32 = u32::MAX;
/// More operands than this are not recorded; the last one is then `Unknown`.
pub(super) const OPERANDS_MAX: u16 = 64;

/// How the operands lie on the stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operands {
    /// The topmost values, the deepest first.
    Forward,
    /// At these distances from the top: one is the topmost.
    At([u16; 4]),
    /// A call: the callable and its `self` or nothing, then the arguments.
    Call,
    /// `f(*args, **kwargs)`.
    CallEx,
}

/// How an operation ends if no exception ends it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// With a result.
    Result,
    /// With a result; the fetch of a method leaves two values.
    Method,
    /// Without one.
    Done,
    /// As soon as it is reported: the frame is suspended, or has just been resumed.
    AtOnce,
    /// With the next value, or by a jump because there is none.
    Next,
    /// With a result, on both ways.
    Send,
    /// With `False` if it does not jump, `True` if it does; or the opposite.
    Truth(bool),
    /// With an exception, always.
    Never,
}

/// Where the name that belongs to an operation comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Name {
    None,
    /// `co_names[i]`
    Global(u32),
    /// The name of a local, cell or free variable.
    Variable(u32),
    /// An operator of `opcode._nb_ops`.
    Operator(u32),
    /// A comparison of `opcode.cmp_op`.
    Comparison(u32),
    /// The names of keyword arguments: `co_consts[i]`.
    Keywords(u32),
    Text(&'static str),
}

/// An instruction of the plan.
#[derive(Clone, Debug)]
pub(super) struct Unit {
    pub(super) flags: u8,
    pub(super) kind: Kind,
    pub(super) operands: Operands,
    pub(super) end: End,
    pub(super) count: u16,
    /// The slot above the topmost value.
    pub(super) top: u32,
    /// Where the result is picked up, and from which slot.
    pub(super) resolve: u32,
    pub(super) slot: u32,
    /// The same for the way of a jump.
    pub(super) jump_resolve: u32,
    pub(super) jump_slot: u32,
    /// The jump that does nothing with the result but decide by it; [`NOWHERE`] if there is none.
    pub(super) branch: u32,
    /// The unit where the next instruction begins.
    pub(super) next: u32,
    pub(super) name: Name,
    /// The index in the log, once it has one.
    pub(super) site: Cell<u32>,
    /// The type that the filter of attributes was asked about last, and what it said.
    pub(super) asked: Cell<(usize, bool)>,
}

/// It performs an operation that is to be recorded.
pub(super) const OPERATION: u8 = 1;
/// It leaves the frame.
pub(super) const LEAVE: u8 = 2;
/// A result is picked up here.
pub(super) const PEEK: u8 = 4;

/// It only prefixes the instruction at `next`, and is reported in its place (on 3.11).
pub(super) const PREFIX: u8 = 8;

#[expect(clippy::declare_interior_mutable_const, reason = "to begin with")]
const NOTHING: Unit = Unit {
    flags: 0,
    kind: Kind::Call,
    operands: Operands::Forward,
    end: End::Done,
    count: 0,
    top: 0,
    resolve: NOWHERE,
    slot: NOWHERE,
    jump_resolve: NOWHERE,
    jump_slot: NOWHERE,
    branch: NOWHERE,
    next: 0,
    name: Name::None,
    site: Cell::new(NOWHERE),
    asked: Cell::new((0, false)),
};

/// The plan of a code object.
pub(super) struct Plan {
    pub(super) units: Box<[Unit]>,
    /// The index of the code in the log, once it has one.
    pub(super) code: u32,
    /// Whether anything in it is reported.
    pub(super) wanted: bool,
}

impl Plan {
    /// A plan that reports nothing.
    pub(super) fn empty() -> Self {
        Self {
            units: Box::default(),
            code: NOWHERE,
            wanted: false,
        }
    }

    /// Makes a plan. `wants` decides about each operation.
    pub(super) fn new(
        opcodes: &Opcodes,
        instructions: &[Instruction],
        nlocals: u32,
        mut wants: impl FnMut(Kind, Name) -> bool,
    ) -> Self {
        let length = instructions.last().map_or(0, |last| last.next as usize);
        let mut units = vec![NOTHING; length].into_boxed_slice();
        let mut wanted = false;
        let mut before = None;
        for instruction in instructions {
            let unit = &mut units[instruction.unit as usize];
            // The arguments of a call are counted out by `PRECALL`, but taken by `CALL` (on 3.11).
            let depth = match opcodes.name(instruction.opcode) {
                "CALL" if opcodes.has_load_method => instruction.depth + instruction.argument,
                _ => instruction.depth,
            };
            unit.top = nlocals + depth;
            unit.next = instruction.next;
            // Between `KW_NAMES` and `CALL` is `PRECALL`, on 3.11.
            if let Some(meaning) = opcodes.meaning(instruction, before)
                && u32::from(meaning.count) <= depth
                && wants(meaning.kind, meaning.name)
            {
                unit.flags = OPERATION;
                unit.kind = meaning.kind;
                unit.operands = meaning.operands;
                unit.end = meaning.end;
                unit.count = meaning.count;
                unit.name = meaning.name;
                wanted = true;
            }
            if opcodes.name(instruction.opcode) != "PRECALL" {
                before = Some(instruction);
            }
        }
        let mut plan = Self {
            units,
            code: NOWHERE,
            wanted,
        };
        if wanted {
            for instruction in instructions {
                if opcodes.leaves(instruction) {
                    plan.units[instruction.unit as usize].flags |= LEAVE;
                }
            }
            for pair in instructions.windows(2) {
                let [operation, next] = pair else { continue };
                let ends = (plan.units[operation.unit as usize].flags & OPERATION != 0)
                    .then(|| opcodes.decides(operation, next))
                    .flatten();
                if let Some(sense) = ends
                    && plan.units[next.unit as usize].flags == 0
                {
                    let unit = &mut plan.units[operation.unit as usize];
                    unit.end = End::Truth(sense);
                    unit.branch = next.unit;
                    unit.slot = nlocals + next.depth.saturating_sub(1);
                }
            }
            plan.resolve(opcodes, instructions, nlocals);
            if opcodes.has_load_method {
                plan.mark_prefixes(instructions);
            }
        }
        plan
    }

    /// An instruction with `EXTENDED_ARG`s is reported at the first of them only, on 3.11.
    fn mark_prefixes(&mut self, instructions: &[Instruction]) {
        let mut start = 0;
        for instruction in instructions {
            for prefix in start..instruction.unit {
                let unit = &mut self.units[prefix as usize];
                unit.flags = PREFIX;
                unit.next = instruction.unit;
            }
            start = instruction.next;
        }
    }

    /// Finds where each result is picked up.
    fn resolve(&mut self, opcodes: &Opcodes, instructions: &[Instruction], nlocals: u32) {
        let index: Vec<u32> = {
            let mut index = vec![NOWHERE; self.units.len()];
            for (number, instruction) in instructions.iter().enumerate() {
                index[instruction.unit as usize] = number as u32;
            }
            // An instruction begins at its `EXTENDED_ARG`s.
            let mut last = NOWHERE;
            for place in index.iter_mut().rev() {
                if *place == NOWHERE {
                    *place = last;
                } else {
                    last = *place;
                }
            }
            index
        };
        let at = |unit: u32| -> Option<&Instruction> {
            instructions.get(*index.get(unit as usize)? as usize)
        };
        let walk = Walk {
            opcodes,
            at: &at,
            nlocals,
        };
        // Asking for one more peek can only bring other results forward: this ends.
        loop {
            let mut peeks = HashSet::new();
            let mut changed = false;
            for instruction in instructions {
                let unit = &self.units[instruction.unit as usize];
                if unit.flags & OPERATION == 0 {
                    continue;
                }
                let own = instruction.unit as usize;
                let end = unit.end;
                match end {
                    End::Done | End::AtOnce | End::Never => {}
                    End::Result | End::Method | End::Next => {
                        let straight = end == End::Next;
                        match self.follow(&walk, instruction.next, end, straight) {
                            Ok((resolve, slot)) => {
                                self.units[own].resolve = resolve;
                                self.units[own].slot = slot;
                            }
                            Err(peek) => {
                                peeks.insert(peek);
                            }
                        }
                    }
                    End::Send => {
                        for (jumps, start) in
                            [(false, Some(instruction.next)), (true, instruction.target)]
                        {
                            let Some(start) = start.and_then(&at) else {
                                continue;
                            };
                            let slot = nlocals + start.depth.saturating_sub(1);
                            if self.units[start.unit as usize].flags == 0 {
                                peeks.insert(start.unit);
                            }
                            if jumps {
                                self.units[own].jump_resolve = start.unit;
                                self.units[own].jump_slot = slot;
                            } else {
                                self.units[own].resolve = start.unit;
                                self.units[own].slot = slot;
                            }
                        }
                    }
                    End::Truth(_) => {
                        let jump = match instruction.target {
                            Some(_) => Some(instruction),
                            None => at(instruction.next),
                        };
                        let Some(jump) = jump else { continue };
                        let starts = [Some(jump.next), jump.target];
                        let ways = starts
                            .map(|start| start.and_then(|start| self.first_report(&walk, start)));
                        match ways {
                            [Some(next), Some(jump)] if next != jump => {
                                self.units[own].resolve = next;
                                self.units[own].jump_resolve = jump;
                            }
                            // The result is picked up from the stack, before the jump.
                            _ if jump.unit != instruction.unit => {
                                self.units[own].end = End::Result;
                                self.units[own].branch = NOWHERE;
                                changed = true;
                            }
                            // Both ways lead to the same place: which one was taken makes no
                            // difference, and is not known.
                            _ if jump.target.and_then(&at).map(|to| to.unit)
                                == at(jump.next).map(|to| to.unit) =>
                            {
                                self.units[own].end = End::Done;
                            }
                            _ => {
                                for start in starts {
                                    if let Some(start) = start.and_then(&at) {
                                        peeks.insert(start.unit);
                                    }
                                }
                            }
                        }
                    }
                }
            }
            for peek in peeks {
                let flags = &mut self.units[peek as usize].flags;
                changed |= *flags & PEEK == 0;
                *flags |= PEEK;
            }
            if !changed {
                return;
            }
        }
    }

    /// Follows a result from the instruction behind its operation to the next one that is
    /// reported. The error is the instruction that must be reported for that.
    fn follow(
        &self,
        walk: &Walk<'_>,
        start: u32,
        end: End,
        straight: bool,
    ) -> Result<(u32, u32), u32> {
        let first = (walk.at)(start).ok_or(start)?;
        let behind = if end == End::Method { 2 } else { 1 };
        let mut place = walk.nlocals + first.depth.checked_sub(behind).ok_or(first.unit)?;
        let mut instruction = first;
        for _ in 0..64 {
            if self.units[instruction.unit as usize].flags != 0 {
                return Ok((instruction.unit, place));
            }
            let (after, next) = walk.step(instruction, place, straight).ok_or(first.unit)?;
            place = after;
            instruction = next;
        }
        Err(first.unit)
    }

    /// The first reported instruction on the way from one.
    fn first_report(&self, walk: &Walk<'_>, start: u32) -> Option<u32> {
        let mut instruction = (walk.at)(start)?;
        for _ in 0..64 {
            if self.units[instruction.unit as usize].flags != 0 {
                return Some(instruction.unit);
            }
            instruction = match walk.opcodes.passage(instruction) {
                Passage::Jump => (walk.at)(instruction.target?)?,
                Passage::Other => return None,
                _ => (walk.at)(instruction.next)?,
            };
        }
        None
    }
}
