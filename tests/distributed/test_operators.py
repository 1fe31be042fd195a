"""Operators between remote and local objects: what the same expression gives in one process.

Containers of subclasses, deques, dict views and subclasses of numbers and strings included: their
operators are C code, which looks into the memory of both operands.
"""

import collections
import inspect
import json

import pytest

# Each function is called anew for each expression, since expressions change their operands.
SETUP = """
import collections

class L(list): pass
class D(dict): pass
class S(set): pass
class F(frozenset): pass
class T(tuple): pass
class B(bytearray): pass
class I(int): pass
class Text(str): pass
class Real(float): pass

class Odd(list):
    def __eq__(self, other): return ("odd", type(other).__name__)
    def __add__(self, other): return ("added", list(other))
    def __radd__(self, other): return ("radded", list(other))
    __hash__ = None

def make():
    ordered = collections.OrderedDict(a=1, b=2)
    ordered.move_to_end("a")
    return dict(
        l=[1, 2], d={"a": 1}, s={1, 2}, f=frozenset([1]), t=(1,), b=bytearray(b"x"),
        xl=L([1, 2]), xd=D(a=1), xs=S([1, 2]), xf=F([1]), xt=T([1]), xb=B(b"x"),
        xi=I(3), xst=Text("hello"), xfl=Real(1.5), odd=Odd([1]),
        od=ordered, dd=collections.defaultdict(list, a=[1]), dq=collections.deque([1, 2]),
        c=collections.Counter("aab"), ul=collections.UserList([1, 2]),
        ud=collections.UserDict(a=1), cm=collections.ChainMap({"a": 1}),
    ).items()
"""

EXPRESSIONS = """
s = s; s |= {5}; r = s
x = s; x &= {1}; r = x, s
x = s; x -= {1}; r = x, s
x = s; x ^= {1}; r = x, s
x = l; x += [1]; r = x, l
x = l; x += (1,); r = x, l
x = l; x *= 2; r = x, l
x = d; x |= {"z": 1}; r = x, d
x = xl; x += [3]; r = x, xl
x = xd; x |= {"b": 1}; r = x, xd
x = xs; x |= {4}; r = x, xs
x = xs; x -= {1}; r = x, xs
x = xb; x += b"q"; r = x, xb
r = d | {"q": 2}
r = {"q": 2} | d
r = s | {7}
r = {7} | s
r = s & {1}
r = {1} & s
r = {1, 8} - s
r = {1, 8} ^ s
r = s < {1, 2, 3}
r = s == {1, 2}
r = f | {7}
r = {7} | f
r = 2 * l
r = [0] + l
r = l < [1, 3], [1, 3] > l, l >= [1], l != [1]
r = xl + [1]
r = [1] + xl
r = xl == [1, 2], [1, 2] == xl, xl != [1], [1] != xl
r = xl < [1, 3], [1, 3] > xl, [1] <= xl, xl >= [5]
r = xl * 2, 2 * xl
r = xl == l, l == xl
r = xd == {"a": 1}, {"a": 1} == xd, {"a": 1} != xd, xd == d, d == xd
r = xd | {"b": 1}
r = {"b": 1} | xd
r = xs | {9}
r = {9} | xs
r = xs == {1, 2}, {1, 2} == xs, xs <= {1, 2}, {1} < xs
r = xs - {1}, {1, 8} - xs
r = xf == {1}, {1} == xf, hash(xf) == hash(frozenset([1]))
r = xf | {2}
r = xt == (1,), (1,) == xt, xt < (2,), hash(xt) == hash((1,))
r = xt + (2,), (2,) + xt
r = xb == b"x", b"x" == xb
r = xb + b"y"
r = b == b"x", b"x" == b
r = b + b"y"
r = xi + 1, 1 + xi, xi == 3, 3 == xi, range(10)[xi], [1, 2, 3, 4, 5][xi]
r = xst + "x", xst == "hello", "hello" == xst, {"hello": 1}[xst], xst in {"hello"}
r = xst.upper(), "%s" % xst, f"{xst:>10}"
r = xfl + 1, 1 + xfl, xfl == 1.5, int(xi), float(xfl), str(xst)
r = odd == [1]
r = [1] == odd
r = odd + [5]
r = [5] + odd
r = od == {"a": 1, "b": 2}, {"b": 2, "a": 1} == od
r = od == collections.OrderedDict(a=1, b=2)
r = od == collections.OrderedDict([("b", 2), ("a", 1)])
r = collections.OrderedDict(a=1, b=2) == od
r = od | {"c": 2}
r = {"c": 2} | od
r = list(od), dict(od), list(od.keys()), list(od.items()), list(reversed(od))
r = dd["x"]
x = dd["x"].append(1); r = dd
r = dd == {"a": [1]}
r = dd | {"b": 1}
r = dq == collections.deque([1, 2]), collections.deque([1, 2]) == dq, dq < collections.deque([3])
r = dq + collections.deque([1, 2])
x = dq; x += [3]; r = dq
r = list(dq), dq[0], len(dq), 1 in dq, dq[-1], dq[-2]
r = dq[-3]
r = dq[2]
dq[-1] = 5; r = dq
dq[-3] = 5; r = dq
del dq[-3]; r = dq
del dq[-1]; r = dq
r = c + collections.Counter("a")
r = collections.Counter("a") + c
r = c - collections.Counter("a"), c | collections.Counter("zz"), c & collections.Counter("ab")
r = c.most_common(), c == {"a": 2, "b": 1}, {"a": 2, "b": 1} == c, c == collections.Counter("aab")
r = isinstance(c, collections.Counter), type(c) is collections.Counter
r = ul == [1, 2], [1, 2] == ul, ul + [3], [3] + ul
r = ud == {"a": 1}, {"a": 1} == ud, ud | {"b": 1}
r = cm["a"], dict(cm)
r = d.keys() == {"a"}, {"a"} == d.keys(), d.keys() | {"b"}, {"b"} | d.keys(), d.keys() & {"a"}
r = d.items() == {("a", 1)}, d.items() & {("a", 1)}, d.keys() == {"a": 2}.keys()
r = d.items() == {"a": 1}.items(), d.items() <= {"a": 1, "b": []}.items(), {"a": 1}.items() == d.items()
r = {"a": 1}.keys() <= s, s >= {1: 2}.keys(), {1: 2}.keys() < s, s == {1: 0, 2: 0}.keys()
r = s & {1: 2}.keys(), {1: 2}.keys() & s, s - {1: 2}.keys(), {1: 2, 7: 8}.keys() - s
r = list(d.values()), d.items()
r = l.__add__([1]), xl.__add__([1]), xl.__eq__([1, 2]), xd.__or__({"q": 1}), xs.__and__({1})
r = s.union({1, 9}), {1, 9}.union(s), s.issubset({1, 2, 3}), s.isdisjoint({9})
x = d.update({"k": 1}); r = d
x = {}; x.update(d); x.update(xd); x.update(od); r = x
r = dict(d), dict(xd), dict(c), {**xd}, [*xl], list(xs)
r = l.copy(), l[0:1], xl[0:1], l[::-1]
l[0:1] = [9, 9]; r = l
l[0:1] = l; r = l
l[:] = xl; r = l
r = d.get("a"), d.setdefault("n", []), d.pop("a"), d
r = l.index(2), l.sort(key=lambda x: -x), l
r = max(xl), sum(xl), any(xl), 2 in xl, len(xl), bool(xl), sorted(xl)
r = str(xl), repr(xd), repr(od), repr(dq), str(c)
r = json.dumps(xl), json.dumps(xd), json.dumps(od)
"""


def outcome(objects, expression):
    names = {**objects, "collections": collections, "json": json}
    try:
        exec(expression, names)
    except Exception as error:
        return type(error).__name__, str(error)
    return plain(names["r"])


def plain(value):
    """The value as text; sets, whose order tells how they were made, sorted."""
    kind = type(value).__name__
    if isinstance(value, tuple) and kind == "tuple":
        return kind, tuple(plain(item) for item in value)
    if isinstance(value, (set, frozenset)):
        return kind, sorted(repr(item) for item in value)
    return kind, repr(value)


@pytest.fixture(scope="class")
def other(over_tcp_for_class):
    return over_tcp_for_class(SETUP)


class TestOperators:
    @pytest.mark.parametrize("expression", EXPRESSIONS.strip().splitlines())
    def test_an_expression_gives_what_it_gives_in_one_process(self, other, expression):
        here = {}
        exec(SETUP, here)
        expected = outcome(dict(here["make"]()), expression)
        assert outcome(dict(other.make()), expression) == expected


REVERSED = """
def run(objects, expressions):
    results = []
    for make, expression in zip(objects, expressions):
        results.append(outcome(dict(make()), expression))
    return results
"""


def test_the_same_where_the_objects_are_ours_and_the_code_is_theirs(link):
    source = (
        "import collections, json\n"
        + inspect.getsource(outcome)
        + inspect.getsource(plain)
        + REVERSED
    )
    remote = link(source)
    here = {}
    exec(SETUP, here)
    expressions = EXPRESSIONS.strip().splitlines()
    expected = [outcome(dict(here["make"]()), expression) for expression in expressions]
    results = list(remote.run([here["make"]] * len(expressions), expressions))
    wrong = [
        (expression, there, here)
        for expression, there, here in zip(expressions, results, expected, strict=True)
        if there != here
    ]
    assert wrong == []


def test_a_number_on_the_right_of_a_sequence_is_asked_first_where_both_are_remote(link):
    remote = link(
        """
        class Thing:
            def __radd__(self, other): return ("radd", type(other).__name__)
            def __rmul__(self, other): return ("rmul", type(other).__name__)
        thing, items, data, pair = Thing(), [1], bytearray(b"x"), (1,)
        class Words(list): pass
        words = Words()
        """
    )
    assert remote.items + remote.thing == ("radd", "list")
    assert remote.data + remote.thing == ("radd", "bytearray")
    assert remote.words + remote.thing == ("radd", "Words")
    assert remote.items * remote.thing == ("rmul", "list")
    assert remote.pair + remote.thing == ("radd", "tuple")
    with pytest.raises(TypeError):
        remote.items + remote.pair
