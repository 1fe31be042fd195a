"""`objspace pickle inspect`: what a pickle contains, told without loading it."""

import os
import pickle
import re

import greenlet
import pytest
from objspace import pickling

SOURCE = """
from objspace import pickling

def count(n, log):
    seen = {"a": 1}
    for i in range(n):
        log.append(i)
        yield i

def closure():
    total = 5
    def inner():
        return total
    yield inner

async def waits():
    await Once()

class Once:
    def __await__(self):
        yield 1

def leaf(n):
    return pickling.capture()

def root(n):
    return leaf(n + 1)

def fails():
    marker = "here"
    raise ValueError(marker)
"""


@pytest.fixture
def inspect(command, tmp_path):
    def run(*values, path="", **options):
        file = tmp_path / "x.pickle"
        with open(file, "wb") as out:
            for value in values:
                pickling.dump(value, out, **options)
        done = command("pickle", "inspect", str(file), PYTHONPATH=path)
        assert done.stderr == ""
        assert done.returncode == 0
        return done.stdout

    return run


def begun(generator):
    next(generator)
    return generator


def test_a_generator(inspect, module):
    made = module(SOURCE)
    name = made.__name__
    generator = begun(made.count(4, [7, "x"]))
    text = inspect(generator, path=module.path[0])
    head, frame, *variables = text.splitlines()
    size = len(pickling.dumps(generator))
    assert re.fullmatch(
        rf"x.pickle: {size} bytes, format 1, written by cpython-\d+ \(bytecode \w{{8}}\), not signed",
        head,
    )
    assert re.fullmatch(
        rf"generator {name}.count\(\) at {name}.py:8, code by reference  \(\d+ bytes\)", frame
    )
    assert [line.strip() for line in variables[:4]] == [
        "n = 4",
        "log = [7, 'x', 0]",
        "seen = {'a': 1}",
        "i = 0",
    ]
    assert variables[4].startswith("    (on the stack) iter object")


def test_code_that_is_not_there(inspect, module):
    made = module(SOURCE)
    generator = begun(made.count(4, []))
    pickling.dumps(generator)
    (module.folder / f"{made.__name__}.py").unlink()
    text = inspect(generator)
    assert "code by reference, not the same here" in text
    assert "at instruction " in text
    assert "#0 = 4" in text


def test_code_by_value_needs_nothing(inspect, module):
    made = module(SOURCE)
    text = inspect(begun(made.closure()), code="value", key=b"k")
    assert " signed" in text
    assert "generator closure() at " in text
    assert ".py:14, code by value" in text
    assert "total = 5" in text
    assert re.search(r"inner = function 'closure.<locals>.inner', by value \(\d+ bytes\)", text)


def test_all_frames_of_a_chain(inspect, module):
    made = module(SOURCE)
    text = inspect(pickling.run(made.root, 1), path=module.path[0])
    lines = text.splitlines()
    assert lines[1].startswith("continuation of 2 frames")
    assert re.search(rf"frame {made.__name__}.root\(\) at {made.__name__}.py:27", lines[2])
    assert lines[3].strip() == "n = 1"
    assert re.search(rf"frame {made.__name__}.leaf\(\) at {made.__name__}.py:24", lines[4])
    assert lines[5].strip() == "n = 2"


def test_all_frames_of_a_greenlet(inspect):
    def wait(n):
        return greenlet.getcurrent().parent.switch(n)

    def begin(n):
        return wait(n + 1)

    made = greenlet.greenlet(begin)
    text = inspect(made)
    assert text.splitlines()[1].startswith("greenlet, fresh or dead  (")
    made.switch(1)
    for code in ("auto", "value"):
        text = inspect(made, code=code)
        assert text.splitlines()[1].startswith("greenlet of 2 frames  (")
        where = r"at .*test_inspect.py:\d+, code [^\n]*\n"
        frames = rf"frame .*begin\(\) {where} +n = 1\n( +wait = .*\n)+ *frame .*wait\(\) {where} +n = 2\n"
        assert re.search(frames, text), text
    made.throw()


def test_what_is_inside_of_other_objects_is_found(inspect, module):
    made = module(SOURCE)
    coroutine = made.waits()
    coroutine.send(None)
    try:
        made.fails()
    except ValueError as error:
        error.__traceback__ = error.__traceback__.tb_next
        text = inspect({"k": [coroutine, error]}, path=module.path[0])
    coroutine.close()
    assert f"coroutine {made.__name__}.waits() at {made.__name__}.py:17" in text
    assert "__await__() at" in text
    assert f"frame {made.__name__}.fails() at {made.__name__}.py:31" in text
    assert "marker = 'here'" in text
    assert text.splitlines()[-1].startswith("contains {'k': list of 2 (")


def test_several_pickles_and_ordinary_ones(inspect, command, tmp_path):
    text = inspect(1, ["two"])
    assert text.count("x.pickle: ") == 2
    assert text.splitlines()[1::2] == ["contains 1", "contains ['two']"]
    file = tmp_path / "plain"
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        data = pickle.dumps({"a": (1, 2.5, b"x", {3}, None, True)}, protocol)
        file.write_bytes(data)
        done = command("pickle", "inspect", str(file))
        assert done.stderr == ""
        assert f"plain: {len(data)} bytes, an ordinary pickle" in done.stdout
        assert "contains {'a': " in done.stdout
        assert protocol < 4 or "(1, 2.5, b'x', {3}, None, True)" in done.stdout


def test_nothing_is_loaded(command, tmp_path):
    marker = tmp_path / "touched"
    (tmp_path / "trap.py").write_text(f"open({str(marker)!r}, 'w')\ndef f(): pass\n")
    for text in (
        f"cos\nsystem\n(S'touch {marker}'\ntR.",
        "ctrap\nf\n(tR.",
        "cobjspace._pickles\nimport_module\n(S'trap'\ntR.",
        "cobjspace._pickles\ncode_reference\n(S'trap'\nS'f'\nS'0123456789abcdef'\ntR.",
    ):
        file = tmp_path / "evil"
        file.write_bytes(text.encode())
        done = command("pickle", "inspect", str(file), PYTHONPATH=str(tmp_path))
        assert done.returncode in (0, 2)
        assert "Traceback" not in done.stderr
        assert not marker.exists()


def test_what_cannot_be_read_is_told_in_one_line(command, tmp_path):
    data = pickling.dumps([1, 2])
    for content, message in [
        (b"", "is empty"),
        (b"no pickle", "no pickle, or a damaged one"),
        (data[:5], "no pickle, or a damaged one"),
        (data[:-3], "no pickle, or a damaged one"),
        (data[:4] + b"\x07" + data[5:], "format 7"),
    ]:
        file = tmp_path / "bad"
        file.write_bytes(content)
        done = command("pickle", "inspect", str(file))
        assert done.returncode == 2
        assert message in done.stderr
        assert done.stderr.count("\n") == 1
    done = command("pickle", "inspect", str(tmp_path / "none"))
    assert "No such file" in done.stderr
    assert command("pickle").returncode == 2
    assert os.path.basename(str(tmp_path))
