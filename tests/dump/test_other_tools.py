"""Debuggers and coverage work as without the recorder, and the recorder as without them."""

from __future__ import annotations

import json
import subprocess
import sys

import objspace.dump
import pytest

pytest.importorskip("coverage")

PROGRAM = """\
def add(numbers):
    total = 0
    for number in numbers:
        if number % 2:
            total += number
        else:
            total -= number
    return total


def never():
    return 1


add(range(5))
"""
RECORD = ["-m", "objspace", "dump", "run", "-q", "-o", "log"]


@pytest.fixture
def python(tmp_path):
    """Runs Python beside `program.py`."""
    (tmp_path / "program.py").write_text(PROGRAM)

    def run(*arguments, typed="", code=0):
        done = subprocess.run(
            [sys.executable, "-X", "faulthandler", *arguments],
            cwd=tmp_path,
            input=typed,
            capture_output=True,
            text=True,
            timeout=50,
            check=False,
        )
        assert done.returncode == code, done.stderr[-2000:]
        return done.stdout

    return run


def covered(python, folder, *arguments):
    """What coverage says of the program, after these arguments."""
    python(*arguments)
    python("-m", "coverage", "json", "-q", "--data-file=data", "-o", "data.json")
    report = json.loads((folder / "data.json").read_text())["files"]["program.py"]
    return report["executed_lines"], report["missing_branches"], report["summary"]


def sums(log):
    """The additions and subtractions of the program."""
    found = log.find(operations=["inplace"], file="program.py")
    return [(each.name, each.operands, each.value) for each in found]


SUMS = [
    ("-=", (0, 0), 0),
    ("+=", (0, 1), 1),
    ("-=", (1, 2), -1),
    ("+=", (-1, 3), 2),
    ("-=", (2, 4), -2),
]
COVERAGE = ["-m", "coverage", "run", "--branch", "--data-file=data"]


@pytest.mark.parametrize("core", ["ctrace", "pytrace", "sysmon"])
@pytest.mark.parametrize("outer", ["recorder", "coverage"])
def test_coverage(python, tmp_path, monkeypatch, core, outer):
    """On 3.11 its tracer, written in C, takes the recorder's place at each start."""
    if core == "sysmon" and sys.version_info < (3, 12):
        pytest.skip("sys.monitoring is new in 3.12")
    monkeypatch.setenv("COVERAGE_CORE", core)
    plain = covered(python, tmp_path, *COVERAGE, "program.py")
    order = [*RECORD, *COVERAGE] if outer == "recorder" else [*COVERAGE, *RECORD]
    assert covered(python, tmp_path, *order, "program.py") == plain
    log = objspace.dump.Log(tmp_path / "log")
    assert sums(log) == SUMS
    assert not [text for _, text in log.notes if "not recorded" in text]


COMMANDS = "b 5\nc\np total\nn\np total\nw\nunt\nr\np __return__\ncl 1\nc\nq\n"


def test_a_debugger_around_the_program(python, tmp_path):
    debugger = ["-m", "pdb", "program.py"]
    plain = python(*debugger, typed=COMMANDS)
    assert "-> total += number" in plain
    assert python(*RECORD, *debugger, typed=COMMANDS) == plain
    assert sums(objspace.dump.Log(tmp_path / "log")) == SUMS


def test_a_debugger_that_the_program_calls(python, tmp_path):
    lines = PROGRAM.splitlines(keepends=True)
    (tmp_path / "program.py").write_text(
        "".join([*lines[:4], "            if number == 3: breakpoint()\n", *lines[4:]])
    )
    typed = "p number\nn\nn\np total\nr\nc\n"
    plain = python("program.py", typed=typed)
    recorded = python(*RECORD, "program.py", typed=typed)

    def told(output):
        # Where 3.13 stops first depends on whether any tool listens to `sys.monitoring`.
        return [line for line in output.splitlines() if line[:1] not in ">-"]

    assert told(recorded) == told(plain)
    assert "(Pdb) 3" in recorded
    assert sums(objspace.dump.Log(tmp_path / "log")) == SUMS


def test_a_debugger_that_ends_the_recording(python, tmp_path):
    """The interpreter still uses the trace function, which is gone, until the event has ended."""
    (tmp_path / "program.py").write_text(
        "import objspace.dump\n"
        "def work():\n    total = 1\n    breakpoint()\n    total += 1\n    return total\n"
        "objspace.dump.start('log')\nwork()\nprint('end')\n"
    )
    typed = "import gc, objspace.dump\nobjspace.dump.stop()\ngc.collect()\nn\nn\np total\nc\n"
    output = python("program.py", typed=typed)
    assert output.endswith("end\n")
    assert "(Pdb) 2" in output
    assert objspace.dump.Log(tmp_path / "log").find(file="program.py")


def test_a_tool_that_sets_its_trace_function_from_a_thread(python, tmp_path):
    (tmp_path / "program.py").write_text(
        "import threading\n"
        "def work(number):\n    total = 0\n    for n in range(3):\n        total += n\n"
        "threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]\n"
        "for each in threads:\n    each.start()\n"
        "for each in threads:\n    each.join()\n"
    )
    plain = covered(python, tmp_path, *COVERAGE, "program.py")
    assert covered(python, tmp_path, *COVERAGE, *RECORD, "program.py") == plain
    assert len(sums(objspace.dump.Log(tmp_path / "log"))) == 12
