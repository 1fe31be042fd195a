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
    from objspace._hop import accept_hops, hop

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
    "connect",
    "distributed",
    "hop",
    "serve",
    "spawn",
    "timeout",
]

# Imported when they are first used: asyncio is much to import for who does not need it.
_LATER = {"accept_hops": "objspace._hop", "hop": "objspace._hop"}


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        raise AttributeError(f"module 'objspace' has no attribute {name!r}")
    import importlib

    value = getattr(importlib.import_module(_LATER[name]), name)
    globals()[name] = value
    return value
