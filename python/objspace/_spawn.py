"""`objspace.spawn`: a child process whose objects are used as if local, over two pipes."""

from __future__ import annotations

import os
import sys

from objspace._core import Policy, RemoteView, Session, session_over_fds

# `typing` takes as long to import as all of objspace.
TYPE_CHECKING = False
if TYPE_CHECKING:
    import subprocess
    from collections.abc import Mapping
    from types import TracebackType

_GRACE = 10.0


class Child:
    """A child process and its session. As a context manager it gives the child's `RemoteView`.

    `remote` is that view, `session` the session, `process` the `subprocess.Popen`. `close()` ends
    the session, waits for the child and ends it if it does not leave by itself.
    """

    def __init__(self, process: subprocess.Popen[bytes], session: Session) -> None:
        self.process = process
        self.session = session
        self.remote: RemoteView = session.remote

    def close(self, grace: float = _GRACE) -> None:
        """End the session and the child; after `grace` seconds without leaving it is killed."""
        import subprocess

        self.session.close()
        try:
            self.process.wait(grace)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def __enter__(self) -> RemoteView:
        return self.remote

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<objspace.Child {self.process.pid} {self.session!r}>"


def spawn(
    python: str | os.PathLike[str] | None = None,
    setup: str = "",
    *,
    env: Mapping[str, str] | None = None,
    cwd: str | os.PathLike[str] | None = None,
    exported_names: Mapping[str, object] | None = None,
    policy: Policy | None = None,
) -> Child:
    """Start a Python as a child process, run `setup` in it, and share the names that `setup` binds.

    `python` is the interpreter (this one unless given), which must have objspace installed; `env`
    is added to the environment; `exported_names` is what the child may ask for by name; `policy` is
    what the child may do with objects of this process (`Policy.full()` unless given: it is your
    child).

    Raises `OSError` if the interpreter cannot be started, and what `setup` raised if it failed.
    """
    # Only who starts a child pays for these imports.
    import contextlib
    import json
    import subprocess

    ours_read, theirs_write = os.pipe()
    theirs_read, ours_write = os.pipe()
    interpreter = sys.executable if python is None else os.fspath(python)
    command = [interpreter, "-m", "objspace._child", str(theirs_read), str(theirs_write)]
    try:
        process = subprocess.Popen(
            [*command, json.dumps(setup)],
            pass_fds=(theirs_read, theirs_write),
            env={**os.environ, **(env or {})},
            cwd=cwd,
        )
    except BaseException:
        os.close(ours_read)
        os.close(ours_write)
        raise
    finally:
        os.close(theirs_read)
        os.close(theirs_write)
    peer = f"the child process {process.pid} ({os.path.basename(interpreter)})"
    session = session_over_fds(ours_read, ours_write, peer, exported_names, policy)
    child = Child(process, session)
    try:
        ready = session.get_remote("__setup__")
        ready()
    except BaseException:
        with contextlib.suppress(Exception):
            child.close()
        raise
    return child
