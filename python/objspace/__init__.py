"""objspace: transparent proxies and remote objects as if local, on stock CPython.

>>> import objspace
>>> server = objspace.Server({"numbers": [3, 1, 2]}, "tcp://127.0.0.1:0").start()
>>> remote = objspace.connect(server.address)
>>> type(remote.numbers), sorted(remote.numbers)
(<class 'list'>, [1, 2, 3])
>>> server.close()
"""

from typing import TYPE_CHECKING, Any

import objspace.distributed as distributed
from objspace._aconnect import aconnect
from objspace._connect import connect
from objspace._core import (
    TLS,
    AuthenticationError,
    ConnectionLost,
    ObjectNotFound,
    Policy,
    ProtocolError,
    Server,
    __version__,
    timeout,
)
from objspace._serve import serve
from objspace._spawn import Child, spawn

if TYPE_CHECKING:
    from objspace import pickling
    from objspace._hop import accept_hops, hop
    from objspace.tasklets import channel, schedule, tasklet

__all__ = [
    "TLS",
    "AuthenticationError",
    "Child",
    "ConnectionLost",
    "ObjectNotFound",
    "Policy",
    "ProtocolError",
    "Server",
    "__version__",
    "accept_hops",
    "aconnect",
    "channel",
    "connect",
    "distributed",
    "hop",
    "pickling",
    "schedule",
    "serve",
    "spawn",
    "tasklet",
    "timeout",
]

# Imported when they are first used: they need asyncio, which is much to import, or greenlet, which
# need not be installed.
_LATER = {
    "accept_hops": "objspace._hop",
    "channel": "objspace.tasklets",
    "hop": "objspace._hop",
    "schedule": "objspace.tasklets",
    "tasklet": "objspace.tasklets",
}


def __getattr__(name: str) -> Any:
    import importlib

    if name == "pickling":
        return importlib.import_module("objspace.pickling")
    if name not in _LATER:
        raise AttributeError(f"module 'objspace' has no attribute {name!r}")
    value = getattr(importlib.import_module(_LATER[name]), name)
    globals()[name] = value
    return value
