"""`run`, `capture` and `Continuation`: running frames, resumed in this process and in others."""

import copy
import gc
import pickle
import subprocess
import sys
import threading
import traceback
import weakref
from pathlib import Path

import pytest
from objspace import pickling
from objspace.pickling import Continuation, capture, run

HERE = Path(__file__).parent


def captured(result):
    """The continuation that a program returned instead of a value."""
    assert isinstance(result, Continuation)
    return pickling.loads(pickling.dumps(result))


class Saved:
    """A pickle made at the moment of the capture."""

    def __init__(self, data):
        self.data = data

    def __reduce__(self):
        raise AssertionError("part of its own pickle")


def save():
    """Pickles the program that calls it; returns a `Saved`, or the value it is resumed with."""
    value = capture()
    return Saved(pickling.dumps(value)) if isinstance(value, Continuation) else value


# ---------------------------------------------------------------- the interface


def test_capture_returns_a_continuation_now_and_a_value_each_time_it_is_resumed():
    def inner():
        return capture()

    def program():
        return [inner(), "rest"]

    continuation, rest = run(program)
    assert isinstance(continuation, Continuation)
    assert rest == "rest"
    assert continuation.resume("value") == ["value", "rest"]
    assert continuation.resume() == [None, "rest"]
    assert captured(continuation).resume(5) == [5, "rest"]


def test_run_passes_arguments_and_the_result():
    assert run(lambda *args, **kwargs: (args, kwargs), 1, 2, key=3) == ((1, 2), {"key": 3})
    with pytest.raises(ZeroDivisionError):
        run(lambda: 1 / 0)


def test_capture_outside_of_run_is_an_error():
    with pytest.raises(RuntimeError, match=r"not called by a function that run\(\) runs"):
        capture()


def test_a_continuation_can_be_resumed_again_and_again_from_one_pickle():
    def program():
        log = ["begun"]
        log.append(save())
        return log

    data = run(program)[1].data
    for value in range(3):
        assert pickling.loads(data).resume(value) == ["begun", value]


def test_throw_raises_at_the_capture():
    def inner():
        try:
            return capture()
        except KeyError as error:
            return "caught", error.args

    def program():
        return [inner()]

    (continuation,) = run(program)
    continuation = captured(continuation)
    assert continuation.throw(KeyError("key")) == [("caught", ("key",))]
    assert continuation.throw(KeyError) == [("caught", ())]
    with pytest.raises(LookupError, match="other"):
        continuation.throw(LookupError("other"))
    with pytest.raises(TypeError, match="must derive from BaseException"):
        continuation.throw("text")


def test_a_resumed_chain_can_be_captured_again():
    def inner():
        return [capture(), capture()]

    def program():
        return (inner(), "end")

    (first, second), _ = run(program)
    (again, newer), end = captured(first).resume("one")
    assert (again, end) == ("one", "end")
    assert captured(newer).resume("two") == (["one", "two"], "end")
    assert captured(second).resume("two")[0][1] == "two"


class Left:
    def __add__(self, other):
        self.seen = save()
        return NotImplemented


class Right:
    def __radd__(self, other):
        return sys._getframe(1).f_code.co_name


class Doubtful:
    def __bool__(self):
        return bool(capture())


def test_what_follows_a_resumed_call_is_called_by_the_waiting_frame():
    def adding():
        left = Left()
        return left + Right(), left.seen

    caller, saved = run(adding)
    assert caller == "adding"
    assert pickling.loads(saved.data).resume(None) == ("adding", None)


def test_a_capture_within_c_code_behind_a_resumed_call_is_refused():
    saved = []

    class Kept(Left):
        def __contains__(self, item):
            value = save()
            if isinstance(value, Saved):
                saved.append(value)
                return True
            return Doubtful()

    def program():
        return 1 in Kept()

    assert run(program) is True
    with pytest.raises(pickling.PicklingError, match=r"program\(\) line \d+ .*C code runs there"):
        pickling.loads(saved[0].data).resume(None)


def test_discard_runs_nothing():
    log = []

    def program():
        try:
            return capture()
        finally:
            log.append("finally")

    continuation = run(program)
    assert log == ["finally"]
    continuation.discard()
    with pytest.raises(RuntimeError, match="has no frames"):
        continuation.resume()
    del continuation
    gc.collect()
    assert log == ["finally"]


def test_a_continuation_that_is_dropped_runs_nothing():
    log = []

    def program():
        try:
            return capture()
        finally:
            log.append("finally")

    data = pickling.dumps(run(program))
    pickling.loads(data)
    gc.collect()
    assert log == ["finally"]


class Kept(Continuation):
    """Has attributes, and an `__init__` that loading must not call."""

    def __init__(self, *_args):
        raise AssertionError("called")


def test_a_subclass_survives_with_its_class_and_its_attributes(elsewhere):
    def program():
        return capture(Kept)

    continuation = run(program)
    assert type(continuation) is Kept
    continuation.note = ["note"]
    copied = captured(continuation)
    assert type(copied) is Kept
    assert copied.note == ["note"]
    assert copied.resume(3) == 3
    with pytest.raises(TypeError, match="no class of continuations"):
        run(lambda: capture(int))


def test_an_empty_continuation_is_pickled_and_has_nothing_to_resume():
    empty = pickling.loads(pickling.dumps(Continuation()))
    for what in (empty.resume, lambda: empty.throw(ValueError)):
        with pytest.raises(RuntimeError, match="has no frames"):
            what()


def test_frames_says_where_it_stands():
    def inner():
        return capture()

    def program():
        return inner()

    frames = run(program).frames
    first = program.__code__.co_firstlineno
    assert [(code.co_name, line) for code, line in frames] == [
        ("program", first + 1),
        ("inner", first - 2),
    ]


# ---------------------------------------------------------------- what is shared, and what is not


def test_mutable_state_is_that_of_the_moment_of_the_pickle():
    def program(log):
        log.append("before")
        value = capture()
        log.append("after")
        return value if isinstance(value, Continuation) else log

    log = []
    continuation = run(program, log)
    assert captured(continuation).resume(1) == ["before", "after", "after"]
    assert log == ["before", "after"]


def test_the_objects_of_a_chain_stay_shared():
    def inner(shared):
        value = save()
        shared.append(value)
        return value

    def program():
        shared = []
        return shared, inner(shared)

    assert pickling.loads(run(program)[1].data).resume(7) == ([7], 7)


def test_copies_of_a_continuation():
    def program():
        log = []
        return log, capture(), log

    continuation = run(program)[1]
    pickling.install()
    try:
        for copied in (copy.copy(continuation), copy.deepcopy(continuation)):
            first, value, second = copied.resume(1)
            assert value == 1
            assert first is second
    finally:
        pickling.uninstall()


def test_plain_pickle_takes_a_continuation():
    def program():
        return [globals_of_the_test(), capture()]

    continuation = run(program)[1]
    pickling.install()
    try:
        assert pickle.loads(pickle.dumps(continuation)).resume(2) == ["global", 2]
    finally:
        pickling.uninstall()


def globals_of_the_test():
    return "global"


# ---------------------------------------------------------------- generators in a chain


def numbers(n):
    for index in range(n):
        value = save() if index == 1 else index
        yield value


def summing():
    return list_of(x for x in numbers(3))


def list_of(iterable):
    found = []
    for value in iterable:
        found.append(value)
    return found


def test_a_generator_that_runs_is_part_of_the_chain():
    result = run(summing)
    assert pickling.loads(result[1].data).resume("middle") == [0, "middle", 2]


def test_a_generator_that_has_run_on_is_pickled_as_it_was_captured():
    def numbers():
        yield 0
        value = capture()
        yield 1
        yield value

    def program():
        found = []
        for value in numbers():
            found = [*found, value]
        return found

    (_, _, continuation) = run(program)
    assert captured(continuation).resume("late") == [0, 1, "late"]


def test_a_chain_with_generators_is_resumed_from_a_pickle_and_once():
    def numbers():
        yield capture()

    def program():
        for value in numbers():
            return value

    continuation = run(program)
    with pytest.raises(RuntimeError, match="pickle the continuation"):
        continuation.resume("here")
    assert captured(continuation).resume("there") == "there"
    copied = pickling.loads(run(summing)[1].data)
    assert copied.resume("middle") == [0, "middle", 2]
    with pytest.raises(RuntimeError, match="pickle the continuation"):
        copied.resume("again")


def test_a_generator_that_runs_cannot_be_pickled_alone():
    def body():
        with pytest.raises(pickling.PicklingError, match="it is running"):
            pickling.dumps(generator)
        yield

    generator = body()
    next(generator)


# ---------------------------------------------------------------- what cannot be crossed


def through(function):
    """The error with which a capture inside of `function` is refused."""

    def program():
        return function(lambda *_args: capture())

    with pytest.raises(pickling.PicklingError) as caught:
        run(program)
    return str(caught.value)


class Hashed:
    def __init__(self, function):
        self.function = function

    def __hash__(self):
        self.function()
        return 1

    def __format__(self, spec):
        return str(self.function())

    def __len__(self):
        return self.function()


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (lambda f: sorted([2, 1], key=f), "sorted()"),
        (lambda f: list(map(f, [1])), "list()"),
        (lambda f: [x for x in map(f, [1])], "an object of type map"),
        (lambda f: eval("f()", {"f": f}), "body of a class or of a module"),
        (lambda f: {Hashed(f): 1}, "BUILD_MAP"),
        (lambda f: f"{Hashed(f)}", "FORMAT"),
        (lambda f: len(Hashed(f)), "len()"),
        (lambda f: max([1, 2], key=f), "max()"),
    ],
    ids=["sorted", "map", "map loop", "eval", "hash", "format", "len", "max"],
)
def test_c_code_in_between_is_refused_by_name(function, words):
    message = through(function)
    assert "cannot capture frame" in message
    assert "line" in message
    assert words in message


def test_a_class_body_is_refused():
    def program():
        class Body:
            x = capture()

        return Body

    with pytest.raises(pickling.PicklingError, match=r"Body\(\) line \d+ .*body of a class"):
        run(program)


def test_a_trace_function_cannot_capture_what_it_traces():
    problems = []

    def trace(_frame, event, _argument):
        if event == "line":
            try:
                capture()
            except pickling.PicklingError as error:
                problems.append(str(error))
            sys.settrace(None)
        return trace

    def inner():
        return 1

    def program():
        sys.settrace(trace)
        return inner()

    try:
        run(program)
    finally:
        sys.settrace(None)
    assert len(problems) == 1
    assert "cannot capture" in problems[0]


def test_nothing_is_captured_by_a_refused_capture():
    def program(log):
        try:
            sorted([1], key=lambda _x: capture())
        except pickling.PicklingError:
            log.append("refused")
        return capture()

    log = []
    assert captured(run(program, log)).resume("fine") == "fine"
    assert log == ["refused"]


# ---------------------------------------------------------------- tracebacks


def test_a_thrown_exception_has_the_native_traceback():
    def inner(n):
        if n:
            return [inner(n - 1)][0]
        value = capture()
        if value == "raise":
            raise LookupError("native")
        return value

    def lines(error):
        entries = traceback.extract_tb(error.__traceback__)
        names = [(entry.name, entry.lineno) for entry in entries]
        return names[[name for name, _ in names].index("inner") :]

    def program(n, value=None):
        return inner(n)

    continuation = captured(run(program, 3))
    with pytest.raises(LookupError) as resumed:
        continuation.resume("raise")
    first = inner.__code__.co_firstlineno
    expected = [("inner", first + 2)] * 3 + [("inner", first + 5)]
    assert lines(resumed.value) == expected
    with pytest.raises(KeyError) as thrown:
        continuation.throw(KeyError("thrown"))
    assert lines(thrown.value) == [*expected[:3], ("inner", first + 3)]


# ---------------------------------------------------------------- size, depth, growth, threads


def down(n):
    if n == 0:
        return capture()
    value = down(n - 1)
    return value


def test_a_repeated_frame_costs_few_bytes():
    sizes = [len(pickling.dumps(run(down, n))) for n in (100, 200)]
    assert (sizes[1] - sizes[0]) / 100 <= 60


DEEP = """
import resource, sys, threading
resource.setrlimit(resource.RLIMIT_STACK, (8 << 20, resource.RLIM_INFINITY))
sys.path.insert(0, {path!r})
sys.setrecursionlimit(10**6)
from objspace import pickling
from test_chains import down
from objspace.pickling import run
def check():
    data = pickling.dumps(run(down, 20_000))
    assert pickling.loads(data).resume("bottom") == "bottom"
    data = pickling.dumps(run(down, 200_000))
    try:
        pickling.loads(data).resume("bottom")
    except RecursionError as error:
        assert "too deep for the stack" in str(error), error
    else:
        raise AssertionError("no error")
    # The limit of the interpreter holds as well.
    data = pickling.dumps(run(down, 500))
    sys.setrecursionlimit(200)
    try:
        pickling.loads(data).resume("bottom")
    except RecursionError as error:
        assert "sys.getrecursionlimit()" in str(error), error
    else:
        raise AssertionError("no error")
    finally:
        sys.setrecursionlimit(10**6)
    print("deep")
threading.stack_size(8 << 20)
thread = threading.Thread(target=check)
thread.start()
thread.join()
"""


def test_twenty_thousand_frames_and_a_clean_error_beyond_the_stack():
    done = subprocess.run(
        [sys.executable, "-c", DEEP.format(path=str(HERE))],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stdout == "deep\n", done.stderr[-2000:]


def test_ten_thousand_rounds_do_not_grow():
    import tracemalloc

    def rounds(count):
        for _ in range(count):
            continuation = run(down, 3)
            assert pickling.loads(pickling.dumps(continuation)).resume(1) == 1

    rounds(200)
    gc.collect()
    objects = len(gc.get_objects())
    tracemalloc.start()
    before, _ = tracemalloc.get_traced_memory()
    rounds(10_000)
    gc.collect()
    after, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(gc.get_objects()) - objects < 50
    assert after - before < 100_000


def test_written_in_one_thread_and_resumed_in_another():
    results = []

    def write():
        results.append(pickling.dumps(run(down, 5)))

    def read():
        results.append(pickling.loads(results[0]).resume("there"))

    for work in (write, read):
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
    assert results[1] == "there"


def test_what_a_chain_held_is_let_go_when_it_ends():
    class Object:
        pass

    def program():
        held = Object()
        found = weakref.ref(held)
        capture()
        return found

    found = run(program)
    assert found() is None

    def again():
        held = Object()
        capture_result = capture()
        return capture_result, weakref.ref(held)

    continuation, first = run(again)
    _, same = continuation.resume(1)
    # The continuation still has it, for the next time.
    assert first() is same() is not None
    continuation.discard()
    gc.collect()
    assert same() is None
