"""Fixtures that every Python test may use.

`link` is the main one: a piece of source code in, a `RemoteView` of the names that it binds out,
over each of the three transports in turn. A behaviour that is written once is so tested on all.
"""

import contextlib
import gc
import linecache
import os
import subprocess
import sys
import textwrap
import types

import pytest

TRANSPORTS = ("pair", "pipes", "tcp")

# Runs in the other process of the "tcp" transport: serves what the source binds until stdin ends.
SERVER = """
import linecache, sys
import objspace
source = sys.argv[1]
namespace = {"__name__": "served"}
linecache.cache["<served>"] = (len(source), None, source.splitlines(keepends=True), "<served>")
exec(compile(source, "<served>", "exec"), namespace)
server = objspace.Server(namespace, "tcp://127.0.0.1:0", policy=objspace.Policy.full())
server.start()
print(server.address, flush=True)
sys.stdin.read()
server.close()
"""

# Appended to what a test serves: the size of the tables on the other side.
SIZES = """
def _sizes(theirs):
    import gc
    from objspace.distributed import session_of
    gc.collect()
    stats = session_of(theirs).stats()
    return stats["exports"], stats["imports"]
"""


@pytest.fixture(params=TRANSPORTS)
def transport(request):
    """The name of one transport; a test that uses it runs on each."""
    return request.param


@pytest.fixture
def link(transport):
    """`link(source)` serves what `source` binds and returns the `RemoteView` of it.

    `link(source, names)` also exports `names` to the other side. All is closed after the test.
    """
    with contextlib.ExitStack() as stack:

        def open_link(source="", names=None):
            source = textwrap.dedent(source) + SIZES
            return stack.enter_context(OPENERS[transport](source, names or {}))

        open_link.transport = transport
        yield open_link


@pytest.fixture(scope="class")
def over_tcp_for_class():
    """Like `link`, over TCP only, and one session for all tests of a class."""
    with contextlib.ExitStack() as stack:

        def open_link(source="", names=None):
            return stack.enter_context(over_tcp(textwrap.dedent(source) + SIZES, names or {}))

        yield open_link


@contextlib.contextmanager
def over_pair(source, names):
    from objspace.distributed import pair

    # A module of its own, so that its classes have one, as in another process.
    module = types.ModuleType("served")
    linecache.cache["<served>"] = (len(source), None, source.splitlines(keepends=True), "<served>")
    exec(compile(source, "<served>", "exec"), module.__dict__)
    here, there = pair(names, vars(module))
    try:
        yield here.remote
    finally:
        here.close()
        there.close()


@contextlib.contextmanager
def over_pipes(source, names):
    import objspace

    with objspace.spawn(setup=source, exported_names=names) as remote:
        yield remote


@contextlib.contextmanager
def over_tcp(source, names):
    import objspace
    from objspace.distributed import session_of

    with subprocess.Popen(
        [sys.executable, "-c", SERVER, source],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            url = process.stdout.readline().strip()
            assert url, "the server did not start"
            remote = objspace.connect(url, exported_names=names, policy=objspace.Policy.full())
            try:
                yield remote
            finally:
                session_of(remote).close()
        finally:
            process.stdin.close()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                raise


OPENERS = {"pair": over_pair, "pipes": over_pipes, "tcp": over_tcp}


class Sizes:
    """The sizes of the tables on both sides of a session."""

    def __init__(self, remote):
        from objspace.distributed import session_of

        self.remote = remote
        self.session = session_of(remote)
        self.measure = remote._sizes
        # The same object each time, so that measuring does not change what is measured.
        self.probe = lambda: None

    def __call__(self):
        gc.collect()
        theirs = tuple(self.measure(self.probe))
        stats = self.session.stats()
        return {"here": (stats["exports"], stats["imports"]), "there": theirs}


@pytest.fixture
def no_leaks():
    """`with no_leaks(remote): …` fails if a table of either side is larger afterwards.

    Releases ride on later messages, so some are sent before the comparison. Whatever the body is
    allowed to leave behind (the shape of a class, say) must exist before the block.
    """

    @contextlib.contextmanager
    def check(remote):
        sizes = Sizes(remote)
        for _ in range(3):
            before = sizes()
        yield
        for _ in range(10):
            after = sizes()
            if after == before:
                break
        assert after == before, "(exports, imports) have not returned to their former size"

    return check


@pytest.fixture
def python():
    """`python(source, *arguments, **options)` runs a program in a process of its own."""

    def run(source, *arguments, timeout=30, **options):
        options.setdefault("input", "")
        return subprocess.run(
            [sys.executable, "-c", textwrap.dedent(source), *arguments],
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
            **options,
        )

    return run


@pytest.fixture
def command(tmp_path):
    """`command("serve", "app", …)` runs the `objspace` command in an empty folder."""

    def run(*arguments, timeout=30, text_in=None, **env):
        return subprocess.run(
            [sys.executable, "-m", "objspace", *arguments],
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
            cwd=tmp_path,
            input=text_in or "",
            env={**os.environ, "NO_COLOR": "1", "COLUMNS": "100", **env},
        )

    return run
