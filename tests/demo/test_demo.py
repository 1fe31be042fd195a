"""The demo runs, and says clearly when something is not as it must be."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

DEMO = Path(__file__).resolve().parents[2] / "examples" / "stdlib_index"


@pytest.mark.slow
def test_demo():
    done = subprocess.run(
        [sys.executable, DEMO / "demo.py"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=55,
        check=False,
        env={**os.environ, "NO_COLOR": "1"},
    )
    assert (done.returncode, "Traceback" in done.stderr) == (0, False), done.stdout + done.stderr
    assert "What went over the wire" in done.stdout
    assert "the whole index copied" in done.stdout
    assert "both processes have ended" in done.stdout
    assert "parsed" in done.stderr


def test_client_without_a_server():
    done = subprocess.run(
        [sys.executable, DEMO / "client" / "explore.py", "tcp://127.0.0.1:1"],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode != 0
