"""What the compiled half needs of `asyncio`: waiting for another process, and performing for one.

Which request waits for what, and how it travels, is decided there (`session/awaiting.rs`).
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import functools
import threading
from typing import TYPE_CHECKING, Any

from objspace._core import choose_event_loop, session_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from objspace._core import RemoteView


async def wait(awaited: Any) -> Any:
    """Send `awaited`, and wait for its reply without blocking the event loop.

    Cancelling this asks the other side to cancel, and then waits for what becomes of it: as with a
    coroutine of this process, which may clean up, or refuse.
    """
    loop = asyncio.get_running_loop()
    arrived: asyncio.Future[Any] = loop.create_future()

    def settle(reply: Any) -> None:
        if not arrived.done():
            arrived.set_result(reply)

    def deliver(reply: Any) -> None:
        # A loop that is closed has nobody left who waits.
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(settle, reply)

    question = awaited.begin(deliver)
    try:
        while True:
            try:
                reply = await asyncio.shield(arrived)
                break
            except asyncio.CancelledError:
                question.cancel()
    finally:
        if not arrived.done():
            # The task was destroyed.
            question.cancel()
    return reply.result()


class _Running:
    """A request of the other side in an event loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop, request: Any) -> None:
        self._loop = loop
        self._request = request
        self._task: asyncio.Task[tuple[bool, Any]] | None = None

    def begin(self) -> None:
        """Start it. Runs in the loop."""
        self._task = self._loop.create_task(self._run())
        self._task.add_done_callback(self._done)

    def cancel(self) -> None:
        """Cancel it, from any thread."""
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._cancel)

    def _cancel(self) -> None:
        if self._task is not None:
            self._task.cancel()

    async def _run(self) -> tuple[bool, Any]:
        try:
            return True, await self._request.start()
        except asyncio.CancelledError:
            raise
        except BaseException as error:
            # Also what would end the loop: it is the caller's.
            return False, error

    def _done(self, task: asyncio.Task[tuple[bool, Any]]) -> None:
        if task.cancelled():
            self._request.reply(False, asyncio.CancelledError())
        else:
            self._request.reply(*task.result())


def perform(request: Any, target: Any, chosen: asyncio.AbstractEventLoop | None) -> None:
    """Perform `request` in the loop of `target`, the chosen one, or one of objspace's own."""
    if isinstance(target, asyncio.Future):
        loop = target.get_loop()
    elif chosen is not None:
        loop = chosen
    else:
        loop = _own_loop()
    if not loop.is_running():
        what = "of the awaited object" if loop is not chosen else "that was chosen for this session"
        raise RuntimeError(f"the event loop {what} does not run: {loop!r}")
    running = _Running(loop, request)
    request.register(running)
    loop.call_soon_threadsafe(running.begin)


@functools.cache
def _started_loop() -> asyncio.AbstractEventLoop:
    loop = asyncio.new_event_loop()
    started = threading.Event()

    def run() -> None:
        asyncio.set_event_loop(loop)
        loop.call_soon(started.set)
        loop.run_forever()

    thread = threading.Thread(target=run, name="objspace-asyncio", daemon=True)
    thread.start()
    started.wait()

    def stop() -> None:
        # A thread that comes back to an interpreter that is gone takes the process down.
        loop.call_soon_threadsafe(loop.stop)
        thread.join(1.0)

    atexit.register(stop)
    return loop


_starting = threading.Lock()


def _own_loop() -> asyncio.AbstractEventLoop:
    with _starting:
        return _started_loop()


async def connect(connecting: Callable[[], RemoteView]) -> RemoteView:
    """Run `connecting` in a thread. What the other side awaits of this one runs in this loop."""
    loop = asyncio.get_running_loop()
    future = loop.run_in_executor(None, connecting)
    try:
        view = await asyncio.shield(future)
    except asyncio.CancelledError:
        future.add_done_callback(_close_again)
        raise
    choose_event_loop(view, loop)
    return view


def _close_again(connecting: asyncio.Future[RemoteView]) -> None:
    if not connecting.cancelled() and connecting.exception() is None:
        session_of(connecting.result()).close()
