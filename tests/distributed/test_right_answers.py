"""What other libraries for remote objects answer wrongly or refuse, and the right answer here."""

import asyncio
import datetime
import decimal
import inspect
import json
import os.path
import threading

import pytest
from objspace.distributed import session_of

OBJECTS = """
import datetime, decimal

items = [1, 2, 3]
table = {"a": 1}

def numbers():
    received = yield 1
    return received * 2

class Manager:
    def __init__(self):
        self.seen = None
    def __enter__(self):
        return self
    def __exit__(self, kind, error, traceback):
        self.seen = (kind.__name__, error.args, traceback is not None)
        return kind is LookupError
manager = Manager()

class Text(str): pass
class Amount(decimal.Decimal): pass
class Moment(datetime.datetime): pass
text, amount, moment = Text("folder"), Amount("1.5"), Moment(2020, 1, 1)
data = bytearray(b"abc")

class Item:
    def __init__(self, number): self.number = number
many = [Item(number) for number in range(2000)]

def nameless(module):
    return type("Nameless", (), {"__module__": module})()

def of_nowhere():
    names = {}
    exec("class Nowhere: pass", names)
    return names["Nowhere"]()

async def awaited(value):
    return value * 2

def delegate(generator):
    return (yield from generator)

class Odd:
    def __eq__(self, other): return "equal to everything"
    def __ne__(self, other): return []
    __hash__ = None
odd = Odd()
"""


def messages(remote, action):
    """How many messages an action takes, sent and received."""
    session = session_of(remote)
    before = session.stats()
    action()
    after = session.stats()
    return (
        after["messages_sent"] - before["messages_sent"],
        after["messages_received"] - before["messages_received"],
    )


# Wrong without a word


def test_a_list_equals_its_likeness_from_both_sides(link):
    items = link(OBJECTS).items
    assert items == [1, 2, 3]
    assert [1, 2, 3] == items
    assert not items != [1, 2, 3]
    assert items != [1, 2]
    assert items < [1, 2, 4]
    assert [1, 2, 4] > items


def test_an_answer_of_eq_that_is_no_bool_is_that_answer(link):
    odd = link(OBJECTS).odd
    assert (odd == 5) == "equal to everything"
    assert (5 == odd) == "equal to everything"
    assert (odd != 5) == []


def test_the_return_value_of_a_generator(link):
    generator = link(OBJECTS).numbers()
    assert next(generator) == 1
    with pytest.raises(StopIteration) as stop:
        generator.send(21)
    assert stop.value.value == 42

    def around():
        return (yield from link_numbers)

    remote = link(OBJECTS)
    link_numbers = remote.numbers()
    generator = around()
    assert next(generator) == 1
    with pytest.raises(StopIteration) as stop:
        generator.send(4)
    assert stop.value.value == 8


def test_the_return_value_of_a_generator_of_ours_over_there(link):
    def ours():
        assert (yield "first") == "sent"
        return "returned"

    generator = link(OBJECTS).delegate(ours())
    assert next(generator) == "first"
    with pytest.raises(StopIteration) as stop:
        generator.send("sent")
    assert stop.value.value == "returned"


def test_exit_sees_the_true_exception(link):
    manager = link(OBJECTS).manager
    with manager:
        raise LookupError("what", 5)
    assert tuple(manager.seen) == ("LookupError", ("what", 5), True)
    with pytest.raises(ZeroDivisionError), manager:
        1 / 0
    assert tuple(manager.seen)[0] == "ZeroDivisionError"

    class Mine(Exception):
        pass

    original = Mine("mine")
    with pytest.raises(Mine) as caught, manager:
        raise original
    assert caught.value is original
    assert tuple(manager.seen) == ("Mine", ("mine",), True)


def test_awaiting_a_remote_coroutine_gives_its_value(link):
    remote = link(OBJECTS)

    async def main():
        return await remote.awaited(21)

    assert asyncio.run(main()) == 42


# Refused


def test_lists_are_added_from_both_sides(link):
    items = link(OBJECTS).items
    assert items + [4] == [1, 2, 3, 4]
    assert [0] + items == [0, 1, 2, 3]
    assert [*items, *items] == [1, 2, 3, 1, 2, 3]


def test_numbers_and_times_of_subclasses_take_part_in_arithmetic(link):
    remote = link(OBJECTS)
    assert decimal.Decimal(1) + remote.amount == decimal.Decimal("2.5")
    assert remote.amount * 2 == 3
    now = datetime.datetime(2020, 1, 2)
    assert now - remote.moment == datetime.timedelta(days=1)
    assert remote.moment - now == datetime.timedelta(days=-1)
    assert remote.moment < now


def test_methods_of_the_type_take_a_remote_object(link):
    items = link(OBJECTS).items
    list.append(items, 4)
    assert items == [1, 2, 3, 4]
    assert list.__len__(items) == len(items) == 4
    assert list.index(items, 3) == 2


def test_json(link):
    remote = link(OBJECTS)
    assert json.loads(json.dumps({"x": remote.items, "y": remote.table})) == {
        "x": [1, 2, 3],
        "y": {"a": 1},
    }


def test_patterns(link):
    remote = link(OBJECTS)
    match remote.items:
        case [1, *rest]:
            assert rest == [2, 3]
        case _:
            pytest.fail("a sequence pattern does not match a remote list")
    match remote.table:
        case {"a": value}:
            assert value == 1
        case _:
            pytest.fail("a mapping pattern does not match a remote dict")
    match remote.many[5]:
        case remote.Item(number=number):
            assert number == 5
        case _:
            pytest.fail("a class pattern does not match a remote object")


def test_a_path_of_a_subclass_of_str(link):
    text = link(OBJECTS).text
    assert isinstance(text, str)
    assert os.path.join(text.upper(), "x") == "FOLDER/x"
    assert str(text) == "folder"
    assert text + "/x" == "folder/x"


def test_a_generic_class_and_a_subclass(link):
    remote = link(
        """
        from typing import Generic, TypeVar
        T = TypeVar("T")
        class Box(Generic[T]):
            def __init__(self, value): self.value = value
            def get(self): return self.value
            def twice(self): return self.get(), self.get()
        """
    )
    assert remote.Box[int](3).get() == 3
    assert isinstance(remote.Box, type)
    assert issubclass(remote.Box, remote.Box)

    class Mine(remote.Box):
        def get(self):
            return super().get() + 1

    assert tuple(Mine(1).twice()) == (2, 2)


def test_an_object_of_a_class_without_module_travels(link):
    remote = link(OBJECTS)
    for module in (None, 5, "", "no such module", "builtins"):
        assert type(remote.nameless(module)).__name__ == "Nameless"
    assert type(remote.of_nowhere()).__name__ == "Nowhere"
    assert remote.items == [1, 2, 3]


def test_an_attribute_that_cannot_be_sent_ends_neither_call_nor_session(link):
    remote = link(
        OBJECTS
        + """
class Meta(type):
    def __getattribute__(cls, name):
        if name in ("__module__", "__qualname__"):
            raise RuntimeError("no " + name)
        return type.__getattribute__(cls, name)
class Hostile(metaclass=Meta):
    def __repr__(self): raise RuntimeError("no repr")
hostile = Hostile()
"""
    )
    assert type(remote.hostile).__name__ == "Hostile"
    with pytest.raises(RuntimeError, match="no repr"):
        repr(remote.hostile)
    assert remote.items == [1, 2, 3]


# Many messages


def test_a_loop_is_one_message_and_so_is_the_release_of_what_it_brought(link):
    remote = link(OBJECTS)
    many = remote.many
    first = many[0]  # its class has been told
    assert first.number == 0
    held = []
    assert messages(remote, lambda: held.extend(many)) == (1, 1)
    assert len(held) == 2000
    held.clear()
    sent, _ = messages(remote, lambda: many[0])
    assert sent <= 3


def test_checks_of_classes_cost_nothing(link):
    remote = link(OBJECTS)
    cls, one = remote.Item, remote.many[0]

    def check():
        assert type(one) is cls
        assert isinstance(one, cls)
        assert not isinstance(3, cls)
        assert issubclass(cls, object)
        assert isinstance(cls, type)
        assert not issubclass(int, cls)
        assert inspect.isclass(cls)
        assert callable(cls)

    assert messages(remote, check) == (0, 0)


def test_the_collector_does_not_send(link):
    import gc

    remote = link(OBJECTS)
    kept = [remote.items, remote.many[0], remote.Item]
    assert messages(remote, gc.collect) == (0, 0)
    assert messages(remote, lambda: [isinstance(x, dict) for x in gc.get_objects()]) == (0, 0)
    assert kept


# Threads


def test_a_callback_runs_on_the_thread_that_waits_and_holds_its_lock(link):
    remote = link("def call(f): return f()")
    lock = threading.RLock()

    def locked():
        with lock:
            return threading.current_thread().name

    def outer():
        with lock:
            return remote.call(lambda: remote.call(locked))

    found = []
    thread = threading.Thread(target=lambda: found.append(outer()), name="waits")
    thread.start()
    thread.join(20)
    assert found == ["waits"]


def test_thread_locals_hold_across_nested_calls(link):
    remote = link(
        """
        import threading
        local = threading.local()
        def outer(f):
            local.value = "set"
            f()
            return local.value
        def inner():
            return getattr(local, "value", None)
        """
    )
    seen = []
    assert remote.outer(lambda: seen.append(remote.inner())) == "set"
    assert seen == ["set"]


def test_another_thread_has_other_thread_locals(link):
    remote = link(
        """
        import threading
        local = threading.local()
        def put(value):
            local.value = value
        def get(f):
            f()
            return getattr(local, "value", None)
        """
    )
    results = []

    def elsewhere():
        thread = threading.Thread(target=lambda: results.append(remote.put("other")))
        thread.start()
        thread.join(20)

    assert remote.get(elsewhere) is None
    assert results == [None]
