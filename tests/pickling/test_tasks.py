"""Pickles of asyncio tasks and futures."""

import asyncio
import copy
import pickle

import pytest
from objspace import pickling

PROGRAM = """
    import asyncio
    import types

    @types.coroutine
    def pause():
        yield

    class Pause:
        def __await__(self):
            yield

    async def steps(how, log):
        for i in range(4):
            log.append(i)
            if how == "generator":
                await pause()
            elif how == "object":
                await Pause()
            else:
                await asyncio.sleep(0)
        return sum(log)

    async def waits(task):
        try:
            return "got", await task
        finally:
            await asyncio.sleep(0)

    async def knows(box):
        for i in range(3):
            await asyncio.sleep(0)
        return len(box)

    async def fails():
        await asyncio.sleep(0)
        raise LookupError("lost")

    async def blocked(future):
        return await future

    async def stream():
        for i in range(3):
            await asyncio.sleep(0)
            yield i

    async def collects(task):
        found = []
        async for i in stream():
            found.append(i)
            if i == 1:
                found.append(await task)
        return found
"""


@pytest.fixture
def program(module):
    return module(PROGRAM)


async def turns(n):
    for _ in range(n):
        await asyncio.sleep(0)


def load_in_a_loop(code):
    """Code for `elsewhere` that loads within an event loop: the data is `value`, made of bytes."""
    return (
        "import asyncio\nasync def main():\n    got = pickling.loads(value)\n"
        + "".join(
            f"    {line}\n"
            for line in [
                *code,
                "assert not [t for t in asyncio.all_tasks() if t is not asyncio.current_task()]",
            ]
        )
        + "asyncio.run(main())\n"
    )


@pytest.mark.parametrize("how", ["generator", "object", "sleep"])
@pytest.mark.parametrize("n", [0, 1, 2, 4])
def test_a_task_that_pauses_goes_on_elsewhere(program, elsewhere, module, how, n):
    async def main():
        log = []
        task = asyncio.create_task(program.steps(how, log), name="worker")
        await turns(n)
        data = pickling.dumps(task)
        assert log == list(range(n))
        assert await task == 6
        return data

    data = pickling.dumps(asyncio.run(main()))
    code = load_in_a_loop(
        ["assert type(got) is asyncio.Task and not got.done()", "print(got.get_name(), await got)"]
    )
    assert elsewhere(data, code, module.path) == "worker 6\n"


@pytest.mark.parametrize("n", [1, 2, 3, 4, 5, 6])
def test_tasks_that_wait_for_each_other_stay_the_same_tasks(program, elsewhere, module, n):
    async def main():
        child = asyncio.create_task(program.steps("sleep", []), name="child")
        parent = asyncio.create_task(program.waits(child), name="parent")
        await turns(n)
        data = [pickling.dumps((parent, child)), pickling.dumps((child, parent))]
        assert await parent == ("got", 6)
        return data

    one, other = asyncio.run(main())
    code = load_in_a_loop(["a, b = got", "print(*sorted(map(str, [await a, await b])))"])
    for data in (one, other):
        assert elsewhere(pickling.dumps(data), code, module.path) == "('got', 6) 6\n"


def test_a_task_in_an_asynchronous_loop_that_waits_for_a_task(program, elsewhere, module):
    async def main():
        child = asyncio.create_task(program.steps("sleep", []))
        task = asyncio.create_task(program.collects(child))
        pickles = []
        while not task.done():
            pickles.append(pickling.dumps(task))
            await asyncio.sleep(0)
        assert await task == [0, 1, 6, 2]
        return pickles

    pickles = asyncio.run(main())
    assert len(pickles) > 4
    code = load_in_a_loop(["print([await task for task in map(pickling.loads, got)])"])
    expected = f"{[[0, 1, 6, 2]] * len(pickles)}\n"
    assert elsewhere(pickling.dumps(pickling.dumps(pickles)), code, module.path) == expected


def test_a_task_that_refers_to_itself_runs_once(program, elsewhere, module):
    async def main():
        box = []
        task = asyncio.create_task(program.knows(box))
        waiting = asyncio.create_task(program.waits(task))
        box += [task, waiting, box]
        await turns(2)
        data = pickling.dumps(box)
        await waiting
        return data

    data = pickling.dumps(asyncio.run(main()))
    code = load_in_a_loop(
        [
            "task, waiting, box = got",
            "assert box is got and len(asyncio.all_tasks()) == 3",
            "print(await waiting, task.result())",
        ]
    )
    assert elsewhere(data, code, module.path) == "('got', 3) 3\n"


def test_done_tasks_are_futures_with_their_outcome(program, elsewhere, module):
    async def main():
        done = asyncio.create_task(program.steps("sleep", []))
        failed = asyncio.create_task(program.fails())
        cancelled = asyncio.create_task(program.steps("sleep", []))
        cancelled.cancel("enough")
        await asyncio.wait([done, failed, cancelled])
        data = pickling.dumps([done, failed, cancelled])
        assert failed._log_traceback  # to pickle it is not to have seen the exception
        failed.exception()
        return data

    data = pickling.dumps(asyncio.run(main()))
    code = load_in_a_loop(
        [
            "done, failed, cancelled = got",
            "assert all(type(future) is asyncio.Future for future in got)",
            "print(await done, repr(failed.exception()), cancelled.cancelled())",
        ]
    )
    assert elsewhere(data, code, module.path) == "6 LookupError('lost') True\n"


def refusal(value):
    with pytest.raises(pickling.PicklingError) as caught:
        pickling.dumps(value)
    return str(caught.value)


def test_what_waits_for_the_world_is_refused_by_name(program):
    async def main():
        loop = asyncio.get_running_loop()
        future = loop.create_future()
        worker = asyncio.create_task(program.blocked(future), name="worker")
        sleeper = asyncio.create_task(asyncio.sleep(100), name="sleeper")
        outer = asyncio.create_task(program.waits(worker), name="outer")
        await turns(2)
        assert "task 'worker' waits for <Future pending" in refusal(worker)
        told = refusal({"jobs": [sleeper]})
        assert told.startswith("['jobs'], [0] → ")
        assert "task 'sleeper' waits for <Future pending" in told
        told = refusal(outer)
        assert "local 'task' → " in told
        assert "task 'worker' waits for <Future pending" in told
        assert "cannot pickle <Future pending" in refusal([future])
        assert "it is running" in refusal(asyncio.current_task())
        refusal(loop.call_later(100, print))
        future.set_result(1)
        sleeper.cancel()
        await asyncio.wait([outer, sleeper])

    asyncio.run(main())


def test_what_would_be_lost_is_refused(program):
    async def main():
        task = asyncio.create_task(program.steps("sleep", []), name="called back")
        task.add_done_callback(print)
        assert "task 'called back' has a callback" in refusal(task)
        task.remove_done_callback(print)
        pickling.dumps(task)
        task.cancel()
        assert "task 'called back' is being cancelled" in refusal(task)
        await asyncio.wait([task])

    asyncio.run(main())


def test_tasks_are_loaded_within_an_event_loop(program):
    async def main():
        task = asyncio.create_task(program.steps("sleep", []))
        await turns(1)
        data = pickling.dumps(task)
        await task
        return data

    data = asyncio.run(main())
    with pytest.raises(pickling.UnpicklingError, match="while an event loop runs"):
        pickling.loads(data)


def test_with_install_pickle_takes_tasks_and_copy_does_not(program):
    async def main():
        task = asyncio.create_task(program.steps("sleep", []))
        await turns(1)
        again = pickle.loads(pickle.dumps(task))
        with pytest.raises(TypeError):
            copy.copy(task)
        assert [await task, await again] == [6, 6]

    pickling.install()
    try:
        asyncio.run(main())
    finally:
        pickling.uninstall()
