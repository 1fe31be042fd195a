"""A recording proxy, and a program run in a process of its own."""

from __future__ import annotations

import subprocess
import sys
import textwrap

import pytest
from objspace.tputil import delegate, make_proxy


class Recorded:
    """A delegating proxy of an object, and the names of the operations that reached it."""

    def __init__(self, obj):
        self.obj = obj
        self.names = []
        self.proxy = make_proxy(self._perform, obj=obj)

    def _perform(self, operation):
        self.names.append(operation.opname)
        return operation.delegate()

    def take(self):
        """The names since the last time."""
        names, self.names[:] = list(self.names), []
        return names


@pytest.fixture
def recorded():
    return Recorded


@pytest.fixture(params=["python", "native"])
def proxy_of(request):
    """Makes delegating proxies: by a Python controller, and by the one written in Rust."""
    controller = delegate if request.param == "native" else lambda operation: operation.delegate()
    return lambda obj: make_proxy(controller, obj=obj)


@pytest.fixture
def run():
    """Runs a program in another interpreter and gives its output; it has to end well."""

    def run(program, *flags, env=None):
        done = subprocess.run(
            [sys.executable, "-X", "faulthandler", *flags, "-c", textwrap.dedent(program)],
            capture_output=True,
            text=True,
            timeout=50,
            env=env,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run
