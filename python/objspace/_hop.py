"""`await objspace.hop(peer)`: the rest of a coroutine runs in another process.

This is Python because its awaitable stands on the stack of the coroutine that moves, and is pickled
with it. What it asks of frames and sessions is in the compiled half.

Here the coroutine waits at its `await` while a pickle of it travels. It is at rest as soon as the
event loop runs something else, and is pickled then. The copy over there finds the same `await`
answered, and goes on. When it has ended, the coroutine here is made to end in the same way, without
running.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import sys
import threading
import traceback
from typing import TYPE_CHECKING, Any

from objspace._core import (
    Policy,
    RemoteView,
    Session,
    connect,
    coroutine_of,
    exported_to_peer,
    finish_coroutine,
    peer_may_everything,
    remote_kind,
)
from objspace._spawn import Child
from objspace.distributed import session_of
from objspace.pickling import Pickler, PicklingError, Unpickler, UnpicklingError

if TYPE_CHECKING:
    from collections.abc import Generator
    from types import CoroutineType

    from objspace.pickling import Code

# What a process takes: names that no user can export, since they are no names of attributes.
_COROUTINE = "objspace.hop.coroutine"
_TASKLET = "objspace.hop.tasklet"
_keys: list[bytes] = []


class hop:
    """Move the coroutine that awaits this into another process; the rest of it runs there.

    `await hop(peer)` returns the names that the process exports to this one, as attributes: over
    there they are the objects themselves.

    `peer` is a remote object, a `RemoteView`, a `Session` or a `Child`, whose session leads to that
    process, or a URL to connect to. Both sides must allow everything (`Policy.full()`), because the
    coroutine is code that runs; where the other side does not, `key` signs what travels, and the
    other side must have been told the key by `accept_hops(key)`.

    What the coroutine has travels as a pickle does, by value. Remote references stay references,
    and objects of the process that it moves to become the objects themselves. Its result, or its
    exception, comes back to whoever awaits it here. The event loop here runs on meanwhile; over
    there the coroutine runs in an event loop and a thread of its own. Where the other process
    cannot import the code, the code comes along; modules that the code names must be there.

    Raises `PicklingError` if the coroutine holds what cannot move, `PermissionError` if the other
    side does not take it, `ConnectionError` if there is no way to it; it has not moved then.
    """

    def __init__(self, peer: Any, *, key: bytes | None = None) -> None:
        self._peer = peer
        self._key = key

    def __await__(self) -> Generator[Any, Any, None]:
        return _Departure(self._peer, self._key)  # type: ignore[return-value]


def accept_hops(key: bytes) -> None:
    """Take coroutines and tasklets that are signed with this key, from any peer.

    Whoever has the key can run any code in this process.
    """
    if not isinstance(key, bytes) or not key:
        raise TypeError("accept_hops() takes a key: bytes, not empty")
    _keys.append(key)


class _Arrival:
    """The `await` of `hop`, in the process that was moved to: it has been answered."""

    def __init__(self, names: LocalView) -> None:
        self._names = names

    def __iter__(self) -> _Arrival:
        return self

    def __next__(self) -> Any:
        raise StopIteration(self._names)

    def send(self, value: Any) -> Any:
        return self.__next__()


class _Trip(asyncio.Future[None]):
    """What the event loop waits for while a coroutine is away.

    Cancelling it cancels the coroutine.
    """

    cancel_there: Any = None
    cancelled_early = False

    def cancel(self, msg: Any | None = None) -> bool:
        if self.done():
            return False
        if self.cancel_there is None:
            self.cancelled_early = True
        else:
            threading.Thread(target=self.cancel_there, daemon=True).start()
        return True


class _Departure:
    """The `await` of `hop`, in the process that is left."""

    def __init__(self, peer: Any, key: bytes | None) -> None:
        self._peer = peer
        self._key = key
        self._trip: _Trip | None = None

    def __iter__(self) -> _Departure:
        return self

    def __next__(self) -> Any:
        if self._trip is not None:
            raise StopIteration
        try:
            coroutine = coroutine_of(sys._getframe(1))
        except TypeError:
            raise RuntimeError(
                "hop() moves the coroutine that awaits it, so it is awaited in an 'async def'"
            ) from None
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            raise RuntimeError("hop() needs a running asyncio event loop") from None
        self._trip = trip = _Trip(loop=loop)
        trip._asyncio_future_blocking = True
        loop.call_soon(self._depart, coroutine, trip, loop)
        return trip

    def send(self, value: Any) -> Any:
        return self.__next__()

    def _depart(
        self,
        coroutine: CoroutineType[Any, Any, Any],
        trip: _Trip,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        # The coroutine is pickled by the thread of its event loop: nothing else runs it meanwhile.
        try:
            if isinstance(self._peer, str):
                # Connecting waits for the other side; the rest is done when that is over.
                def connected() -> None:
                    try:
                        view = connect(str(self._peer), policy=Policy.full())
                    except BaseException as error:
                        _soon(loop, _fail, trip, error)
                    else:
                        _soon(loop, self._leave, session_of(view), coroutine, trip, loop)

                threading.Thread(target=connected, daemon=True).start()
            else:
                self._leave(_session(self._peer), coroutine, trip, loop)
        except BaseException as error:
            _fail(trip, error)

    def _leave(
        self,
        session: Session,
        coroutine: CoroutineType[Any, Any, Any],
        trip: _Trip,
        loop: asyncio.AbstractEventLoop,
        code: Code = "auto",
    ) -> None:
        key = self._key
        try:
            _check_way_back(session, key)
            luggage = pack(session, coroutine, key, code)
        except BaseException as error:
            _fail(trip, error)
            return

        def travel() -> None:
            try:
                run, cancel = taken(session.get_remote(_COROUTINE)(*luggage))
            except (ImportError, UnpicklingError) as error:
                # The other side cannot import the program: then the program comes along.
                if code == "auto":
                    _soon(loop, self._leave, session, coroutine, trip, loop, "value")
                else:
                    _soon(loop, _fail, trip, error)
                return
            except BaseException as error:
                _soon(loop, _fail, trip, error)
                return
            trip.cancel_there = cancel
            # From here on the coroutine is there: whatever happens concerns who awaits it.
            try:
                if trip.cancelled_early:
                    cancel()
                data, references = run()
                raises, value = unpack(session, data, references, key)
            except BaseException as error:
                raises, value = True, error
            _soon(loop, _return, coroutine, trip, value, raises)

        threading.Thread(target=travel, name="objspace hop", daemon=True).start()


def _fail(trip: _Trip, error: BaseException) -> None:
    if not trip.done():
        trip.set_exception(_not_stop(error))


def _not_stop(error: BaseException) -> BaseException:
    if isinstance(error, StopIteration):
        return RuntimeError(f"hop() failed: {error!r}")
    return error


def _return(coroutine: CoroutineType[Any, Any, Any], trip: _Trip, value: Any, raises: bool) -> None:
    if not trip.done():
        finish_coroutine(coroutine, value, raises)
        trip.set_result(None)


def _soon(loop: asyncio.AbstractEventLoop, function: Any, *arguments: Any) -> None:
    # A loop that was closed has nobody waiting any more.
    with contextlib.suppress(RuntimeError):
        loop.call_soon_threadsafe(function, *arguments)


def _session(peer: Any) -> Session:
    if isinstance(peer, Session):
        return peer
    return peer.session if type(peer) is Child else session_of(peer)


def _check_way_back(session: Session, key: bytes | None) -> None:
    if key is None and not peer_may_everything(session):
        raise PermissionError(
            f"hop() to {session.peer}: the result comes back as a pickle, which can run code here; "
            "that takes policy=Policy.full() on this side, or a key"
        )


# -- pickles between two processes ----------------------------------------------------------------


class _Packer(Pickler):
    """Remote objects are not pickled, but sent as what they are."""

    def __init__(self, file: Any, session: Session, key: bytes | None, code: Code) -> None:
        super().__init__(file, key=key, code=code)
        self._session = session
        self.references: list[Any] = []
        self._numbers: dict[int, int] = {}

    def persistent_id(self, obj: Any) -> Any:
        kind = remote_kind(obj, self._session)
        if kind is None:
            if type(obj) is _Departure:
                return ("arrival",)
            if type(obj) is LocalView:
                return ("there",) if obj.objspace_session is self._session else None
            return None
        if kind != "reference":
            return (kind,)
        number = self._numbers.get(id(obj))
        if number is None:
            number = self._numbers[id(obj)] = len(self.references)
            self.references.append(obj)
        return number


class _Unpacker(Unpickler):
    def __init__(self, file: Any, session: Session, references: Any, key: bytes | None) -> None:
        super().__init__(file, key=key)
        self._session = session
        self._references = references

    def persistent_load(self, pid: Any) -> Any:
        if isinstance(pid, int):
            return self._references[pid]
        if pid == ("session",):
            return self._session
        if pid == ("view",):
            return LocalView(self._session)
        if pid == ("arrival",):
            return _Arrival(LocalView(self._session))
        if pid == ("there",):
            return self._session.remote
        raise PicklingError(f"no reference of this kind: {pid!r}")


class LocalView:
    """What `RemoteView` becomes in the process that it was a view of: the same names, at home."""

    def __init__(self, session: Session) -> None:
        self.objspace_session = session

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        try:
            return exported_to_peer(self.objspace_session)[name]
        except KeyError:
            raise AttributeError(f"{name} is not exported") from None

    def __dir__(self) -> list[str]:
        return sorted(exported_to_peer(self.objspace_session))

    def __reduce__(self) -> Any:
        raise PicklingError("it shows the names of a process, which stay there")


Luggage = tuple[bytes, tuple[Any, ...]]


def pack(session: Session, value: Any, key: bytes | None, code: Code = "auto") -> Luggage:
    """A pickle, and the remote objects that it refers to by number."""
    file = io.BytesIO()
    packer = _Packer(file, session, key, code)
    packer.dump(value)
    return file.getvalue(), tuple(packer.references)


def unpack(session: Session, data: Any, references: Any, key: bytes | None) -> Any:
    """What `pack` has packed."""
    return _Unpacker(io.BytesIO(bytes(data)), session, references, key).load()


def taken(answer: Any) -> Any:
    """What the other side has made of luggage; `UnpicklingError` if it could make nothing of it."""
    # The class of that error is not one of those that every process shares.
    if isinstance(answer, str):
        raise UnpicklingError(answer)
    return answer


def pack_outcome(session: Session, raises: bool, value: Any, key: bytes | None) -> Luggage:
    """A result or an exception, or the exception that it could not be packed."""
    try:
        return pack(session, (raises, value), key)
    except Exception as error:
        if not raises:
            return pack(session, (True, _bare(error)), key)
        # What stands in the frames of the traceback need not be able to move.
        return pack(session, (True, _bare(value)), key)


def _bare(error: BaseException) -> BaseException:
    """An exception without its frames, whose text becomes a note."""
    text = "".join(traceback.format_exception(error)).rstrip()
    error.add_note(f"in the other process:\n{text}")
    error.__cause__ = error.__context__ = error.__traceback__ = None
    return error


# -- the process that is moved to -----------------------------------------------------------------


class Arrivals:
    """What takes what peers move here. They get its methods only, never an instance."""

    def __init__(self, session: Session, everything: bool) -> None:
        self._session = session
        self._everything = everything

    def _unpack(self, data: Any, references: Any) -> tuple[Any, bytes | None]:
        data = bytes(data)
        signed = len(data) > 5 and data[5] & 1
        if signed:
            error: Exception | None = None
            for key in _keys:
                try:
                    return unpack(self._session, data, references, key), key
                except Exception as failure:
                    error = failure
            if error is not None:
                raise error
        if signed or not self._everything:
            raise PermissionError(
                "the process that was to be moved to does not take code: that takes Policy.full() "
                "on its side, or a signature with a key that it was given by accept_hops(key)"
            )
        return unpack(self._session, data, references, None), None

    def coroutine(self, data: Any, references: Any) -> Any:
        """Takes a coroutine; returns how to run and to cancel it, or why it cannot be loaded."""
        try:
            coroutine, key = self._unpack(data, references)
        except UnpicklingError as error:
            return str(error)
        journey = Journey(self._session, coroutine, key)
        return journey.run, journey.cancel

    def tasklet(self, data: Any, references: Any) -> Any:
        """Takes a tasklet; returns how to run it, or why it cannot be loaded."""
        try:
            tasklet, key = self._unpack(data, references)
        except UnpicklingError as error:
            return str(error)
        return _TaskletJourney(self._session, tasklet, key).run


class Journey:
    """A coroutine that has arrived."""

    def __init__(self, session: Session, coroutine: Any, key: bytes | None) -> None:
        self._session = session
        self._coroutine = coroutine
        self._key = key
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[Any] | None = None
        self._cancelled = False

    def run(self) -> Luggage:
        """Runs the rest of it, and returns how it ended."""
        with asyncio.Runner() as runner:
            outcome = runner.run(self._drive())
        return pack_outcome(self._session, *outcome, self._key)

    async def _drive(self) -> tuple[bool, Any]:
        task = asyncio.ensure_future(_outcome(self._coroutine))
        with self._lock:
            self._loop, self._task = asyncio.get_running_loop(), task
            if self._cancelled:
                task.cancel()
        outcome = await task
        with self._lock:
            self._task = None
        return outcome

    def cancel(self) -> None:
        """Cancels it."""
        with self._lock:
            self._cancelled = True
            if self._task is not None and self._loop is not None:
                self._loop.call_soon_threadsafe(self._task.cancel)


class _Rest:
    """A coroutine that is in the middle of an `await`, which cannot be awaited itself."""

    def __init__(self, coroutine: Any) -> None:
        self._coroutine = coroutine

    def __await__(self) -> Any:
        return self._coroutine.__await__()


class _TaskletJourney:
    """A tasklet that has arrived."""

    def __init__(self, session: Session, tasklet: Any, key: bytes | None) -> None:
        self._session = session
        self._tasklet = tasklet
        self._key = key

    def run(self) -> Luggage:
        """Runs the rest of it in a scheduler of this thread, and returns how it ended."""
        from objspace import tasklets

        raises, value = False, None
        try:
            self._tasklet.insert()
            tasklets.run()
            value = self._tasklet.value
        except BaseException as error:
            raises, value = True, error.with_traceback(None)
        return pack_outcome(self._session, raises, value, self._key)


def move_tasklet(tasklet: Any, peer: Any, key: bytes | None) -> tuple[bool, Any]:
    """Runs the rest of a tasklet elsewhere: whether it failed, and with or to what it came."""
    if isinstance(peer, str):
        session = session_of(connect(peer, policy=Policy.full()))
    else:
        session = _session(peer)
    _check_way_back(session, key)
    arrive = session.get_remote(_TASKLET)
    try:
        run = taken(arrive(*pack(session, tasklet, key)))
    except (ImportError, UnpicklingError):
        run = taken(arrive(*pack(session, tasklet, key, "value")))
    # From here on the tasklet is there.
    try:
        data, references = run()
        raises, value = unpack(session, data, references, key)
    except BaseException as error:
        return True, error
    return raises, value


async def _outcome(coroutine: Any) -> tuple[bool, Any]:
    """How a coroutine ends: whether with an exception, and with which, or with what value."""
    try:
        return False, await _Rest(coroutine)
    except BaseException as error:
        # This frame is plumbing.
        tb = error.__traceback__
        return True, error.with_traceback(tb.tb_next if tb else None)


__all__ = ["Arrivals", "LocalView", "RemoteView", "accept_hops", "hop"]
