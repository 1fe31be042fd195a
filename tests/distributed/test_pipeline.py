"""`with session.pipeline():` — dependent and independent calls in one round trip."""

import contextlib
import contextvars
import copy
import operator
import pickle
import threading

import pytest
from objspace.distributed import ConnectionLost, Promise, pair, session_of

SETUP = """
import threading

class Adder:
    def __init__(self, start=0):
        self.total = start
        self.log = []

    def add(self, a, b):
        return a + b

    def grow(self, by):
        self.total += by
        self.log.append(by)
        return self

    def fail(self, text="boom"):
        raise ValueError(text)

    def numbers(self):
        return [1, 2, 3]

    def call(self, function, *args):
        return function(*args)

    def ident(self):
        return threading.get_ident()

    def same(self, other):
        return other is self

    def echo(self, value):
        return value

adder = Adder()

def make(start):
    return Adder(start)

def wait_for(event):
    return event.wait(20)
"""


@contextlib.contextmanager
def trips(session, count):
    """The body takes exactly so many round trips."""
    before = session.stats()["round_trips"]
    yield
    assert session.stats()["round_trips"] - before == count


@pytest.fixture
def adder(link):
    """A remote object whose class is known already."""
    remote = link(SETUP)
    found = remote.adder
    assert found.add(1, 2) == 3
    return found


def test_independent_calls_are_one_round_trip(adder):
    session = session_of(adder)
    with trips(session, 1):
        with session.pipeline():
            promises = [adder.add(n, 1) for n in range(100)]
        assert [promise.value for promise in promises] == list(range(1, 101))


def test_dependent_calls_are_one_round_trip(link):
    remote = link(SETUP)
    session = session_of(remote)
    remote.make(0)
    make = remote.make
    with trips(session, 1):
        with session.pipeline():
            thing = make(5)
            total = thing.grow(2).grow(3).total
            double = total * 2
            nested = thing.echo((1, (total, thing)))
            item = thing.numbers()[1]
            same = thing.same(thing)
        assert total.value == 10
        assert double.value == 20
        assert item.value == 2
        assert same.value is True
        assert nested.value[0] == 1
        assert nested.value[1][0] == 10
        assert nested.value[1][1] is thing.value


def test_a_whole_path_from_the_view_is_one_round_trip(link):
    remote = link(SETUP)
    assert remote.adder.add(1, 1) == 2
    session = session_of(remote)
    with trips(session, 1):
        with session.pipeline():
            result = remote.adder.add(*(2, 3))
        assert result.value == 5


def test_calls_take_effect_in_the_order_of_the_program(adder):
    session = session_of(adder)
    with session.pipeline():
        for n in range(50):
            adder.grow(n)
        adder.log.append("last")
    assert list(adder.log) == [*range(50), "last"]


def test_attributes_and_items_are_set_without_waiting(adder):
    session = session_of(adder)
    log = adder.log
    adder.log.extend([1, 2, 3])
    with trips(session, 1), session.pipeline():
        adder.total = 41
        adder.echo(adder).total = 42
        log[0] = "first"
        del log[1]
        fetched = adder.log
        fetched[1] = "last"
        del fetched[1]
        adder.kept = fetched
    assert adder.total == 42
    assert list(log) == ["first"]
    assert adder.kept is log


def test_a_promise_is_waited_for_where_python_needs_the_answer(adder):
    session = session_of(adder)
    with session.pipeline():
        number = adder.add(1, 2)
        numbers = adder.numbers()
        with trips(session, 1):
            assert number
        # The promise, and then the length of the remote list that it is.
        with trips(session, 2):
            assert len(numbers) == 3
        assert list(numbers) == [1, 2, 3]
        assert 2 in numbers
        zero = adder.add(0, 0)
        assert not zero
        assert int(adder.add(1, 2)) == 3
        assert range(10)[adder.add(1, 2)] == 3
        assert f"{adder.add(1, 2):03d}" == "003"
        assert str(adder.add(1, 2)) == "3"
        assert {adder.add(1, 2): "x"}[3] == "x"
        assert adder.add(1, 2) == 3  # a promise of True, whose truth is waited for
        assert not adder.add(1, 2) == 4
        assert float(adder.add(1, 2)) == 3.0
        assert complex(adder.add(1, 2)) == 3
        assert round(adder.add(1.26, 0), 1) == 1.3
        assert bytes(adder.echo(b"x")) == b"x"
        assert list(reversed(adder.numbers())) == [3, 2, 1]


@pytest.mark.parametrize(
    "function",
    [
        *(getattr(operator, name) for name in "add sub mul floordiv mod pow and_ or_ xor".split()),
        *(getattr(operator, name) for name in "truediv lshift rshift lt le eq ne gt ge".split()),
        divmod,
    ],
    ids=lambda function: function.__name__,
)
def test_operators_on_either_side_and_on_two_promises(adder, function):
    session = session_of(adder)
    with trips(session, 1):
        with session.pipeline():
            seven, two = adder.add(3, 4), adder.add(1, 1)
            results = [function(seven, 2), function(7, two), function(seven, two)]
            assert all(type(result) is Promise for result in results)
        assert [result.value for result in results] == [function(7, 2)] * 3
    # Afterwards a promise is its value.
    assert function(seven, 2) == function(7, two) == function(seven, two) == function(7, 2)
    assert type(function(seven, 2)) is type(function(7, 2))


def test_unary_operators(adder):
    session = session_of(adder)
    with trips(session, 1):
        with session.pipeline():
            seven = adder.add(3, 4)
            results = [-seven, +seven, ~seven, abs(-seven)]
        assert [result.value for result in results] == [-7, 7, -8, 7]


def test_an_operator_that_neither_side_has_is_an_error_not_a_value(adder):
    session = session_of(adder)
    with pytest.raises(TypeError, match="unsupported operand"), session.pipeline():
        _ = adder.add(1, 2) + "text"
    with pytest.raises(TypeError, match="concatenate"), session.pipeline():
        _ = "text" + adder.add(1, 2)
    with session.pipeline():
        both = [0] + adder.numbers()
    assert both.value == [0, 1, 2, 3]


def test_in_place_operators_are_refused(adder):
    session = session_of(adder)
    with session.pipeline():
        number = adder.add(1, 2)
        for function in (operator.iadd, operator.ior, operator.ipow, operator.imatmul):
            with pytest.raises(TypeError, match="in place"):
                function(number, 1)
    assert number.value == 3


def test_after_the_block_a_promise_is_its_value(adder):
    session = session_of(adder)
    with session.pipeline():
        number, numbers, me = adder.add(1, 2), adder.numbers(), adder.echo(adder)
        text = adder.echo("abc")
    assert number + 1 == 4
    assert type(number + 1) is int
    assert numbers[0] == 1
    assert me.add(2, 2) == 4
    assert me.value is adder
    assert text.upper() == "ABC"
    assert adder.add(number, number) == 6
    assert adder.same(me) is True
    assert repr(number) == "<the promise of add(): 3>"
    assert session_of(me.value).peer == session.peer


def test_the_first_error_is_raised_at_the_end_and_every_promise_raises_its_own(adder):
    session = session_of(adder)
    with pytest.raises(ValueError, match=r"^one") as caught, session.pipeline():
        good = adder.add(1, 2)
        bad = adder.fail("one")
        later = bad.anything(1)[2] + 3
        worse = adder.fail("two")
        last = adder.add(3, 4)
    assert good.value == 3
    assert last.value == 7
    assert caught.value.__notes__ == ["also failed in this pipeline() block: ValueError: two"]
    for promise, text in ((bad, "one"), (later, "one"), (worse, "two")):
        with pytest.raises(ValueError, match=f"^{text}"):
            promise.value
        with pytest.raises(ValueError, match=f"^{text}"):
            promise + 1
        with pytest.raises(ValueError, match=f"^{text}"):
            adder.echo(promise)


def test_an_error_in_an_argument_is_the_error_of_the_call(adder):
    session = session_of(adder)
    before = list(adder.log)
    with pytest.raises(ValueError, match="boom") as caught, session.pipeline():
        adder.grow(adder.fail())
        adder.grow((1, adder.fail()))
    assert list(adder.log) == before
    assert len(caught.value.__notes__) == 1


def test_an_error_that_was_seen_is_not_raised_again(adder):
    session = session_of(adder)
    with session.pipeline():
        bad = adder.fail()
        with pytest.raises(ValueError, match="boom"):
            bad.value
        good = adder.add(1, 2)
    assert good.value == 3


def test_what_was_sent_before_an_error_of_the_body_has_happened(adder):
    session = session_of(adder)
    with pytest.raises(KeyError, match="mine") as caught, session.pipeline():
        adder.grow(7)
        adder.fail("theirs")
        raise KeyError("mine")
    assert list(adder.log) == [7]
    assert caught.value.__notes__ == ["also failed in this pipeline() block: ValueError: theirs"]


def test_an_exit_of_the_body_does_not_wait(link):
    remote = link(SETUP, {})
    session = session_of(remote)
    event = threading.Event()
    wait_for = remote.wait_for
    with pytest.raises(SystemExit), session.pipeline():
        waiting = wait_for(event)
        raise SystemExit
    with pytest.raises(SystemExit):
        waiting.value
    event.set()
    assert remote.adder.add(1, 2) == 3


def test_callbacks_run_on_the_waiting_thread_and_outside_of_the_block(adder):
    session = session_of(adder)
    here = []

    def back(number):
        here.append(threading.get_ident())
        result = adder.add(number, 1)
        assert type(result) is int
        return result

    with session.pipeline():
        first = adder.call(back, 1)
        second = adder.call(back, first)
        # Asked for out of order: the first comes on the way.
        assert second.value == 3
        third = adder.call(back, second)
        # An ordinary wait, behind a call that calls back.
        assert len(adder.log) == 0
        fourth = adder.call(back, third)
    assert (first.value, third.value, fourth.value) == (2, 4, 5)
    assert set(here) == {threading.get_ident()}


def test_other_threads_and_tasks_are_not_concerned(adder):
    session = session_of(adder)
    results = []

    def other():
        results.append(adder.add(1, 2))

    with session.pipeline():
        promise = adder.add(3, 4)
        context = contextvars.copy_context()
        thread = threading.Thread(target=other)
        thread.start()
        thread.join(20)
        # A copy of the context does not bring the block to another thread either.
        thread = threading.Thread(target=context.run, args=(other,))
        thread.start()
        thread.join(20)

        def misuse():
            with pytest.raises(RuntimeError, match=r"under way.*not open here"):
                promise.value
            with pytest.raises(RuntimeError, match=r"under way.*not open here"):
                adder.echo(promise)
            results.append("refused")

        thread = threading.Thread(target=misuse)
        thread.start()
        thread.join(20)
    assert results == [3, 3, "refused"]
    assert all(type(result) in (int, str) for result in results)
    assert promise.value == 7
    # A context that was copied in the block outlives it.
    assert context.run(adder.add, 1, 2) == 3


def test_a_promise_under_way_of_another_session_is_refused(adder):
    class Other:
        def echo(self, value):
            return value

    one, two = pair({}, {"other": Other()})
    with one, two:
        other = one.remote.other
        session = session_of(adder)
        with session.pipeline():
            promise = adder.add(1, 2)
            with pytest.raises(RuntimeError, match=r"under way.*cannot be sent to.*second"):
                other.echo(promise)
            with one.pipeline():
                theirs = other.echo(5)
                mine = adder.add(2, 3)
                assert type(mine) is Promise
            assert theirs.value == 5
            assert theirs + 1 == 6
        assert other.echo(promise) == 3
        assert mine.value == 5


def test_blocks_nest_and_are_used_once_at_a_time(adder):
    session = session_of(adder)
    with session.pipeline() as block:
        outer = adder.add(1, 1)
        with session.pipeline():
            inner = adder.add(outer, 1)
            assert repr(inner) == "<the promise of add(), under way>"
        assert repr(inner) == "<the promise of add(): 3>"
        with pytest.raises(RuntimeError, match="open already"):
            block.__enter__()
        last = adder.add(inner, outer)
    assert last.value == 5
    assert "closed" in repr(block)


def test_more_calls_than_may_be_under_way(adder):
    session = session_of(adder)
    with session.pipeline():
        promises = [adder.add(n, 1) for n in range(10_000)]
    assert [promise.value for promise in promises] == list(range(1, 10_001))


def test_large_arguments_and_results(adder):
    session = session_of(adder)
    data = bytes(3 << 20)
    with session.pipeline():
        promises = [adder.echo(data) for _ in range(12)]
    assert all(promise.value == data for promise in promises)


def test_nothing_stays_behind(adder, no_leaks):
    session = session_of(adder)
    remote = session.remote
    with no_leaks(remote):
        with session.pipeline():
            things = [adder.echo(adder).numbers() for _ in range(20)]
            with contextlib.suppress(ValueError):
                adder.fail().value
        del things
        with contextlib.suppress(ValueError), session.pipeline():
            adder.fail()


def test_a_promise_cannot_be_copied_or_pickled(adder):
    session = session_of(adder)
    with session.pipeline():
        promise = adder.add(1, 2)
    with pytest.raises(TypeError, match="Promise"):
        pickle.dumps(promise)
    with pytest.raises(TypeError, match="Promise"):
        copy.copy(promise)


def test_the_end_of_the_session_is_told_to_every_promise():
    class Thing:
        def wait(self):
            assert started.wait(20)
            two.close()
            return 1

        def echo(self, value):
            return value

    started = threading.Event()
    one, two = pair({}, {"thing": Thing()})
    with one, two:
        thing = one.remote.thing
        with pytest.raises(ConnectionLost), one.pipeline():
            promises = [thing.wait(), thing.echo(1)]
            started.set()
        for promise in promises:
            with pytest.raises(ConnectionLost):
                promise.value
