"""The commands that read a log: what they accept, and where each is.

One file per command: `show` (and `pypy`, its other format), `object`, `why`, `grep`, `top`,
`diff`, `export`, `browse`. What they share: `source` opens logs and turns options into queries,
`words` puts operations into words, `output` prints. Nothing but the grammar is imported before it
is needed. Recording is not here: `objspace._cli.dump`.
"""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import argparse

    from objspace._cli import Parser

STATUSES = ("result", "done", "raised", "exhausted", "lost")


def add(commands: Any) -> None:
    """Adds the grammar of all commands that read a log."""
    _add_show(commands)
    _add_object(commands)
    _add_why(commands)
    _add_grep(commands)
    _add_top(commands)
    _add_diff(commands)
    _add_export(commands)
    _add_browse(commands)


def _command(commands: Any, name: str, **settings: Any) -> Parser:
    parser: Parser = commands.add_parser(name, **settings)
    parser.set_defaults(module="dump", action=_answer, reader=name)
    return parser


def _answer(options: argparse.Namespace) -> int:
    """Runs one command, and turns what is wrong with its log into one line."""
    from objspace._cli import Complaint, one_line

    command = importlib.import_module(f"objspace._cli.dumping.{options.reader}")
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        code = command.run(options)
        # Whoever reads may be gone: that is to be seen here, not when the interpreter ends.
        sys.stdout.flush()
    except (BrokenPipeError, Complaint):
        raise
    except (OSError, ValueError, KeyError) as error:
        raise Complaint(one_line(error).strip("'\"")) from None
    return int(code or 0)


def _log(parser: Parser, metavar: str = "LOG") -> None:
    parser.add_argument(metavar.lower(), metavar=metavar, help="a log that was recorded")


def _filters(parser: Parser) -> None:
    """Adds the options that say which operations; all of them must hold."""
    parser.add_argument(
        "--op", action="append", default=[], metavar="NAME", help="this operation: getattr, call, …"
    )
    parser.add_argument("--name", metavar="NAME", help="this attribute, operator or variable")
    parser.add_argument("--file", metavar="PATH", help="in this file, or one whose path ends so")
    parser.add_argument("--line", metavar="N[-M]", help="on these lines")
    parser.add_argument("--function", metavar="NAME", help="in this function")
    parser.add_argument(
        "--module", dest="module_filter", metavar="NAME", help="in this module, or below"
    )
    parser.add_argument("--object", metavar="SERIAL", help="with this object in it")
    parser.add_argument("--type", metavar="NAME", help="on an object of this type")
    parser.add_argument("--thread", metavar="NAME", help="in this thread (its name or number)")
    parser.add_argument("--task", metavar="NAME", help="in this asyncio task (name or serial)")
    parser.add_argument("--status", choices=STATUSES, help="that ended so")
    parser.add_argument(
        "--from", dest="first", type=int, metavar="N", help="not before this operation"
    )
    parser.add_argument("--to", dest="last", type=int, metavar="N", help="not after this operation")


def _add_show(commands: Any) -> None:
    show = _command(
        commands,
        "show",
        help="show operations as a tree",
        description=(
            "Shows operations in order, each indented below the one that it is part of: its "
            "number, what was done, the result or exception, and the place in the source."
        ),
        examples=[
            ("objspace dump show objspace.dump --depth 2", "the outline"),
            ("objspace dump show objspace.dump --under 41", "what one call did"),
            ("objspace dump show objspace.dump --status raised", "what failed"),
        ],
    )
    _log(show)
    show.add_argument("--depth", type=int, metavar="N", help="no more than N levels")
    show.add_argument("--limit", type=int, metavar="N", help="no more than N operations")
    show.add_argument("--under", type=int, metavar="NUMBER", help="this operation and its parts")
    show.add_argument(
        "--pypy", action="store_true", help="PyPy's text format: CALL, RETURN and RAISE lines"
    )
    show.add_argument("--time", action="store_true", help="when each began, in seconds")
    _filters(show)


def _add_object(commands: Any) -> None:
    life = _command(
        commands,
        "object",
        help="the life of one object",
        description=(
            "Tells the life of an object: what it is, the operation in which it was first seen, "
            "every operation that it took part in, and when it was gone. The serial is what other "
            "commands show behind the #."
        ),
        examples=[("objspace dump object objspace.dump 34", "the life of #34")],
    )
    _log(life)
    life.add_argument("serial", metavar="SERIAL", help="34, or #34")
    life.add_argument(
        "--limit",
        type=int,
        default=1000,
        metavar="N",
        help="the first and last operations, N together (default 1000; 0 for all)",
    )
    life.add_argument("--changes", action="store_true", help="only what may have changed it")


def _add_why(commands: Any) -> None:
    why = _command(
        commands,
        "why",
        help="who wrote this: the last writers, with their stacks",
        description=(
            "For TYPE.ATTR: the operations that last set or deleted that attribute, each with the "
            "calls it was part of. For FILE:LINE: what the line did when it last ran, and for each "
            "attribute or item that it read, and each object that it used, the operation that "
            "last wrote it before."
        ),
        examples=[
            ("objspace dump why objspace.dump Order.state", "who set it last"),
            ("objspace dump why objspace.dump shop.py:25", "where what line 25 read came from"),
        ],
    )
    _log(why)
    why.add_argument("what", metavar="FILE:LINE|TYPE.ATTR", help="a place, or an attribute")
    why.add_argument(
        "--count", type=int, default=3, metavar="N", help="how many writers (default 3)"
    )
    why.add_argument("--object", metavar="SERIAL", help="of this object only")
    why.add_argument("--before", type=int, metavar="N", help="before this operation")


def _add_grep(commands: Any) -> None:
    grep = _command(
        commands,
        "grep",
        help="find operations",
        description=(
            "Prints the operations whose line, as 'show' prints it, matches a regular expression, "
            "and for which all filters hold. The exit code is 1 if there is none."
        ),
        examples=[
            ("objspace dump grep objspace.dump KeyError", "a word anywhere"),
            ("objspace dump grep objspace.dump --type Order --op setattr", "filters only"),
        ],
    )
    _log(grep)
    grep.add_argument("pattern", metavar="PATTERN", nargs="?", help="a regular expression")
    grep.add_argument("-i", "--ignore-case", action="store_true", help="in either case")
    grep.add_argument("-c", "--count", action="store_true", help="only how many there are")
    grep.add_argument("-s", "--stack", action="store_true", help="with the calls it is part of")
    grep.add_argument("--limit", type=int, metavar="N", help="no more than N operations")
    _filters(grep)


def _add_top(commands: Any) -> None:
    top = _command(
        commands,
        "top",
        help="what happened most: by type, attribute, line",
        description="Counts operations.",
        examples=[("objspace dump top objspace.dump --by line", "the busiest lines")],
    )
    _log(top)
    top.add_argument(
        "--by",
        choices=("type", "attribute", "line", "function", "operation"),
        action="append",
        help="what to count (default: type, attribute and line)",
    )
    top.add_argument("--count", type=int, default=10, metavar="N", help="rows of each (default 10)")


def _add_diff(commands: Any) -> None:
    diff = _command(
        commands,
        "diff",
        help="the first operation in which two runs differ",
        description=(
            "Compares two logs thread by thread and operation by operation: what was done, where, "
            "with which operands, which outcome. Serials and addresses may differ, but what is one "
            "object in one run must be one object in the other. Exit code 1 if they differ."
        ),
        examples=[("objspace dump diff good.dump bad.dump", "where the runs part")],
    )
    _log(diff, "LOG1")
    _log(diff, "LOG2")
    diff.add_argument(
        "--context", type=int, default=5, metavar="N", help="operations before and after (5)"
    )
    diff.add_argument(
        "--ignore-lines", action="store_true", help="the source may have moved to other lines"
    )
    diff.add_argument(
        "--ignore-values", action="store_true", help="compare what was done, not with which values"
    )


def _add_export(commands: Any) -> None:
    export = _command(
        commands,
        "export",
        help="write a log in a format of other tools",
        description="Writes all operations, or those that filters leave, into another format.",
        examples=[
            ("objspace dump export objspace.dump --perfetto trace.json", "for ui.perfetto.dev"),
            ("objspace dump export objspace.dump --sqlite log.db", "for SQL"),
        ],
    )
    _log(export)
    formats = export.add_mutually_exclusive_group(required=True)
    formats.add_argument(
        "--perfetto", metavar="OUT", help="trace events, for Perfetto and chrome://tracing"
    )
    formats.add_argument("--jsonl", metavar="OUT", help="one JSON object per line; - is the screen")
    formats.add_argument("--sqlite", metavar="OUT", help="a new SQLite database")
    _filters(export)


def _add_browse(commands: Any) -> None:
    browse = _command(
        commands,
        "browse",
        help="look around in a log, with the source beside it",
        description=(
            "Opens a log in the terminal: a tree of operations that unfolds, a search, and the "
            "source and operands of the operation under the cursor. Needs textual: "
            "pip install 'objspace[browse]'."
        ),
        examples=[("objspace dump browse objspace.dump", "then press ? for the keys")],
    )
    _log(browse)
