"""The example programs do what the guide says."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


def run(*arguments):
    return subprocess.run(
        [sys.executable, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    ).stdout


def other_python():
    """Another Python that has objspace, or none: beside this one, where `make` puts them."""
    for python in sorted(Path(sys.prefix).parent.glob("py3*/bin/python")):
        if python.parent.parent == Path(sys.prefix):
            continue
        probe = [str(python), "-c", "import objspace; print(objspace.__version__)"]
        found = subprocess.run(probe, capture_output=True, text=True, timeout=30, check=False)
        if found.returncode == 0:
            return python
    return None


def check_plugin(output, version):
    assert output.splitlines() == [
        f"word count, in Python {version}",
        "  2 of 4 lines",
        "  4 of 4 lines",
        "7 words, most often 'a' (4)",
        "True 4 ['word count']",
        "AttributeError: 'NoneType' object has no attribute 'lines'",
    ]


def test_a_plugin_in_a_child_process():
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    check_plugin(run(EXAMPLES / "plugin" / "host.py"), version)


def test_a_plugin_of_another_python():
    python = other_python()
    if python is None:
        pytest.skip("there is one Python with objspace only")
    probe = [str(python), "-c", "import sys; print('%d.%d' % sys.version_info[:2])"]
    version = subprocess.run(probe, capture_output=True, text=True, check=True).stdout.strip()
    check_plugin(run(EXAMPLES / "plugin" / "host.py", python), version)


def test_the_data_of_a_kernel_is_explored_without_being_fetched(tmp_path):
    kernel = subprocess.Popen(
        [sys.executable, str(EXAMPLES / "kernel" / "kernel.py"), f"unix://{tmp_path}/kernel"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        url = kernel.stdout.readline().strip()
        lines = run(EXAMPLES / "kernel" / "explore.py", url).splitlines()
    finally:
        kernel.stdin.close()
        kernel.wait(20)
        kernel.stdout.close()
    assert {"readings", "by_hour", "mean", "run"} <= set(re.findall(r"\w+", lines[0]))
    assert lines[1] == "list 100000 ['hour', 'value']"
    assert lines[3] == "24 [0, 1, 2, 3, 4] 4167"
    assert abs(float(lines[4]) - 20) < 1
    assert 50 < int(lines[5]) < 300
    received, trips = map(int, re.findall(r"(\d+) bytes of 100,000 rows in (\d+)", lines[6])[0])
    assert received < 3_000
    assert trips <= 30


def test_two_programs_call_each_other():
    programs = EXAMPLES / "two_programs"
    with subprocess.Popen(
        [sys.executable, str(programs / "office.py"), "tcp://127.0.0.1:0", "tea,cake,coffee"],
        stdout=subprocess.PIPE,
        text=True,
    ) as office:
        url = office.stdout.readline().strip()
        clerk = run(programs / "clerk.py", url, "Ann")
        said = office.stdout.read()
        assert office.wait(20) == 0
    assert clerk.splitlines() == ["welcome, Ann", "home"]
    assert said.splitlines() == [
        "tea for 3, by Ann",
        "cake refused: no cake today",
        "coffee for 4, by Ann",
        "ledger [3, 4]",
    ]
