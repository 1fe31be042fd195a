"""`objspace dump run`: a program, started under the recorder."""

from __future__ import annotations

import argparse
import os
import runpy
import sys
import types
from typing import TYPE_CHECKING, Any

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
            "Runs a script, or with -m a module, as 'python' does, and writes a log of every "
            "operation that it performs on its objects. The filters must all hold; each may be "
            "given several times. What is left out costs next to nothing."
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
    uncaught: BaseException | None = None
    code = 0
    try:
        program()
    except SystemExit as leave:
        code = _exit_code(leave.code)
    except BaseException as error:
        uncaught = error
        code = 130 if isinstance(error, KeyboardInterrupt) else 1
    # The program may have ended the recording itself. Nothing is shown before it has ended: what
    # that does would be recorded too.
    summary = None
    written = uncaught is not None or options.last is None
    if dump.recording():
        summary = dump.stop(write=written)
    if uncaught is not None:
        _show_uncaught(uncaught)
    if summary is not None and not options.quiet:
        _report(options, summary, written=written)
    return code


def _prepare(target: str, as_module: bool, arguments: list[str]) -> Any:
    """What runs the program, with `sys.argv` and `sys.path` as `python` would set them."""
    if as_module:
        sys.argv[:] = [target, *arguments]
        sys.path.insert(0, os.getcwd())
        return lambda: runpy.run_module(target, run_name="__main__", alter_sys=True)
    try:
        with open(target, "rb") as file:
            source = file.read()
    except OSError as error:
        raise Complaint(f"cannot read {target}: {error.strerror}") from None
    sys.argv[:] = [target, *arguments]
    sys.path.insert(0, os.path.dirname(os.path.abspath(target)))

    def script() -> None:
        code = compile(source, target, "exec", dont_inherit=True)
        main = types.ModuleType("__main__")
        main.__dict__.update(__file__=target, __builtins__=__builtins__)
        sys.modules["__main__"] = main
        exec(code, main.__dict__)

    return script


def _exit_code(code: Any) -> int:
    if code is None:
        return 0
    if isinstance(code, int):
        return code & 0xFF
    print(code, file=sys.stderr)
    return 1


def _show_uncaught(error: BaseException) -> None:
    """Prints a traceback without the frames of this file."""
    traceback = error.__traceback__
    here = __file__
    while traceback is not None and traceback.tb_frame.f_code.co_filename in (
        here,
        "<frozen runpy>",
    ):
        traceback = traceback.tb_next
    sys.excepthook(type(error), error.with_traceback(traceback), traceback)


def _report(options: argparse.Namespace, summary: Any, *, written: bool) -> None:
    if not written:
        print(
            f"objspace: {summary.operations} operations, no uncaught exception, nothing written",
            file=sys.stderr,
        )
        return
    text = f"objspace: {summary.operations} operations, {summary.bytes} bytes in {options.output}"
    if summary.dropped:
        text += f"; {summary.dropped} left out, since the log reached its largest size"
    if summary.stalls:
        text += f"; waited {summary.stalled:.2f} s for the disk"
    print(text, file=sys.stderr)
