"""`objspace dump object`: the life of one object."""

from __future__ import annotations

from typing import TYPE_CHECKING

from objspace import dump
from objspace._cli import Complaint
from objspace._cli.dumping import output, source, words

if TYPE_CHECKING:
    import argparse


def run(options: argparse.Namespace) -> None:
    """Prints the life of an object."""
    log = source.open_log(options.log)
    serial = source.serial(log, options.log, options.serial)
    said = words.Words(log)
    printer = output.Printer()
    known = log.object(serial)
    text = f", first seen as {known.text}" if known.text else ""
    printer((f"#{serial}", output.HEADING), f" {known.type_name}{text}")

    first, last = operations(log, serial, options.limit)
    everything = first + last
    if everything and options.limit >= 0:
        earliest = everything[0]
        if _is(earliest.value, serial) and earliest.status == "result":
            printer("born in   ", *_short(said, earliest))
        else:
            printer("first in  ", *_short(said, earliest))
        for line in said.stack(earliest.number):
            printer("  in ", *line)
    death = log.death(serial)
    if death is None:
        printer("alive when the log ends")
    else:
        after, thread = death
        names = {index: name for index, _, name in log.threads}
        where = said.place(log.operation(after).site) if _has(log, after) else "(not in the log)"
        printer(
            "gone after ",
            (f"#{after}", output.NUMBER),
            f", in thread {names.get(thread, thread)}",
            (f"   {where}", output.PLACE),
        )
    printer()
    width = max(6, len(str(log.range[1])))
    for part, operations_of in enumerate((first, last)):
        if part and last:
            printer(" " * width, " … more in between: --limit 0 shows all")
        for each in operations_of:
            changed = said.changes(each, serial)
            if changed or not options.changes:
                printer(("* " if changed else "  ", output.WRONG), *said.line(each, width=width))


def operations(
    log: dump.Log, serial: int, limit: int
) -> tuple[list[dump.Operation], list[dump.Operation]]:
    """All operations of an object, and nothing; or its first and its last ones, if it has more."""
    if limit < 0:
        raise Complaint(f"a limit is 0 or more, not {limit}")
    if limit == 0:
        return log.find(object=serial), []
    first = log.find(object=serial, limit=limit + 1)
    if len(first) <= limit:
        return first, []
    first = first[: limit - limit // 2]
    last = log.find(object=serial, limit=limit // 2, backwards=True)
    return first, last[::-1]


def _short(said: words.Words, each: dump.Operation) -> tuple[output.Piece, ...]:
    return said.line(each, width=1)


def _is(value: object, serial: int) -> bool:
    return value == dump.Ref(serial)


def _has(log: dump.Log, number: int) -> bool:
    begin, end = log.range
    return bool(begin <= number <= end)
