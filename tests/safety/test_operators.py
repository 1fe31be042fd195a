"""`objspace top` and `objspace debug`, on a terminal, and who may use them."""

import contextlib
import os
import pty
import select
import sys
import time

import objspace
import pytest
from objspace._core import server_last_error, server_status
from objspace.distributed import session_of

SOURCE = """
import threading
gate = threading.Event()
kept = []

class Shelf:
    def __init__(self):
        self.items = ["x"]

    def fail(self, number):
        doubled = number * 2
        return self._deep(doubled)

    def _deep(self, value):
        secret = "in the frame"
        raise ValueError(f"bad {value}")

    def wait(self):
        gate.wait(20)

shelf = Shelf()

def numbers():
    return iter([])
"""

pytestmark = pytest.mark.filterwarnings("ignore:.*forkpty:DeprecationWarning")


class Terminal:
    """A terminal in which a program runs."""

    def __init__(self, *command, **environment):
        self.process, self.fd = pty.fork()
        if self.process == 0:
            os.environ.update(TERM="xterm", NO_COLOR="1", COLUMNS="120", LINES="40", **environment)
            os.execv(command[0], command)
        self.text = ""

    def expect(self, wanted, timeout=20):
        deadline = time.monotonic() + timeout
        while wanted not in self.text:
            ready, _, _ = select.select([self.fd], [], [], max(deadline - time.monotonic(), 0))
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
        # What is left must be read, or the program waits for room to write.
        with contextlib.suppress(OSError):
            while os.read(self.fd, 4096):
                pass
        _, status = os.waitpid(self.process, 0)
        os.close(self.fd)
        return os.waitstatus_to_exitcode(status)


def command(*arguments):
    return Terminal(sys.executable, "-m", "objspace", *arguments)


def test_top_on_a_terminal(serving, connected, tmp_path):
    server = serving(SOURCE, f"unix://{tmp_path}/s")
    remote = connected(server.url)
    shelf, wait = remote.shelf, remote.shelf.wait
    import threading

    waiting = threading.Thread(target=wait)
    waiting.start()
    terminal = command("top", server.url, "--interval", "0.1")
    try:
        terminal.expect(f"objspace top · {server.url}")
        terminal.expect("2 of 1000")
        terminal.expect("running calls")
        terminal.expect("held by clients")
        terminal.expect("Shelf")
        terminal.expect("oldest references")
        # It draws again, and again, and then leaves.
        terminal.expect("sessions")
        terminal.expect("sessions")
        terminal.type("q")
        assert terminal.end() == 0
    finally:
        remote.gate.set()
        waiting.join(20)
    del shelf


def test_top_of_a_server_that_ends(serving, tmp_path):
    server = serving(SOURCE, f"unix://{tmp_path}/s")
    terminal = command("top", server.url, "--interval", "0.1")
    terminal.expect("objspace top")
    server.process.kill()
    terminal.expect("connection lost: ")
    assert terminal.end() == 1


def test_what_the_status_tells(serving, connected, tmp_path):
    server = serving(SOURCE, f"unix://{tmp_path}/s", max_clients=5)
    remote = connected(server.url)
    shelf = remote.shelf
    facts, sessions, kinds, oldest = server_status(remote)
    assert facts[:2] == (server.url, server.pid)
    assert facts[3:] == (5, 0, None, None)
    assert len(sessions) == 1
    # The class of the shelf stays, though it is not counted as a reference.
    assert sessions[0][8] == session_of(remote).stats()["imports"] + 1
    assert ("Shelf", 1, 1) in kinds
    assert any(kind == "Shelf" and age > 0 for age, kind, _ in oldest)
    del shelf


def refusal(ask, remote, *arguments):
    with pytest.raises(PermissionError) as caught:
        ask(remote, *arguments)
    return str(caught.value)


def test_the_status_is_for_those_who_showed_who_they_are(serving, connected):
    anybody = connected(serving(SOURCE).url)
    assert "a key or a certificate" in refusal(server_status, anybody)
    assert server_status(connected(serving(SOURCE, status=True).url))
    assert server_status(connected(serving(SOURCE, key="k").url, key="k"))
    assert server_status(connected(serving(SOURCE, full=True).url))
    with objspace.spawn() as remote:
        assert "not one of a server" in refusal(server_status, remote)


def test_the_last_error_is_for_those_only_whom_the_server_lets_debug(serving, connected, tmp_path):
    plain = connected(serving(SOURCE, f"unix://{tmp_path}/a").url)
    assert "without debug=True" in refusal(server_last_error, plain, False)
    with pytest.raises(PermissionError, match="debug=True lets whoever connects run any code"):
        objspace.Server({}, "tcp://127.0.0.1:0", debug=True, key=b"")
    # What was refused gives no right.
    with pytest.raises(PermissionError):
        plain.shelf._deep


def test_debugging_gives_every_right_and_tells_the_last_error(serving, connected):
    server = serving(SOURCE, "tls://127.0.0.1:0", key="k", debug=True)
    remote, other = connected(server.url, key="k"), connected(server.url, key="k")
    assert server_last_error(remote, False) is None
    with pytest.raises(ValueError, match="bad 4"):
        other.shelf.fail(2)
    # What is refused, or ends a loop, is no error of the server.
    with pytest.raises(PermissionError):
        other.shelf._deep
    assert list(other.numbers()) == []
    age, peer = server_last_error(remote, False)
    assert 0 <= age < 60
    assert "the client at tls://127.0.0.1" in peer
    with pytest.raises(ValueError, match="bad 4") as caught:
        server_last_error(remote, True)
    traceback = caught.value.__traceback__
    while traceback.tb_next is not None:
        traceback = traceback.tb_next
    assert traceback.tb_frame.f_locals["secret"] == "in the frame"
    assert remote.shelf._deep
    with pytest.raises(PermissionError):
        other.shelf._deep


def test_debug_on_a_terminal(serving, connected, tmp_path):
    server = serving(SOURCE, f"unix://{tmp_path}/s", debug=True)
    remote = connected(server.url)
    with pytest.raises(ValueError, match="bad 42"):
        remote.shelf.fail(21)
    terminal = command("debug", server.url)
    greeting = terminal.expect("(Pdb) ")
    assert "ValueError: bad 42" in greeting
    assert 'raise ValueError(f"bad {value}")' in greeting
    for typed, said in [
        ("p secret", "'in the frame'"),
        ("p value + 1", "43"),
        ("up", "return self._deep(doubled)"),
        ("p doubled", "42"),
        ("p self.items", "['x']"),
        ("w", "fail"),
    ]:
        terminal.type(typed + "\n")
        assert said in terminal.expect("(Pdb) "), typed
    terminal.type("q\n")
    assert terminal.end() == 0


@pytest.mark.parametrize(
    ("arguments", "settings", "said"),
    [
        (["top"], {}, "the server refuses its status"),
        (["debug"], {}, "the server refuses to be debugged"),
        (["debug"], {"key": "k", "debug": True}, "no error has left a call of the server"),
        (["top"], {"key": "k"}, "asks for a key"),
        (["shell", "--key-file", "/nowhere"], {}, "cannot read the key file /nowhere"),
        (["shell", "--cert", "/nowhere"], {}, "cannot read /nowhere"),
    ],
)
def test_each_refusal_is_one_line(request, serving, tmp_path, arguments, settings, said):
    run = request.getfixturevalue("command")
    server = serving(SOURCE, **settings)
    name, *options = arguments
    if "debug" in settings:
        (tmp_path / "key").write_text("k\n")
        options = ["--key-file", str(tmp_path / "key")]
    done = run(name, server.url, *options)
    assert done.returncode == 2
    lines = done.stderr.splitlines()
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("objspace: ")
    assert said in lines[0]


def test_top_as_text(serving, tmp_path, request):
    server = serving(SOURCE, f"unix://{tmp_path}/s")
    done = request.getfixturevalue("command")("top", server.url, "--once")
    assert (done.returncode, done.stderr) == (0, "")
    assert "1 of 1000 clients" in " ".join(done.stdout.split())
