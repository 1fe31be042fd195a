# The compiled half of objspace; import `objspace` instead.

from collections.abc import Callable, Mapping
from os import PathLike
from types import TracebackType
from typing import Any, Self, TypedDict, TypeVar, final, overload

_T = TypeVar("_T")

__version__: str

class AuthenticationError(ConnectionError): ...
class ConnectionLost(ConnectionError): ...
class ObjectNotFound(KeyError): ...
class ProtocolError(Exception): ...

@final
class TLS:
    def __new__(
        cls,
        *,
        cert: str | PathLike[str] | None = None,
        key: str | PathLike[str] | None = None,
        ca: str | PathLike[str] | None = None,
        server_name: str | None = None,
    ) -> Self: ...

@final
class timeout:
    def __new__(cls, seconds: float) -> Self: ...
    def __enter__(self) -> Self: ...
    def __exit__(
        self,
        kind: type[BaseException] | None = None,
        error: BaseException | None = None,
        traceback: TracebackType | None = None,
        /,
    ) -> None: ...

@final
class Policy:
    @staticmethod
    def full() -> Policy: ...
    @staticmethod
    def public(*, tracebacks: bool = False) -> Policy: ...
    @staticmethod
    def listed(names: dict[type, list[str]], *, tracebacks: bool = False) -> Policy: ...

@final
class RemoteView:
    def __getattr__(self, name: str, /) -> Any: ...
    def __dir__(self) -> list[str]: ...

class _Stats(TypedDict):
    round_trips: int
    messages_sent: int
    messages_received: int
    bytes_sent: int
    bytes_received: int
    exports: int
    imports: int

class _ServerStats(TypedDict):
    exports: int
    imports: int
    sessions: int
    refused: int

@final
class Session:
    def __new__(
        cls,
        send: Callable[[bytes], object],
        receive: Callable[[], bytes],
        exported_names: Mapping[str, object] | None = None,
        *,
        policy: Policy | None = None,
    ) -> Self: ...
    @property
    def remote(self) -> RemoteView: ...
    @property
    def closed(self) -> bool: ...
    @property
    def peer(self) -> str: ...
    def get_remote(self, name: str) -> Any: ...
    def remote_keys(self) -> list[str]: ...
    def serve(self) -> None: ...
    def close(self) -> None: ...
    def stats(self) -> _Stats: ...
    def __enter__(self) -> Self: ...
    def __exit__(
        self,
        kind: type[BaseException] | None = None,
        error: BaseException | None = None,
        traceback: TracebackType | None = None,
        /,
    ) -> None: ...

@final
class Server:
    def __new__(
        cls,
        names: Mapping[str, object],
        url: str,
        *,
        policy: Policy | None = None,
        key: bytes | str | None = None,
        tls: TLS | None = None,
        heartbeat: float | None = 20.0,
        max_clients: int = 1000,
        handshake_timeout: float = 10.0,
        status: bool = False,
        debug: bool = False,
    ) -> Self: ...
    @property
    def address(self) -> str: ...
    def start(self) -> Self: ...
    def serve_forever(self) -> None: ...
    def close(self, grace: float = 0.0) -> None: ...
    def stats(self) -> _ServerStats: ...
    def __enter__(self) -> Self: ...
    def __exit__(
        self,
        kind: type[BaseException] | None = None,
        error: BaseException | None = None,
        traceback: TracebackType | None = None,
        /,
    ) -> None: ...

@final
class ProxyOperation:
    @property
    def proxyobj(self) -> Any: ...
    opname: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    @property
    def obj(self) -> Any: ...
    def delegate(self) -> Any: ...

# The result is a T for every purpose but that of the type checker, which cannot know it.
def tproxy(type: type[_T], controller: Callable[..., Any], /) -> _T: ...
def get_tproxy_controller(obj: object, /) -> Callable[..., Any] | None: ...
def delegate(operation: ProxyOperation, /) -> Any: ...
@overload
def make_proxy(
    controller: Callable[[ProxyOperation], Any], type: type[_T], obj: object = ...
) -> _T: ...
@overload
def make_proxy(controller: Callable[[ProxyOperation], Any], *, obj: _T) -> _T: ...
def operation_table() -> list[tuple[str, str, str, str]]: ...
def connect(
    url: str,
    *,
    timeout: float = 20.0,
    key: bytes | str | None = None,
    tls: TLS | None = None,
    heartbeat: float | None = 20.0,
    exported_names: Mapping[str, object] | None = None,
    policy: Policy | None = None,
) -> RemoteView: ...
def connect_over_fds(
    read_fd: int,
    write_fd: int,
    peer: str,
    *,
    timeout: float,
    key: bytes | str | None,
    heartbeat: float | None,
    exported_names: Mapping[str, object] | None,
    policy: Policy | None,
) -> RemoteView: ...
def pair(
    here: Mapping[str, object] | None = None,
    there: Mapping[str, object] | None = None,
    *,
    policy: tuple[Policy, Policy] | None = None,
) -> tuple[Session, Session]: ...
def session_of(remote: object) -> Session: ...
def end_all_sessions() -> None: ...
def session_over_fds(
    read_fd: int,
    write_fd: int,
    peer: str,
    exported_names: Mapping[str, object] | None = None,
    policy: Policy | None = None,
) -> Session: ...
def server_status(remote: RemoteView) -> tuple[Any, ...]: ...
def server_last_error(remote: RemoteView, again: bool) -> tuple[float, str] | None: ...

# Pickling: the parts under `objspace.pickling`.

@final
class Reducer:
    def __new__(cls, code: str = "auto", first: Callable[[Any], Any] | None = None) -> Self: ...
    def begin(self) -> None: ...
    def __call__(self, object: Any, /) -> Any: ...

def register_reducer(type: type, reducer: Callable[[Any], Any] | None, /) -> None: ...
def reduce_file(file: Any, newline: str | None = None) -> tuple[Any, ...]: ...
def install(*, exceptions: bool = True) -> None: ...
def uninstall() -> None: ...
def explain_failure(object: Any, reducer: Reducer, error: BaseException) -> BaseException: ...
def wrap_pickle(payload: bytes | memoryview, key: bytes | None = None) -> bytes: ...
def unwrap_pickle(
    data: bytes, key: bytes | None = None, limit: int | None = None
) -> tuple[int, int] | None: ...
def read_pickle(
    file: Any, key: bytes | None = None, limit: int | None = None
) -> tuple[bytes | None, bytes | None]: ...
def load_allowing(load: Callable[[], _T], modules: list[str] | None) -> _T: ...
def find_allowed(find: Callable[[str, str], Any], module: str, name: str) -> Any: ...
