"""Templates of functions that must be Python: their code is copied for remote methods.

Everything else about classes that come from another process is in the compiled half.
"""

from __future__ import annotations

import contextlib
import dataclasses
import sys
import traceback
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import types
    from collections.abc import Callable


def _template() -> Any:
    target: Any = None
    operation: Any = None
    name: Any = None

    def stub(*args: Any, **kwargs: Any) -> Any:
        try:
            return target(operation, name, *args, **kwargs)
        except BaseException as error:
            # This frame is plumbing: it does not belong in a traceback.
            error.__traceback__ = error.__traceback__.tb_next  # type: ignore[union-attr]
            raise

    return stub


stub = _template()


class Quiet:
    """First among the bases while a remote class is built: no `__init_subclass__` runs then."""

    __slots__ = ()

    @classmethod
    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Do nothing."""


class RemoteField(dataclasses.Field):  # type: ignore[type-arg]
    """A dataclass field whose default is an object of the other side: fetched when it is needed."""

    __slots__ = ("_access",)

    _access: Any

    @property
    def default(self) -> Any:
        return self._access("get", self.name)

    @default.setter
    def default(self, value: Any) -> None:
        pass


def quiet_order(cls: type) -> list[type]:
    """The order of resolution of a class under construction: see `Quiet`."""
    order = type.mro(cls)
    order.insert(1, Quiet)
    return order


def install_getfile(find: Callable[[object], str | None]) -> None:
    """Let `inspect.getfile` know remote classes, whose files `find` tells."""
    import functools
    import inspect

    usual = inspect.getfile

    @functools.wraps(usual)
    def getfile(object: Any) -> str:  # noqa: A002 - the name is that of the original
        found = find(object) if isinstance(object, type) else None
        return usual(object) if found is None else found

    inspect.getfile = getfile


def install_printer() -> None:
    """Let uncaught errors show remote source lines.

    The interpreter's own printer, before 3.13, opens files by name and knows no other source.
    """
    if sys.version_info < (3, 13) and sys.excepthook is sys.__excepthook__:
        sys.excepthook = _print_uncaught


def _print_uncaught(
    kind: type[BaseException], error: BaseException, tb: types.TracebackType | None
) -> None:
    if _has_remote_frames(error, tb):
        with contextlib.suppress(Exception):
            lines = traceback.format_exception(kind, error, tb)
            sys.stderr.write("".join(lines))
            return
    sys.__excepthook__(kind, error, tb)


def _has_remote_frames(error: BaseException | None, tb: types.TracebackType | None) -> bool:
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        while tb is not None:
            if getattr(tb.tb_frame.f_globals.get("__loader__"), "is_remote", False) is True:
                return True
            tb = tb.tb_next
        error = error.__cause__ or error.__context__
        tb = error.__traceback__ if error is not None else None
    return False
