"""C code of the standard library works through a proxy's protocol, or refuses; it is never wrong."""

import array
import bisect
import copy
import csv
import io
import itertools
import json
import marshal
import operator
import pickle
import pprint
import sqlite3
import statistics
import struct

import pytest


class Thing:
    def __init__(self, x):
        self.x = x

    def __eq__(self, other):
        return isinstance(other, Thing) and self.x == other.x


def test_json(proxy_of):
    nested = proxy_of({"a": proxy_of([1, proxy_of((2,)), None]), "b": {"c": proxy_of({})}})
    text = '{"a": [1, [2], null], "b": {"c": {}}}'
    assert json.dumps(nested) == text
    assert json.loads(json.dumps(nested, indent=1)) == json.loads(text)
    assert json.dumps([nested], sort_keys=True) == f"[{text}]"
    assert json.JSONEncoder().encode(nested) == text
    with pytest.raises(TypeError, match="Object of type Thing is not JSON serializable"):
        json.dumps(proxy_of(Thing(1)))
    asked = []
    assert (
        json.dumps([nested, proxy_of(Thing(1))], default=lambda x: asked.append(x) or "?")
        == f'[{text}, "?"]'
    )
    assert len(asked) == 1
    assert isinstance(asked[0], Thing)
    circle = proxy_of([])
    circle.append(circle)
    with pytest.raises((ValueError, RecursionError)):
        json.dumps(circle)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize(
    "obj", [[1], {"a": 1}, {1}, frozenset({1}), (1,), bytearray(b"x"), Thing(1)], ids=repr
)
@pytest.mark.parametrize("module", [pickle, pickle._Pickler], ids=["C", "Python"])
def test_pickle(proxy_of, obj, protocol, module):
    p = proxy_of(obj)
    if module is pickle:
        data = pickle.dumps([p, p], protocol)
    else:
        file = io.BytesIO()
        module(file, protocol).dump([p, p])
        data = file.getvalue()
    first, second = pickle.loads(data)
    assert type(first) is type(obj)
    assert first == obj
    assert first is second


def test_pickle_of_a_list_that_contains_itself(proxy_of):
    p = proxy_of([])
    p.append(p)
    again = pickle.loads(pickle.dumps(p))
    assert again[0] is again


@pytest.mark.parametrize(
    "obj", [[1, [2]], {"a": [1]}, {1}, (1, [2]), bytearray(b"x"), Thing([1])], ids=repr
)
def test_copy(proxy_of, obj):
    p = proxy_of(obj)
    for copied in (copy.copy(p), copy.deepcopy(p)):
        assert type(copied) is type(obj)
        assert copied == obj
    assert copy.deepcopy([p, p])[0] == obj


def test_methods_called_by_the_name_of_the_type(proxy_of, recorded):
    assert list.copy(proxy_of([1])) == [1]
    assert list.index(proxy_of([1, 2]), 2) == 1
    assert list(dict.items(proxy_of({"a": 1}))) == [("a", 1)]
    assert dict.get(proxy_of({"a": 1}), "b", 3) == 3
    assert set.union(proxy_of({1}), {2}) == {1, 2}
    assert tuple.count(proxy_of((1, 1)), 1) == 2
    record = recorded([3, 1, 2])
    list.append(record.proxy, 0)
    list.sort(record.proxy, reverse=True)
    assert record.obj == [3, 2, 1, 0]
    assert list.__len__(record.proxy) == 4
    assert list.__getitem__(record.proxy, 0) == 3
    list.__setitem__(record.proxy, 0, 9)
    assert record.obj[0] == 9
    assert dict.__contains__(proxy_of({"a": 1}), "a")
    assert [*map(list.copy, [proxy_of([1])])] == [[1]]
    for _ in range(200):
        assert list.copy(record.proxy) == record.obj
    with pytest.raises(
        TypeError, match="descriptor 'append' for 'list' objects doesn't apply to a 'dict' object"
    ):
        list.append(proxy_of({}), 1)


def test_iteration_by_c_code(proxy_of):
    p = proxy_of([3, 1, 2])
    assert sorted(p) == [1, 2, 3]
    assert (sum(p), min(p), max(p), any(p), all(p)) == (6, 1, 3, True, True)
    assert "".join(proxy_of(["a", "b"])) == "ab"
    assert list(zip(p, p, strict=True))[0] == (3, 3)
    assert list(itertools.chain(p, p)) == [3, 1, 2, 3, 1, 2]
    assert statistics.mean(p) == 2
    assert operator.itemgetter(0, 2)(p) == (3, 2)
    assert array.array("i", p).tolist() == [3, 1, 2]
    assert bytes(p) == b"\x03\x01\x02"
    assert bytearray(p) == b"\x03\x01\x02"
    assert dict(proxy_of([("a", 1)])) == {"a": 1}
    assert set(p) == {1, 2, 3}
    assert struct.pack("3b", *p) == b"\x03\x01\x02"
    assert [0, *p] == [0, 3, 1, 2]
    l = [1, 2]
    l[0:1] = p
    l.extend(p)
    assert l == [3, 1, 2, 2, 3, 1, 2]


def test_bisect(proxy_of):
    p = proxy_of([1, 3])
    assert bisect.bisect(p, 2) == 1
    bisect.insort(p, 2)
    assert p == [1, 2, 3]


def test_parameters_of_sqlite3(proxy_of):
    with sqlite3.connect(":memory:") as connection:
        assert connection.execute("select ?, ?", proxy_of([1, "x"])).fetchone() == (1, "x")
        assert connection.execute("select ?", proxy_of((1,))).fetchone() == (1,)
        with pytest.raises(sqlite3.ProgrammingError, match="unsupported type"):
            connection.execute("select :a", proxy_of({"a": 3}))
        assert connection.execute("select :a", {**proxy_of({"a": 3})}).fetchone() == (3,)
    connection.close()


def test_csv(proxy_of):
    file = io.StringIO()
    csv.writer(file).writerows(proxy_of([proxy_of([1, "x"]), (2, "y")]))
    assert file.getvalue() == "1,x\r\n2,y\r\n"


def test_pprint_and_repr(proxy_of):
    obj = {"a": [1, {"b": (2,)}]}
    p = proxy_of({"a": proxy_of([1, proxy_of({"b": proxy_of((2,))})])})
    assert repr(p) == repr(obj)
    assert pprint.pformat(p) == pprint.pformat(obj)
    assert f"{p}" == str(obj)


def test_keys_of_dicts_and_members_of_sets(proxy_of):
    p = proxy_of((1, 2))
    assert {(1, 2): "x"}[p] == "x"
    assert (1, 2) in {p}
    # In code of its own: CPython 3.13 specialises the instruction once it is hot, and then refuses.
    assert eval("p in {frozenset({1})}", {"p": proxy_of({1})})
    with pytest.raises(TypeError, match="unhashable type: 'list'"):
        {proxy_of([])}


def test_exec_and_eval(proxy_of):
    with pytest.raises(TypeError, match="must be a dict"):
        exec("x = 1", proxy_of({}))
    names = {}
    exec("x = 1", {}, proxy_of(names))
    assert names == {"x": 1}


@pytest.mark.parametrize(
    "action",
    [
        lambda p: marshal.dumps(p),
        lambda p: "abc".startswith(p),
        lambda p: isinstance(1, p),
        lambda p: __import__("_struct").calcsize(p),
    ],
)
@pytest.mark.parametrize("obj", [[1], (int, str)], ids=["list", "tuple"])
def test_what_cannot_work_refuses(proxy_of, action, obj):
    with pytest.raises((TypeError, ValueError)):
        action(proxy_of(obj))
