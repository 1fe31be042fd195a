"""Help and version."""

import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest


def test_version(command):
    done = command("--version")
    assert (done.returncode, done.stdout, done.stderr) == (
        0,
        f"objspace {version('objspace')}\n",
        "",
    )
    assert command("-V").stdout == done.stdout


def test_version_loads_neither_rich_nor_the_network(python):
    code = """
        import sys, _objspace
        assert _objspace.main(["--version"]) == 0
        print(sorted({"rich", "socket", "asyncio", "inspect"} & set(sys.modules)))
    """
    assert python(code).stdout.splitlines()[1:] == ["[]"]


def test_no_command_shows_help_and_fails(command):
    done = command()
    assert done.returncode == 2
    assert done.stdout == ""
    assert "Usage: objspace" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--help"], ["serve", "shell", "--version", "Examples"]),
        (["serve", "--help"], ["MODULE[:NAME]", "--bind URL", "--policy public|full", "Ctrl-C"]),
        (["shell", "-h"], ["URL", "Tab completes"]),
    ],
)
def test_help(command, arguments, said):
    done = command(*arguments)
    assert (done.returncode, done.stderr) == (0, "")
    text = " ".join(done.stdout.split())
    for part in said:
        assert part in text
    assert max(map(len, done.stdout.splitlines())) <= 100
    assert "\x1b" not in done.stdout


@pytest.mark.parametrize("columns", ["40", "80", "200"])
def test_help_fits_the_terminal(command, columns):
    done = command("serve", "--help", COLUMNS=columns)
    assert max(len(line.rstrip()) for line in done.stdout.splitlines()) <= max(int(columns), 60)


def test_installed_script():
    script = Path(sys.executable).with_name("objspace")
    done = subprocess.run([script, "--version"], capture_output=True, text=True, check=True)
    assert done.stdout == f"objspace {version('objspace')}\n"
