"""Peers that die: killed at any moment, cut off, or there and not reading.

`KILLS=200 pytest tests/safety/test_death.py` kills each side so many times; a few by default.
"""

import contextlib
import gc
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time

import objspace
import pytest
from objspace import ConnectionLost
from objspace.distributed import session_of

from .conftest import serve

KILLS = int(os.environ.get("KILLS", "12"))

SOURCE = """
kept = []

class Thing:
    def __init__(self, number):
        self.number = number

def make(number):
    return Thing(number)

def keep(value):
    kept.append(value)
    del kept[:-10]

def call(function, value):
    return function(value)

def fail(value):
    raise LookupError(value)

def big(size):
    return "x" * size

def sizes():
    return _server.stats()

def release():
    kept.clear()
"""


def work(remote, rounds=10**9):
    """Everything at once, until the connection is lost."""
    for number in range(rounds):
        thing = remote.make(number)
        assert thing.number == number
        remote.keep([number])
        assert remote.call(lambda value: value + 1, number) == number + 1
        with pytest.raises(LookupError, match=f"^{number}$"):
            remote.fail(number)
        assert len(remote.big(100_000)) == 100_000


def open_files():
    return len(os.listdir("/proc/self/fd"))


def test_a_killed_server_is_lost_at_once_and_leaves_nothing_behind():
    """Killed in the middle of calls, callbacks, errors and large values of several threads."""
    rng = random.Random(5)
    gc.collect()
    before = None
    for kill in range(KILLS):
        with contextlib.suppress(BrokenPipeError), serve(SOURCE) as server:
            remote = objspace.connect(server.url)
            errors = []

            def run(remote=remote, errors=errors):
                try:
                    work(remote)
                except BaseException as end:
                    errors.append(end)

            threads = [threading.Thread(target=run) for _ in range(2)]
            for thread in threads:
                thread.start()
            time.sleep(rng.random() * 0.05)
            server.process.kill()
            for thread in threads:
                thread.join(20)
                assert not thread.is_alive(), "a caller hangs"
            assert [type(error) for error in errors] == [ConnectionLost] * 2, errors
            assert all(server.url in str(error) for error in errors)
            session = session_of(remote)
            assert session.closed
            stats = session.stats()
            assert (stats["exports"], stats["imports"]) == (0, 0)
            with pytest.raises(ConnectionLost):
                remote.make(1)
            del remote, run, session, threads, thread, errors
        gc.collect()
        if kill == 2:
            before = open_files()
    assert settled(open_files, before), "file descriptors are left open"


def settled(measure, before, slack=2):
    """Whether what is measured comes back to about what it was; threads take a moment to leave."""
    deadline = time.monotonic() + 10
    while measure() > before + slack:
        if time.monotonic() > deadline:
            return False
        gc.collect()
        time.sleep(0.05)
    return True


CLIENT = """
import sys, objspace
sys.path.insert(0, sys.argv[2])
remote = objspace.connect(sys.argv[1])
kept = [remote.make(number) for number in range(20)]
print("ready", flush=True)
number = 0
while True:
    number += 1
    thing = remote.make(number)
    assert thing.number == number
    remote.keep([number])
    assert remote.call(lambda value: value + 1, number) == number + 1
    assert len(remote.big(100_000)) == 100_000
"""


def test_killed_clients_leave_nothing_behind(serving, connected):
    rng = random.Random(6)
    server = serving(SOURCE)
    remote = connected(server.url)
    first, files = None, None

    def table():
        remote.release()
        return remote.sizes()["exports"]

    for kill in range(KILLS):
        with subprocess.Popen(
            [sys.executable, "-c", CLIENT, server.url, ""],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        ) as client:
            assert client.stdout.readline() == b"ready\n"
            time.sleep(rng.random() * 0.05)
            client.kill()
        # The server is as it was for everybody else.
        assert remote.call(lambda value: value, kill) == kill
        if kill == 2:
            deadline = time.monotonic() + 10
            while remote.sizes()["sessions"] > 1:
                assert time.monotonic() < deadline
            first, files = table(), server.descriptors()
    assert settled(lambda: remote.sizes()["sessions"], 1, slack=0)
    assert settled(table, first, slack=0), "objects of dead clients are kept"
    assert settled(server.descriptors, files)


def test_a_child_that_is_killed_is_lost():
    with contextlib.ExitStack() as stack:
        child = objspace.spawn(setup=SOURCE.replace("_server", "None"))
        stack.callback(child.close)
        timer = threading.Timer(0.1, child.process.send_signal, (signal.SIGKILL,))
        timer.start()
        with pytest.raises(ConnectionLost, match=f"child process {child.process.pid}"):
            work(child.remote)
        timer.join()


# ---------------------------------------------------------------------- cut off

NAMESPACE = f"objspace-test-{os.getpid()}"


def ip(*arguments, check=True):
    return subprocess.run(["ip", *arguments], check=check, capture_output=True, text=True)


@pytest.fixture
def partition():
    """A network namespace, its prefix for commands, and a function that cuts its only cable."""
    if shutil.which("ip") is None:
        pytest.skip("there is no ip command")
    made = ip("netns", "add", NAMESPACE, check=False)
    if made.returncode != 0:
        pytest.skip(f"no network namespace can be made here: {made.stderr.strip()}")
    name = f"os{os.getpid() % 10**7}"
    address = f"10.{200 + os.getpid() % 50}.{os.getpid() // 50 % 250}"
    try:
        try:
            ip("link", "add", f"{name}a", "type", "veth", "peer", "name", f"{name}b")
        except subprocess.CalledProcessError as error:
            pytest.skip(f"no pair of network devices can be made here: {error.stderr.strip()}")
        ip("link", "set", f"{name}b", "netns", NAMESPACE)
        ip("addr", "add", f"{address}.1/24", "dev", f"{name}a")
        ip("link", "set", f"{name}a", "up")
        ip("-n", NAMESPACE, "addr", "add", f"{address}.2/24", "dev", f"{name}b")
        ip("-n", NAMESPACE, "link", "set", f"{name}b", "up")
        yield (
            ("ip", "netns", "exec", NAMESPACE),
            f"{address}.2",
            lambda: ip("-n", NAMESPACE, "link", "set", f"{name}b", "down"),
        )
    finally:
        ip("link", "del", f"{name}a", check=False)
        ip("netns", "del", NAMESPACE, check=False)


@pytest.mark.parametrize("busy", [False, True], ids=["idle", "in a call"])
def test_a_peer_that_is_cut_off_is_noticed_within_the_heartbeat(
    partition, serving, connected, busy
):
    """No packet tells of it: without heartbeats the wait would be for ever."""
    prefix, address, cut = partition
    source = SOURCE + "\nimport time\ndef sleep(seconds): time.sleep(seconds)\n"
    server = serving(source, f"tls://{address}:0", prefix=prefix, key="k", heartbeat=1.5)
    remote = connected(server.url, key="k", heartbeat=1.5)
    assert remote.call(lambda value: value, 1) == 1
    session = session_of(remote)
    lost = []

    def ask():
        try:
            remote.sleep(20)
        except ConnectionLost as error:
            lost.append((time.monotonic(), error))

    thread = threading.Thread(target=ask)
    if busy:
        thread.start()
        while session.stats()["messages_sent"] < 4:
            time.sleep(0.01)
    cut()
    started = time.monotonic()
    while not session.closed:
        assert time.monotonic() - started < 10
        time.sleep(0.01)
    # An eighth of the heartbeat is the grain of the clock, on a busy machine a little more.
    assert time.monotonic() - started < 2.5
    if busy:
        thread.join(20)
        assert "no sign of life" in str(lost[0][1])
    with pytest.raises(ConnectionLost, match="no sign of life"):
        remote.sleep(0)


# ---------------------------------------------------------------------- there, and not reading


def flood(url, count=4000):
    """A client that asks for much and reads nothing; its socket."""
    import socket
    import struct

    host, _, port = url.removeprefix("tcp://").rpartition(":")
    peer = socket.create_connection((host, int(port)), timeout=20)
    peer.sendall(b"OBJSPACE\x01\x00" + struct.pack("<H", 1) + bytes(32))
    read = b""
    while len(read) < 44:
        read += peer.recv(44 - len(read))
    frames = [b"\x01" + struct.pack("<HQ", 1, 7) + b"\x00"]
    # The exported function, kept as the answer of question 0; then calls of it.
    frames.append(b"\x02\x00\x01\x00\x00" + bytes([52, 1]) + b"\x26\x01\x00\xc3big")
    for question in range(1, count):
        number = (
            bytes([question & 0x7F | 0x80, question >> 7]) if question > 127 else bytes([question])
        )
        frames.append(
            b"\x02"
            + number
            + b"\x01\x00\x02\x00"
            + bytes([10, 0])
            + b"\x26\x01\x00\x08\x80\x89\x7a"
        )
    peer.settimeout(0.5)
    with contextlib.suppress(TimeoutError):
        peer.sendall(b"".join(struct.pack("<I", len(body)) + body for body in frames))
    return peer


def test_a_client_that_never_reads_costs_a_bounded_amount_of_memory_and_is_ended(
    serving, connected
):
    server = serving(SOURCE, heartbeat=2.0)
    remote = connected(server.url)
    remote.big(1_000_000)
    before = server.resident()
    most = 0
    with flood(server.url):
        # 4000 replies of a million bytes are asked for.
        deadline = time.monotonic() + 20
        while remote.sizes()["sessions"] > 1:
            assert time.monotonic() < deadline, "it is still there"
            most = max(most, server.resident() - before)
            time.sleep(0.02)
    assert most < 150_000_000, f"{most} bytes for a client that does not read"
    assert remote.call(lambda value: value, 1) == 1
