"""The examples of the guide run, and the guide shows them as they are."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "examples" / "thread_pickling"
GUIDE = (ROOT / "docs" / "thread-pickling.md").read_text(encoding="utf-8")


def run(name, *arguments, cwd):
    return subprocess.run(
        [sys.executable, str(FOLDER / name), *map(str, arguments)],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=40,
        check=False,
    )


def test_a_generator_goes_on_after_its_process_was_killed(tmp_path):
    path = tmp_path / "job.pickle"
    first = run("checkpoint.py", path, 7, cwd=tmp_path)
    assert first.returncode == -signal.SIGKILL
    assert first.stdout.splitlines()[-1] == "7 28"
    second = run("checkpoint.py", path, -1, cwd=tmp_path)
    assert (second.returncode, second.stderr) == (0, "")
    # The last pickle was written after item 5.
    assert second.stdout.splitlines() == ["6 21", "7 28", "8 36", "9 45"]


@pytest.mark.parametrize(
    ("name", "output"),
    [
        ("search.py", "10 ways, found by the other one\n"),
        ("traveller.py", "[3, 5, 8]\n"),
        (
            "futures.py",
            "at once:  (90, ['no', 'yes'])\npatient:  (40, ['no', 'no', 'no', 'yes'])\n",
        ),
    ],
)
def test_example(name, output, tmp_path):
    done = run(name, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == output
    assert output in GUIDE


@pytest.mark.parametrize("name", sorted(path.name for path in FOLDER.glob("*.py")))
def test_the_guide_shows_the_example(name):
    source = (FOLDER / name).read_text(encoding="utf-8")
    body = source.split('"""\n', 1)[1].strip()
    assert body in GUIDE
