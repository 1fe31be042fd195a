"""The soak of `make soak-servers`, for seconds instead of hours."""

import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(__file__).parents[2] / "tools" / "soak-servers"


@pytest.mark.slow
def test_nothing_grows_and_no_answer_is_wrong():
    done = subprocess.run(
        [sys.executable, str(PROGRAM), "--seconds", "5"],
        capture_output=True,
        text=True,
        timeout=55,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stdout + done.stderr
    assert "operations were checked" in done.stdout
