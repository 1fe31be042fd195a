"""Remote classes: real local classes, told once."""

import dataclasses
import inspect

import objspace

SETUP = '''
class Base:
    """The base."""

    kind = "base"

    def __init__(self, name="anonymous"):
        self.name = name

    def greet(self, whom: str = "you") -> str:
        """Greet somebody."""
        return f"{self.name} greets {whom}"

    def use(self):
        return self.hook()

    def hook(self):
        return "remote hook"

    @property
    def shout(self):
        return self.name.upper()

    @classmethod
    def make(cls):
        return cls("made")

    @staticmethod
    def add(a, b):
        return a + b

    def __len__(self):
        return len(self.name)


class Derived(Base):
    pass


thing = Derived("thing")

def use(obj):
    return obj.use()
'''


def test_type_isinstance_and_facts_cost_nothing(link):
    remote = link(SETUP)
    thing, base, derived = remote.thing, remote.Base, remote.Derived
    session = objspace.distributed.session_of(remote)
    before = session.stats()["round_trips"]
    assert type(thing) is derived
    assert isinstance(thing, base)
    assert issubclass(derived, base)
    assert derived.__name__ == "Derived"
    assert base.__doc__ == "The base."
    assert str(inspect.signature(base.greet)) == "(self, whom: str = 'you') -> str"
    assert base.greet.__doc__ == "Greet somebody."
    assert isinstance(base, type)
    assert session.stats()["round_trips"] == before


def test_instances_are_made_over_there(link):
    remote = link(SETUP)
    made = remote.Base("new")
    assert made.greet("me") == "new greets me"
    assert made.name == "new"
    assert made.shout == "NEW"
    assert len(made) == 3
    assert type(remote.Derived.make()) is remote.Derived
    assert remote.Base.add(1, 2) == 3


def test_a_method_call_is_one_round_trip(link):
    thing = link(SETUP).thing
    session = objspace.distributed.session_of(thing)
    before = session.stats()
    # Not inside an assert: pytest rewrites that into a fetch, a store and a later call.
    greeting = thing.greet("me")
    after = session.stats()
    assert greeting == "thing greets me"
    assert after["round_trips"] - before["round_trips"] == 1
    assert after["messages_sent"] - before["messages_sent"] == 1


def test_a_remote_class_can_be_subclassed(link):
    remote = link(SETUP)

    class Local(remote.Base):
        def hook(self):
            return f"local hook of {self.name}"

    local = Local("sub")
    assert local.use() == "local hook of sub"
    assert remote.use(local) == "local hook of sub"
    assert local.greet() == "sub greets you"


DATACLASS = """
import dataclasses

@dataclasses.dataclass
class Point:
    x: int
    y: int = 2

point = Point(1)
"""


def test_a_remote_dataclass_is_one_for_the_dataclasses_module(link):
    point = link(DATACLASS).point
    assert dataclasses.is_dataclass(point)
    assert dataclasses.asdict(point) == {"x": 1, "y": 2}
    assert [field.name for field in dataclasses.fields(point)] == ["x", "y"]


def test_threads_that_meet_a_class_at_once_each_get_it(link):
    """Its shape is sent once, and before any of them hears of the class."""
    import threading

    for _ in range(20):
        remote = link(
            "class Thing:\n    def name(self): return 'thing'\ndef make(): return Thing()"
        )
        make, found = remote.make, []
        start = threading.Barrier(4)

        def run(make=make, start=start, found=found):
            start.wait(20)
            found.append(make())

        threads = [threading.Thread(target=run) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(20)
        assert [thing.name() for thing in found] == ["thing"] * 4
        assert len({type(thing) for thing in found}) == 1
