"""`objspace.serve`: a server on the calling thread."""

from __future__ import annotations

from objspace._core import TLS, Policy, Server

# `typing` takes as long to import as all of objspace.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping


def serve(
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
) -> None:
    """Serve `names` on `url` until the process is interrupted.

    The arguments are those of `Server`: `policy` says what clients may do (`Policy.public()` unless
    given), `key` and `tls` what they must show, `heartbeat` within how many seconds a dead one is
    noticed, `max_clients` how many there may be and `handshake_timeout` how many seconds each has
    to show who it is; `status` lets everybody ask what `objspace top` shows, `debug` lets those who
    have shown who they are debug the last error. Raises `ValueError` for a URL that names nothing,
    `OSError` if it cannot be listened on, `PermissionError` if other machines could reach it and
    nothing is asked of them.
    """
    with Server(
        names,
        url,
        policy=policy,
        key=key,
        tls=tls,
        heartbeat=heartbeat,
        max_clients=max_clients,
        handshake_timeout=handshake_timeout,
        status=status,
        debug=debug,
    ) as server:
        server.serve_forever()
