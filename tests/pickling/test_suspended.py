"""Generators, coroutines, asynchronous generators and their awaitables, one behaviour at a time. (All
points of many programs, elsewhere and under watchers: `test_modes`.)"""

import asyncio
import contextlib
import copy
import gc
import pickle
import sys
import types
import warnings

import pytest
from objspace import pickling


def again(object_, **options):
    return pickling.loads(pickling.dumps(object_, **options))


def finish(coroutine):
    """Runs a coroutine to its end and returns its result."""
    while True:
        try:
            coroutine.send(None)
        except StopIteration as stop:
            return stop.value


@types.coroutine
def tick():
    return (yield "tick")


# ---------------------------------------------------------------- generators


def twenty(iterable):
    for x in iterable:
        yield x


@pytest.mark.parametrize(
    "iterable",
    [
        list(range(20)),
        range(20),
        tuple(range(20)),
        set(range(20)),
        dict.fromkeys(range(20)).keys(),
        dict.fromkeys("abcdefghijklmnopqrst", 1).values(),
        dict.fromkeys(range(20)).items(),
        "abcdefghijklmnopqrst",
        bytes(range(20)),
    ],
    ids=lambda value: type(value).__name__,
)
@pytest.mark.parametrize("done", [0, 1, 13, 19, 20])
def test_a_loop_goes_on_where_it_was(iterable, done):
    original = twenty(iterable)
    for _ in range(done):
        next(original)
    copied = again(original)
    rest = list(original)
    assert len(rest) == 20 - done
    assert list(copied) == rest


def test_names_and_kinds_survive():
    generator = twenty([1])
    generator.__name__ = "renamed"
    generator.__qualname__ = "Some.renamed"
    copied = again(generator)
    assert (copied.__name__, copied.__qualname__) == ("renamed", "Some.renamed")
    assert type(copied) is types.GeneratorType
    assert copied.gi_code == generator.gi_code
    assert copied.gi_frame.f_lineno == generator.gi_frame.f_lineno


def test_a_finished_generator_stays_finished():
    generator = twenty([1])
    assert list(generator) == [1]
    copied = again(generator)
    assert copied.gi_frame is None
    assert copied.gi_code == generator.gi_code
    assert list(copied) == []


def test_a_generator_that_is_a_part_of_itself():
    def body():
        yield
        yield box

    box = []
    generator = body()
    box.append(generator)
    next(generator)
    copied = again(generator)
    assert next(copied)[0] is copied


def test_two_generators_share_what_they_shared():
    shared = []

    def add(n):
        while True:
            shared.append(n)
            yield shared

    first, second = add(1), add(2)
    next(first), next(second)
    one, two = again((first, second))
    assert next(one) is next(two)
    assert next(one) == [1, 2, 1, 2, 1]
    assert shared == [1, 2]


def test_a_cell_that_holds_its_own_function():
    def outer():
        def fact(n):
            return 1 if n < 2 else n * fact(n - 1)

        yield
        yield fact(5)

    generator = outer()
    next(generator)
    assert next(again(generator)) == 120


def test_the_exception_that_is_handled_is_kept():
    def body():
        try:
            raise KeyError("key")
        except KeyError:
            yield
            assert repr(sys.exc_info()[1]) == "KeyError('key')"
            try:
                raise ValueError("value")
            except ValueError as error:
                yield repr(error.__context__)
            yield sys.exc_info()[0].__name__

    generator = body()
    next(generator)
    copied = again(generator)
    assert [*copied] == [*generator] == ["KeyError('key')", "KeyError"]


def test_to_drop_a_copy_runs_its_finally_as_the_original_would():
    log = []

    def body():
        try:
            yield log
        finally:
            log.append("finally")

    generator = body()
    next(generator)
    copied = again(generator)
    kept = copied.gi_frame.f_locals.get("log", None)
    copied.close()
    assert kept is None or kept is not log or log == ["finally"]
    assert copied.gi_frame is None
    del generator
    gc.collect()
    assert log == ["finally"]


def test_copies_of_a_generator():
    pickling.install()
    try:
        generator = twenty([1, 2, 3])
        next(generator)
        deep = copy.deepcopy(generator)
        assert type(deep) is types.GeneratorType
        assert list(deep) == [2, 3]
        assert list(generator) == [2, 3]
        assert type(copy.copy(twenty([]))) is types.GeneratorType
    finally:
        pickling.uninstall()


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_all_protocols(protocol):
    generator = twenty([1, 2])
    next(generator)
    assert list(again(generator, protocol=protocol)) == [2]


# ---------------------------------------------------------------- coroutines


async def leaf(n):
    await tick()
    return n


async def waits(n):
    return [await leaf(n), await leaf(n + 1)]


def test_a_coroutine_with_all_that_it_awaits():
    coroutine = waits(1)
    assert coroutine.send(None) == "tick"
    copied = again(coroutine)
    assert type(copied.cr_await) is types.CoroutineType
    assert copied.cr_await.cr_code == leaf.__code__
    assert finish(copied) == finish(coroutine) == [1, 2]


def test_a_coroutine_that_has_not_begun_and_one_that_is_done():
    fresh = waits(1)
    copied = again(fresh)
    assert finish(copied) == finish(fresh) == [1, 2]
    for done in (copied, again(copied)):
        with pytest.raises(RuntimeError, match="cannot reuse already awaited coroutine"):
            done.send(None)


def test_a_copy_that_is_never_awaited_warns_as_the_original_would():
    fresh = waits(1)
    with pytest.warns(RuntimeWarning, match="was never awaited"):
        del fresh
        gc.collect()
    fresh = waits(1)
    copied = again(fresh)
    fresh.close()
    with pytest.warns(RuntimeWarning, match="was never awaited"):
        del copied
        gc.collect()


def test_the_origin_of_a_coroutine_is_kept():
    before = sys.get_coroutine_origin_tracking_depth()
    sys.set_coroutine_origin_tracking_depth(3)
    try:
        coroutine = waits(1)
    finally:
        sys.set_coroutine_origin_tracking_depth(before)
    copied = again(coroutine)
    assert copied.cr_origin == coroutine.cr_origin
    assert len(copied.cr_origin) >= 1
    coroutine.close()
    copied.close()


def test_what_await_of_a_coroutine_returns():
    coroutine = waits(1)
    wrapper = coroutine.__await__()
    assert next(wrapper) == "tick"
    copied = again(wrapper)
    assert type(copied) is type(wrapper)
    with pytest.raises(StopIteration) as stop:
        while True:
            next(copied)
    assert stop.value.value == [1, 2]
    one, inner = again((wrapper, coroutine))
    next(one)
    assert finish(inner) == [1, 2]
    coroutine.close()


def test_a_coroutine_goes_on_under_another_event_loop():
    """What is awaited is not of asyncio: the driver stops at it, pickles, and another loop goes on."""

    async def main():
        return [await asyncio.sleep(0, "slept"), await leaf(1), await asyncio.sleep(0, "again")]

    coroutine = main()
    while coroutine.send(None) != "tick":
        pass

    class Done:
        def __await__(self):
            copied = again(coroutine)
            value = None
            while True:
                try:
                    value = yield copied.send(value)
                except StopIteration as stop:
                    return stop.value

    async def other():
        return await Done()

    assert asyncio.run(other()) == ["slept", 1, "again"]
    coroutine.close()


# ---------------------------------------------------------------- asynchronous generators


async def counting(n):
    for index in range(n):
        await tick()
        got = yield index
        if got:
            yield got


def test_an_asynchronous_generator_in_each_stage():
    fresh = counting(2)

    async def collect(generator):
        return [value async for value in generator]

    assert finish(collect(again(fresh))) == [0, 1]

    generator = counting(3)

    async def first():
        return await anext(generator)

    assert finish(first()) == 0
    copied = again(generator)
    assert finish(collect(copied)) == [1, 2]
    assert finish(collect(generator)) == [1, 2]
    for done in (generator, again(generator)):
        assert finish(collect(done)) == []
        assert done.ag_frame is None


def test_the_hooks_are_those_of_the_loader():
    generator = counting(1)
    seen = []
    before = sys.get_asyncgen_hooks()
    sys.set_asyncgen_hooks(firstiter=seen.append)
    try:
        started = generator.__anext__()
        assert len(seen) == 1
        started.send(None)
        data = pickling.dumps(generator)
        seen.clear()
        copied = pickling.loads(data)
        assert seen == []
        sent = copied.asend(None)
        assert seen == [copied]
        # The copy is in the middle of another one, which 3.13 objects to.
        with contextlib.suppress(RuntimeError):
            sent.close()
    finally:
        sys.set_asyncgen_hooks(*before)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            started.close()
            del started, copied
            seen.clear()
            gc.collect()


@pytest.mark.parametrize("stage", ["new", "under way"])
@pytest.mark.parametrize("how", ["asend", "athrow", "aclose", "anext"])
def test_awaitables_of_an_asynchronous_generator(how, stage):
    async def generator():
        try:
            yield 1
        except KeyError as error:
            await tick()
            yield repr(error)
        except GeneratorExit:
            await tick()
            raise
        await tick()
        yield "more"

    async def begun():
        made = generator()
        await anext(made)
        return made

    made = finish(begun())
    awaitable = {
        "asend": lambda: made.asend("sent"),
        "athrow": lambda: made.athrow(KeyError("key")),
        "aclose": lambda: made.aclose(),
        "anext": lambda: anext(made, "default"),
    }[how]()

    def end(awaitable):
        async def wait():
            return await awaitable

        return finish(wait())

    expected = {"asend": "more", "athrow": "KeyError('key')", "aclose": None, "anext": "more"}[how]
    if stage == "under way" and how != "anext":
        assert awaitable.send(None) == "tick"
        copied = again(awaitable)
        with pytest.raises(StopIteration) as stop:
            while True:
                copied.send(None)
        assert stop.value.value == expected
        with pytest.raises(StopIteration):
            while True:
                awaitable.send(None)
    else:
        copied = again(awaitable)
        assert type(copied) is type(awaitable)
        assert end(copied) == expected
        assert end(awaitable) == expected


# ---------------------------------------------------------------- CPython's own tests


@pytest.mark.parametrize("name", ["test_generators", "test_coroutines", "test_asyncgen"])
def test_cpythons_tests_pass_with_the_surrogates_installed(name):
    import importlib
    import subprocess

    try:
        importlib.import_module(f"test.{name}")
    except ImportError:
        pytest.skip("this Python is installed without its tests")
    program = (
        "import sys, unittest\n"
        "from objspace import pickling\n"
        f"import test.{name} as module\n"
        "pickling.install()\n"
        # These two want such objects not to be copied and pickled.
        "for value in vars(module).values():\n"
        "    for name in ('test_copy', 'test_pickle'):\n"
        "        if isinstance(value, type) and name in vars(value):\n"
        "            delattr(value, name)\n"
        "result = unittest.main(module, argv=['test'], exit=False, verbosity=0).result\n"
        "sys.exit(not result.wasSuccessful() or result.testsRun < 20)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=100, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]


# Doctest, beginning of the example, and why it sees the difference: a copy has what it holds for itself.
IDENTITY = [
    ("coroutine", "print(seq)", "the list is an argument of the generator"),
    ("coroutine", "print(seq)", "the list is an argument of the generator"),
    ("coroutine", "print(seq)", "the list is an argument of the generator"),
    ("coroutine", "data", "the list is an argument of the generator"),
    ("coroutine", "data", "the list is an argument of the generator"),
    ("email", "while 1:", "the generator of an object is a method of it, and changes it"),
    ("syntax", "g.gi_code is f.__code__", "the code is compared by identity"),
]


@pytest.mark.timeout(150)
def test_the_doctests_of_generators_pass_with_a_round_trip_before_every_next():
    import importlib.util
    import json
    import subprocess
    from pathlib import Path

    if importlib.util.find_spec("test.test_generators") is None:
        pytest.skip("this Python is installed without its tests")
    done = subprocess.run(
        [sys.executable, Path(__file__).with_name("generator_doctests.py")],
        capture_output=True,
        text=True,
        timeout=140,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout)
    failed = [(name, source.splitlines()[0]) for name, source, _ in found["failed"]]
    # Also that those which are excepted do fail: else they are no exceptions.
    assert failed == [(name, source) for name, source, _ in IDENTITY], found["failed"]
    assert found["running"] == {"fun": 178}
    assert found["trips"] == {
        "conjoin": 105,
        "coroutine": 31,
        "email": 293,
        "fun": 924,
        "pep": 133,
        "syntax": 6,
        "tut": 16,
    }
