"""Pickling of code that runs: generators, coroutines, frames, and all that they hold on to.

>>> from objspace import pickling
>>> def count(n):
...     for i in range(n):
...         yield i
>>> numbers = count(5)
>>> next(numbers), next(numbers)
(0, 1)
>>> again = pickling.loads(pickling.dumps(numbers))
>>> list(again), list(numbers)
([2, 3, 4], [2, 3, 4])

`dumps`, `loads`, `dump`, `load`, `Pickler` and `Unpickler` take what their namesakes in `pickle`
take, and more. `loads` and `load` also read ordinary pickles.

Loading a pickle runs code. This holds for every pickle, and all the more for one of running code:
load only what you or someone you trust has written, and sign what travels (`key=`).
"""

from __future__ import annotations

import _pickle
import io
from pickle import PickleError, PicklingError, UnpicklingError
from typing import TYPE_CHECKING, Any, Literal

from objspace._core import (
    Continuation,
    Reducer,
    capture,
    dumps,
    explain_failure,
    find_allowed,
    install,
    load_allowing,
    loads,
    read_pickle,
    reduce_file,
    run,
    uninstall,
    wrap_pickle,
)
from objspace._core import register_reducer as register

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    Code = Literal["auto", "reference", "value"]

__all__ = [
    "Continuation",
    "PickleError",
    "Pickler",
    "PicklingError",
    "Unpickler",
    "UnpicklingError",
    "capture",
    "dump",
    "dumps",
    "install",
    "load",
    "loads",
    "register",
    "reopen_files",
    "run",
    "uninstall",
]

PROTOCOL = 5


class Pickler(_pickle.Pickler):
    """Writes objects to `file`, each behind a header that says which Python wrote it.

    `code` says how functions, classes and the code of frames travel: "auto", by reference (module,
    name and hash) where the loader of their module finds the same code, and by value otherwise;
    "reference", by reference or not at all; "value", by value always, but for functions, classes
    and globals of installed modules. `key`, bytes, signs each pickle with HMAC-SHA256. The other
    arguments are those of `pickle.Pickler`; the protocol is 5 unless given.

    What cannot be pickled raises `PicklingError`, with the path to it.
    """

    def __init__(
        self,
        file: Any,
        protocol: int | None = None,
        *,
        fix_imports: bool = True,
        buffer_callback: Callable[[Any], Any] | None = None,
        code: Code = "auto",
        key: bytes | None = None,
    ) -> None:
        self._file = file
        self._buffer = io.BytesIO()
        self._key = key
        if protocol is None:
            protocol = PROTOCOL
        super().__init__(
            self._buffer, protocol, fix_imports=fix_imports, buffer_callback=buffer_callback
        )
        # A reducer that a subclass defines is asked first.
        self._reducer = Reducer(code, getattr(self, "reducer_override", None))
        self.reducer_override = self._reducer  # type: ignore[method-assign]

    def dump(self, obj: Any, /) -> None:
        """Write one object."""
        self._file.write(wrap_pickle(self._payload(obj), self._key))

    def _payload(self, obj: Any) -> memoryview:
        self._reducer.begin()
        self._buffer.seek(0)
        self._buffer.truncate()
        try:
            super().dump(obj)
        except Exception as error:
            told = explain_failure(obj, self._reducer, error, getattr(self, "persistent_id", None))
            if told is error:
                raise
            raise told from told.__cause__
        return self._buffer.getbuffer()


class Unpickler(_pickle.Unpickler):
    """Reads from `file` what `Pickler` or an ordinary pickler has written.

    `key` is the key that the pickle must be signed with. `allow` names the modules that the pickle
    may use, with those inside of them; code by value is refused then. `limit` is the largest
    pickle, in bytes, that is read. The other arguments are those of `pickle.Unpickler`.

    A pickle of another version of Python, a damaged one, and one that breaks these rules raise
    `UnpicklingError`.
    """

    def __init__(
        self,
        file: Any,
        *,
        fix_imports: bool = True,
        encoding: str = "ASCII",
        errors: str = "strict",
        buffers: Iterable[Any] | None = None,
        key: bytes | None = None,
        allow: Iterable[str] | None = None,
        limit: int | None = None,
    ) -> None:
        self._source = _Source(file)
        self._key = key
        self._allow = _modules(allow)
        self._limit = limit
        super().__init__(
            self._source,
            fix_imports=fix_imports,
            encoding=encoding,
            errors=errors,
            buffers=buffers,
        )

    def load(self) -> Any:
        """Read one object."""
        self._source.next(self._key, self._limit)
        return load_allowing(super().load, self._allow)

    def find_class(self, module: str, name: str, /) -> Any:
        """The class or function of that name, if the pickle may name it."""
        return find_allowed(super().find_class, module, name)


class _Source:
    """The file of an unpickler: the payload of one pickle, or an ordinary pickle in the file."""

    def __init__(self, file: Any) -> None:
        self._file = file
        self._payload: io.BytesIO | None = None
        self._first = b""

    def next(self, key: bytes | None, limit: int | None) -> None:
        """Go to the next pickle."""
        payload, first = read_pickle(self._file, key, limit)
        self._payload = None if payload is None else io.BytesIO(payload)
        self._first = first or b""

    def read(self, size: int = -1, /) -> bytes:
        if self._payload is not None:
            return self._payload.read(size)
        if size == 0:
            return b""
        first, self._first = self._first, b""
        rest = size - len(first) if size > 0 else size
        data: bytes = first + self._file.read(rest) if rest else first
        return data

    def readline(self) -> bytes:
        if self._payload is not None:
            return self._payload.readline()
        first, self._first = self._first, b""
        line: bytes = first if first == b"\n" else first + self._file.readline()
        return line


class _Dumper(_pickle.Pickler):
    """Writes one pickle, without a header, for `dumps`: what `Pickler` does, at less cost."""

    __slots__ = ("reducer_override",)


class _Loader(_pickle.Unpickler):
    """Looks up names by the rule of `allow=`."""

    def find_class(self, module: str, name: str, /) -> Any:
        return find_allowed(super().find_class, module, name)


def _modules(allow: Iterable[str] | None) -> list[str] | None:
    if isinstance(allow, str):
        raise TypeError("allow= takes a list of names of modules, not one string")
    return None if allow is None else list(allow)


def _dumps_by_pickler(
    obj: Any,
    protocol: int | None,
    fix_imports: bool,
    buffer_callback: Callable[[Any], Any] | None,
    code: Code,
    key: bytes | None,
) -> bytes:
    """What `dumps` does where the pickle cannot be written without CPython's pickler."""
    buffer = io.BytesIO()
    dumper = _Dumper(
        buffer,
        PROTOCOL if protocol is None else protocol,
        fix_imports=fix_imports,
        buffer_callback=buffer_callback,
    )
    reducer = Reducer(code)
    dumper.reducer_override = reducer  # type: ignore[method-assign]
    try:
        dumper.dump(obj)
    except Exception as error:
        told = explain_failure(obj, reducer, error, getattr(dumper, "persistent_id", None))
        if told is error:
            raise
        raise told from told.__cause__
    return wrap_pickle(buffer.getbuffer(), key)


def dump(
    obj: Any,
    file: Any,
    protocol: int | None = None,
    *,
    fix_imports: bool = True,
    buffer_callback: Callable[[Any], Any] | None = None,
    code: Code = "auto",
    key: bytes | None = None,
) -> None:
    """Write the pickle of an object to a file. For the arguments see `Pickler`."""
    file.write(
        dumps(
            obj,
            protocol,
            fix_imports=fix_imports,
            buffer_callback=buffer_callback,
            code=code,
            key=key,
        )
    )


def _load_payload(
    payload: bytes,
    allowed: list[str] | None,
    fix_imports: bool,
    encoding: str,
    errors: str,
    buffers: Iterable[Any] | None,
) -> Any:
    """What `loads` does with what has to be read by CPython's unpickler."""
    kind = _pickle.Unpickler if allowed is None else _Loader
    loader = kind(
        io.BytesIO(payload),
        fix_imports=fix_imports,
        encoding=encoding,
        errors=errors,
        buffers=buffers,
    )
    return load_allowing(loader.load, allowed)


def load(
    file: Any,
    *,
    fix_imports: bool = True,
    encoding: str = "ASCII",
    errors: str = "strict",
    buffers: Iterable[Any] | None = None,
    key: bytes | None = None,
    allow: Iterable[str] | None = None,
    limit: int | None = None,
) -> Any:
    """Read a pickle from a file and return its object. For the arguments see `Unpickler`."""
    return Unpickler(
        file,
        fix_imports=fix_imports,
        encoding=encoding,
        errors=errors,
        buffers=buffers,
        key=key,
        allow=allow,
        limit=limit,
    ).load()


def reopen_files(newline: str | None = None) -> None:
    """Let regular files be pickled: they are opened again by their path, at the same position.

    What was written is flushed first; a file that is written to is not emptied again. Pipes,
    sockets and files without a name are still refused. Text files are opened with this `newline`,
    which cannot be asked of an open file.
    """

    def reduce(file: Any) -> Any:
        return reduce_file(file, newline)

    for kind in (
        io.BufferedRandom,
        io.BufferedReader,
        io.BufferedWriter,
        io.FileIO,
        io.TextIOWrapper,
    ):
        register(kind, reduce)
