"""`objspace pickle inspect`: what a pickle contains, without loading it.

The opcodes are read one after another and their effects are noted on a stack of descriptions;
nothing of what they name is imported or called. Where code stands by reference its file is looked
for and compiled, but not run, to tell the lines and the names of variables.
"""

from __future__ import annotations

import importlib.machinery
import itertools
import os
import pickletools
import types
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from objspace._cli import OK, Complaint

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

_MAGIC = b"\xf0OSP"
_MAKERS = "objspace._pickles"
_SHOWN = 60


@dataclass
class Node:
    """One object of a pickle: what kind it is, its parts, and the bytes that describe it."""

    kind: str
    value: Any = None
    parts: list[Any] = field(default_factory=list)
    state: list[Node] = field(default_factory=list)
    start: int = 0
    end: int = 0

    @property
    def size(self) -> int:
        return self.end - self.start


class _Mark:
    pass


def run(options: argparse.Namespace) -> int:
    """Prints what is in a file."""
    try:
        with open(options.file, "rb") as file:
            data = file.read()
    except OSError as error:
        raise Complaint(f"cannot read {options.file}: {error.strerror}") from error
    for line in report(data, os.path.basename(options.file)):
        print(line)
    return OK


def report(data: bytes, name: str) -> Iterator[str]:
    """The lines that tell what a file of pickles contains."""
    if not data:
        raise Complaint(f"{name} is empty")
    position = 0
    while position < len(data):
        try:
            start, end, text = _header(data, position)
            top, stop, nodes = read(data[start:end])
        except Complaint:
            raise
        except Exception as error:
            raise Complaint(f"{name} is no pickle, or a damaged one: {error}") from error
        length = (end if text else start + stop) - position
        yield f"{name}: {length} bytes, {text or 'an ordinary pickle'}"
        found = [node for node in nodes if _maker(node) in _FRAMES]
        for node in found:
            yield from _frames(node)
        if top not in found:
            yield f"contains {describe(top)}"
        position += length


def _header(data: bytes, at: int) -> tuple[int, int, str]:
    """Where the payload begins and ends, and what the header says."""
    if data[at : at + 1] != _MAGIC[:1]:
        return at, len(data), ""
    if data[at : at + 4] != _MAGIC or len(data) < at + 7:
        raise ValueError("its header is cut off")
    version, flags, tag = data[at + 4], data[at + 5], data[at + 6]
    if version != 1:
        raise Complaint(f"the pickle is of format {version}; this objspace reads format 1")
    tag_end = at + 7 + tag
    length = int.from_bytes(data[tag_end + 4 : tag_end + 12], "little")
    start = tag_end + 12 + (32 if flags & 1 else 4)
    if len(data) < start + length:
        raise ValueError("it is shorter than its header says")
    text = (
        f"format {version}, written by {data[at + 7 : tag_end].decode('ascii', 'replace')} "
        f"(bytecode {data[tag_end : tag_end + 4].hex()}), {'signed' if flags & 1 else 'not signed'}"
    )
    return start, start + length, text


# -- reading opcodes ------------------------------------------------------------------------------


def read(data: bytes) -> tuple[Node, int, list[Node]]:
    """The object of a pickle, the length of the pickle, and all objects made by a call."""
    machine = _Machine()
    opcodes = list(pickletools.genops(data))
    for (opcode, argument, position), following in itertools.pairwise(opcodes):
        machine.step(opcode.name, argument, position or 0, following[2] or 0)
    last = opcodes[-1][2] or 0
    return machine.stack[-1], last + 1, machine.made


_LITERALS = {
    "NONE": None,
    "NEWTRUE": True,
    "NEWFALSE": False,
}
_EMPTY = {"EMPTY_LIST": "list", "EMPTY_TUPLE": "tuple", "EMPTY_DICT": "dict", "EMPTY_SET": "set"}


class _Machine:
    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.memo: dict[int, Node] = {}
        self.made: list[Node] = []

    def pop_mark(self) -> list[Node]:
        items = []
        while not isinstance(item := self.stack.pop(), _Mark):
            items.append(item)
        items.reverse()
        return items

    def push(self, node: Node, start: int, end: int, *parts: Any) -> None:
        node.start = min([start, *(part.start for part in parts if part.end > part.start)])
        node.end = end
        self.stack.append(node)

    def step(self, name: str, argument: Any, start: int, end: int) -> None:
        stack = self.stack
        if name in ("PROTO", "FRAME", "STOP"):
            return
        if name == "MARK":
            stack.append(_Mark())
        elif name in _LITERALS:
            self.push(Node("value", _LITERALS[name]), start, end)
        elif name in _EMPTY:
            self.push(Node(_EMPTY[name]), start, end)
        elif name.startswith(("TUPLE", "LIST", "FROZENSET")) or name in ("DICT",):
            count = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}.get(name)
            parts = self.pop_mark() if count is None else [stack.pop() for _ in range(count)][::-1]
            self.push(Node(name.rstrip("123").lower(), parts=parts), start, end, *parts)
        elif name in ("APPEND", "APPENDS", "SETITEM", "SETITEMS", "ADDITEMS"):
            if name.endswith("S"):
                parts = self.pop_mark()
            else:
                parts = [stack.pop() for _ in range(2 if name == "SETITEM" else 1)][::-1]
            stack[-1].parts += parts
            stack[-1].end = end
        elif name in ("MEMOIZE", "PUT", "BINPUT", "LONG_BINPUT"):
            self.memo[len(self.memo) if name == "MEMOIZE" else argument] = stack[-1]
        elif name in ("GET", "BINGET", "LONG_BINGET"):
            stack.append(self.memo[argument])
        elif name in ("GLOBAL", "STACK_GLOBAL"):
            if name == "GLOBAL":
                module, _, what = argument.partition(" ")
                self.push(Node("global", (module, what)), start, end)
            else:
                what, module = stack.pop(), stack.pop()
                self.push(Node("global", (module.value, what.value)), start, end, module, what)
        elif name in ("REDUCE", "NEWOBJ", "NEWOBJ_EX", "OBJ", "INST"):
            self.call(name, argument, start, end)
        elif name == "BUILD":
            state = stack.pop()
            stack[-1].state.append(state)
            stack[-1].end = end
        elif name == "POP":
            stack.pop()
        elif name == "POP_MARK":
            self.pop_mark()
        elif name == "DUP":
            stack.append(stack[-1])
        elif name in ("PERSID", "BINPERSID"):
            key = stack.pop() if name == "BINPERSID" else Node("value", argument)
            self.push(Node("reference", key), start, end)
        elif name.startswith("EXT"):
            self.push(Node("extension", argument), start, end)
        else:
            self.push(Node("value", argument), start, end)

    def call(self, name: str, argument: Any, start: int, end: int) -> None:
        stack = self.stack
        if name in ("OBJ", "INST"):
            arguments = self.pop_mark()
            called = Node("global", tuple(argument.split(" ", 1))) if argument else arguments.pop(0)
            parts = Node("tuple", parts=arguments)
        else:
            if name == "NEWOBJ_EX":
                stack.pop()
            parts = stack.pop()
            called = stack.pop()
        # A setter is called with the object and its state; the object is what counts.
        if _is_maker(called) and called.value[1].startswith(("set_", "link_")):
            target = parts.parts[0]
            target.state.append(parts.parts[1])
            target.end = max(target.end, end)
        node = Node("call", called, [parts])
        self.push(node, start, end, called, parts)
        self.made.append(node)


def _is_maker(node: Any) -> bool:
    return isinstance(node, Node) and node.kind == "global" and node.value[0] == _MAKERS


def _maker(node: Any) -> str:
    """The name of the maker that an object is made by; empty for other objects."""
    if isinstance(node, Node) and node.kind == "call" and _is_maker(node.value):
        return str(node.value.value[1])
    return ""


# -- telling --------------------------------------------------------------------------------------


def describe(node: Any, depth: int = 3) -> str:
    """One line about an object."""
    if not isinstance(node, Node):
        return "?"
    if node.kind == "value":
        text = repr(node.value)
        return text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…"
    if node.kind == "global":
        return ".".join(map(str, node.value))
    if node.kind == "reference":
        return f"reference {describe(node.value)}"
    if node.kind == "call":
        return _describe_call(node, depth)
    count = len(node.parts) // (2 if node.kind == "dict" else 1)
    if depth and node.parts and count <= 8:
        items = [describe(part, depth - 1) for part in node.parts]
        if node.kind == "dict":
            pairs = zip(items[::2], items[1::2], strict=False)
            text = "{" + ", ".join(f"{key}: {value}" for key, value in pairs) + "}"
        else:
            ends = {"list": "[]", "tuple": "()"}.get(node.kind, "{}")
            text = ends[0] + ", ".join(items) + ends[1]
        if len(text) <= _SHOWN:
            return text
    return f"{node.kind} of {count} ({node.size} bytes)" if count else f"empty {node.kind}"


def _describe_call(node: Node, depth: int) -> str:
    maker, arguments = _maker(node), node.parts[0].parts
    match maker:
        case "":
            called = describe(node.value)
            if called in ("copyreg.__newobj__", "copyreg._reconstructor"):
                called = describe(arguments[0])
            return f"{called.removeprefix('builtins.')} object ({node.size} bytes)"
        case "make_cell":
            return f"cell: {describe(node.state[-1], depth - 1)}" if node.state else "empty cell"
        case "code_reference" | "code_value":
            return f"code {_Code.of(node).name}"
        case "module_globals" | "namespace":
            return f"globals of {describe(arguments[0])}"
        case "import_module":
            return f"module {describe(arguments[0])}"
        case "null":
            return "(no value)"
        case "make_function":
            return f"function {describe(arguments[3])}, by value ({node.size} bytes)"
        case "function_reference":
            return f"function {arguments[0].value}.{arguments[1].value}"
        case "make_class":
            return f"class {describe(arguments[3])}, by value ({node.size} bytes)"
        case _ if maker in _FRAMES:
            return f"{_FRAMES[maker]} ({node.size} bytes)"
    return f"{maker.removeprefix('make_')} ({node.size} bytes)"


@dataclass
class _Code:
    """What a pickle says about code, and what is found out without running anything."""

    name: str
    how: str
    found: types.CodeType | None = None
    module: str = ""

    @classmethod
    def of(cls, node: Any) -> _Code:
        maker = _maker(node)
        if maker == "code_reference":
            module, qualname, hashed = (part.value for part in node.parts[0].parts[:3])
            found = _find(str(module), hashed) if isinstance(hashed, bytes) else None
            how = "by reference" if found else "by reference, not the same here"
            return cls(str(qualname), how, found, str(module))
        if maker == "code_value":
            fields = node.parts[0].parts[1].parts
            return cls(str(fields[12].value), "by value", _rebuild(fields))
        return cls("?", "unknown")

    def line(self, unit: int | None) -> str:
        """Where an instruction stands, as far as that is known."""
        if self.found is None or unit is None:
            return f"instruction {unit}" if unit is not None else "?"
        for start, end, line in self.found.co_lines():
            if start <= 2 * unit < end and line is not None:
                return f"{os.path.basename(self.found.co_filename)}:{line}"
        return f"{os.path.basename(self.found.co_filename)}:{self.found.co_firstlineno}"

    def variables(self) -> list[str]:
        """The names of the slots of a frame."""
        code = self.found
        if code is None:
            return []
        own = list(code.co_varnames)
        return own + [n for n in code.co_cellvars if n not in own] + list(code.co_freevars)


def _plain(node: Any, depth: int = 20) -> Any:
    """The value of a description that consists of literals and tuples; `None` for the rest."""
    if not isinstance(node, Node) or depth == 0:
        raise ValueError("no literal")
    if node.kind == "value":
        return node.value
    if node.kind in ("tuple", "frozenset"):
        items = [_plain(part, depth - 1) for part in node.parts]
        return tuple(items) if node.kind == "tuple" else frozenset(items)
    return None


def _rebuild(fields: list[Any]) -> types.CodeType | None:
    """A code object with the lines and names of another, and nothing of what it does."""
    try:
        names = {index: _plain(fields[index]) for index in (3, 9, 10, 11, 12, 13, 14, 16, 17)}
        return (lambda: None).__code__.replace(
            co_nlocals=len(names[9]),
            co_varnames=names[9],
            co_filename=names[10],
            co_name=names[11],
            co_qualname=names[12],
            co_firstlineno=names[13],
            co_linetable=names[14],
            co_freevars=names[16],
            co_cellvars=names[17],
        )
    except (ValueError, TypeError, LookupError):
        return None


def _find(module: str, hashed: bytes) -> types.CodeType | None:
    """The code of a module that has this hash: the module is found and compiled, not imported."""
    from objspace import _pickles

    path: Any = None
    spec = None
    parts = module.split(".")
    for index in range(len(parts)):
        spec = importlib.machinery.PathFinder.find_spec(".".join(parts[: index + 1]), path)
        if spec is None:
            return None
        path = spec.submodule_search_locations
    try:
        code = spec.loader.get_code(module)  # type: ignore[union-attr]
    except Exception:
        return None
    waiting = [code]
    while waiting:
        code = waiting.pop()
        if not isinstance(code, types.CodeType):
            continue
        if bytes(_pickles.code_hash(code)) == hashed:
            return code
        waiting.extend(code.co_consts)
    return None


_FRAMES = {
    "make_suspended": "generator or coroutine",
    "make_continuation": "continuation",
    "make_greenlet": "greenlet",
    "make_frame": "frame",
}


def _state(node: Node) -> Node | None:
    """The state that belongs to the frames of an object, without that of its globals."""
    if not node.state:
        return None
    state: Any = node.state[-1]
    # Once for each code that uses globals.
    while (
        isinstance(state, Node)
        and state.kind == "tuple"
        and len(state.parts) == 4
        and _is_maker(state.parts[0])
    ):
        state = state.parts[1]
    if not isinstance(state, Node):
        return None
    # The frames come last; fresh and dead ones have none.
    if _maker(node) == "make_greenlet":
        last = state.parts[-1] if state.parts else None
        return last if isinstance(last, Node) and last.kind == "tuple" else None
    # A continuation has attributes of its own besides its frames.
    if _maker(node) == "make_continuation" and state.parts and state.parts[0].kind == "tuple":
        first = state.parts[0]
        return first if isinstance(first, Node) else None
    return state


def _frames(node: Node) -> Iterator[str]:
    """The frames of one object, outermost first."""
    maker, state = _maker(node), _state(node)
    arguments = node.parts[0].parts
    if maker == "make_suspended":
        kind = ("generator", "coroutine", "async generator", "?")[arguments[0].value & 3]
        code = _Code.of(arguments[1])
        if state is None:
            yield f"{kind} {code.name}(), finished  ({node.size} bytes)"
            return
        yield _title(kind, code, state.parts[0].value, node.size)
        yield from _values(code, state.parts[4:])
    elif maker == "make_frame":
        code = _Code.of(arguments[0])
        yield _title("frame", code, arguments[2].value // 2, node.size)
        if state is not None and state.kind == "tuple":
            slots = state.parts[0].parts
            names = code.variables()
            for index, value in zip(slots[::2], slots[1::2], strict=False):
                name = names[index.value] if index.value < len(names) else f"#{index.value}"
                yield f"    {name} = {_inside(value)}"
    elif state is None or len(state.parts) < 3:
        none = "empty" if maker == "make_continuation" else "fresh or dead"
        yield f"{_FRAMES[maker]}, {none}  ({node.size} bytes)"
    else:
        frames = state.parts[2].parts
        yield f"{_FRAMES[maker]} of {len(frames)} frames  ({node.size} bytes)"
        for frame in frames:
            code = _Code.of(frame.parts[0])
            yield "  " + _title("frame", code, frame.parts[4].value, frame.size)
            for line in _values(code, frame.parts[8:]):
                yield "  " + line


def _title(kind: str, code: _Code, unit: Any, size: int) -> str:
    module = f"{code.module}." if code.module else ""
    where = code.line(unit if isinstance(unit, int) else None)
    return f"{kind} {module}{code.name}() at {where}, code {code.how}  ({size} bytes)"


def _values(code: _Code, values: list[Any]) -> Iterator[str]:
    names = code.variables()
    for index, value in enumerate(values):
        if _maker(value) == "null" or (isinstance(value, Node) and _is_null(value)):
            continue
        if code.found is None:
            yield f"    #{index} = {_inside(value)}"
        elif index < len(names):
            yield f"    {names[index]} = {_inside(value)}"
        else:
            yield f"    (on the stack) {_inside(value)}"


def _is_null(node: Node) -> bool:
    return node.kind == "global" and node.value[0] == _MAKERS


def _inside(node: Any) -> str:
    """A value; that of a shared variable is what its cell contains."""
    if _maker(node) == "make_cell":
        return describe(node.state[-1]) if node.state else "(no value)"
    return describe(node)
