"""The text format of PyPy's dump object space.

A line each: the operation's name, right-aligned in 15 columns, then `CALL` and its operands,
separated by tabs; `RETURN` and the result; or `RAISE` and the exception. Nesting is the order of
the lines. Where PyPy shows the address of an object, the serial stands, which is never reused.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from objspace import dump
from objspace._cli.dumping import output

if TYPE_CHECKING:
    from collections.abc import Iterable

    from objspace._cli.dumping.words import Words

_OPERATORS = {
    "+": "add",
    "-": "sub",
    "*": "mul",
    "/": "truediv",
    "//": "floordiv",
    "%": "mod",
    "**": "pow",
    "<<": "lshift",
    ">>": "rshift",
    "&": "and_",
    "|": "or_",
    "^": "xor",
    "@": "matmul",
    "<": "lt",
    "<=": "le",
    "==": "eq",
    "!=": "ne",
    ">": "gt",
    ">=": "ge",
}
_UNARY = {"-": "neg", "+": "pos", "~": "invert", "not": "not_"}
_NAMES = {
    "call": "call_args",
    "call_ex": "call_args",
    "truth": "is_true",
    "is": "is_w",
    "superattr": "getattr",
}
#: Whose name is an operand for PyPy: getattr(object, 'name').
_NAME_IS_OPERAND = {"getattr", "setattr", "delattr", "superattr"}


def write(words: Words, operations: Iterable[dump.Operation]) -> None:
    """Writes operations in this format on standard output."""
    open_of: dict[int, list[dump.Operation]] = {}
    for each in operations:
        stack = open_of.setdefault(each.thread, [])
        while stack and stack[-1].depth >= each.depth:
            _end(words, stack.pop())
        _line(_name(each), "CALL", *_operands(words, each))
        stack.append(each)
    for stack in open_of.values():
        while stack:
            _end(words, stack.pop())


def _line(name: str, what: str, *values: str) -> None:
    text = "\t".join(output.clean(value) for value in values)
    sys.stdout.write(
        f"{name:>15} {what + ('   ' if what == 'CALL' else ' ')}{text}".rstrip() + "\n"
    )


def _end(words: Words, each: dump.Operation) -> None:
    if each.status == "raised":
        _line(_name(each), "RAISE ", value(words, each.value))
    elif each.status == "exhausted":
        _line(_name(each), "RAISE ", "StopIteration")
    elif each.status == "result":
        _line(_name(each), "RETURN", value(words, each.value))
    elif each.status == "done":
        _line(_name(each), "RETURN")


def _name(each: dump.Operation) -> str:
    if each.operation == "unary":
        return _UNARY.get(each.name, each.name)
    if each.operation in ("binary", "compare"):
        return _OPERATORS.get(each.name, each.name)
    if each.operation == "inplace":
        plain = _OPERATORS.get(each.name.removesuffix("="), each.name)
        return f"inplace_{plain.removesuffix('_')}"
    return _NAMES.get(each.operation, each.operation)


def _operands(words: Words, each: dump.Operation) -> list[str]:
    values = [value(words, operand) for operand in each.operands]
    if each.operation in _NAME_IS_OPERAND:
        values.insert(1, repr(each.name))
    elif each.name and each.operation not in ("unary", "binary", "compare", "inplace", "call"):
        values.insert(0, repr(each.name))
    return values


def value(words: Words, what: Any) -> str:
    """A value as PyPy wrote it: scalars and strings by value, others as `text at 0xserial`."""
    if not isinstance(what, dump.Ref):
        return repr(what)
    known = words.object(what.serial)
    if known is not None and known.value is not None:
        return repr(known.value)
    kind = "object" if known is None else known.type_name.rpartition(".")[2]
    text = f" {known.text}" if known is not None and known.text else ""
    return f"<{kind}{text}> at 0x{what.serial:x}"
