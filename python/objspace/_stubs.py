"""Templates of functions that must be Python: their code is copied for remote methods.

Everything else about classes that come from another process is in the compiled half.
"""

from __future__ import annotations

import dataclasses
from typing import Any


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
