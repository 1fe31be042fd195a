"""Suspended and running frames, written in one process and run to their end in another: cold and
specialised, whatever watches the interpreter, and from one build of Python to another."""

import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

DRIVE = Path(__file__).with_name("drive.py")
MODES = ["nothing", "trace", "profile", "hook"]
if sys.version_info >= (3, 12):
    MODES.append("monitor")

# Programs with all kinds of frames, for the combinations of modes.
SOME = ["handlers", "half_evaluated", "closures", "chain", "boundaries", "generators", "raises"]
# All points of all programs: none may get lost.
ALL = 364
# Those of the programs that run.
RUNNING = 149


def drive(*arguments, python=sys.executable, **env):
    done = subprocess.run(
        [python, DRIVE, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env={**os.environ, **env},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return int(done.stdout)


@pytest.mark.parametrize("warm", [0, 50], ids=["cold", "specialised"])
def test_every_point_of_every_program_runs_on_elsewhere(tmp_path, warm):
    file = tmp_path / "pickles"
    assert drive("write", file, "nothing", warm) == ALL
    assert drive("read", file, "nothing") == ALL


def test_frames_stay_within_the_memory_that_cpython_gave_them(tmp_path):
    file = tmp_path / "pickles"
    assert drive("write", file, "nothing", PYTHONMALLOC="debug") == ALL
    assert drive("read", file, "nothing", PYTHONMALLOC="debug") == ALL


@pytest.mark.parametrize("mode", MODES[1:])
def test_every_point_of_every_program_under_a_watcher(tmp_path, mode):
    file = tmp_path / "pickles"
    assert drive("write", file, mode, 3) == ALL
    assert drive("read", file, mode) == ALL


@pytest.mark.parametrize("code", ["auto", "value"])
def test_a_running_program_moves_at_each_of_its_points_in_turn(code):
    assert drive("relay", "-", "nothing", OBJSPACE_CODE=code) == RUNNING


def test_modes_may_differ_between_writing_and_reading(tmp_path):
    for written in MODES:
        file = tmp_path / written
        count = drive("write", file, written, 3, *SOME)
        for read in MODES:
            if read != written:
                assert drive("read", file, read) == count > 100


def other_build():
    """A Python of the same minor version and another build, by which objspace can be loaded."""
    python = Path(f"/usr/bin/python3.{sys.version_info.minor}")
    if not python.exists() or python.resolve() == Path(sys.executable).resolve():
        pytest.skip(f"there is no other Python 3.{sys.version_info.minor}")
    ask = "import sysconfig; print(sysconfig.get_config_var('EXT_SUFFIX'))"
    suffix = subprocess.run([python, "-c", ask], capture_output=True, text=True, check=True)
    if suffix.stdout.strip() != sysconfig.get_config_var("EXT_SUFFIX"):
        pytest.skip("the other Python has another binary interface")
    return python


def test_between_two_builds_of_one_version(tmp_path):
    """Written here, run on there, and the other way round. By value: the compilers of two patch releases
    may differ, and what they make differently is refused by reference."""
    import objspace

    python = other_build()
    path = {"PYTHONPATH": str(Path(objspace.__file__).parents[1]), "OBJSPACE_CODE": "value"}
    for writer, reader in [(sys.executable, python), (python, sys.executable)]:
        file = tmp_path / "pickles"
        assert drive("write", file, "nothing", 20, python=writer, **path) == ALL
        assert drive("read", file, "nothing", python=reader, **path) == ALL
