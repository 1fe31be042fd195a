"""C code over proxies of containers: it gives what it gives for a real one, or it raises.

Each consumer runs over a real object and over a delegating proxy of an equal one. A different result
fails the test, whatever it is. What raises over the proxy alone is the table in `docs/proxy-limits.md`,
which `OBJSPACE_WRITE_DOCS=1` writes.
"""

import array
import base64
import binascii
import bisect
import collections
import contextlib
import copy
import csv
import ctypes
import datetime
import decimal
import enum
import fractions
import functools
import hashlib
import heapq
import io
import itertools
import json
import marshal
import math
import operator
import os
import pickle
import pprint
import random
import re
import socket
import sqlite3
import statistics
import string
import struct
import subprocess
import sys
import textwrap
import types
import zlib
from pathlib import Path

import pytest

TABLE = Path(__file__).parents[2] / "docs" / "proxy-limits.md"
TITLE = """# C code that refuses proxies

What works over a real container and raises over a proxy of one, among {count} uses of the interpreter
and the standard library that a test drives (`OBJSPACE_WRITE_DOCS=1 pytest tests/proxy/test_limits.py`).
All others give what they give for a real object. What to do instead: hand over a copy, `list(p)`.

| container | use | raises |
| --- | --- | --- |
"""


NAMED = collections.namedtuple("NAMED", "a b c")  # noqa: PYI024


def writer(write, **options):
    def use(p):
        file = io.StringIO()
        write(csv.writer(file, **options), p)
        return file.getvalue()

    return use


def query(p):
    with contextlib.closing(sqlite3.connect(":memory:")) as connection:
        return connection.execute(*p).fetchall()


def many(p):
    with contextlib.closing(sqlite3.connect(":memory:")) as connection:
        connection.execute("create table t (a, b)")
        connection.executemany("insert into t values (?, ?)", [p, p])
        return connection.execute("select * from t").fetchall()


def changed(change):
    """What an object is after a change, and what the change gave."""

    def use(p):
        result = change(p)
        return (None if result is p else result), copy.deepcopy(type(p)(p))

    return use


def run(*command):
    return subprocess.run(*command, capture_output=True, text=True, check=True).stdout


def sent(p):
    a, b = socket.socketpair()
    with a, b:
        a.send(p)
        return b.recv(100)


def sort(p):
    p.sort(reverse=True)
    return list(p)


SEQUENCE = {
    "list(p)": list,
    "tuple(p)": tuple,
    "set(p)": set,
    "frozenset(p)": frozenset,
    "iter(p)": lambda p: list(iter(p)),
    "reversed(p)": lambda p: list(reversed(p)),
    "len(p)": len,
    "bool(p)": bool,
    "repr(p)": repr,
    "str(p)": str,
    "f'{p}'": lambda p: f"{p}",
    "'%s' % (p,)": lambda p: "%s" % (p,),
    "p[0], p[-1], p[1:]": lambda p: (p[0], p[-1], p[1:]),
    "p == q, p < q": lambda p: (p == p[:], p < p[:], p != p[:], p >= p[:]),
    "p + q, p * 2, 2 * p": lambda p: (p + p[:], p * 2, 2 * p),
    "x in p": lambda p: (3 in p, 99 in p),
    "sorted(p)": sorted,
    "sum, min, max": lambda p: (sum(p), min(p), max(p)),
    "any, all": lambda p: (any(p), all(p)),
    "enumerate(p)": lambda p: list(enumerate(p)),
    "zip(p, p)": lambda p: list(zip(p, p, strict=True)),
    "map, filter": lambda p: (list(map(str, p)), list(filter(None, p))),
    "[*p], f(*p)": lambda p: ([*p], (lambda *a: a)(*p)),
    "a, *b = p": lambda p: (lambda a, *b: (a, b))(*p),
    "slice assignment": lambda p: operator.setitem(l := [1, 2], slice(0, 1), p) or l,
    "list.extend(p), l += p": lambda p: (l := [0]).extend(p) or operator.iadd(l, p),
    "dict.fromkeys(p)": dict.fromkeys,
    "str.join": lambda p: ",".join(map(str, p)),
    "print(*p)": lambda p: print(*p, file=(f := io.StringIO())) or f.getvalue(),
    "slice.indices, range(len(p))": lambda p: [p[i] for i in range(len(p))],
    "isinstance(p, T)": lambda p: (
        isinstance(p, list),
        isinstance(p, tuple),
        isinstance(p, (list, tuple)),
    ),
    "copy.copy": copy.copy,
    "copy.deepcopy": copy.deepcopy,
    "pickle 0": lambda p: pickle.loads(pickle.dumps(p, 0)),
    "pickle 2": lambda p: pickle.loads(pickle.dumps(p, 2)),
    "pickle 5": lambda p: pickle.loads(pickle.dumps(p, 5)),
    "marshal.dumps": lambda p: marshal.loads(marshal.dumps(p)),
    "json.dumps": json.dumps,
    "json.dumps(indent=1)": lambda p: json.dumps(p, indent=1),
    "json.dump": lambda p: json.dump(p, f := io.StringIO()) or f.getvalue(),
    "pprint": pprint.pformat,
    "csv.writerow": writer(lambda w, p: w.writerow(p)),
    "csv.writerows": writer(lambda w, p: w.writerows([p, p])),
    "sqlite3 parameters": lambda p: query(("select ?, ?, ?", p)),
    "struct.pack(*p)": lambda p: struct.pack("3i", *p),
    "struct.pack_into": lambda p: struct.pack_into("3i", b := bytearray(12), 0, *p) or b,
    "array.array": lambda p: array.array("i", p),
    "array.extend": lambda p: (a := array.array("i")).extend(p) or a,
    "array.fromlist": lambda p: (a := array.array("i")).fromlist(p) or a,
    "bytes(p), bytearray(p)": lambda p: (bytes(p), bytearray(p)),
    "collections.deque": collections.deque,
    "collections.Counter": collections.Counter,
    "collections.UserList": lambda p: collections.UserList(p).data,
    "namedtuple._make": lambda p: NAMED._make(p),
    "OrderedDict.fromkeys": collections.OrderedDict.fromkeys,
    "itertools.chain": lambda p: list(itertools.chain(p, p)),
    "itertools.chain.from_iterable": lambda p: list(itertools.chain.from_iterable([p, p])),
    "itertools.islice": lambda p: list(itertools.islice(p, 2)),
    "itertools.cycle": lambda p: list(itertools.islice(itertools.cycle(p), 5)),
    "itertools.product": lambda p: list(itertools.product(p, repeat=2)),
    "itertools.permutations": lambda p: list(itertools.permutations(p)),
    "itertools.combinations": lambda p: list(itertools.combinations(p, 2)),
    "itertools.accumulate": lambda p: list(itertools.accumulate(p)),
    "itertools.starmap": lambda p: list(itertools.starmap(max, [p])),
    "itertools.tee": lambda p: [list(t) for t in itertools.tee(p)],
    "itertools.zip_longest": lambda p: list(itertools.zip_longest(p, [1])),
    "itertools.groupby": lambda p: [(k, list(g)) for k, g in itertools.groupby(p)],
    "itertools.compress": lambda p: list(itertools.compress(p, p)),
    "functools.reduce": lambda p: functools.reduce(operator.add, p),
    "functools.partial(*p)": lambda p: functools.partial(max, *p)(),
    "operator.itemgetter": lambda p: operator.itemgetter(0, 2)(p),
    "operator.length_hint": operator.length_hint,
    "operator.concat": lambda p: operator.concat(p, p[:]),
    "operator.countOf, indexOf": lambda p: (operator.countOf(p, 3), operator.indexOf(p, 3)),
    "operator.contains": lambda p: operator.contains(p, 3),
    "bisect.bisect": lambda p: (bisect.bisect(p, 2), bisect.bisect_left(p, 2)),
    "heapq.nlargest, nsmallest": lambda p: (heapq.nlargest(2, p), heapq.nsmallest(2, p)),
    "heapq.merge": lambda p: list(heapq.merge(p, p)),
    "statistics": lambda p: (statistics.mean(p), statistics.median(p), statistics.pstdev(p)),
    "statistics.fmean": statistics.fmean,
    "math.fsum, prod": lambda p: (math.fsum(p), math.prod(p)),
    "math.dist": lambda p: math.dist(p, p),
    "math.hypot(*p)": lambda p: math.hypot(*p),
    "decimal.Decimal": lambda p: decimal.Decimal((0, p, 0)),
    "random.choice, sample": lambda p: (random.Random(1).choice(p), random.Random(1).sample(p, 2)),
    "random.shuffle a copy": lambda p: random.Random(1).shuffle(l := list(p)) or l,
    "datetime(*p)": lambda p: datetime.date(2000 + p[0], *p[1:]),
    "ctypes array": lambda p: list((ctypes.c_int * 3)(*p)),
    "exec locals": lambda p: eval("p[0]", {"p": p}),
    "getattr(p, '__len__')()": lambda p: p.__len__(),
    "T.__len__(p)": lambda p: type(p).__len__(p),
    "T.index(p, 3)": lambda p: type(p).index(p, 3),
    "T.__getitem__(p, 0)": lambda p: type(p).__getitem__(p, 0),
    "T.__add__(p, q)": lambda p: type(p).__add__(p, p[:]),
    "T.__iter__(p)": lambda p: list(type(p).__iter__(p)),
    "T.__eq__(p, q)": lambda p: type(p).__eq__(p, p[:]),
    "T.__eq__(q, p)": lambda p: type(p).__eq__(p[:], p),
    "T.__lt__(q, p)": lambda p: type(p).__lt__(p[:], p),
    "T.__contains__(p, 3)": lambda p: type(p).__contains__(p, 3),
    "match [a, b, c]": lambda p: matched(p),
    "sys.getsizeof": lambda p: sys.getsizeof(p) > 0,
    "dir(p)": dir,
    "types.SimpleNamespace(p=p)": lambda p: repr(types.SimpleNamespace(p=p)),
    "enum of p": lambda p: [m.value for m in enum.Enum("E", [(f"m{i}", i) for i in p])],
    "string.Template": lambda p: string.Template("$p").substitute(p=p),
    "textwrap.fill": lambda p: textwrap.fill(str(p)),
    "os.path.join(*map)": lambda p: os.path.join(*map(str, p)),
    "fractions.Fraction(*p)": lambda p: fractions.Fraction(*p[:2]),
    "l[:] = p; del l[p]": lambda p: operator.setitem(l := [0], slice(None), p) or l,
    "numbers in a set": lambda p: {1, *p} | set(p),
    "set.update(p)": lambda p: (s := set()).update(p) or s,
    "set.issubset(p)": lambda p: ({3}.issubset(p), {3}.union(p), {3}.difference(p)),
    "' '.join of str": lambda p: " ".join([str(p)]),
    "str.format(*p)": lambda p: "{} {} {}".format(*p),
    "str.format(p)": lambda p: f"{p[1]} {p}",
    "subprocess arguments": lambda p: run(
        [sys.executable, "-c", "import sys; print(sys.argv[1:])", *map(str, p)]
    ),
}


def matched(p):
    match p:
        case [a, b, c]:
            return "three", a, b, c
        case _:
            return "other"


LIST = SEQUENCE | {
    "p.append, p.sort": lambda p: (p.append(9), sort(p)),
    "heapq.heapify": changed(lambda p: heapq.heapify(p)),
    "heapq.heappush": changed(lambda p: heapq.heappush(p, 0)),
    "heapq.heappop": changed(lambda p: heapq.heappop(p)),
    "heapq.heapreplace": changed(lambda p: heapq.heapreplace(p, 0)),
    "heapq.heappushpop": changed(lambda p: heapq.heappushpop(p, 9)),
    "bisect.insort": changed(lambda p: bisect.insort(p, 2)),
    "random.shuffle": changed(lambda p: random.Random(1).shuffle(p)),
    "list.append(p, x)": changed(lambda p: list.append(p, 9)),
    "list.sort(p)": changed(lambda p: list.sort(p)),
    "list.__setitem__(p, 0, x)": changed(lambda p: list.__setitem__(p, 0, 9)),
    "list.__iadd__(p, q)": changed(lambda p: list.__iadd__(p, [9])),
    "p += q, p *= 2": changed(lambda p: operator.imul(operator.iadd(p, [9]), 2)),
    "operator.setitem, delitem": changed(
        lambda p: (operator.setitem(p, 0, 9), operator.delitem(p, 1))
    ),
    "os.execv arguments": lambda p: os.spawnv(os.P_WAIT, "/bin/true", [*map(str, p)]),
    "[0] + p": lambda p: [0] + p,
    "sys.path-like lookup": lambda p: [x for x in p if x in p],
    "list.__init__(p)": changed(lambda p: list.__init__(p, [5])),
}
TUPLE = SEQUENCE | {
    "hash(p)": hash,
    "{p: 1}[q]": lambda p: {p: 1}[p[:]],
    "{q: 1}[p]": lambda p: {p[:]: 1}[p],
    "'%d %d %d' % p": lambda p: "%d %d %d" % p,
    "b'%d %d %d' % p": lambda p: b"%d %d %d" % p,
    "(0,) + p": lambda p: (0,) + p,
    "str.startswith(strings)": lambda p: "3".startswith(p),
    "isinstance(x, p) of numbers": lambda p: isinstance(3, p),
    "decimal from tuple": lambda p: decimal.Decimal(p),
}
STRINGS = {
    "str.join": "".join,
    "re.compile": lambda p: re.compile("|".join(p)).findall("xay"),
    "str.startswith(tuple)": lambda p: "ab".startswith(tuple(p)),
    "writelines": lambda p: (f := io.StringIO()).writelines(p) or f.getvalue(),
    "str.maketrans(dict)": lambda p: "ab".translate(str.maketrans(dict(zip(p, p, strict=True)))),
    "subprocess.run(p)": lambda p: run([sys.executable, "-c", "print(1)", *p]),
    "subprocess.run(p) itself": lambda p: run(["/bin/echo", *p]) and run(p[:0] + ["/bin/echo"] + p),
    "os.path.commonprefix": os.path.commonprefix,
}
TUPLE_OF_STRINGS = {
    "str.startswith(p)": lambda p: "ab".startswith(p),
    "str.endswith(p)": lambda p: "ab".endswith(p),
}
TUPLE_OF_TYPES = {
    "isinstance(x, p)": lambda p: isinstance("x", p),
    "issubclass(X, p)": lambda p: issubclass(bool, p),
}
TUPLE_OF_ERRORS = {"except p": lambda p: caught(p)}


def caught(p):
    try:
        raise KeyError
    except p:
        return "caught"


DICT = {
    "dict(p)": dict,
    "{**p}, f(**p)": lambda p: ({**p}, (lambda **k: k)(**p)),
    "dict.update(p), d |= p": lambda p: (d := {"z": 0}).update(p) or operator.ior(d, p),
    "d | p, p | d": lambda p: ({"z": 0} | p, p | {"z": 0}),
    "p == q": lambda p: (p == dict(p), dict(p) == p),
    "keys, values, items": lambda p: (list(p.keys()), list(p.values()), list(p.items())),
    "p.keys() & q": lambda p: (p.keys() & {"a"}, {"a"} | p.keys()),
    "iter, len, in": lambda p: (list(p), len(p), "a" in p),
    "repr, str": lambda p: (repr(p), str(p), f"{p}"),
    "sorted(p)": sorted,
    "list(reversed(p))": lambda p: list(reversed(p)),
    "p[k], p.get": lambda p: (p["a"], p.get("q", 5)),
    "del, set": changed(lambda p: (operator.setitem(p, "q", 1), operator.delitem(p, "a"))),
    "setdefault, pop": changed(lambda p: (p.setdefault("q", 1), p.pop("a"))),
    "dict.get(p, k)": lambda p: dict.get(p, "a"),
    "dict.items(p)": lambda p: list(dict.items(p)),
    "dict.keys(p)": lambda p: list(dict.keys(p)),
    "dict.__getitem__(p, k)": lambda p: dict.__getitem__(p, "a"),
    "dict.__setitem__(p, k, x)": changed(lambda p: dict.__setitem__(p, "a", 9)),
    "dict.__contains__(p, k)": lambda p: dict.__contains__(p, "a"),
    "dict.copy(p)": dict.copy,
    "dict.update(p, d)": changed(lambda p: dict.update(p, {"q": 1})),
    "dict.pop(p, k)": changed(lambda p: dict.pop(p, "a")),
    "copy.copy": copy.copy,
    "copy.deepcopy": copy.deepcopy,
    "pickle 0": lambda p: pickle.loads(pickle.dumps(p, 0)),
    "pickle 5": lambda p: pickle.loads(pickle.dumps(p, 5)),
    "marshal.dumps": lambda p: marshal.loads(marshal.dumps(p)),
    "json.dumps": json.dumps,
    "json.dumps(sort_keys, indent)": lambda p: json.dumps(p, sort_keys=True, indent=1),
    "pprint": pprint.pformat,
    "str.format(**p)": lambda p: "{a}".format(**p),
    "str.format_map(p)": lambda p: "{a}".format_map(p),
    "'%(a)s' % p": lambda p: "%(a)s" % p,
    "string.Template": lambda p: string.Template("$a").substitute(p),
    "str.translate(p)": lambda p: "a".translate(p),
    "collections.Counter": collections.Counter,
    "collections.OrderedDict": collections.OrderedDict,
    "collections.ChainMap": lambda p: collections.ChainMap(p, {})["a"],
    "collections.defaultdict": lambda p: collections.defaultdict(int, p),
    "collections.UserDict": lambda p: collections.UserDict(p).data,
    "types.MappingProxyType": lambda p: dict(types.MappingProxyType(p)),
    "types.SimpleNamespace(**p)": lambda p: repr(types.SimpleNamespace(**p)),
    "operator.itemgetter": lambda p: operator.itemgetter("a")(p),
    "type(name, bases, p)": lambda p: type("T", (), p).a,
    "exec(code, p)": lambda p: exec("a", p),
    "eval(code, p)": lambda p: eval("a", p),
    "eval(code, {}, p)": lambda p: eval("a", {}, p),
    "sqlite3 named parameters": lambda p: query(("select :a", p)),
    "csv.DictWriter": lambda p: (
        csv.DictWriter(f := io.StringIO(), ["a", "b"]).writerow(p) and f.getvalue()
    ),
    "subprocess env": lambda p: (
        subprocess.run(
            ["/usr/bin/env"], env={k: str(v) for k, v in p.items()}, capture_output=True, check=True
        ).stdout
    ),
    "functools.partial(**p)": lambda p: functools.partial(dict, **p)(),
    "vars(x).update(p)": lambda p: vars(x := types.SimpleNamespace()).update(p) or x.a,
    "x.__dict__ = p": lambda p: (
        setattr(
            x := types.SimpleNamespace.__new__(type("X", (), {})) if False else type("X", (), {})(),
            "__dict__",
            p,
        )
        or x.a
    ),
    "match {'a': a, **r}": lambda p: mapping(p),
    "urllib urlencode": lambda p: __import__("urllib.parse", fromlist=["x"]).urlencode(p),
    "min(p, key=p.get)": lambda p: min(p, key=p.get),
}


def mapping(p):
    match p:
        case {"a": a, **rest}:
            return a, rest


SET = {
    "set(p), frozenset(p)": lambda p: (set(p), frozenset(p)),
    "p | q, q | p": lambda p: (p | {9}, {9} | p),
    "p & q, q & p": lambda p: (p & {3}, {3} & p),
    "p - q, q - p": lambda p: (p - {3}, {3, 9} - p),
    "p ^ q, q ^ p": lambda p: (p ^ {3}, {3, 9} ^ p),
    "p == q, p < q": lambda p: (p == set(p), set(p) == p, p < {1, 2, 3, 4}, {1} < p, p <= set(p)),
    "methods": lambda p: (
        p.union({9}),
        {9}.union(p),
        {3}.intersection(p),
        {9}.isdisjoint(p),
        {3}.issubset(p),
    ),
    "s |= p, s -= p": lambda p: operator.isub(operator.ior({8}, p), p),
    "s &= p, s ^= p": lambda p: operator.ixor(operator.iand({3, 8}, p), p),
    "s.update(p)": lambda p: (s := {8}).update(p) or s,
    "set.union(p, q)": lambda p: type(p).union(p, {9}),
    "set.__or__(p, q)": lambda p: type(p).__or__(p, {9}),
    "set.__or__(q, p)": lambda p: type(p).__or__(type(p)({9}), p),
    "set.__contains__(p, x)": lambda p: type(p).__contains__(p, 3),
    "p in {frozenset}": lambda p: p in {frozenset(p)},
    "len, in, iter": lambda p: (len(p), 3 in p, sorted(p)),
    "repr": repr,
    "copy.copy": copy.copy,
    "copy.deepcopy": copy.deepcopy,
    "pickle 0": lambda p: pickle.loads(pickle.dumps(p, 0)),
    "pickle 5": lambda p: pickle.loads(pickle.dumps(p, 5)),
    "marshal.dumps": lambda p: marshal.loads(marshal.dumps(p)),
    "pprint": pprint.pformat,
    "dict.keys() & p": lambda p: {3: 1}.keys() & p,
    "str.join": lambda p: "".join(sorted(map(str, p))),
    "random.sample": lambda p: sorted(random.Random(1).sample(sorted(p), 3)),
}
BYTEARRAY = {
    "bytes(p)": bytes,
    "bytearray(p)": bytearray,
    "memoryview(p)": lambda p: memoryview(p).tobytes(),
    "list(p)": list,
    "p + b, b + p": lambda p: (p + b"x", b"x" + p, bytearray(b"x") + p),
    "p == b, b == p": lambda p: (
        p == b"\3\1\2",
        p == b"\3\1\2",
        bytearray(b"\3\1\2") == p,
        p < b"\4",
    ),
    "p * 2, 2 * p": lambda p: (p * 2, 2 * p),
    "b += p": lambda p: operator.iadd(bytearray(b"x"), p),
    "p[0], p[1:]": lambda p: (p[0], p[1:]),
    "x in p, p in b": lambda p: (3 in p, b"\3" in p, p in b"\3\1\2\4"),
    "b''.join": lambda p: b"".join([p, p]),
    "bytes.find(p)": lambda p: (b"\0\3\1\2".find(p), b"\0\3\1\2".replace(p, b"")),
    "bytes.startswith(p)": lambda p: b"\3\1\2".startswith(p),
    "int.from_bytes": lambda p: int.from_bytes(p, "big"),
    "struct.unpack": lambda p: struct.unpack("3b", p),
    "struct.pack_into": lambda p: struct.pack_into("b", p, 0, 9) or bytes(p),
    "zlib.compress": lambda p: zlib.decompress(zlib.compress(p)),
    "zlib.crc32": zlib.crc32,
    "hashlib": lambda p: hashlib.sha256(p).hexdigest(),
    "binascii.hexlify": binascii.hexlify,
    "base64": base64.b64encode,
    "io.BytesIO": lambda p: io.BytesIO(p).read(),
    "file.write": lambda p: (f := io.BytesIO()).write(p) and f.getvalue(),
    "file.readinto": lambda p: io.BytesIO(b"abc").readinto(p) and bytes(p),
    "socket.send": sent,
    "re.findall": lambda p: re.findall(rb"\x03", p),
    "array.frombytes": lambda p: (a := array.array("b")).frombytes(p) or a,
    "pickle 0": lambda p: pickle.loads(pickle.dumps(p, 0)),
    "pickle 5": lambda p: pickle.loads(pickle.dumps(p, 5)),
    "marshal.dumps": lambda p: marshal.loads(marshal.dumps(p)),
    "copy.copy": copy.copy,
    "copy.deepcopy": copy.deepcopy,
    "p.decode, str(p, e)": lambda p: (p.decode(), str(p, "ascii")),
    "os.write": lambda p: os.write(os.open(os.devnull, os.O_WRONLY), p),
    "ctypes.from_buffer": lambda p: bytes((ctypes.c_char * 3).from_buffer(p)),
    "repr": repr,
    "bytearray.append(p, 1)": lambda p: bytearray.append(p, 1) or bytes(p),
}

USES = [
    (container, name, make, use)
    for container, make, uses in [
        ("list", lambda: [3, 1, 2], LIST),
        ("tuple", lambda: (3, 1, 2), TUPLE),
        ("list of str", lambda: ["a", "b"], STRINGS),
        ("tuple of str", lambda: ("a", "b"), TUPLE_OF_STRINGS),
        ("tuple of types", lambda: (int, str), TUPLE_OF_TYPES),
        ("tuple of exceptions", lambda: (KeyError, ValueError), TUPLE_OF_ERRORS),
        ("dict", lambda: {"a": 1, "b": 2}, DICT),
        ("set", lambda: {3, 1, 2}, SET),
        ("frozenset", lambda: frozenset({3, 1, 2}), SET),
        ("bytearray", lambda: bytearray(b"\3\1\2"), BYTEARRAY),
    ]
    for name, use in uses.items()
]

# What raises once the interpreter has specialised the instruction, in CPython 3.13.
SOMETIMES = {("set", "p in {frozenset}")}


def outcome(use, value):
    try:
        result = use(value)
    except RecursionError:
        raise
    except Exception as error:
        return "raises", type(error).__name__
    if result is NotImplemented:
        return "raises", "gives NotImplemented"
    return "gives", result


@pytest.fixture(scope="module")
def refusals():
    found = {}
    yield found
    table = TITLE.format(count=len(USES)) + "".join(
        f"| {container} | `{name.replace('|', chr(92) + '|')}` | {error} |\n"
        for (container, name), error in found.items()
    )
    if os.environ.get("OBJSPACE_WRITE_DOCS"):
        more = TABLE.read_text().partition("\n## Other packages\n")
        TABLE.write_text(table + "".join(more[1:]))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.parametrize(
    ("container", "name", "make", "use"), USES, ids=[f"{c}: {n}" for c, n, *_ in USES]
)
def test_a_use_of_a_proxy(container, name, make, use, proxy_of, refusals):
    how, real = outcome(use, make())
    ours_how, ours = outcome(use, proxy_of(make()))
    listed = f"| {container} | `{name.replace('|', chr(92) + '|')}` | " in TABLE.read_text()
    if how == "gives" and ours_how == "raises" and (container, name) not in SOMETIMES:
        refusals[container, name] = ours
        assert listed or os.environ.get("OBJSPACE_WRITE_DOCS"), (
            f"raises {ours}, and is not in the table"
        )
        return
    assert not listed or os.environ.get("OBJSPACE_WRITE_DOCS"), "works, and is in the table"
    assert ours_how == how or (container, name) in SOMETIMES
    if ours_how == "gives":
        assert ours == real
        assert type(ours) is type(real)
