"""`objspace dump why`: the last writers of an attribute, or of what a line read."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from objspace import dump
from objspace._cli import FAILED, OK, Complaint
from objspace._cli.dumping import output, source, words

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

#: Operations that write, of whatever object.
_WRITES = ["setattr", "delattr", "setitem", "delitem", "inplace", "add", "call", "call_ex", "watch"]
#: Types whose items are found by key alone: writing one leaves the others as they are.
_MAPPINGS = {"dict", "defaultdict", "OrderedDict", "Counter"}
_ONE_KEY = {"pop", "setdefault", "move_to_end", "__setitem__", "__delitem__"}
_ITEM_READS = {"getitem", "contains", "iter", "unpack", "truth", "delitem"}


def run(options: argparse.Namespace) -> int:
    """Prints the last writers."""
    log = source.open_log(options.log)
    if options.count < 1:
        raise Complaint(f"a count is at least 1, not {options.count}")
    answer = Why(log, options)
    if place := re.fullmatch(r"(.+):([0-9]{1,9})", options.what):
        return answer.line(place[1], int(place[2]))
    if "." in options.what.strip("."):
        owner, _, attribute = options.what.rpartition(".")
        return answer.attribute(owner, attribute)
    raise Complaint(
        f"'{options.what}' is neither FILE:LINE nor TYPE.ATTR; write shop.py:12 or Order.state"
    )


class Why:
    """One question to one log."""

    def __init__(self, log: dump.Log, options: argparse.Namespace) -> None:
        self.log = log
        self.words = words.Words(log)
        self.printer = output.Printer()
        self.path: str = options.log
        self.count: int = options.count
        first, last = log.range
        if options.before is not None:
            last = min(last, options.before - 1)
        self.range = (first, last)
        self.object: int | None = None
        self.unwritten: list[str] = []
        if options.object is not None:
            self.object = source.serial(log, options.log, options.object)

    def attribute(self, owner: str, attribute: str) -> int:
        """The operations that last set or deleted an attribute."""
        asked: dict[str, Any] = {
            "operations": ["setattr", "delattr"],
            "name": attribute,
            "receiver_type": owner,
            "range": self.range,
        }
        if self.object is not None:
            asked["object"] = self.object
        found = []
        for each in source.every(self.log, asked, backwards=True):
            if self.object is None or each.operands[0] == dump.Ref(self.object):
                found.append(each)
                if len(found) == self.count:
                    break
        for each in found:
            self._show(each)
        if not found:
            self.printer(f"nothing in {self.path} sets or deletes {owner}.{attribute}")
        return OK if found else FAILED

    def line(self, file: str, number: int) -> int:
        """What a line did when it last ran, and who wrote what it read."""
        asked: dict[str, Any] = {"file": file, "lines": (number, number), "range": self.range}
        if self.object is not None:
            asked["object"] = self.object
        last = self._last_run(source.every(self.log, asked, backwards=True))
        if not last:
            self.printer(f"no operation of {file}:{number} is in {self.path}")
            return FAILED
        self.printer((f"{self.words.place(last[0].site)} last ran as", output.HEADING))
        if text := self.words.source(last[0].site):
            self.printer("    ", text)
        for each in last:
            self.printer("  ", *self.words.line(each))
        for line in self.words.stack(last[0].number):
            self.printer("    in ", *line)
        told = set()
        for each in last:
            for question in self._questions(each):
                if question not in told:
                    told.add(question)
                    self._answer(each, *question)
        if self.unwritten:
            self.printer()
            self.printer(
                ("nothing in the log writes ", output.HEADING),
                ", ".join(dict.fromkeys(self.unwritten)),
            )
        return OK

    def _last_run(self, backwards: Iterator[dump.Operation]) -> list[dump.Operation]:
        """The operations of a line when it ran for the last time, in order."""
        run: list[dump.Operation] = []
        for each in backwards:
            later = run[-1] if run else each
            same = (each.thread, each.task, each.parent) == (
                later.thread,
                later.task,
                later.parent,
            )
            if not same:
                # Another call of the same function is another run; what else lies in between is
                # part of an operation of this line.
                if each.thread == later.thread and each.depth == later.depth:
                    break
                continue
            # Bytecode of one run goes forwards: an offset that does not grow is a loop.
            if run and self.words.site(each.site).offset >= self.words.site(later.site).offset:
                break
            run.append(each)
            if len(run) == 1000:
                break
        return run[::-1]

    def _questions(self, each: dump.Operation) -> Iterator[tuple[int, str | None]]:
        """What an operation depends on: an object and its attribute, or its contents (None)."""
        of = each.operands[0] if each.operands else None
        if not isinstance(of, dump.Ref):
            return
        if each.operation in ("getattr", "setattr", "delattr"):
            yield of.serial, each.name
        elif each.operation in _ITEM_READS or each.operation == "setitem":
            yield of.serial, None
        elif each.operation == "call":
            # What was called is no question; what it was called with is.
            for value in each.operands[1:]:
                if isinstance(value, dump.Ref):
                    known = self.words.object(value.serial)
                    if known is not None and known.value is None:
                        yield value.serial, None

    def _answer(self, each: dump.Operation, serial: int, attribute: str | None) -> None:
        """Prints who wrote an attribute or the contents of an object before an operation."""
        if each.operation == "getattr" and self._is_method(each):
            attribute = None
        before = (self.log.range[0], each.number - 1)
        asked: dict[str, Any] = {"object": serial, "range": before, "backwards": True}
        if attribute is not None:
            asked.update(operations=["setattr", "delattr"], name=attribute)
        else:
            asked.update(operations=_WRITES)
        found: list[dump.Operation] = []
        limit = 16
        while len(found) < self.count:
            page = self.log.find(**asked, limit=limit)
            found += [
                one
                for one in page
                if self.words.changes(one, serial) and not self._is_elsewhere(one, each)
            ]
            if len(page) < limit:
                break
            asked["range"] = (before[0], page[-1].number - 1)
            limit = min(limit * 4, source.PAGE)
        named = self.words.value(dump.Ref(serial))
        what = named if attribute is None else f"{named}.{attribute}"
        if found:
            self.printer()
            self.printer((f"{what} was last written by", output.HEADING))
            for one in found[: self.count]:
                self._show(one)
            return
        self.unwritten.append(what)

    def _is_method(self, each: dump.Operation) -> bool:
        """Whether what was read is a method, so that the contents are the question."""
        if not isinstance(each.value, dump.Ref):
            return False
        known = self.words.object(each.value.serial)
        return known is not None and known.type_name.rpartition(".")[2] in (
            "method_descriptor",
            "builtin_function_or_method",
            "wrapper_descriptor",
        )

    def _is_elsewhere(self, write: dump.Operation, read: dump.Operation) -> bool:
        """Whether a write of a dict's item is certainly of another key than the one read."""
        if read.operation not in ("getitem", "contains") or len(read.operands) != 2:
            return False
        of = read.operands[0]
        known = self.words.object(of.serial) if isinstance(of, dump.Ref) else None
        if known is None or known.type_name.rpartition(".")[2] not in _MAPPINGS:
            return False
        if write.operation in ("setitem", "delitem"):
            key = write.operands[1]
        elif write.operation == "call" and not write.name and len(write.operands) > 2:
            called = self.words.value(write.operands[0])
            if called.rpartition(".")[2] not in _ONE_KEY:
                return False
            key = write.operands[2]
        else:
            return False
        wanted, other = self._key(read.operands[1]), self._key(key)
        return bool(wanted and other and wanted[0] != other[0])

    def _key(self, key: Any) -> tuple[Any] | None:
        """A key that compares as it did in the program; `None` if that is not known."""
        if isinstance(key, dump.Special):
            return None
        if not isinstance(key, dump.Ref):
            return (key,)
        known = self.words.object(key.serial)
        exact = ("builtins.str", "builtins.bytes", "builtins.int")
        if known is None or known.value is None or known.type_name not in exact:
            return None
        return (known.value,)

    def _show(self, each: dump.Operation) -> None:
        """Prints a writer with its stack."""
        self.printer("  ", *self.words.line(each, width=1))
        if text := self.words.source(each.site):
            self.printer("      ", (text, output.PLACE))
        for line in reversed(self.words.stack(each.number)):
            self.printer("    in ", *line)
