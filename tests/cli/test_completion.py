"""What the Tab key offers."""

from types import SimpleNamespace

import pytest
from objspace._cli.shell import Completer


class Watched:
    """Says what was read of it."""

    def __init__(self):
        self.read = []

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        self.read.append(name)
        return SimpleNamespace(inner=1)

    def __dir__(self):
        return ["alpha", "alps", "beta", "_hidden"]


@pytest.mark.parametrize(
    ("text", "offered"),
    [
        ("w.al", ["w.alpha", "w.alps"]),
        ("w.", ["w.alpha", "w.alps", "w.beta"]),
        ("w._", ["w._hidden"]),
        ("w.z", []),
        ("w.alpha.in", ["w.alpha.inner"]),
        ("absent.x", []),
        ("f().x", []),
        ("impor", ["import"]),
        ("  ", ["    "]),
    ],
)
def test_offers(text, offered):
    assert Completer({"w": Watched()}).find(text) == offered


def test_names_are_listed_and_not_read():
    watched = Watched()
    completer = Completer({"w": watched})
    assert completer.complete("w.al", 0) == "w.alpha"
    assert completer.complete("w.al", 1) == "w.alps"
    assert completer.complete("w.al", 2) is None
    assert watched.read == []
