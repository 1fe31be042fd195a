"""The dump object space: a log of every operation that a program performs on its objects.

>>> import objspace.dump
>>> with objspace.dump.record("/tmp/first.dump"):
...     numbers = {"a": 1}
...     numbers["b"] = numbers["a"] + 1
>>> log = objspace.dump.Log("/tmp/first.dump")
>>> [operation.operation for operation in log.find()]
['build', 'setname', 'getitem', 'binary', 'setitem']

Recorded is what bytecode does: attribute, item and slice access, calls, operators, comparisons,
containment, truth, iteration, imports, global and nonlocal variables, raising, `yield` and `await`;
with operands, result or exception, place in the source, thread, asyncio task, nesting and time. Not
recorded is what C code does by itself (`list.sort` comparing ints): there, `watch` shows what
reaches one object.

Filters (`start`, `record`) decide what is recorded; code that is left out costs next to nothing.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import platform
import sys
import threading  # noqa: F401 - the recorder reads the names of threads from it
import time
from typing import TYPE_CHECKING, Any, NamedTuple

from objspace import _core
from objspace._core import Life, LogFile, Object, Operation, Ref, Site, Special

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

__all__ = [
    "Life",
    "Log",
    "Object",
    "Operation",
    "Ref",
    "Site",
    "Special",
    "Summary",
    "flush",
    "operations",
    "record",
    "recording",
    "start",
    "stop",
    "watch",
]

#: A log that was recorded; see its methods.
Log = LogFile

#: The names of all operations.
operations: tuple[str, ...] = tuple(_core._dump_kinds())

_FROZEN = "<frozen "
_HERE = os.path.dirname(os.path.abspath(__file__)) + os.sep


class Summary(NamedTuple):
    """What a recording came to."""

    #: Operations that were recorded.
    operations: int
    #: The size of the log.
    bytes: int
    #: How often the program had to wait for the thread that writes.
    stalls: int
    #: Seconds waited so.
    stalled: float
    #: Operations that were not written since the log had reached `max_bytes`.
    dropped: int


class _Current:
    """What is being recorded, as far as the interpreter's own state must be put back."""

    path: str | None = None
    options: Mapping[str, Any] | None = None
    forks: str = "stop"
    ring: bool = False
    prepared: bool = False
    #: What stands in for `sys.excepthook` while a ring is recorded, and what was there before.
    excepthook: Any = None
    hook: Any = None


def start(
    path: str | os.PathLike[str],
    *,
    modules: Iterable[str] = (),
    exclude: Iterable[str] = (),
    files: Iterable[str] = (),
    functions: Iterable[str] = (),
    operations: Iterable[str] = (),
    types: Iterable[str | type] = (),
    attr: str | Iterable[str] = (),
    only_objects: Iterable[object] = (),
    frozen: bool = False,
    last: int | None = None,
    max_bytes: int | None = None,
    keep_alive: bool = False,
    forks: str = "stop",
) -> None:
    """Begins to record every operation of every thread into the log `path`.

    The filters must all hold; without any, everything is recorded.

    `modules`, `exclude`: names of modules, which stand for what is below them too.
    `files`: paths, in which `*` stands for anything; a relative one matches the end of a path.
    `functions`: names or qualified names of functions, methods and classes (their bodies).
    `operations`: names from `objspace.dump.operations`.
    `types`: classes, or names of classes, of which an operand must be (derived classes count).
    `attr`: attributes that are read, set or deleted: `"state"`, or `"Order.state"` of objects of a
    class.
    `only_objects`: objects of which one must be among the operands. They are kept alive.
    `frozen`: whether to record the import machinery and other modules frozen into the interpreter.

    `last` keeps the last so many operations only (and somewhat more), in memory; they are written
    by `stop`, by `flush`, and when an uncaught exception ends the program.
    `max_bytes` ends the log before it grows larger, which a note in it says.
    `keep_alive` keeps every object alive that was seen, until the recording ends.
    `forks`: what happens in a child process made by `os.fork`: "stop" records no further there,
    "follow" begins a log of its own, named like this one with the process id at its end.

    Raises `RuntimeError` if a recording is under way, `OSError` if the log cannot be created,
    `ValueError` for a filter that makes no sense.
    """
    if forks not in ("stop", "follow"):
        raise ValueError(f"forks must be 'stop' or 'follow', not {forks!r}")
    for name, number in (("last", last), ("max_bytes", max_bytes)):
        if number is not None and number < 1:
            raise ValueError(f"{name} must be at least 1, not {number!r}")
    hidden = [_HERE]
    if not frozen:
        hidden.append(_FROZEN)
    options = {
        "modules": _strings("modules", modules),
        "exclude": _strings("exclude", exclude),
        "files": _strings("files", files),
        "functions": _strings("functions", functions),
        "operations": _strings("operations", operations),
        "types": [_type_name(each) for each in _listed("types", types)],
        "attributes": [attr] if isinstance(attr, str) else _strings("attr", attr),
        "objects": list(only_objects),
        "hidden": hidden,
        "last": last,
        "max_bytes": max_bytes,
        "keep_alive": keep_alive,
        "meta": [
            ("python", platform.python_version()),
            ("argv", "\0".join(sys.argv)),
            ("cwd", _folder()),
            ("pid", str(os.getpid())),
            ("started", repr(time.time())),
        ],
    }
    _begin(os.path.abspath(path), options, forks)


def _begin(path: str, options: dict[str, Any], forks: str) -> None:
    _core._dump_start(path, {key: value for key, value in options.items() if value is not None})
    _Current.path, _Current.options, _Current.forks = path, options, forks
    _Current.ring = options["last"] is not None
    _keep_trace_function()
    if _Current.ring:
        _write_ring_before(sys.excepthook)
    if not _Current.prepared:
        _Current.prepared = True
        os.register_at_fork(after_in_child=_after_fork)
        atexit.register(_at_exit)


def stop(*, write: bool = True) -> Summary:
    """Ends the recording, writes what is left, and says what it came to.

    With `write` false, what is kept because of `last` is dropped instead.

    Raises `RuntimeError` if nothing is being recorded, `OSError` if the log could not be written.
    """
    _give_trace_function_back()
    if _Current.excepthook is not None and sys.excepthook is _Current.excepthook:
        sys.excepthook = _Current.hook
    _Current.path = _Current.excepthook = _Current.hook = None
    count, size, stalls, stalled, dropped = _core._dump_stop(write)
    return Summary(count, size, stalls, stalled / 1e9, dropped)


@contextlib.contextmanager
def record(path: str | os.PathLike[str], **filters: Any) -> Iterator[None]:
    """Records what happens inside a `with` block; the arguments are those of `start`.

    With `last`, the log is written only if an exception leaves the block, or by `flush`.
    """
    start(path, **filters)
    failed = True
    try:
        yield
        failed = False
    finally:
        if recording():
            stop(write=failed or not _Current.ring)


def recording() -> bool:
    """Whether a recording is under way."""
    return _core._dump_operations() is not None


def flush() -> None:
    """Brings what was recorded so far to the file; of a ring (`last`), what it holds now.

    Raises `RuntimeError` if nothing is being recorded, `OSError` if the log could not be written.
    """
    _core._dump_flush()


def watch(obj: Any) -> Any:
    """A proxy of `obj` through which every operation is recorded, by whomever it is performed.

    The log shows also what C code does to the object through its protocol, as operations named
    "watch". Nothing is recorded while no recording is under way. Filters do not apply.

    Raises `TypeError` for an object of which there can be no proxy.
    """
    return _core.make_proxy(_core._DumpWatcher(), obj=obj)


def _folder() -> str:
    """The current directory, to which the paths of scripts are relative; "" if it is gone."""
    try:
        return os.getcwd()
    except OSError:
        return ""


def _listed(name: str, values: Any) -> list[Any]:
    if isinstance(values, str):
        raise TypeError(f"{name} must be several strings, not one: [{values!r}]")
    return list(values)


def _strings(name: str, values: Any) -> list[str]:
    listed = _listed(name, values)
    for value in listed:
        if not isinstance(value, str):
            raise TypeError(f"{name} must be strings, not {type(value).__name__}")
    return listed


def _type_name(value: str | type) -> str:
    if isinstance(value, str):
        return value
    if not isinstance(value, type):
        raise TypeError(f"types must be classes or their names, not {type(value).__name__}")
    return f"{value.__module__}.{value.__qualname__}"


def _write_ring_before(hook: Any) -> None:
    """Ends the recording when an exception is uncaught: printing it would fill the ring."""

    def excepthook(kind: Any, value: Any, traceback: Any) -> None:
        if sys.excepthook is excepthook:
            sys.excepthook = hook
        if _Current.ring and recording():
            stop()
        hook(kind, value, traceback)

    sys.excepthook = excepthook
    _Current.excepthook = excepthook
    _Current.hook = hook


def _after_fork() -> None:
    if _Current.path is None:
        return
    path, options = _Current.path, _Current.options
    _give_trace_function_back()
    _Current.path = None
    _core._dump_abandon()
    if _Current.forks == "follow" and options is not None:
        _begin(f"{path}.{os.getpid()}", dict(options), "follow")


def _at_exit() -> None:
    if _Current.path is not None and recording():
        # Set for an uncaught exception only.
        stop(write=not _Current.ring or hasattr(sys, "last_value"))


_original: list[Any] = []


def _keep_trace_function() -> None:
    """Lets those who set a trace function later share it with the recorder."""
    settrace, gettrace = sys.settrace, sys.gettrace

    def shared_settrace(function: Any, /) -> None:
        settrace(function)
        _core._dump_retrace()

    if sys.version_info >= (3, 12):
        shared_gettrace = gettrace
    else:

        def shared_gettrace() -> Any:
            return _core._dump_traced()

    _original[:] = [settrace, gettrace, shared_settrace, shared_gettrace]
    sys.settrace, sys.gettrace = shared_settrace, shared_gettrace


def _give_trace_function_back() -> None:
    if _original:
        settrace, gettrace, shared_settrace, shared_gettrace = _original
        _original.clear()
        # Somebody may have replaced them too, and calls ours: they go on working.
        if sys.settrace is shared_settrace:
            sys.settrace = settrace
        if sys.gettrace is shared_gettrace:
            sys.gettrace = gettrace
