"""`objspace dump show`: operations as a tree."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

from objspace._cli import Complaint
from objspace._cli.dumping import output, pypy, source, words

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    from objspace import dump


def run(options: argparse.Namespace) -> None:
    """Prints the operations that the options leave."""
    log = source.open_log(options.log)
    asked = source.query(log, options.log, options)
    chosen = source.every(log, asked)
    base = 0
    if options.under is not None:
        whole = _operation(log, options.log, options.under)
        base = whole.depth
        chosen = _under(log, whole, asked)
    if options.depth is not None:
        chosen = (each for each in chosen if each.depth - base < options.depth)
    if options.limit is not None:
        chosen = itertools.islice(chosen, max(options.limit, 0))
    said = words.Words(log)
    if options.pypy:
        pypy.write(said, chosen)
        return
    printer = output.Printer()
    width = max(6, len(str(log.range[1])))
    threads = {index: name for index, _, name in log.threads}
    tasks = log.tasks
    before: tuple[int, int] | None = None
    for each in chosen:
        here = (each.thread, each.task)
        if here != before and (before is not None or len(threads) > 1 or each.task):
            name = threads.get(each.thread, str(each.thread))
            task = f", task {tasks.get(each.task, each.task)}" if each.task else ""
            printer((f"-- thread {name}{task}", output.HEADING))
        before = here
        printer(*said.line(each, indent=each.depth - base, width=width, time=options.time))


def _operation(log: dump.Log, path: str, number: int) -> dump.Operation:
    try:
        return log.operation(number)
    except (KeyError, OverflowError):
        first, last = log.range
        raise Complaint(f"{path} has operations {first} to {last}, not {number}") from None


def _under(log: dump.Log, whole: dump.Operation, asked: dict[str, Any]) -> Iterator[dump.Operation]:
    """An operation and what is part of it, as far as the query finds it."""
    first, last = asked["range"]
    asked = {**asked, "range": (max(first, whole.number), last)}
    asked.setdefault("thread", whole.thread)
    # What comes next in this thread and is no part ends the tree, whether or not it is shown.
    after = next(iter(_after(log, whole)), None)
    for each in source.every(log, asked):
        if after is not None and each.number >= after:
            return
        yield each


def _after(log: dump.Log, whole: dump.Operation) -> Iterator[int]:
    siblings = whole
    while True:
        found = log.children(siblings.parent, after=siblings.number, limit=1)
        found = [each for each in found if each.thread == whole.thread]
        if found:
            yield found[0].number
            return
        if siblings.parent < log.range[0]:
            return
        siblings = log.operation(siblings.parent)
