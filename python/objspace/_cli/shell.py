"""`objspace shell`: a prompt at which a server's objects are at hand."""

from __future__ import annotations

import ast
import builtins
import code
import keyword
import linecache
import re
import sys
import traceback
from typing import TYPE_CHECKING, Any

from objspace._cli import FAILED, OK, explain, one_line, security, version

if TYPE_CHECKING:
    from argparse import Namespace
    from types import CodeType

SHOWN = 20
STDIN = "<stdin>"
DOTTED = re.compile(r"(?P<object>\w+(?:\.\w+)*)\.(?P<start>\w*)$")


def run(options: Namespace) -> int:
    """Connects, runs the prompt until its end, and returns the exit code."""
    url = options.url
    import objspace
    from objspace.distributed import session_of

    try:
        remote = objspace.connect(url, **security(options))
    except (OSError, ValueError) as error:
        raise explain(error, url, listening=False) from error
    try:
        shell = Shell({"__name__": "__console__", "remote": remote, "objspace": objspace})
        if sys.stdin.isatty():
            shell.prompt(banner(url, remote))
            return OK
        return shell.feed()
    finally:
        session_of(remote).close()


def banner(url: str, remote: object) -> str:
    names = [name for name in dir(remote) if not name.startswith("_")]
    listed = ", ".join(names[:SHOWN]) + (" …" if len(names) > SHOWN else "")
    python = "%d.%d.%d" % sys.version_info[:3]  # noqa: UP031
    return (
        f"objspace {version()} on Python {python}, connected to {url}\n"
        f"remote has: {listed or 'nothing'}\n"
        "Tab completes; Ctrl-D leaves."
    )


class Shell(code.InteractiveConsole):
    """Python's own prompt, which knows a lost connection from an error in the program."""

    def __init__(self, names: dict[str, Any]) -> None:
        super().__init__(names)
        self.failed = False

    def prompt(self, greeting: str) -> None:
        """Reads from the terminal."""
        try:
            import readline
        except ImportError:  # a Python built without it: no completion, no history
            pass
        else:
            readline.set_completer(Completer(self.locals).complete)
            readline.parse_and_bind("tab: complete")
            # `-` and the like end a name, the dot does not.
            readline.set_completer_delims(" \t\n`~!@#$%^&*()-=+[{]}\\|;:'\",<>/?")
        self.interact(greeting, exitmsg="")

    def feed(self) -> int:
        """Runs what standard input holds, up to the first error."""
        source = sys.stdin.read()
        # So that tracebacks show the lines.
        linecache.cache[STDIN] = (len(source), None, source.splitlines(keepends=True), STDIN)
        try:
            statements = ast.parse(source, STDIN).body
        except (SyntaxError, ValueError):
            self.showsyntaxerror(STDIN)
            return FAILED
        for statement in statements:
            self.runcode(compile(ast.Interactive([statement]), STDIN, "single"))
            if self.failed:
                return FAILED
        return OK

    def runcode(self, compiled: CodeType) -> None:
        from objspace import ConnectionLost

        try:
            exec(compiled, self.locals)
        except SystemExit:
            raise
        except ConnectionLost as error:
            self.failed = True
            self.write(f"connection lost: {one_line(error)}\n")
        except BaseException:
            self.showtraceback()

    def showtraceback(self) -> None:
        self.failed = True
        error = sys.exception()
        if error is None:
            return
        sys.last_type, sys.last_value = type(error), error
        # Without the frame of the prompt itself; with the lines of the other side.
        tb = error.__traceback__.tb_next if error.__traceback__ is not None else None
        sys.last_traceback = tb
        self.write("".join(traceback.format_exception(type(error), error, tb)))

    def showsyntaxerror(self, *args: Any, **kwargs: Any) -> None:
        self.failed = True
        super().showsyntaxerror(*args, **kwargs)


class Completer:
    """Names for the Tab key.

    Only what stands before the last dot is evaluated; its names are listed and not read.
    """

    def __init__(self, names: Any) -> None:
        self.names = names
        self.matches: list[str] = []

    def complete(self, text: str, state: int) -> str | None:
        if state == 0:
            self.matches = self.find(text)
        return self.matches[state] if state < len(self.matches) else None

    def find(self, text: str) -> list[str]:
        if not text.strip():
            return ["    "]
        if "." not in text:
            known = {*self.names, *vars(builtins), *keyword.kwlist}
            return sorted(name for name in known if name.startswith(text))
        found = DOTTED.search(text)
        if found is None:
            return []
        holder, start = found["object"], found["start"]
        try:
            value = eval(holder, self.names)
            names = dir(value)
        except Exception:  # whatever is wrong with it, there is nothing to offer
            return []
        prefix = text[: found.start()] + holder
        return sorted(
            f"{prefix}.{name}"
            for name in set(names)
            if name.startswith(start) and (start or not name.startswith("_"))
        )
