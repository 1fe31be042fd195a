"""`objspace.connect`: what it does around one attempt: `ssh://`, and trying again."""

from __future__ import annotations

import time

from objspace import _core

# `typing` takes as long to import as all of objspace.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from objspace._core import TLS, Policy, RemoteView

_FIRST_PAUSE = 0.05
_LONGEST_PAUSE = 2.0


def connect(
    url: str,
    *,
    timeout: float = 20.0,
    retry: float = 0.0,
    key: bytes | str | None = None,
    tls: TLS | None = None,
    heartbeat: float | None = 20.0,
    exported_names: Mapping[str, object] | None = None,
    policy: Policy | None = None,
) -> RemoteView:
    """Connect to a server and return what it exports, as the attributes of one object.

    `url` is `tcp://host:port`, `tls://host:port`, `unix:///path`, or
    `ssh://[user@]host[:port]/TARGET`, which starts the system's `ssh`: TARGET is `MODULE` or
    `MODULE:NAME`, to be served over there by `objspace serve`, or `HOST:PORT` of a server that
    listens there (see `docs/operating.md`).

    `timeout` is the limit, in seconds, of one attempt; `retry` for how many seconds attempts are
    made again if nobody answers or the server has no room. `key` is the shared key (if it is not
    given, that of the environment variable OBJSPACE_KEY or of the file that OBJSPACE_KEY_FILE
    names; `b""` for none at all); `tls` the certificates for `tls://`, not needed with a key;
    `heartbeat` the seconds within which a dead peer is noticed (`None`: never). `exported_names` is
    what the other side may ask for by name, `policy` what it may do with objects of this process
    (`Policy.public()` unless given).

    Raises `ValueError` for a URL that names nothing, `AuthenticationError` if one side does not
    believe the other to be who it should be, another `ConnectionError` if there is no session for
    another reason.
    """
    until = time.monotonic() + retry
    pause = _FIRST_PAUSE
    while True:
        try:
            if url.startswith("ssh:"):
                from objspace._ssh import connect_by_ssh

                return connect_by_ssh(
                    url,
                    timeout=timeout,
                    key=key,
                    heartbeat=heartbeat,
                    exported_names=exported_names,
                    policy=policy,
                )
            return _core.connect(
                url,
                timeout=timeout,
                key=key,
                tls=tls,
                heartbeat=heartbeat,
                exported_names=exported_names,
                policy=policy,
            )
        except ConnectionError as error:
            left = until - time.monotonic()
            if left <= 0 or getattr(error, "permanent", False):
                raise
            # Not all at once: a server that comes back is met by all of its clients.
            # Only who has to try again pays for this import.
            import random

            time.sleep(min(left, pause * random.uniform(0.5, 1.0)))
            pause = min(pause * 2, _LONGEST_PAUSE)
