"""Coroutines, asynchronous generators and context managers across processes, in event loops."""

import asyncio
import contextlib
import gc
import threading

import objspace
import pytest
from objspace.distributed import ConnectionLost, pair, session_of

SETUP = """
import asyncio, contextlib, threading

events = []
thread = None

async def double(x):
    await asyncio.sleep(0)
    return 2 * x

async def fail(message):
    raise LookupError(message)

async def loop_name():
    return threading.current_thread().name, id(asyncio.get_running_loop())

async def forever(started):
    started()
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        events.append("cancelled")
        raise
    finally:
        events.append("cleaned up")

async def stubborn(started):
    started()
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        return "not yet"

async def call(function, *args):
    return await function(*args)

async def count(n):
    try:
        for i in range(n):
            await asyncio.sleep(0)
            got = yield i
            if got:
                events.append(got)
    finally:
        events.append("closed")

class Range:
    def __init__(self, n):
        self.n = n
    def __aiter__(self):
        self.i = -1
        return self
    async def __anext__(self):
        self.i += 1
        if self.i == self.n:
            raise StopAsyncIteration
        return self.i

class Manager:
    async def __aenter__(self):
        events.append("enter")
        return self
    async def __aexit__(self, kind, error, traceback):
        events.append(repr(error))
        return isinstance(error, KeyError)

class Waits:
    def __await__(self):
        yield from asyncio.sleep(0).__await__()
        return "waited"

class Base(BaseException):
    pass

async def worse():
    raise Base("through and through")

async def leave():
    raise SystemExit(3)

def make_future():
    import concurrent.futures
    done = concurrent.futures.Future()
    async def make():
        loop = asyncio.get_running_loop()
        future = loop.create_future()
        loop.call_later(0.01, future.set_result, "from a future")
        done.set_result(future)
        await future
    threading.Thread(target=lambda: asyncio.run(make()), daemon=True).start()
    return done.result(20)
"""


def run(main):
    """Run a coroutine function, with an end in sight."""

    async def limited():
        return await asyncio.wait_for(main(), 30)

    return asyncio.run(limited())


def test_a_remote_coroutine_function_is_awaited(link):
    remote = link(SETUP)

    async def main():
        assert await remote.double(21) == 42
        coroutine = remote.double(1)
        assert asyncio.iscoroutine(coroutine)
        assert await asyncio.create_task(coroutine) == 2
        assert await asyncio.gather(*(remote.double(n) for n in range(20))) == [
            2 * n for n in range(20)
        ]
        with pytest.raises(LookupError, match="no luck"):
            await remote.fail("no luck")

    run(main)


def test_a_remote_coroutine_is_the_main_one(link):
    assert asyncio.run(link(SETUP).double(4)) == 8


def test_awaiting_is_one_round_trip_after_the_coroutine_was_made(link):
    remote = link(SETUP)
    session = session_of(remote)

    async def main():
        coroutine = remote.double(1)
        before = session.stats()["round_trips"]
        await coroutine
        assert session.stats()["round_trips"] - before == 1

    run(main)


def test_the_event_loop_is_not_blocked_meanwhile(link):
    remote = link(SETUP)

    async def main():
        started = asyncio.Event()
        loop = asyncio.get_running_loop()
        task = asyncio.create_task(remote.forever(lambda: loop.call_soon_threadsafe(started.set)))
        await started.wait()
        # Others go on, over the same session.
        assert await remote.double(3) == 6
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert list(remote.events) == ["cancelled", "cleaned up"]

    run(main)


def test_a_remote_coroutine_may_refuse_to_be_cancelled(link):
    remote = link(SETUP)

    async def main():
        started = asyncio.Event()
        loop = asyncio.get_running_loop()
        task = asyncio.create_task(remote.stubborn(lambda: loop.call_soon_threadsafe(started.set)))
        await started.wait()
        task.cancel()
        assert await task == "not yet"

    run(main)


def test_a_time_limit_cancels_over_there(link):
    remote = link(SETUP)

    async def main():
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(remote.forever(lambda: None), 0.05)
        assert list(remote.events) == ["cancelled", "cleaned up"]

    run(main)


def test_an_asynchronous_generator_is_iterated(link):
    remote = link(SETUP)

    async def main():
        assert [n async for n in remote.count(4)] == [0, 1, 2, 3]
        assert list(remote.events) == ["closed"]
        generator = remote.count(10)
        assert type(generator).__name__ == "async_generator"
        assert await anext(generator) == 0
        assert await generator.asend("sent") == 1
        with pytest.raises(KeyError, match="thrown"):
            await generator.athrow(KeyError("thrown"))
        assert list(remote.events) == ["closed", "sent", "closed"]
        other = remote.count(10)
        await anext(other)
        await other.aclose()
        assert await anext(other, "over") == "over"

    run(main)


def test_each_item_is_one_round_trip(link):
    remote = link(SETUP)
    session = session_of(remote)

    async def main():
        generator = remote.count(5)
        before = session.stats()["round_trips"]
        assert [n async for n in generator] == [0, 1, 2, 3, 4]
        assert session.stats()["round_trips"] - before == 6

    run(main)


def test_an_asynchronous_iterator_of_a_user(link):
    remote = link(SETUP)

    async def main():
        assert [n async for n in remote.Range(3)] == [0, 1, 2]

    run(main)


def test_an_asynchronous_context_manager(link):
    remote = link(SETUP)

    async def main():
        async with remote.Manager() as manager:
            assert type(manager) is remote.Manager
        async with remote.Manager():
            raise KeyError("suppressed")
        with pytest.raises(ValueError, match="not suppressed"):
            async with remote.Manager():
                raise ValueError("not suppressed")
        assert list(remote.events) == [
            "enter",
            "None",
            "enter",
            "KeyError('suppressed')",
            "enter",
            "ValueError('not suppressed')",
        ]

    run(main)


def test_other_awaitables(link):
    remote = link(SETUP)

    async def main():
        assert await remote.Waits() == "waited"
        assert await remote.make_future() == "from a future"

    run(main)


def test_what_ends_a_program_ends_the_caller_only(link):
    remote = link(SETUP)

    async def main():
        for _ in range(2):
            with pytest.raises(remote.Base, match="through and through"):
                await remote.worse()
        with pytest.raises(SystemExit, match="3"):
            await remote.leave()
        assert await remote.double(1) == 2

    run(main)


def test_a_callback_is_awaited_in_the_loop_of_the_caller():
    """The other side awaits our coroutines in the loop that made the session."""

    async def main():
        here, _there = pair({}, {"call": _call})
        loop = asyncio.get_running_loop()

        async def mine(x):
            await asyncio.sleep(0)
            return x, asyncio.get_running_loop() is loop

        assert await here.remote.call(mine, 7) == (7, True)
        here.close()

    run(main)


async def _call(function, *args):
    return await function(*args)


def test_a_server_in_an_event_loop_performs_coroutines_there(python):
    """Client and server, each with a loop of its own, in two processes."""
    done = python(
        """
        import asyncio, subprocess, sys
        import objspace

        CLIENT = '''
        import asyncio, sys
        import objspace
        async def main():
            remote = await objspace.aconnect(sys.argv[1])
            print(await remote.where(), await remote.add(1, 2))
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(remote.add(n, n)) for n in range(10)]
            print(sum(task.result() for task in tasks))
        asyncio.run(main())
        '''

        async def main():
            loop = asyncio.get_running_loop()

            async def where():
                return asyncio.get_running_loop() is loop

            async def add(a, b):
                await asyncio.sleep(0.001)
                return a + b

            with objspace.Server({"where": where, "add": add}, "tcp://127.0.0.1:0") as server:
                import textwrap
                client = await asyncio.create_subprocess_exec(
                    sys.executable, "-c", textwrap.dedent(CLIENT), server.address,
                    stdout=subprocess.PIPE)
                out, _ = await client.communicate()
            print(out.decode(), client.returncode)

        asyncio.run(main())
        """
    )
    assert (done.stdout, done.stderr) == ("True 3\n90\n 0\n", "")


def test_aconnect_raises_what_connect_raises():
    with pytest.raises(ValueError, match="nonsense"):
        run(lambda: objspace.aconnect("nonsense"))


def test_a_lost_session_ends_what_waits_for_it(link):
    remote = link(SETUP)
    session = session_of(remote)

    async def main():
        started = asyncio.Event()
        loop = asyncio.get_running_loop()
        task = asyncio.create_task(remote.forever(lambda: loop.call_soon_threadsafe(started.set)))
        await started.wait()
        session.close()
        with pytest.raises(ConnectionLost):
            await task

    run(main)


def test_what_a_lost_peer_awaits_is_cancelled():
    cancelled = threading.Event()

    async def forever(started):
        # The session may end before the reply to this is here.
        with contextlib.suppress(ConnectionLost):
            started()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.set()
            raise

    here, there = pair({}, {"forever": forever})

    async def main():
        started = asyncio.Event()
        loop = asyncio.get_running_loop()
        task = asyncio.create_task(
            here.remote.forever(lambda: loop.call_soon_threadsafe(started.set))
        )
        await started.wait()
        here.close()
        with contextlib.suppress(ConnectionLost):
            await task

    run(main)
    assert cancelled.wait(20)
    there.close()


def test_a_coroutine_is_driven_by_hand_outside_of_a_loop(link):
    remote = link(
        """
        class Step:
            def __await__(self):
                got = yield "stepped"
                return got

        async def steps():
            return await Step()
        """
    )
    coroutine = remote.steps()
    assert coroutine.send(None) == "stepped"
    with pytest.raises(StopIteration) as stop:
        coroutine.send("back")
    assert stop.value.value == "back"
    other = remote.steps()
    other.send(None)
    other.close()


def test_awaiting_twice_fails_as_over_there(link):
    remote = link(SETUP)

    async def main():
        coroutine = remote.double(1)
        await coroutine
        with pytest.raises(RuntimeError, match="cannot reuse already awaited coroutine"):
            await coroutine

    run(main)


def test_awaiting_leaves_no_references_behind(link, no_leaks):
    remote = link(SETUP)
    double, count = remote.double, remote.count

    async def main():
        await double(1)
        async for _ in count(2):
            pass

    run(main)
    with no_leaks(remote):
        run(main)
        gc.collect()


def test_public_policy_does_not_await_private_methods():
    class Thing:
        async def _secret(self):
            return "secret"

        async def open(self):
            return "open"

    policy = (objspace.Policy.full(), objspace.Policy.public())
    here, _there = pair({}, {"thing": Thing()}, policy=policy)

    async def main():
        thing = here.remote.thing
        assert await thing.open() == "open"
        with pytest.raises(PermissionError, match="private"):
            await thing._secret()

    run(main)
    here.close()
