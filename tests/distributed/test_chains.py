"""Attribute chains: one round trip where nobody can tell, the plain meaning everywhere."""

import contextlib
import sys

import pytest
from objspace.distributed import session_of

SETUP = """
class Leaf:
    def d(self, *args, **kwargs):
        return (args, kwargs) if args or kwargs else 99

class B:
    def __init__(self):
        self.c = Leaf()
        self.name = "text"
        self.table = {"a": 1}
        self.numbers = [3, 1, 2]

class A:
    def __init__(self):
        self.b = B()
        self.seen = []

    @property
    def noisy(self):
        self.seen.append("noisy")
        return self.b

    @property
    def broken(self):
        raise ValueError("broken")

a = A()
kind = A

def double(number):
    return number * 2

def keep(thing):
    a.mine = thing
"""


@contextlib.contextmanager
def trips(remote, count):
    session = session_of(remote)
    before = session.stats()["round_trips"]
    yield
    assert session.stats()["round_trips"] - before == count


@pytest.fixture
def remote(link):
    """A view whose classes are known already."""
    view = link(SETUP)
    session_of(view).get_remote("a").b.c.d()
    return view


def test_a_chain_that_ends_in_a_call_is_one_round_trip(remote):
    a = remote.a
    with trips(remote, 1):
        result = a.b.c.d()
    assert result == 99
    with trips(remote, 1):
        result = a.b.c.d(1, key=result)
    assert result == ((1,), {"key": 99})


def test_a_chain_of_attributes_is_one_round_trip(remote):
    a = remote.a
    with trips(remote, 1):
        leaf = a.b.c
    assert leaf.d() == 99
    with trips(remote, 1):
        name = a.b.name
    assert name == "text"


def test_chains_from_the_view_are_one_round_trip(remote):
    with trips(remote, 1):
        result = remote.a.b.c.d()
    assert result == 99
    with trips(remote, 1):
        result = remote.a.b.name
    assert result == "text"
    with trips(remote, 1):
        result = remote.double(21)
    assert result == 42


def test_a_call_whose_arguments_run_code_is_fetched_first(remote):
    a = remote.a

    def argument():
        a.seen.append("argument")
        return 5

    with trips(remote, 3):
        result = a.noisy.c.d(argument())
    assert result == ((5,), {})
    assert list(a.seen) == ["noisy", "argument"]
    with pytest.raises(AttributeError, match="nothing"):
        a.b.nothing(argument())
    assert list(a.seen) == ["noisy", "argument"]


def test_copied_values_end_the_path_and_the_rest_happens_here(remote):
    a = remote.a
    with trips(remote, 1):
        result = a.b.name.upper()
    assert result == "TEXT"
    with trips(remote, 1):
        bits = a.b.name.real if hasattr(str, "real") else a.b.name.title()
    assert bits == "Text"


def test_what_comes_home_is_used_here(remote):
    class Mine:
        _secret = "secret"

        def _where(self):
            return sys._getframe(1).f_code.co_name

    mine = Mine()
    remote.keep(mine)
    a = remote.a
    with trips(remote, 1):
        result = a.mine._secret
    assert result == "secret"
    with trips(remote, 1):
        where = a.mine._where()
    assert where == "test_what_comes_home_is_used_here"


def test_views_of_dicts_and_classes_keep_their_meaning(remote):
    a = remote.a
    assert type(a.b.table.items()) is type({}.items())
    assert dict(a.b.table.items()) == {"a": 1}
    assert sorted(a.b.numbers) == [1, 2, 3]
    assert a.b.c.__class__.__name__ == "Leaf"
    assert remote.kind.__name__ == "A"
    assert type(remote.kind()) is remote.kind


def test_errors_are_those_of_the_first_step_that_fails(remote):
    a = remote.a
    with pytest.raises(AttributeError, match=r"'B' object has no attribute 'x'"):
        a.b.x.y.z()
    with pytest.raises(ValueError, match="broken"):
        a.broken.c.d()
    with pytest.raises(AttributeError, match="missing is not exported"):
        remote.missing.b.c()
    with pytest.raises(AttributeError, match="missing is not exported"):
        remote.missing(1)
    with pytest.raises(TypeError, match="not callable"):
        a.b.c()
    assert a.b.c.d() == 99


def test_a_traced_frame_sees_every_step(remote):
    a = remote.a

    def traced():
        return a.b.c.d()

    old = sys.gettrace()
    sys.settrace(lambda *_: None)
    try:
        result = traced()
    finally:
        sys.settrace(old)
    assert result == 99
