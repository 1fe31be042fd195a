"""Threads, tasks, nesting, filters, rings, forks, exits, other tools."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
import subprocess
import sys
import threading
import time
import types

import objspace.dump
import pytest

from .conftest import shown, told


def names(log, **query):
    return [each.name for each in log.find(**query)]


def test_threads_are_told_apart(record):
    class Box:
        pass

    def work(box, value, barrier):
        for number in range(50):
            barrier.wait()
            box.value = value
            box.number = number

    def program():
        barrier = threading.Barrier(2)
        threads = [
            threading.Thread(target=work, args=(Box(), value, barrier), name=f"worker {value}")
            for value in (1, 2)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    log = record(program, functions=[work.__qualname__])
    index = {name: number for number, _, name in log.threads}
    assert {"worker 1", "worker 2"} <= set(index)
    for value in (1, 2):
        rows = log.find(thread=index[f"worker {value}"], operations=["setattr"])
        assert [each.operands[1] for each in rows if each.name == "value"] == [value] * 50
        assert [each.operands[1] for each in rows if each.name == "number"] == list(range(50))
        assert {each.depth for each in rows} == {0}
    assert not log.find(status="lost")


def test_tasks_are_told_apart(record):
    class Box:
        pass

    async def inner(box, value):
        await asyncio.sleep(0)
        box.inner = value

    async def work(box, value):
        for _ in range(5):
            box.value = value
            await asyncio.sleep(0)
            await inner(box, value)
            box.after = value

    async def both():
        tasks = [asyncio.create_task(work(Box(), value), name=f"job {value}") for value in (1, 2)]
        await asyncio.gather(*tasks)

    log = record(asyncio.run, both(), functions=[each.__qualname__ for each in (inner, work, both)])
    jobs = {name: serial for serial, name in log.tasks.items()}
    assert {"job 1", "job 2"} <= set(jobs)
    for value in (1, 2):
        rows = log.find(task=jobs[f"job {value}"], operations=["setattr"])
        assert len(rows) == 15
        assert {each.operands[1] for each in rows} == {value}
    assert not log.find(status="lost")


def tree(log):
    """Each operation with its depth, and that its parent is what the stack says."""
    rows = []
    for each in log.find():
        stack = [number for number, _ in log.stack(each.number)]
        assert stack[-1] == each.number
        assert ([0, *stack])[-2] == each.parent
        assert len(stack) - 1 == each.depth
        rows.append((each.depth, each.operation, each.name, each.status))
    return rows


def test_nesting_across_exceptions_and_generators(record):
    class Box:
        @property
        def bad(self):
            return [].pop()

    def fail(box):
        return box.bad

    def numbers():
        try:
            got = yield 1
            yield got + 1
        finally:
            len("end")

    def program():
        box = Box()
        try:
            fail(box)
        except IndexError:
            pass
        generator = numbers()
        next(generator)
        generator.send(41)
        generator.close()
        return -1

    log = record(program, functions=["program", "fail", "numbers", "Box.bad"])
    assert [row for row in tree(log) if row[1] not in ("setcell",)] == [
        (0, "call", "", "result"),
        (0, "call", "", "raised"),
        (1, "getattr", "bad", "raised"),
        (2, "build", "list", "result"),
        (2, "getattr", "pop", "result"),
        (2, "call", "", "raised"),
        (0, "call", "", "result"),
        (0, "call", "", "result"),
        (1, "yield", "", "done"),
        (0, "getattr", "send", "result"),
        (0, "call", "", "result"),
        (1, "resume", "", "done"),
        (1, "binary", "+", "result"),
        (1, "yield", "", "done"),
        (0, "getattr", "close", "result"),
        (0, "call", "", "result"),
        (1, "call", "", "result"),
    ]


def test_a_finalizer_is_no_part_of_the_operation_before_it(record):
    class Box:
        def __del__(self):
            len("gone")

    def program(make, other):
        box = make()
        box = other.attr
        return box

    class Other:
        attr = 3

    log = record(program, Box, Other(), functions=["program", "Box.__del__"])
    rows = told(log)
    assert [(each.operation, each.depth, each.value) for each in log.find()][1:] == [
        ("getattr", 0, 3),
        ("call", 0, 4),
    ], rows


def test_every_operation_has_its_end(record):
    def deep(n):
        return 0 if n == 0 else 1 + deep(n - 1)

    log = record(deep, 200)
    assert max(each.depth for each in log.find()) == 200 * 1
    assert all(each.status == "result" for each in log.find())


def test_filters(record, tmp_path):
    class Order:
        def __init__(self):
            self.state = "new"
            self.total = 0

        def pay(self):
            self.state = "paid"

    class Special(Order):
        pass

    class Other:
        state = 1

    other, order = Other(), Order()

    def program():
        special = Special()
        special.pay()
        order.pay()
        other.state = 2
        {}.get(order)
        return [order]

    anything = {"functions": ["program", "Order"[:0] + "pay", "__init__"]}
    log = record(program, attr="Order.state", **anything)
    assert [(each.operation, each.operands[-1]) for each in log.find()] != []
    values = [shown(log, each.operands[-1]) for each in log.find()]
    assert values == ["new", "paid", "paid"]
    order.state = "new"
    log = record(program, only_objects=[order], **anything)
    assert [each.operation for each in log.find()] == [
        "getattr",
        "call",
        "setattr",
        "call",
        "build",
    ]
    log = record(program, types=[Special], functions=["program"])
    assert [each.name for each in log.find()] == ["pay", ""]
    log = record(program, operations=["build"], functions=["program"])
    assert [each.name for each in log.find()] == ["dict", "list"]
    log = record(program, modules=["json"], functions=[])
    assert log.operations == 0
    log = record(program, exclude=[__name__], functions=[])
    assert not [each for each in log.find() if log.site(each.site).file == __file__]
    log = record(program, files=["dump/test_*.py"], functions=["program"])
    assert log.operations > 5
    log = record(program, files=["dump/other_*.py"], functions=["program"])
    assert log.operations == 0


@pytest.mark.parametrize(
    ("last", "ended"),
    [
        ("order.state = 2", ("setattr", "done", None)),
        ("seen = order.state", ("getattr", "result", 1)),
        ("del order.state", ("delattr", "done", None)),
        ("order.missing", ("getattr", "raised", None)),
    ],
)
def test_the_last_operation_before_the_end_has_ended(tmp_path, last, ended):
    path = tmp_path / "log"
    source = f"""
def program():
    with contextlib.suppress(AttributeError), objspace.dump.record(path, attr=["state", "missing"]):
        order.state = 1
        {last}
"""
    names = {
        "contextlib": contextlib,
        "objspace": objspace,
        "path": path,
        "order": types.SimpleNamespace(),
    }
    exec(source, names)
    names["program"]()
    *_, operation = objspace.dump.Log(path).find()
    value = None if operation.status == "raised" else operation.value
    assert (operation.operation, operation.status, value) == ended


def test_what_is_under_way_at_the_end_stays_open(tmp_path):
    path = tmp_path / "log"

    def program():
        objspace.dump.start(path, operations=["call"], functions=[program.__qualname__])
        len("x")
        objspace.dump.stop()

    program()
    assert [each.status for each in objspace.dump.Log(path).find()] == ["result", None]


def test_misuse_is_said(tmp_path):
    path = tmp_path / "log"
    with pytest.raises(ValueError, match="there is no operation 'getatr'; there are getattr, "):
        objspace.dump.start(path, operations=["getatr"])
    with pytest.raises(TypeError, match="modules must be several strings, not one"):
        objspace.dump.start(path, modules="json")
    with pytest.raises(TypeError, match="types must be classes or their names, not int"):
        objspace.dump.start(path, types=[3])
    with pytest.raises(FileNotFoundError):
        objspace.dump.start(tmp_path / "none" / "log")
    with pytest.raises(RuntimeError, match="nothing is being recorded"):
        objspace.dump.stop()
    with objspace.dump.record(path), pytest.raises(RuntimeError, match="under way already"):
        objspace.dump.start(path)
    assert not objspace.dump.recording()
    path.write_text("no log")
    with pytest.raises(ValueError, match="not a log"):
        objspace.dump.Log(path)


def test_a_ring_is_written_for_an_exception_only(tmp_path):
    path = tmp_path / "log"

    def program():
        for number in range(200_000):
            len("x" * (number % 7))

    with objspace.dump.record(path, last=1000):
        program()
    assert not path.exists()
    with pytest.raises(ZeroDivisionError), objspace.dump.record(path, last=1000):
        program()
        print(1 / 0)
    log = objspace.dump.Log(path)
    assert 1000 <= log.operations < 100_000
    last = log.find(backwards=True, limit=30)
    assert [each for each in last if each.status == "raised" and each.name == "/"]
    # What was defined in blocks that were dropped is still known.
    calls = log.find(operations=["call"], function="program", limit=1)
    assert log.object(calls[0].operands[0].serial).text == "builtins.len"


def test_a_log_ends_at_its_largest_size(tmp_path):
    path = tmp_path / "log"
    objspace.dump.start(path, max_bytes=500_000)
    for number in range(300_000):
        str(number * 7919)
    summary = objspace.dump.stop()
    assert summary.dropped > 0
    assert path.stat().st_size < 510_000
    log = objspace.dump.Log(path)
    assert log.operations + summary.dropped == summary.operations
    assert "largest size" in log.notes[-1][1]


def test_a_watched_list_shows_what_c_code_does(record):
    watched = objspace.dump.watch([3, 1, 2])

    def program():
        sorted(watched)
        watched.append(4)
        try:
            watched[10]
        except IndexError:
            pass

    log = record(program)
    rows = [(each.name, each.status, each.depth) for each in log.find(operations=["watch"])]
    assert ("__iter__", "result", 1) in rows
    assert ("__getitem__", "raised", 1) in rows
    assert all(depth == 1 for _, _, depth in rows)
    first = log.find(operations=["watch"])[0]
    assert log.object(first.operands[0].serial).type_name == "builtins.list"
    outer = log.operation(first.parent)
    assert log.object(outer.operands[0].serial).text == "builtins.sorted"
    assert watched == [3, 1, 2, 4]


def test_keep_alive_keeps_alive_until_the_end(tmp_path):
    import weakref

    class Box:
        pass

    def program():
        box = Box()
        box.x = 1
        return weakref.ref(box)

    with objspace.dump.record(tmp_path / "log", keep_alive=True):
        reference = program()
        assert reference() is not None
    assert reference() is None


def test_recording_leaves_reference_counts_alone(tmp_path):
    box = [object()]

    def program():
        return [len(box), box[0], {1: box}]

    before = sys.getrefcount(box), sys.getrefcount(box[0])
    with objspace.dump.record(tmp_path / "log"):
        program()
    assert (sys.getrefcount(box), sys.getrefcount(box[0])) == before


def test_it_can_be_done_again_and_again(tmp_path):
    def program():
        return len("abc")

    for number in range(5):
        with objspace.dump.record(tmp_path / "log", functions=["program"]):
            program()
        log = objspace.dump.Log(tmp_path / "log")
        assert [each.value for each in log.find()] == [3], number


PROGRAM = """
    import os, sys, objspace.dump
    def work():
        total = 0
        for number in range(int(sys.argv[1]) if len(sys.argv) > 1 else 1000):
            total += len(str(number))
        return total
"""


def test_a_program_that_just_ends_has_its_log(script):
    _, path = script(PROGRAM + "    objspace.dump.start('log')\n    work()\n")
    log = objspace.dump.Log(path)
    assert log.incomplete is None
    assert len(log.find(operations=["inplace"])) == 1000


def test_an_uncaught_exception_writes_the_ring(script):
    source = PROGRAM + "    objspace.dump.start('log', last=100)\n    work()\n"
    _, path = script(source)
    assert not path.exists()
    result, path = script(source + "    1/0\n", check=False)
    assert "ZeroDivisionError" in result.stderr
    log = objspace.dump.Log(path)
    assert "/" in names(log, status="raised", operations=["binary"])


def test_forks(script):
    source = (
        PROGRAM
        + """
    objspace.dump.start('log', functions=['work'], forks={forks!r})
    child = os.fork()
    work()
    if child:
        assert os.waitpid(child, 0)[1] == 0
        print(child)
    """
    )
    result, path = script(source.format(forks="stop"))
    log = objspace.dump.Log(path)
    assert len(log.find(operations=["inplace"])) == 1000
    result, path = script(source.format(forks="follow"))
    child = path.with_name(f"log.{result.stdout.strip()}")
    for each in (path, child):
        assert len(objspace.dump.Log(each).find(operations=["inplace"])) == 1000


def test_deeply_nested_containers_die_without_a_crash(script):
    script("""
        import objspace.dump
        with objspace.dump.record('log'):
            for make in (lambda x: [x], lambda x: (x,), lambda x: {1: x}):
                nested = None
                for _ in range(200_000):
                    nested = make(nested)
                del nested
    """)


def killed(tmp_path, index):
    """Kills a program at a moment of its own, while it counts: the path of its log."""
    path = tmp_path / f"log{index}"
    source = (
        "import sys, objspace.dump\n"
        f"objspace.dump.start({str(path)!r})\n"
        "print('ready', flush=True)\n"
        "n = 0\n"
        "while True:\n"
        "    n += len(str(n))\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", source], stdout=subprocess.PIPE, cwd=tmp_path
    ) as process:
        assert process.stdout.readline() == b"ready\n"
        limit = time.monotonic() + 20
        wanted = 16 + index * 40_000
        while path.stat().st_size < wanted and time.monotonic() < limit:
            time.sleep(0.001)
        # Blocks come at intervals; the moment between two of them is random.
        time.sleep(random.uniform(0, 0.05))
        process.send_signal(signal.SIGKILL)
        process.wait()
    return path


@pytest.mark.slow
@pytest.mark.parametrize("index", range(int(os.environ.get("OBJSPACE_KILLS", "3"))))
def test_the_log_of_a_killed_program_is_whole_up_to_its_last_block(tmp_path, index):
    log = objspace.dump.Log(killed(tmp_path, index))
    count = log.operations
    assert count > 0 or index == 0
    position, n = 0, 0
    for number in range(1, count + 1, 10_000):
        rows = log.find(range=(number, number + 9_999))
        assert [each.number for each in rows] == list(
            range(number, min(number + 10_000, count + 1))
        )
        position = rows[-1].number
        for each in rows:
            if each.operation == "inplace":
                assert each.operands == (n, len(str(n)))
                n += len(str(n))
                assert each.value == n or (each.status is None and each.number == count)
    assert position == count


def test_a_debugger_and_coverage_go_on_working(tmp_path):
    lines = []

    def tracer(frame, event, _):
        if frame.f_code is program.__code__:
            lines.append((event, frame.f_lineno - frame.f_code.co_firstlineno))
        return tracer

    def program():
        a = 1
        b = len("abc")
        return a + b

    def traced():
        old = sys.gettrace()
        sys.settrace(tracer)
        try:
            program()
        finally:
            sys.settrace(old)

    traced()
    plain = lines.copy()
    assert ("line", 2) in plain
    lines.clear()
    # Set before, and set while recording.
    with objspace.dump.record(tmp_path / "log", functions=["program"]):
        traced()
        program()
    assert lines == plain
    log = objspace.dump.Log(tmp_path / "log")
    assert names(log, operations=["binary"]) == ["+", "+"]
    lines.clear()
    sys.settrace(tracer)
    try:
        with objspace.dump.record(tmp_path / "log", functions=["program"]):
            program()
        program()
    finally:
        sys.settrace(None)
    assert lines == plain + plain
    log = objspace.dump.Log(tmp_path / "log")
    assert names(log, operations=["binary"]) == ["+"]


@pytest.mark.skipif(sys.version_info < (3, 12), reason="sys.monitoring is new in 3.12")
def test_other_monitoring_tools_go_on_working(tmp_path):
    monitoring = sys.monitoring
    calls = []

    def program():
        return len("abc")

    monitoring.use_tool_id(monitoring.COVERAGE_ID, "test")
    try:
        monitoring.register_callback(
            monitoring.COVERAGE_ID, monitoring.events.PY_START, lambda code, _: calls.append(code)
        )
        monitoring.set_local_events(
            monitoring.COVERAGE_ID, program.__code__, monitoring.events.PY_START
        )
        program()
        with objspace.dump.record(tmp_path / "log", functions=["program"]):
            program()
        program()
    finally:
        monitoring.set_local_events(monitoring.COVERAGE_ID, program.__code__, 0)
        monitoring.free_tool_id(monitoring.COVERAGE_ID)
    assert calls == [program.__code__] * 3
    assert objspace.dump.Log(tmp_path / "log").operations == 1
    assert not any(monitoring.get_tool(number) for number in (2, 3, 4))
