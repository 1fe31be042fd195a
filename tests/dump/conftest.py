"""Recording in this process or another, and reading what was recorded."""

from __future__ import annotations

import subprocess
import sys
import textwrap

import objspace.dump
import pytest


def shown(log, value):
    """A value of a log as a test writes it: scalars and strings as they are, others as text."""
    if isinstance(value, objspace.dump.Ref):
        found = log.object(value.serial)
        if found.value is not None:
            return found.value
        return f"<{found.type_name.rpartition('.')[2]}{' ' + found.text if found.text else ''}>"
    return value


def told(log, operations=None):
    """Each operation as (operation, name, operands, status, value)."""
    return [
        (
            each.operation,
            each.name,
            [shown(log, operand) for operand in each.operands],
            each.status,
            shown(log, each.value),
        )
        for each in (log.find() if operations is None else operations)
    ]


@pytest.fixture
def record(tmp_path):
    """Calls a function under the recorder and returns the log; only that function by default."""

    def run(function, *args, **filters):
        path = tmp_path / "log"
        filters.setdefault("functions", [function.__qualname__])
        with objspace.dump.record(path, **filters):
            function(*args)
        return objspace.dump.Log(path)

    return run


@pytest.fixture
def script(tmp_path):
    """Runs a program in another process; its output, and the path of the log that it may write."""

    def run(source, *, path="log", check=True, **options):
        file = tmp_path / "program.py"
        file.write_text(textwrap.dedent(source))
        result = subprocess.run(
            [sys.executable, "-X", "faulthandler", file],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=50,
            check=False,
            **options,
        )
        if check:
            assert result.returncode == 0, result.stderr
        return result, tmp_path / path

    return run
