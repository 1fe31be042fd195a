"""`ssh://` by a program in the place of ssh, which runs what it is told on this machine."""

import os
import shutil
import stat
import subprocess
import sys
import time

import objspace
import pytest
from objspace._ssh import parse
from objspace.distributed import session_of

FAKE = f"""#!{sys.executable}
import json, os, socket, subprocess, sys, threading
arguments = sys.argv[1:]
with open(os.environ["SSH_LOG"], "a") as log:
    log.write(json.dumps(arguments) + "\\n")
at = arguments.index("--")
destination, command = arguments[at + 1], arguments[at + 2:]
if destination == "nowhere":
    sys.exit(os.write(2, b"ssh: Could not resolve hostname nowhere\\n") and 255)
if destination == "chatty":
    os.write(1, b"Welcome to chatty!\\n")
if "-W" in arguments:
    host, port = arguments[arguments.index("-W") + 1].rsplit(":", 1)
    far = socket.create_connection((host, int(port)))
    def copy():
        while data := far.recv(65536):
            os.write(1, data)
        os._exit(0)
    threading.Thread(target=copy, daemon=True).start()
    while data := os.read(0, 65536):
        far.sendall(data)
    sys.exit(0)
os.environ["PATH"] = {os.path.dirname(sys.executable)!r} + ":" + os.environ["PATH"]
os.execvp("sh", ["sh", "-c", *command])
"""

APP = """
import os
stock = {"apple": 3}

class Shelf:
    def __init__(self):
        self.items = ["x"]
        self._secret = 1

shelf = Shelf()

def where():
    return os.getcwd(), os.getpid()
"""


def repeat(ask):
    """Asks until it fails: the end of a process is not seen at once."""
    for _ in range(10_000):
        ask()


@pytest.fixture
def ssh(tmp_path, monkeypatch):
    """A program named ssh, first on the path; its folder, and its log of command lines."""
    program = tmp_path / "bin" / "ssh"
    program.parent.mkdir()
    program.write_text(FAKE)
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    monkeypatch.setenv("SSH_LOG", str(tmp_path / "log"))
    (tmp_path / "app.py").write_text(APP)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_module_is_served_over_ssh_with_every_right(ssh, connected):
    remote = connected("ssh://ann@host:2222/app")
    assert remote.stock["apple"] == 3
    assert remote.shelf._secret == 1
    folder, pid = remote.where()
    assert folder == str(ssh)
    assert pid != os.getpid()
    line = (ssh / "log").read_text()
    assert '"-p", "2222"' in line
    assert '"--", "ann@host", "objspace serve app --bind stdio: --policy full --quiet"' in line
    # ssh, and with it the program over there, ends with the session.
    session_of(remote).close()
    deadline = time.monotonic() + 20
    while os.path.exists(f"/proc/{pid}"):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_one_object_another_folder_and_another_python(ssh, connected):
    folder = ssh / "a folder"
    folder.mkdir()
    shutil.move(ssh / "app.py", folder / "app.py")
    remote = connected(f"ssh://host/app:shelf?cwd={folder}&python={sys.executable}")
    assert dir(remote) == ["shelf"]
    assert remote.shelf.items == ["x"]


def test_a_server_over_there_is_reached(ssh, connected, serving):
    server = serving("def greet(name): return 'hello ' + name", key="a secret")
    target = server.url.removeprefix("tcp://")
    assert connected(f"ssh://host/{target}", key="a secret").greet("Ann") == "hello Ann"
    with pytest.raises(objspace.AuthenticationError, match="refused this side's key"):
        connected(f"ssh://host/{target}", key="wrong")


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("ssh://nowhere/app", "ssh ended with code 255: ssh: Could not resolve hostname nowhere"),
        ("ssh://host/absent_module", "no module named 'absent_module'"),
        ("ssh://host/app?python=/no/python", "ssh ended with code 127"),
        ("ssh://chatty/app", 'is no objspace server: it said "Welcome to chatty!"'),
        ("ssh://host/127.0.0.1:1", "ssh ended with code 1"),
    ],
)
def test_what_goes_wrong_is_one_line_with_the_words_of_ssh(ssh, url, said):
    with pytest.raises(ConnectionError) as caught:
        objspace.connect(url, timeout=20)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_no_ssh_at_all(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ConnectionError, match="cannot start ssh for ssh://host/app"):
        objspace.connect("ssh://host/app")


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("ssh:host/app", "the host is missing"),
        ("ssh:///app", "the host is missing"),
        ("ssh://host", "says what to serve"),
        ("ssh://ann:secret@host/app", "a password does not belong in a URL"),
        ("ssh://host/app.py", None),
        ("ssh://host/a b", "neither MODULE"),
        ("ssh://host/app;rm", "neither MODULE"),
        ("ssh://-oProxyCommand=rm/app", "the host is missing"),
        ("ssh://host/app?shell=1", "only ?python"),
        ("ssh://host:x/app", "ssh://user@host/app"),
    ],
)
def test_urls_that_are_wrong(url, said):
    if said is None:
        # It reads as the module app, and its name py.
        assert parse(url).target == "app.py"
        return
    with pytest.raises(ValueError, match="write, for example") as caught:
        objspace.connect(url)
    assert said in str(caught.value)


def test_nothing_of_a_url_reaches_a_shell_as_code():
    place = parse("ssh://host/app?python=/p%3Brm%20-rf&cwd=%24(touch%20x)")
    remote = place.command()[-1]
    echoed = subprocess.run(
        ["sh", "-c", f'set -- {remote.partition(" && ")[2]}; echo "$1"'],
        capture_output=True,
        text=True,
        check=True,
    )
    assert echoed.stdout == "/p;rm -rf\n"
    assert "'$(touch x)'" in remote


def test_a_session_survives_a_lost_ssh_only_as_an_error(ssh, connected):
    remote = connected("ssh://host/app")
    stock = remote.stock
    os.kill(remote.where()[1], 9)
    with pytest.raises(objspace.ConnectionLost, match="ssh://host/app"):
        repeat(lambda: stock["apple"])
