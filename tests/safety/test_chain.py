"""A session routed through a third process: A - B - C."""

import pytest
from objspace import ConnectionLost
from objspace.distributed import session_of

# B: a server that is a client of C.
MIDDLE = """
import objspace
from objspace.distributed import session_of

far = None

def join(url):
    global far
    far = objspace.connect(url, policy=objspace.Policy.full())

def pass_on(value):
    return far.echo(value)

def through(value):
    "What C makes of it, through B and back."
    return far.call(value)

def get(name):
    return getattr(far, name)

def keep(value):
    return far.keep(value)

def kept():
    return far.kept()

def leave():
    session_of(far).close()
"""

END = """
class Wrong(LookupError):
    pass

class Thing:
    def __init__(self):
        self.numbers = [1]

    def add(self, number):
        self.numbers.append(number)
        return self

thing = Thing()
_kept = []

def echo(value):
    return value

def call(function):
    return function(thing)

def keep(value):
    _kept.append(value)

def kept():
    return _kept.pop()

def fail(text):
    raise Wrong(text)

def is_thing(value):
    return value is thing
"""


def repeat(ask):
    """Asks until it fails: the end of a process is not seen at once."""
    for _ in range(10_000):
        ask()


@pytest.fixture
def chain(serving, connected):
    """The view of B; and the servers B and C."""
    c = serving(END, full=True)
    b = serving(MIDDLE, full=True)
    import objspace

    remote = connected(b.url, policy=objspace.Policy.full())
    remote.join(c.url)
    return remote, b, c


def test_an_object_that_goes_all_the_way_comes_home_as_itself(chain):
    """A's object through B to C and back."""
    remote, _, _ = chain

    class Mine:
        pass

    for mine in ([1], {"a": 1}, Mine(), lambda: 1, Mine):
        assert remote.pass_on(mine) is mine
    remote.keep(mine := Mine())
    assert remote.kept() is mine


def test_an_object_of_the_far_end_is_usable_and_is_one_object(chain):
    """C's object through B."""
    remote, _, _ = chain
    thing = remote.get("thing")
    assert thing.add(2).add(3) is thing
    assert type(thing.numbers) is list
    assert thing.numbers == [1, 2, 3]
    assert remote.get("thing") is thing
    assert remote.pass_on(thing) is thing
    # At C it is C's own object again.
    assert remote.get("is_thing")(thing) is True


def test_a_callback_runs_at_this_end_with_objects_of_the_far_end(chain):
    remote, _, _ = chain
    seen = []

    def function(thing):
        seen.append(thing)
        return len(thing.numbers)

    assert remote.through(function) == 1
    assert seen == [remote.get("thing")]
    assert seen[0] is remote.get("thing")


def test_an_error_of_the_far_end_comes_through(chain):
    remote, _, _ = chain
    with pytest.raises(LookupError, match="lost") as caught:
        remote.get("fail")("lost")
    assert type(caught.value).__name__ == "Wrong"


def test_an_error_of_this_end_comes_back_as_itself(chain):
    remote, _, _ = chain

    class Mine(Exception):
        pass

    error = Mine("here")

    def function(thing):
        raise error

    with pytest.raises(Mine, match="here") as caught:
        remote.through(function)
    assert caught.value is error


def test_the_end_of_the_middle_is_told_here(chain):
    remote, b, _ = chain
    thing = remote.get("thing")
    remote.leave()
    with pytest.raises(ConnectionLost):
        thing.add(4)
    assert remote.pass_on is not None
    b.process.kill()
    with pytest.raises(ConnectionLost, match=r"tcp://127\.0\.0\.1"):
        repeat(session_of(remote).remote_keys)


def test_the_end_of_the_far_end_is_told_here(chain):
    remote, _, c = chain
    thing = remote.get("thing")
    c.process.kill()
    c.process.wait()
    with pytest.raises(ConnectionLost) as caught:
        repeat(lambda: thing.add(1))
    assert c.url in str(caught.value), "the error names the link that broke"
    # This end's own session is well.
    assert "join" in session_of(remote).remote_keys()
