"""Each operation arrives under its name, and its result is what the interpreter expects of it."""

import asyncio
import operator

import pytest
from objspace.tproxy import tproxy
from objspace.tputil import make_proxy

BINARY = [
    "add",
    "sub",
    "mul",
    "matmul",
    "truediv",
    "floordiv",
    "mod",
    "divmod",
    "pow",
    "lshift",
    "rshift",
    "and",
    "xor",
    "or",
]
SYMBOLS = {
    "add": operator.add,
    "sub": operator.sub,
    "mul": operator.mul,
    "matmul": operator.matmul,
    "truediv": operator.truediv,
    "floordiv": operator.floordiv,
    "mod": operator.mod,
    "divmod": divmod,
    "pow": pow,
    "lshift": operator.lshift,
    "rshift": operator.rshift,
    "and": operator.and_,
    "xor": operator.xor,
    "or": operator.or_,
}


def methods(*names):
    """A class with these special methods, each of which says its name and arguments."""
    body = {name: (lambda name: lambda self, *args: (name, *args))(name) for name in names}
    return type("Everything", (), body)


@pytest.mark.parametrize("name", BINARY)
def test_arithmetic_in_all_forms(name, recorded):
    apply = SYMBOLS[name]
    everything = methods(f"__{name}__", f"__r{name}__", f"__i{name}__")
    record = recorded(everything())
    assert apply(record.proxy, 3) == (f"__{name}__", 3)
    assert record.take() == [f"__{name}__"]
    assert apply(3, record.proxy) == (f"__r{name}__", 3)
    assert record.take() == [f"__r{name}__"]
    if name != "divmod":
        in_place = getattr(operator, "i" + name.replace("or", "or").strip("_"), None) or getattr(
            operator, f"__i{name}__"
        )
        assert in_place(record.proxy, 3) == (f"__i{name}__", 3)
        assert record.take() == [f"__i{name}__"]


@pytest.mark.parametrize("name", BINARY)
def test_arithmetic_between_two_objects_asks_in_the_order_of_real_ones(name, proxy_of):
    apply = SYMBOLS[name]

    def pairs(log, wrap):
        def method(label, result):
            def run(self, other):
                log.append(label)
                return result

            return run

        base = type(
            "Base",
            (),
            {
                f"__{name}__": method("base", NotImplemented),
                f"__r{name}__": method("rbase", NotImplemented),
            },
        )
        derived = type("Derived", (base,), {f"__r{name}__": method("rderived", NotImplemented)})
        other = type("Other", (), {f"__r{name}__": method("rother", 5)})
        for left, right in [
            (base, base),
            (base, derived),
            (derived, base),
            (base, other),
            (other, base),
        ]:
            log.append((left.__name__, right.__name__))
            try:
                log.append(apply(wrap(left()), wrap(right())))
            except TypeError as error:
                log.append(str(error))

    real, proxied = [], []
    pairs(real, lambda x: x)
    pairs(proxied, proxy_of)
    ours = [entry for entry in proxied if not isinstance(entry, str) or " " in entry]
    theirs = [entry for entry in real if not isinstance(entry, str) or " " in entry]
    assert ours == theirs


def test_comparisons(recorded):
    everything = methods("__lt__", "__le__", "__eq__", "__ne__", "__gt__", "__ge__")
    record = recorded(everything())
    for name in ("lt", "le", "eq", "ne", "gt", "ge"):
        assert getattr(operator, name)(record.proxy, 3) == (f"__{name}__", 3)
        assert record.take() == [f"__{name}__"]
    assert operator.lt(3, record.proxy) == ("__gt__", 3)


def test_comparison_of_two_proxies(proxy_of):
    assert proxy_of([1]) == proxy_of([1])
    assert proxy_of([1]) < proxy_of([2])
    assert proxy_of((1, 2)) >= proxy_of((1, 2))
    assert proxy_of({1}) <= proxy_of({1, 2})
    assert proxy_of({"a": 1}) != proxy_of({"a": 2})
    assert [proxy_of([1])] == [[1]]
    assert sorted([proxy_of([2]), proxy_of([1])]) == [[1], [2]]


def test_unary_and_conversions(recorded):
    class Number:
        def __neg__(self):
            return "neg"

        def __pos__(self):
            return "pos"

        def __abs__(self):
            return "abs"

        def __invert__(self):
            return "invert"

        def __int__(self):
            return 4

        def __float__(self):
            return 4.5

        def __index__(self):
            return 6

        def __complex__(self):
            return 1j

        def __bool__(self):
            return False

        def __hash__(self):
            return -1

        def __round__(self, digits=None):
            return digits

        def __trunc__(self):
            return 7

        def __floor__(self):
            return 8

        def __ceil__(self):
            return 9

        def __bytes__(self):
            return b"bytes"

        def __fspath__(self):
            return "/path"

        def __format__(self, spec):
            return "format " + spec

        def __length_hint__(self):
            return 3

        def __dir__(self):
            return ["b", "a"]

    import math
    import os

    record = recorded(Number())
    p = record.proxy
    assert (-p, +p, abs(p), ~p) == ("neg", "pos", "abs", "invert")
    assert (int(p), float(p), operator.index(p), complex(p), bool(p)) == (4, 4.5, 6, 1j, False)
    assert hash(p) == -2
    assert (round(p), round(p, 2), math.trunc(p), math.floor(p), math.ceil(p)) == (None, 2, 7, 8, 9)
    assert (bytes(p), os.fspath(p), f"{p:x}", operator.length_hint(p)) == (
        b"bytes",
        "/path",
        "format x",
        3,
    )
    assert dir(p) == ["a", "b"]
    assert [*range(10)][p] == 6
    assert record.take() == [
        "__neg__", "__pos__", "__abs__", "__invert__", "__int__", "__float__", "__index__",
        "__complex__", "__bool__", "__hash__", "__round__", "__round__", "__trunc__", "__floor__",
        "__ceil__", "__bytes__", "__fspath__", "__format__", "__length_hint__", "__dir__",
        "__index__",
    ]  # fmt: skip


def answering(kind, **answers):
    return tproxy(kind, lambda opname, *args: answers[opname])


@pytest.mark.parametrize(
    ("answers", "action", "error", "text"),
    [
        ({"__len__": "x"}, len, TypeError, "'str' object cannot be interpreted as an integer"),
        ({"__len__": -1}, len, ValueError, "__len__() should return >= 0"),
        ({"__len__": -(10**30)}, len, ValueError, "__len__() should return >= 0"),
        ({"__len__": 10**30}, len, OverflowError, "cannot fit 'int' into an index-sized integer"),
        ({"__repr__": 3}, repr, TypeError, "__repr__ returned non-string (type int)"),
        ({"__str__": 3}, str, TypeError, "__str__ returned non-string (type int)"),
        ({"__iter__": 3}, iter, TypeError, "iter() returned non-iterator of type 'int'"),
        ({"__format__": 3}, format, TypeError, "__format__ must return a str, not int"),
    ],
)
def test_results_are_checked_in_the_interpreters_words(answers, action, error, text):
    with pytest.raises(error) as caught:
        action(answering(list, **answers))
    assert str(caught.value) == text


def test_results_of_hash_and_bool_are_checked():
    class Both:
        def __hash__(self):
            return 1

        def __bool__(self):
            return True

    with pytest.raises(TypeError, match="__hash__ method should return an integer"):
        hash(answering(Both, __hash__="x"))
    with pytest.raises(TypeError, match="__bool__ should return bool, returned int"):
        bool(answering(Both, __bool__=1))
    assert hash(answering(Both, __hash__=2**200)) == hash(2**200)


def test_containers(recorded):
    record = recorded([3, 1, 2])
    p = record.proxy
    p[0] = 5
    del p[1]
    assert (p[0], p[-1], p[0:1], 5 in p, len(p), bool(p)) == (5, 2, [5], True, 2, True)
    assert list(reversed(p)) == [2, 5]
    assert list(iter(p)) == [5, 2]
    assert record.take() == [
        "__setitem__", "__delitem__", "__getitem__", "__getitem__", "__getitem__", "__contains__",
        "__len__", "__len__", "__reversed__", "__iter__",
    ]  # fmt: skip


def test_reflected_forms_of_builtin_containers(recorded):
    record = recorded([2])
    p = record.proxy
    assert [1] + p == [1, 2]
    assert p + [1] == [2, 1]
    assert p + p == [2, 2]
    assert 2 * p == p * 2 == [2, 2]
    assert type([1] + p) is list
    record.take()
    assert 3 * p == [2, 2, 2]
    assert record.take()[0] == "__rmul__"

    class Lists(list):
        pass

    assert Lists([1]) + p == [1, 2]
    assert [1].__add__(p) == [1, 2]
    for other in (1, "x", (1,), None):
        with pytest.raises(TypeError) as real:
            other + [2]
        with pytest.raises(TypeError) as ours:
            other + p
        assert str(ours.value) == str(real.value)
        with pytest.raises(TypeError) as real:
            [2] + other
        with pytest.raises(TypeError) as ours:
            p + other
        assert str(ours.value) == str(real.value)


def test_in_place_operators_with_a_real_left_operand_change_it_in_place(proxy_of):
    l = same = [1]
    l += proxy_of([2])
    assert l is same
    assert l == [1, 2]
    s = same = {1, 2}
    s |= proxy_of({3})
    s &= proxy_of({2, 3, 4})
    s -= proxy_of(frozenset({3}))
    s ^= proxy_of({5})
    assert s is same
    assert s == {2, 5}
    d = same = {"a": 1}
    d |= proxy_of({"b": 2})
    assert d is same
    assert d == {"a": 1, "b": 2}
    b = same = bytearray(b"a")
    b += proxy_of(bytearray(b"b"))
    assert b is same
    assert b == b"ab"


def test_a_tuple_fills_in_a_format(proxy_of):
    assert "%s and %s" % proxy_of((1, 2)) == "1 and 2"
    assert b"%d" % proxy_of((1,)) == b"1"
    assert "%(a)s" % proxy_of({"a": 1}) == "1"
    assert "%s" % proxy_of([1]) == "[1]"


def test_unpacking(proxy_of):
    def f(*args, **kwargs):
        return args, kwargs

    assert f(*proxy_of([1, 2]), **proxy_of({"a": 3})) == ((1, 2), {"a": 3})
    assert [*proxy_of((1,)), *proxy_of({2})] == [1, 2]
    assert {**proxy_of({"a": 1})} == {"a": 1}
    a, *b = proxy_of([1, 2, 3])
    assert (a, b) == (1, [2, 3])


def test_calls(recorded):
    def function(*args, **kwargs):
        return args, kwargs

    record = recorded(function)
    p = record.proxy
    assert p() == ((), {})
    assert p(*range(20), **{str(i): i for i in range(5)}) == (
        tuple(range(20)),
        {str(i): i for i in range(5)},
    )
    assert record.take() == ["__call__", "__call__"]
    assert tproxy(type(function), lambda opname, *args, **kwargs: (opname, args, kwargs))(
        1, x=2
    ) == (
        "__call__",
        (1,),
        {"x": 2},
    )


def test_a_function_in_a_class_body_binds(recorded):
    def method(self, x):
        return self, x

    record = recorded(method)
    kind = type("Kind", (), {"method": record.proxy})
    instance = kind()
    assert instance.method(1) == (instance, 1)
    assert "__get__" in record.take()


def test_descriptors_of_user_classes(recorded):
    class Descriptor:
        def __get__(self, obj, cls):
            return ("get", obj is None)

        def __set__(self, obj, value):
            log.append(("set", value))

        def __delete__(self, obj):
            log.append("delete")

    log = []
    kind = type("Kind", (), {"x": recorded(Descriptor()).proxy})
    assert kind.x == ("get", True)
    instance = kind()
    assert instance.x == ("get", False)
    instance.x = 3
    del instance.x
    assert log == [("set", 3), "delete"]


def test_context_managers(recorded):
    class Manager:
        def __enter__(self):
            return self

        def __exit__(self, *error):
            return error[0] is KeyError

    record = recorded(Manager())
    with record.proxy as entered:
        assert entered is record.proxy
        raise KeyError
    assert record.take() == ["__enter__", "__exit__"]


def test_generators(recorded):
    def generate():
        got = yield 1
        yield got
        return 5

    record = recorded(generate())
    p = record.proxy
    assert next(p) == 1
    assert p.send(7) == 7
    with pytest.raises(StopIteration) as caught:
        next(p)
    assert caught.value.value == 5

    def outer(inner):
        return (yield from inner)

    def collect(g):
        items = []
        while True:
            try:
                items.append(next(g))
            except StopIteration as stop:
                return items, stop.value

    assert collect(outer(recorded(generate()).proxy)) == ([1, None], 5)
    assert list(recorded(generate()).proxy) == [1, None]


def test_coroutines_and_asynchronous_objects(recorded):
    async def answer():
        await asyncio.sleep(0)
        return 42

    async def count():
        for i in range(3):
            yield i

    class Manager:
        async def __aenter__(self):
            return "entered"

        async def __aexit__(self, *error):
            return False

    async def main():
        assert await recorded(answer()).proxy == 42
        assert [i async for i in recorded(count()).proxy] == [0, 1, 2]
        async with recorded(Manager()).proxy as entered:
            assert entered == "entered"
        return await asyncio.gather(recorded(answer()).proxy)

    assert asyncio.run(main()) == [42]


def test_buffers(recorded):
    record = recorded(bytearray(b"abc"))
    p = record.proxy
    assert bytes(p) == b"abc"
    view = memoryview(p)
    view[0] = ord("x")
    with pytest.raises(BufferError):
        record.obj.append(1)
    view.release()
    record.obj.append(ord("d"))
    assert record.obj == b"xbcd"
    assert b"".join([p, b"e"]) == b"xbcde"
    assert bytes(recorded(memoryview(b"q")).proxy) == b"q"


class Mine(Exception):
    pass


@pytest.mark.parametrize(
    "action",
    [
        len, repr, str, iter, bool, hash, dir, reversed, int, float, abs, next, bytes, format, round,
        lambda p: p + 1, lambda p: 1 + p, lambda p: p[0], lambda p: p(), lambda p: p.x, lambda p: -p,
        lambda p: p == 1, lambda p: p < 1, lambda p: 1 in p, lambda p: setattr(p, "x", 1),
        lambda p: delattr(p, "x"), lambda p: operator.setitem(p, 0, 1), lambda p: operator.delitem(p, 0),
        lambda p: operator.iadd(p, 1), lambda p: pow(p, 2, 3), lambda p: exec("with p: pass", {"p": p}),
        lambda p: asyncio.run(awaiting(p)),
    ],
)  # fmt: skip
def test_errors_of_a_controller_pass_unchanged(action):
    names = [
        "len",
        "repr",
        "str",
        "iter",
        "bool",
        "hash",
        "dir",
        "reversed",
        "int",
        "float",
        "abs",
        "next",
        "bytes",
        "format",
        "round",
        "add",
        "radd",
        "getitem",
        "call",
        "neg",
        "eq",
        "lt",
        "contains",
        "setitem",
        "delitem",
        "iadd",
        "pow",
        "enter",
        "exit",
        "await",
    ]
    kind = methods(*(f"__{name}__" for name in names))
    error = Mine()

    def controller(*args):
        raise error

    with pytest.raises(Mine) as caught:
        action(tproxy(kind, controller))
    assert caught.value is error


async def awaiting(p):
    return await p


def test_a_controller_that_uses_its_own_proxy_ends_in_a_recursion_error():
    p = tproxy(list, lambda opname, *args: len(p))
    with pytest.raises(RecursionError):
        len(p)


def test_not_implemented_falls_back_as_for_real_objects():
    p = tproxy(list, lambda opname, *args: NotImplemented)
    assert (p == 3) is False
    assert (p != 3) is True
    with pytest.raises(TypeError, match="'<' not supported between instances of 'list' and 'int'"):
        p < 3


def test_results_of_make_proxy_are_whatever_the_controller_says():
    p = make_proxy(lambda operation: operation.opname, type=dict)
    assert p["x"] == "__getitem__"
    assert p.get == "__getattribute__"
