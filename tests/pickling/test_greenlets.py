"""Plain greenlets: those that have switched away, fresh and dead ones."""

import base64
import contextvars
import copy
import gc
import os
import pickle
import subprocess
import sys
import threading
import traceback
import weakref

import greenlet
import pytest
from objspace import pickling

sys.path.append(os.path.dirname(__file__))
import greenlet_programs as programs  # noqa: E402


def again(object_, **options):
    return pickling.loads(pickling.dumps(object_, **options))


@pytest.fixture
def installed():
    pickling.install()
    yield
    pickling.uninstall()


def pause(*args):
    return greenlet.getcurrent().parent.switch(*args)


def switches(name):
    """How often the program is switched to until it is dead."""
    return len(programs.finish(programs.start(name, 0)[0], 0))


POINTS = [(name, at) for name in programs.PROGRAMS for at in range(switches(name) + 1)]


@pytest.mark.parametrize("warm", [0, 30], ids=["cold", "warm"])
@pytest.mark.parametrize("name", programs.PROGRAMS)
def test_every_switch_of_every_program_goes_on_in_a_copy(name, warm):
    for _ in range(warm):
        programs.finish(programs.start(name, 0)[0], 0)
    count = switches(name)
    whole = programs.finish(programs.start(name, 0)[0], 0)
    assert count >= 2
    for at in range(count + 1):
        made, seen = programs.start(name, at)
        copied = again(made)
        assert type(copied) is greenlet.greenlet
        assert (copied.dead, bool(copied)) == (made.dead, bool(made))
        twice = again(copied)
        assert repr(seen + programs.finish(copied, at)) == repr(whole), at
        # To be pickled changes nothing, and a copy can be pickled before it runs.
        assert repr(seen + programs.finish(made, at)) == repr(whole), at
        assert repr(seen + programs.finish(twice, at)) == repr(whole), at


@pytest.mark.parametrize("name", programs.PROGRAMS)
def test_a_copy_is_pickled_anew_at_each_switch(name):
    whole = programs.finish(programs.start(name, 0)[0], 0)
    made, seen = programs.start(name, 1)
    number = 1
    while not made.dead:
        made = again(made)
        seen.append(made.switch(number))
        number += 1
    assert repr(seen) == repr(whole)


def test_written_here_and_loaded_elsewhere(elsewhere):
    found, expected = [], []
    for name, at in POINTS:
        made, seen = programs.start(name, at)
        found.append((name, at, pickling.dumps(made)))
        expected.append(repr(seen + programs.finish(made, at)))
        rest = expected[-1]
        assert rest
    data = pickling.dumps([(at, data) for _, at, data in found])
    printed = elsewhere(
        data,
        """
        import greenlet_programs as programs
        for at, data in value:
            print(repr(programs.finish(pickling.loads(data), at)))
        """,
        path=[os.path.dirname(__file__)],
    ).splitlines()
    assert len(printed) == len(found) >= 50
    for (name, at, _), whole, rest in zip(found, expected, printed, strict=True):
        assert whole.endswith(rest.lstrip("[")), (name, at)


def test_the_frames_of_the_original_and_of_the_copy_are_the_same():
    made, _ = programs.start("nested", 1)

    def names(made):
        frame, found = made.gr_frame, []
        while frame is not None:
            found.append((frame.f_code.co_name, frame.f_lineno))
            frame = frame.f_back
        return found

    before = names(made)
    assert [name for name, _ in before] == ["pause", *["inner"] * 5, "nested"]
    copied = again(made)
    assert names(made) == before
    assert names(copied) == before
    assert copied.switch("deep") == made.switch("deep") == 1
    assert names(copied) == names(made)
    assert len(names(made)) == 6


def test_an_exception_is_thrown_where_it_waits():
    log = []

    def body(log):
        try:
            pause(log)
        except KeyError as error:
            log.append(repr(error))
            pause(traceback.extract_tb(error.__traceback__))
        finally:
            log.append("finally")

    made = greenlet.greenlet(body)
    made.switch(log)
    copied = again(made)
    own, _ = pickling.loads(pickling.dumps((made, log)))
    native = [(entry.name, entry.lineno) for entry in made.throw(KeyError("thrown"))]
    assert [(entry.name, entry.lineno) for entry in copied.throw(KeyError("thrown"))] == native
    assert [name for name, _ in native] == ["body", "pause"]
    with pytest.raises(ZeroDivisionError):
        own.throw(ZeroDivisionError)
    assert own.dead
    assert log == ["KeyError('thrown')"]


def test_values_of_all_forms_arrive():
    def body():
        return [pause(), pause(), pause(), pause()]

    made = greenlet.greenlet(body)
    made.switch()
    copied = again(made)
    for each in (made, copied):
        each.switch()
        each.switch(1, 2)
        each.switch(a=1)
        assert each.switch(1, b=2) == [(), (1, 2), {"a": 1}, ((1,), {"b": 2})]


def test_a_copy_returns_to_the_greenlet_that_has_loaded_it():
    made = greenlet.greenlet(programs.flat)
    made.switch()
    data = pickling.dumps(made)

    def loads():
        copied = pickling.loads(data)
        assert copied.parent is greenlet.getcurrent()
        return copied, copied.switch(1)

    loader = greenlet.greenlet(loads)
    copied, first = loader.switch()
    assert first == 0
    # The loader is dead: what comes later goes to its parent.
    assert copied.switch(2) == ()


def test_a_parent_in_the_pickle_stays_the_parent():
    log = []

    def outer():
        value = pause("outer")
        return "outer got", value

    def inner():
        return "inner got", pause("inner")

    first = greenlet.greenlet(outer)
    second = greenlet.greenlet(inner, parent=first)
    assert first.switch() == "outer"
    main = greenlet.getcurrent()
    assert second.switch() is None or True
    log.append(first.dead)
    del first, second, main
    gc.collect()

    parent = greenlet.greenlet(outer)
    child = greenlet.greenlet(lambda: ("child got", root().switch("child")), parent=parent)
    parent.switch()
    assert child.switch() == "child"
    copied, its_parent = again((child, parent))
    assert copied.parent is its_parent
    assert copied.switch(5) == child.switch(5) == ("outer got", ("child got", 5))
    assert parent.dead
    assert its_parent.dead


def root():
    current = greenlet.getcurrent()
    while current.parent is not None:
        current = current.parent
    return current


def test_the_root_of_the_thread_is_the_root_where_it_is_loaded(elsewhere):
    main = greenlet.getcurrent()

    def body():
        import greenlet

        return main.switch("x"), main is greenlet.getcurrent().parent

    made = greenlet.greenlet(body)
    made.switch()
    assert again(main) is main
    there = elsewhere(pickling.dumps(made, code="value"), "print(value.switch('there'))")
    assert there.strip() == "('there', True)"
    assert made.switch(1) == (1, True)


def test_fresh_and_dead_ones():
    fresh = greenlet.greenlet(programs.flat)
    copied = again(fresh)
    assert not copied
    assert not copied.dead
    assert copied.run is programs.flat
    assert programs.finish(copied, 0) == programs.finish(fresh, 0)
    assert fresh.dead
    copied = again(fresh)
    assert copied.dead
    assert copied.switch(5) == fresh.switch(5) == 5
    without = again(greenlet.greenlet())
    with pytest.raises(AttributeError):
        without.run  # noqa: B018
    assert again(greenlet.greenlet()).gr_frame is None


class Worker(greenlet.greenlet):
    __slots__ = ("slot",)
    kept = "class"

    def __init__(self, name):
        super().__init__()
        self.name = name
        self.itself = self

    def run(self):
        self.log = [self.kept, pause(self.name)]
        self.slot = 1
        self.log.append(pause(self.itself is self))
        return self.log


def test_derived_classes_keep_their_attributes_and_their_method():
    made = Worker("w")
    fresh = again(made)
    assert made.switch() == fresh.switch() == "w"
    waiting = again(made)
    assert type(waiting) is Worker
    assert waiting.itself is waiting
    assert "run" not in vars(waiting)
    assert made.switch(1) is waiting.switch(1) is fresh.switch(1) is True
    last = again(waiting)
    assert last.slot == 1
    assert last.switch(2) == made.switch(2) == ["class", 1, 2]
    assert last.log == ["class", 1, 2]
    assert last.dead


VARIABLE = contextvars.ContextVar("VARIABLE", default=0)


def test_the_context_is_kept():
    def body():
        VARIABLE.set(VARIABLE.get() + 1)
        pause(VARIABLE.get())
        return VARIABLE.get()

    made = greenlet.greenlet(body)
    made.gr_context = contextvars.Context()
    made.gr_context.run(VARIABLE.set, 10)
    fresh = again(made)
    assert made.switch() == fresh.switch() == 11
    copied = again(made)
    assert copied.gr_context[VARIABLE] == 11
    assert copied.gr_context is not made.gr_context
    made.gr_context.run(VARIABLE.set, 0)
    assert copied.switch() == 11
    assert VARIABLE.get() == 0


def test_two_copies_are_independent_and_share_within_one_pickle():
    shared = []

    def body(n):
        while True:
            shared.append(n)
            pause(shared)

    one, two = greenlet.greenlet(body), greenlet.greenlet(body)
    one.switch(1), two.switch(2)
    data = pickling.dumps((one, two, shared))
    for _ in range(2):
        first, second, log = pickling.loads(data)
        assert first.switch() is log
        assert second.switch() is log
        assert log == [1, 2, 1, 2]
    assert shared == [1, 2]


# ---------------------------------------------------------------- what cannot be pickled


def test_the_greenlet_that_runs_is_refused_with_a_hint():
    def body():
        with pytest.raises(pickling.PicklingError, match=r"that runs; pickling\.capture\(\)"):
            pickling.dumps(greenlet.getcurrent())
        return "refused"

    assert greenlet.greenlet(body).switch() == "refused"


def test_a_call_of_c_code_in_between_is_refused_by_name():
    def key(x):
        return pause(x)

    def body():
        return sorted([1, 2], key=key)

    made = greenlet.greenlet(body)
    made.switch()
    with pytest.raises(pickling.PicklingError, match=r"body\(\) line \d+ of .*sorted"):
        pickling.dumps(made)
    assert made.switch(2) == 2
    assert made.switch(1) == [2, 1]
    for run in (lambda: list(map(pause, "ab")), pause):
        made = greenlet.greenlet(lambda run=run: list(map(lambda _: run(), "a")))
        made.switch()
        with pytest.raises(pickling.PicklingError, match="list"):
            pickling.dumps(made)
        made.throw()
    made = greenlet.greenlet(map(pause, "a").__next__)
    made.switch()
    with pytest.raises(pickling.PicklingError, match="by C code in between"):
        pickling.dumps(made)
    made.throw()


def test_one_without_frames_of_python_code_is_refused():
    made = greenlet.greenlet(greenlet.getcurrent().switch)
    assert made.switch(7) == 7
    with pytest.raises(pickling.PicklingError, match="no frames of Python code"):
        pickling.dumps(made)
    made.throw()


def test_one_of_another_thread_is_refused():
    found = []
    go_on = threading.Event()
    ready = threading.Event()

    def thread():
        made = greenlet.greenlet(programs.flat)
        made.switch()
        found.append(made)
        ready.set()
        assert go_on.wait(20)
        found.append(programs.finish(made, 1))

    worker = threading.Thread(target=thread)
    worker.start()
    assert ready.wait(20)
    with pytest.raises(pickling.PicklingError, match="belongs to another thread"):
        pickling.dumps(found[0])
    go_on.set()
    worker.join(20)
    assert len(found[1]) == 7


def test_the_path_leads_through_the_frames():
    def body():
        lock = threading.Lock()
        pause()
        return lock

    made = greenlet.greenlet(body)
    made.switch()
    with pytest.raises(
        pickling.PicklingError, match=r"greenlet, frame body\(\) line \d+, local 'lock'"
    ):
        pickling.dumps({"key": made})
    made.throw()


# ---------------------------------------------------------------- what is left behind


def test_a_copy_that_is_dropped_ends_as_the_original_would():
    log = []

    def body(log):
        try:
            pause()
        except greenlet.GreenletExit:
            log.append("exit")
            raise
        finally:
            log.append("finally")

    made = greenlet.greenlet(body)
    made.switch(log)
    copied, its_log = again((made, log))
    gone = weakref.ref(copied)
    del copied
    assert gone() is None
    assert its_log == ["exit", "finally"]
    assert log == []
    del made
    assert log == its_log


def test_rounds_leave_nothing_behind():
    made, _ = programs.start("through_c", 2)

    def rounds(count):
        for _ in range(count):
            copied = again(made)
            copied.throw()
        gc.collect()
        return len(gc.get_objects())

    before = rounds(20)
    assert abs(rounds(200) - before) < 20


# ---------------------------------------------------------------- plain pickle and copy


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("dumps", [pickle.dumps, pickle._dumps], ids=["C", "Python"])
def test_plain_pickle_handles_them_once_installed(installed, dumps, protocol):
    made, seen = programs.start("nested", 2)
    copied = pickle.loads(dumps(made, protocol))
    assert repr(programs.finish(copied, 2)) == repr(programs.finish(made, 2))
    assert len(seen) == 2


@pytest.mark.parametrize("how", [copy.copy, copy.deepcopy])
def test_copies(installed, how):
    inside = []

    def body():
        inside.append(pause())
        return inside

    for made in (greenlet.greenlet(body), Worker("w")):
        made.switch()
        copied = how(made)
        assert type(copied) is type(made)
        assert not copied.dead
        if type(made) is Worker:
            assert copied.switch("c") is True
            continue
        result = copied.switch("c")
        assert result == ["c"]
        assert (result is inside) == (how is copy.copy)
        made.throw()
    main = greenlet.getcurrent()
    assert how(main) is main


def test_what_was_installed_is_taken_back():
    made, _ = programs.start("flat", 1)
    pickling.install()
    pickling.uninstall()
    for refused in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError):
            refused(made)
    made.throw()


# ---------------------------------------------------------------- forged ones


def test_forged_states_are_refused_and_leave_the_object_usable():
    made, _ = programs.start("nested", 1)
    make, args, state, setter = _reduced(made)
    right = list(state)
    bad = [
        (0, ValueError, 3),
        (0, ValueError, 0),
        (0, ValueError, 2),
        (2, (TypeError, ValueError), 5),
        (3, TypeError, 5),
        (4, TypeError, 5),
        (6, (TypeError, ValueError, pickling.UnpicklingError), ()),
        (6, ValueError, None),
    ]
    for index, error, value in bad:
        forged = list(right)
        forged[index] = value
        target = make(*args)
        with pytest.raises(error):
            setter(target, tuple(forged))
    target = make(*args)
    setter(target, tuple(right))
    with pytest.raises(pickling.UnpicklingError, match="loaded already"):
        setter(target, tuple(right))
    assert target.switch() == 1
    target.throw()
    made.throw()
    for wrong in (greenlet.getcurrent(), 5, programs.flat):
        with pytest.raises((TypeError, pickling.UnpicklingError)):
            setter(wrong, tuple(right))
    with pytest.raises(TypeError, match="no class of greenlets"):
        make(int)


def _reduced(made):
    from objspace._core import Reducer

    make, args, state, _, _, setter = Reducer("auto")(made)
    while setter.__name__ != "set_greenlet":
        setter, state = state[0], state[1]
    return make, args, state, setter


def test_without_the_library_the_pickle_says_so():
    made = greenlet.greenlet(programs.flat)
    made.switch()
    data = base64.b64encode(pickling.dumps(made)).decode()
    program = (
        "import base64, sys\n"
        "sys.modules['greenlet'] = None\n"
        "from objspace import pickling\n"
        f"try: pickling.loads(base64.b64decode({data!r}))\n"
        "except ImportError as error: print('ImportError', error)\n"
        "except pickling.UnpicklingError as error: print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=30, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "greenlet" in done.stdout
