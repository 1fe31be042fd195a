"""`install()`: plain `pickle`, `copy` and what is built on them."""

import asyncio
import concurrent.futures
import copy
import copyreg
import gc
import io
import multiprocessing
import pickle
import threading
import traceback
import types
import weakref

import pytest
from objspace import pickling


@pytest.fixture
def installed():
    pickling.install()
    yield
    pickling.uninstall()


def count(n, log=None):
    for i in range(n):
        try:
            yield i
        finally:
            if log is not None:
                log.append(i)


def begun(generator):
    next(generator)
    return generator


def raised():
    try:
        raise ValueError("x")
    except ValueError as error:
        return error


@pytest.mark.parametrize("pickler", [pickle.Pickler, pickle._Pickler])
@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_both_picklers_and_all_protocols(installed, pickler, protocol):
    def outer():
        n = 5
        return lambda x: x + n

    error = raised()
    shared = [1]
    value = {
        "generator": begun(count(5)),
        "cell": types.CellType(shared),
        "shared": shared,
        "function": outer(),
        "error": error,
        "items": {"a": 1}.items(),
        "iterator": iter({"a": 1, "b": 2}),
        "module": gc,
        "property": property(len),
        "code": count.__code__,
    }
    file = io.BytesIO()
    pickler(file, protocol).dump(value)
    for unpickler in (pickle.Unpickler, pickle._Unpickler):
        file.seek(0)
        made = unpickler(file).load()
        assert list(made["generator"]) == [1, 2, 3, 4]
        assert made["cell"].cell_contents is made["shared"]
        assert made["function"](1) == 6
        assert traceback.format_exception(made["error"]) == traceback.format_exception(error)
        assert list(made["items"]) == [("a", 1)]
        assert list(made["iterator"]) == ["a", "b"]
        assert made["module"] is gc
        assert made["property"].fget is len
        assert made["code"] == count.__code__


def test_what_plain_pickle_did_it_does_as_before(installed, python):
    assert pickle.loads(pickle.dumps(count)) is count
    assert pickle.dumps(len) == pickle.dumps(len)
    assert pickle.loads(pickle.dumps(KeyError)) is KeyError
    # What is in __main__ goes by name.
    done = python(
        """
        import pickle
        from objspace import pickling
        def f(): pass
        class C: pass
        before = pickle.dumps([f, C, C.__name__])
        pickling.install()
        print(pickle.dumps([f, C, C.__name__]) == before)
        """
    )
    assert done.stdout == "True\n", done.stderr


def test_uninstall_leaves_nothing_behind():
    tables = [copyreg.dispatch_table, copy._copy_dispatch, copy._deepcopy_dispatch]
    before = [dict(table) for table in tables]
    pickling.install()
    pickling.install()
    assert [dict(table) for table in tables] != before
    pickling.uninstall()
    pickling.uninstall()
    assert [dict(table) for table in tables] == before
    assert "reducer_override" not in vars(pickle.Pickler)
    assert not hasattr(pickle._Pickler, "reducer_override")
    for value in (begun(count(2)), lambda: 1):
        with pytest.raises((TypeError, pickle.PicklingError, AttributeError)):
            pickle.dumps(value)
    with pytest.raises(TypeError):
        copy.copy(begun(count(3)))


def test_types_keep_their_interface(installed):
    for kind in (types.GeneratorType, types.CellType, types.FrameType, types.CodeType):
        assert not hasattr(kind, "__setstate__")
        assert kind.__reduce__ is object.__reduce__


# -- copies ---------------------------------------------------------------------------------------


def test_a_deep_copy_of_a_generator_has_a_future_of_its_own(installed):
    log = []
    generator = begun(count(4, log))
    other, its_log = copy.deepcopy([generator, log])
    assert list(other) == [1, 2, 3]
    assert its_log == [0, 1, 2, 3]
    assert log == []
    assert list(generator) == [1, 2, 3]
    assert other.gi_code is generator.gi_code


def test_a_shallow_copy_shares_what_the_generator_holds(installed):
    log = []
    generator = begun(count(4, log))
    other = copy.copy(generator)
    assert type(other) is types.GeneratorType
    # The iterator over the range is one.
    assert next(other) == 1
    assert next(generator) == 2
    assert log == [0, 0]


def test_a_deep_copy_keeps_what_is_shared(installed):
    def closure():
        n = 0

        def add():
            nonlocal n
            n += 1
            return n

        yield add
        yield n

    generator = closure()
    add = next(generator)
    other, other_add = copy.deepcopy((generator, add))
    other = copy.deepcopy({"g": generator, "a": add})
    other["a"]()
    other["a"]()
    assert next(other["g"]) == 2
    assert next(generator) == 0
    assert other_add is not None


def test_a_deep_copy_of_what_refers_to_itself(installed):
    def selfish(box):
        me = box[0]
        yield 1
        yield me

    box = []
    generator = selfish(box)
    box.append(generator)
    next(generator)
    other = copy.deepcopy(generator)
    assert next(other) is other
    box = copy.deepcopy(box)
    assert next(box[0]) is box[0]


def test_a_deep_copy_keeps_the_exception_that_is_handled(installed):
    def handling():
        try:
            raise ValueError("kept")
        except ValueError as error:
            yield 1
            yield error.__traceback__ is not None
            raise

    generator = begun(handling())
    other = copy.deepcopy(generator)
    assert next(other) is True
    with pytest.raises(ValueError, match="kept"):
        next(other)
    assert next(generator) is True


async def waits(future):
    value = await future
    return value + 1


@types.coroutine
def pause():
    return (yield "paused")


async def chain(depth):
    if depth:
        return await chain(depth - 1) + 1
    return await pause()


def test_a_deep_copy_of_a_chain_of_coroutines(installed):
    first = chain(3)
    assert first.send(None) == "paused"
    second = copy.deepcopy(first)
    for coroutine, sent in ((second, 10), (first, 20)):
        with pytest.raises(StopIteration) as stop:
            coroutine.send(sent)
        assert stop.value.value == sent + 3


@pytest.mark.parametrize(
    "make",
    [
        lambda: begun(count(3)),
        lambda: types.CellType([1]),
        lambda: {"a": 1}.keys(),
        lambda: iter({"a": 1}),
        lambda: types.MappingProxyType({"a": 1}),
        lambda: staticmethod(len),
        lambda: lambda: 1,
        lambda: count.__code__,
        lambda: property(len),
        lambda: gc,
    ],
)
@pytest.mark.parametrize("copier", [copy.copy, copy.deepcopy])
def test_copies_are_of_the_same_type(installed, make, copier):
    value = make()
    assert type(copier(value)) is type(value)


def test_frames_and_tracebacks_are_copied(installed):
    def fails():
        marker = ["x"]
        raise ValueError(marker)

    try:
        fails()
    except ValueError as error:
        entry = error.__traceback__.tb_next
    for copier in (copy.copy, copy.deepcopy):
        made = copier(entry)
        assert type(made) is types.TracebackType
        assert made.tb_lineno == entry.tb_lineno
        assert made.tb_frame.f_code is entry.tb_frame.f_code
    assert copy.deepcopy(entry.tb_frame).f_locals["marker"] == ["x"]


def test_copies_leave_nothing_behind(installed):
    class Marker:
        pass

    def holds(marker):
        yield marker

    generator = begun(holds(Marker()))
    made = [copy.deepcopy(generator) for _ in range(10)]
    markers = [weakref.ref(g.gi_frame.f_locals["marker"]) for g in made]
    assert all(m() is not None for m in markers)
    del made
    gc.collect()
    assert all(m() is None for m in markers)


# -- what is built on pickle ----------------------------------------------------------------------


def run(generator):
    return list(generator)


def fails(lock):
    own = threading.Lock()
    with own:
        raise KeyError("in the worker")


@pytest.mark.parametrize("method", ["spawn", "fork"])
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_multiprocessing(installed, method, module):
    made = module(
        """
        import threading
        def count(n):
            for i in range(n):
                yield i
        def run(generator):
            return list(generator)
        def fails(x):
            own = threading.Lock()
            raise KeyError("in the worker")
        """
    )
    generator = begun(made.count(4))
    offset = 10
    context = multiprocessing.get_context(method)
    with context.Pool(1, pickling.install) as pool:
        assert pool.apply(made.run, (generator,)) == [1, 2, 3]
        if method == "fork":
            assert pool.map(lambda x: x + offset, [1, 2]) == [11, 12]
        # The frames of the worker hold locks, which must not stand in the way of the error.
        with pytest.raises(KeyError, match="in the worker"):
            pool.apply(made.fails, (1,))
    with concurrent.futures.ProcessPoolExecutor(
        1, mp_context=context, initializer=pickling.install
    ) as executor:
        assert executor.submit(made.run, generator).result() == [1, 2, 3]
        with pytest.raises(KeyError, match="in the worker"):
            executor.submit(made.fails, 1).result()


def test_multiprocessing_still_has_its_own_reducers(installed):
    from multiprocessing.reduction import ForkingPickler

    here, there = multiprocessing.Pipe()
    with here, there:
        data = bytes(ForkingPickler.dumps(begun(count(3))))
        assert list(pickle.loads(data)) == [1, 2]
        # Connections and sockets are handled by what multiprocessing has registered.
        with pytest.raises(RuntimeError, match="inheritance"):
            pickle.dumps(multiprocessing.Lock())


def test_exceptions_may_be_left_as_they_are():
    error = ValueError("x")
    try:
        raise error
    except ValueError:
        pass
    plain = pickle.dumps(error)
    pickling.install(exceptions=False)
    try:
        assert pickle.dumps(error) == plain
    finally:
        pickling.uninstall()


def test_asyncio_is_not_disturbed(installed):
    async def main():
        return await asyncio.gather(*(asyncio.sleep(0, i) for i in range(3)))

    assert asyncio.run(main()) == [0, 1, 2]
