"""Tasklets: functions that take turns within one thread, and can be pickled while they wait.

>>> from objspace.tasklets import channel, run, tasklet
>>> def numbers(out):
...     for i in range(3):
...         out.send(i)
>>> def squares(source):
...     for _ in range(3):
...         print(source.receive() ** 2)
>>> c = channel()
>>> a, b = tasklet(numbers)(c), tasklet(squares)(c)
>>> run()
0
1
4

In the manner of Stackless Python, on the greenlet library, which has to be installed
(`pip install objspace[tasklets]`). This is Python because its frames stand between those of a
tasklet and the switch, and are pickled with them.

A tasklet that waits is asked for its frames by switching to it: it captures them, as
`pickling.capture()` does, hands them over, and waits on. So a tasklet can be pickled wherever a
running chain can be captured: a call through C that cannot be crossed is refused by name.
"""

from __future__ import annotations

import collections
import threading
from types import FunctionType
from typing import TYPE_CHECKING, Any, Final

try:
    import greenlet  # type: ignore[import-untyped]
except ImportError as error:  # pragma: no cover - a test runs it in an interpreter without greenlet
    raise ImportError(
        "tasklets need the greenlet library, which is not installed: pip install objspace[tasklets]"
    ) from error

from objspace import pickling
from objspace._core import abandon_frames, keep_forever

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["TaskletExit", "channel", "getcurrent", "getruncount", "run", "schedule", "tasklet"]

TaskletExit = greenlet.GreenletExit


class _Capture:
    """What a waiting tasklet is resumed with to hand over its frames: the class itself."""


class _Raise:
    """What a waiting tasklet is resumed with to raise an exception."""

    def __init__(self, error: BaseException) -> None:
        self.error = error


class _Scheduler(threading.local):
    """The tasklets of one thread that can run, and the one that does."""

    def __init__(self) -> None:
        self.runnable: collections.deque[tasklet] = collections.deque()
        self.current: tasklet | None = None


_here: Final = _Scheduler()


def _wait() -> Any:
    """Lets the scheduler run others; returns what the tasklet is resumed with.

    No variable may hold a greenlet here: they would be captured with the frame.
    """
    message = greenlet.getcurrent().parent.switch()
    while message is _Capture:
        try:
            message = pickling.capture()
        except pickling.PicklingError as error:
            message = error.with_traceback(None)
        if isinstance(message, (pickling.Continuation, pickling.PicklingError)):
            # This is the original; in a copy, what it was resumed with has been returned.
            message = greenlet.getcurrent().parent.switch(message)
    if isinstance(message, _Raise):
        raise message.error
    return message


class tasklet:
    """A function that runs in turns with others. `tasklet(f)(*args)` makes it ready to run.

    Pickling one that waits pickles all its frames. The copy waits at the same place: for
    `insert()`, or for what arrives in the copy of its channel.
    """

    def __init__(self, function: Callable[..., Any] | None = None) -> None:
        self._function = function
        self._reset()

    def _reset(self) -> None:
        self._call: tuple[Any, ...] | None = None
        self._rest: pickling.Continuation | None = None
        self._greenlet: Any = None
        self._message: Any = None
        self._channel: channel | None = None
        self._ended = False
        self._value: Any = None

    # -- what it is doing

    @property
    def alive(self) -> bool:
        """Whether it has been started and has not ended."""
        begun = self._call is not None or self._rest is not None or self._greenlet is not None
        return begun and not self._ended

    @property
    def scheduled(self) -> bool:
        """Whether it runs, or is ready to run in this thread."""
        return self is _here.current or self in _here.runnable

    @property
    def blocked(self) -> bool:
        """Whether it waits for a channel."""
        return self._channel is not None

    @property
    def paused(self) -> bool:
        """Whether it is alive, but neither ready to run nor waiting for a channel."""
        return self.alive and not self.scheduled and not self.blocked

    @property
    def value(self) -> Any:
        """What its function has returned; `None` before that."""
        return self._value

    # -- what can be done with it

    def __call__(self, *args: Any, **kwargs: Any) -> tasklet:
        """Give it its arguments, and make it ready to run."""
        if self.alive:
            raise RuntimeError("the tasklet is alive already")
        if self._function is None:
            raise RuntimeError("the tasklet has no function: tasklet(function)(*args)")
        function = self._function
        self._reset()
        self._call = (function, args, kwargs)
        self.insert()
        return self

    def insert(self) -> None:
        """Make it ready to run, after all others."""
        if not self.alive:
            raise RuntimeError("the tasklet is not alive")
        if self.blocked:
            raise RuntimeError("the tasklet waits for a channel")
        if not self.scheduled:
            _here.runnable.append(self)

    def remove(self) -> None:
        """Take it out of those that are ready to run: it pauses until `insert()`."""
        if self is _here.current:
            schedule(remove=True)
        elif self in _here.runnable:
            _here.runnable.remove(self)

    def run(self) -> None:
        """Run it now, before the others."""
        self.insert()
        if self is not _here.current:
            _here.runnable.remove(self)
            _here.runnable.appendleft(self)
            schedule()

    def throw(self, error: BaseException) -> None:
        """Let it go on with an exception, when its turn comes."""
        if not self.alive:
            raise error
        if self is _here.current:
            raise error
        self._leave_channel()
        self._message = _Raise(error)
        self.insert()

    def kill(self) -> None:
        """End it by `TaskletExit`, which it does not have to handle."""
        if self.alive:
            self.throw(TaskletExit())

    def move(self, peer: Any, *, key: bytes | None = None) -> Any:
        """Run the rest of it in the other process of a session; returns what its function returns.

        It must not be running. See `objspace.hop` for `peer` and `key`, and for what moves how.
        This tasklet has ended then; other tasklets of this thread do not run meanwhile.
        """
        from objspace import _hop

        if self is _here.current or not self.alive:
            raise RuntimeError("a tasklet can be moved while it waits")
        if self.blocked:
            raise RuntimeError("the tasklet waits for a channel, which would stay here")
        raises, value = _hop.move_tasklet(self, peer, key)
        if self in _here.runnable:
            _here.runnable.remove(self)
        if self._greenlet is not None:
            _drop(self._greenlet)
        self._end(None if raises else value)
        if raises:
            raise value
        return value

    # -- turns

    def _resume(self) -> None:
        """Runs it until it waits or ends. An exception that it does not handle is raised here."""
        message, self._message = self._message, None
        if self._greenlet is None:
            self._greenlet = greenlet.greenlet(self._body)
        self._greenlet.parent = greenlet.getcurrent()
        before, _here.current = _here.current, self
        try:
            self._greenlet.switch(message)
        finally:
            _here.current = before

    def _body(self, message: Any) -> None:
        call, rest = self._call, self._rest
        self._call = self._rest = None
        value = None
        try:
            if rest is not None:
                value = rest.resume(message)
            elif isinstance(message, _Raise):
                raise message.error
            elif call is not None:
                function, args, kwargs = call
                call = message = None
                value = pickling.run(function, *args, **kwargs)
        except TaskletExit:
            pass
        finally:
            self._end(value)

    def _end(self, value: Any) -> None:
        self._ended = True
        self._greenlet = self._call = self._rest = None
        self._value = value

    def _leave_channel(self) -> None:
        if self._channel is not None:
            self._channel._forget(self)
            self._channel = None

    # -- pickles

    def _frames(self) -> pickling.Continuation | None:
        """The frames of one that waits in the middle of its function."""
        if self._greenlet is None:
            return self._rest
        if self is _here.current:
            raise pickling.PicklingError(
                "a tasklet that runs cannot be pickled: pickling.capture() gives its frames"
            )
        if self._greenlet.dead:
            return None
        parent = self._greenlet.parent
        self._greenlet.parent = greenlet.getcurrent()
        try:
            frames: pickling.Continuation = self._greenlet.switch(_Capture)
        finally:
            self._greenlet.parent = parent
        if isinstance(frames, pickling.PicklingError):
            raise frames
        return frames

    def __reduce_ex__(self, protocol: Any) -> Any:
        frames = self._frames()
        own = {
            "_function": self._function,
            "_call": self._call,
            "_rest": frames,
            "_message": self._message,
            "_channel": self._channel,
            "_ended": self._ended,
            "_value": self._value,
        }
        kept = set(own) | {"_greenlet"}
        more = {name: value for name, value in self.__dict__.items() if name not in kept}
        return _make_tasklet, (type(self),), (own, more)

    def __setstate__(self, state: Any) -> None:
        own, more = state
        known = vars(self)
        if not isinstance(own, dict) or not own.keys() <= known.keys():
            raise TypeError("this is not the state of a tasklet")
        known.update(own)
        known.update(more)

    def __repr__(self) -> str:
        names = [name for name in ("alive", "scheduled", "blocked") if getattr(self, name)]
        return (
            f"<{type(self).__name__} {getattr(self._function, '__name__', '?')} {' '.join(names)}>"
        )


def _drop(moved: Any) -> None:
    """Drops what the frames of a greenlet hold, which have gone elsewhere: nothing of them runs."""
    probe = (lambda: None).__code__.replace()
    FunctionType(probe, {})()
    codes = abandon_frames(moved.gr_frame, tasklet._body.__code__, probe)
    if codes is None:
        keep_forever(moved)
        return
    moved.parent = greenlet.getcurrent()
    moved.throw()


def _make_tasklet(kind: type[tasklet]) -> tasklet:
    made = kind.__new__(kind)
    tasklet.__init__(made)
    return made


class _Main:
    """Waits for a channel where no tasklet runs: others run meanwhile."""

    def __init__(self) -> None:
        self.message: Any = None
        self.woken = False

    def __reduce__(self) -> Any:
        raise pickling.PicklingError(
            "the main program waits for this channel; it cannot be pickled"
        )


class channel:
    """Hands values from tasklet to tasklet: who sends waits for who receives, and the reverse."""

    def __init__(self) -> None:
        self._senders: collections.deque[tuple[Any, Any]] = collections.deque()
        self._receivers: collections.deque[Any] = collections.deque()

    @property
    def balance(self) -> int:
        """How many wait to send; negative: how many wait to receive."""
        return len(self._senders) - len(self._receivers)

    def send(self, value: Any) -> None:
        """Hand over a value; waits until it is received."""
        self._offer(value)

    def send_exception(self, error: BaseException) -> None:
        """Let `receive` raise an exception; waits until it has."""
        self._offer(_Raise(error))

    def _offer(self, message: Any) -> None:
        if self._receivers:
            _wake(self._receivers.popleft(), message)
            return
        self._block(self._senders, message)

    def receive(self) -> Any:
        """Wait for a value."""
        if self._senders:
            sender, message = self._senders.popleft()
            _wake(sender, None)
            if isinstance(message, _Raise):
                raise message.error
            return message
        return self._block(self._receivers)

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        return self.receive()

    def _block(self, queue: Any, *message: Any) -> Any:
        current = _here.current
        if current is None:
            return self._block_main(queue, *message)
        queue.append((current, *message) if message else current)
        current._channel = self
        # Nothing that is not needed is kept in the frame that is captured.
        del queue, message, current
        return _wait()

    def _block_main(self, queue: Any, *message: Any) -> Any:
        main = _Main()
        entry = (main, *message) if message else main
        queue.append(entry)
        while not main.woken:
            if not _here.runnable:
                queue.remove(entry)
                raise RuntimeError(
                    "deadlock: no tasklet is ready to run that could use the channel"
                )
            _here.runnable.popleft()._resume()
        if isinstance(main.message, _Raise):
            raise main.message.error
        return main.message

    def _forget(self, waiting: tasklet) -> None:
        self._senders = collections.deque(item for item in self._senders if item[0] is not waiting)
        self._receivers = collections.deque(item for item in self._receivers if item is not waiting)

    def __repr__(self) -> str:
        return f"<channel, balance {self.balance}>"


def _wake(waiting: Any, message: Any) -> None:
    if isinstance(waiting, _Main):
        waiting.message, waiting.woken = message, True
        return
    waiting._channel = None
    waiting._message = message
    _here.runnable.append(waiting)


def schedule(*, remove: bool = False) -> None:
    """Let others run.

    Within a tasklet: until its turn comes again, or, with `remove`, until `insert()`. Outside: each
    that is ready to run gets one turn.
    """
    current = _here.current
    if current is None:
        for _ in range(len(_here.runnable)):
            if not _here.runnable:
                break
            _here.runnable.popleft()._resume()
        return
    if not remove:
        _here.runnable.append(current)
    del current
    _wait()


def run() -> None:
    """Run all tasklets of this thread until none is ready to run."""
    if _here.current is not None:
        raise RuntimeError("run() is called outside of tasklets")
    while _here.runnable:
        _here.runnable.popleft()._resume()


def getcurrent() -> tasklet | None:
    """The tasklet that runs; `None` outside of tasklets."""
    return _here.current


def getruncount() -> int:
    """How many tasklets of this thread are ready to run, or running."""
    return len(_here.runnable) + (_here.current is not None)
