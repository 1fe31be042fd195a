"""A type checker takes a proxy for what it stands for."""

import subprocess
import sys
import textwrap

import pytest

pytest.importorskip("mypy")


def test_a_proxy_has_the_type_of_its_object(tmp_path):
    program = tmp_path / "program.py"
    program.write_text(
        textwrap.dedent(
            """
            from typing import Any, assert_type

            from objspace.tproxy import get_tproxy_controller, tproxy
            from objspace.tputil import ProxyOperation, make_proxy


            class Thing:
                x = 1


            def controller(operation: ProxyOperation) -> Any:
                operation.args = (1, *operation.args)
                return operation.delegate()


            assert_type(make_proxy(controller, obj=Thing()), Thing)
            assert_type(make_proxy(controller, obj=[1]), list[int])
            assert_type(make_proxy(controller, Thing), Thing)
            assert_type(make_proxy(controller, type=Thing, obj=3), Thing)
            assert_type(tproxy(Thing, print), Thing)
            assert get_tproxy_controller(3) is None
            make_proxy(controller)  # type: ignore[call-overload]
            """
        )
    )
    command = [sys.executable, "-m", "mypy", "--strict", "--warn-unused-ignores", str(program)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
