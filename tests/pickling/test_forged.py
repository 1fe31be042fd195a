"""Forged and damaged states of frames: refused before anything is built, and never a crash."""

import collections
import io
import os
import pickle
import pickletools
import subprocess
import sys
import types
from pathlib import Path

import pytest
from objspace import pickling
from objspace._core import Reducer, wrap_pickle
from objspace.pickling import capture, run

FORGE = Path(__file__).with_name("forge.py")
NULL = sys.modules["objspace._pickles"].NULL


def taken_apart(generator):
    """`forge(change)`: the generator again, with its state changed by `change(list)`."""
    make, args, state, _, _, setter = Reducer("auto")(generator)

    def forge(change):
        values = list(state)
        change(values)
        made = make(*args)
        setter(made, tuple(values))
        return made

    return forge


def looping():
    total = 0
    for x in [1, 2, 3]:
        total += yield x
    return total


def test_a_state_that_was_not_changed_is_accepted():
    generator = looping()
    next(generator)
    made = taken_apart(generator)(lambda state: None)
    assert made.send(10) == 2


NEXT, HANDLED, VARIABLES = 0, 2, 4


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda s: s.pop(), id="a value is missing"),
        pytest.param(lambda s: s.append(1), id="a value too many"),
        pytest.param(lambda s: s.__setitem__(-2, 5), id="the iterator of the loop is none"),
        pytest.param(lambda s: s.__setitem__(-1, NULL), id="null on the stack"),
        pytest.param(lambda s: s.__setitem__(NEXT, s[NEXT] + 1), id="behind a resume"),
        pytest.param(lambda s: s.__setitem__(NEXT, 0), id="at the beginning"),
        pytest.param(lambda s: s.__setitem__(NEXT, 10**6), id="outside of the code"),
        pytest.param(lambda s: s.__setitem__(NEXT, -1), id="before the code"),
        pytest.param(lambda s: s.__setitem__(NEXT, 10**30), id="a huge number"),
        pytest.param(lambda s: s.__setitem__(NEXT, None), id="no number"),
        pytest.param(lambda s: s.__setitem__(HANDLED, 5), id="handles no exception"),
        pytest.param(lambda s: s.__setitem__(1, 64), id="unknown flags"),
        pytest.param(lambda s: s.clear(), id="empty"),
    ],
)
def test_a_forged_state_is_refused(change):
    generator = looping()
    next(generator)
    with pytest.raises((ValueError, TypeError)):
        taken_apart(generator)(change)
    # The original is as it was.
    assert generator.send(1) == 2


@pytest.mark.skipif(sys.version_info < (3, 12), reason="3.11 checks when it loads")
def test_an_unbound_variable_that_nothing_checks_is_refused():
    def keeping():
        kept = 1
        yield
        return kept

    generator = keeping()
    next(generator)
    with pytest.raises(ValueError, match="such a variable"):
        taken_apart(generator)(lambda state: state.__setitem__(VARIABLES, NULL))


def test_an_unbound_variable_that_is_checked_is_accepted():
    def late():
        yield
        if never:
            value = 1
        yield value

    never = False
    generator = late()
    next(generator)
    made = taken_apart(generator)(lambda state: None)
    with pytest.raises(UnboundLocalError):
        next(made)


def test_cells_are_where_cells_belong():
    def outer():
        shared = 1

        def inner():
            return shared

        yield
        yield inner()

    generator = outer()
    next(generator)
    forge = taken_apart(generator)

    def plain(state):
        for index, value in enumerate(state):
            if isinstance(value, types.CellType):
                state[index] = value.cell_contents

    with pytest.raises(ValueError, match="such a variable"):
        forge(plain)
    assert next(forge(lambda state: None)) == 1


def test_exceptions_are_where_exceptions_belong():
    def handling():
        try:
            raise KeyError(1)
        except KeyError:
            yield
            raise

    generator = handling()
    next(generator)
    forge = taken_apart(generator)
    handled = [
        index
        for index, value in enumerate(Reducer("auto")(generator)[2])
        if isinstance(value, KeyError)
    ]
    assert handled
    for index in handled:
        with pytest.raises(ValueError):  # noqa: PT011
            forge(lambda state, index=index: state.__setitem__(index, "no exception"))


def test_a_state_is_given_once_and_to_what_waits_for_it():
    make, args, state, _, _, setter = Reducer("auto")(looping())
    made = make(*args)
    # Before it has a state it is nothing that runs.
    assert list(made) == []
    setter(made, state)
    with pytest.raises(ValueError, match="has a state already"):
        setter(made, state)
    for other in (5, None, looping(), [1]):
        with pytest.raises((ValueError, TypeError)):
            setter(other, state)
    assert next(made) == 1


def test_another_python_and_another_format_are_refused():
    make, args, *_ = Reducer("auto")(looping())
    tag, *rest = args
    assert tag >> 16 == sys.version_info.minor
    with pytest.raises(pickling.UnpicklingError, match=r"Python 3\.10 cannot be loaded by"):
        make(tag & 0xFFFF | 10 << 16, *rest)
    with pytest.raises(pickling.UnpicklingError, match="format 9"):
        make(tag & 0xFF00FF | 9 << 8, *rest)


def test_code_of_another_kind_is_refused():
    make, (tag, code, *rest), *_ = Reducer("auto")(looping())
    with pytest.raises(ValueError, match="is not the code of a"):
        make(tag, taken_apart.__code__, *rest)
    with pytest.raises(TypeError, match="not a code object"):
        make(tag, "code", *rest)
    with pytest.raises(ValueError, match="is not the code of a coroutine"):
        make(tag | 1, code, *rest)


def test_a_forged_chain_is_refused():
    def program():
        return [1, capture()]

    continuation = run(program)[1]
    make, args, ((tag, handled, frames), attributes), _, _, setter = Reducer("auto")(continuation)
    (frame,) = frames
    at, follows, action = 4, 5, 6
    for index, value in [(at, 0), (at, 999), (follows, 0), (action, 1), (action, 99), (-1, NULL)]:
        forged = list(frame)
        forged[index] = value
        with pytest.raises((ValueError, TypeError)):
            setter(make(*args), ((tag, handled, (tuple(forged),)), attributes))
    for short in (frame[:-1], (*frame, 1), ()):
        with pytest.raises((ValueError, TypeError)):
            setter(make(*args), ((tag, handled, (short,)), attributes))
    with pytest.raises(ValueError, match="no frames"):
        setter(make(*args), ((tag, handled, ()), attributes))
    whole = make(*args)
    setter(whole, ((tag, handled, frames), attributes))
    assert whole.resume("value") == [1, "value"]


def test_every_value_of_every_state_may_be_replaced_by_junk():
    done = subprocess.run(
        [sys.executable, FORGE.with_name("exhaust.py")],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    refused, accepted = map(int, done.stdout.split())
    assert refused > 1000
    assert refused + accepted > 20_000


@pytest.mark.parametrize("seed", [1, 2])
def test_mutated_states_and_pickles_never_crash(seed):
    done = subprocess.run(
        [sys.executable, FORGE, str(seed), "2500"],
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
        # What writes beyond the memory of an object is noticed.
        env={**os.environ, "PYTHONMALLOC": "debug"},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    refused, accepted = map(int, done.stdout.split())
    assert refused + accepted == 2500
    # Some mutations change only what the program computes with.
    assert refused > 1500
    assert accepted > 50


HUGE = {
    "a place in the memo": b"\x80\x04Nr\xff\xff\xff\x7f.",
    "a place in the memo, as text": b"Np2000000000\n.",
    "with blanks": b"Np \t 2_000_000_000 \n.",
    "beyond all numbers": b"Np99999999999999999999999999\n.",
    "bytes": b"\x80\x04\x8e\x00\x00\x00\x00\x10\x00\x00\x00abc.",
    "a byte array": b"\x80\x05\x96\x00\x00\x00\x00\x10\x00\x00\x00abc.",
    "bytes, in short": b"\x80\x03B\xff\xff\xff\x7fabc.",
    "text": b"\x80\x04\x8d\x00\x00\x00\x00\x00\x00\x00\x80abc.",
    "behind others": pickle.dumps([1.5, "x", {2: b"y"}, 2**70], 4)[:-1] + b"r\x00\x00\x00\x40.",
    "behind names": b"cbuiltins\nlist\nI5\nS'x'\nr\x00\x00\x00\x40.",
}


@pytest.mark.parametrize("name", HUGE)
def test_no_pickle_makes_us_allocate_more_than_it_fills(name):
    for data in (HUGE[name], wrap_pickle(HUGE[name])):
        with pytest.raises(pickling.UnpicklingError, match="more memory than it can fill"):
            pickling.loads(data)
    with pytest.raises(pickling.UnpicklingError, match="more memory than it can fill"):
        pickling.load(io.BytesIO(wrap_pickle(HUGE[name])))


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_all_pickles_of_many_objects_are_within_their_bounds(protocol):
    value = [
        [{str(i): (i, float(i), bytes([i % 256]) * i, "é" * i)} for i in range(600)],
        [2**i for i in range(0, 9000, 97)],
        [{1, 2}, frozenset([3, 4]), bytearray(b"xyz" * 400), True, None, -5, "line\nline\\"],
        [collections.OrderedDict(a=1), collections.deque([1]), range, len, 1j],
    ]
    text = repr(value)
    for data in (pickle.dumps(value, protocol), pickling.dumps(value, protocol)):
        assert repr(pickling.loads(data)) == text
    assert repr(pickling.loads(pickletools.optimize(pickle.dumps(value, protocol)))) == text
    # What follows the end is none of the pickle.
    assert pickling.loads(pickle.dumps(5, protocol) + HUGE["a place in the memo"]) == 5
