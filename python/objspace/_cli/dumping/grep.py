"""`objspace dump grep`: operations by their words."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from objspace._cli import FAILED, OK, Complaint
from objspace._cli.dumping import output, source, words

if TYPE_CHECKING:
    import argparse


def run(options: argparse.Namespace) -> int:
    """Prints what matches; the exit code is that of grep."""
    try:
        pattern = re.compile(options.pattern or "", re.IGNORECASE if options.ignore_case else 0)
    except re.error as error:
        raise Complaint(f"'{options.pattern}' is no regular expression: {error}") from None
    log = source.open_log(options.log)
    asked = source.query(log, options.log, options)
    said = words.Words(log)
    printer = output.Printer()
    count = 0
    for each in source.every(log, asked):
        if options.limit is not None and count >= options.limit:
            break
        if options.count and not options.pattern:
            count += 1
            continue
        line = said.line(each)
        # The number is no part of what is searched.
        if not pattern.search(output.plain(line[1:])):
            continue
        count += 1
        if options.count:
            continue
        printer(*line)
        if options.stack:
            for outer in reversed(said.stack(each.number)):
                printer("         in ", *outer)
    if options.count:
        printer(str(count))
    return OK if count else FAILED
