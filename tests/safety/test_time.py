"""Deadlines, heartbeats, and servers that end in good order."""

import contextlib
import itertools
import os
import signal
import subprocess
import sys
import threading
import time

import objspace
import pytest
from objspace import ConnectionLost
from objspace.distributed import session_of

SOURCE = """
import ctypes, threading, time

class Shelf:
    def wait(self, event):
        event.wait(20)
        return "waited"

    @property
    def slow(self):
        time.sleep(2)

class Endless(list):
    def __iter__(self):
        time.sleep(2)

shelf = Shelf()
endless = Endless([1])
gate = threading.Event()

def wait_for_gate():
    gate.wait(20)
    return "open"

def call(function, *args):
    return function(*args)

def call_late(function, seconds):
    time.sleep(seconds)
    return function()

def echo(value):
    return value

def hold_gil(seconds):
    "C code that never lets go of the GIL."
    ctypes.PyDLL(None).usleep(int(seconds * 1e6))
    return "held"

def big(size):
    return "x" * size
"""


def late(limit=10):
    """Fails if a block takes longer than it may."""

    @contextlib.contextmanager
    def check():
        started = time.monotonic()
        yield
        assert time.monotonic() - started < limit

    return check()


def test_a_call_that_takes_too_long_names_object_operation_and_side(link):
    remote = link(SOURCE)
    peer = session_of(remote).peer
    with late(1.8), pytest.raises(TimeoutError) as caught, objspace.timeout(0.2):
        remote.shelf.slow
    text = str(caught.value)
    assert "slow' of " in text
    assert "reading" in text or "__getattribute__" in text
    assert peer in text
    # The session stays usable, and the reply that came too late is not taken for another.
    assert [remote.echo(number) for number in range(20)] == list(range(20))


@pytest.mark.parametrize(
    "ask",
    [
        lambda remote: remote.shelf.slow,
        lambda remote: list(remote.endless),
        lambda remote: remote.wait_for_gate(),
    ],
    ids=["attribute", "contents", "call"],
)
def test_every_kind_of_request_has_a_deadline(link, ask):
    remote = link(SOURCE)
    with late(1.8), pytest.raises(TimeoutError), objspace.timeout(0.2):
        ask(remote)
    assert remote.echo(1) == 1


def test_a_block_counts_all_its_operations_together_and_the_shortest_counts(link):
    remote = link(SOURCE)
    with objspace.timeout(20):
        assert remote.echo(1) == 1
        with late(1.8), pytest.raises(TimeoutError), objspace.timeout(0.2):
            remote.wait_for_gate()
        assert remote.echo(2) == 2
    with late(1.8), pytest.raises(TimeoutError), objspace.timeout(0.2), objspace.timeout(20):
        remote.wait_for_gate()
    with objspace.timeout(0), pytest.raises(TimeoutError):
        remote.echo(3)
    assert remote.echo(4) == 4


def test_a_deadline_ends_with_its_block_and_belongs_to_its_thread(link):
    remote = link(SOURCE)
    with objspace.timeout(0.05):
        time.sleep(0.1)
        results = []
        thread = threading.Thread(target=lambda: results.append(remote.echo(5)))
        thread.start()
        thread.join(20)
    assert results == [5]
    assert remote.echo(6) == 6


def test_what_is_left_of_a_deadline_is_inherited_over_there(link):
    """A call made in the execution of a call has no more time than that."""
    remote = link(SOURCE)
    seen = []
    ended = threading.Event()

    def back():
        # Runs here, for the other side, which runs a call of ours; asks the other side again.
        try:
            remote.wait_for_gate()
        except TimeoutError as error:
            seen.append(error)
        finally:
            ended.set()

    with late(1.8), pytest.raises(TimeoutError), objspace.timeout(0.4):
        remote.call(back)
    assert ended.wait(20)
    assert len(seen) == 1
    remote.gate.set()
    assert remote.echo(1) == 1


def test_a_nested_call_without_a_deadline_is_not_limited(link):
    remote = link(SOURCE)
    assert remote.call_late(lambda: remote.echo("late"), 0.1) == "late"


def test_wrong_times_are_refused():
    for wrong in (-1, float("nan")):
        with pytest.raises(ValueError, match="timeout="):
            objspace.timeout(wrong)
    assert repr(objspace.timeout(1.5)) == "objspace.timeout(1.5)"
    with pytest.raises(RuntimeError, match="not entered"):
        objspace.timeout(1).__exit__()


# ---------------------------------------------------------------------- heartbeats


def test_a_stopped_peer_is_noticed_within_the_heartbeat(serving, connected):
    """It is there, its connection is open, and it says nothing: a half-open connection."""
    server = serving(SOURCE)
    remote = connected(server.url, heartbeat=1.0)
    assert remote.echo(1) == 1
    os.kill(server.pid, signal.SIGSTOP)
    try:
        started = time.monotonic()
        with pytest.raises(ConnectionLost, match="no sign of life") as caught:
            remote.echo(2)
        assert time.monotonic() - started < 3
        assert server.url in str(caught.value)
    finally:
        os.kill(server.pid, signal.SIGCONT)


def test_an_idle_session_notices_as_well(serving, connected):
    server = serving(SOURCE)
    session = session_of(connected(server.url, heartbeat=1.0))
    os.kill(server.pid, signal.SIGSTOP)
    try:
        deadline = time.monotonic() + 20
        while not session.closed:
            assert time.monotonic() < deadline
            time.sleep(0.05)
    finally:
        os.kill(server.pid, signal.SIGCONT)


CLIENT = """
import sys, objspace
remote = objspace.connect(sys.argv[1])
print("ready", flush=True)
sys.stdin.read()
"""


def test_a_server_notices_a_stopped_client(serving, connected):
    server = serving(SOURCE + "\ndef clients(): return _server.stats()['sessions']", heartbeat=1.0)
    remote = connected(server.url)
    with subprocess.Popen(
        [sys.executable, "-c", CLIENT, server.url], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as client:
        assert client.stdout.readline() == b"ready\n"
        assert remote.clients() == 2
        client.send_signal(signal.SIGSTOP)
        deadline = time.monotonic() + 20
        while remote.clients() == 2:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        client.kill()


def test_a_peer_busy_in_c_code_that_holds_the_gil_is_not_dead(serving, connected):
    server = serving(SOURCE)
    # Long enough for the answer to a ping to come in time on a machine with much else to do.
    remote = connected(server.url, heartbeat=2.0)
    other = connected(server.url, heartbeat=2.0)
    results = []
    thread = threading.Thread(target=lambda: results.append(remote.hold_gil(4)))
    thread.start()
    # This one waits for a server that cannot even begin with it.
    assert other.echo("after") == "after"
    thread.join(20)
    assert results == ["held"]
    assert not session_of(remote).closed


def test_a_client_busy_in_c_code_that_holds_the_gil_is_not_dead(serving, python):
    server = serving(SOURCE, heartbeat=1.0)
    done = python(
        """
        import ctypes, sys, threading, objspace
        remote = objspace.connect(sys.argv[1])
        # A thread that waits for a reply holds the right to read, and cannot go on.
        waiting = threading.Thread(target=remote.wait_for_gate)
        waiting.start()
        while remote.echo(1) != 1:
            pass
        ctypes.PyDLL(None).usleep(3_000_000)
        print(remote.echo("alive"))
        remote.gate.set()
        waiting.join()
        """,
        server.url,
    )
    assert (done.stdout, done.stderr) == ("alive\n", "")


STOPPED_CLIENT = """
import sys, objspace
remote = objspace.connect(sys.argv[1], heartbeat=1.0)
print("ready", flush=True)
sys.stdin.readline()
print(remote.call_late(lambda: "alive", 1.5), flush=True)
"""


def test_a_client_that_was_stopped_does_not_take_its_own_silence_for_the_peer_s(serving):
    server = serving(SOURCE)
    with subprocess.Popen(
        [sys.executable, "-c", STOPPED_CLIENT, server.url],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as client:
        assert client.stdout.readline() == b"ready\n"
        client.send_signal(signal.SIGSTOP)
        # The time that it is stopped for is what is tested, and waits for nothing.
        time.sleep(1.0)
        client.send_signal(signal.SIGCONT)
        assert client.communicate(b"go\n", 20) == (b"alive\n", b"")


def test_a_long_call_is_not_a_dead_peer(serving, connected):
    server = serving(SOURCE)
    remote = connected(server.url, heartbeat=0.5)
    assert remote.call_late(lambda: "late", 2) == "late"


def test_wrong_heartbeats_are_refused(serving):
    with pytest.raises(ValueError, match="heartbeat="):
        objspace.connect("tcp://127.0.0.1:1", heartbeat=0.001)
    server = serving(SOURCE)
    objspace.connect(server.url, heartbeat=None)


# ---------------------------------------------------------------------- in good order


def test_a_server_that_closes_lets_calls_finish_and_refuses_new_ones(serving, connected):
    server = serving(
        SOURCE
        + """
def close(grace):
    threading.Thread(target=_server.close, args=(grace,)).start()
"""
    )
    remote, other = connected(server.url), connected(server.url)
    inside, refused = threading.Event(), threading.Event()
    results = []

    def back():
        inside.set()
        assert refused.wait(20)
        # A call that is part of one that runs is no new one.
        return remote.echo("nested")

    running = threading.Thread(target=lambda: results.append(remote.call(back)))
    running.start()
    assert inside.wait(20)
    other.close(20)

    def until_refused():
        for number in itertools.count():
            other.echo(number)

    with late(20), pytest.raises(ConnectionRefusedError, match="closing"):
        until_refused()
    with pytest.raises(ConnectionError):
        objspace.connect(server.url)
    assert results == []
    refused.set()
    running.join(20)
    assert results == ["nested"]

    def until_lost():
        while True:
            with contextlib.suppress(ConnectionRefusedError):
                remote.echo(1)

    with late(20), pytest.raises(ConnectionLost, match="the server is closing"):
        until_lost()


APP = """
import threading, time
started = threading.Event()

def work(seconds):
    time.sleep(seconds)
    return "done"
"""


@pytest.mark.parametrize(("grace", "finished"), [("20", True), ("0.2", False)])
def test_sigterm_lets_calls_finish_within_the_grace(tmp_path, connected, grace, finished):
    (tmp_path / "app.py").write_text(APP)
    with subprocess.Popen(
        [
            *[sys.executable, "-m", "objspace", "serve", "app:work"],
            *["--bind", f"unix://{tmp_path}/s", "--grace", grace],
        ],
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert "serving work" in process.stderr.readline()
        remote = connected(f"unix://{tmp_path}/s")
        work = remote.work
        results = []

        def call():
            try:
                results.append(work(1.5))
            except ConnectionLost as error:
                results.append(error)

        sent = session_of(remote).stats()["messages_sent"]
        thread = threading.Thread(target=call)
        thread.start()
        while session_of(remote).stats()["messages_sent"] == sent:
            time.sleep(0.01)
        time.sleep(0.1)  # the call is on its way; the signal must not overtake it
        process.terminate()
        thread.join(20)
        assert process.wait(20) == 0
        assert process.stderr.read() == ""
    if finished:
        assert results == ["done"]
    else:
        assert isinstance(results[0], ConnectionLost)
        assert "the server is closing" in str(results[0])


def test_a_value_that_cannot_be_sent_fails_its_call_only(link):
    """RPyC: an error while a reply was boxed ended the connection."""
    remote = link(
        SOURCE
        + """
class Hostile:
    @property
    def __class__(self):
        raise RuntimeError("no class")

    def __reduce__(self):
        raise RuntimeError("no")

class Nameless(type):
    @property
    def __module__(cls):
        raise AttributeError("no module")

class Odd(metaclass=Nameless):
    pass

def hostile():
    return Hostile()

def odd():
    return Odd()

def deep():
    value = ()
    for _ in range(5000):
        value = (value,)
    return value
"""
    )
    for ask in (remote.hostile, remote.odd, remote.deep):
        with contextlib.suppress(Exception):
            ask()
        assert remote.echo(1) == 1
    with pytest.raises(Exception, match="nest 180 deep"):
        remote.deep()
    assert remote.echo(2) == 2
