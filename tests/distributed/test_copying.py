"""The rules of copying: one case for each row of the table, in both directions, also nested."""

import array
import asyncio
import collections
import datetime
import decimal
import enum
import fractions
import io
import ipaddress
import operator
import pathlib
import re
import socket
import sys
import threading
import types
import uuid
import zoneinfo

import pytest

SETUP = """
import array, asyncio, collections, contextlib, dataclasses, datetime, enum, fractions, io, operator
import pathlib, re, socket, sys, threading, types

def echo(value):
    return value

def kept(value):
    # Two references to one thing: does it arrive as one thing?
    return [value, value]

def same(one, other):
    return one is other

def names(value):
    return type(value).__module__, type(value).__qualname__

def make(source):
    return eval(source, globals())

def is_mine(value, name):
    return value is globals()[name]

def identity(value, other):
    return value is other

class Colour(enum.Enum):
    RED = 1
    GREEN = 2

class Flags(enum.Flag):
    A = 1
    B = 2

class Level(enum.IntEnum):
    LOW = 1

Pair = collections.namedtuple("Pair", "x y")

@dataclasses.dataclass
class Data:
    a: int
    b: list

class Plain:
    def method(self):
        return self

def generator():
    yield 1

async def coroutine():
    return 1

async def asynchronous():
    yield 1

def frame():
    return sys._getframe()

def trace():
    try:
        raise ValueError("x")
    except ValueError as error:
        return error.__traceback__
"""

BERLIN = zoneinfo.ZoneInfo("UTC")

COPIED = [
    None,
    True,
    0,
    -(2**70),
    1.5,
    float("-inf"),
    1 - 2j,
    "text",
    "\ud800",
    b"bytes",
    ...,
    NotImplemented,
    (),
    (1, ("x", (None,))),
    frozenset({1, frozenset({2, "x"})}),
    slice(1, None, 2),
    slice("a", (1, 2)),
    range(1, 10, 3),
    datetime.date(2026, 1, 2),
    datetime.time(1, 2, 3, 4, tzinfo=datetime.UTC, fold=1),
    datetime.datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=BERLIN),
    datetime.datetime(2026, 1, 2, 3, tzinfo=datetime.timezone(datetime.timedelta(hours=-3), "X")),
    datetime.timedelta(-1, 2, 3),
    datetime.UTC,
    BERLIN,
    decimal.Decimal("1.10"),
    fractions.Fraction(-1, 3),
    uuid.UUID(int=7),
    pathlib.PurePosixPath("/a/b"),
    pathlib.PureWindowsPath("c:/x"),
    ipaddress.ip_address("127.0.0.1"),
    ipaddress.ip_address("::1"),
    ipaddress.ip_network("10.0.0.0/8"),
    ipaddress.ip_interface("::1/64"),
]

BY_NAME = [int, list, type, object, len, print, ValueError, KeyError, BaseExceptionGroup]


@pytest.mark.parametrize("value", COPIED, ids=lambda value: repr(value)[:40])
def test_immutable_values_are_copied(link, value):
    remote = link(SETUP)
    for sent in (value, (value, "nested"), {"in": value}["in"]):
        result = remote.echo(sent)
        assert type(result) is type(sent)
        assert repr(result) == repr(sent)
    assert remote.names(value) == (type(value).__module__, type(value).__qualname__)
    # As an item of something that stays where it is.
    assert repr(remote.kept(value)[1]) == repr(value)


@pytest.mark.parametrize("value", BY_NAME, ids=lambda value: value.__name__)
def test_builtins_go_by_name(link, value):
    remote = link(SETUP)
    assert remote.echo(value) is value
    assert remote.make(value.__name__) is value


REFERRED = {
    "list": ("[1, [2]]", list),
    "dict": ("{'a': {'b': 1}}", dict),
    "set": ("{1, 2}", set),
    "bytearray": ("bytearray(b'x')", bytearray),
    "array": ("array.array('i', [1])", array.array),
    "memoryview": ("memoryview(b'abc')", memoryview),
    "deque": ("collections.deque([1])", collections.deque),
    "OrderedDict": ("collections.OrderedDict(a=1)", collections.OrderedDict),
    "defaultdict": ("collections.defaultdict(int)", collections.defaultdict),
    "Counter": ("collections.Counter('a')", collections.Counter),
    "ChainMap": ("collections.ChainMap({})", collections.ChainMap),
    "SimpleNamespace": ("types.SimpleNamespace(a=[1])", types.SimpleNamespace),
    "mappingproxy": ("types.MappingProxyType({'a': 1})", types.MappingProxyType),
    "function": ("echo", types.FunctionType),
    "lambda": ("lambda: 1", types.FunctionType),
    "method": ("Plain().method", types.MethodType),
    "builtin method": ("[].append", types.BuiltinMethodType),
    "generator": ("generator()", types.GeneratorType),
    "module": ("types", types.ModuleType),
    "frame": ("frame()", types.FrameType),
    "code": ("echo.__code__", types.CodeType),
    "traceback": ("trace()", types.TracebackType),
    "text file": ("io.StringIO('x')", io.StringIO),
    "bytes file": ("io.BytesIO(b'x')", io.BytesIO),
    "dict keys": ("{'a': 1}.keys()", type({}.keys())),
    "list iterator": ("iter([1])", type(iter([]))),
    "enumerate": ("enumerate([1])", enumerate),
    "zip": ("zip([1], [2])", zip),
    "map": ("map(str, [1])", map),
    "property": ("property(lambda self: 1)", property),
}


@pytest.mark.parametrize("name", REFERRED)
def test_the_rest_is_by_reference_with_its_true_type(link, name, no_leaks):
    remote = link(SETUP)
    source, kind = REFERRED[name]
    there = remote.make(source)
    assert type(there) is kind
    assert isinstance(there, kind)
    # The same object each time, and itself where it lives.
    assert remote.echo(there) is there
    one, other = remote.kept(there)
    assert one is there
    assert other is there
    assert remote.same(there, there)
    # The other direction: ours is of its true type over there, and comes home as itself.
    here = _make_here(source)
    assert remote.names(here) == (kind.__module__, kind.__qualname__)
    assert remote.echo(here) is here
    assert remote.kept((here, [here]))[0][0] is here


def _make_here(source):
    scope = {}
    exec(SETUP, scope)
    return scope["make"](source)


def test_coroutines_are_by_reference(link):
    remote = link(SETUP)
    for name, kind in [
        ("coroutine", types.CoroutineType),
        ("asynchronous", types.AsyncGeneratorType),
    ]:
        there = getattr(remote, name)()
        assert type(there) is kind
        assert remote.echo(there) is there
        if kind is types.CoroutineType:
            there.close()


@pytest.mark.parametrize(
    "source",
    ["threading.Lock()", "threading.RLock()", "threading.Event()", "re.compile('a+')"],
)
def test_locks_events_and_patterns_work_where_they_are(link, source):
    remote = link(SETUP)
    there = remote.make(source)
    assert remote.echo(there) is there
    if "Lock" in source:
        with there:
            pass
    elif "Event" in source:
        there.set()
        assert there.is_set()
    else:
        assert there.fullmatch("aaa").group() == "aaa"
        assert there.sub("b", "xax") == "xbx"


def test_sockets_and_files_are_used_where_they_are(link, tmp_path):
    remote = link(SETUP)
    ours, theirs = remote.make("socket.socketpair()")
    ours.sendall(b"hello")
    assert theirs.recv(5) == b"hello"
    ours.close()
    theirs.close()
    path = tmp_path / "file"
    with remote.make("open")(str(path), "w") as file:
        file.write("a\nb\n")
    assert path.read_text() == "a\nb\n"
    if link.transport != "pair":
        file = remote.make(f"io.open({str(path)!r})")
        assert list(file) == ["a\n", "b\n"]
        file.close()


def test_classes_of_users_and_their_objects(link):
    remote = link(SETUP)
    data = remote.Data(1, [2])
    assert type(data) is remote.Data
    assert data == remote.Data(1, [2])
    assert remote.Colour.RED is remote.make("Colour.RED")
    assert type(remote.Colour.RED) is remote.Colour
    assert remote.is_mine(remote.Colour, "Colour")
    assert remote.identity(remote.Colour.RED, remote.make("Colour.RED"))
    assert remote.Level.LOW == 1
    assert remote.Flags.A | remote.Flags.B == remote.make("Flags.A | Flags.B")
    pair = remote.Pair(1, [2])
    assert isinstance(pair, tuple)
    assert (pair.x, pair[1]) == (1, [2])
    x, y = pair
    assert (x, y) == (1, [2])


def test_cycles_travel_by_reference(link, no_leaks):
    remote = link(SETUP)
    echo = remote.echo
    mine = []
    mine.append((mine, {"again": mine}))
    assert echo(mine) is mine
    there = remote.make("(lambda x: (x.append(x), x)[1])([])")
    assert there[0] is there
    holder = remote.make("types.SimpleNamespace()")
    holder.itself = (holder, holder)
    assert holder.itself[0] is holder
    assert holder.itself[1] is holder


def test_too_deep_tuples_are_an_error_that_says_so(link):
    remote = link(SETUP)
    deep = ()
    for _ in range(1000):
        deep = (deep,)
    with pytest.raises(RecursionError, match="180 deep"):
        remote.echo(deep)
    assert remote.echo(1) == 1


def test_the_cases_here_use_what_they_import():
    """The other side evaluates sources with these modules; so does this one."""
    modules = (asyncio, enum, operator, re, socket, sys, threading)
    assert all(isinstance(module, types.ModuleType) for module in modules)
