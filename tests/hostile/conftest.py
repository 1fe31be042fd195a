"""A server that is worth an attack, in a process of its own."""

import subprocess
import sys

import pytest

VICTIM = '''
import sys
import objspace


class Thing:
    """A thing."""

    shared = [1]

    def __init__(self):
        self.items = [1, 2, 3]
        self.names = {"a": 1}
        self._secret = "the secret"

    def add(self, item):
        self.items.append(item)
        return len(self.items)

    def fail(self):
        password = "the secret"
        raise ValueError("no")

    def call(self, function, *arguments):
        return function(*arguments)

    def count(self):
        yield 1
        yield 2


def greet(name):
    return f"hello {name}"


server = objspace.Server(
    {"thing": Thing(), "greet": greet, "Thing": Thing, "shelf": [1, 2, 3], "text": "text"},
    "tcp://127.0.0.1:0",
).start()
print(server.address, flush=True)
sys.stdin.read()
server.close()
'''


class Victim:
    def __init__(self, process, url):
        self.process = process
        self.url = url

    def resident(self):
        """Its resident memory, in bytes."""
        with open(f"/proc/{self.process.pid}/status") as status:
            for line in status:
                if line.startswith("VmRSS"):
                    return int(line.split()[1]) * 1024
        raise AssertionError("no VmRSS")

    def check(self):
        """It lives, and serves an honest client."""
        import objspace
        from objspace.distributed import session_of

        assert self.process.poll() is None, "the server died"
        remote = objspace.connect(self.url)
        assert remote.greet("you") == "hello you"
        session_of(remote).close()


@pytest.fixture(scope="module")
def server():
    """A `Victim` under the default policy of a listener, shared by the tests of a module."""
    with subprocess.Popen(
        [sys.executable, "-c", VICTIM],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            url = process.stdout.readline().strip()
            assert url, "the server did not start"
            yield Victim(process, url)
        finally:
            process.stdin.close()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                raise


@pytest.fixture
def victim(server):
    """The server, which has to be unharmed after each test."""
    yield server
    server.check()
