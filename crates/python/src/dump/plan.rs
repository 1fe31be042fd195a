//! What to look at while a code object runs: for each instruction whether it performs an operation,
//! on which slots of the frame, and where its result will be found. Made once per code object.
//!
//! An operation is reported before it is performed. Its result is picked up at the next reported
//! instruction of the same frame: often another operation, by which time the result still lies on
//! the stack or in the local variable that it was assigned to. Only where it would be gone by then
//! is the instruction in between reported too (a *peek*). That saves a third of all events.

use std::cell::Cell;
use std::collections::HashSet;

use objspace_interp::observe::Instruction;
use objspace_log::Kind;

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

/// What an instruction does.
#[derive(Clone, Copy, Debug)]
struct Meaning {
    kind: Kind,
    operands: Operands,
    count: u16,
    end: End,
    name: Name,
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

/// What an instruction that performs no operation does to a result that waits to be picked up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Passage {
    /// It only pushes.
    Push,
    /// It assigns the topmost value to a local.
    Store,
    /// It drops the topmost value.
    Pop,
    Jump,
    /// Anything else.
    Other,
}

/// What leaves a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Leave {
    No,
    Yes,
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
    /// The unit where the next instruction begins.
    pub(super) next: u32,
    pub(super) name: Name,
    /// The index in the log, once it has one.
    pub(super) site: Cell<u32>,
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
    next: 0,
    name: Name::None,
    site: Cell::new(NOWHERE),
};

/// The opcodes of the running interpreter, by name.
pub(super) struct Opcodes {
    names: Vec<String>,
    /// Whether `COMPARE_OP` keeps its operator in the upper bits of its argument, and from which.
    compare_shift: u32,
    /// Whether truth is tested by an instruction of its own: on 3.13.
    has_to_bool: bool,
    /// Whether methods to be called are fetched by an instruction of their own: on 3.11.
    has_load_method: bool,
    pub(super) operators: Vec<String>,
    pub(super) comparisons: Vec<String>,
}

impl Opcodes {
    pub(super) fn new(
        names: Vec<String>,
        operators: Vec<String>,
        comparisons: Vec<String>,
        minor: u8,
    ) -> Self {
        Self {
            has_to_bool: minor >= 13,
            has_load_method: minor == 11,
            names,
            compare_shift: match minor {
                11 => 0,
                12 => 4,
                _ => 5,
            },
            operators,
            comparisons,
        }
    }

    fn name(&self, opcode: u8) -> &str {
        self.names
            .get(usize::from(opcode))
            .map_or("", String::as_str)
    }

    #[expect(clippy::too_many_lines, reason = "a table")]
    fn meaning(&self, instruction: &Instruction, before: Option<&Instruction>) -> Option<Meaning> {
        use Operands::{At, Forward};
        let argument = instruction.argument;
        let count = u16::try_from(argument).unwrap_or(u16::MAX / 4);
        let at = |places: &[u16]| {
            let mut all = [0; 4];
            all[..places.len()].copy_from_slice(places);
            (At(all), places.len() as u16)
        };
        let forward = |count| (Forward, count);
        let loads_method = !self.has_load_method && argument & 1 != 0;
        let attribute = if self.has_load_method {
            argument
        } else {
            argument >> 1
        };
        let (kind, (operands, count), end, name) = match self.name(instruction.opcode) {
            "LOAD_ATTR" => (
                Kind::GetAttr,
                forward(1),
                if loads_method {
                    End::Method
                } else {
                    End::Result
                },
                Name::Global(attribute),
            ),
            "LOAD_METHOD" => (
                Kind::GetAttr,
                forward(1),
                End::Method,
                Name::Global(argument),
            ),
            "LOAD_SUPER_ATTR" => (
                Kind::SuperAttr,
                forward(3),
                if argument & 1 != 0 {
                    End::Method
                } else {
                    End::Result
                },
                Name::Global(argument >> 2),
            ),
            "STORE_ATTR" => (
                Kind::SetAttr,
                at(&[1, 2]),
                End::Done,
                Name::Global(argument),
            ),
            "DELETE_ATTR" => (Kind::DelAttr, forward(1), End::Done, Name::Global(argument)),
            "BINARY_SUBSCR" => (Kind::GetItem, forward(2), End::Result, Name::None),
            "BINARY_SLICE" => (Kind::GetItem, forward(3), End::Result, Name::Text("slice")),
            "STORE_SUBSCR" => (Kind::SetItem, at(&[2, 1, 3]), End::Done, Name::None),
            "STORE_SLICE" => (
                Kind::SetItem,
                at(&[3, 2, 1, 4]),
                End::Done,
                Name::Text("slice"),
            ),
            "DELETE_SUBSCR" => (Kind::DelItem, forward(2), End::Done, Name::None),
            "BINARY_OP" => {
                let kind = if argument >= 13 {
                    Kind::InPlace
                } else {
                    Kind::Binary
                };
                (kind, forward(2), End::Result, Name::Operator(argument))
            }
            "COMPARE_OP" => (
                Kind::Compare,
                forward(2),
                End::Result,
                Name::Comparison(argument >> self.compare_shift),
            ),
            "IS_OP" => {
                let name = if argument == 0 { "is" } else { "is not" };
                (Kind::Is, forward(2), End::Result, Name::Text(name))
            }
            "CONTAINS_OP" => {
                let name = if argument == 0 { "in" } else { "not in" };
                (Kind::Contains, at(&[1, 2]), End::Result, Name::Text(name))
            }
            "UNARY_NEGATIVE" => (Kind::Unary, forward(1), End::Result, Name::Text("-")),
            "UNARY_POSITIVE" => (Kind::Unary, forward(1), End::Result, Name::Text("+")),
            "UNARY_INVERT" => (Kind::Unary, forward(1), End::Result, Name::Text("~")),
            "UNARY_NOT" => (Kind::Truth, forward(1), End::Result, Name::Text("not")),
            "CALL_INTRINSIC_1" if argument == 5 => {
                (Kind::Unary, forward(1), End::Result, Name::Text("+"))
            }
            "TO_BOOL" => (Kind::Truth, forward(1), End::Result, Name::None),
            "POP_JUMP_IF_TRUE"
            | "POP_JUMP_FORWARD_IF_TRUE"
            | "POP_JUMP_BACKWARD_IF_TRUE"
            | "JUMP_IF_TRUE_OR_POP"
                if !self.has_to_bool && !self.is_bool(before) =>
            {
                (Kind::Truth, forward(1), End::Truth(true), Name::None)
            }
            "POP_JUMP_IF_FALSE"
            | "POP_JUMP_FORWARD_IF_FALSE"
            | "POP_JUMP_BACKWARD_IF_FALSE"
            | "JUMP_IF_FALSE_OR_POP"
                if !self.has_to_bool && !self.is_bool(before) =>
            {
                (Kind::Truth, forward(1), End::Truth(false), Name::None)
            }
            "CALL" => {
                let name = match before {
                    Some(before) if self.name(before.opcode) == "KW_NAMES" => {
                        Name::Keywords(before.argument)
                    }
                    _ => Name::None,
                };
                (Kind::Call, (Operands::Call, count + 2), End::Result, name)
            }
            "CALL_KW" => {
                let name = match before {
                    Some(before) if self.name(before.opcode) == "LOAD_CONST" => {
                        Name::Keywords(before.argument)
                    }
                    _ => Name::None,
                };
                (Kind::Call, (Operands::Call, count + 3), End::Result, name)
            }
            "CALL_FUNCTION_EX" => (
                Kind::CallEx,
                (Operands::CallEx, 3 + (count & 1)),
                End::Result,
                Name::None,
            ),
            "GET_ITER" => (Kind::Iter, forward(1), End::Result, Name::None),
            "GET_YIELD_FROM_ITER" => (
                Kind::Iter,
                forward(1),
                End::Result,
                Name::Text("yield from"),
            ),
            "GET_AITER" => (Kind::Iter, forward(1), End::Result, Name::Text("async")),
            "FOR_ITER" => (Kind::Next, forward(1), End::Next, Name::None),
            "GET_ANEXT" => (Kind::Next, forward(1), End::Result, Name::Text("async")),
            "GET_AWAITABLE" => (Kind::Await, forward(1), End::Result, Name::None),
            "SEND" => (Kind::Send, forward(2), End::Send, Name::None),
            "YIELD_VALUE" => (Kind::Yield, forward(1), End::AtOnce, Name::None),
            "RESUME" if argument & 3 != 0 => (Kind::Resume, forward(1), End::AtOnce, Name::None),
            "UNPACK_SEQUENCE" | "UNPACK_EX" => (Kind::Unpack, forward(1), End::Done, Name::None),
            "BUILD_LIST" => (Kind::Build, forward(count), End::Result, Name::Text("list")),
            "BUILD_TUPLE" => (
                Kind::Build,
                forward(count),
                End::Result,
                Name::Text("tuple"),
            ),
            "BUILD_SET" => (Kind::Build, forward(count), End::Result, Name::Text("set")),
            "BUILD_STRING" => (Kind::Build, forward(count), End::Result, Name::Text("str")),
            "BUILD_SLICE" => (
                Kind::Build,
                forward(count),
                End::Result,
                Name::Text("slice"),
            ),
            "BUILD_MAP" => (
                Kind::Build,
                forward(2 * count),
                End::Result,
                Name::Text("dict"),
            ),
            "BUILD_CONST_KEY_MAP" => (
                Kind::Build,
                forward(count + 1),
                End::Result,
                Name::Text("dict keys"),
            ),
            "LIST_APPEND" => (
                Kind::Add,
                at(&[count + 1, 1]),
                End::Done,
                Name::Text("append"),
            ),
            "SET_ADD" => (Kind::Add, at(&[count + 1, 1]), End::Done, Name::Text("add")),
            "MAP_ADD" => (
                Kind::Add,
                at(&[count + 2, 2, 1]),
                End::Done,
                Name::Text("setitem"),
            ),
            "LIST_EXTEND" => (
                Kind::Add,
                at(&[count + 1, 1]),
                End::Done,
                Name::Text("extend"),
            ),
            "SET_UPDATE" | "DICT_UPDATE" | "DICT_MERGE" => (
                Kind::Add,
                at(&[count + 1, 1]),
                End::Done,
                Name::Text("update"),
            ),
            "IMPORT_NAME" => (
                Kind::Import,
                forward(2),
                End::Result,
                Name::Global(argument),
            ),
            "IMPORT_FROM" => (
                Kind::ImportFrom,
                forward(1),
                End::Result,
                Name::Global(argument),
            ),
            "IMPORT_STAR" => (Kind::ImportFrom, forward(1), End::Done, Name::Text("*")),
            "CALL_INTRINSIC_1" if argument == 2 => {
                (Kind::ImportFrom, forward(1), End::Done, Name::Text("*"))
            }
            "STORE_GLOBAL" => (
                Kind::SetGlobal,
                forward(1),
                End::Done,
                Name::Global(argument),
            ),
            "DELETE_GLOBAL" => (
                Kind::DelGlobal,
                forward(0),
                End::Done,
                Name::Global(argument),
            ),
            "STORE_NAME" => (Kind::SetName, forward(1), End::Done, Name::Global(argument)),
            "DELETE_NAME" => (Kind::DelName, forward(0), End::Done, Name::Global(argument)),
            "STORE_DEREF" => (
                Kind::SetCell,
                forward(1),
                End::Done,
                Name::Variable(argument),
            ),
            "DELETE_DEREF" => (
                Kind::DelCell,
                forward(0),
                End::Done,
                Name::Variable(argument),
            ),
            "RAISE_VARARGS" => (Kind::Raise, forward(count), End::Never, Name::None),
            "BEFORE_WITH" => (Kind::Enter, forward(1), End::Result, Name::None),
            "BEFORE_ASYNC_WITH" => (Kind::Enter, forward(1), End::Result, Name::Text("async")),
            "WITH_EXCEPT_START" => (Kind::Exit, at(&[4, 1]), End::Result, Name::None),
            "FORMAT_VALUE" => {
                let count = 1 + u16::from(argument & 4 != 0);
                let name = conversion(argument & 3);
                (Kind::Format, forward(count), End::Result, name)
            }
            "CONVERT_VALUE" => (Kind::Format, forward(1), End::Result, conversion(argument)),
            "FORMAT_SIMPLE" => (Kind::Format, forward(1), End::Result, Name::None),
            "FORMAT_WITH_SPEC" => (Kind::Format, forward(2), End::Result, Name::None),
            "MATCH_CLASS" => (Kind::Match, forward(3), End::Result, Name::Text("class")),
            "GET_LEN" => (Kind::Match, forward(1), End::Result, Name::Text("len")),
            "MATCH_KEYS" => (Kind::Match, forward(2), End::Result, Name::Text("keys")),
            _ => return None,
        };
        Some(Meaning {
            kind,
            operands,
            count,
            end,
            name,
        })
    }

    /// Whether an instruction leaves a bool, whatever its operands.
    fn is_bool(&self, instruction: Option<&Instruction>) -> bool {
        instruction.is_some_and(|instruction| {
            matches!(
                self.name(instruction.opcode),
                "IS_OP" | "CONTAINS_OP" | "UNARY_NOT"
            )
        })
    }

    fn passage(&self, instruction: &Instruction) -> Passage {
        match self.name(instruction.opcode) {
            "LOAD_FAST"
            | "LOAD_FAST_CHECK"
            | "LOAD_FAST_LOAD_FAST"
            | "LOAD_CONST"
            | "LOAD_GLOBAL"
            | "LOAD_DEREF"
            | "LOAD_NAME"
            | "LOAD_CLOSURE"
            | "PUSH_NULL"
            | "NOP"
            | "COPY"
            | "KW_NAMES"
            | "PRECALL" => Passage::Push,
            "STORE_FAST" => Passage::Store,
            "POP_TOP" => Passage::Pop,
            "JUMP_FORWARD" | "JUMP_BACKWARD" => Passage::Jump,
            _ => Passage::Other,
        }
    }

    fn leave(&self, instruction: &Instruction) -> Leave {
        match self.name(instruction.opcode) {
            "RETURN_VALUE" | "RETURN_CONST" | "YIELD_VALUE" => Leave::Yes,
            _ => Leave::No,
        }
    }
}

/// How a value is made text before it is formatted: `f"{value!r}"`.
const fn conversion(number: u32) -> Name {
    match number {
        1 => Name::Text("!s"),
        2 => Name::Text("!r"),
        3 => Name::Text("!a"),
        _ => Name::None,
    }
}

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
                if opcodes.leave(instruction) == Leave::Yes {
                    plan.units[instruction.unit as usize].flags |= LEAVE;
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
                        let ways = [Some(instruction.next), instruction.target]
                            .map(|start| start.and_then(|start| self.first_report(&walk, start)));
                        match ways {
                            [Some(next), Some(jump)] if next != jump => {
                                self.units[own].resolve = next;
                                self.units[own].jump_resolve = jump;
                            }
                            // Both ways lead to the same place: which one was taken makes no
                            // difference, and is not known.
                            _ if instruction.target.and_then(&at).map(|to| to.unit)
                                == at(instruction.next).map(|to| to.unit) =>
                            {
                                self.units[own].end = End::Done;
                            }
                            _ => {
                                for start in [Some(instruction.next), instruction.target] {
                                    if let Some(start) = start.and_then(&at) {
                                        peeks.insert(start.unit);
                                    }
                                }
                            }
                        }
                    }
                }
            }
            let mut changed = false;
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
                Passage::Push | Passage::Store | Passage::Pop => (walk.at)(instruction.next)?,
                Passage::Other => return None,
            };
        }
        None
    }

    /// Where the result of an operation is while another instruction executes that comes before it
    /// would have been picked up: something ran there (a finalizer, a signal handler), or failed.
    pub(super) fn locate(
        &self,
        opcodes: &Opcodes,
        instructions: &[Instruction],
        nlocals: u32,
        operation: u32,
        executing: u32,
    ) -> Option<u32> {
        let at = |unit: u32| -> Option<&Instruction> {
            let index = instructions.partition_point(|instruction| instruction.unit < unit);
            instructions.get(index)
        };
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
}

struct Walk<'a> {
    opcodes: &'a Opcodes,
    at: &'a dyn Fn(u32) -> Option<&'a Instruction>,
    nlocals: u32,
}

impl<'a> Walk<'a> {
    /// Where a result is after an instruction, and which one comes next. `None`: that is not known.
    fn step(
        &self,
        instruction: &Instruction,
        place: u32,
        straight: bool,
    ) -> Option<(u32, &'a Instruction)> {
        let on_top = place + 1 == self.nlocals + instruction.depth;
        match self.opcodes.passage(instruction) {
            Passage::Push => Some((place, (self.at)(instruction.next)?)),
            Passage::Store if on_top => Some((instruction.argument, (self.at)(instruction.next)?)),
            Passage::Store if place != instruction.argument => {
                Some((place, (self.at)(instruction.next)?))
            }
            Passage::Pop if !on_top => Some((place, (self.at)(instruction.next)?)),
            Passage::Jump if !straight => Some((place, (self.at)(instruction.target?)?)),
            _ => None,
        }
    }
}
