"""Sessions: names, ends, threads and tables."""

import gc
import os
import signal
import threading
import time

import objspace
import pytest
from objspace.distributed import (
    ConnectionLost,
    ObjectNotFound,
    ProtocolError,
    Session,
    pair,
    session_of,
)

SETUP = """
import os, threading, time
numbers = [3, 1, 2]
table = {"a": 1, "b": [1, 2]}

class Thing:
    pass

def make():
    return Thing()

def call(function, *args, **kwargs):
    return function(*args, **kwargs)

def thread_number():
    return threading.get_ident()

def wait(event):
    event.wait(20)
    return "waited"

def sleep(seconds):
    time.sleep(seconds)
    return seconds

def pid():
    return os.getpid()

def echo(value):
    return value

def nest(depth, back):
    return 0 if depth == 0 else 1 + back(depth - 1)
"""


def test_names_are_listed_and_missing_ones_say_what_there_is(link):
    remote = link(SETUP)
    session = session_of(remote)
    assert "numbers" in dir(remote)
    assert "table" in session.remote_keys()
    with pytest.raises(ObjectNotFound, match=r"nothing_like_it.*numbers"):
        session.get_remote("nothing_like_it")
    with pytest.raises(AttributeError, match="nothing_like_it"):
        remote.nothing_like_it


def test_containers_have_their_true_types(link):
    remote = link(SETUP)
    assert type(remote.numbers) is list
    assert isinstance(remote.table, dict)
    assert sorted(remote.numbers) == [1, 2, 3]
    assert remote.numbers == [3, 1, 2]
    assert remote.numbers == [3, 1, 2]
    assert remote.table["b"][1] == 2
    assert type(remote.make) is type(lambda: 0)


def test_the_same_object_has_the_same_proxy_while_one_is_alive(link):
    remote = link(SETUP)
    numbers = remote.numbers
    assert remote.numbers is numbers
    first = remote.table["b"]
    assert remote.table["b"] is first


@pytest.mark.parametrize(
    "value",
    [
        None,
        True,
        False,
        0,
        -1,
        63,
        64,
        2**63,
        -(2**63),
        2**63 - 1,
        10**40,
        -(10**40),
        1.5,
        float("inf"),
        2 - 3j,
        "",
        "text",
        "ü€😀",
        "\ud800",
        b"",
        b"bytes" * 40_000,
        ...,
        NotImplemented,
        (),
        (1, (2, "x")),
        frozenset({1, 2}),
        slice(1, None, 2),
        range(3, 9, 2),
        int,
        ValueError,
        len,
    ],
    ids=lambda value: repr(value)[:20],
)
def test_values_that_are_copied_come_back_equal(link, value):
    result = link(SETUP).echo(value)
    assert result == value
    assert type(result) is type(value)


def test_standard_library_values_are_copied(link):
    import datetime
    import decimal
    import fractions
    import ipaddress
    import pathlib
    import uuid
    import zoneinfo

    echo = link(SETUP).echo
    berlin = zoneinfo.ZoneInfo("UTC")
    for value in [
        datetime.date(2026, 1, 2),
        datetime.time(1, 2, 3, 4, fold=1),
        datetime.datetime(2026, 1, 2, 3, tzinfo=datetime.UTC),
        datetime.datetime(2026, 1, 2, 3, tzinfo=berlin, fold=1),
        datetime.timedelta(-1, 2, 3),
        datetime.timezone(datetime.timedelta(hours=1), "CET"),
        decimal.Decimal("-1.50E+7"),
        decimal.Decimal("sNaN"),
        fractions.Fraction(1, 3),
        uuid.UUID(int=5),
        pathlib.PurePosixPath("/a/b"),
        pathlib.PureWindowsPath("c:/a"),
        ipaddress.ip_address("127.0.0.1"),
        ipaddress.ip_address("::1"),
        ipaddress.ip_network("10.0.0.0/8"),
        ipaddress.ip_interface("::1/64"),
    ]:
        result = echo(value)
        assert type(result) is type(value)
        assert repr(result) == repr(value)


def test_a_callback_runs_on_the_calling_thread(link):
    remote = link(SETUP)
    seen = []
    remote.call(lambda: seen.append(threading.get_ident()))
    assert seen == [threading.get_ident()]


def test_callbacks_nest_in_both_directions(link):
    remote = link(SETUP)

    def back(depth):
        return 0 if depth == 0 else 1 + remote.nest(depth - 1, back)

    assert remote.nest(20, back) == 20


def test_an_idle_peer_serves_callbacks(link):
    """The client waits for nothing, and is called all the same."""
    remote = link(
        SETUP
        + "def later(f):\n    thread = threading.Thread(target=f)\n    thread.start()\n    return thread\n"
    )
    called = threading.Event()
    thread = remote.later(called.set)
    assert called.wait(20)
    thread.join(20)


def test_a_short_call_is_not_held_up_by_a_long_one(link):
    remote = link(SETUP)
    event = threading.Event()
    results = []
    long = threading.Thread(target=lambda: results.append(remote.wait(event)))
    long.start()
    assert [remote.echo(n) for n in range(50)] == list(range(50))
    assert results == []
    event.set()
    long.join(20)
    assert results == ["waited"]


def test_many_threads_share_one_session(link):
    remote = link(SETUP)
    echo, call = remote.echo, remote.call
    failures = []

    def work(number):
        for turn in range(50):
            value = number * 1000 + turn
            if echo(value) != value or call(lambda v: v + 1, value) != value + 1:
                failures.append(value)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not any(thread.is_alive() for thread in threads)
    assert failures == []


def test_big_messages_in_both_directions_at_once():
    here, there = pair({"echo": lambda data: data}, {"echo": lambda data: data})
    data = os.urandom(1 << 20) * 16
    results = []
    other = threading.Thread(target=lambda: results.append(there.remote.echo(data) == data))
    other.start()
    results.append(here.remote.echo(data) == data)
    other.join(60)
    assert results == [True, True]
    here.close()


def wait_until(condition, timeout=20.0):
    """Wait for what another thread or process is to do."""
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        threading.Event().wait(0.002)


def test_objects_made_and_dropped_leave_both_tables_as_they_were():
    class Thing:
        pass

    here, there = pair({}, {"make": Thing})
    make = here.remote.make
    make()
    gc.collect()
    wait_until(lambda: here.stats()["imports"] == there.stats()["exports"])
    before = here.stats()["imports"], there.stats()["exports"]
    things = [make() for _ in range(10_000)]
    assert here.stats()["imports"] - before[0] == 10_000
    sent = here.stats()["messages_sent"]
    del things
    gc.collect()
    wait_until(lambda: (here.stats()["imports"], there.stats()["exports"]) == before)
    assert here.stats()["messages_sent"] - sent <= 4
    here.close()


def test_close_makes_proxies_raise_at_once(link):
    remote = link(SETUP)
    numbers = remote.numbers
    session_of(remote).close()
    with pytest.raises(ConnectionLost, match="closed on this side"):
        numbers.append(1)
    assert issubclass(ConnectionLost, ConnectionError)


def test_a_killed_server_is_connection_lost_at_once():
    child = objspace.spawn(setup=SETUP)
    remote = child.remote
    pid = remote.pid()
    failed = []

    def long():
        started = time.monotonic()
        try:
            remote.sleep(60)
        except ConnectionLost as error:
            failed.append((time.monotonic() - started, str(error)))

    thread = threading.Thread(target=long)
    thread.start()
    remote.echo(1)
    os.kill(pid, signal.SIGKILL)
    thread.join(5)
    assert not thread.is_alive()
    assert "child process" in failed[0][1]
    with pytest.raises(ConnectionLost):
        remote.echo(1)
    child.close()


INTERRUPTED = """
import os, signal, sys, threading
import objspace

child = objspace.spawn(setup=sys.argv[1])
remote = child.remote
started = threading.Event()

def interrupt():
    started.wait(20)
    os.kill(os.getpid(), signal.SIGINT)

thread = threading.Thread(target=interrupt)
thread.start()
try:
    remote.tell_and_sleep(started.set, 60)
except KeyboardInterrupt:
    print("interrupted", remote.echo("alive"))
thread.join()
child.process.kill()
"""

TELL_AND_SLEEP = """
def tell_and_sleep(tell, seconds):
    tell()
    return sleep(seconds)
"""


def test_ctrl_c_cancels_the_call_and_keeps_the_session(python):
    done = python(INTERRUPTED, SETUP + TELL_AND_SLEEP)
    assert (done.stdout, done.stderr) == ("interrupted alive\n", "")


def test_a_custom_channel_of_two_functions():
    import queue

    there_queue, here_queue = queue.Queue(), queue.Queue()
    here = Session(there_queue.put, here_queue.get)
    there = Session(here_queue.put, there_queue.get, {"numbers": [1, 2, 3]})
    server = threading.Thread(target=there.serve)
    server.start()
    assert type(here.remote.numbers) is list
    assert sum(here.remote.numbers) == 6
    here.close()
    there_queue.put(b"")
    server.join(20)
    assert not server.is_alive()


def test_session_of_refuses_local_objects():
    with pytest.raises(TypeError, match="not a local 'list' object"):
        session_of([])


def test_a_whole_container_is_one_round_trip(link):
    remote = link(SETUP)
    numbers, session = remote.numbers, session_of(remote)

    def trips(action):
        before = session.stats()["round_trips"]
        result = action()
        return result, session.stats()["round_trips"] - before

    assert trips(lambda: sorted(numbers)) == ([1, 2, 3], 1)
    assert trips(lambda: list(numbers)) == ([3, 1, 2], 1)
    assert trips(lambda: [*numbers]) == ([3, 1, 2], 1)
    assert trips(lambda: [n + 0 for n in numbers]) == ([3, 1, 2], 1)
    assert trips(lambda: numbers == [3, 1, 2]) == (True, 1)
    assert trips(lambda: len(numbers)) == (3, 1)
    # A length that is asked for by itself is never answered from an earlier snapshot.
    iterator = iter(numbers)
    numbers.append(4)
    assert len(numbers) == 4
    assert list(iterator) == [3, 1, 2]


def test_a_reply_beyond_the_limit_of_a_message_is_an_error_of_that_call_only():
    # A function of the other side: `bytes` itself would travel by name and run here.
    here, there = pair({}, {"zeros": lambda count: bytes(count)})
    with pytest.raises(ProtocolError, match="limit"):
        here.remote.zeros(257 << 20)
    assert here.remote.zeros(3) == b"\0\0\0"
    here.close()
    there.close()


def test_a_child_in_which_a_call_first_imports_threading_leaves_by_itself():
    import objspace
    from objspace.distributed import session_of

    setup = """
import objspace, sys

def load():
    known = "threading" in sys.modules
    import threading
    return known, threading.current_thread() is threading.main_thread()

server = objspace.Server({"load": load}, "tcp://127.0.0.1:0").start()
address = server.address
"""
    child = objspace.spawn(setup=setup)
    remote = objspace.connect(child.remote.address)
    assert remote.load() == (True, False)
    session_of(remote).close()
    child.close()
    assert child.process.returncode == 0
