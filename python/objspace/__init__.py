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
    timeout,
)
from objspace._serve import serve
from objspace._spawn import Child, spawn

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
    "aconnect",
    "by_value",
    "connect",
    "copy_out",
    "distributed",
    "serve",
    "spawn",
    "timeout",
]
