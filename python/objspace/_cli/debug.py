"""`objspace debug`: pdb, here, in the frames of a server's last error."""

from __future__ import annotations

import pdb
import sys
from typing import TYPE_CHECKING

from objspace._cli import FAILED, OK, Complaint, explain, one_line, security

if TYPE_CHECKING:
    from argparse import Namespace
    from types import TracebackType


def run(options: Namespace) -> int:
    """Opens the debugger and returns the exit code."""
    import objspace
    from objspace._core import server_last_error
    from objspace.distributed import session_of

    url = options.url
    try:
        remote = objspace.connect(url, **security(options))
    except (OSError, ValueError) as error:
        raise explain(error, url, listening=False) from error
    session = session_of(remote)
    try:
        try:
            told = server_last_error(remote, again=False)
        except PermissionError as error:
            raise Complaint(f"{url}: {one_line(error)}") from error
        if told is None:
            raise Complaint(f"no error has left a call of the server at {url} yet")
        age, peer = told
        try:
            server_last_error(remote, again=True)
        except Exception as error:
            post_mortem(error, f"{age:.0f} s ago, for {peer}")
        return OK
    except objspace.ConnectionLost as error:
        print(f"connection lost: {one_line(error)}", file=sys.stderr)
        return FAILED
    finally:
        session.close()


def post_mortem(error: Exception, circumstances: str) -> None:
    """pdb in the frames of the other side."""
    traceback = remote_part(error.__traceback__)
    print(f"{type(error).__name__}: {error} ({circumstances})")
    if traceback is None:
        raise Complaint("the error has no frames over there")
    debugger = pdb.Pdb()
    debugger.reset()
    debugger.interaction(None, traceback)


def remote_part(traceback: TracebackType | None) -> TracebackType | None:
    """The traceback from the first frame of the other side on."""
    while traceback is not None:
        loader = traceback.tb_frame.f_globals.get("__loader__")
        if getattr(loader, "is_remote", False) is True:
            return traceback
        traceback = traceback.tb_next
    return None
