"""A true session of the debugger, at a terminal, in the frames of another process."""

import os
import pty
import select
import subprocess
import sys
import textwrap
import time

import pytest

PROGRAM = """
import pdb, sys
import objspace

SETUP = '''
class Account:
    def __init__(self, owner):
        self.owner = owner
        self.history = [1, 2, 3]
    def __repr__(self):
        return f"<account of {self.owner}>"

total = 10
account = Account("ann")

def withdraw(account, amount, *rest, fee=0, **more):
    balance = 100
    steps = [amount, fee]
    if amount > balance:
        raise ValueError("not enough")

def run(amount):
    note = "about to withdraw"
    return withdraw(account, amount, 7, fee=2, why="rent")

def values():
    return account.owner, total
'''

with objspace.spawn(setup=SETUP) as remote:
    mine = "a local of this process"
    try:
        remote.run(500)
    except ValueError as error:
        caught = error
    pdb.post_mortem(caught.__traceback__)
    print("AFTER", remote.values())
"""
PROMPT = b"(Pdb) "


class Terminal:
    """A program at a pseudo-terminal, driven line by line."""

    def __init__(self, source, folder):
        script = folder / "program.py"
        script.write_text(textwrap.dedent(source))
        self.master, slave = pty.openpty()
        self.process = subprocess.Popen(
            [sys.executable, str(script)],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env={**os.environ, "TERM": "dumb", "PYTHON_COLORS": "0", "HOME": str(folder)},
        )
        os.close(slave)

    def until(self, end, limit=30):
        """What the program writes up to `end`, or up to its own end if that is `None`."""
        seen, last = b"", time.monotonic() + limit
        while end is None or not seen.endswith(end):
            ready, _, _ = select.select([self.master], [], [], max(0, last - time.monotonic()))
            assert ready, f"the program wrote only {seen!r}"
            try:
                more = os.read(self.master, 4096)
            except OSError:
                more = b""
            if not more:
                assert end is None, f"the program ended: {seen!r}"
                break
            seen += more
        return seen.decode().replace("\r\n", "\n")

    def say(self, line):
        """The answer to one command."""
        os.write(self.master, line.encode() + b"\n")
        answer = self.until(PROMPT)
        return answer.removesuffix(PROMPT.decode()).removeprefix(line).strip()

    def close(self):
        self.process.kill()
        self.process.wait(10)
        os.close(self.master)


@pytest.fixture
def debugger(tmp_path):
    terminal = Terminal(PROGRAM, tmp_path)
    terminal.until(PROMPT)
    yield terminal
    terminal.close()


def test_post_mortem_at_a_terminal(debugger):
    say = debugger.say
    assert say("p amount") == "500"
    assert say("p balance, steps") == "(100, [500, 2])"
    assert say("p amount + balance") == "600"
    assert say("pp more") == "{'why': 'rent'}"
    assert say("p account") == "<account of ann>"
    assert say("p account.history[1:]") == "[2, 3]"
    assert say("p len(account.history), type(account).__name__") == "(3, 'Account')"
    assert say("p total") == "10"
    assert say("args").splitlines() == [
        "account = <account of ann>",
        "amount = 500",
        "fee = 2",
        "rest = (7,)",
        "more = {'why': 'rent'}",
    ]
    listing = say("l")
    assert 'raise ValueError("not enough")' in listing
    assert "->" in listing
    assert "steps = [amount, fee]" in listing
    assert "return withdraw(account, amount, 7" in say("up")
    assert say("p note") == "'about to withdraw'"
    assert "NameError" in say("p balance")
    say("up")
    assert say("p mine") == "'a local of this process'"
    say("down")
    say("down")
    assert say("p balance") == "100"
    assert "undefined" not in say("whatis amount")
    assert "int" in say("whatis amount")
    assert say("display balance") == "display balance: 100"
    say("up")
    say("down")
    assert "balance: 100" in say("display")
    assert say("p nothing_of_the_kind").startswith("*** NameError")
    assert 'raise ValueError("not enough")' in say("ll")
    assert "withdraw" in say("where")


def test_assignment_in_the_debugger_changes_nothing_over_there(debugger):
    say = debugger.say
    say("!amount = 5")
    say("!total = 99")
    say("!account = 'mine'")
    say("!steps = []")
    assert say("p amount") == "5"
    say("up")
    assert say("p account.owner") == "'ann'"
    assert say("p total") == "10"
    os.write(debugger.master, b"q\n")
    assert "AFTER ('ann', 10)" in debugger.until(None)
    assert debugger.process.wait(10) == 0


def test_what_is_changed_on_purpose_is_changed(debugger):
    debugger.say("!account.owner = 'bob'")
    assert debugger.say("p account") == "<account of bob>"
    os.write(debugger.master, b"q\n")
    assert "AFTER ('bob', 10)" in debugger.until(None)
