"""`objspace.aconnect`: `connect`, to be awaited. Imports `asyncio` only when it is called."""

from __future__ import annotations

# `typing` takes as long to import as all of objspace.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from objspace._core import RemoteView


async def aconnect(url: str, **options: Any) -> RemoteView:
    """Connect to a listener without blocking the event loop that this is awaited in.

    Takes the arguments of `objspace.connect`, and raises what that raises. What the other side
    awaits of this one is performed in this event loop.
    """
    import functools

    import objspace
    from objspace import _async

    return await _async.connect(functools.partial(objspace.connect, url, **options))
