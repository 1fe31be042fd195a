"""Putting operations into words: as the expression that performed them, with serials."""

from __future__ import annotations

import functools
import linecache
import os
from typing import TYPE_CHECKING, Any

from objspace import dump
from objspace._cli.dumping import output

if TYPE_CHECKING:
    from objspace._cli.dumping.output import Piece

LONGEST = 60

#: Types whose text is a name that never changes.
_NAMED = {
    "type",
    "function",
    "builtin_function_or_method",
    "method_descriptor",
    "wrapper_descriptor",
    "method-wrapper",
    "classmethod_descriptor",
    "getset_descriptor",
    "module",
}

#: Methods of builtin types that change what they belong to.
MUTATORS = frozenset(
    {
        "__delitem__",
        "__iadd__",
        "__imul__",
        "__init__",
        "__ior__",
        "__setitem__",
        "__setattr__",
        "__delattr__",
        "__iand__",
        "__isub__",
        "__ixor__",
        "add",
        "append",
        "appendleft",
        "clear",
        "difference_update",
        "discard",
        "extend",
        "extendleft",
        "insert",
        "intersection_update",
        "move_to_end",
        "pop",
        "popitem",
        "popleft",
        "remove",
        "reverse",
        "rotate",
        "setdefault",
        "sort",
        "subtract",
        "symmetric_difference_update",
        "update",
    }
)

_SETTERS = {"setattr", "delattr", "setitem", "delitem"}


class Words:
    """A log, in words."""

    def __init__(self, log: dump.Log) -> None:
        self.log = log
        self.site = functools.lru_cache(maxsize=1 << 16)(log.site)
        self._object = functools.lru_cache(maxsize=1 << 16)(log.object)
        self._folder = log.meta.get("cwd", "")

    def object(self, serial: int) -> dump.Object | None:
        """An object; `None` if the log does not define it."""
        try:
            known: dump.Object = self._object(serial)
        except KeyError:
            return None
        return known

    def value(self, value: Any) -> str:
        """An operand or a result."""
        if not isinstance(value, dump.Ref):
            return repr(value)
        known = self.object(value.serial)
        if known is None:
            return f"#{value.serial}"
        if known.value is not None:
            whole = repr(known.value)
            return whole if len(whole) <= LONGEST else f"{whole[: LONGEST - 1]}…"
        kind = known.type_name.rpartition(".")[2]
        text = known.text
        if kind == "str":
            start = repr((text or "").removesuffix("…"))[: LONGEST - 1]
            return f"{start}…"
        if text and (kind in _NAMED or known.is_class):
            text = text.removeprefix("builtins.").removeprefix("__main__.")
            return f"module {text}" if kind == "module" else text
        if kind == "int" and text:
            return text
        if text and text.startswith("(") and kind != "tuple":
            return f"{kind}#{known.serial}{text}"
        return f"{kind}#{known.serial}"

    def expression(self, each: dump.Operation) -> str:
        """What was done, as it might be written."""
        values = [self.value(value) for value in each.operands]
        name = each.name
        match each.operation, values:
            case "getattr" | "superattr", [*_, of]:
                return f"{f'super({of})' if each.operation == 'superattr' else of}.{name}"
            case "setattr", [of, new]:
                return f"{of}.{name} = {new}"
            case "delattr", [of]:
                return f"del {of}.{name}"
            case "getitem", [of, *keys]:
                return f"{of}[{':'.join(keys)}]"
            case "setitem", [of, *keys, new]:
                return f"{of}[{':'.join(keys)}] = {new}"
            case "delitem", [of, *keys]:
                return f"del {of}[{':'.join(keys)}]"
            case "call", [of, *arguments]:
                keywords = name.replace(",", " ").split()
                for at, keyword in enumerate(reversed(keywords), 1):
                    if at <= len(arguments):
                        arguments[-at] = f"{keyword}={arguments[-at]}"
                return f"{of}({', '.join(arguments)})"
            case "call_ex", [of, positional, *keywords]:
                more = "".join(
                    f", **{value}" for value in keywords if not value.startswith("<nothing")
                )
                return f"{of}(*{positional}{more})"
            case "binary" | "compare" | "is", [left, right]:
                return f"{left} {name} {right}"
            case "inplace", [left, right]:
                return f"{left} {name if name.endswith('=') else f'{name}='} {right}"
            case "contains", [container, element]:
                return f"{element} {name or 'in'} {container}"
            case "unary", [of]:
                return f"{name}{' ' if name.isalpha() else ''}{of}"
            case "truth", [of]:
                return f"not {of}" if name == "not" else f"bool({of})"
            case "format", [of, *spec]:
                return f"format({', '.join([of + name, *spec])})"
            case "setname" | "setglobal" | "setcell", [new]:
                return f"{name} = {new}"
            case "delname" | "delglobal" | "delcell", _:
                return f"del {name}"
            case "import", _:
                return f"import {name}"
            case "import_from", [of, *_]:
                return f"from {of} import {name}"
            case "raise" | "yield" | "await", _:
                return f"{each.operation} {' from '.join(values)}".rstrip()
            case "build", _:
                return f"build {name}({', '.join(values)})"
            case "watch", [of, *arguments]:
                return f"{of}.{name}({', '.join(arguments)})  (watched)"
        return f"{each.operation}{f' {name}' if name else ''}({', '.join(values)})"

    def outcome(self, each: dump.Operation) -> tuple[Piece, ...]:
        """How it ended."""
        match each.status:
            case "result":
                return (" -> ", self.value(each.value))
            case "raised":
                return ((f" !! {self.value(each.value)}", output.WRONG),)
            case "exhausted":
                return (" -> (exhausted)",)
            case "lost":
                return ((" ?? (left, how is not known)", output.WRONG),)
            case None:
                return ((" ?? (the log ends before it did)", output.WRONG),)
        return ()

    def place(self, site: int, *, function: bool = True) -> str:
        """Where in the source."""
        known = self.site(site)
        file = known.file
        if self._folder and file.startswith(self._folder + os.sep):
            file = file[len(self._folder) + 1 :]
        return f"{file}:{known.line}" + (f" {known.function}" if function else "")

    def line(
        self, each: dump.Operation, *, indent: int = 0, width: int = 6, time: bool = False
    ) -> tuple[Piece, ...]:
        """An operation as one line."""
        when: tuple[Piece, ...] = (f"{each.time / 1e9:10.6f} ",) if time else ()
        return (
            (f"{each.number:>{width}} ", output.NUMBER),
            *when,
            "  " * indent,
            self.expression(each),
            *self.outcome(each),
            (f"   {self.place(each.site)}", output.PLACE),
        )

    def stack(self, number: int) -> list[tuple[Piece, ...]]:
        """The operations that one is part of, outermost first: a line each."""
        lines: list[tuple[Piece, ...]] = []
        for outer, site in self.log.stack(number)[:-1]:
            try:
                what = self.expression(self.log.operation(outer))
            except KeyError:
                what = "(no longer in the log)"
            place = (f"   {self.place(site)}", output.PLACE)
            lines.append(((f"#{outer} ", output.NUMBER), what, place))
        return lines

    def source_path(self, file: str) -> str:
        """The path of a source file, also of a script named relative to where it was started."""
        return os.path.join(self._folder, file)

    def source(self, site: int) -> str:
        """The source line, without its indentation; "" if it cannot be had."""
        known = self.site(site)
        return linecache.getline(self.source_path(known.file), known.line).strip()

    def changes(self, each: dump.Operation, serial: int) -> bool:
        """Whether an operation may have changed this object."""
        if not each.operands:
            return False
        wanted = dump.Ref(serial)
        if each.operation in _SETTERS or each.operation in ("inplace", "add"):
            return bool(each.operands[0] == wanted)
        if each.operation == "watch":
            return each.operands[0] == wanted and each.name in MUTATORS
        if each.operation in ("call", "call_ex"):
            called = each.operands[0]
            if not isinstance(called, dump.Ref):
                return False
            known = self.object(called.serial)
            if known is None or known.text is None:
                return False
            kind = known.type_name.rpartition(".")[2]
            if kind not in _NAMED or kind in ("type", "function", "module"):
                return False
            return known.text.rpartition(".")[2] in MUTATORS and wanted in each.operands[1:2]
        return False
