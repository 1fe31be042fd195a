"""Tasklets, channels and their pickles."""

import gc
import os
import pickle
import sys
import threading

import objspace
import pytest
from objspace import pickling, tasklets
from objspace.tasklets import TaskletExit, channel, getcurrent, getruncount, run, schedule, tasklet


@pytest.fixture(autouse=True)
def nothing_is_left():
    yield
    assert getruncount() == 0
    assert getcurrent() is None


def again(value):
    return pickling.loads(pickling.dumps(value))


def test_tasklets_take_turns():
    log = []

    def turns(name):
        for i in range(3):
            log.append((name, i))
            schedule()

    for name in "ab":
        tasklet(turns)(name)
    assert getruncount() == 2
    run()
    assert log == [(name, i) for i in range(3) for name in "ab"]


def test_channels_hand_over_values_in_order():
    c = channel()
    got = []

    def producer(name):
        for i in range(2):
            c.send((name, i))

    def consumer():
        got.extend(c.receive() for _ in range(4))

    senders = [tasklet(producer)(name) for name in "ab"]
    schedule()
    assert c.balance == 2
    assert all(t.blocked and not t.scheduled for t in senders)
    tasklet(consumer)()
    run()
    assert got == [("a", 0), ("b", 0), ("a", 1), ("b", 1)]
    assert c.balance == 0


def test_the_main_program_uses_channels_too():
    c, answers = channel(), channel()

    def doubles():
        for value in c:
            answers.send(value * 2)

    worker = tasklet(doubles)()
    for i in range(3):
        c.send(i)
        assert answers.receive() == i * 2
    with pytest.raises(RuntimeError, match="deadlock"):
        answers.receive()
    worker.kill()
    run()
    assert not worker.alive
    assert c.balance == 0


def test_exceptions():
    c = channel()
    caught = []

    def receiver():
        try:
            c.receive()
        except LookupError as error:
            caught.append(error)

    tasklet(receiver)()
    schedule()
    c.send_exception(LookupError("sent"))
    run()
    assert caught[0].args == ("sent",)

    def fails():
        schedule()
        raise ValueError("not handled")

    t = tasklet(fails)()
    with pytest.raises(ValueError, match="not handled"):
        run()
    assert not t.alive


def test_throw_and_kill():
    log = []

    def guarded():
        try:
            schedule(remove=True)
        except BaseException as error:
            log.append(type(error))
            raise
        finally:
            log.append("finally")

    t = tasklet(guarded)()
    run()
    assert t.paused
    t.kill()
    run()
    assert log == [TaskletExit, "finally"]
    t(*())
    run()
    t.throw(KeyError("k"))
    with pytest.raises(KeyError):
        run()
    never = tasklet(guarded)()
    never.kill()
    run()
    assert not never.alive
    assert log == [TaskletExit, "finally", KeyError, "finally"]


def test_misuse():
    with pytest.raises(RuntimeError, match="no function"):
        tasklet()()
    t = tasklet(schedule)()
    with pytest.raises(RuntimeError, match="alive already"):
        t()
    run()
    with pytest.raises(RuntimeError, match="not alive"):
        t.insert()
    errors = []

    def nested():
        for function in (
            run,
            lambda: pickling.dumps(getcurrent()),
            lambda: getcurrent().move(None),
        ):
            try:
                function()
            except (RuntimeError, pickling.PicklingError) as error:
                errors.append(str(error))

    tasklet(nested)()
    run()
    assert len(errors) == 3
    c = channel()
    t = tasklet(c.receive)()
    run()
    with pytest.raises(RuntimeError, match="waits for a channel"):
        t.insert()
    with pytest.raises(RuntimeError, match="waits for a channel"):
        t.move(None)
    t.kill()
    run()


# -- pickles --------------------------------------------------------------------------------------


def recursive(n, log):
    if n == 0:
        schedule(remove=True)
        log.append("bottom")
        return 0
    try:
        return recursive(n - 1, log) + 1
    finally:
        log.append(n)


def test_a_tasklet_is_pickled_with_its_whole_chain_of_frames():
    log = []
    t = tasklet(recursive)(13, log)
    run()
    assert t.paused
    copies = [again(t), again(t)]
    for copy in copies:
        assert copy.paused
        copy.insert()
    t.insert()
    run()
    assert [x.value for x in (t, *copies)] == [13, 13, 13]
    assert log == ["bottom", *range(1, 14)]


@pytest.mark.parametrize("kind", [list, tuple, range, set, enumerate, dict, "values", "items"])
@pytest.mark.parametrize("pause", [0, 13, 19])
def test_a_pause_in_a_loop(kind, pause):
    def loop():
        items = range(20)
        if kind is dict or kind in ("values", "items"):
            items = dict(enumerate(items))
            items = getattr(items, kind)() if isinstance(kind, str) else items
        elif kind is not range:
            items = kind(items)
        seen = []
        for item in items:
            if len(seen) == pause:
                schedule(remove=True)
            seen.append(item)
        return seen

    t = tasklet(loop)()
    run()
    copy = again(t)
    for x in (t, copy):
        x.insert()
    run()
    assert len(t.value) == 20
    assert copy.value == t.value


def test_the_copy_waits_in_the_copy_of_its_channel():
    def collects(source, log):
        for value in source:
            log.append(value)

    source, log = channel(), []
    t = tasklet(collects)(source, log)
    source.send(1)
    run()
    other, other_log, copy = again((source, log, t))
    assert copy.blocked
    other.send(2)
    source.send(3)
    run()
    assert log == [1, 3]
    assert other_log == [1, 2]
    for x in (t, copy):
        x.kill()
    run()


def test_a_tasklet_that_was_not_begun_and_one_that_has_ended():
    t = tasklet(recursive)(0, [])
    copy = again(t)
    assert copy.paused
    copy.insert()
    run()
    assert copy.paused
    copy.insert()
    t.insert()
    run()
    assert copy.value == t.value == 0
    ended = again(t)
    assert not ended.alive
    assert ended.value == 0
    assert not again(tasklet(recursive)).alive


class Named(tasklet):
    def __init__(self, function, name):
        raise AssertionError("is not called when it is loaded")


def test_a_subclass_keeps_its_class_and_attributes():
    t = Named.__new__(Named)
    tasklet.__init__(t, recursive)
    t.name = ["mine"]
    t(2, [])
    run()
    copy = again(t)
    assert type(copy) is Named
    assert copy.name == ["mine"]
    for x in (t, copy):
        x.insert()
    run()
    assert copy.value == 2


def test_a_copy_that_is_dropped_does_nothing():
    log = []
    t = tasklet(recursive)(2, log)
    run()
    copy = again(t)
    del copy
    gc.collect()
    t.insert()
    run()
    assert log == ["bottom", 1, 2]


def test_pickled_in_one_thread_and_run_in_another():
    t = tasklet(recursive)(3, [])
    run()
    data = pickling.dumps(t)
    results = []

    def elsewhere():
        copy = pickling.loads(data)
        copy.insert()
        run()
        results.append(copy.value)

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert results == [3]
    t.insert()
    run()


def test_what_stands_between_the_frames_is_named():
    def through_c():
        return sorted([2, 1], key=lambda x: schedule(remove=True) or x)

    t = tasklet(through_c)()
    run()
    with pytest.raises(pickling.PicklingError, match=r"through_c\(\) line .*sorted\(\)"):
        pickling.dumps(t)
    # It has not been harmed by that.
    assert t.paused
    t.insert()
    run()
    assert t.paused
    t.insert()
    run()
    assert t.value == [1, 2]

    def holds():
        lock = threading.Lock()
        schedule(remove=True)
        return lock

    t = tasklet(holds)()
    run()
    with pytest.raises(pickling.PicklingError, match="lock"):
        pickling.dumps(t)
    t.insert()
    run()


def test_in_another_process(module, elsewhere):
    made = module(
        """
        from objspace.tasklets import schedule
        def search(n, path=()):
            if n == 0:
                schedule(remove=True)
                return [path]
            return [found for i in range(2) for found in search(n - 1, path + (i,))]
        """
    )
    t = tasklet(made.search)(2)
    run()
    data = pickling.dumps(t)
    printed = elsewhere(
        data,
        """
        from objspace.tasklets import run
        while value.alive:
            value.insert()
            run()
        print(value.value)
        """,
        module.path,
    )
    assert printed == "[(0, 0), (0, 1), (1, 0), (1, 1)]\n"
    t.kill()
    run()


def test_plain_pickle_refuses_without_install():
    t = tasklet(recursive)(1, [])
    run()
    with pytest.raises((TypeError, pickle.PicklingError)):
        pickle.dumps(t)
    pickling.install()
    try:
        copy = pickle.loads(pickle.dumps(t))
    finally:
        pickling.uninstall()
    for x in (t, copy):
        x.insert()
    run()
    assert copy.value == 1


# -- moving ---------------------------------------------------------------------------------------


def where(log):
    log.append(os.getpid())
    try:
        schedule(remove=True)
        log.append(os.getpid())
        return log
    finally:
        log.append("left")


def fails_there(log):
    schedule(remove=True)
    raise LookupError(os.getpid())


def test_a_tasklet_moves():
    with objspace.spawn(setup="") as remote:
        log = []
        t = tasklet(where)(log)
        run()
        first, second, left = t.move(remote)
        assert first == os.getpid()
        assert second != first
        assert left == "left"
        # Nothing of what is over there happens here as well.
        del t
        gc.collect()
        assert log == [os.getpid()]
        t = tasklet(fails_there)(log)
        run()
        with pytest.raises(LookupError) as caught:
            t.move(remote)
        assert caught.value.args != (os.getpid(),)
        assert not t.alive


def test_without_greenlet_the_message_says_what_to_install(python):
    done = python(
        """
        import sys
        sys.modules["greenlet"] = None
        import objspace, objspace.pickling
        try:
            objspace.tasklet
        except ImportError as error:
            print(error)
        """
    )
    assert "pip install objspace[tasklets]" in done.stdout, done.stderr


def test_names():
    assert objspace.tasklet is tasklet
    assert objspace.channel is channel
    assert objspace.schedule is schedule
    assert objspace.tasklets is tasklets
    assert sys.modules["objspace.tasklets"] is tasklets


def test_a_tasklet_is_pickled_after_one_that_began_earlier_has_ended():
    def turns(n):
        for _ in range(n):
            schedule()
        return n

    first, second = tasklet(turns)(1), tasklet(turns)(4)
    schedule()
    schedule()
    assert second.alive and not first.alive
    copy = again(second)
    copy.insert()
    run()
    assert (second.value, copy.value) == (4, 4)


MOVES = """
import gc, sys, weakref
import objspace
from objspace import schedule, tasklet
from objspace.tasklets import getruncount, run

log, dropped = [], []


class Guard:
    def __enter__(self):
        return self

    def __exit__(self, *error):
        log.append("exit")

    def __del__(self):
        dropped.append("guard")


def steps(kept):
    try:
        yield deep(kept)
    finally:
        log.append("generator")


def deep(kept):
    local = Guard()
    try:
        for _ in [1]:
            schedule(remove=True)
    except BaseException as error:
        log.append(error)
    finally:
        log.append("finally")
    return local is not None


def outer(kept):
    with Guard():
        for value in steps(kept):
            return value, len(log)


class Kept:
    pass


def gone(prepare):
    del log[:], dropped[:]
    kept = Kept()
    held = weakref.ref(kept)
    t = prepare(tasklet(outer)(kept))
    del kept
    assert t.move(remote) == (True, 1), log
    gc.collect()
    assert not t.alive and getruncount() == 0
    assert log == [], log
    return held() is None and len(dropped) >= 2


def waits(t):
    run()
    return t


def again(t):
    run()
    copy = objspace.pickling.loads(objspace.pickling.dumps(t))
    t.insert()
    run()
    copy.insert()
    run()
    del log[:], dropped[:]
    return copy
"""


def test_the_frames_of_a_tasklet_that_has_moved_are_dropped_and_nothing_of_them_runs(python):
    done = python(
        MOVES
        + """
with objspace.spawn(setup="") as remote:
    for _ in range(40):
        assert gone(waits)
    # What runs beside it has all that it had.
    other = waits(tasklet(outer)(None))
    assert gone(waits)
    other.insert()
    run()
    assert other.value == (True, 1), other.value
    assert log == ["finally", "generator", "exit"], log
print("dropped")
"""
    )
    assert done.stdout == "dropped\n", done.stderr[-3000:]


def test_where_there_was_monitoring_they_are_kept_and_nothing_of_them_runs(python):
    done = python(
        MOVES
        + """
sys.settrace(lambda *_: None)
t = waits(tasklet(outer)(None))
sys.settrace(None)
with objspace.spawn(setup="") as remote:
    print(gone(waits))
t.insert()
run()
"""
    )
    expected = "True" if sys.version_info < (3, 12) else "False"
    assert done.stdout == f"{expected}\n", done.stderr[-3000:]
