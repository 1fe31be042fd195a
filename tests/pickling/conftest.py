"""What the tests of pickling share: other processes to load in."""

import base64
import os
import subprocess
import sys
import textwrap

import pytest

ELSEWHERE = """
import base64, sys
sys.path[:0] = {path!r}
from objspace import pickling
value = pickling.loads(base64.b64decode(sys.stdin.read()))
{code}
"""


@pytest.fixture
def elsewhere():
    """`elsewhere(data, code)` loads `data` as `value` in a new process, runs `code` there and returns
    what it prints."""

    def run(data, code, path=(), timeout=30, **env):
        program = ELSEWHERE.format(path=list(path), code=textwrap.dedent(code))
        done = subprocess.run(
            [sys.executable, "-c", program],
            input=base64.b64encode(data).decode(),
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
            env={**os.environ, **env},
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


@pytest.fixture
def module(tmp_path, monkeypatch):
    """`module(source)` makes and imports a module that other processes can import from `module.path`."""
    import importlib

    made = []

    def make(source, name=None):
        name = name or f"made_{len(made)}_{os.getpid()}"
        (tmp_path / f"{name}.py").write_text(textwrap.dedent(source))
        importlib.invalidate_caches()
        made.append(name)
        return importlib.import_module(name)

    make.path = [str(tmp_path)]
    make.folder = tmp_path
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    yield make
    for name in made:
        sys.modules.pop(name, None)
