"""Random programs give the same on objects of one process and on those of two.

`make soak` runs ten thousand and more.
"""

from collections import deque

import pytest
from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st

from .twin.compare import Different, random_program, smallest, soak, twins
from .twin.program import OPERATIONS

NUMBER = st.integers(0, 0xFFFF)
PROGRAMS = st.lists(st.tuples(NUMBER, NUMBER, NUMBER, NUMBER), min_size=1, max_size=14)


@pytest.fixture(scope="module")
def world():
    import random

    with twins(1) as world:
        for seed in range(30):
            world.run(random_program(random.Random(seed), 40))
        yield world, world.settled(world.settled())


@settings(
    max_examples=200, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck)
)
@given(program=PROGRAMS)
def test_a_program_gives_the_same_and_leaves_nothing_behind(world, program):
    twin, before = world
    names = list(OPERATIONS)
    note([names[step[0] % len(names)] for step in program])
    twin.run(program)
    assert twin.settled(before) == before


def test_programs_at_the_same_time_on_a_slow_channel():
    assert soak(90, 3, 7, 0.0005) == []


def test_a_difference_would_be_found(world, monkeypatch):
    """The comparison sees a world that is only slightly wrong."""
    import random

    twin, _ = world
    there = twin.remote

    class Wrong:
        def __getattr__(self, name):
            return getattr(there, name)

        def caught(self, function, *args):
            outcome = there.caught(function, *args)
            return ("returned", None) if outcome[0] == "raised" else outcome

    monkeypatch.setattr(twin, "remote", Wrong())
    choice = random.Random(3)
    programs = [random_program(choice) for _ in range(300)]
    with pytest.raises(Different) as found:
        deque(map(twin.run, programs), maxlen=0)
    program = next(p for p in programs if f"program: {p}" in str(found.value))
    assert "caught_over_there" in str(found.value)
    assert len(smallest(twin, program)) == 1
