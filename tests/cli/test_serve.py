"""`objspace serve` and `objspace shell` in processes of their own."""

import contextlib
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time

import pytest

APP = '''
"""An application."""
import os
from collections import OrderedDict

stock = {"apple": 3}

class Shelf:
    """A shelf."""

    def __init__(self):
        self.items = ["x"]
        self._secret = 1

    def add(self, item):
        self.items.append(item)
        return len(self.items)

shelf = Shelf()

def greet(name):
    return f"hello {name}"

_private = 1
'''


@pytest.fixture
def app(tmp_path):
    (tmp_path / "app.py").write_text(APP)
    return tmp_path


@contextlib.contextmanager
def serving(folder, *arguments, target="app"):
    """A server process; gives it and its URL, and ends it."""
    process = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "objspace",
            "serve",
            target,
            "--bind",
            "tcp://127.0.0.1:0",
            *arguments,
        ],
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        process.greeting = process.stderr.readline()
        found = re.search(r" at (tcp://127\.0\.0\.1:[1-9]\d*) ", process.greeting)
        assert found, process.greeting + process.stderr.read()
        yield process, found[1]
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
        process.stderr.close()


def test_serves_what_the_module_defines(app, command):
    with serving(app) as (process, url):
        assert "serving stock, Shelf, shelf, greet of app" in process.greeting
        done = command(
            "shell", url, text_in="dir(remote)\nremote.stock['apple']\nremote.greet('Ann')"
        )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == ["['Shelf', 'greet', 'shelf', 'stock']", "3", "'hello Ann'"]


def test_serves_one_name(app, command):
    with serving(app, target="app:shelf") as (_, url):
        done = command("shell", url, text_in="dir(remote)\nremote.shelf.add('y')")
    assert done.stdout.splitlines() == ["['shelf']", "2"]


def test_all_is_the_last_word(app, command):
    (app / "app.py").write_text(APP + "\n__all__ = ['greet', 'OrderedDict']\n")
    with serving(app) as (_, url):
        done = command("shell", url, text_in="dir(remote)")
    assert done.stdout == "['OrderedDict', 'greet']\n"


def test_public_policy_is_the_default(app, command):
    with serving(app) as (_, url):
        write = command("shell", url, text_in="remote.shelf.items = []")
        private = command("shell", url, text_in="remote.shelf._secret")
    assert write.returncode == private.returncode == 1
    assert "PermissionError" in write.stderr
    assert "private" in private.stderr


def test_full_policy_says_what_it_means(app, command):
    with serving(app, "--policy", "full") as (process, url):
        assert "(policy full)" in process.greeting
        assert "any code" in process.stderr.readline()
        done = command("shell", url, text_in="remote.shelf._secret = 2\nremote.shelf._secret")
    assert (done.stdout, done.stderr) == ("2\n", "")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 0)])
@pytest.mark.parametrize("connected", [False, True])
def test_ends_cleanly(app, number, code, connected):
    import objspace
    from objspace.distributed import session_of

    with serving(app) as (process, url):
        if connected:
            remote = objspace.connect(url)
            assert remote.greet("Ann") == "hello Ann"
        process.send_signal(number)
        out, err = process.communicate(timeout=10)
        if connected:
            with pytest.raises(objspace.ConnectionLost):
                remote.greet("Ann")
            session_of(remote).close()
    assert process.returncode == code
    assert (out, err) == ("", "")


def test_quiet(app):
    with subprocess.Popen(
        [sys.executable, "-m", "objspace", "serve", "app", "--quiet", "--bind", f"unix://{app}/s"],
        cwd=app,
        stderr=subprocess.PIPE,
    ) as process:
        deadline = time.monotonic() + 20
        while not (app / "s").exists():
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.02)
        process.terminate()
        assert process.communicate(timeout=10)[1] == b""


def test_shell_runs_a_program_up_to_its_first_error(app, command):
    program = (
        "for item in remote.shelf.items:\n    print('item', item)\nprint('next')\n1 / 0\nprint(2)\n"
    )
    with serving(app) as (_, url):
        done = command("shell", url, text_in=program)
        unclear = command("shell", url, text_in="print(1")
    assert done.returncode == 1
    assert done.stdout == "item x\nnext\n"
    assert "1 / 0" in done.stderr
    assert "ZeroDivisionError" in done.stderr
    assert "objspace/_cli" not in done.stderr
    assert unclear.returncode == 1
    assert "SyntaxError" in unclear.stderr


def test_shell_of_a_server_that_dies(app, command):
    with serving(app, "--policy", "full", target="os") as (_, url):
        done = command("shell", url, text_in="remote._exit(0)\nprint('not reached')\n")
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.startswith("connection lost: ")
    assert len(done.stderr.splitlines()) == 1


class Terminal:
    """A terminal in which a program runs."""

    def __init__(self, *command, cwd):
        self.process, self.fd = pty.fork()
        if self.process == 0:
            os.chdir(cwd)
            os.environ.update(TERM="dumb", INPUTRC="/dev/null", NO_COLOR="1")
            os.execv(command[0], command)
        self.text = ""

    def expect(self, wanted, timeout=20):
        deadline = time.monotonic() + timeout
        while wanted not in self.text:
            ready, _, _ = select.select([self.fd], [], [], deadline - time.monotonic())
            assert ready, f"waited for {wanted!r} and got {self.text!r}"
            try:
                self.text += os.read(self.fd, 4096).decode().replace("\r\n", "\n")
            except OSError:  # the other end is closed
                assert wanted in self.text, self.text
        seen, _, self.text = self.text.partition(wanted)
        return seen + wanted

    def type(self, text):
        os.write(self.fd, text.encode())

    def end(self):
        _, status = os.waitpid(self.process, 0)
        os.close(self.fd)
        return os.waitstatus_to_exitcode(status)


@pytest.mark.filterwarnings("ignore:.*forkpty:DeprecationWarning")
def test_shell_on_a_terminal(app):
    with serving(app) as (_, url):
        terminal = Terminal(sys.executable, "-m", "objspace", "shell", url, cwd=app)
        greeting = terminal.expect(">>> ")
        assert f"connected to {url}" in greeting
        assert "remote has: Shelf, greet, shelf, stock" in greeting
        terminal.type("remote.gre\t('Ann')\n")
        assert "'hello Ann'" in terminal.expect(">>> ")
        terminal.type("remote.shelf.ite\t\n")
        assert "['x']" in terminal.expect(">>> ")
        terminal.type("remote.greet(\n")
        assert "TypeError" not in terminal.expect("... ")
        terminal.type("1, 2)\n")
        assert "TypeError" in terminal.expect(">>> ")
        terminal.type("\x04")
        assert terminal.end() == 0
