"""`objspace dump export`: a log in formats of other tools.

Perfetto: the Chrome JSON trace event format, which Perfetto reads too: a complete event ("X") for
each operation, on a track per thread; one that never ended is a begin event ("B"). Times are in
microseconds; those of one reading of the clock are spread over nanoseconds. JSON Lines: a line with
the log's `meta`, then one per operation, in which a value is itself or
`{"object": serial, "type": …}`. SQLite: tables `meta`, `threads`, `sites`, `objects`,
`operations`, `operands`, and a view `readable`. A file is complete or is not there.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import sqlite3
import sys
import tempfile
from typing import IO, TYPE_CHECKING, Any

from objspace import dump
from objspace._cli import Complaint
from objspace._cli.dumping import source, words

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterable, Iterator


def run(options: argparse.Namespace) -> None:
    """Writes the file."""
    log = source.open_log(options.log)
    chosen = source.every(log, source.query(log, options.log, options))
    said = words.Words(log)
    path: str = options.perfetto or options.jsonl or options.sqlite
    if os.path.exists(path) and os.path.samefile(path, options.log):
        raise Complaint(f"{path} is the log itself; write to another file")
    try:
        if options.sqlite:
            count = _written(path, lambda name: sqlite(said, chosen, name))
        else:
            write = perfetto if options.perfetto else jsonl
            if path == "-":
                write(said, chosen, sys.stdout)
                return
            count = _written(path, lambda name: _text(write, said, chosen, name))
    except sqlite3.Error as error:
        raise Complaint(f"cannot write {path}: {error}") from None
    except OSError as error:
        raise Complaint(f"cannot write {path}: {error.strerror or error}") from None
    print(f"objspace: {count} operations in {path}", file=sys.stderr)


def _written(path: str, write: Callable[[str], int]) -> int:
    """Writes beside the file, and puts it there when it is complete."""
    if os.path.isdir(path):
        raise Complaint(f"{path} is a folder; name a file")
    folder, name = os.path.split(os.path.abspath(path))
    handle, beside = tempfile.mkstemp(prefix=f".{name}.", dir=folder)
    os.close(handle)
    try:
        count = write(beside)
        os.replace(beside, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(beside)
        raise
    return count


def _text(
    write: Callable[[words.Words, Iterable[dump.Operation], IO[str]], int],
    said: words.Words,
    operations: Iterable[dump.Operation],
    path: str,
) -> int:
    with open(path, "w", encoding="utf-8", errors="surrogatepass") as file:
        return write(said, operations, file)


def perfetto(said: words.Words, operations: Iterable[dump.Operation], file: IO[str]) -> int:
    """Writes trace events; how many operations."""
    log = said.log
    pid = int(log.meta.get("pid", "0"))
    program = log.meta.get("argv", "").replace("\0", " ")
    rows: list[dict[str, Any]] = [
        {"ph": "M", "name": "process_name", "pid": pid, "tid": 0, "args": {"name": program}}
    ]
    rows += [
        {"ph": "M", "name": "thread_name", "pid": pid, "tid": index + 1, "args": {"name": name}}
        for index, _, name in log.threads
    ]
    file.write('{"displayTimeUnit":"ns","traceEvents":[\n')
    file.write(",\n".join(json.dumps(row) for row in rows))
    count = 0
    for each, begin, end in _timed(operations):
        event: dict[str, Any] = {
            "ph": "X" if each.end_time is not None else "B",
            "name": said.expression(each),
            "cat": each.operation,
            "pid": pid,
            # Zero is a thread of the kernel to those who read this.
            "tid": each.thread + 1,
            "ts": begin / 1000,
            "args": {
                "number": each.number,
                "place": said.place(each.site),
                "status": each.status,
                "value": said.value(each.value) if each.status in ("result", "raised") else None,
            },
        }
        if each.end_time is not None:
            event["dur"] = (end - begin) / 1000
        if each.task:
            event["args"]["task"] = log.tasks.get(each.task, str(each.task))
        file.write(",\n" + json.dumps(event))
        count += 1
    file.write("\n]}\n")
    return count


def _timed(operations: Iterable[dump.Operation]) -> Iterator[tuple[dump.Operation, int, int]]:
    """Operations in the order in which they end, with times that differ.

    The clock is read less often than operations begin. What has no time of its own gets the next
    nanosecond of its thread: a viewer knows by times alone what is part of what.
    """
    stacks: dict[int, list[tuple[dump.Operation, int]]] = {}
    last: dict[int, int] = {}

    def end(thread: int, depth: int) -> Iterator[tuple[dump.Operation, int, int]]:
        stack = stacks[thread]
        while stack and stack[-1][0].depth >= depth:
            each, begin = stack.pop()
            last[thread] = max(each.end_time or 0, last[thread] + 1)
            yield each, begin, last[thread]

    for each in operations:
        stack = stacks.setdefault(each.thread, [])
        last.setdefault(each.thread, -1)
        yield from end(each.thread, each.depth)
        last[each.thread] = begin = max(each.time, last[each.thread] + 1)
        stack.append((each, begin))
    for thread in stacks:
        yield from end(thread, 0)


def jsonl(said: words.Words, operations: Iterable[dump.Operation], file: IO[str]) -> int:
    """Writes a line of JSON for each operation; how many."""
    log = said.log
    threads = {index: name for index, _, name in log.threads}
    file.write(json.dumps({"meta": log.meta, "notes": log.notes}) + "\n")
    count = 0
    for each in operations:
        site = said.site(each.site)
        row = {
            "number": each.number,
            "operation": each.operation,
            "name": each.name,
            "operands": [_plain(said, value) for value in each.operands],
            "status": each.status,
            "value": _plain(said, each.value),
            "time": each.time,
            "end_time": each.end_time,
            "parent": each.parent,
            "depth": each.depth,
            "thread": threads.get(each.thread, each.thread),
            "task": each.task or None,
            "file": site.file,
            "line": site.line,
            "function": site.function,
            "module": site.module,
        }
        file.write(json.dumps(row) + "\n")
        count += 1
    return count


def _plain(said: words.Words, value: Any) -> Any:
    """A value that JSON has; what it does not have says so."""
    if isinstance(value, dump.Ref):
        known = said.object(value.serial)
        if known is None:
            return {"object": value.serial}
        row: dict[str, Any] = {"object": known.serial, "type": known.type_name}
        if isinstance(known.value, str | int):
            row["value"] = known.value
        elif known.text is not None:
            row["text"] = known.text
        return row
    if isinstance(value, float) and not math.isfinite(value):
        return {"float": repr(value)}
    if value is None or isinstance(value, bool | int | float):
        return value
    return {"special": repr(value)}


_SCHEMA = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT);
CREATE TABLE threads (thread INTEGER PRIMARY KEY, ident TEXT, name TEXT);
CREATE TABLE sites (site INTEGER PRIMARY KEY, operation TEXT, name TEXT, file TEXT, line INTEGER,
    column_number INTEGER, function TEXT, module TEXT);
CREATE TABLE objects (serial INTEGER PRIMARY KEY, type TEXT, text TEXT, seen INTEGER);
CREATE TABLE operations (number INTEGER PRIMARY KEY, site INTEGER, thread INTEGER, task INTEGER,
    time INTEGER, end_time INTEGER, parent INTEGER, depth INTEGER, status TEXT,
    value TEXT, value_serial INTEGER);
CREATE TABLE operands (operation INTEGER, position INTEGER, value TEXT, serial INTEGER,
    PRIMARY KEY (operation, position)) WITHOUT ROWID;
CREATE VIEW readable AS SELECT number, depth, operation, name, status, value, file, line, function,
    (SELECT group_concat(value, ', ') FROM (SELECT value FROM operands
        WHERE operands.operation = number ORDER BY position)) AS operands
    FROM operations JOIN sites USING (site);
"""
_INDEXES = """
CREATE INDEX by_parent ON operations (parent);
CREATE INDEX by_site ON operations (site);
CREATE INDEX by_result ON operations (value_serial);
CREATE INDEX by_operand ON operands (serial);
"""


def sqlite(said: words.Words, operations: Iterable[dump.Operation], path: str) -> int:
    """Fills a new database; how many operations."""
    log = said.log
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as database:
        database.executescript("PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF;" + _SCHEMA)
        database.execute("BEGIN")
        database.executemany("INSERT INTO meta VALUES (?, ?)", log.meta.items())
        database.executemany(
            "INSERT INTO threads VALUES (?, ?, ?)",
            ((index, str(ident), name) for index, ident, name in log.threads),
        )
        for number in range(log.sites):
            site = said.site(number)
            database.execute(
                "INSERT INTO sites VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    number,
                    site.operation,
                    _storable(site.name),
                    _storable(site.file),
                    site.line,
                    site.column,
                    _storable(site.function),
                    _storable(site.module),
                ),
            )
        seen: set[int] = set()
        count = 0
        for each in operations:
            count += 1
            value, serial = _cell(said, each.value) if each.status else (None, None)
            database.execute(
                "INSERT INTO operations VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    each.number,
                    each.site,
                    each.thread,
                    each.task or None,
                    each.time,
                    each.end_time,
                    each.parent or None,
                    each.depth,
                    each.status,
                    value if each.status in ("result", "raised") else None,
                    serial,
                ),
            )
            database.executemany(
                "INSERT INTO operands VALUES (?, ?, ?, ?)",
                (
                    (each.number, position, *_cell(said, operand))
                    for position, operand in enumerate(each.operands)
                ),
            )
            database.executemany(
                "INSERT INTO objects VALUES (?, ?, ?, ?)", _new_objects(said, each, seen)
            )
        database.execute("COMMIT")
        database.executescript(_INDEXES)
    return count


def _cell(said: words.Words, value: Any) -> tuple[str, int | None]:
    return _storable(said.value(value)), value.serial if isinstance(value, dump.Ref) else None


def _new_objects(
    said: words.Words, each: dump.Operation, seen: set[int]
) -> Iterator[tuple[int, str, str | None, int]]:
    for value in (*each.operands, each.value):
        if isinstance(value, dump.Ref) and value.serial not in seen:
            seen.add(value.serial)
            known = said.object(value.serial)
            if known is not None:
                text = None if known.text is None else _storable(known.text)
                yield known.serial, _storable(known.type_name), text, known.seen


def _storable(text: str) -> str:
    """A text without the lone surrogates that SQLite cannot store."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")
