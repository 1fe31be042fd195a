"""Whatever the user can mend is one line that says what to do, and exit code 2."""

import socket
import sys

import pytest


def complaint(done):
    """The one line of a command that was misused."""
    assert done.returncode == 2, (done.returncode, done.stdout, done.stderr)
    assert done.stdout == ""
    lines = done.stderr.splitlines()
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("objspace: ")
    return lines[0]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["srve"], "choose from"),
        (["serve"], "MODULE[:NAME]"),
        (["serve", "app", "--polcy", "full"], "--polcy"),
        (["serve", "app", "--policy", "some"], "choose from"),
        (["shell"], "URL"),
        (["serve", ":x"], "write MODULE or MODULE:NAME"),
        (["serve", "app:"], "write MODULE or MODULE:NAME"),
        (["serve", "app.py"], "name the module instead: app"),
        (["serve", "not-a-name"], "no module name"),
        (["serve", "missing_module"], "no module named 'missing_module'"),
        (["serve", "json.missing"], "no module named 'json.missing'"),
        (["serve", "json:dupms"], "did you mean 'dumps'?"),
        (["serve", "json:zzz"], "module json has no 'zzz'; it has "),
        (["serve", "json:JSONDecoder.decod"], "JSONDecoder has no 'decod'; did you mean 'decode'?"),
    ],
)
def test_misuse(command, arguments, said):
    assert said in complaint(command(*arguments))


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("import absent_thing", "importing app failed: ModuleNotFoundError"),
        ("def broken(:", "importing app failed: SyntaxError"),
        ("1 / 0", "importing app failed: ZeroDivisionError"),
        ("raise SystemExit(3)", "ended the program"),
        ("import os\n_x = 1", "defines no public names"),
        ("__all__ = ['gone']", "names 'gone', which it lacks"),
    ],
)
def test_broken_module(command, tmp_path, source, said):
    (tmp_path / "app.py").write_text(source)
    assert said in complaint(command("serve", "app", "--bind", "tcp://127.0.0.1:0"))


WRONG_URLS = ["", "127.0.0.1:7000", "http://h:7000", "tcp://127.0.0.1", "tcp://h:99999", "x:y"]


@pytest.mark.parametrize("url", WRONG_URLS)
@pytest.mark.parametrize("arguments", ["serve json --bind", "shell"])
def test_wrong_url(command, arguments, url):
    line = complaint(command(*arguments.split(), url))
    assert repr(url).strip("'") in line
    assert "tcp://" in line, "the line shows what would do"


def test_refused_connection(command):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"tcp://127.0.0.1:{closed.getsockname()[1]}"
        line = complaint(command("shell", url))
    assert f"nothing listens at {url}" in line
    assert "objspace serve MODULE --bind" in line


def test_missing_socket_file(command, tmp_path):
    line = complaint(command("shell", f"unix://{tmp_path}/absent.sock"))
    assert "nothing listens at" in line


def test_address_in_use(command):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        url = f"tcp://127.0.0.1:{taken.getsockname()[1]}"
        line = complaint(command("serve", "json", "--bind", url))
    assert f"{url} is in use by another program" in line
    assert "--bind" in line


def test_bind_that_others_can_reach(command):
    line = complaint(command("serve", "json", "--bind", "tcp://0.0.0.0:0"))
    assert "can be reached from other machines" in line
    assert "127.0.0.1" in line


REFUSING = """
import sys

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name == "objspace._core":
            raise ImportError(MESSAGE)

MESSAGE = sys.argv.pop(1)
sys.meta_path.insert(0, Refuse())
import _objspace
sys.exit(_objspace.main())
"""


@pytest.mark.parametrize("arguments", [["serve", "json"], ["shell", "tcp://127.0.0.1:1"]])
def test_unsupported_python(python, arguments):
    line = complaint(python(REFUSING, "this is a free-threaded build", *arguments))
    assert line == (
        "objspace: this is a free-threaded build; use CPython 3.11, 3.12 or 3.13 (with the GIL)"
    )


def test_engine_that_was_never_built(python):
    code = """
        import sys
        sys.modules["objspace._core"] = None
        import _objspace
        sys.exit(_objspace.main(["--version"]))
    """
    line = complaint(python(code))
    assert "pip install" in line
    assert sys.executable in line
