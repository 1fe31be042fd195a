"""Servers in processes of their own, and certificates."""

import contextlib
import json
import os
import subprocess
import sys
import textwrap
import types

import pytest

SERVER = """
import json, linecache, sys
import objspace
source, url, settings = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
if "tls" in settings:
    settings["tls"] = objspace.TLS(**settings["tls"])
if settings.pop("full", False):
    settings["policy"] = objspace.Policy.full()
namespace = {"__name__": "served"}
linecache.cache["<served>"] = (len(source), None, source.splitlines(keepends=True), "<served>")
exec(compile(source, "<served>", "exec"), namespace)
server = objspace.Server(namespace, url, **settings)
namespace["_server"] = server
server.start()
print(server.address, flush=True)
sys.stdin.read()
server.close()
"""


class Served:
    """A server process."""

    def __init__(self, process, url):
        self.process = process
        self.url = url
        self.pid = process.pid

    def resident(self):
        """Its resident memory, in bytes."""
        with open(f"/proc/{self.pid}/status") as status:
            for line in status:
                if line.startswith("VmRSS"):
                    return int(line.split()[1]) * 1024
        raise AssertionError("no VmRSS")

    def descriptors(self):
        """How many files it has open."""
        return len(os.listdir(f"/proc/{self.pid}/fd"))


@contextlib.contextmanager
def serve(source="", url="tcp://127.0.0.1:0", *, prefix=(), **settings):
    """A server, in a process of its own, of what the source binds."""
    command = [*prefix, sys.executable, "-c", SERVER]
    environment = {key: value for key, value in os.environ.items() if "OBJSPACE" not in key}
    with subprocess.Popen(
        [*command, textwrap.dedent(source), url, json.dumps(settings)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
    ) as process:
        try:
            address = process.stdout.readline().strip()
            assert address, "the server did not start"
            yield Served(process, address)
        finally:
            with contextlib.suppress(BrokenPipeError):
                process.stdin.close()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                raise


@pytest.fixture
def serving():
    """`serving(source, url, **settings)` starts a server; all are closed after the test."""
    with contextlib.ExitStack() as stack:
        yield lambda *args, **settings: stack.enter_context(serve(*args, **settings))


@pytest.fixture
def connected():
    """`connected(url, …)` connects; all sessions are closed after the test."""
    import objspace
    from objspace.distributed import session_of

    with contextlib.ExitStack() as stack:

        def open_one(*args, **settings):
            remote = objspace.connect(*args, **settings)
            stack.callback(session_of(remote).close)
            return remote

        yield open_one


@pytest.fixture(scope="session")
def certificates(tmp_path_factory):
    """Files of two authorities and what they have signed."""
    import datetime

    import trustme

    folder = tmp_path_factory.mktemp("certificates")
    authority, stranger = trustme.CA(), trustme.CA(organization_name="stranger")
    past = datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)

    def write(name, cert):
        files = {"cert": f"{folder}/{name}.pem", "key": f"{folder}/{name}.key"}
        cert.private_key_pem.write_to_path(files["key"])
        for blob in cert.cert_chain_pems:
            blob.write_to_path(files["cert"], append=True)
        return files

    def ca(name, authority):
        authority.cert_pem.write_to_path(f"{folder}/{name}.pem")
        return f"{folder}/{name}.pem"

    return types.SimpleNamespace(
        ca=ca("ca", authority),
        other_ca=ca("other-ca", stranger),
        server=write("server", authority.issue_cert("127.0.0.1")),
        expired=write("expired", authority.issue_cert("127.0.0.1", not_after=past)),
        elsewhere=write("elsewhere", authority.issue_cert("elsewhere.example")),
        client=write("client", authority.issue_cert("client@example.org")),
        unknown_client=write("unknown", stranger.issue_cert("client@example.org")),
    )
