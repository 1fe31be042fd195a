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
