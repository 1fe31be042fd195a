"""Deep copies, instances by value, and local classes in the place of remote ones."""

import array
import collections
import dataclasses
import datetime
import enum
import json
import types

import objspace
import pytest
from objspace.distributed import pair, session_of

from .test_contents import Count

SETUP = """
import array, collections, dataclasses, datetime, enum, types

numbers = [1, 2.5, "x", None, b"b", 2**80]
everything = {
    "list": [1, [2, [3]]],
    "tuple": (1, [2]),
    "set": {1, (2, 3)},
    "frozenset": frozenset({1, frozenset({2})}),
    "bytearray": bytearray(b"raw"),
    "deque": collections.deque([1, [2]], maxlen=3),
    "ordered": collections.OrderedDict([("b", 1), ("a", [2])]),
    "default": collections.defaultdict(list, {"k": [1]}),
    "counter": collections.Counter("aab"),
    "namespace": types.SimpleNamespace(a=1, b=[2]),
    "array": array.array("d", [1.5, 2.5]),
    "date": datetime.datetime(2026, 1, 2, tzinfo=datetime.timezone.utc),
    "range": range(3),
    "type": int,
    (1, (2,)): "a key",
}

shared = [1]
both = [shared, shared, {"again": shared}]

cycle = [1]
cycle.append(cycle)
knot = {"self": None, "tuple": ()}
knot["self"] = knot
knot["tuple"] = (knot, [knot])

deep = []
for _ in range(20_000):
    deep = [deep]

class Stranger:
    pass

class Point:
    __module__ = "shop"
    def __init__(self, x, y):
        self.x = x
        self.y = y
    def __eq__(self, other):
        return type(other) is type(self) and (self.x, self.y) == (other.x, other.y)
    def __hash__(self):
        return hash((self.x, self.y))
    def norm(self):
        return "remote"

class Slotted:
    __module__ = "shop"
    __slots__ = ("a", "_b", "c")
    def __init__(self):
        self.a = 1
        self._b = [2]

class Named(collections.namedtuple("Named", "x y")):
    __module__ = "shop"

class Stack(list):
    __module__ = "shop"

class Colour(enum.Enum):
    __module__ = "shop"
    RED = 1

@dataclasses.dataclass(frozen=True)
class Order:
    __module__ = "shop"
    item: str
    points: tuple = ()

strangers = {"here": [0, Stranger()], "there": 1}
functions = [{"f": lambda: 1}]
point = Point(1, 2)
points = [Point(1, 2), Point(3, [4])]
keyed = {Point(1, 2): "here"}
slotted = Slotted()
named = Named(1, [2])
stack = Stack([1, 2])
stack.name = "s"
red = Colour.RED
order = Order("tea", (Point(1, 2),))

def declare(theirs, *names):
    from objspace.distributed import session_of
    for name in names:
        session_of(theirs).by_value(globals()[name])

def kind(value):
    return type(value).__name__, type(value) in (Point, Slotted, Named, Stack, Colour, Order)

def echo(value):
    return value

def table():
    return {"rows": [[1, 2], [3, 4]], "meta": {"name": "t", "tags": ("a", "b")}}
"""


def local_classes():
    """Classes of this process, with the module and the names of those over there."""
    module = types.ModuleType("shop")
    scope = {"collections": collections, "dataclasses": dataclasses, "enum": enum}
    source = SETUP[SETUP.index("class Point") : SETUP.index("strangers")]
    exec(source.replace('"remote"', '"local"'), scope)
    vars(module).update(scope)
    return module


def test_a_deep_copy_is_equal_local_and_one_round_trip(link):
    remote = link(SETUP)
    everything = remote.everything
    with Count(remote) as count:
        copy = objspace.copy_out(everything)
    assert count.round_trips == 1
    expected = {
        "list": [1, [2, [3]]],
        "tuple": (1, [2]),
        "set": {1, (2, 3)},
        "frozenset": frozenset({1, frozenset({2})}),
        "bytearray": bytearray(b"raw"),
        "deque": collections.deque([1, [2]], maxlen=3),
        "ordered": collections.OrderedDict([("b", 1), ("a", [2])]),
        "default": collections.defaultdict(list, {"k": [1]}),
        "counter": collections.Counter("aab"),
        "namespace": types.SimpleNamespace(a=1, b=[2]),
        "array": array.array("d", [1.5, 2.5]),
        "date": datetime.datetime(2026, 1, 2, tzinfo=datetime.UTC),
        "range": range(3),
        "type": int,
        (1, (2,)): "a key",
    }
    with Count(remote) as count:
        assert copy == expected
        for name, value in expected.items():
            assert type(copy[name]) is type(value)
        assert copy["deque"].maxlen == 3
        assert copy["default"].default_factory is list
        copy["list"][1].append("mine")
    assert count.round_trips == 0
    assert remote.everything["list"] == [1, [2, [3]]]


def test_sharing_and_cycles_are_kept(link):
    remote = link(SETUP)
    both = objspace.copy_out(remote.both)
    assert both[0] is both[1] is both[2]["again"]
    cycle = objspace.copy_out(remote.cycle)
    assert cycle[1] is cycle
    knot = objspace.copy_out(remote.knot)
    assert knot["self"] is knot
    assert knot["tuple"][0] is knot
    assert knot["tuple"][1] == [knot]


def test_depth_is_no_limit(link):
    remote = link(SETUP)
    deep = objspace.copy_out(remote.deep)
    depth = 0
    while deep:
        deep = deep[0]
        depth += 1
    assert depth == 20_000


def test_an_error_names_the_path(link):
    remote = link(SETUP)
    with pytest.raises(TypeError, match=r"cannot copy p\['here'\]\[1\], a 'Stranger' object"):
        objspace.copy_out(remote.strangers)
    with pytest.raises(TypeError, match=r"cannot copy p\[0\]\['f'\], a 'function' object"):
        objspace.copy_out(remote.functions)
    with pytest.raises(TypeError, match="not a local 'list' object"):
        objspace.copy_out([1])
    assert objspace.copy_out((1, "x", (remote.numbers,))) == (
        1,
        "x",
        ([1, 2.5, "x", None, b"b", 2**80],),
    )


def test_our_own_objects_come_home(link):
    remote = link(SETUP)
    mine = ["mine"]
    remote.numbers.append(mine)
    assert objspace.copy_out(remote.numbers)[-1] is mine


def test_json_of_nested_containers_is_one_round_trip(link):
    remote = link(SETUP)
    table = remote.table()
    with Count(remote) as count:
        text = json.dumps(table)
    assert json.loads(text) == {"rows": [[1, 2], [3, 4]], "meta": {"name": "t", "tags": ["a", "b"]}}
    assert count.round_trips == 1
    with pytest.raises(ValueError, match="Circular"):
        json.dumps(remote.cycle)
    with pytest.raises(TypeError, match="Stranger is not JSON serializable"):
        json.dumps(remote.strangers)


def test_copies_leave_no_references_behind(link, no_leaks):
    remote = link(SETUP)
    everything = remote.everything
    with no_leaks(remote):
        objspace.copy_out(everything)
        with pytest.raises(TypeError):
            objspace.copy_out(remote.functions)


def test_adopted_classes_are_the_local_ones(link):
    remote = link(SETUP)
    shop = local_classes()
    session = session_of(remote)
    assert session.adopt(shop.Point) is shop.Point
    assert type(remote.point) is shop.Point
    assert remote.Point is shop.Point
    # It is still by reference: its methods run over there.
    assert remote.point.norm() == "remote"
    points = objspace.copy_out(remote.points)
    assert points == [shop.Point(1, 2), shop.Point(3, [4])]
    assert points[0].norm() == "local"
    assert objspace.copy_out(remote.keyed) == {shop.Point(1, 2): "here"}


def test_a_class_is_declared_before_it_is_met(link):
    remote = link(SETUP)
    assert remote.point.norm() == "remote"
    with pytest.raises(ValueError, match=r"shop\.Point was met before"):
        session_of(remote).adopt(local_classes().Point)


def test_instances_of_declared_classes_are_copied(link):
    remote = link(SETUP)
    shop = local_classes()
    for name in ("Point", "Slotted", "Named", "Stack", "Colour", "Order"):
        session_of(remote).adopt(getattr(shop, name))
    slotted = objspace.copy_out(remote.slotted)
    assert (type(slotted), slotted.a, slotted._b, hasattr(slotted, "c")) == (
        shop.Slotted,
        1,
        [2],
        False,
    )
    assert objspace.copy_out(remote.named) == shop.Named(1, [2])
    stack = objspace.copy_out(remote.stack)
    assert (type(stack), stack, stack.name) == (shop.Stack, [1, 2], "s")
    assert objspace.copy_out(remote.order) == shop.Order("tea", (shop.Point(1, 2),))


def test_by_value_works_in_both_directions(link):
    remote = link(SETUP, {"nothing": None})
    shop = local_classes()
    session = session_of(remote)
    names = ("Point", "Slotted", "Named", "Stack", "Colour", "Order")
    for name in names:
        session.by_value(getattr(shop, name))
    remote.declare(lambda: None, *names)
    with Count(remote) as count:
        point = remote.echo(shop.Point(5, "y"))
    assert count.round_trips <= 2
    assert type(point) is shop.Point
    assert (point.x, point.y, point.norm()) == (5, "y", "local")
    for value in (shop.Named(1, 2), shop.Stack([1]), shop.Colour.RED, shop.Order("a", (1,))):
        assert remote.kind(value) == (type(value).__name__, True)
        assert remote.echo(value) == value
        assert type(remote.echo(value)) is type(value)
    assert remote.echo(shop.Colour.RED) is shop.Colour.RED
    assert remote.red is shop.Colour.RED
    nested = remote.echo((shop.Point(shop.Point(1, 2), None),))
    assert nested == (shop.Point(shop.Point(1, 2), None),)


def test_an_undeclared_class_is_not_made_by_the_peers_word(link):
    remote = link(SETUP)
    remote.declare(lambda: None, "Point")
    with pytest.raises(TypeError, match=r"shop\.Point by value, and this process has not declared"):
        remote.point
    shop = local_classes()
    session_of(remote).by_value(shop.Slotted)
    with pytest.raises(TypeError, match=r"shop\.Slotted by value, and this process has not"):
        remote.echo(shop.Slotted())


def test_a_peer_cannot_put_a_method_into_an_instance():
    class Account:
        __module__ = "shop"

        def close(self):
            return "closed"

    class Theirs:
        __module__ = "shop"
        __qualname__ = "Account"

    Account.__qualname__ = "Account"
    bad = Theirs()
    bad.close = lambda: "stolen"
    here, there = pair({}, {"bad": bad})
    here.by_value(Account)
    there.by_value(Theirs)
    with pytest.raises(TypeError, match='"close" as an attribute, which is none here'):
        here.remote.bad
    here.close()


def test_public_policy_copies_attributes_of_declared_classes_only():
    class Secret:
        def __init__(self):
            self._password = "x"

    policy = (objspace.Policy.full(), objspace.Policy.public())
    here, _there = pair({}, {"data": [Secret()], "plain": [[1]]}, policy=policy)
    assert objspace.copy_out(here.remote.plain) == [[1]]
    with pytest.raises(PermissionError, match=r"p\[0\], a 'Secret' object"):
        objspace.copy_out(here.remote.data)
    here.close()


def test_classes_that_cannot_travel_by_value_are_refused():
    with pytest.raises(TypeError, match="a built-in type"):
        objspace.by_value(int)

    class Broken(Exception):
        pass

    with pytest.raises(TypeError, match="made by C code"):
        objspace.by_value(Broken)


def test_by_value_everywhere(python):
    done = python(
        """
        import objspace
        from objspace.distributed import pair

        @objspace.by_value
        class Point:
            def __init__(self, x):
                self.x = x

        here, there = pair({}, {"echo": lambda p: p})
        point = Point(1)
        again = here.remote.echo(point)
        print(type(again) is Point, again is point, again.x)
        """
    )
    assert (done.stdout, done.stderr) == ("True False 1\n", "")
