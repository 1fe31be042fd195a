"""Where the server's files lie is nobody's business under the default policy."""

import subprocess
import sys

from .wire import (
    ASK_CLASS,
    CALL_IT,
    CALL_METHOD,
    DIR,
    FETCH,
    GETATTR,
    Peer,
    Refused,
    leaves,
    target,
)

APP = '''
import dataclasses
import sys
import objspace


class Thing:
    """A thing."""

    shared = [1]

    def method(self, value: "list[int]" = (1, 2)) -> int:
        return self.missing

    @property
    def attribute(self):
        raise ValueError("no")

    @classmethod
    def make(cls):
        return cls()


@dataclasses.dataclass
class Point:
    x: int = 1
    y: list = dataclasses.field(default_factory=list)


class Wrong(Exception):
    pass


def fail():
    raise Wrong("wrong")


names = {"thing": Thing(), "Thing": Thing, "point": Point(), "Point": Point, "fail": fail}
server = objspace.Server(names, "tcp://127.0.0.1:0").start()
print(server.address, flush=True)
sys.stdin.read()
server.close()
'''


def test_no_path_of_the_server_is_told(tmp_path):
    folder = tmp_path / "hidden-place"
    folder.mkdir()
    (folder / "served_app.py").write_text(APP)
    with subprocess.Popen(
        [sys.executable, str(folder / "served_app.py")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            with Peer(process.stdout.readline().strip()) as peer:
                for name in ("thing", "Thing", "point", "Point", "fail"):
                    where = target(*peer.export(name))
                    for ask in (
                        lambda where=where: peer.ask(where, DIR),
                        lambda where=where: peer.ask(where, CALL_IT),
                        lambda where=where: peer.ask(where, CALL_METHOD, "method"),
                        lambda where=where: peer.ask(where, CALL_METHOD, "make"),
                        lambda where=where: peer.ask(where, GETATTR, "attribute"),
                        lambda where=where: peer.ask(where, GETATTR, "__module__"),
                        lambda where=where: peer.ask(where, ASK_CLASS, "source", None, kind=FETCH),
                    ):
                        try:
                            ask()
                        except Refused as refusal:
                            peer.seen.append(refusal.args)
                told = " ".join(map(repr, leaves(tuple(peer.seen))))
        finally:
            process.stdin.close()
            process.wait(10)
    assert "'wrong'" in told, "the shapes and the errors were looked at"
    assert "Point" in told
    assert "hidden-place" not in told
