"""`objspace.serve`: a server on the calling thread."""

from __future__ import annotations

from objspace._core import Policy, Server

# `typing` takes as long to import as all of objspace.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping


def serve(names: Mapping[str, object], url: str, *, policy: Policy | None = None) -> None:
    """Serve `names` on `url` until the process is interrupted.

    `policy` says what clients may do; `Policy.public()` unless given. Raises `ValueError` for a URL
    that names nothing, `OSError` if it cannot be listened on.
    """
    with Server(names, url, policy=policy) as server:
        server.serve_forever()
