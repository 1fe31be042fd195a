"""The gate: every operation and every fetch of the closed lists, under each policy.

CVE-2019-16328 of RPyC: one operation (a comparison) took a name from the wire and went past the policy.
"""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from .wire import CALL_METHOD, FETCH, GETATTR, GETITEM, Peer, Refused, target

PROTO = Path(__file__).parents[2] / "crates" / "proto" / "src"

# What each operation is to a policy. Whoever adds one decides about it here and in session/gate.rs.
KINDS = {
    "attribute": "GETATTR CALL_METHOD",
    "write": "SETATTR DELATTR",
    "call": "CALL",
    "inert": "DIR REPR STR FORMAT HASH BOOL EQ NE INSTANCECHECK SUBCLASSCHECK",
    "internal": "SIZEOF GET SET DELETE REDUCE REDUCE_EX GETSTATE",
    "operator": (
        "BYTES INT FLOAT COMPLEX INDEX ROUND TRUNC FLOOR CEIL FSPATH LT LE GT GE LEN LENGTH_HINT"
        " GETITEM CONTAINS ITER NEXT REVERSED NEG POS ABS INVERT ADD SUB MUL MATMUL TRUEDIV"
        " FLOORDIV MOD DIVMOD POW LSHIFT RSHIFT AND XOR OR RADD RSUB RMUL RMATMUL RTRUEDIV"
        " RFLOORDIV RMOD RDIVMOD RPOW RLSHIFT RRSHIFT RAND RXOR ROR ENTER EXIT AENTER AEXIT"
        " AWAIT AITER ANEXT COPY DEEPCOPY BUFFER"
    ),
    "change": (
        "SETITEM DELITEM IADD ISUB IMUL IMATMUL ITRUEDIV IFLOORDIV IMOD IPOW ILSHIFT IRSHIFT IAND"
        " IXOR IOR"
    ),
}
FETCHES = {
    "CONTENTS": "as __iter__",
    "LOCALS": "unanswered",
    "SOURCE": "unanswered",
    "ATTRIBUTES": "as __dir__",
    "SHAPE": "unanswered",
    "EXPORTED_NAMES": "root",
    "EXPORTED": "unanswered",
    "BUFFER": "as __buffer__",
    "ITEMS": "as __next__",
    "COPY": "as __iter__",
    "CLASS": "question",
    "FRAME": "frames",
    "STATUS": "root",
    "LAST_ERROR": "root",
    "PATH": "path",
}


def operations():
    source = (PROTO / "op.rs").read_text()
    return {
        name: (int(code), method)
        for name, code, method in re.findall(r'^    ([A-Z_]+) = (\d+), "([^"]+)";', source, re.M)
    }


def fetches():
    source = (PROTO / "kinds.rs").read_text()
    block = source[source.index("FetchKind {") :]
    block = block[: block.index("\n}")]
    return {
        name: int(code) for name, code in re.findall(r"^        ([A-Z_]+) = (\d+);", block, re.M)
    }


def test_every_operation_and_every_fetch_is_decided_about():
    decided = " ".join(KINDS.values()).split()
    assert len(decided) == len(set(decided))
    assert set(decided) == set(operations())
    assert set(FETCHES) == set(fetches())


# An object that writes down which of its special methods ran.
VICTIM = """
import sys
import objspace

ran = []
SPECIAL = sys.argv[1].split()

def method(name):
    def run(self, *args):
        ran.append(name)
        return NotImplemented if name in ("__eq__", "__ne__") else None
    return run

class Bare:
    "Has every special method that an operation stands for."
    def public(self):
        ran.append("public")

for name in SPECIAL:
    setattr(Bare, name, method(name))

class Plain:
    def __init__(self):
        self.items = [1, 2]
    def __len__(self):
        return 7
    def __setitem__(self, key, value):
        ran.append("__setitem__")
    def __call__(self):
        ran.append("__call__")
    def listed(self):
        return self.items
    def unlisted(self):
        ran.append("unlisted")

class Listed(Plain):
    pass

class Made:
    def __init__(self):
        ran.append("made")

def take():
    taken, ran[:] = tuple(ran), []
    return taken

policy = {
    "public": objspace.Policy.public(),
    "listed": objspace.Policy.listed(
        {Listed: ["listed", "__len__", "items"], Made: ["__init__"], list: ["append"]}
    ),
}[sys.argv[2]]
names = {"bare": Bare(), "plain": Plain(), "listed": Listed(), "Plain": Plain, "Made": Made}
server = objspace.Server({**names, "take": take}, "tcp://127.0.0.1:0", policy=policy).start()
print(server.address, flush=True)
sys.stdin.read()
server.close()
"""

# Performed by the interpreter itself, which asks the object in its own way.
OWN_WAY = {"__class__"}


@pytest.fixture(scope="module")
def victims():
    """The URLs of one server for each policy."""
    special = [
        method
        for name, (_, method) in operations().items()
        if name not in ("CALL_METHOD", "GETATTR", "SETATTR", "DELATTR", "GET", "SET", "DELETE")
    ]
    processes = {}
    try:
        for policy in ("public", "listed"):
            processes[policy] = subprocess.Popen(
                [sys.executable, "-c", VICTIM, " ".join(special), policy],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
        yield {policy: p.stdout.readline().strip() for policy, p in processes.items()}
    finally:
        for process in processes.values():
            process.stdin.close()
            process.wait(10)
            process.stdout.close()


def said(peer, where, code, *arguments, kind=None):
    """What the other side said to an operation: its refusal, or None."""
    try:
        peer.ask(target(*where), code, *arguments, **({} if kind is None else {"kind": kind}))
    except Refused as refusal:
        return " ".join(map(str, refusal.args))
    return None


def test_each_operation_is_performed_or_refused_by_its_kind_under_the_public_policy(victims):
    with Peer(victims["public"]) as peer:
        bare, take = peer.export("bare"), peer.export("take")
        for kind, names in KINDS.items():
            for name in names.split():
                code, method = operations()[name]
                refusal = said(peer, bare, code, "public", "x", "y")
                ran = peer.ask(target(*take), operations()["CALL"][0])
                if kind in ("write", "internal"):
                    assert refusal is not None, name
                    assert "the policy of the other side (Policy.public) refuses" in refusal, name
                    assert ran == (), name
                elif kind == "attribute":
                    assert refusal is None or "PermissionError" not in refusal, name
                else:
                    assert refusal is None or "policy" not in refusal, (name, refusal)
                    # Whatever ran was that operation and no other.
                    assert set(ran) <= {method, "__len__", "__index__", "__iter__"}, (name, ran)


def test_each_operation_is_refused_unless_it_is_listed(victims):
    with Peer(victims["listed"]) as peer:
        bare, take = peer.export("bare"), peer.export("take")
        for kind, names in KINDS.items():
            for name in names.split():
                code, _ = operations()[name]
                # What is to be awaited comes with the operation whose result that is.
                extra = () if name == "AWAIT" else ("public", "x", "y")
                refusal = said(peer, bare, code, *extra)
                ran = peer.ask(target(*take), operations()["CALL"][0])
                if kind != "inert":
                    assert refusal is not None, name
                    assert "the policy of the other side (Policy.listed) refuses" in refusal, name
                    assert ran == (), name


def test_each_fetch_passes_the_gate(victims):
    with Peer(victims["listed"]) as peer:
        bare = peer.export("bare")
        for name, code in fetches().items():
            decision = FETCHES[name]
            question = (("public",), False) if decision == "path" else ("__iter__", "x")
            refusal = said(peer, bare, code, *question, kind=FETCH)
            if decision.startswith("as "):
                operation = decision.removeprefix("as ")
                if operation == "__dir__":
                    continue  # names tell what an object is, as repr does
                assert f"refuses {operation}" in refusal, (name, refusal)
            elif decision == "unanswered":
                assert "is not answered" in refusal, (name, refusal)
            elif decision == "root":
                assert "is a fetch from a session itself" in refusal, (name, refusal)
            elif decision == "path":
                # Each step of the way is an operation of its own; the first is refused as one.
                try:
                    walked = peer.ask(target(*bare), code, ("public",), False, kind=FETCH)
                    assert walked[0] == 0, (name, walked)
                except Refused as refused:
                    assert "the policy of the other side" in " ".join(map(str, refused.args))
            elif decision == "question":
                assert "a class is asked" in refusal, (name, refusal)
            else:
                assert "does not show frames" in refusal, (name, refusal)


def test_what_is_listed_can_be_used_and_nothing_else(victims):
    codes = {name: code for name, (code, _) in operations().items()}
    with Peer(victims["listed"]) as peer:
        listed, take = peer.export("listed"), peer.export("take")
        assert peer.ask(target(*listed), codes["LEN"]) == 7
        items = peer.ask(target(*listed), CALL_METHOD, "listed")
        # What a listed method returns can be read, and changed where that is listed.
        assert peer.ask(target(*items[:2]), GETITEM, 0) == 1
        assert said(peer, items[:2], codes["SETITEM"], 0, 5) is not None
        assert said(peer, items[:2], codes["IADD"], (5,)) is not None
        assert said(peer, items[:2], CALL_METHOD, "append", 3) is None
        assert said(peer, items[:2], CALL_METHOD, "clear") is not None
        for code, *arguments in [
            (CALL_METHOD, "unlisted"),
            (GETATTR, "unlisted"),
            (CALL_METHOD, "__setitem__", 0, 0),
            (codes["SETITEM"], 0, 0),
            (codes["CALL"],),
            (codes["SETATTR"], "items", 1),
            (GETATTR, "__class__"),
        ]:
            assert "policy" in (said(peer, listed, code, *arguments) or ""), (code, arguments)
        plain, kind, made = (peer.export(name) for name in ("plain", "Plain", "Made"))
        assert said(peer, plain, codes["LEN"]) is not None
        assert said(peer, kind, codes["CALL"]) is not None
        assert said(peer, made, codes["CALL"]) is None
        assert "made" in peer.ask(target(*take), codes["CALL"])
