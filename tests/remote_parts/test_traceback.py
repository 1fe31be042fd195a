"""Tracebacks: described, carried, and looked at with the tools people use."""

from __future__ import annotations

import gc
import inspect
import io
import linecache
import logging
import pdb
import sys
import traceback
import types
import weakref
from pathlib import Path
from typing import Any

import pytest
from far import Far, Token
from objspace._core import _parts

SOME_GLOBAL = 7


def inner(a: int, b: int = 2, *rest: int, k: int = 1, **more: int) -> float:
    values = [a, b]
    text = "text"  # noqa: F841
    return a / (len(values) - 2)  # the line that fails


def middle(x: int) -> float:
    doubled = x * 2
    return inner(doubled, 3, 4, k=5, extra=6)


def failure() -> BaseException:
    try:
        middle(5)
    except ZeroDivisionError as error:
        return error
    raise AssertionError


def raised_here(error: BaseException, tb: Any) -> BaseException:
    try:
        raise type(error)(*error.args).with_traceback(tb)
    except BaseException as caught:
        return caught


def debugger(tb: Any, *commands: str) -> str:
    out = io.StringIO()
    debugger = pdb.Pdb(
        stdin=io.StringIO("\n".join([*commands, "q"]) + "\n"),
        stdout=out,
        nosigint=True,
        readrc=False,
    )
    debugger.reset()
    debugger.interaction(None, tb)
    return out.getvalue()


def test_nothing_is_asked_to_build_and_print(far: Far) -> None:
    error = failure()
    tb = far.traceback(error)
    assert isinstance(tb, types.TracebackType)
    assert isinstance(tb.tb_frame, types.FrameType)
    caught = raised_here(error, tb)
    printed = "".join(traceback.format_exception(caught))
    direct = "".join(traceback.format_tb(error.__traceback__))
    assert direct in printed
    assert "return a / (len(values) - 2)" in printed
    assert printed.index("raised_here") < printed.index("in middle") < printed.index("in inner")
    assert far.asked == []


def test_positions_give_the_same_carets(far: Far) -> None:
    error = failure()
    printed = "".join(traceback.format_tb(far.traceback(error)))
    assert "~^~" in printed
    assert printed == "".join(traceback.format_tb(error.__traceback__))


def test_frames_look_like_the_originals(far: Far) -> None:
    error = failure()
    mine, theirs = error.__traceback__, far.traceback(error)
    while mine is not None:
        assert theirs.tb_lineno == mine.tb_lineno
        one, other = theirs.tb_frame.f_code, mine.tb_frame.f_code
        for name in (
            "co_name",
            "co_qualname",
            "co_filename",
            "co_firstlineno",
            "co_argcount",
            "co_kwonlyargcount",
        ):
            assert getattr(one, name) == getattr(other, name)
        assert type(theirs.tb_frame.f_globals) is dict
        assert theirs.tb_frame.f_globals["__name__"] == __name__
        assert theirs.tb_frame.f_lineno == mine.tb_lineno
        mine, theirs = mine.tb_next, theirs.tb_next
    assert theirs is None


def test_locals_are_fetched_once_when_looked_at(far: Far) -> None:
    frame = innermost(far.traceback(failure()))
    found = frame.f_locals
    assert far.asked == []
    assert found["a"] == 10
    assert found["values"] == [10, 3]
    assert list(found) == ["a", "b", "k", "rest", "more", "values", "text"]
    assert len(found) == 7
    assert "text" in found
    assert "SOME_GLOBAL" not in found
    assert found.get("nothing", 1) == 1
    assert dict(found)["rest"] == (4,)
    assert {**found}["more"] == {"extra": 6}
    assert found.copy() == dict(found.items())
    assert far.asked == [("locals",)]
    assert found["SOME_GLOBAL"] == 7
    assert far.asked == [("locals",), ("global", "SOME_GLOBAL")]
    with pytest.raises(KeyError):
        found["nothing"]
    from collections.abc import Mapping

    assert isinstance(found, Mapping)


def test_assignment_stays_here(far: Far) -> None:
    error = failure()
    frame = innermost(far.traceback(error))
    frame.f_locals["a"] = 99
    assert frame.f_locals["a"] == 99
    assert dict(frame.f_locals)["a"] == 99
    assert innermost(error.__traceback__).f_locals["a"] == 10
    with pytest.raises(KeyError):
        del frame.f_locals["b"]
    assert frame.f_locals["b"] == 3


def innermost(tb: Any) -> Any:
    while tb.tb_next is not None:
        tb = tb.tb_next
    return tb.tb_frame


def test_debugger_walks_and_evaluates(far: Far) -> None:
    error = failure()
    caught = raised_here(error, far.traceback(error))
    out = debugger(
        caught.__traceback__,
        "w",
        "args",
        "p a, values",
        "pp more",
        "whatis values",
        "p SOME_GLOBAL",
        "p len(values) + len(text)",
        "p nonsense",
        "up",
        "p doubled",
        "down",
        "p text",
        "display b",
    )
    assert "(10, [10, 3])" in out
    assert "a = 10\nb = 3\nk = 5\nrest = (4,)\nmore = {'extra': 6}" in out
    assert "<class 'list'>" in out
    assert "(Pdb) 7\n" in out
    assert "(Pdb) 6\n" in out
    assert "NameError" in out
    assert "'text'" in out
    assert "display b: 3" in out
    assert "-> return a / (len(values) - 2)  # the line that fails" in out
    assert [asked for asked in far.asked if asked[0] == "locals"] == [("locals",)] * 2
    assert "Error" not in out.replace("NameError", "").replace("ZeroDivisionError", "")


def test_debugger_assigns_nothing_remote(far: Far) -> None:
    error = failure()
    out = debugger(
        far.traceback(error),
        "!a = 3",
        "p a",
        "!new = a + 1",
        "p new, a",
        "p [v + new for v in (1, 2)]",
    )
    assert "(Pdb) 3\n" in out
    assert "(4, 3)" in out
    assert innermost(error.__traceback__).f_locals["a"] == 10
    assert "new" not in innermost(error.__traceback__).f_locals
    assert not {asked[0] for asked in far.asked} - {"locals", "global"}


def test_debugger_lists_source(far: Far) -> None:
    error = failure()
    out = debugger(far.traceback(error), "l", "ll", "up", "ll")
    assert "->\t    return a / (len(values) - 2)" in out
    assert "def inner(a: int" in out
    assert "def middle(x: int)" in out
    assert "*** " not in out


def test_inspect_reads_the_frames(far: Far) -> None:
    error = failure()
    frames = inspect.getinnerframes(far.traceback(error), context=3)
    assert [frame.function for frame in frames] == ["failure", "middle", "inner"]
    assert "return a / (len(values) - 2)" in frames[-1].code_context[1]  # type: ignore[index]
    assert inspect.getargvalues(frames[-1].frame).locals["a"] == 10
    assert inspect.getargvalues(frames[-1].frame).args[:2] == ["a", "b"]


def test_logging_prints_it(far: Far, caplog: pytest.LogCaptureFixture) -> None:
    error = failure()
    caught = raised_here(error, far.traceback(error))
    with caplog.at_level(logging.ERROR):
        logging.getLogger("test").error("failed", exc_info=caught)
    assert "in inner" in caplog.text


def test_rich_shows_remote_locals(far: Far) -> None:
    console = pytest.importorskip("rich.console")
    rich_traceback = pytest.importorskip("rich.traceback")
    error = failure()
    caught = raised_here(error, far.traceback(error))
    out = io.StringIO()
    shown = rich_traceback.Traceback.from_exception(
        type(caught), caught, caught.__traceback__, show_locals=True
    )
    console.Console(file=out, width=120).print(shown)
    assert "values = [10, 3]" in out.getvalue()
    assert "return a / (len(values) - 2)" in out.getvalue()


def run_elsewhere(path: Path, source: str) -> BaseException:
    """Runs a file as another machine would have it."""
    code = compile(source, str(path), "exec")
    try:
        exec(code, {"__name__": "elsewhere", "__loader__": Loader(source)})
    except Exception as error:
        error.__traceback__ = error.__traceback__.tb_next  # type: ignore[union-attr]
        return error
    raise AssertionError


class Loader:
    def __init__(self, source: str) -> None:
        self.source = source

    def get_source(self, name: str) -> str:
        return self.source


THEIRS = "def work(n):\n    # theirs\n    return 1 / n\n\nwork(0)\n"


@pytest.fixture(autouse=True)
def _clean_linecache() -> Any:
    yield
    linecache.clearcache()


def carried(far: Far, error: BaseException) -> Any:
    """The traceback as if it came from another machine: then its files are not stamped as ours."""
    entries = far.entries(error.__traceback__)
    # The other machine's line cache is this one's, in this test.
    linecache.clearcache()
    return _parts.build_traceback(entries, far.access, "tcp://far:1")


def test_source_of_a_file_that_is_not_here(far: Far, tmp_path: Path) -> None:
    path = tmp_path / "not_here.py"
    entries = far.entries(run_elsewhere(path, THEIRS).__traceback__)
    # From here on their line cache finds the text by the name alone.
    assert linecache.getline(str(path), 3) == "    return 1 / n\n"
    linecache.clearcache()
    text = Text(THEIRS, far)
    tb = _parts.build_traceback(entries, text.access, "tcp://far:1")
    assert text.asked == 0
    assert tb.tb_frame.f_code.co_filename == str(path)
    printed = "".join(traceback.format_tb(tb))
    assert "return 1 / n" in printed
    assert "work(0)" in printed
    assert text.asked == 1
    assert linecache.getline(str(path), 3) == "    return 1 / n\n"


def test_two_others_with_files_of_one_name(far: Far, tmp_path: Path) -> None:
    path = tmp_path / "on_both.py"
    error = run_elsewhere(path, THEIRS)
    entries = far.entries(error.__traceback__)
    linecache.clearcache()
    one, two = Text(THEIRS, far), Text(THEIRS.replace("theirs", "others"), far)
    first = _parts.build_traceback(entries, one.access, "tcp://one:1")
    second = _parts.build_traceback(entries, two.access, "tcp://two:2")
    assert first.tb_frame.f_code.co_filename == str(path)
    assert second.tb_frame.f_code.co_filename == f"{path} [tcp://two:2]"
    for tb, word in [(first, "theirs"), (second, "others")]:
        assert word in linecache.getline(tb.tb_frame.f_code.co_filename, 2)


class Text:
    """Another side whose source is what we say."""

    def __init__(self, source: str, far: Far) -> None:
        self.source = source
        self.far = far
        self.asked = 0

    def access(self, operation: str, subject: Any, *arguments: Any) -> Any:
        if operation == "source":
            self.asked += 1
            return self.source
        return self.far.access(operation, subject, *arguments)

    def entries(self, tb: Any) -> Any:
        return _parts.describe_traceback(tb)


def test_the_remote_source_wins_over_a_local_file_of_that_name(far: Far, tmp_path: Path) -> None:
    path = tmp_path / "same_name.py"
    error = run_elsewhere(path, THEIRS)
    path.write_text("# ours\n" * 20)
    entries = tuple((*entry[:9], (1, 1), entry[10]) for entry in far.entries(error.__traceback__))
    linecache.clearcache()
    text = Text(THEIRS, far)
    tb = _parts.build_traceback(entries, text.access, "tcp://far:1")
    printed = "".join(traceback.format_tb(tb))
    assert "ours" not in printed
    assert "return 1 / n" in printed
    assert f'File "{path} [tcp://far:1]", line 3, in work' in printed
    assert text.asked == 1
    assert "return 1 / n" in debugger(tb, "l")


def test_a_file_of_that_name_on_the_path_is_not_taken(
    far: Far, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = tmp_path / "ours"
    ours.mkdir()
    (ours / "app_x.py").write_text("# ours\n" * 20)
    monkeypatch.syspath_prepend(str(ours))
    tb = carried(far, run_elsewhere(tmp_path / "theirs" / "app_x.py", THEIRS))
    assert tb.tb_frame.f_code.co_filename.endswith("app_x.py [tcp://far:1]")


def test_pseudo_files_are_not_taken_for_ours(far: Far) -> None:
    tb = carried(far, run_elsewhere(Path("<stdin>"), THEIRS))
    assert tb.tb_frame.f_code.co_filename == "<stdin> [tcp://far:1]"


def test_redacted(far: Far) -> None:
    error = failure()
    entries = _parts.describe_traceback(error.__traceback__, True)
    assert all(entry[10] is None for entry in entries)
    assert str(Path(__file__).parent) not in repr(entries)
    assert "doubled" not in repr(entries)
    tb = _parts.build_traceback(entries, far.access, "tcp://far:1")
    printed = "".join(traceback.format_tb(tb))
    assert "in inner" in printed
    assert "return a" not in printed
    assert f"line {innermost(error.__traceback__).f_lineno}" in printed
    assert dict(innermost(tb).f_locals) == {"(locals)": "withheld by the other side"}
    assert far.asked == []


def test_printing_survives_a_lost_connection(far: Far) -> None:
    try:
        undefined_name  # type: ignore[name-defined]
    except NameError as error:
        tb = far.traceback(error)
        far.lost = True
        caught = raised_here(error, tb)
        caught.name = "undefined_name"  # type: ignore[attr-defined]
    assert "NameError" in "".join(traceback.format_exception(caught))
    found = innermost(caught.__traceback__).f_locals
    assert dict(found) == {"(locals)": "unavailable: ConnectionError: the other side is gone"}
    with pytest.raises(ConnectionError):
        found["error"]


def test_a_frame_that_came_home_is_itself(far: Far) -> None:
    error = failure()
    entries = _parts.describe_traceback(error.__traceback__)
    tb = _parts.build_traceback(entries, far.access)
    mine = error.__traceback__
    while mine is not None:
        assert tb.tb_frame is mine.tb_frame
        assert (tb.tb_lasti, tb.tb_lineno) == (mine.tb_lasti, mine.tb_lineno)
        mine, tb = mine.tb_next, tb.tb_next
    assert tb is None


def test_through_a_third_process(far: Far) -> None:
    error = failure()
    caught = raised_here(error, far.traceback(error))
    entries = _parts.describe_traceback(caught.__traceback__)
    assert [entry[1] for entry in entries] == ["raised_here", "failure", "middle", "inner"]
    assert isinstance(entries[0][10], types.FrameType)
    assert all(isinstance(entry[10], Token) for entry in entries[1:])
    assert entries[-1][0] == __file__
    assert _parts.describe_traceback(caught.__traceback__, True)[-1][10] is None


def test_long_tracebacks_are_cut(far: Far) -> None:
    def down(n: int) -> None:
        if n:
            down(n - 1)
        raise ValueError

    try:
        down(500)
    except ValueError as error:
        caught = error
    entries = far.entries(caught.__traceback__)
    assert len(entries) == 201
    tb = far.traceback(caught)
    assert "<302 frames left out>" in "".join(traceback.format_tb(tb))


def test_malformed_entries_are_errors(far: Far) -> None:
    good = far.entries(failure().__traceback__)[-1]
    for index, value in [
        (0, None),
        (1, 3),
        (3, -1),
        (4, "x"),
        (4, 2**40),
        (6, (1,)),
        (7, (300, 0, 0, 0, ())),
        (7, (1, 2, 0, 0, ("a",))),
        (7, (2, 0, 0, 0, ("a", 1))),
        (9, "x"),
    ]:
        entry = (*good[:index], value, *good[index + 1 :])
        with pytest.raises((TypeError, ValueError, OverflowError)):
            _parts.build_traceback((entry,), far.access)
    with pytest.raises(ValueError, match="malformed"):
        _parts.build_traceback((good[:-1],), far.access)
    with pytest.raises(TypeError):
        _parts.build_traceback((1,), far.access)
    assert _parts.build_traceback((), far.access) is None


def test_lines_far_apart(far: Far) -> None:
    good = far.entries(failure().__traceback__)[-1]
    for first, line, end, column in [(1, 100_000, 100_001, 500), (5000, 3, 3, 0), (1, 1, 1, 0)]:
        entry = (*good[:3], first, line, good[5], (end, column, column + 1), *good[7:])
        tb = _parts.build_traceback((entry,), far.access)
        positions = {*tb.tb_frame.f_code.co_positions()}
        assert positions == {(line, end, column, column + 1)}
        assert tb.tb_lineno == line
    entry = (*good[:6], None, *good[7:])
    tb = _parts.build_traceback((entry,), far.access)
    assert next(iter(tb.tb_frame.f_code.co_positions()))[0] == good[4]


def test_pictures_are_collected(far: Far) -> None:
    class Marker:
        pass

    tb = far.traceback(failure())
    marker = Marker()
    found = innermost(tb).f_locals
    found["cycle"] = (found, marker)
    gone = weakref.ref(marker)
    del tb, found, marker
    gc.collect()
    assert gone() is None


@pytest.mark.parametrize("here", [True, False])
def test_uncaught(tmp_path: Path, here: bool) -> None:
    """An error that nobody catches shows remote lines, also of files that are not here."""
    import subprocess

    script = tmp_path / "script.py"
    script.write_text(
        "import sys\n"
        f"sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
        "import linecache\n"
        "from objspace._core import _parts\n"
        "from far import Far\n"
        "import test_traceback as t\n"
        "error = t.failure()\n"
        "text = t.Text(open(t.__file__).read(), Far())\n"
        "entries = Far().entries(error.__traceback__)\n"
        f"if not {here}:\n"
        "    entries = tuple((e[0] + '.far', *e[1:]) for e in entries)\n"
        "tb = _parts.build_traceback(entries, text.access)\n"
        "raise error.with_traceback(tb)\n"
    )
    done = subprocess.run(
        [sys.executable, str(script)], capture_output=True, text=True, check=False
    )
    assert "return a / (len(values) - 2)" in done.stderr
    places = [done.stderr.index(text) for text in ("script.py", "in middle", "in inner")]
    assert places == sorted(places)
    assert done.stderr.rstrip().endswith("ZeroDivisionError: division by zero")
