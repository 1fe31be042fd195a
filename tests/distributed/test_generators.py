"""Generators, iterators and context managers that live in the other process."""

import contextlib

import objspace
import pytest

from .test_contents import Count

SETUP = """
import contextlib, io
events = []

def talk():
    got = yield "first"
    try:
        while True:
            got = yield ("got", got)
    except KeyError as error:
        events.append(repr(error))
        yield "caught"
    finally:
        events.append("closed")
    return "done"

def returns():
    yield 1
    return "the value"

def fails():
    yield 1
    raise LookupError("inside")

def delegates(inner):
    result = yield from inner
    return ("inner returned", result)

def numbers(n):
    yield from range(n)

class Manager:
    def __init__(self, suppress=()):
        self.suppress = suppress
    def __enter__(self):
        events.append("enter")
        return self
    def __exit__(self, kind, error, traceback):
        events.append((kind, error, traceback is None))
        return kind is not None and issubclass(kind, self.suppress)

class Failing:
    def __enter__(self):
        return self
    def __exit__(self, *exception):
        raise RuntimeError("in the exit")

class Error(Exception):
    pass

def raises():
    raise Error("ours")

@contextlib.contextmanager
def managed():
    events.append("begin")
    try:
        yield "inside"
    except KeyError:
        events.append("suppressed")
    finally:
        events.append("end")

def is_mine(error):
    return type(error) is Error

class Counter:
    def __init__(self, n):
        self.n = n
    def __iter__(self):
        return self
    def __next__(self):
        if not self.n:
            raise StopIteration
        self.n -= 1
        return self.n

def lines():
    return io.StringIO("a\\nb\\n")
"""


def test_send_throw_and_close(link):
    remote = link(SETUP)
    talk = remote.talk()
    assert next(talk) == "first"
    assert talk.send(5) == ("got", 5)
    assert next(talk) == ("got", None)
    assert talk.throw(KeyError("thrown")) == "caught"
    with pytest.raises(StopIteration) as stop:
        talk.send(None)
    assert stop.value.value == "done"
    assert list(remote.events) == ["KeyError('thrown')", "closed"]
    other = remote.talk()
    next(other)
    other.close()
    with pytest.raises(StopIteration):
        next(other)
    unknown = remote.talk()
    next(unknown)
    with pytest.raises(ZeroDivisionError, match="not caught"):
        unknown.throw(ZeroDivisionError("not caught"))


def test_the_value_of_a_remote_generator_reaches_yield_from(link):
    remote = link(SETUP)

    def local():
        result = yield from remote.returns()
        return result

    generator = local()
    assert next(generator) == 1
    with pytest.raises(StopIteration) as stop:
        next(generator)
    assert stop.value.value == "the value"


def test_send_throw_and_close_pass_through_yield_from(link):
    remote = link(SETUP)

    def local():
        return (yield from remote.talk())

    generator = local()
    assert next(generator) == "first"
    assert generator.send("x") == ("got", "x")
    assert generator.throw(KeyError("through")) == "caught"
    generator.close()
    assert list(remote.events) == ["KeyError('through')", "closed"]


def test_a_remote_generator_delegates_to_a_local_one(link):
    remote = link(SETUP)
    seen = []

    def local():
        try:
            seen.append((yield "local"))
        finally:
            seen.append("closed")
        return "ours"

    generator = remote.delegates(local())
    assert next(generator) == "local"
    with pytest.raises(StopIteration) as stop:
        generator.send("sent")
    assert stop.value.value == ("inner returned", "ours")
    assert seen == ["sent", "closed"]


def test_an_error_inside_ends_the_loop_with_it(link):
    remote = link(SETUP)
    seen = []
    with pytest.raises(LookupError, match="inside"):
        seen.extend(remote.fails())
    assert seen == [1]


def test_each_item_is_one_round_trip(link):
    remote = link(SETUP)
    generator = remote.numbers(5)
    with Count(remote) as count:
        items = [item for item in generator]  # noqa: C416
    assert items == [0, 1, 2, 3, 4]
    assert count.round_trips == 6


def test_iterators_of_every_kind(link):
    remote = link(SETUP)
    assert list(remote.Counter(3)) == [2, 1, 0]
    assert list(remote.lines()) == ["a\n", "b\n"]
    counter = remote.Counter(2)
    assert iter(counter) is counter
    assert next(counter) == 1
    assert next(counter) == 0
    assert next(counter, "over") == "over"


def test_context_managers_get_the_true_exception(link):
    remote = link(SETUP)
    with remote.Manager() as manager:
        assert type(manager) is remote.Manager
    events = remote.events
    assert events[1] == (None, None, True)
    mine = KeyError("mine")
    with pytest.raises(KeyError) as caught, remote.Manager():
        raise mine
    assert caught.value is mine
    assert events[3][0] is KeyError
    assert events[3][1] is mine
    with remote.Manager((KeyError,)):
        raise KeyError("suppressed")
    with pytest.raises(RuntimeError, match="in the exit") as failed, remote.Failing():
        raise mine
    assert failed.value.__context__ is mine


def test_an_exception_of_theirs_is_theirs_in_their_exit(link):
    remote = link(SETUP)
    try:
        remote.raises()
    except remote.Error as error:
        assert remote.is_mine(error)
    else:
        pytest.fail("nothing was raised")
    with remote.Manager((remote.Error,)):
        remote.raises()
    assert remote.events[1][0] is remote.Error


def test_a_remote_contextmanager_function(link):
    remote = link(SETUP)
    with remote.managed() as inside:
        assert inside == "inside"
    with remote.managed():
        raise KeyError("x")
    with contextlib.ExitStack() as stack:
        assert stack.enter_context(remote.managed()) == "inside"
    assert list(remote.events) == [
        "begin",
        "end",
        "begin",
        "suppressed",
        "end",
        "begin",
        "end",
    ]


def test_reading_ahead_takes_one_message_for_several_items(link):
    remote = link(SETUP)
    for total, n, messages in [(10, 5, 3), (10, 4, 3), (3, 64, 1), (0, 4, 1), (8, 1, 9)]:
        generator = remote.numbers(total)
        with Count(remote) as count:
            assert list(objspace.read_ahead(generator, n)) == list(range(total))
        assert (count.round_trips, count.messages_received) == (messages, messages)


def test_reading_ahead_loses_neither_items_nor_errors_nor_values(link):
    remote = link(SETUP)
    seen = []
    with pytest.raises(LookupError, match="inside"):
        seen.extend(objspace.read_ahead(remote.fails(), 10))
    assert seen == [1]
    reader = objspace.read_ahead(remote.returns(), 10)

    def local():
        return (yield from reader)

    generator = local()
    assert next(generator) == 1
    with pytest.raises(StopIteration) as stop:
        next(generator)
    assert stop.value.value == "the value"
    with pytest.raises(StopIteration):
        next(reader)


def test_reading_ahead_of_what_is_here_changes_nothing(link):
    remote = link(SETUP)
    assert list(objspace.read_ahead([1, 2])) == [1, 2]
    assert list(objspace.read_ahead(remote.Counter(3), 2)) == [2, 1, 0]
    for n in (0, 5000):
        with pytest.raises(ValueError, match="from 1 to 4096"):
            objspace.read_ahead(remote.numbers(1), n)
    with pytest.raises(TypeError, match="not iterable"):
        objspace.read_ahead(remote.Manager)
