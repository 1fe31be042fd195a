"""Coroutines that go on in the other process of a session."""

import asyncio
import os
import subprocess
import sys
import threading
import traceback
import types

import objspace
import pytest
from objspace import pickling

SERVED = """
import os
data = [1, 2, 3]
class Thing:
    def __init__(self, value): self.value = value
thing = Thing(5)
def pid(): return os.getpid()
"""


@pytest.fixture
def away(link):
    return link(SERVED)


def ends_elsewhere(link, pid):
    return (pid == os.getpid()) == (link.transport == "pair")


class Note:
    def __init__(self, text):
        self.text = text


async def visit(remote, extra):
    data = remote.data
    here = os.getpid()
    await objspace.hop(remote)
    data.append(extra)
    return here, os.getpid(), data is remote.data, extra


def test_the_rest_runs_over_there_and_the_result_comes_back(link, away):
    here, there, same, extra = asyncio.run(visit(away, "extra"))
    assert here == os.getpid()
    assert ends_elsewhere(link, there)
    assert same is True
    assert extra == "extra"
    assert list(away.data) == [1, 2, 3, "extra"]


def test_a_task_of_its_own(away):
    async def main():
        return await asyncio.gather(*(asyncio.create_task(visit(away, i)) for i in range(3)))

    results = asyncio.run(main())
    assert [extra for _, _, _, extra in results] == [0, 1, 2]


def test_several_coroutines_deep_the_awaiter_stays_here(link, away):
    async def outer():
        with_here = threading.get_ident()
        result = await visit(away, 1)
        return with_here == threading.get_ident(), os.getpid(), result[1]

    stays, here, there = asyncio.run(outer())
    assert stays
    assert here == os.getpid()
    assert ends_elsewhere(link, there)


async def fails(remote):
    await objspace.hop(remote)
    note = Note("far away")
    raise LookupError(note.text)


def test_an_exception_comes_back_with_its_traceback(away):
    with pytest.raises(LookupError, match="far away") as caught:
        asyncio.run(fails(away))
    entries = traceback.extract_tb(caught.value.__traceback__)
    assert [entry.name for entry in entries][-2:] == ["fails", "fails"]
    assert "raise LookupError" in entries[-1].line
    frames = [frame for frame, _ in traceback.walk_tb(caught.value.__traceback__)]
    assert frames[-1].f_locals["note"].text == "far away"


async def fails_with_a_lock(remote):
    await objspace.hop(remote)
    lock = threading.Lock()
    with lock:
        raise LookupError("holding a lock")


def test_frames_that_cannot_come_back_become_a_note(away):
    with pytest.raises(LookupError, match="holding a lock") as caught:
        asyncio.run(fails_with_a_lock(away))
    (note,) = caught.value.__notes__
    assert "in fails_with_a_lock" in note


async def returns_a_lock(remote):
    await objspace.hop(remote)
    return threading.Lock()


def test_a_result_that_cannot_come_back(away):
    with pytest.raises(pickling.PicklingError, match="lock"):
        asyncio.run(returns_a_lock(away))


async def holds_a_lock(remote):
    lock = threading.Lock()
    try:
        await objspace.hop(remote)
    except pickling.PicklingError as error:
        return str(error), lock, os.getpid()


def test_what_cannot_move_stays_and_is_told(away):
    text, _, pid = asyncio.run(holds_a_lock(away))
    assert "coroutine holds_a_lock() line" in text
    assert "local 'lock' → lock" in text
    assert pid == os.getpid()


async def handlers(remote, log):
    try:
        async with Manager(log):
            for i in range(3):
                if i == 1:
                    await objspace.hop(remote)
                log.append((i, os.getpid()))
            raise KeyError("inside")
    except KeyError:
        log.append("handled")
        return log
    finally:
        log.append("finally")


class Manager:
    def __init__(self, log):
        self.log = log

    async def __aenter__(self):
        self.log.append("enter")

    async def __aexit__(self, *error):
        self.log.append("exit")


def test_blocks_that_were_entered_here_are_left_there(link, away):
    log = []
    result = asyncio.run(handlers(away, log))
    assert [x if isinstance(x, str) else x[0] for x in result] == [
        "enter", 0, 1, 2, "exit", "handled", "finally",
    ]  # fmt: skip
    # What moved is a copy: nothing was written to what stayed here.
    assert log == ["enter", (0, os.getpid())]
    assert ends_elsewhere(link, result[3][1])


async def waits(remote):
    try:
        await objspace.hop(remote)
        started = remote.data
        started.append("arrived")
        await asyncio.sleep(60)
    except asyncio.CancelledError:
        return "cancelled", os.getpid()


def test_cancelling_cancels_it_where_it_is(link, away):
    async def main():
        task = asyncio.create_task(waits(away))
        async with asyncio.timeout(20):
            while "arrived" not in list(away.data):
                await asyncio.sleep(0.01)
        task.cancel()
        return await task

    told, pid = asyncio.run(main())
    assert told == "cancelled"
    assert ends_elsewhere(link, pid)


def test_classes_of_the_program_come_back_as_themselves(away):
    async def main():
        await objspace.hop(away)
        return Note("x")

    assert type(asyncio.run(main())) is Note


def test_a_local_class_comes_back_as_itself(away):
    class Local:
        pass

    async def main():
        made = Local()
        await objspace.hop(away)
        return made, Local()

    one, other = asyncio.run(main())
    assert type(one) is type(other) is Local


def test_objects_of_the_other_side_are_themselves_there(away):
    async def main():
        thing, kind = away.thing, away.Thing
        await objspace.hop(away)
        return type(thing) is kind, thing.value, type(thing.__dict__) is dict, dir(away) != []

    assert asyncio.run(main()) == (True, 5, True, True)


TRAVELLER = """
import asyncio, os, sys
import objspace

async def travel(urls, found):
    for url in urls:
        await objspace.hop(url)
        found.append(os.getpid())
    return found

print(os.getpid(), *asyncio.run(travel(sys.argv[1:], [])))
"""

HOST = """
import sys, objspace
server = objspace.Server({}, "tcp://127.0.0.1:0", policy=objspace.Policy.full()).start()
print(server.address, flush=True)
sys.stdin.read()
server.close()
"""


def test_the_names_of_the_other_side(away):
    async def main():
        names = await objspace.hop(away)
        names.data.append("by name")
        try:
            names.nothing
        except AttributeError:
            pass
        return names.data is away.data, "thing" in dir(names)

    assert asyncio.run(main()) == (True, True)
    assert list(away.data)[-1] == "by name"

    async def keeps():
        return await objspace.hop(away)

    # Here they are the names of the other process, seen from afar.
    assert asyncio.run(keeps()).data is away.data


def test_three_processes_one_after_another(python):
    hosts = [
        subprocess.Popen(
            [sys.executable, "-c", HOST], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for _ in range(3)
    ]
    try:
        urls = [host.stdout.readline().strip() for host in hosts]
        done = python(TRAVELLER, *urls)
        assert done.stderr == ""
        _, *visited = map(int, done.stdout.split())
        assert visited == [host.pid for host in hosts]
    finally:
        for host in hosts:
            host.communicate(timeout=10)


def test_nothing_moves_to_who_does_not_allow_everything():
    here, there = objspace.distributed.pair(
        {}, {}, policy=(objspace.Policy.full(), objspace.Policy.public())
    )
    with here, there:
        with pytest.raises(PermissionError, match="accept_hops"):
            asyncio.run(simple(here))
    here, there = objspace.distributed.pair(
        {}, {}, policy=(objspace.Policy.public(), objspace.Policy.full())
    )
    with here, there:
        with pytest.raises(PermissionError, match=r"policy=Policy.full\(\) on this side"):
            asyncio.run(simple(here))


async def simple(peer, key=None):
    await objspace.hop(peer, key=key)
    return "there"


def test_a_signed_coroutine_moves_where_the_key_is_known(monkeypatch):
    from objspace import _hop

    monkeypatch.setattr(_hop, "_keys", [])
    here, there = objspace.distributed.pair(
        {}, {}, policy=(objspace.Policy.public(), objspace.Policy.public())
    )
    with here, there:
        with pytest.raises(PermissionError):
            asyncio.run(simple(here, b"key"))
        objspace.accept_hops(b"other")
        with pytest.raises(pickling.UnpicklingError, match="does not fit"):
            asyncio.run(simple(here, b"key"))
        objspace.accept_hops(b"key")
        assert asyncio.run(simple(here, b"key")) == "there"
    with pytest.raises(TypeError):
        objspace.accept_hops("text")


def test_a_lost_connection_is_told_to_who_waits():
    # The process leaves while the coroutine is in it.
    async def leaves(remote):
        await objspace.hop(remote)
        os._exit(3)

    with objspace.spawn(setup="") as remote, pytest.raises(objspace.ConnectionLost):
        asyncio.run(leaves(remote))


def test_misuse_is_told(away):
    with pytest.raises(TypeError, match="not a local 'int'"):
        asyncio.run(simple(5))
    with pytest.raises(ConnectionError):
        asyncio.run(simple("tcp://127.0.0.1:1"))
    with pytest.raises(RuntimeError, match="running asyncio event loop"):
        simple(away).send(None)

    @types.coroutine
    def plain():
        yield from objspace.hop(away).__await__()

    async def main():
        await plain()

    with pytest.raises(RuntimeError, match="async def"):
        asyncio.run(main())


def test_moving_leaves_nothing_behind(away, no_leaks):
    asyncio.run(visit(away, 0))
    with no_leaks(away):
        for _ in range(3):
            asyncio.run(visit(away, 0))
