"""The seed example of the mission: `x.foo(1, [1, 2, 3], y)`, over every channel."""

import objspace

SETUP = """
class X:
    def foo(self, number, items, y):
        self.number, self.items, self.y = number, items, y
        return "foo"

    def facts(self):
        return type(self.number).__name__, type(self.items) is list, type(self.y).__name__

    def look(self):
        return [item * 10 for item in self.items], len(self.items)

    def methods_of_y(self):
        return [name for name in dir(type(self.y)) if not name.startswith("_")]

    def ask_y(self):
        return self.y.greet("there"), self.y.name

    def forget(self):
        del self.number, self.items, self.y

x = X()
"""


class Y:
    """A class that only the caller has."""

    def __init__(self, name):
        self.name = name

    def greet(self, whom):
        return f"{self.name} greets {whom}"


def test_values_are_copied_and_objects_stay_where_they_are(link):
    remote = link(SETUP)
    session = objspace.distributed.session_of(remote)
    x, items, y = remote.x, [1, 2, 3], Y("why")
    before = session.stats()
    result = x.foo(1, items, y)
    after = session.stats()
    assert result == "foo"
    assert after["round_trips"] - before["round_trips"] == 1
    assert after["exports"] - before["exports"] >= 2  # the list and y; y's class is described once
    assert x.facts() == ("int", True, "Y")


def test_a_list_moves_only_when_it_is_looked_at(link):
    remote = link(SETUP)
    session = objspace.distributed.session_of(remote)
    x, items = remote.x, list(range(10_000))
    before = session.stats()
    x.foo(1, items, None)
    sent = session.stats()["bytes_sent"] - before["bytes_sent"]
    assert sent < 200
    before = session.stats()
    contents, length = x.look()
    assert (contents[3], length) == (30, 10_000)
    assert session.stats()["bytes_sent"] - before["bytes_sent"] > 10_000


def test_changes_are_seen_by_both_sides(link):
    x, items = link(SETUP).x, [1, 2, 3]
    x.foo(1, items, None)
    items.append(4)
    assert list(x.look()[0]) == [10, 20, 30, 40]
    x.items.append(5)
    assert items == [1, 2, 3, 4, 5]


def test_an_object_of_an_unknown_class_can_be_inspected_and_called_back(link):
    x = link(SETUP).x
    x.foo(1, [], Y("why"))
    assert list(x.methods_of_y()) == ["greet"]
    assert x.ask_y() == ("why greets there", "why")


def test_an_object_comes_home_as_itself(link):
    x, items, y = link(SETUP).x, [1], Y("why")
    x.foo(1, items, y)
    assert x.items is items
    assert x.y is y
