"""Whole containers, parts of them and the views of dicts: right answers, in exactly counted messages."""

import array
import collections
import copy

import pytest
from objspace.distributed import session_of

SETUP = """
import array, collections, itertools
numbers = list(range(10))
table = {"a": 1, "b": 2, "c": 3}
ordered = collections.OrderedDict([("x", 1), ("y", 2)])
ordered.move_to_end("x")
default = collections.defaultdict(list, {"k": [1]})
counter = collections.Counter("abca")
queue = collections.deque([1, 2, 3], maxlen=5)
ints = array.array("i", [1, 2, 3])
letters = {"a", "b"}
raw = bytearray(b"abcdef")
words = ["x", "y"]

class Backwards(list):
    def __iter__(self):
        return reversed(self)

class Renamed(dict):
    def keys(self):
        return ["other"]
    def __getitem__(self, key):
        return "from " + key

class Plain(list):
    pass

class Thing:
    pass

backwards = Backwards([1, 2, 3])
renamed = Renamed(a=1)
plain = Plain([1, 2, 3])
things = [Thing() for _ in range(10_000)]
endless = itertools.count()

def echo(value):
    return value

def is_view(value):
    return type(value).__name__, list(value)

def merged(target, *args):
    target.update(*args)
    return dict(target)
"""


class Count:
    """How many round trips and messages a block takes."""

    def __init__(self, remote):
        self.session = session_of(remote)

    def __enter__(self):
        self.before = self.session.stats()
        return self

    def __exit__(self, *exception):
        after = self.session.stats()
        for name in ("round_trips", "messages_sent", "messages_received"):
            setattr(self, name, after[name] - self.before[name])


WHOLE = {
    "list": ("numbers", list, list(range(10))),
    "sorted": ("numbers", sorted, list(range(10))),
    "tuple": ("numbers", tuple, tuple(range(10))),
    "sum": ("numbers", sum, 45),
    "min": ("numbers", min, 0),
    "any": ("numbers", any, True),
    "set": ("letters", set, {"a", "b"}),
    "unpacked": ("numbers", lambda p: [*p], list(range(10))),
    "reversed": ("numbers", lambda p: list(reversed(p)), list(range(9, -1, -1))),
    "enumerate": ("words", lambda p: list(enumerate(p)), [(0, "x"), (1, "y")]),
    "zip": ("numbers", lambda p: list(zip(p, p, strict=False))[-1], (9, 9)),
    "join": ("words", ",".join, "x,y"),
    "slice": ("numbers", lambda p: p[2:5], [2, 3, 4]),
    "slice, iterated": ("numbers", lambda p: list(p[::-3]), [9, 6, 3, 0]),
    "slice of bytes": ("raw", lambda p: p[1:3], bytearray(b"bc")),
    "deque": ("queue", list, [1, 2, 3]),
    "deque, reversed": ("queue", lambda p: list(reversed(p)), [3, 2, 1]),
    "array": ("ints", list, [1, 2, 3]),
    "subclass of list": ("plain", list, [1, 2, 3]),
    "slice of a subclass": ("plain", lambda p: p[1:], [2, 3]),
    "keys": ("table", lambda p: list(p.keys()), ["a", "b", "c"]),
    "values": ("table", lambda p: list(p.values()), [1, 2, 3]),
    "items": ("table", lambda p: list(p.items()), [("a", 1), ("b", 2), ("c", 3)]),
    "items, reversed": (
        "table",
        lambda p: list(reversed(p.items())),
        [("c", 3), ("b", 2), ("a", 1)],
    ),
    "len of values": ("table", lambda p: len(p.values()), 3),
    "in keys": ("table", lambda p: "b" in p.keys(), True),
    "dict": ("table", dict, {"a": 1, "b": 2, "c": 3}),
    "dict display": ("table", lambda p: {**p}, {"a": 1, "b": 2, "c": 3}),
    "keyword arguments": ("table", lambda p: (lambda **k: k)(**p), {"a": 1, "b": 2, "c": 3}),
    "update": ("table", lambda p: merged_here({"z": 0}, p), {"z": 0, "a": 1, "b": 2, "c": 3}),
    "dict of an OrderedDict": ("ordered", lambda p: list(dict(p)), ["y", "x"]),
    "items of an OrderedDict": ("ordered", lambda p: list(p.items()), [("y", 2), ("x", 1)]),
    "dict of a Counter": ("counter", dict, {"a": 2, "b": 1, "c": 1}),
    "common keys": ("table", lambda p: p.keys() & {"a", "q"}, {"a"}),
    "common keys, reflected": ("table", lambda p: {"a", "q"} & p.keys(), {"a"}),
    "other keys": ("table", lambda p: {"a", "q"} - p.keys(), {"q"}),
    "equal keys": ("table", lambda p: p.keys() == {"a", "b", "c"}, True),
    "equal keys, reflected": ("table", lambda p: {"a", "b", "c"} == p.keys(), True),
    "equal items": ("table", lambda p: p.items() >= {("a", 1)}, True),
}


def merged_here(target, *args):
    target.update(*args)
    return target


@pytest.mark.parametrize("name", WHOLE)
def test_what_needs_all_the_contents_is_one_round_trip(link, name):
    remote = link(SETUP)
    where, operation, expected = WHOLE[name]
    container = getattr(remote, where)
    with Count(remote) as count:
        result = operation(container)
    assert result == expected
    # `zip` has two iterators, each with a snapshot of its own.
    assert count.round_trips == (2 if name == "zip" else 1)


def test_ten_thousand_objects_are_one_shape_and_one_message_and_leave_in_two(link, no_leaks):
    remote = link(SETUP)
    things = remote.things
    session = session_of(remote)
    kind = remote.Thing
    with no_leaks(remote):
        with Count(remote) as count:
            objects = list(things)
        assert (count.round_trips, count.messages_sent, count.messages_received) == (1, 1, 1)
        assert len(objects) == 10_000
        assert all(type(thing) is kind for thing in objects)
        imported = session.stats()["imports"]
        with Count(remote) as count:
            del objects
            len(things)
        assert count.messages_sent <= 3
        assert imported - session.stats()["imports"] == 10_000


def test_an_iterator_that_a_subclass_redefines_is_asked_step_by_step(link):
    remote = link(SETUP)
    assert list(remote.backwards) == [3, 2, 1]
    assert next(iter(remote.endless)) == 0


def test_a_mapping_with_keys_of_its_own_is_merged_by_its_own_methods(link):
    assert dict(link(SETUP).renamed) == {"other": "from other"}


def test_views_are_live_and_real_where_they_are_sent(link):
    remote = link(SETUP)
    table = remote.table
    keys, values, items = table.keys(), table.values(), table.items()
    assert type(keys) is type({}.keys())
    assert type(items) is type({}.items())
    assert isinstance(values, collections.abc.ValuesView)
    table["d"] = 4
    assert list(keys)[-1] == "d"
    assert list(values)[-1] == 4
    assert ("d", 4) in items
    assert 4 in values
    assert remote.is_view(keys) == ("dict_keys", ["a", "b", "c", "d"])
    assert remote.echo(values) is values
    assert repr(remote.table.keys()) == "dict_keys(['a', 'b', 'c', 'd'])"
    assert keys.isdisjoint({"q"})
    assert type(remote.ordered.keys()) is type(collections.OrderedDict().keys())
    assert keys.mapping == remote.table


def test_a_view_that_was_sent_leaves_no_reference_behind(link, no_leaks):
    remote = link(SETUP)
    table, echo = remote.table, remote.echo
    with no_leaks(remote):
        view = table.items()
        assert echo(view) is view
        del view


def test_views_of_missing_arguments_fail_as_over_there(link):
    with pytest.raises(TypeError, match="takes no arguments"):
        link(SETUP).table.keys(1)


def test_a_merge_reads_each_value_again_in_the_next_merge(link):
    table = link(SETUP).table
    seen = []
    for number in range(3):
        table["a"] = number
        seen.append(dict(table)["a"])
        seen.append(table["a"])
    assert seen == [0, 0, 1, 1, 2, 2]


def test_the_other_side_merges_our_dicts(link):
    remote = link(SETUP)
    table, merged = remote.table, remote.merged
    with Count(remote) as count:
        result = merged(table, {"a": 9, "z": 8})
    assert dict(result) == {"a": 9, "b": 2, "c": 3, "z": 8}
    # The call, and the answer to the one snapshot that the other side took.
    assert count.messages_sent == 2


def test_a_slice_is_a_list_of_its_own(link):
    remote = link(SETUP)
    part = remote.numbers[:3]
    part.append("mine")
    assert part == [0, 1, 2, "mine"]
    assert len(remote.numbers) == 10
    with pytest.raises(TypeError, match="slice indices must be integers"):
        remote.numbers["a":]
    remote.numbers[0:2] = ["x"]
    assert remote.numbers[:2] == ["x", 2]
    del remote.numbers[:1]
    assert remote.numbers[0] == 2


def test_changes_in_place_reach_the_owner(link):
    remote = link(SETUP)
    letters = before = remote.letters
    letters |= {"z"}
    letters -= {"a"}
    assert letters is before
    assert remote.letters == {"b", "z"}
    table = remote.table
    table |= {"a": 5}
    assert remote.table["a"] == 5
    numbers = remote.numbers
    numbers += [1]
    numbers *= 2
    assert len(remote.numbers) == 22
    queue = remote.queue
    queue += [7]
    assert remote.queue[-1] == 7


def test_containers_of_other_kinds_compare_and_copy(link):
    remote = link(SETUP)
    assert remote.queue == collections.deque([1, 2, 3])
    assert collections.deque([1, 2, 3]) == remote.queue
    assert remote.queue != collections.deque([1])
    assert remote.ints == array.array("i", [1, 2, 3])
    assert remote.ints != array.array("i", [1])
    assert remote.ordered == {"x": 1, "y": 2}
    assert remote.ordered != collections.OrderedDict([("x", 1), ("y", 2)])
    assert remote.ordered == collections.OrderedDict([("y", 2), ("x", 1)])
    assert remote.default == {"k": [1]}
    assert remote.counter == collections.Counter("aabc")
    assert copy.copy(remote.numbers) == list(range(10))


def test_an_endless_object_is_no_snapshot(link):
    """What only looks like a container is not collected over there."""
    remote = link(SETUP)
    assert remote.endless != [0]
