"""A type checker takes a proxy for what it stands for."""

import importlib.util
import subprocess
import sys

import pytest

PROGRAM = """
from typing import Any, assert_type

from objspace.tproxy import get_tproxy_controller, tproxy
from objspace.tputil import ProxyOperation, delegate, make_proxy


class Thing:
    x = 1


def controller(operation: ProxyOperation) -> Any:
    operation.args = (1, *operation.args)
    return operation.delegate()


assert_type(make_proxy(controller, obj=Thing()), Thing)
assert_type(make_proxy(controller, obj=[1]), list[int])
assert_type(make_proxy(delegate, obj={1}), set[int])
assert_type(make_proxy(controller, Thing), Thing)
assert_type(make_proxy(controller, type=Thing, obj=3), Thing)
assert_type(tproxy(Thing, print), Thing)
assert get_tproxy_controller(3) is None
make_proxy(controller)  # type: ignore[call-overload]
"""


@pytest.fixture
def program(tmp_path):
    path = tmp_path / "program.py"
    path.write_text(PROGRAM)
    return path


def check(*command, cwd):
    done = subprocess.run(command, capture_output=True, text=True, cwd=cwd, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_a_proxy_has_the_type_of_its_object_for_mypy(program):
    pytest.importorskip("mypy")
    check(
        *(sys.executable, "-m", "mypy", "--strict", "--warn-unused-ignores", str(program)),
        cwd=program.parent,
    )


def test_a_proxy_has_the_type_of_its_object_for_pyright(program):
    if importlib.util.find_spec("pyright") is None:
        pytest.skip("pyright is not installed (pip install pyright)")
    try:
        check(sys.executable, "-m", "pyright", "--version", cwd=program.parent)
    except AssertionError as error:
        pytest.skip(f"pyright cannot fetch its program: {str(error).splitlines()[-1]}")
    text = PROGRAM.replace("type: ignore[call-overload]", "pyright: ignore[reportCallIssue]")
    program.write_text("# pyright: strict, reportUnnecessaryTypeIgnoreComment=true\n" + text)
    out = check(
        *(sys.executable, "-m", "pyright", "--pythonpath", sys.executable, str(program)),
        cwd=program.parent,
    )
    assert out.startswith("0 errors")
