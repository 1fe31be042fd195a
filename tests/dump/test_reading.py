"""The commands that read a log: what they print, and how they fail."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import pty
import re
import select
import sqlite3
import subprocess
import sys
import time

import objspace.dump
import pytest

SHOP = """\
class Order:
    def __init__(self, number):
        self.number = number
        self.state = "new"

    def pay(self):
        self.state = "paid"


def clean(totals):
    for name in list(totals):
        if name.startswith("b"):
            totals.pop(name)
    totals["c"] = 3


def main():
    totals = {"a": 1, "b": 2}
    order = Order(7)
    order.pay()
    clean(totals)
    try:
        return totals["b"] + 1
    except KeyError:
        return order.state


main()
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with a program and its log, shop.dump."""
    folder = tmp_path_factory.mktemp("shop")
    (folder / "shop.py").write_text(SHOP)
    done = objspace_in(folder, "dump", "run", "-q", "-o", "shop.dump", "shop.py")
    assert done.returncode == 0, done.stderr
    return folder


def objspace_in(folder, *arguments):
    return subprocess.run(
        [sys.executable, "-m", "objspace", *map(str, arguments)],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )


@pytest.fixture
def ask(folder):
    """Runs `objspace dump …` there; its output, of which the exit code is checked."""

    def run(*arguments, code=0):
        done = objspace_in(folder, "dump", *arguments)
        assert done.returncode == code, (done.stdout, done.stderr)
        return done.stdout

    return run


@pytest.fixture
def complaint(folder):
    """Runs `objspace dump …` there; the one line with which it fails."""

    def run(*arguments):
        done = objspace_in(folder, "dump", *arguments)
        assert done.returncode == 2, (done.stdout, done.stderr)
        assert done.stdout == ""
        assert len(done.stderr.splitlines()) == 1, done.stderr
        return done.stderr

    return run


@pytest.fixture
def log(folder):
    return objspace.dump.Log(folder / "shop.dump")


def line_of(text):
    """The number of the line of SHOP that holds this text."""
    return next(n for n, line in enumerate(SHOP.splitlines(), 1) if text in line)


def only(log, **query):
    (found,) = log.find(**query)
    return found


def test_show_prints_each_operation_once_with_its_nesting(ask, log):
    lines = ask("show", "shop.dump").splitlines()
    every = log.find()
    assert [int(line.split()[0]) for line in lines] == [each.number for each in every]
    for line, each in zip(lines, every, strict=True):
        indent = len(line[7:]) - len(line[7:].lstrip())
        assert indent == 2 * each.depth
    paid = line_of('"paid"')
    (paid,) = [line[7:] for line in lines if "state = 'paid'" in line]
    place = rf"shop\.py:{line_of('paid')} Order\.pay"
    assert re.fullmatch(rf"    Order#\d+\.state = 'paid'   {place}", paid)


def test_show_leaves_out_what_the_options_say(ask, log):
    assert len(ask("show", "shop.dump", "--limit", 3).splitlines()) == 3
    top = ask("show", "shop.dump", "--depth", 1).splitlines()
    assert len(top) == sum(each.depth == 0 for each in log.find())
    some = ask("show", "shop.dump", "--from", 4, "--to", 6).splitlines()
    assert [int(line.split()[0]) for line in some] == [4, 5, 6]
    raised = ask("show", "shop.dump", "--status", "raised").splitlines()
    assert len(raised) == 1
    assert "['b'] !! KeyError#" in raised[0]
    sets = ask("show", "shop.dump", "--type", "Order", "--op", "setattr").splitlines()
    assert len(sets) == 3
    assert len(ask("show", "shop.dump", "--thread", "MainThread").splitlines()) == len(log.find())


def test_show_under_an_operation_is_that_and_its_parts(ask, log):
    call = next(each for each in log.find(operations=["call"]) if "pay" in words(log, each))
    lines = ask("show", "shop.dump", "--under", call.number).splitlines()
    numbers = [int(line.split()[0]) for line in lines]
    wanted = [
        each.number
        for each in log.find()
        if call.number in [outer for outer, _ in log.stack(each.number)]
    ]
    assert numbers == wanted
    assert len(numbers) == 2


def words(log, each):
    from objspace._cli.dumping.words import Words

    return Words(log).expression(each)


def test_show_in_the_format_of_pypy(ask, log):
    lines = ask("show", "shop.dump", "--pypy").splitlines()
    for line in lines:
        assert re.fullmatch(r" *[\w<>]+ (CALL(   \S.*)?|RETURN( .*)?|RAISE  .*)", line), line
        assert line.index(line.split()[0]) + len(line.split()[0]) >= 15
    calls = sum(line[16:].startswith("CALL") for line in lines)
    assert calls == log.operations
    ends = sum(line[16:].startswith(("RETURN", "RAISE")) for line in lines)
    assert ends == sum(each.status is not None for each in log.find())
    # Every end is that of the innermost call that is open.
    stack = []
    for line in lines:
        name, what = line.split()[:2]
        if what == "CALL":
            stack.append(name)
        else:
            assert stack.pop() == name
    assert stack == []
    raised = [line for line in lines if " RAISE " in line]
    assert [line for line in raised if not line.endswith("  StopIteration")] == raised[-1:]
    assert raised[-1].startswith("        getitem RAISE  <KeyError")


def totals(log):
    """The operation that builds the dict."""
    return only(log, operations=["build"], function="main")


def test_object_tells_the_life_of_an_object(ask, log):
    build = totals(log)
    serial = build.value.serial
    text = ask("object", "shop.dump", serial)
    head, body = text.split("\n\n")
    assert head.startswith(f"#{serial} builtins.dict")
    assert f"born in   {build.number} build dict" in head
    assert "main()" in head
    assert "gone after #" in head
    numbers = [int(line[2:].split()[0]) for line in body.splitlines()]
    assert numbers == [each.number for each in log.find(object=serial)]
    changes = [line for line in body.splitlines() if line.startswith("*")]
    assert len(changes) == 2
    assert "pop(" in changes[0]
    assert "['c'] = 3" in changes[1]
    only_changes = ask("object", "shop.dump", f"#{serial}", "--changes").split("\n\n")[1]
    assert only_changes.splitlines() == changes


def test_object_with_a_long_life_shows_its_beginning_and_end(ask, log):
    build = totals(log)
    every = [each.number for each in log.find(object=build.value.serial)]
    text = ask("object", "shop.dump", build.value.serial, "--limit", 4).split("\n\n")[1]
    assert "--limit 0 shows all" in text
    rows = [line[2:] for line in text.splitlines() if "…" not in line]
    numbers = [int(row.split()[0]) for row in rows]
    assert numbers == every[:2] + every[-2:]


def test_why_names_the_last_writers_of_an_attribute(ask):
    text = ask("why", "shop.dump", "Order.state")
    paid, new = line_of('"paid"'), line_of('"new"')
    assert text.index(f"shop.py:{paid} Order.pay") < text.index(f"shop.py:{new} Order.__init__")
    assert 'self.state = "paid"' in text
    stack = [line for line in text.splitlines() if line.startswith("    in ")]
    assert ".pay(" in stack[0] or "pay(" in stack[0]
    assert "main()" in stack[1]
    last = ask("why", "shop.dump", "Order.state", "--count", 1)
    assert "'new'" not in last
    assert "nothing" in ask("why", "shop.dump", "Order.colour", code=1)


def test_why_of_a_line_names_who_wrote_what_it_read(ask):
    text = ask("why", "shop.dump", f"shop.py:{line_of('return totals')}")
    assert "!! KeyError" in text
    written = text[text.index("was last written by") :]
    assert f"shop.py:{line_of('totals.pop')} clean" in written
    assert "in #" in written
    # Another key of the same dict is no writer of this one.
    assert "['c'] = 3" not in written
    assert "no operation of" in ask("why", "shop.dump", f"shop.py:{line_of('try:')}", code=1)


def test_why_of_a_line_that_reads_an_attribute(ask):
    text = ask("why", "shop.dump", f"shop.py:{line_of('return order.state')}")
    assert re.search(r"Order#\d+\.state was last written by\n  \d+ Order#\d+\.state = 'paid'", text)


def test_grep_finds_words_and_filters(ask, log):
    assert len(ask("grep", "shop.dump", r"state = 'paid'").splitlines()) == 1
    assert ask("grep", "shop.dump", "PAID", code=1) == ""
    assert len(ask("grep", "-i", "shop.dump", "STATE = 'PAID'").splitlines()) == 1
    count = len(log.find(operations=["call"]))
    assert ask("grep", "shop.dump", "--op", "call", "-c").strip() == str(count)
    stack = ask("grep", "shop.dump", "paid", "--op", "setattr", "-s").splitlines()
    assert [line.strip()[:4] for line in stack[1:]] == ["in #"] * (len(stack) - 1)
    assert len(stack) == 3


def test_top_counts_what_happened_most(ask, log):
    text = ask("top", "shop.dump")
    assert re.search(rf"^by type, of {log.operations} operations$", text, re.MULTILINE)
    state = [line for line in text.splitlines() if re.search(r" state ", line)]
    assert state[0].split()[0] == "3"
    assert "1 read, 2 set" in state[0]
    by = ask("top", "shop.dump", "--by", "operation", "--count", 100)
    counts = {line.split()[-1]: int(line.split()[0]) for line in by.splitlines()[1:]}
    assert counts["call"] == len(log.find(operations=["call"]))
    assert sum(counts.values()) == log.operations


@pytest.fixture
def second(folder):
    """Records a variant of the program into second.dump."""

    def run(old, new):
        assert old in SHOP
        other = folder / "other"
        other.mkdir(exist_ok=True)
        (other / "shop.py").write_text(SHOP.replace(old, new))
        done = objspace_in(other, "dump", "run", "-q", "-o", "../second.dump", "shop.py")
        assert done.returncode == 0, done.stderr

    return run


def test_diff_of_two_equal_runs_finds_nothing(ask, second, log):
    second("class Order", "class Order")
    assert ask("diff", "shop.dump", "second.dump").startswith("no difference in ")


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ('"paid"', '"late"', "operand 2 is 'paid' or 'late'"),
        ("totals.pop(name)", "totals.get(name)", "getattr pop or getattr get"),
        ("totals.pop(name)", "dict(totals).pop(name)", "getattr pop or call"),
        ("return totals", "return dict(totals)", "getitem  or call"),
        ("    totals[", "    {}[", "setitem  or build dict"),
    ],
)
def test_diff_finds_the_first_difference(ask, second, old, new, told):
    second(old, new)
    text = ask("diff", "shop.dump", "second.dump", code=1)
    assert told in text.splitlines()[0]
    assert "--- shop.dump" in text
    assert "+++ second.dump" in text


def test_diff_tells_whether_an_object_is_the_same_as_before(folder, ask):
    for name, last in (("same", "first"), ("twin", "second")):
        text = f"first = [0]\nsecond = [0]\n[first, {last}]\n"
        (folder / "twins.py").write_text(text)
        objspace_in(folder, "dump", "run", "-q", "-o", f"{name}.dump", "twins.py")
    text = ask("diff", "same.dump", "twin.dump", code=1)
    assert "the same builtins.list as before" in text


def test_diff_of_a_run_that_ends_early(folder, ask, second):
    second("\n\nmain()\n", "\n\nmain()\nmain()\n")
    text = ask("diff", "shop.dump", "second.dump", code=1)
    assert "the first run ends here" in text.splitlines()[0]


def test_diff_compares_long_streams(folder, ask):
    program = "import sys\nitems = []\nfor n in range(30000):\n    items.append(n)\n{}\n"
    for name, end in (("long1", "items.sort()"), ("long2", "items.reverse()")):
        (folder / "long.py").write_text(program.format(end))
        objspace_in(folder, "dump", "run", "-q", "-o", f"{name}.dump", "long.py")
    text = ask("diff", "long1.dump", "long2.dump", code=1)
    assert "getattr sort or getattr reverse" in text.splitlines()[0]


def imported(events):
    """The depth of each slice, as a viewer finds it: by times alone, on each track."""
    depths = {}
    stacks: dict = {}
    slices = [event for event in events if event["ph"] in "XB"]
    times = [(event["tid"], event["ts"]) for event in slices]
    assert len(times) == len(set(times))
    for event in sorted(slices, key=lambda event: event["ts"]):
        stack = stacks.setdefault((event["pid"], event["tid"]), [])
        begin = round(event["ts"] * 1000)
        end = begin + round(event["dur"] * 1000) if event["ph"] == "X" else float("inf")
        while stack and stack[-1] <= begin:
            stack.pop()
        depths[event["args"]["number"]] = len(stack)
        assert begin < end
        assert not stack or end <= stack[-1]
        stack.append(end)
    return depths


def test_export_to_perfetto_is_a_trace_of_nested_events(folder, ask, log):
    ask("export", "shop.dump", "--perfetto", "trace.json")
    events = json.loads((folder / "trace.json").read_text())["traceEvents"]
    names = [event["args"]["name"] for event in events if event["ph"] == "M"]
    assert names == ["shop.py", "MainThread"]
    every = log.find()
    assert imported(events) == {each.number: each.depth for each in every}
    complete = {event["args"]["number"]: event for event in events if event["ph"] == "X"}
    for each in every:
        event = complete[each.number]
        assert isinstance(event["name"], str)
        assert event["cat"] == each.operation
        # Times are those of the log, but for what the clock does not tell apart.
        assert 0 <= round(event["ts"] * 1000) - each.time < 10_000
        assert event["args"]["status"] == each.status
    some = ask("export", "shop.dump", "--perfetto", "-", "--op", "setattr")
    assert sum(event["ph"] == "X" for event in json.loads(some)["traceEvents"]) == len(
        log.find(operations=["setattr"])
    )


def test_export_of_threads_and_of_what_never_ended(folder, ask):
    (folder / "threads.py").write_text(
        "import os, threading\n"
        "def numbers():\n    yield len('a')\n    yield len('b')\n"
        "def work():\n    for n in numbers():\n        str(n)\n"
        "threads = [threading.Thread(target=work) for _ in range(3)]\n"
        "for each in threads:\n    each.start()\n"
        "for each in threads:\n    each.join()\n"
        "def end():\n    objspace.dump.flush()\n    os._exit(0)\n"
        "import objspace.dump\nend()\n"
    )
    objspace_in(folder, "dump", "run", "-q", "-o", "threads.dump", "threads.py")
    log = objspace.dump.Log(folder / "threads.dump")
    every = log.find()
    assert any(each.status is None and each.depth == 0 for each in every)
    ask("export", "threads.dump", "--perfetto", "threads.json")
    events = json.loads((folder / "threads.json").read_text())["traceEvents"]
    assert imported(events) == {each.number: each.depth for each in every}
    tids = {event["tid"] for event in events if event["ph"] in "XB"}
    assert len(tids) == 4
    assert min(tids) == 1
    ask("export", "threads.dump", "--sqlite", "threads.db")
    with contextlib.closing(sqlite3.connect(folder / "threads.db")) as database:
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        # The tree, by the database alone, is that of the log.
        rows = database.execute(
            "WITH RECURSIVE tree(number, depth) AS ("
            "  SELECT number, 0 FROM operations WHERE parent IS NULL"
            "  UNION ALL SELECT o.number, tree.depth + 1 FROM operations o"
            "  JOIN tree ON o.parent = tree.number)"
            "SELECT number, depth FROM tree ORDER BY number"
        ).fetchall()
        assert rows == [(each.number, each.depth) for each in every]
        # What each thread did with a value of its own.
        rows = database.execute(
            "SELECT count(DISTINCT o.thread), count(*) FROM operations o JOIN sites USING (site)"
            " JOIN operands ON operands.operation = o.number AND position = 0"
            " WHERE function = 'work' AND sites.operation = 'call' AND operands.value = 'str'"
        ).fetchone()
        assert rows == (3, 6)


def test_export_to_json_lines_has_every_operation_and_value(folder, ask, log):
    ask("export", "shop.dump", "--jsonl", "log.jsonl")
    meta, *rows = map(json.loads, (folder / "log.jsonl").read_text().splitlines())
    assert meta["meta"]["argv"] == "shop.py"
    assert [row["number"] for row in rows] == [each.number for each in log.find()]
    (paid,) = [
        row for row in rows if row["operation"] == "setattr" and row["line"] == line_of("paid")
    ]
    assert paid["operands"][1]["value"] == "paid"
    assert paid["operands"][0]["type"] == "__main__.Order"
    assert paid["function"] == "Order.pay"
    assert ask("export", "shop.dump", "--jsonl", "-").splitlines()[1:] == [
        json.dumps(row) for row in rows
    ]


def test_export_to_sqlite_can_be_asked(folder, ask, log):
    ask("export", "shop.dump", "--sqlite", "log.db")
    ask("export", "shop.dump", "--sqlite", "log.db")
    with contextlib.closing(sqlite3.connect(folder / "log.db")) as database:
        (count,) = database.execute("SELECT count(*) FROM operations").fetchone()
        assert count == log.operations
        rows = database.execute(
            "SELECT operands, line FROM readable WHERE operation = 'setattr' AND name = 'state' "
            "ORDER BY number"
        ).fetchall()
        assert [line for _, line in rows] == [line_of('"new"'), line_of('"paid"')]
        assert rows[1][0].endswith(", 'paid'")
        (kinds,) = database.execute(
            "SELECT count(*) FROM objects WHERE type = '__main__.Order'"
        ).fetchone()
        assert kinds == 1


def test_export_never_overwrites_the_log_and_leaves_nothing_half_done(folder, complaint, log):
    before = (folder / "shop.dump").read_bytes()
    assert "is the log itself" in complaint("export", "shop.dump", "--jsonl", "shop.dump")
    assert (folder / "shop.dump").read_bytes() == before
    assert "cannot write" in complaint("export", "shop.dump", "--jsonl", "missing/out")
    assert not [name for name in os.listdir(folder) if name.startswith(".")]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["show", "missing.dump"], "there is no file missing.dump"),
        (["show", "."], "cannot read .: "),
        (["show", "shop.py"], "shop.py: this is not a log of objspace dump"),
        (["show", "shop.dump", "--op", "jump"], "there is no operation 'jump'; there are getattr"),
        (["show", "shop.dump", "--line", "x"], "write 12 or 12-20"),
        (["show", "shop.dump", "--thread", "T9"], "there is no thread 'T9'; there are: 0 (MainT"),
        (["show", "shop.dump", "--under", "99999"], "shop.dump has operations 1 to "),
        (["object", "shop.dump", "99999"], "shop.dump has no object #99999"),
        (["object", "shop.dump", "x"], "'x' is no serial"),
        (["object", "shop.dump"], "SERIAL"),
        (["why", "shop.dump", "nothing"], "neither FILE:LINE nor TYPE.ATTR"),
        (["grep", "shop.dump", "("], "'(' is no regular expression"),
        (["export", "shop.dump"], "--perfetto"),
        (["browse", "shop.dump"], "browse needs a terminal"),
    ],
)
def test_misuse_is_one_line(complaint, arguments, said):
    assert said in complaint(*arguments)


def test_a_cut_off_log_says_how_much_is_missing(folder):
    (folder / "many.py").write_text("items = {}\nfor n in range(60000):\n    items[n] = n\n")
    objspace_in(folder, "dump", "run", "-q", "-o", "many.dump", "many.py")
    whole = (folder / "many.dump").read_bytes()
    (folder / "cut.dump").write_bytes(whole[:-100])
    log = objspace.dump.Log(folder / "cut.dump")
    assert log.operations > 0
    done = objspace_in(folder, "dump", "grep", "cut.dump", "-c")
    assert done.stdout.strip() == str(log.operations)
    assert done.stderr == (
        f"objspace: cut.dump is cut off: its last {log.incomplete} bytes are no whole block, and "
        f"what they held is missing; {log.operations} operations before it are there\n"
    )


def test_a_reader_that_goes_away_is_no_error(folder):
    (folder / "many.py").write_text("items = {}\nfor n in range(60000):\n    items[n] = n\n")
    objspace_in(folder, "dump", "run", "-q", "-o", "many.dump", "many.py")
    with subprocess.Popen(
        [sys.executable, "-m", "objspace", "dump", "show", "many.dump"],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 1


def test_what_a_program_named_does_not_reach_the_terminal_as_it_is(folder, ask):
    (folder / "odd.py").write_text("exec(compile('x = [1]', 'a\\x1b[31mb.py', 'exec'))\n")
    objspace_in(folder, "dump", "run", "-q", "-o", "odd.dump", "odd.py")
    text = ask("show", "odd.dump")
    assert "\x1b" not in text
    assert "a\\x1b[31mb.py:1" in text


def test_children_are_the_direct_parts(log):
    every = log.find()
    for parent in [0, *(each.number for each in every)]:
        wanted = [each.number for each in every if each.parent == parent]
        assert [each.number for each in log.children(parent)] == wanted
        if len(wanted) > 1:
            rest = log.children(parent, after=wanted[0], limit=1)
            assert [each.number for each in rest] == wanted[1:2]
    with pytest.raises(KeyError):
        log.children(log.range[1] + 1)


def test_death_is_that_of_the_life(log):
    serials = {
        value.serial
        for each in log.find()
        for value in (*each.operands, each.value)
        if isinstance(value, objspace.dump.Ref)
    }
    deaths = {serial: log.death(serial) for serial in serials}
    assert deaths == {serial: log.life(serial).death for serial in serials}
    assert any(deaths.values())
    assert not all(deaths.values())


class Terminal:
    """A program in a pseudo-terminal."""

    def __init__(self, folder, *arguments):
        self.seen = ""
        pid, self.file = pty.fork()
        if pid == 0:
            os.chdir(folder)
            os.environ.update(TERM="xterm-256color", COLUMNS="150", LINES="40", NO_COLOR="")
            os.execv(sys.executable, [sys.executable, "-m", "objspace", *arguments])
        self.pid = pid

    def wait_for(self, text, seconds=30):
        """Waits until a text was written since the last time, without what moves the cursor."""
        end = time.monotonic() + seconds
        while text not in self.seen:
            left = end - time.monotonic()
            ready = left > 0 and select.select([self.file], [], [], left)[0]
            assert ready, f"{text!r} did not come: {self.seen[-2000:]!r}"
            try:
                data = os.read(self.file, 65536).decode(errors="replace")
            except OSError:
                data = ""
            assert data, f"it ended before {text!r} came: {self.seen[-2000:]!r}"
            self.seen += re.sub(r"\x1b\[[0-9;?<>=]*[a-zA-Z]", "", data)
        self.seen = ""

    def type(self, text):
        os.write(self.file, text.encode())

    def end(self):
        """Its exit code."""
        with contextlib.suppress(OSError):
            while os.read(self.file, 65536):
                pass
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


@pytest.mark.filterwarnings("default")
def test_a_terminal_gets_colours(folder):
    terminal = Terminal(folder, "dump", "show", "shop.dump", "--limit", "1")
    out = ""
    with contextlib.suppress(OSError):
        while data := os.read(terminal.file, 65536):
            out += data.decode()
    assert terminal.end() == 0
    assert "__build_class__" in out
    assert "\x1b[" in out


@pytest.mark.filterwarnings("default")
def test_browse_searches_unfolds_and_shows_source_and_lives(folder, log):
    pytest.importorskip("textual")
    terminal = Terminal(folder, "dump", "browse", "shop.dump")
    terminal.wait_for("main()")
    terminal.type("/")
    terminal.wait_for("a regular expression")
    terminal.type("state = 'paid'\r")
    # Inside main() and pay(), which were folded.
    terminal.wait_for("operand 1: 'paid'")
    terminal.type("n")
    terminal.wait_for("nothing after matches")
    terminal.type("g")
    terminal.wait_for("number of an operation")
    raised = only(log, status="raised")
    terminal.type(f"{raised.number}\r")
    terminal.wait_for("raised: KeyError")
    terminal.type("o")
    terminal.wait_for("serial of an object")
    terminal.type(f"{raised.operands[0].serial}\r")
    terminal.wait_for("gone after")
    terminal.type("q")
    assert terminal.end() == 0


@pytest.mark.filterwarnings("default")
def test_browse_folds_and_shows_the_source_beside(folder, log, monkeypatch):
    pytest.importorskip("textual")
    from objspace._cli.dumping.browse import Browser
    from textual.widgets import Static

    monkeypatch.chdir(folder)

    async def drive():
        app = Browser(log, "shop.dump")
        async with app.run_test(size=(150, 40)) as pilot:
            root = app.tree_of.root
            numbers = [node.data.number for node in root.children]
            assert numbers == [each.number for each in log.children(0)]
            main = next(
                each for each in log.find(operations=["call"]) if words(log, each) == "main()"
            )
            await pilot.press("g", *str(main.number), "enter")
            await pilot.pause()
            node = app.tree_of.cursor_node
            assert node.data.number == main.number
            assert not node.is_expanded
            await pilot.press("enter")
            await pilot.pause()
            assert node.is_expanded
            parts = [child.data.number for child in node.children]
            assert parts == [each.number for each in log.children(main.number)]
            await pilot.press("enter")
            await pilot.pause()
            assert not node.is_expanded
            paid = only(log, operations=["setattr"], function="Order.pay")
            await pilot.press("g", *str(paid.number), "enter")
            await pilot.pause()
            assert node.is_expanded
            source, detail = app.query_one("#source", Static), app.query_one("#detail", Static)
            shown = source.content
            assert shown.highlight_lines == {line_of('"paid"')}
            assert shown.code == SHOP
            text = str(detail.content)
            assert "operand 1: 'paid'" in text
            assert "in #" in text
            await pilot.press("q")

    asyncio.run(drive())
