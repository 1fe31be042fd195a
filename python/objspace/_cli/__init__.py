"""The command line: what it accepts, and how it fails.

Nothing here imports the engine or rich before it is needed: `objspace --version` and a mistyped
option answer at once. Whatever the user can mend is a `Complaint`: one line on standard error that
says what to do, and exit code 2, never a traceback.
"""

from __future__ import annotations

import argparse
import errno
import importlib
import os
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
    security = add_security(serve)
    security.add_argument(
        "--status", action="store_true", help="show 'objspace top' to clients without a key as well"
    )
    security.add_argument(
        "--debug",
        action="store_true",
        help=(
            "keep the last error of a call for 'objspace debug'; whoever may debug can run any "
            "code in this process"
        ),
    )
    serve.add_argument(
        "--heartbeat",
        metavar="SECONDS",
        type=duration,
        default=20.0,
        help="within which time a dead client is noticed; 0 for never (default 20)",
    )
    serve.add_argument(
        "--max-clients",
        metavar="N",
        type=int,
        default=1000,
        help="how many clients there may be at a time (default 1000)",
    )
    serve.add_argument(
        "--grace",
        metavar="SECONDS",
        type=duration,
        default=10.0,
        help="how long calls may go on after SIGTERM (default 10)",
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
    add_security(shell)
    shell.set_defaults(module="shell")

    watch = commands.add_parser(
        "top",
        help="watch what a server does",
        description=(
            "Shows the sessions of the server at URL, the calls that run, rates, and what is held "
            "by clients, until q or Ctrl-C. The server tells those who show a key or a "
            "certificate, or come by a Unix socket; with serve --status everybody."
        ),
        examples=[
            ("objspace top unix:///tmp/app.sock", "a live view"),
            (f"objspace top {DEFAULT_URL} --once", "one look, as text"),
        ],
    )
    watch.add_argument("url", metavar="URL", help="where the server listens")
    watch.add_argument(
        "--interval",
        metavar="SECONDS",
        type=duration,
        default=1.0,
        help="how often to look (default 1)",
    )
    watch.add_argument("--once", action="store_true", help="look once and leave")
    add_security(watch)
    watch.set_defaults(module="top")

    debug = commands.add_parser(
        "debug",
        help="debug the last error of a server",
        description=(
            "Opens pdb, here, in the frames over there of the last error that left a call of a "
            "client. The server must have been started with --debug, and asks for a key or a "
            "certificate, or is at a Unix socket."
        ),
        examples=[("objspace debug unix:///tmp/app.sock", "post-mortem of the last error")],
    )
    debug.add_argument("url", metavar="URL", help="where the server listens")
    add_security(debug)
    debug.set_defaults(module="debug")

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

    pickles = commands.add_parser(
        "pickle",
        help="look into pickles of running code",
        description="Looks into what objspace.pickling has written.",
        examples=[("objspace pickle inspect job.pickle", "its frames, lines, variables and sizes")],
    )
    actions = pickles.add_subparsers(
        title="commands",
        dest="pickle_command",
        metavar="COMMAND",
        parser_class=Parser,
        required=True,
    )
    inspect = actions.add_parser(
        "inspect",
        help="show the frames in a pickle, without loading it",
        description=(
            "Shows what is in FILE: frames, the lines where they stand, their variables, sizes in "
            "bytes. Nothing is loaded and no code runs; files of code that the pickle refers to "
            "are read to tell lines and names."
        ),
        examples=[("objspace pickle inspect job.pickle", "a file that pickling.dump has written")],
    )
    inspect.add_argument("file", metavar="FILE", help="a file of one or more pickles")
    inspect.set_defaults(module="inspect_pickle")
    return top


def add_security(parser: Parser) -> Any:
    """The options by which two ends prove who they are."""
    parser.add_argument(
        "--key-file",
        metavar="FILE",
        help=(
            "holds the shared key; otherwise that of the environment variables OBJSPACE_KEY or "
            "OBJSPACE_KEY_FILE"
        ),
    )
    parser.add_argument("--cert", metavar="FILE", help="this side's certificate for tls:// (PEM)")
    parser.add_argument("--cert-key", metavar="FILE", help="the private key of --cert (PEM)")
    parser.add_argument(
        "--ca", metavar="FILE", help="authorities whose certificates the other side may show (PEM)"
    )
    return parser


def duration(text: str) -> float:
    """A number of seconds."""
    value = float(text)
    if not 0 <= value < 1e9:
        raise ValueError(text)
    return value


def security(options: argparse.Namespace) -> dict[str, Any]:
    """What the options of `add_security` say, as arguments of `connect` and `Server`."""
    found: dict[str, Any] = {}
    if options.key_file is not None:
        try:
            with open(options.key_file, "rb") as file:
                found["key"] = file.read().strip()
        except OSError as error:
            raise Complaint(
                f"cannot read the key file {options.key_file}: {error.strerror}"
            ) from error
        if not found["key"]:
            raise Complaint(
                f"the key file {options.key_file} is empty; make one with "
                "'openssl rand -hex 32', for example"
            )
    files = {"cert": options.cert, "key": options.cert_key, "ca": options.ca}
    if any(files.values()):
        from objspace import TLS

        found["tls"] = TLS(**files)
    return found


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
        command = importlib.import_module(f"objspace._cli.{options.module}")
        code: int = command.run(options)
        return code
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


# What the engine calls by the names of Python arguments, as options.
WORDS = {
    "tls=objspace.TLS(cert=, key=, ca=)": "--cert, --cert-key and --ca",
    "cert= and key=": "--cert and --cert-key",
    "(tls=), or a shared key (key=)": "(--cert and --cert-key), or a shared key (--key-file)",
    "a key (key=) or certificates (tls=)": "a key (--key-file) or certificates (--cert, --ca)",
    "debug=True": "--debug",
    "max_clients": "--max-clients",
    "server_name=": "server_name= in a program",
    "tls= was": "a certificate was",
    "cert=": "--cert",
    "ca=": "--ca",
    "key=": "--key-file",
}


def in_options(text: str) -> str:
    """A message of the engine in words of the command line."""
    for argument, option in WORDS.items():
        text = text.replace(argument, option)
    return text


def explain(error: Exception, url: str, *, listening: bool) -> Complaint:
    """What the user should know about an address that could not be used."""
    text = one_line(error)
    number = 0
    if isinstance(error, OSError) and error.errno and error.strerror:
        text, number = error.strerror, error.errno
    text = in_options(text)
    if isinstance(error, ValueError) or getattr(error, "permanent", False):
        return Complaint(text)
    if number in (errno.EACCES, errno.EPERM):
        return Complaint(f"no permission to use {url}; choose a port above 1023, or another path")
    if not listening:
        if number in (errno.ECONNREFUSED, errno.ENOENT):
            text = f"nothing listens at {url}"
        elif url not in text:
            text = f"cannot connect to {url}: {text}"
        if number == 0 and not text.startswith("cannot connect"):
            return Complaint(text)
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
