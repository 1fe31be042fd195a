"""Sessions between processes: the parts under `objspace.connect` and `objspace.serve`."""

from objspace._core import (
    ConnectionLost,
    ObjectNotFound,
    Pipeline,
    Policy,
    Promise,
    ProtocolError,
    RemoteView,
    Session,
    pair,
    session_of,
)

__all__ = [
    "ConnectionLost",
    "ObjectNotFound",
    "Pipeline",
    "Policy",
    "Promise",
    "ProtocolError",
    "RemoteView",
    "Session",
    "pair",
    "session_of",
]
