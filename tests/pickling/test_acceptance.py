"""What thread pickling has to do, line by line. `LINES` says which tests show each; those that no other
file has are here. (S: what Stackless Python's pickles did, P: what PyPy's did, N: what is new.)"""

import ast
import asyncio
import copy
import gc
import os
import sys
import types
import weakref
from pathlib import Path

import pytest
from objspace import pickling
from objspace._core import Reducer
from objspace.pickling import Continuation, capture, run

LINES = {
    # A pause in any iteration of a loop, also the last.
    "S1": ["tasklets:a_pause_in_a_loop", "suspended:a_loop_goes_on_where_it_was"],
    # Recursion: a function, a lambda through its argument, a closure that calls itself.
    "S2": [
        "tasklets:a_tasklet_is_pickled_with_its_whole_chain_of_frames",
        "acceptance:s2_recursion_paused_at_the_bottom",
    ],
    # Generators in loops: the pause in the consumer, in the generator, in one below.
    "S3": [
        "acceptance:s3_a_pause_around_generators",
        "chains:a_generator_that_runs_is_part_of_the_chain",
    ],
    # A function whose cell contains the function.
    "S4": [
        "acceptance:s4_a_cell_that_is_not_filled_yet",
        "suspended:a_cell_that_holds_its_own_function",
        "objects:a_cell_may_be_empty_or_contain_itself",
    ],
    # `with`: enter, body and exit.
    "S5": ["acceptance:s5_with_blocks"],
    # `__init__`.
    "S6": ["acceptance:s6_a_pause_in_init_gives_the_object"],
    # Subclasses, copies that are dropped, modules.
    "S7": [
        "tasklets:a_subclass_keeps_its_class_and_attributes",
        "acceptance:s7_what_is_loaded_and_dropped",
        "acceptance:s7_modules_and_submodules",
    ],
    # Tracebacks.
    "S8": ["objects:the_frames_of_a_traceback", "objects:a_traceback_in_another_process"],
    # Coroutines.
    "S9": [
        "suspended:a_coroutine_that_has_not_begun_and_one_that_is_done",
        "suspended:a_coroutine_with_all_that_it_awaits",
        "suspended:the_origin_of_a_coroutine_is_kept",
        "suspended:what_await_of_a_coroutine_returns",
    ],
    # Asynchronous generators.
    "S10": [
        "suspended:an_asynchronous_generator_in_each_stage",
        "suspended:the_hooks_are_those_of_the_loader",
        "suspended:awaitables_of_an_asynchronous_generator",
        "acceptance:s10_the_finaliser_is_that_of_the_loader",
    ],
    # Copies, malformed states, picklers and protocols.
    "S11": [
        "install:copies_are_of_the_same_type",
        "install:both_picklers_and_all_protocols",
        "acceptance:s11_a_malformed_state_leaves_the_object_usable",
        "greenlets:forged_states_are_refused_and_leave_the_object_usable",
    ],
    # Generators: stages and copies.
    "P1": [
        "acceptance:p1_stages_of_a_generator",
        "install:a_deep_copy_of_a_generator_has_a_future_of_its_own",
        "install:a_shallow_copy_shares_what_the_generator_holds",
    ],
    # Handled exceptions, iterators, builtin methods.
    "P2": [
        "suspended:the_exception_that_is_handled_is_kept",
        "iterators:iterators_keep_their_position",
        "iterators:exhausted_iterators_stay_exhausted",
        "objects:builtin_methods_keep_the_identity_of_their_object",
    ],
    # Continuations: stages, subclasses, resumed twice.
    "P3": [
        "chains:an_empty_continuation_is_pickled_and_has_nothing_to_resume",
        "chains:a_subclass_survives_with_its_class_and_its_attributes",
        "chains:a_continuation_can_be_resumed_again_and_again_from_one_pickle",
        "acceptance:p3_a_continuation_that_runs_and_one_that_has_ended",
    ],
    # All points of all programs, under all watchers.
    "N1": [
        "modes:every_point_of_every_program_runs_on_elsewhere",
        "modes:every_point_of_every_program_under_a_watcher",
        "modes:modes_may_differ_between_writing_and_reading",
        "corpus:a_pause_at_every_yield_changes_nothing",
    ],
    # Half-evaluated expressions.
    "N2": [
        "acceptance:n2_half_evaluated_expressions",
        "modes:every_point_of_every_program_runs_on_elsewhere",
    ],
    # Exceptions thrown, handlers.
    "N3": [
        "chains:a_thrown_exception_has_the_native_traceback",
        "acceptance:n3_a_bare_raise_in_a_copy",
    ],
    # Calls through C code.
    "N4": [
        "chains:c_code_in_between_is_refused_by_name",
        "modes:every_point_of_every_program_runs_on_elsewhere",
        "greenlets:a_call_of_c_code_in_between_is_refused_by_name",
    ],
    # Other code, other versions, forgeries.
    "N5": [
        "code:changed_code_is_a_clear_error",
        "forged:another_python_and_another_format_are_refused",
        "forged:a_forged_state_is_refused",
        "forged:a_forged_chain_is_refused",
        "forged:mutated_states_and_pickles_never_crash",
    ],
    # Depth, growth, threads.
    "N6": [
        "chains:twenty_thousand_frames_and_a_clean_error_beyond_the_stack",
        "chains:ten_thousand_rounds_do_not_grow",
        "chains:written_in_one_thread_and_resumed_in_another",
    ],
    # Coroutines of asyncio.
    "N7": [
        "acceptance:n7_a_chain_of_coroutines_leaves_its_event_loop",
        "acceptance:n7_a_future_is_refused_or_replaced",
        "tasks:what_waits_for_the_world_is_refused_by_name",
        "hop:several_coroutines_deep_the_awaiter_stays_here",
    ],
}

HERE = Path(__file__).parent


def test_every_line_has_its_tests():
    lines = [f"S{n}" for n in range(1, 12)] + [f"P{n}" for n in range(1, 4)]
    assert list(LINES) == lines + [f"N{n}" for n in range(1, 8)]
    for line, names in LINES.items():
        for name in names:
            file, _, test = name.partition(":")
            tree = ast.parse((HERE / f"test_{file}.py").read_text())
            found = [node.name for node in tree.body if isinstance(node, ast.FunctionDef)]
            assert f"test_{test}" in found, (line, name)


def again(value, **options):
    return pickling.loads(pickling.dumps(value, **options))


def pauses(function, *args):
    """Runs a function in which `hold()` captures: its own result, and those of copies of each pause."""
    held.clear()
    result = run(function, *args)
    copies = [pickling.loads(data).resume("held") for data in list(held)]
    assert copies
    return result, copies


held = []


def hold():
    found = capture()
    if isinstance(found, Continuation):
        held.append(pickling.dumps(found))
        return "held"
    return found


def down(n):
    return [n, *down(n - 1)] if n else [hold()]


def s2_programs():
    def closure():
        def inner(n):
            return [n, *inner(n - 1)] if n else [hold()]

        return inner(13)

    return {
        "function": lambda: down(13),
        "lambda": lambda: (lambda f: f(f, 13))(lambda f, n: [n, *f(f, n - 1)] if n else [hold()]),
        "closure": closure,
    }


@pytest.mark.parametrize("name", s2_programs())
def test_s2_recursion_paused_at_the_bottom(name, elsewhere):
    result, copies = pauses(s2_programs()[name])
    assert result == copies[0] == [*range(13, 0, -1), "held"]
    there = elsewhere(held[0], "print(value.resume('there'))", path=[str(HERE.parent.parent)])
    assert there.strip() == str([*range(13, 0, -1), "there"])


def test_s3_a_pause_around_generators():
    def numbers():
        for i in range(20):
            yield (i, hold() if i == 13 else None)

    def plain():
        yield from range(20)

    def over(source):
        for value in source:
            yield value, hold() if value == 13 else None

    def in_the_generator():
        return list_of(numbers())

    def in_the_consumer():
        return [(i, hold() if i == 13 else None) for i in plain()]

    def one_over_another():
        return list_of(over(plain()))

    def list_of(generator):
        found = []
        for value in generator:
            found.append(value)  # noqa: PERF402
        return found

    expected = [(i, "held" if i == 13 else None) for i in range(20)]
    for program in (in_the_generator, in_the_consumer, one_over_another):
        result, copies = pauses(program)
        assert result == copies[0] == expected
        assert len(copies) == 1


def test_s4_a_cell_that_is_not_filled_yet():
    def make():
        def fact(n):
            return 1 if n < 2 else n * fact(n - 1)

        yield fact
        yield fact(5)

    generator = make()
    fact = next(generator)
    # The function is met while its own cell is being written, and the reverse.
    for value in ((generator, fact), (fact.__closure__[0], fact), [fact]):
        copied = again(value)
        function = copied[-1]
        assert function.__closure__[0].cell_contents is function
        assert function(5) == 120
    assert next(again(generator)) == 120

    # Paused before it is used.
    def program():
        def later(n):
            return 1 if n < 2 else n * later(n - 1)

        hold()
        return later(5)

    assert pauses(program) == (120, [120])


class Managed:
    def __init__(self, where, depth, suppress, log):
        self.where, self.depth, self.suppress, self.log = where, depth, suppress, log

    def pause(self, where):
        if self.where == where:
            deep(self.depth)

    def __enter__(self):
        self.pause("enter")
        self.log.append("enter")
        return self

    def __exit__(self, kind, value, traceback):
        self.log.append(("exit", kind and kind.__name__))
        self.pause("exit")
        return self.suppress


def deep(n):
    return deep(n - 1) if n else hold()


def managed(where, depth, suppress, fails):
    log = []
    try:
        with Managed(where, depth, suppress, log) as manager:
            manager.pause("body")
            log.append("body")
            if fails:
                raise LookupError("body")
        log.append("behind")
    except LookupError as error:
        log.append(repr(error))
    return log


@pytest.mark.parametrize("depth", [0, 1, 2])
@pytest.mark.parametrize("where", ["enter", "body", "exit"])
@pytest.mark.parametrize("suppress", [False, True])
@pytest.mark.parametrize("fails", [False, True])
def test_s5_with_blocks(where, depth, suppress, fails):
    result, copies = pauses(managed, where, depth, suppress, fails)
    end = "behind" if suppress or not fails else "LookupError('body')"
    assert result == ["enter", "body", ("exit", "LookupError" if fails else None), end]
    assert copies == [result]


def test_s6_a_pause_in_init_gives_the_object():
    class Made:
        def __init__(self):
            self.value = hold()

    def program():
        made = Made()
        return type(made).__name__, made.value

    for _ in range(30):
        result, copies = pauses(program)
        assert [result] == copies == [("Made", "held")]


class Rest(Continuation):
    pass


def test_s7_what_is_loaded_and_dropped():
    log = []

    def program():
        try:
            return capture(Rest)
        finally:
            log.append("finally")

    whole = run(program)
    del log[:]
    copied = again(whole)
    assert type(copied) is Rest
    gone = weakref.ref(copied)
    del copied
    gc.collect()
    assert gone() is None
    assert log == []
    frame = again(down)
    assert frame.__module__ == down.__module__


def test_s7_modules_and_submodules(elsewhere):
    import importlib.util
    import xml.dom.minidom

    def program(module, *rest):
        yield module.__name__
        yield module.__name__, [one.__name__ for one in rest]

    made = program(xml.dom.minidom, importlib.util, os.path)
    next(made)
    expected = str(next(again(made)))
    there = elsewhere(
        pickling.dumps(made, code="value"), "print(next(value), 'xml' in sys.modules)"
    )
    assert there.strip() == f"{expected} True"
    assert expected.startswith("('xml.dom.minidom', ['importlib.util',")
    found = again(again)
    assert (found.__module__, found.__qualname__) == (again.__module__, "again")


def test_s10_the_finaliser_is_that_of_the_loader():
    async def numbers():
        yield 1
        yield 2

    def begun(hook):
        before = sys.get_asyncgen_hooks()
        sys.set_asyncgen_hooks(finalizer=hook)
        try:
            made = numbers()
            with pytest.raises(StopIteration):
                made.__anext__().send(None)
            return made
        finally:
            sys.set_asyncgen_hooks(*before)

    original, loader = [], []
    made = begun(lambda generator: original.append(generator.ag_code))
    data = pickling.dumps(made)
    before = sys.get_asyncgen_hooks()
    sys.set_asyncgen_hooks(finalizer=lambda generator: loader.append(generator.ag_code))
    try:
        copied = pickling.loads(data)
        with pytest.raises(StopIteration) as stop:
            copied.__anext__().send(None)
        assert stop.value.value == 2
        del copied
        gc.collect()
    finally:
        sys.set_asyncgen_hooks(*before)
    assert (len(original), len(loader)) == (0, 1)
    del made
    gc.collect()
    assert (len(original), len(loader)) == (1, 1)


def s11_kinds():
    async def coroutine():
        await other()

    @types.coroutine
    def other():
        yield 1

    async def asynchronous():
        yield 1

    def generator():
        yield 1
        yield 2

    begun = generator()
    next(begun)
    waits = coroutine()
    waits.send(None)
    continuation = run(capture_now)
    return {
        "generator": begun,
        "coroutine": waits,
        "asynchronous generator": asynchronous(),
        "continuation": continuation,
        "function": down,
        "cell": types.CellType([1]),
    }


def capture_now():
    return capture()


@pytest.mark.parametrize(
    "name", ["generator", "coroutine", "asynchronous generator", "continuation"]
)
def test_s11_a_malformed_state_leaves_the_object_usable(name):
    kinds = s11_kinds()
    made = kinds[name]
    make, args, state, _, _, setter = Reducer("auto")(made)
    while setter.__name__ == "set_with_globals":
        setter, state = state[0], state[1]
    target = make(*args)
    for wrong in (None, 5, (), (None,), "state", (1, 2, 3), [], ((),), (object(),) * 20):
        with pytest.raises((TypeError, ValueError)):
            setter(target, wrong)
    if isinstance(state, tuple):
        for cut in range(len(state)):
            with pytest.raises((TypeError, ValueError)):
                setter(target, state[:cut])
    setter(target, state)
    if name == "generator":
        assert next(target) == 2
    elif name == "continuation":
        assert target.resume(3) == 3
    elif name == "coroutine":
        with pytest.raises(StopIteration):
            target.send(None)
        kinds["coroutine"].close()
        return
    else:
        with pytest.raises(StopIteration) as stop:
            target.__anext__().send(None)
        assert stop.value.value == 1
    kinds["coroutine"].close()


def test_p1_stages_of_a_generator():
    def program(log):
        yield "begun"
        for i in range(3):
            try:
                yield i
            finally:
                log.append(i)

    for taken in range(6):
        log = []
        made = program(log)
        for _ in range(taken):
            next(made, None)
        copied, its_log = again((made, log))
        rest = list(made)
        assert list(copied) == rest
        assert its_log == log == [0, 1, 2]
    fresh = program([])
    pickling.install()
    try:
        deep_copy = copy.deepcopy(fresh)
        assert next(fresh) == "begun"
        assert next(deep_copy) == "begun"
    finally:
        pickling.uninstall()


def test_p3_a_continuation_that_runs_and_one_that_has_ended():
    inside = []

    def program():
        value = capture()
        if isinstance(value, Continuation):
            return value
        # It is being resumed: what it holds is still what was captured.
        inside.append(pickling.dumps(whole))
        return value, sorted("ba")

    whole = run(program)
    data = pickling.dumps(whole)
    assert pickling.loads(data).resume(1) == (1, ["a", "b"])
    assert whole.resume(2) == (2, ["a", "b"])
    # Also of a copy, whose globals are those of the module still.
    twice = again(again(whole))
    assert len(pickling.dumps(pickling.loads(data))) < len(data) + 50
    ended = again(twice)
    assert ended.resume(3) == (3, ["a", "b"])
    assert len(inside) >= 1
    assert pickling.loads(inside[-1]).resume(4) == (4, ["a", "b"])


def test_n2_half_evaluated_expressions():
    def show(*args, **kwargs):
        return args, sorted(kwargs.items())

    def program():
        box = {"key": 1}
        box["key"] += len(hold())
        text = f"{1}{hold()!r:>8}{hold()}"
        called = show(1, hold(), *[2, hold()], a=hold(), **{"b": hold()})
        return box, text, called, [hold(), *range(2), hold()], {hold(): hold()}, 1 < len(hold()) < 9

    result, copies = pauses(program)
    assert len(copies) == 12
    assert all(one == result for one in copies)


def test_n3_a_bare_raise_in_a_copy():
    def program():
        log = []
        try:
            try:
                raise KeyError("outer")
            except KeyError:
                try:
                    raise ValueError("inner")
                except ValueError as error:
                    hold()
                    log.append((repr(sys.exception()), repr(error.__context__)))
                hold()
                log.append(repr(sys.exception()))
                raise
        except KeyError as error:
            log.append((repr(error), sys.exception() is error))
        log.append(sys.exception())
        return log

    result, copies = pauses(program)
    assert copies == [result, result]
    assert result == [
        ("ValueError('inner')", "KeyError('outer')"),
        "KeyError('outer')",
        ("KeyError('outer')", True),
        None,
    ]


@types.coroutine
def outside():
    return (yield "outside")


async def leaf(log):
    log.append(await outside())
    return "leaf"


async def middle(log):
    return [await leaf(log) for _ in range(2)]


async def main(log):
    return await middle(log), log


def test_n7_a_chain_of_coroutines_leaves_its_event_loop():
    chain = main([])

    class Taken:
        """Steps the chain under this event loop, up to its first pause, and takes it out."""

        def __await__(self):
            assert chain.send(None) == "outside"
            return pickling.dumps(chain)
            yield

    async def first():
        return await Taken()

    data = asyncio.run(first())

    async def second(rest):
        loop = asyncio.get_running_loop()
        value = "new loop"
        while True:
            try:
                assert rest.send(value) == "outside"
            except StopIteration as stop:
                return stop.value
            future = loop.create_future()
            loop.call_soon(future.set_result, "again")
            value = await future

    expected = (["leaf", "leaf"], ["new loop", "again"])
    assert asyncio.run(second(pickling.loads(data))) == expected
    chain.close()


@types.coroutine
def done():
    return "replaced"
    yield


def make_done():
    return done()


def test_n7_a_future_is_refused_or_replaced():
    async def waits(future):
        return "got", await future

    async def program():
        future = asyncio.get_running_loop().create_future()
        coroutine = waits(future)
        coroutine.send(None)
        with pytest.raises(pickling.PicklingError, match=r"coroutine waits\(\) line \d+.*Future"):
            pickling.dumps(coroutine)
        kinds = type(future), type(future.__await__())
        for kind in kinds:
            pickling.register(kind, lambda _waiting: (make_done, ()))
        try:
            return pickling.dumps(coroutine)
        finally:
            for kind in kinds:
                pickling.register(kind, None)
            coroutine.close()

    copied = pickling.loads(asyncio.run(program()))
    with pytest.raises(StopIteration) as stop:
        copied.send(None)
    assert stop.value.value == ("got", "replaced")
