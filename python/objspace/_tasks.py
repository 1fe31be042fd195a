"""How asyncio's tasks and futures are pickled.

A task that waits is its coroutine and its name: the copy is a new task of the event loop that runs
where it is loaded. What wakes a task does not travel: a copy is stepped again, and waits anew for
what its coroutine waits for, which has to be a task of the same pickle, or nothing at all
(`asyncio.sleep(0)`). A done task, like a done future, becomes a future with the same outcome.

`types` tells the table of kinds which types these are, `reduce` is their reduction. Tasks may refer
to themselves, so each is made first, as a task of no event loop, and set when its coroutine is
there.
"""

from __future__ import annotations

import asyncio
import gc
from pickle import PicklingError, UnpicklingError
from typing import Any


class _NoLoop:
    """What a task belongs to until it is set: nothing is ever run."""

    def get_debug(self) -> bool:
        return False

    def is_running(self) -> bool:
        return False

    def call_soon(self, *_args: Any, **_kwargs: Any) -> None:
        pass

    def call_exception_handler(self, _context: Any) -> None:
        pass


async def _nothing() -> None:
    pass


_NO_LOOP: Any = _NoLoop()
_Iterator: Any = type(asyncio.Future(loop=_NO_LOOP).__await__())


def types() -> tuple[type, ...]:
    """The types that `reduce` takes."""
    return asyncio.Task, asyncio.Future, _Iterator


def reduce(thing: Any) -> tuple[Any, ...]:
    """The reduction of a task, a future, or what a future's `__await__()` has returned."""
    if type(thing) is _Iterator:
        future = _awaited(thing)
        if future is None:
            raise PicklingError(f"cannot pickle {thing!r}: its future has been awaited")
        return _await_again, (future,)
    if thing.done():
        return _make_future, (), _outcome(thing), None, None, _set_future
    if type(thing) is not asyncio.Task:
        raise PicklingError(f"cannot pickle {thing!r}: what will set its result stays here")
    _check_task(thing)
    return _make_task, (), (thing.get_coro(), thing.get_name()), None, None, _set_task


def _awaited(iterator: Any) -> Any:
    for item in gc.get_referents(iterator):
        if isinstance(item, asyncio.Future):
            return item
    return None


# -- tasks


def _check_task(task: Any) -> None:
    """Raise `PicklingError` if a copy of the task would not do what the task does."""
    name = f"task {task.get_name()!r}"
    if asyncio.current_task(task.get_loop()) is task:
        raise PicklingError(f"{name} cannot be pickled: it is running")
    if task.cancelling():
        raise PicklingError(f"{name} is being cancelled")
    for callback, _context in task._callbacks or ():
        # A task that waits for this one waits for it anew where it is loaded.
        if type(getattr(callback, "__self__", None)) is not asyncio.Task:
            raise PicklingError(f"{name} has a callback, which would stay here: {callback!r}")
    waiter = task._fut_waiter
    if waiter is None:
        return
    if type(waiter) is not asyncio.Task and not waiter.done():
        raise PicklingError(f"{name} waits for {waiter!r}")
    innermost = _innermost(task.get_coro())
    if type(innermost) is not _Iterator or _awaited(innermost) is not waiter:
        raise PicklingError(f"{name} waits for {waiter!r} by way of {innermost!r}")


_NEXT = ("cr_await", "gi_yieldfrom", "ag_await")


def _innermost(awaitable: Any) -> Any:
    """What a chain of awaitables waits for at its end."""
    while True:
        for attribute in _NEXT:
            if hasattr(awaitable, attribute):
                following = getattr(awaitable, attribute)
                break
        else:
            # Wrappers of coroutines and asynchronous generators show what they wrap to nobody else.
            known = [
                item
                for item in gc.get_referents(awaitable)
                if type(item) is _Iterator or any(hasattr(type(item), name) for name in _NEXT)
            ]
            following = known[0] if len(known) == 1 and type(awaitable) is not _Iterator else None
        if following is None:
            return awaitable
        awaitable = following


def _make_task() -> Any:
    _loop()
    coroutine = _nothing()
    coroutine.close()
    task: Any = asyncio.Task(coroutine, loop=_NO_LOOP)
    task._log_destroy_pending = False
    return task


def _set_task(task: Any, state: Any) -> None:
    if type(task) is not asyncio.Task or task.get_loop() is not _NO_LOOP:
        raise UnpicklingError("this pickle is damaged: a task is set twice")
    coroutine, name = state
    if not asyncio.iscoroutine(coroutine) or not isinstance(name, str):
        raise UnpicklingError("this pickle is damaged: a task without a coroutine")
    # The same object becomes a task of this loop, which is to step it.
    asyncio.Task.__init__(task, coroutine, loop=_loop(), name=name)


def _loop() -> asyncio.AbstractEventLoop:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        raise UnpicklingError(
            "this pickle holds asyncio tasks or futures: load it while an event loop runs"
        ) from None


# -- futures


def _outcome(future: Any) -> tuple[str, Any, bool]:
    # Asking by its methods would count as having seen the exception.
    if future.cancelled():
        return "cancelled", future._cancel_message, False
    if future._exception is not None:
        return "raised", future._exception, future._log_traceback
    return "returned", future._result, False


def _make_future() -> Any:
    return asyncio.Future(loop=_loop())


def _set_future(future: Any, state: Any) -> None:
    if type(future) is not asyncio.Future or future.done():
        raise UnpicklingError("this pickle is damaged: a future is set twice")
    how, value, unseen = state
    if how == "returned":
        future.set_result(value)
    elif how == "raised":
        future.set_exception(value)
        if not unseen:
            future._log_traceback = False
    else:
        future.cancel(value)


def _await_again(future: Any) -> Any:
    if not isinstance(future, asyncio.Future):
        raise UnpicklingError("this pickle is damaged: a future is awaited that is none")
    return future.__await__()
