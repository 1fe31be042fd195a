"""Opening logs, and turning options into questions to them."""

from __future__ import annotations

import re
import sys
from typing import TYPE_CHECKING, Any

from objspace import dump
from objspace._cli import Complaint, one_line

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

#: Operations that are read at once: enough that a question is rarely asked again.
PAGE = 20_000


def open_log(path: str) -> dump.Log:
    """Opens a log; says on standard error what is missing at its end."""
    try:
        log = dump.Log(path)
    except FileNotFoundError:
        raise Complaint(f"there is no file {path}") from None
    except OSError as error:
        raise Complaint(f"cannot read {path}: {error.strerror or one_line(error)}") from None
    except ValueError as error:
        text = one_line(error)
        raise Complaint(text if path in text else f"{path}: {text}") from None
    if log.incomplete:
        print(
            f"objspace: {path} is cut off: its last {log.incomplete} bytes are no whole block, and "
            f"what they held is missing; {log.operations} operations before it are there",
            file=sys.stderr,
        )
    for operation, text in log.notes:
        print(f"objspace: {path}: after operation {operation}: {text}", file=sys.stderr)
    return log


def serial(log: dump.Log, path: str, text: str) -> int:
    """The serial that somebody wrote, if the log has such an object."""
    if not re.fullmatch(r"#?[0-9]{1,18}", text):
        raise Complaint(f"'{text}' is no serial: write 34 or #34, as shown behind an object")
    number = int(text.removeprefix("#"))
    try:
        log.object(number)
    except KeyError:
        raise Complaint(f"{path} has no object #{number}") from None
    return number


def query(log: dump.Log, path: str, options: argparse.Namespace) -> dict[str, Any]:
    """The arguments of `find` that the filters among the options stand for."""
    asked: dict[str, Any] = {
        "operations": options.op,
        "name": options.name,
        "file": options.file,
        "function": options.function,
        "module": options.module_filter,
        "receiver_type": options.type,
        "status": options.status,
    }
    for name in options.op:
        if name not in dump.operations:
            raise Complaint(
                f"there is no operation '{name}'; there are {', '.join(dump.operations)}"
            )
    if options.line is not None:
        found = re.fullmatch(r"([0-9]{1,9})(?:-([0-9]{1,9}))?", options.line)
        if not found:
            raise Complaint(f"'{options.line}' is no line: write 12 or 12-20")
        asked["lines"] = (int(found[1]), int(found[2] or found[1]))
    if options.object is not None:
        asked["object"] = serial(log, path, options.object)
    if options.thread is not None:
        asked["thread"] = _one_of(
            "thread", options.thread, {index: name for index, _, name in log.threads}
        )
    if options.task is not None:
        asked["task"] = _one_of("task", options.task, log.tasks)
    first, last = log.range
    for number in (options.first, options.last):
        if number is not None and number < 0:
            raise Complaint(f"operations are numbered from {first} to {last}, not {number}")
    if options.first is not None:
        first = max(first, options.first)
    if options.last is not None:
        last = min(last, options.last)
    asked["range"] = (first, last)
    return {key: value for key, value in asked.items() if value is not None}


def _one_of(what: str, text: str, known: dict[int, str]) -> int:
    named = [number for number, name in known.items() if name == text]
    if len(named) == 1:
        return named[0]
    if text.isdecimal() and len(text) < 19 and int(text) in known:
        return int(text)
    those = ", ".join(f"{number} ({name})" for number, name in known.items()) or "none"
    if named:
        raise Complaint(f"several {what}s are named '{text}'; write a number: {those}")
    raise Complaint(f"there is no {what} '{text}'; there are: {those}")


def every(
    log: dump.Log, asked: dict[str, Any], *, backwards: bool = False
) -> Iterator[dump.Operation]:
    """What a query finds, in the order of the numbers, without holding all of it in memory."""
    first, last = asked.get("range", log.range)
    page = 64
    while first <= last:
        asked = {**asked, "range": (first, last)}
        found = log.find(**asked, limit=page, backwards=backwards)
        yield from found
        if len(found) < page:
            return
        if backwards:
            last = found[-1].number - 1
        else:
            first = found[-1].number + 1
        page = min(page * 4, PAGE)
