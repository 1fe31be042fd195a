"""`ssh://`: a session over the standard input and output of the system's ssh.

What ssh asks (a password, a host key) it asks on the terminal, and what it complains about is part
of the error. Nothing of ssh is known here but its command line.
"""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import subprocess
import threading
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import parse_qsl, unquote, urlsplit

from objspace._core import connect_over_fds, session_of

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import IO

    from objspace._core import Policy, RemoteView

_EXAMPLE = "ssh://user@host/app, ssh://host/app:inventory or ssh://host/localhost:7000"
_TARGET = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*(:[A-Za-z_]\w*(\.[A-Za-z_]\w*)*)?")
_FORWARD = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9.-]+):[0-9]{1,5}")
_TOLD = 2000


class Place(NamedTuple):
    """What an ssh URL says."""

    destination: str
    port: int | None
    target: str
    python: str | None
    cwd: str | None

    def command(self) -> list[str]:
        """The command line of ssh."""
        line = [os.environ.get("OBJSPACE_SSH", "ssh"), "-T", "-o", "ConnectTimeout=20"]
        if self.port is not None:
            line += ["-p", str(self.port)]
        if _FORWARD.fullmatch(self.target):
            return [*line, "-W", self.target, "--", self.destination]
        program = [self.python, "-m", "objspace"] if self.python else ["objspace"]
        # ssh gives its arguments to a shell over there, as one text.
        # Who may log in may do anything there anyway.
        serve = ["serve", self.target, "--bind", "stdio:", "--policy", "full", "--quiet"]
        remote = shlex.join([*program, *serve])
        if self.cwd:
            remote = f"cd {shlex.quote(self.cwd)} && {remote}"
        return [*line, "--", self.destination, remote]


def parse(url: str) -> Place:
    """Read an ssh URL; `ValueError` says what would do."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise ValueError(f"{url!r}: {error}; write, for example, {_EXAMPLE}") from None
    host = parts.hostname
    target = unquote(parts.path).removeprefix("/")
    query = dict(parse_qsl(parts.query))
    problem = None
    if not host or host.startswith("-") or (parts.username or "").startswith("-"):
        problem = "the host is missing"
    elif parts.password is not None:
        problem = "a password does not belong in a URL; ssh asks for it, or use a key of ssh"
    elif not target:
        problem = "the path says what to serve over there, and there is none"
    elif not (_TARGET.fullmatch(target) or _FORWARD.fullmatch(target)):
        problem = f"{target!r} is neither MODULE, MODULE:NAME nor HOST:PORT"
    elif parts.fragment or not query.keys() <= {"python", "cwd"}:
        problem = "only ?python=… and ?cwd=… may follow"
    if problem is not None:
        raise ValueError(f"{url!r}: {problem}; write, for example, {_EXAMPLE}")
    user = f"{unquote(parts.username)}@" if parts.username else ""
    return Place(f"{user}{host}", port, target, query.get("python"), query.get("cwd"))


class Complaints:
    """What ssh, and the program it starts, write to standard error: the end of it."""

    def __init__(self, stream: IO[bytes]) -> None:
        self.text = b""
        self.thread = threading.Thread(target=self.read, args=(stream,), daemon=True)
        self.thread.start()

    def read(self, stream: IO[bytes]) -> None:
        with stream:
            for line in stream:
                self.text = (self.text + line)[-_TOLD:]

    def last(self) -> str:
        """The last line."""
        self.thread.join(1)
        lines = [line.strip() for line in self.text.decode(errors="replace").splitlines()]
        return next((line for line in reversed(lines) if line), "")


def connect_by_ssh(
    url: str,
    *,
    timeout: float,
    key: bytes | str | None,
    heartbeat: float | None,
    exported_names: Mapping[str, object] | None,
    policy: Policy | None,
) -> RemoteView:
    """Start ssh, and a session over its pipes. ssh ends with the session."""
    place = parse(url)
    ours_read, theirs_write = os.pipe()
    theirs_read, ours_write = os.pipe()
    try:
        process = subprocess.Popen(
            place.command(),
            stdin=theirs_read,
            stdout=theirs_write,
            stderr=subprocess.PIPE,
        )
    except OSError as error:
        os.close(ours_read)
        os.close(ours_write)
        raise ConnectionError(f"cannot start ssh for {url}: {error}") from error
    finally:
        os.close(theirs_read)
        os.close(theirs_write)
    assert process.stderr is not None
    complaints = Complaints(process.stderr)
    # The key is that of a server over there; one that ssh itself starts is as safe as ssh.
    if key is None and not _FORWARD.fullmatch(place.target):
        key = b""
    try:
        view = connect_over_fds(
            ours_read,
            ours_write,
            url,
            timeout=timeout,
            key=key,
            heartbeat=heartbeat,
            exported_names=exported_names,
            policy=policy,
        )
    except ConnectionError as error:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(1)
        code = process.poll()
        _end(process)
        told = complaints.last()
        # It did its work, and who is at the other end is the matter.
        if not code:
            raise
        text = f"{url}: ssh ended with code {code}"
        better = type(error)(f"{text}: {told}" if told else text)
        # 255 is ssh's own failure, 127 an unknown command: a server that starts late is neither.
        better.permanent = code == 127  # type: ignore[attr-defined]
        raise better from error
    except BaseException:
        _end(process)
        raise
    threading.Thread(target=_reap, args=(process, view), daemon=True).start()
    return view


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(2)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _reap(process: subprocess.Popen[bytes], view: RemoteView) -> None:
    """Wait for ssh, which ends when the session closes its pipes."""
    process.wait()
    with contextlib.suppress(Exception):
        session_of(view).close()
