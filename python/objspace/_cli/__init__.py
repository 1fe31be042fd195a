"""The command line: what it accepts, and how it fails.

Nothing here imports the engine or rich before it is needed: `objspace --version` and a mistyped
option answer at once. Whatever the user can mend is a `Complaint`: one line on standard error that
says what to do, and exit code 2, never a traceback.
"""

from __future__ import annotations

import argparse
import errno
import os
import re
import sys
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import IO

DEFAULT_URL = "tcp://127.0.0.1:7000"

OK = 0
FAILED = 1
MISUSED = 2
INTERRUPTED = 130


class Complaint(Exception):
    """Something the user can mend; its text is the whole message."""


class Parser(argparse.ArgumentParser):
    """An argument parser that complains in one line and shows its help with rich."""

    def __init__(self, *, examples: Sequence[tuple[str, str]] = (), **settings: Any) -> None:
        super().__init__(add_help=False, allow_abbrev=False, **settings)
        self.examples = examples
        self.add_argument("-h", "--help", action="help", help="show this help and leave")

    def error(self, message: str) -> NoReturn:
        raise Complaint(f"{message}; '{self.prog} --help' shows what is possible")

    def print_help(self, file: IO[str] | None = None) -> None:  # type: ignore[override]
        from objspace._cli.help import show

        show(self, file or sys.stdout)


def parser() -> Parser:
    """The grammar of the command line."""
    top = Parser(
        prog="objspace",
        description="Live Python objects, used from another process as if they were local.",
        examples=[
            ("objspace serve app", f"serve what app.py defines, at {DEFAULT_URL}"),
            (f"objspace shell {DEFAULT_URL}", "look at it from another terminal"),
        ],
    )
    top.add_argument("-V", "--version", action="store_true", help="show the version and leave")
    commands = top.add_subparsers(
        title="commands", dest="command", metavar="COMMAND", parser_class=Parser
    )

    serve = commands.add_parser(
        "serve",
        help="let other processes use the objects of a module",
        description=(
            "Imports MODULE, with the current directory on sys.path as for 'python -m', and lets "
            "other processes use its objects until Ctrl-C or SIGTERM. With :NAME one object of the "
            "module is served, under that name; without, the names in its __all__ or, if it has "
            "none, the public names that the module itself defines, not those it imported."
        ),
        examples=[
            ("objspace serve app", "everything public that app.py defines"),
            ("objspace serve app:inventory", "one object of it"),
            ("objspace serve app --bind unix:///tmp/app.sock", "at a Unix socket"),
            ("objspace serve app --policy full", "for a peer that may do anything"),
        ],
    )
    serve.add_argument("target", metavar="MODULE[:NAME]", help="what to serve, as in app:inventory")
    serve.add_argument(
        "-b",
        "--bind",
        metavar="URL",
        default=DEFAULT_URL,
        help=(
            "where to listen: tcp://host:port or unix:///path; port 0 takes a free one "
            f"(default {DEFAULT_URL})"
        ),
    )
    serve.add_argument(
        "-p",
        "--policy",
        choices=("public", "full"),
        default="public",
        help=(
            "what a client may do: 'public', call and read what has a public name, write nothing "
            "(default); 'full', anything, which includes running any code in this process"
        ),
    )
    serve.add_argument("-q", "--quiet", action="store_true", help="say nothing but errors")
    serve.set_defaults(module="serve")

    shell = commands.add_parser(
        "shell",
        help="explore a server from an interactive prompt",
        description=(
            "Connects to URL and opens a Python prompt in which 'remote' is bound to what is "
            "served there. Tab completes names, also those of remote objects. If standard input "
            "is not a terminal, what it holds is run as if it were typed, up to the first error."
        ),
        examples=[
            (f"objspace shell {DEFAULT_URL}", "an interactive prompt"),
            (f"echo 'dir(remote)' | objspace shell {DEFAULT_URL}", "one question"),
        ],
    )
    shell.add_argument("url", metavar="URL", help="where the server listens")
    shell.set_defaults(module="shell")

    dump = commands.add_parser(
        "dump",
        help="record every operation of a program, and ask what happened",
        description=(
            "Records what a program does to its objects, operation by operation, into a log, and "
            "answers questions about it."
        ),
        examples=[
            ("objspace dump run app.py", "run a program under the recorder"),
        ],
    )
    actions = dump.add_subparsers(
        title="commands", dest="dump_command", metavar="COMMAND", parser_class=Parser
    )
    dump.set_defaults(module="dump", action=None, grammar=dump)
    from objspace._cli import dump as dump_commands
    from objspace._cli import dumping

    dump_commands.add_run(actions)
    dumping.add(actions)
    return top


def run(argv: Sequence[str]) -> int:
    """Runs one command and returns the exit code."""
    try:
        grammar = parser()
        options = grammar.parse_args(argv)
        if options.version:
            print(f"objspace {version()}")
            return OK
        if options.command is None:
            grammar.print_help(sys.stderr)
            return MISUSED
        if options.module == "dump":
            if options.action is None:
                options.grammar.print_help(sys.stderr)
                return MISUSED
            return int(options.action(options))
        if options.module == "serve":
            from objspace._cli import serve

            return serve.run(options.target, options.bind, options.policy, options.quiet)
        from objspace._cli import shell

        return shell.run(options.url)
    except Complaint as complaint:
        print(f"objspace: {one_line(complaint)}", file=sys.stderr)
        return MISUSED
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        # Whoever read our output has gone; nothing is left to say, at shutdown neither.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED


def version() -> str:
    """The version of the installed package."""
    from objspace import __version__

    return __version__


def one_line(error: BaseException) -> str:
    """The message of an error, without line breaks; its class where it has no message."""
    return " ".join(str(error).split()) or type(error).__name__


def explain(error: Exception, url: str, *, listening: bool) -> Complaint:
    """What the user should know about an address that could not be used."""
    text = one_line(error)
    if isinstance(error, ValueError):
        return Complaint(text)
    # The engine words the system's errors itself and keeps their number in the text.
    told = re.search(r"\(os error (\d+)\)", text)
    number = (
        error.errno if isinstance(error, OSError) and error.errno else int(told[1]) if told else 0
    )
    if number in (errno.EACCES, errno.EPERM):
        return Complaint(f"no permission to use {url}; choose a port above 1023, or another path")
    if not listening:
        if number in (errno.ECONNREFUSED, errno.ENOENT):
            text = f"nothing listens at {url}"
        elif url not in text:
            text = f"cannot connect to {url}: {text}"
        return Complaint(
            f"{text}; start a server with 'objspace serve MODULE --bind {url}', or check the "
            "address"
        )
    if number == errno.EADDRINUSE:
        return Complaint(
            f"{url} is in use by another program; end that one, or choose another address with "
            "--bind (port 0 takes a free one)"
        )
    return Complaint(text if url in text else f"cannot listen at {url}: {text}")
