"""`objspace top`: what a server does, again and again."""

from __future__ import annotations

import contextlib
import os
import select
import sys
import time
from typing import TYPE_CHECKING, Any, NamedTuple

from objspace._cli import FAILED, OK, Complaint, explain, one_line, security

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Iterator

    from rich.console import RenderableType
    from rich.table import Table

CALLS_SHOWN = 8


class Call(NamedTuple):
    """A request that runs."""

    operation: str
    kind: str
    seconds: float


class Session(NamedTuple):
    """One client."""

    peer: str
    seconds: float
    served: int
    running: tuple[Call, ...]
    received: int
    sent: int
    bytes_received: int
    bytes_sent: int
    exports: int
    imports: int
    unread: int


class Status(NamedTuple):
    """One look at a server."""

    when: float
    address: str
    pid: int
    seconds: float
    max_clients: int
    refused: int
    last_refusal: str | None
    last_error: tuple[float, str, str] | None
    sessions: tuple[Session, ...]
    kinds: tuple[tuple[str, int, int], ...]
    oldest: tuple[tuple[float, str, str], ...]


def look(remote: Any) -> Status:
    """Asks the server; `PermissionError` if it does not tell."""
    from objspace._core import server_status

    server, sessions, kinds, oldest = server_status(remote)
    told = tuple(
        Session._make((*fields[:3], tuple(map(Call._make, fields[3])), *fields[4:]))
        for fields in sessions
    )
    return Status._make((time.monotonic(), *server, told, kinds, oldest))


def run(options: Namespace) -> int:
    """Shows the status until it is told to stop, and returns the exit code."""
    import objspace
    from objspace.distributed import session_of

    url = options.url
    try:
        remote = objspace.connect(url, **security(options))
    except (OSError, ValueError) as error:
        raise explain(error, url, listening=False) from error
    try:
        status = look(remote)
        if options.once or not sys.stdout.isatty():
            from rich.console import Console

            Console(highlight=False).print(draw(status, None))
        else:
            watch(remote, status, max(options.interval, 0.05))
    except PermissionError as error:
        raise Complaint(f"{url}: {one_line(error)}") from error
    except objspace.ConnectionLost as error:
        print(f"connection lost: {one_line(error)}", file=sys.stderr)
        return FAILED
    except KeyboardInterrupt:
        pass
    finally:
        session_of(remote).close()
    return OK


def watch(remote: Any, status: Status, interval: float) -> None:
    """Draws until q is pressed."""
    from rich.live import Live

    with (
        keys() as pressed,
        Live(draw(status, None), screen=True, auto_refresh=False, redirect_stderr=False) as live,
    ):
        live.refresh()
        while not pressed(interval):
            former, status = status, look(remote)
            live.update(draw(status, former), refresh=True)


@contextlib.contextmanager
def keys() -> Iterator[Any]:
    """A function that waits so many seconds and tells whether q was pressed."""
    import termios
    import tty

    if not sys.stdin.isatty():

        def never(seconds: float) -> bool:
            time.sleep(seconds)
            return False

        yield never
        return
    fd = sys.stdin.fileno()
    before = termios.tcgetattr(fd)
    tty.setcbreak(fd)

    def pressed(seconds: float) -> bool:
        ready, _, _ = select.select([fd], [], [], seconds)
        return bool(ready) and os.read(fd, 1) in (b"q", b"Q", b"\x04", b"")

    try:
        yield pressed
    finally:
        termios.tcsetattr(fd, termios.TCSADRAIN, before)


def draw(status: Status, former: Status | None) -> RenderableType:
    """One picture; rates need the one before."""
    from rich.console import Group
    from rich.text import Text

    head = Text()
    head.append(f"objspace top · {status.address}", "bold")
    head.append(
        f" · process {status.pid} · up {span(status.seconds)} · "
        f"{len(status.sessions)} of {status.max_clients} clients · {status.refused} refused"
    )
    parts: list[RenderableType] = [head]
    if status.last_refusal is not None:
        parts.append(Text(f"last refused: {status.last_refusal}", "yellow"))
    if status.last_error is not None:
        age, kind, peer = status.last_error
        parts.append(
            Text(f"last error: {kind} for {peer}, {span(age)} ago (objspace debug)", "red")
        )
    parts += [
        Text(),
        sessions(status, former),
        Text(),
        running(status),
        Text(),
        exported(status),
        Text(),
        oldest(status),
    ]
    return Group(*parts)


def sessions(status: Status, former: Status | None) -> RenderableType:
    table = grid("sessions", "age", "calls", "calls/s", "in/s", "out/s", "theirs", "ours", "unread")
    before = {session.peer: session for session in former.sessions} if former else {}
    elapsed = status.when - former.when if former else 0.0
    for session in status.sessions:
        last = before.get(session.peer)
        rates = ["", "", ""]
        if last is not None and elapsed > 0:
            rates = [
                f"{(session.served - last.served) / elapsed:.0f}",
                size((session.bytes_received - last.bytes_received) / elapsed),
                size((session.bytes_sent - last.bytes_sent) / elapsed),
            ]
        table.add_row(
            client(session.peer),
            span(session.seconds),
            str(session.served),
            *rates,
            str(session.imports),
            str(session.exports),
            size(session.unread),
        )
    return table


def running(status: Status) -> RenderableType:
    table = grid("running calls", "for", "client")
    calls = [(call, session.peer) for session in status.sessions for call in session.running]
    calls.sort(key=lambda item: -item[0].seconds)
    for call, peer in calls[:CALLS_SHOWN]:
        of = f" of {call.kind}" if call.kind else ""
        table.add_row(f"{call.operation}{of}", span(call.seconds), client(peer))
    return table


def exported(status: Status) -> RenderableType:
    table = grid("held by clients", "objects", "references")
    for kind, objects, references in status.kinds[:CALLS_SHOWN]:
        table.add_row(kind, str(objects), str(references))
    return table


def oldest(status: Status) -> RenderableType:
    table = grid("oldest references", "age", "client")
    for age, kind, peer in status.oldest[:CALLS_SHOWN]:
        table.add_row(kind, span(age), client(peer))
    return table


def grid(*names: str) -> Table:
    from rich.table import Table

    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold cyan")
    first, *rest = names
    table.add_column(first, no_wrap=True)
    for name in rest:
        table.add_column(name, justify="left" if name == "client" else "right", no_wrap=True)
    return table


def client(peer: str) -> str:
    """A client, short: its address, or its number where all come to the same address."""
    return peer.removeprefix("the client at ").partition(" at ")[0]


def span(seconds: float) -> str:
    """A duration, short."""
    if seconds < 60:
        return f"{seconds:.1f}s"
    minutes, whole = divmod(int(seconds), 60)
    if minutes < 60:
        return f"{minutes}m{whole:02}s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes:02}m" if hours < 48 else f"{hours // 24}d{hours % 24:02}h"


def size(count: float) -> str:
    """A number of bytes, short."""
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:.0f} {unit}"
        count /= 1000
    return f"{count:.1f} GB"
