"""`objspace dump run`: a program is what it is without the recorder, and its log holds it."""

from __future__ import annotations

import importlib.util
import pathlib
import re
import subprocess
import sys
import textwrap

import objspace.dump
import pytest

SOAK = pathlib.Path(__file__).parents[2] / "tools" / "soak-dump"

ORDERS = """
    import sys

    class Order:
        pass

    class Item:
        pass

    def sell(value):
        order, item = Order(), Item()
        order.state = value
        item.state = value

    sell(sys.argv[1])
    print(__name__, sys.argv[1:])
"""


@pytest.fixture
def run(tmp_path):
    """Writes a program and runs it with these arguments; the result and the path of the log."""

    def run(source, *arguments):
        (tmp_path / "program.py").write_text(textwrap.dedent(source))
        result = subprocess.run(
            [sys.executable, "-m", "objspace", "dump", "run", "-o", "log", *arguments],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=50,
            check=False,
        )
        return result, tmp_path / "log"

    return run


def written(path):
    """(name, type of the object) of each attribute that is set."""
    log = objspace.dump.Log(path)
    return [
        (each.name, log.object(each.operands[0].serial).type_name.rpartition(".")[2])
        for each in log.find(operations=["setattr"])
    ]


@pytest.mark.parametrize("target", [["program.py"], ["-m", "program"]], ids=["script", "module"])
def test_a_program_gets_its_arguments_and_is_recorded(run, target):
    result, path = run(ORDERS, "--function", "sell", *target, "new", "--last", "-m")
    assert result.returncode == 0, result.stderr
    assert result.stdout == "__main__ ['new', '--last', '-m']\n"
    assert "operations" in result.stderr
    assert written(path) == [("state", "Order"), ("state", "Item")]


@pytest.mark.parametrize(
    ("statement", "code", "said"),
    [
        ("sys.exit()", 0, ""),
        ("sys.exit(7)", 7, ""),
        ("sys.exit('no stock')", 1, "no stock\n"),
    ],
)
def test_the_exit_code_is_that_of_the_program(run, statement, code, said):
    result, path = run(f"import sys\n{statement}\n", "-q", "program.py")
    assert (result.returncode, result.stderr) == (code, said)
    assert objspace.dump.Log(path).find()


ENDS = """
    import atexit, os, signal, sys, threading, time

    class Own(SystemExit):
        pass

    def later():
        main.join()
        print("a thread that outlives the program")

    main = threading.main_thread()
    print(sys.argv, __name__, __file__, __package__, __spec__, __cached__, __annotations__)
    print(type(__builtins__), type(__loader__), sys.path[0], __import__("__main__").ENDS)
    ENDS = {ends!r}
"""

ENDS_IN = {
    "exception": "raise RuntimeError('sold out')",
    "chain": "try:\n    1/0\nexcept ZeroDivisionError:\n    [][0]",
    "group": "raise ExceptionGroup('both', [ValueError(1), KeyError(2)])",
    "interrupt": "raise KeyboardInterrupt",
    "signal": "os.kill(os.getpid(), signal.SIGTERM)",
    "at once": "os._exit(9)",
    "own": "raise Own(4)",
    "large": "sys.exit(300)",
    "negative": "sys.exit(-1)",
    "float": "sys.exit(2.5)",
    "huge": "sys.exit(2**70)",
    "hook": "sys.excepthook = lambda *a: print('hooked', a[0])\nraise ValueError",
    "handler": "atexit.register(print, 'bye')",
    "thread": "threading.Thread(target=later).start()",
    "thread, failing": "threading.Thread(target=later).start()\nraise ValueError(3)",
    "syntax": "exec('1 +')",
}


@pytest.mark.parametrize("ends", ENDS_IN)
def test_a_program_ends_as_under_python(run, tmp_path, ends):
    source = "ENDS = 1\n" + textwrap.dedent(ENDS).replace("{ends!r}", repr(ends)) + ENDS_IN[ends]
    recorded, _ = run(source, "-q", "program.py", "one", "-x")
    plain = subprocess.run(
        [sys.executable, "program.py", "one", "-x"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert recorded.returncode == plain.returncode
    assert (recorded.stdout, recorded.stderr) == (plain.stdout, plain.stderr)


def test_threads_and_exit_handlers_are_recorded_to_their_end(run):
    result, path = run(
        """
        import atexit, threading

        def thread():
            threading.main_thread().join()
            [1, 2][0]

        def handler():
            [3, 4][1]

        atexit.register(handler)
        threading.Thread(target=thread).start()
        """,
        "program.py",
    )
    assert result.returncode == 0, result.stderr
    log = objspace.dump.Log(path)
    found = log.find(operations=["getitem"], file="program.py")
    assert [each.value for each in found] == [1, 4]


@pytest.mark.parametrize("arguments", [["folder"], ["-m", "folder"], ["-"]])
def test_what_else_python_runs(run, tmp_path, arguments):
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "__init__.py").touch()
    source = "import sys\nprint(sys.argv, sys.path[0], __name__, __package__, __spec__ is None)\n"
    (tmp_path / "folder" / "__main__.py").write_text(source)
    command = ["-m", "objspace", "dump", "run", "-q", "-o", "log"]
    plain, recorded = (
        subprocess.run(
            [sys.executable, *before, *arguments, "one"],
            cwd=tmp_path,
            input=source,
            capture_output=True,
            text=True,
            timeout=50,
            check=False,
        )
        for before in ([], command)
    )
    assert (recorded.returncode, recorded.stdout, recorded.stderr) == (0, plain.stdout, "")
    calls = objspace.dump.Log(tmp_path / "log").find(operations=["call"])
    assert len(calls) >= 1


def test_a_module_that_is_not_there_is_said_as_by_python(run):
    result, _ = run("", "-q", "-m", "missing.module")
    assert result.returncode == 1
    assert result.stderr.endswith("(ModuleNotFoundError: No module named 'missing')\n")


@pytest.mark.parametrize(
    ("filters", "said"),
    [
        (["--module", "never.loaded"], "; no module never.loaded was loaded\n"),
        (["--type", "Never"], "; nothing that ran is chosen by the filters\n"),
    ],
)
def test_filters_that_choose_nothing_are_said(run, filters, said):
    result, path = run("print([1][0])\n", *filters, "program.py")
    assert result.stdout == "1\n"
    assert result.stderr.endswith(said)
    assert objspace.dump.Log(path).operations == 0


FAILING = """
    def fail(rows):
        for number in range(60_000):
            rows.append(number)
        rows["last"]

    fail([])
"""


def test_an_uncaught_exception_writes_the_last_operations(run):
    result, path = run(FAILING, "--last", "20", "program.py")
    assert result.returncode == 1
    assert "TypeError: list indices" in result.stderr
    assert "_cli" not in result.stderr
    rows = objspace.dump.Log(path).find()
    assert any(each.operation == "getitem" and each.status == "raised" for each in rows)
    performed = int(re.search(r"objspace: (\d+) operations", result.stderr)[1])
    assert performed > 60_000
    # Whole buffers are kept: more than asked for, but not everything.
    assert 20 <= len(rows) < performed / 2


def test_a_ring_is_not_written_when_nothing_goes_wrong(run):
    result, path = run("[].append(1)\n", "--last", "20", "program.py")
    assert result.returncode == 0
    assert "nothing written" in result.stderr
    assert not path.exists() or not objspace.dump.Log(path).find()


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        (["--type", "Order"], [("state", "Order")]),
        (["--attr", "Item.state"], [("state", "Item")]),
        (["--op", "setattr"], [("state", "Order"), ("state", "Item")]),
        (["--op", "call"], []),
        (["--module", "elsewhere"], []),
    ],
    ids=["type", "attr", "op", "other-op", "other-module"],
)
def test_filters_choose_what_is_recorded(run, filters, expected):
    result, path = run(ORDERS, "--function", "sell", *filters, "program.py", "new")
    assert result.returncode == 0, result.stderr
    assert written(path) == expected


def test_a_script_that_is_not_there_is_said(run):
    result, _ = run("", "missing.py")
    assert result.returncode != 0
    assert "cannot read missing.py" in result.stderr


@pytest.mark.skipif(importlib.util.find_spec("test.test_with") is None, reason="no test package")
def test_test_modules_of_cpython_end_as_without_the_recorder():
    modules = ["generators", "fractions", "coroutines", "with", "patma", "extcall"]
    result = subprocess.run(
        [sys.executable, SOAK, "--modules", ",".join(modules)],
        capture_output=True,
        text=True,
        timeout=55,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    *lines, last = result.stdout.splitlines()
    for line, name in zip(lines, modules, strict=True):
        assert line.startswith(f"same  test_{name}: exit 0, ")
    assert last.startswith("6 of 6 modules the same on Python 3.")
