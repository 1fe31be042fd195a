"""`objspace dump diff`: the first operation in which two runs differ.

Each thread of one log is compared with the thread of the same name in the other (the same one in
the order of their beginning, if several have it), operation by operation. Objects are compared by
what they are: strings and numbers by value, others by type, by what they looked like, and by
identity: an object of one run is the counterpart of the object of the other run in whose place it
was first met, and of no other. Serials, addresses and times are never compared.
"""

from __future__ import annotations

import itertools
import re
from collections import deque
from typing import TYPE_CHECKING, Any

from objspace import dump
from objspace._cli import FAILED, OK, Complaint
from objspace._cli.dumping import output, source, words

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

_ADDRESS = re.compile(r"0x[0-9a-fA-F]+")


def run(options: argparse.Namespace) -> int:
    """Prints the first difference of the thread in which it comes first."""
    if options.context < 0:
        raise Complaint(f"a context is 0 or more, not {options.context}")
    paths = (options.log1, options.log2)
    logs = tuple(source.open_log(path) for path in paths)
    said = tuple(words.Words(log) for log in logs)
    printer = output.Printer()
    partners = Partners(said[0], said[1])
    pairs, alone = _threads(logs[0], logs[1])
    differences = [
        found
        for first, second in pairs
        if (found := _compare(said, (first, second), partners, options)) is not None
    ]
    for side, name in alone:
        printer(f"thread {name} is only in {paths[side]}")
    if not differences:
        if alone:
            return FAILED
        printer(f"no difference in {logs[0].operations} operations")
        return OK
    first = min(differences, key=lambda each: each.position)
    first.show(printer, said, paths)
    others = len(differences) - 1
    if others:
        printer(f"{others} other thread{'s differ' if others > 1 else ' differs'} too")
    return FAILED


def _threads(one: dump.Log, other: dump.Log) -> tuple[list[tuple[int, int]], list[tuple[int, str]]]:
    """Threads that belong together, and those (side, name) that are alone."""
    named: tuple[dict[tuple[str, int], int], ...] = ({}, {})
    for side, log in enumerate((one, other)):
        for index, _, name in log.threads:
            if not log.find(thread=index, limit=1):
                continue
            known = next(n for n in itertools.count() if (name, n) not in named[side])
            named[side][name, known] = index
    both = [(index, named[1][key]) for key, index in named[0].items() if key in named[1]]
    alone = [(side, key[0]) for side in (0, 1) for key in named[side] if key not in named[1 - side]]
    return both, alone


class Partners:
    """Which object of one run is which of the other."""

    def __init__(self, one: words.Words, other: words.Words) -> None:
        self._words = (one, other)
        self._there: dict[int, int] = {}
        self._back: dict[int, int] = {}

    def difference(self, one: Any, other: Any) -> str | None:
        """How two operands or results differ, in words; `None` if they do not."""
        if not isinstance(one, dump.Ref) or not isinstance(other, dump.Ref):
            same = type(one) is type(other) and repr(one) == repr(other)
            return None if same else f"{self._words[0].value(one)} or {self._words[1].value(other)}"
        first = self._words[0].object(one.serial)
        second = self._words[1].object(other.serial)
        if first is None or second is None:
            return None if first is second else "an object that one log does not define"
        if first.type_name != second.type_name:
            return f"of type {first.type_name} or {second.type_name}"
        if first.value is not None or second.value is not None:
            # Strings by value: whether two equal ones are one object is the interpreter's choice.
            if first.value == second.value:
                return None
            return f"{self._words[0].value(one)} or {self._words[1].value(other)}"
        if _text(first) != _text(second):
            return f"{first.text} or {second.text}"
        if first.type_name == "builtins.str":
            return None
        known = self._there.get(one.serial)
        back = self._back.get(other.serial)
        if known is None and back is None:
            self._there[one.serial] = other.serial
            self._back[other.serial] = one.serial
            return None
        if known == other.serial and back == one.serial:
            return None
        if known is not None:
            return f"the same {first.type_name} as before (#{one.serial}), or not: #{known} was it"
        return f"the same {first.type_name} as before (#{other.serial}), or not: #{back} was it"


def _text(known: dump.Object) -> str:
    return _ADDRESS.sub("0x", known.text or "")


class Difference:
    """The first difference of a thread."""

    def __init__(
        self,
        position: int,
        reason: str,
        before: list[tuple[dump.Operation, dump.Operation]],
        after: tuple[list[dump.Operation], list[dump.Operation]],
    ) -> None:
        self.position = position
        self.reason = reason
        self.before = before
        self.after = after

    def show(
        self,
        printer: output.Printer,
        said: tuple[words.Words, ...],
        paths: tuple[str, str],
    ) -> None:
        """Prints it with what came before and after."""
        printer(
            (f"the runs part at operation {self.position} of a thread: ", output.HEADING),
            self.reason,
        )
        for one, _ in self.before:
            printer("  ", *said[0].line(one, indent=one.depth))
        for side, sign in ((0, "-"), (1, "+")):
            printer((f"{sign * 3} {paths[side]}", output.HEADING))
            for index, each in enumerate(self.after[side]):
                mark = (f"{sign} ", output.WRONG) if index == 0 else f"{sign} "
                printer(mark, *said[side].line(each, indent=each.depth))
                if index == 0:
                    for line in reversed(said[side].stack(each.number)):
                        printer("           in ", *line)
            if not self.after[side]:
                printer(f"{sign} (no further operation)")


def _compare(
    said: tuple[words.Words, ...],
    threads: tuple[int, int],
    partners: Partners,
    options: argparse.Namespace,
) -> Difference | None:
    streams: list[Iterator[dump.Operation]] = [
        source.every(side.log, {"thread": thread})
        for side, thread in zip(said, threads, strict=True)
    ]
    before: deque[tuple[dump.Operation, dump.Operation]] = deque(maxlen=options.context or None)
    # A result is only certain after the operation's parts: those are compared first.
    waiting: list[tuple[int, dump.Operation, dump.Operation]] = []
    for position in itertools.count(1):
        one, other = (next(stream, None) for stream in streams)
        depth = -1 if one is None or other is None else min(one.depth, other.depth)
        while waiting and waiting[-1][1].depth >= depth:
            at, first, second = waiting.pop()
            reason = _outcomes(first, second, partners, options)
            if reason:
                earlier = [pair for pair in before if pair[0].number < first.number]
                return _difference(at, reason, earlier, (first, second), ([], []))
        if one is None and other is None:
            return None
        if one is None or other is None:
            reason = f"{'the first' if one is None else 'the second'} run ends here"
        else:
            reason = _operations(said, one, other, partners, options) or ""
        if reason:
            kept = list(before) if options.context else []
            rest = tuple(list(itertools.islice(stream, options.context)) for stream in streams)
            return _difference(position, reason, kept, (one, other), (rest[0], rest[1]))
        if one is not None and other is not None:
            before.append((one, other))
            waiting.append((position, one, other))
    return None


def _difference(
    position: int,
    reason: str,
    before: list[tuple[dump.Operation, dump.Operation]],
    at: tuple[dump.Operation | None, dump.Operation | None],
    rest: tuple[list[dump.Operation], list[dump.Operation]],
) -> Difference:
    after = tuple(
        ([] if each is None else [each]) + more for each, more in zip(at, rest, strict=True)
    )
    return Difference(position, reason, before, (after[0], after[1]))


def _operations(
    said: tuple[words.Words, ...],
    one: dump.Operation,
    other: dump.Operation,
    partners: Partners,
    options: argparse.Namespace,
) -> str | None:
    """How two operations differ, but for their outcome."""
    sites = (said[0].site(one.site), said[1].site(other.site))
    if (one.operation, one.name) != (other.operation, other.name):
        return f"{one.operation} {one.name} or {other.operation} {other.name}"
    if sites[0].function != sites[1].function or sites[0].module != sites[1].module:
        return f"in {sites[0].function} or in {sites[1].function}"
    if sites[0].line != sites[1].line and not options.ignore_lines:
        return f"in line {sites[0].line} or in line {sites[1].line}"
    if one.depth != other.depth:
        return f"part of {one.depth} or of {other.depth} operations"
    if len(one.operands) != len(other.operands):
        return f"{len(one.operands)} or {len(other.operands)} operands"
    if not options.ignore_values:
        for index, pair in enumerate(zip(one.operands, other.operands, strict=True)):
            if reason := partners.difference(*pair):
                return f"operand {index + 1} is {reason}"
    return None


def _outcomes(
    one: dump.Operation, other: dump.Operation, partners: Partners, options: argparse.Namespace
) -> str | None:
    """How the outcomes of two operations differ."""
    if one.status != other.status:
        return f"the outcome is '{one.status}' or '{other.status}'"
    if options.ignore_values and one.status != "raised":
        return None
    reason = partners.difference(one.value, other.value)
    return (
        f"the {'exception' if one.status == 'raised' else 'result'} is {reason}" if reason else None
    )
