"""objspace: transparent proxies and remote objects as if local, on stock CPython.

>>> import objspace
>>> server = objspace.Server({"numbers": [3, 1, 2]}, "tcp://127.0.0.1:0").start()
>>> remote = objspace.connect(server.address)
>>> type(remote.numbers), sorted(remote.numbers)
(<class 'list'>, [1, 2, 3])
>>> server.close()
"""

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
    by_value,
    copy_out,
    read_ahead,
    timeout,
)
from objspace._serve import serve
from objspace._spawn import Child, spawn

# Not from typing, which would cost as much time as all the rest.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from objspace import dump, pickling
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
    "by_value",
    "channel",
    "connect",
    "copy_out",
    "distributed",
    "dump",
    "hop",
    "pickling",
    "read_ahead",
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
_PARTS = ("dump", "pickling", "tproxy", "tputil")


def __getattr__(name: str) -> "Any":  # quoted: typing is not imported
    import importlib

    if name in _PARTS:
        return importlib.import_module(f"objspace.{name}")
    if name not in _LATER:
        raise AttributeError(f"module 'objspace' has no attribute {name!r}")
    value = getattr(importlib.import_module(_LATER[name]), name)
    globals()[name] = value
    return value
