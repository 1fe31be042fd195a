//! Which variables must be bound, and which slots must be cells, for the code to go on from an
//! instruction.
//!
//! From 3.12 on the compiler leaves out the check for unbound variables where it has proved that
//! there is none, so that a null there is read as an object. A saved state may only leave a variable
//! unbound if no way on from its instruction comes to such an unchecked load first. Found backwards,
//! along all edges with those to exception handlers, which is how the compiler proves it forwards.

use crate::effects::Holds;
use crate::layout::{Jump, Opcode, ends, jump, opcode};
use crate::verify::{Shape, SlotKind, Step};

/// What is asked of a slot.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Need {
    /// It must not be null.
    pub(crate) bound: bool,
    /// It must be a cell.
    pub(crate) cell: bool,
}

/// What is asked of all slots before each instruction.
pub(crate) struct Needs {
    slots: usize,
    words: usize,
    /// Four sets of slots for each instruction: bound, cell, and the same two for the value that a
    /// comprehension has put aside and gives back.
    bits: Vec<u64>,
}

impl Needs {
    pub(crate) fn of(shape: &Shape) -> Self {
        let slots = shape.kinds.len();
        let words = (4 * slots).div_ceil(64);
        let mut needs = Self {
            slots,
            words,
            bits: vec![0; words * shape.instructions.len()],
        };
        if words == 0 || !shape.understood() {
            return needs;
        }
        let always_cell = cells_from_the_start(shape);
        let mut changed = true;
        while changed {
            changed = false;
            for (number, step) in shape.instructions.iter().enumerate().rev() {
                if step.stack.is_none() {
                    continue;
                }
                let before = needs.before(shape, number, step, &always_cell);
                let known = &mut needs.bits[number * words..][..words];
                if *known != before[..] {
                    known.copy_from_slice(&before);
                    changed = true;
                }
            }
        }
        needs
    }

    /// What is asked of a slot before an instruction.
    pub(crate) fn at(&self, number: usize, slot: usize) -> Need {
        let bits = self.bits.get(number * self.words..).unwrap_or(&[]);
        Need {
            bound: get(bits, slot),
            cell: get(bits, self.slots + slot),
        }
    }

    /// What is asked of the value that a comprehension has put aside for a slot.
    pub(crate) fn saved(&self, number: usize, slot: usize) -> Need {
        let bits = self.bits.get(number * self.words..).unwrap_or(&[]);
        Need {
            bound: get(bits, 2 * self.slots + slot),
            cell: get(bits, 3 * self.slots + slot),
        }
    }

    fn before(&self, shape: &Shape, number: usize, step: &Step, always_cell: &[bool]) -> Vec<u64> {
        let mut bits = vec![0; self.words];
        let mut merge = |from: usize| {
            if let Some(other) = self.bits.get(from * self.words..(from + 1) * self.words) {
                for (word, other) in bits.iter_mut().zip(other) {
                    *word |= other;
                }
            }
        };
        let instruction = step.instruction;
        if !ends(instruction.opcode) {
            merge(number + 1);
        }
        let target = match jump(instruction.opcode) {
            Jump::Backward => instruction.next.checked_sub(instruction.argument as usize),
            Jump::Forward => Some(instruction.next + instruction.argument as usize),
            Jump::None => None,
        };
        if let Some((target, _)) = target.and_then(|target| shape.step(target)) {
            merge(target);
        }

        let argument = instruction.argument as usize;
        let (bound, cell) = (0, self.slots);
        let (saved_bound, saved_cell) = (2 * self.slots, 3 * self.slots);
        let checks = cfg!(not(Py_3_12));
        let top = |depth: usize| {
            let stack = step.stack.as_deref().unwrap_or(&[]);
            stack
                .len()
                .checked_sub(depth)
                .and_then(|index| stack.get(index))
                .copied()
        };
        let load = |bits: &mut [u64], slot: usize| {
            set(bits, bound + slot, !checks);
            // A cell is loaded to become part of a closure.
            let closes = always_cell.get(slot).is_some_and(|&always| always);
            if closes {
                set(bits, cell + slot, true);
            }
        };
        let store = |bits: &mut [u64], slot: usize, value: Option<Holds>| {
            let (needs_value, needs_cell) = (get(bits, bound + slot), get(bits, cell + slot));
            set(bits, bound + slot, false);
            set(bits, cell + slot, false);
            if value == Some(Holds::Saved(slot as u32)) {
                set(bits, saved_bound + slot, needs_value);
                set(bits, saved_cell + slot, needs_cell);
            }
        };
        match opcode(instruction.opcode) {
            Opcode::LoadFast => load(&mut bits, argument),
            Opcode::LoadFastLoadFast => {
                load(&mut bits, argument >> 4);
                load(&mut bits, argument & 15);
            }
            Opcode::StoreFast => store(&mut bits, argument, top(1)),
            Opcode::StoreFastStoreFast => {
                store(&mut bits, argument & 15, top(2));
                store(&mut bits, argument >> 4, top(1));
            }
            Opcode::StoreFastLoadFast => {
                load(&mut bits, argument & 15);
                store(&mut bits, argument >> 4, top(1));
            }
            Opcode::LoadFastCheck | Opcode::DeleteFast => set(&mut bits, bound + argument, false),
            Opcode::LoadFastAndClear => {
                for (now, saved) in [(bound, saved_bound), (cell, saved_cell)] {
                    let needed = get(&bits, saved + argument);
                    set(&mut bits, now + argument, needed);
                    set(&mut bits, saved + argument, false);
                }
            }
            Opcode::MakeCell => {
                set(&mut bits, cell + argument, false);
                set(&mut bits, bound + argument, false);
            }
            Opcode::LoadClosure
            | Opcode::LoadClassderef
            | Opcode::LoadDeref
            | Opcode::LoadFromDictOrDeref
            | Opcode::StoreDeref
            | Opcode::DeleteDeref => {
                set(&mut bits, cell + argument, true);
            }
            _ => {}
        }
        // An exception can come before anything is stored.
        if let Some(handler) = step.handler {
            let handler = handler as usize;
            if let Some(other) = self
                .bits
                .get(handler * self.words..(handler + 1) * self.words)
            {
                for (word, other) in bits.iter_mut().zip(other) {
                    *word |= other;
                }
            }
        }
        bits
    }
}

/// The slots that the beginning of the code makes cells.
fn cells_from_the_start(shape: &Shape) -> Vec<bool> {
    let mut always: Vec<_> = shape
        .kinds
        .iter()
        .map(|kind| matches!(kind, SlotKind::Free | SlotKind::Cell { or_value: false }))
        .collect();
    for step in &shape.instructions {
        match opcode(step.instruction.opcode) {
            Opcode::MakeCell => {
                if let Some(cell) = always.get_mut(step.instruction.argument as usize) {
                    *cell = true;
                }
            }
            Opcode::CopyFreeVars => {}
            _ => break,
        }
    }
    always
}

fn get(bits: &[u64], index: usize) -> bool {
    bits.get(index / 64)
        .is_some_and(|word| word >> (index % 64) & 1 != 0)
}

fn set(bits: &mut [u64], index: usize, value: bool) {
    if let Some(word) = bits.get_mut(index / 64) {
        *word = (*word & !(1 << (index % 64))) | (u64::from(value) << (index % 64));
    }
}
