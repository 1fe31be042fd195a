"""`objspace dump run`: a program, started under the recorder."""

from __future__ import annotations

import _thread
import argparse
import atexit
import builtins
import contextlib
import importlib.machinery
import os
import runpy
import signal
import sys
import types
import zipfile
from typing import IO, TYPE_CHECKING, Any

from objspace._cli import Complaint

if TYPE_CHECKING:
    from objspace._cli import Parser

DEFAULT_PATH = "objspace.dump"


def add_run(commands: Any) -> None:
    """Adds the grammar of `dump run`."""
    run = commands.add_parser(
        "run",
        help="run a program and record every operation it performs",
        usage="objspace dump run [options] script.py|-m module [arguments]",
        description=(
            "Runs a script (- is standard input), a folder or archive with a __main__.py, or with "
            "-m a module, as 'python' does, and writes a log of every operation that it performs "
            "on its objects. The filters must all hold; each may be given several times. What is "
            "left out costs next to nothing."
        ),
        examples=[
            ("objspace dump run app.py --fast", "everything that app.py does"),
            ("objspace dump run --attr Order.state app.py", "who touches one attribute"),
            ("objspace dump run --module shop -m shop.main", "one package only"),
            ("objspace dump run --last 100000 app.py", "what led to an uncaught exception"),
        ],
    )
    add_options(run)
    run.add_argument(
        "-m", dest="as_module", action="store_true", help="run a module of that name, not a script"
    )
    run.add_argument("target", metavar="script.py|module", help="what to run")
    run.add_argument(
        "arguments", nargs=argparse.REMAINDER, metavar="arguments", help="its own arguments"
    )
    run.set_defaults(module="dump", action=run_program)


def add_options(parser: Parser) -> None:
    """Adds the options that say what to record."""
    parser.add_argument(
        "-o",
        "--output",
        default=DEFAULT_PATH,
        metavar="FILE",
        help=f"where to write the log (default {DEFAULT_PATH})",
    )
    several: dict[str, Any] = {"action": "append", "default": []}
    parser.add_argument(
        "--module",
        dest="module_filter",
        metavar="NAME",
        help="code of this module or below",
        **several,
    )
    parser.add_argument(
        "--exclude", metavar="NAME", help="not code of this module or below", **several
    )
    parser.add_argument("--file", metavar="PATTERN", help="code of these files", **several)
    parser.add_argument("--function", metavar="NAME", help="code of this function", **several)
    parser.add_argument("--op", metavar="NAME", help="this operation: getattr, call, …", **several)
    parser.add_argument("--type", metavar="NAME", help="with an operand of this type", **several)
    parser.add_argument(
        "--attr", metavar="[TYPE.]NAME", help="attribute read, set or deleted", **several
    )
    parser.add_argument("--frozen", action="store_true", help="also what the import machinery does")
    parser.add_argument(
        "--last",
        type=int,
        metavar="N",
        help="keep the last N operations, written when an uncaught exception ends the program",
    )
    parser.add_argument("--max-bytes", type=int, metavar="N", help="end the log before this size")
    parser.add_argument(
        "--keep-alive", action="store_true", help="keep every object alive that is seen"
    )
    parser.add_argument(
        "--follow-forks", action="store_true", help="a log of its own for each forked child"
    )
    parser.add_argument("-q", "--quiet", action="store_true", help="say nothing at the end")


def run_program(options: argparse.Namespace) -> int:
    """Runs a program under the recorder; its exit code is ours."""
    from objspace import dump

    filters = {
        "modules": options.module_filter,
        "exclude": options.exclude,
        "files": options.file,
        "functions": options.function,
        "operations": options.op,
        "types": options.type,
        "attr": options.attr,
        "frozen": options.frozen,
        "last": options.last,
        "max_bytes": options.max_bytes,
        "keep_alive": options.keep_alive,
        "forks": "follow" if options.follow_forks else "stop",
    }
    program = _prepare(options.target, options.as_module, options.arguments)
    try:
        dump.start(options.output, **filters)
    except ValueError as error:
        raise Complaint(str(error)) from None
    except OSError as error:
        raise Complaint(f"cannot write {options.output}: {error.strerror or error}") from None
    ending = _Ending(options)
    # What the program registers comes later, and is run earlier: it is recorded too.
    atexit.register(ending)
    registered = atexit._ncallbacks()
    code, uncaught = 0, None
    try:
        program()
    except SystemExit as leave:
        code = _exit_code(leave.code)
    except BaseException as error:
        code, uncaught = 1, error
    # Where nothing of the program is left to run, what Python does to end is not worth recording;
    # showing an exception neither, and of a ring it would leave nothing else.
    is_over = _thread._count() == 0 and atexit._ncallbacks() == registered
    if is_over or (uncaught is not None and options.last is not None):
        ending.stop(failed=uncaught is not None)
    if uncaught is not None:
        _show_uncaught(uncaught)
        ending.interrupted = isinstance(uncaught, KeyboardInterrupt)
    return code


class _Ending:
    """What is left to do when the program, its threads and its exit handlers have ended."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.process = os.getpid()
        self.stderr = sys.stderr
        self.summary: Any = None
        self.written = options.last is None
        #: Whether an interrupt that nobody caught has ended the program.
        self.interrupted = False

    def stop(self, *, failed: bool = False) -> None:
        """Ends the recording, unless the program has done so itself."""
        from objspace import dump

        if dump.recording():
            self.written = failed or self.options.last is None
            self.summary = dump.stop(write=self.written)

    def __call__(self) -> None:
        try:
            self.stop()
        finally:
            # A forked child has a log of its own, if any.
            if self.summary is not None and os.getpid() == self.process:
                with contextlib.suppress(OSError, ValueError):
                    if not self.options.quiet:
                        _report(self.options, self.summary, self.stderr, written=self.written)
        if self.interrupted:
            # As Python does, so that a shell sees what happened.
            for stream in (sys.stdout, sys.stderr):
                with contextlib.suppress(OSError, ValueError, AttributeError):
                    stream.flush()
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            os.kill(os.getpid(), signal.SIGINT)


def _prepare(target: str, as_module: bool, arguments: list[str]) -> Any:
    """What runs the program, with `sys.argv` and `sys.path` as `python` would set them."""
    main = types.ModuleType("__main__")
    main.__dict__.update(__builtins__=builtins, __annotations__={})
    runner: Any = runpy

    def module(name: str, is_found: bool) -> None:
        sys.modules["__main__"] = main
        runner._run_module_as_main(name, is_found)

    if as_module:
        sys.argv[:] = ["-m", *arguments]
        sys.path.insert(0, os.getcwd())
        return lambda: module(target, True)
    sys.argv[:] = [target, *arguments]
    if os.path.isdir(target) or zipfile.is_zipfile(target):
        sys.path.insert(0, os.path.abspath(target))
        return lambda: module("__main__", False)
    if target == "-":
        source = sys.stdin.buffer.read()
        path = "<stdin>"
        sys.path.insert(0, "")
    else:
        path = os.path.abspath(target)
        try:
            with open(target, "rb") as file:
                source = file.read()
        except OSError as error:
            raise Complaint(f"cannot read {target}: {error.strerror}") from None
        sys.path.insert(0, os.path.dirname(os.path.realpath(target)))
        loader = importlib.machinery.SourceFileLoader("__main__", path)
        main.__dict__.update(__file__=path, __cached__=None, __loader__=loader)

    def script() -> None:
        sys.modules["__main__"] = main
        exec(compile(source, path, "exec", dont_inherit=True), main.__dict__)

    return script


def _exit_code(code: Any) -> int:
    if code is None:
        return 0
    if isinstance(code, int):
        return code
    print(code, file=sys.stderr)
    return 1


def _show_uncaught(error: BaseException) -> None:
    """Prints a traceback without the frames of this file."""
    traceback = error.__traceback__
    here = __file__
    while traceback is not None and traceback.tb_frame.f_code.co_filename == here:
        traceback = traceback.tb_next
    sys.excepthook(type(error), error.with_traceback(traceback), traceback)


def _report(options: argparse.Namespace, summary: Any, stream: IO[str], *, written: bool) -> None:
    if not written:
        print(
            f"objspace: {summary.operations} operations, no uncaught exception, nothing written",
            file=stream,
        )
        return
    text = f"objspace: {summary.operations} operations, {summary.bytes} bytes in {options.output}"
    if summary.dropped:
        text += f"; {summary.dropped} left out, since the log reached its largest size"
    if summary.stalls:
        text += f"; waited {summary.stalled:.2f} s for the disk"
    if not summary.operations:
        missing = [name for name in options.module_filter if name not in sys.modules]
        if missing:
            text += f"; no module {' or '.join(missing)} was loaded"
        else:
            text += "; nothing that ran is chosen by the filters"
    print(text, file=stream)
