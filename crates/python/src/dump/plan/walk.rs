//! Where a result goes while instructions are executed that perform no operation.

use objspace_interp::observe::Instruction;

use super::opcodes::{Opcodes, Passage};
use super::{End, Plan};

pub(super) struct Walk<'a> {
    pub(super) opcodes: &'a Opcodes,
    pub(super) at: &'a dyn Fn(u32) -> Option<&'a Instruction>,
    pub(super) nlocals: u32,
}

impl<'a> Walk<'a> {
    /// Where a result is after an instruction, and which one comes next. `None`: that is not known.
    pub(super) fn step(
        &self,
        instruction: &Instruction,
        place: u32,
        straight: bool,
    ) -> Option<(u32, &'a Instruction)> {
        let top = self.nlocals + instruction.depth;
        let on_top = place + 1 == top;
        let (next, place) = match self.opcodes.passage(instruction) {
            Passage::Push => (instruction.next, place),
            Passage::Store(local) if on_top => (instruction.next, local),
            Passage::Store(local) if place != local => (instruction.next, place),
            Passage::StoreTwo(first, second) if on_top && first != second => {
                (instruction.next, first)
            }
            Passage::StoreTwo(_, second) if place + 2 == top => (instruction.next, second),
            Passage::StoreTwo(first, second) if !on_top && place != first && place != second => {
                (instruction.next, place)
            }
            Passage::Swap(distance) if on_top => (instruction.next, top.checked_sub(distance)?),
            Passage::Swap(distance) if place + distance == top => (instruction.next, top - 1),
            Passage::Swap(_) => (instruction.next, place),
            Passage::Pop if !on_top => (instruction.next, place),
            Passage::Jump if !straight => (instruction.target?, place),
            _ => return None,
        };
        Some((place, (self.at)(next)?))
    }

    /// Whether the way from an instruction to the next one that may be reported comes past a unit.
    pub(super) fn passes(&self, start: u32, unit: u32) -> bool {
        let mut next = (self.at)(start);
        for _ in 0..64 {
            let Some(instruction) = next else {
                return false;
            };
            // A frame stands on an instruction or on one of its caches.
            if (instruction.unit..instruction.next).contains(&unit) {
                return true;
            }
            next = match self.opcodes.passage(instruction) {
                Passage::Jump => instruction.target.and_then(self.at),
                Passage::Other => None,
                _ => (self.at)(instruction.next),
            };
        }
        false
    }
}

impl Plan {
    /// Where the result of an operation is while another instruction executes that comes before it
    /// would have been picked up: something ran there (a finalizer, a signal handler), or failed.
    pub(in crate::dump) fn locate(
        &self,
        opcodes: &Opcodes,
        instructions: &[Instruction],
        nlocals: u32,
        operation: u32,
        executing: u32,
    ) -> Option<u32> {
        let at = |unit: u32| find(instructions, unit);
        let walk = Walk {
            opcodes,
            at: &at,
            nlocals,
        };
        let unit = self.units.get(operation as usize)?;
        let first = at(unit.next)?;
        let behind = if unit.end == End::Method { 2 } else { 1 };
        let mut place = nlocals + first.depth.checked_sub(behind)?;
        let mut instruction = first;
        for _ in 0..64 {
            let (after, next) = walk.step(instruction, place, unit.end == End::Next)?;
            // A frame stands on an instruction or on one of its caches.
            if (instruction.unit..instruction.next).contains(&executing) {
                return Some(after);
            }
            place = after;
            instruction = next;
        }
        None
    }

    /// Whether a test of truth was true that has ended while another instruction executes that comes
    /// before the way taken would have been known. `None`: that is not known.
    pub(in crate::dump) fn decided(
        &self,
        opcodes: &Opcodes,
        instructions: &[Instruction],
        nlocals: u32,
        operation: u32,
        executing: u32,
    ) -> Option<bool> {
        let at = |unit: u32| find(instructions, unit);
        let walk = Walk {
            opcodes,
            at: &at,
            nlocals,
        };
        let End::Truth(sense) = self.units.get(operation as usize)?.end else {
            return None;
        };
        let own = at(operation)?;
        let jump = if own.target.is_some() {
            own
        } else {
            at(own.next)?
        };
        let ways = [jump.next, jump.target?].map(|start| walk.passes(start, executing));
        match ways {
            [true, false] => Some(!sense),
            [false, true] => Some(sense),
            _ => None,
        }
    }
}

/// Finds the instruction that a unit belongs to, or its prefixes.
fn find(instructions: &[Instruction], unit: u32) -> Option<&Instruction> {
    let index = instructions.partition_point(|instruction| instruction.unit < unit);
    instructions.get(index)
}
