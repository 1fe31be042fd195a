//! What the instructions of the running interpreter mean: the table from the names of opcodes to
//! operations, and to what else concerns a result that waits to be picked up.

use objspace_interp::observe::Instruction;
use objspace_log::Kind;

use super::{End, Name, Operands};

/// What an instruction does.
#[derive(Clone, Copy, Debug)]
pub(super) struct Meaning {
    pub(super) kind: Kind,
    pub(super) operands: Operands,
    pub(super) count: u16,
    pub(super) end: End,
    pub(super) name: Name,
}

/// What an instruction that performs no operation does to a result that waits to be picked up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Passage {
    /// It only pushes.
    Push,
    /// It assigns the topmost value to a local, and may push another.
    Store(u32),
    /// It assigns the topmost value to a local, then the one below to another.
    StoreTwo(u32, u32),
    /// It exchanges the topmost value and the one at this distance from the top.
    Swap(u32),
    /// It drops the topmost value.
    Pop,
    Jump,
    /// Anything else.
    Other,
}

/// The opcodes of the running interpreter, by name.
pub(in crate::dump) struct Opcodes {
    names: Vec<String>,
    /// Whether `COMPARE_OP` keeps its operator in the upper bits of its argument, and from which.
    compare_shift: u32,
    /// Whether truth is tested by an instruction of its own: on 3.13.
    has_to_bool: bool,
    /// Whether methods to be called are fetched by an instruction of their own: on 3.11.
    pub(super) has_load_method: bool,
    pub(in crate::dump) operators: Vec<String>,
    pub(in crate::dump) comparisons: Vec<String>,
}

impl Opcodes {
    pub(in crate::dump) fn new(
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

    pub(super) fn name(&self, opcode: u8) -> &str {
        self.names
            .get(usize::from(opcode))
            .map_or("", String::as_str)
    }

    #[expect(clippy::too_many_lines, reason = "a table")]
    pub(super) fn meaning(
        &self,
        instruction: &Instruction,
        before: Option<&Instruction>,
    ) -> Option<Meaning> {
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

    pub(super) fn passage(&self, instruction: &Instruction) -> Passage {
        let argument = instruction.argument;
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
            "STORE_FAST" => Passage::Store(argument),
            "STORE_FAST_LOAD_FAST" => Passage::Store(argument >> 4),
            "STORE_FAST_STORE_FAST" => Passage::StoreTwo(argument >> 4, argument & 15),
            "SWAP" => Passage::Swap(argument),
            "POP_TOP" => Passage::Pop,
            "JUMP_FORWARD" | "JUMP_BACKWARD" => Passage::Jump,
            _ => Passage::Other,
        }
    }

    /// Whether an instruction leaves the frame.
    pub(super) fn leaves(&self, instruction: &Instruction) -> bool {
        matches!(
            self.name(instruction.opcode),
            "RETURN_VALUE" | "RETURN_CONST" | "YIELD_VALUE"
        )
    }
    /// Whether an operation leaves a bool that the next instruction does nothing with but jump: if
    /// so, whether that jumps if it is true. Then the way that is taken says what it was.
    pub(super) fn decides(&self, operation: &Instruction, next: &Instruction) -> Option<bool> {
        // On 3.11 a signal handler may run between the jump and where it leads.
        let bool = !self.has_load_method
            && (self.is_bool(Some(operation))
                || match self.name(operation.opcode) {
                    "TO_BOOL" => true,
                    "COMPARE_OP" => self.has_to_bool && operation.argument & 16 != 0,
                    _ => false,
                });
        match self.name(next.opcode) {
            "POP_JUMP_IF_TRUE" if bool => Some(true),
            "POP_JUMP_IF_FALSE" if bool => Some(false),
            _ => None,
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
