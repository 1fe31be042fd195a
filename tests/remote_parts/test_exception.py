"""Exceptions: described, carried, and what their handlers see."""

from __future__ import annotations

import gc
import pickle
import traceback
import types
import weakref
from typing import Any

import pytest
import shapes
from far import LIVE, Far, Token
from objspace._core import _parts


def caught(function: Any, *args: Any) -> BaseException:
    try:
        function(*args)
    except BaseException as error:
        return error
    raise AssertionError


def raising(error: BaseException) -> Any:
    def inner() -> None:
        raise error

    return caught(inner)


FIELDS = [
    name
    for kind in (
        OSError,
        BlockingIOError,
        SyntaxError,
        UnicodeError,
        UnicodeDecodeError,
        ImportError,
    )
    for name in dir(kind)
    if not name.startswith("_") and name not in {"add_note", "with_traceback"}
] + ["value", "code", "name", "obj"]

BUILTIN: list[BaseException] = [
    ValueError("x", 1),
    KeyError("k"),
    KeyError(),
    OSError(2, "No such file", "/a", None, "/b"),
    FileNotFoundError(2, "gone", "f"),
    OSError("one argument"),
    BlockingIOError(11, "again", 5),
    ConnectionError("lost"),
    StopIteration(3),
    StopAsyncIteration(1),
    SystemExit(4),
    SystemExit("text"),
    KeyboardInterrupt(),
    ImportError("no", name="m", path="/p"),
    ModuleNotFoundError("no m", name="m"),
    NameError("n", name="n"),
    AttributeError("a", name="a"),
    UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"),
    UnicodeEncodeError("ascii", "é", 0, 1, "ordinal not in range"),
    UnicodeTranslateError("é", 0, 1, "no"),
    SyntaxError("bad", ("f.py", 3, 4, "x = = 1", 3, 5)),
    IndentationError("bad", ("f.py", 3, 4, " x", 3, 5)),
    RecursionError("deep"),
    MemoryError(),
    GeneratorExit(),
    UserWarning("w"),
    AssertionError(),
]


@pytest.mark.parametrize("error", BUILTIN, ids=lambda error: repr(error)[:30])
def test_builtin(far: Far, error: BaseException) -> None:
    there = far.exception(raising(error))
    assert type(there) is type(error)
    assert there.args == error.args
    assert str(there) == str(error)
    assert repr(there) == repr(error)
    for name in FIELDS:
        mine = getattr(error, name, "absent")
        assert getattr(there, name, "absent") == mine, name
    assert there.__traceback__ is not None
    assert traceback.format_exception_only(there) == traceback.format_exception_only(error)


def test_attribute_error_carries_its_object(far: Far) -> None:
    error = caught(lambda: [].nothing)  # type: ignore[attr-defined]
    there = far.exception(error)
    assert there.name == "nothing"  # type: ignore[attr-defined]
    assert there.obj == []  # type: ignore[attr-defined]


def test_own_class_keeps_bases_args_and_attributes(far: Far) -> None:
    error = raising(shapes.AppError(4, reason="why"))
    there = far.exception(error)
    local = far.cls(shapes.AppError)
    assert type(there).__mro__[:2] == (local, LookupError)
    assert isinstance(there, LookupError)
    assert there.args == ("code 4",)
    assert str(there) == "code 4"
    assert there.code == 4  # type: ignore[attr-defined]
    assert there.reason == "why"  # type: ignore[attr-defined]
    with pytest.raises(local) as info:
        raise there
    assert info.value is there
    assert far.asked == []
    assert there.explain() == "4: why"  # type: ignore[attr-defined]
    assert far.asked == [("call", "explain")]
    assert there.severity == 3  # type: ignore[attr-defined]
    assert type(there).__name__ == "AppError"
    assert "shapes.AppError: code 4" in traceback.format_exception_only(there)[0]


def test_constructors_do_not_run(far: Far, monkeypatch: pytest.MonkeyPatch) -> None:
    error = raising(shapes.Picky("salt"))
    monkeypatch.setattr(shapes, "LOG", ["refuse"])
    there = far.exception(error)
    assert there.args == ("salt",)
    far.lost = True
    assert str(there) == "picky about 'salt'"
    assert repr(there) == "Picky!"
    assert far.asked == []


def test_class_with_its_own_new(far: Far) -> None:
    error = raising(shapes.NewError("that"))
    there = far.exception(error)
    assert (there.errno, there.strerror, there.filename) == (5, "that", "/some/file")  # type: ignore[attr-defined]
    assert there.what == "that"  # type: ignore[attr-defined]
    assert str(there) == str(error)
    assert there.args == error.args


def test_slots_and_properties(far: Far) -> None:
    error = shapes.SlottedError("x")
    error.slot = [1]  # type: ignore[attr-defined]
    there = far.exception(raising(error))
    assert there.slot == [1]  # type: ignore[attr-defined]
    there = far.exception(raising(shapes.ReadOnly(1, 2)))
    assert there.args_count == 2  # type: ignore[attr-defined]


def test_unprintable(far: Far) -> None:
    there = far.exception(raising(shapes.Unprintable("x")))
    assert str(there) == "<exception str() failed>"


def test_notes(far: Far) -> None:
    error = ValueError("x")
    error.add_note("one")
    error.add_note("two")
    there = far.exception(raising(error))
    assert there.__notes__ == ["one", "two"]
    there.add_note("three")
    assert error.__notes__ == ["one", "two"]
    assert "one\n" in "".join(traceback.format_exception(there))


def test_causes_and_contexts(far: Far) -> None:
    error = caught(shapes.raise_chain)
    there = far.exception(error)
    assert isinstance(there, KeyError)
    assert there.__suppress_context__
    assert there.__cause__ is None
    middle = there.__context__
    assert isinstance(middle, ValueError)
    assert middle.args == ("middle", [1])
    assert type(middle.__cause__) is far.cls(shapes.AppError)
    assert middle.__cause__ is middle.__context__
    assert middle.__suppress_context__
    frames = [frame.name for frame in traceback.extract_tb(middle.__traceback__)]
    assert frames == ["raise_chain"]
    assert "direct cause" not in "".join(traceback.format_exception(there))
    assert "direct cause" in "".join(traceback.format_exception(middle))


def test_cycles(far: Far) -> None:
    one, two = ValueError(1), ValueError(2)
    one.__cause__ = two
    two.__context__ = one
    there = far.exception(raising(one))
    assert there.__cause__.__context__ is there  # type: ignore[union-attr]
    there.__cause__.__context__ = None  # type: ignore[union-attr]


def test_too_many_are_cut(far: Far) -> None:
    error = ValueError(0)
    for number in range(1, 50):
        following = ValueError(number)
        following.__context__ = error
        error = following
    there = far.exception(error, limit=10)
    count = 0
    current: BaseException | None = there
    while current is not None:
        count += 1
        current = current.__context__
    assert count == 10


def test_groups(far: Far) -> None:
    inner = ExceptionGroup("inner", [shapes.AppError(1, reason="r"), TypeError("t")])
    error = raising(ExceptionGroup("outer", [ValueError("v"), inner]))
    there = far.exception(error)
    assert type(there) is ExceptionGroup
    assert str(there) == "outer (2 sub-exceptions)"
    assert there.message == "outer"
    seen = []
    try:
        raise there
    except* LookupError as group:
        seen.append([type(one) for one in group.exceptions[0].exceptions])  # type: ignore[attr-defined]
    except* (ValueError, TypeError) as group:
        seen.append(str(group))
    assert seen == [[far.cls(shapes.AppError)], "outer (2 sub-exceptions)"]
    assert type(far.exception(BaseExceptionGroup("b", [KeyboardInterrupt()]))) is BaseExceptionGroup


def test_group_of_a_class_of_its_own(far: Far) -> None:
    there = far.exception(raising(shapes.MyGroup("mine", [ValueError("v")])))
    assert type(there) is far.cls(shapes.MyGroup)
    assert isinstance(there, ExceptionGroup)
    assert there.exceptions[0].args == ("v",)


def test_going_home(far: Far) -> None:
    error = raising(shapes.AppError(4, reason="why"))
    there = far.exception(error)
    token = _parts.origin(there)
    assert isinstance(token, Token)
    assert token.live is error
    assert _parts.origin(error) is None
    assert _parts.origin(ValueError()) is None
    assert _parts.origin(3) is None
    assert [key for key in vars(there) if key.startswith("__")] == ["__objspace_origin__"]


def test_an_original_stays_itself_and_gets_the_whole_way(far: Far) -> None:
    error = raising(ValueError("home"))
    error.__context__ = KeyError("context")
    mine = [frame.name for frame in traceback.extract_tb(error.__traceback__)]

    def beyond(carried: BaseException) -> None:
        raise carried

    there = caught(beyond, far.exception(error))
    nodes = [list(node) for node in _parts.describe_exception(there)]
    for node in nodes:
        origin = _parts.origin(node[LIVE])
        node[LIVE] = origin.live
        # Frames that came home are real frames again; those of beyond are not.
        node[9] = tuple(
            (*entry[:10], entry[10].live if isinstance(entry[10], Token) else Token(entry[10]))
            for entry in node[9]
        )
    back = _parts.build_exception(tuple(tuple(node) for node in nodes), far.access)
    assert back is error
    names = [frame.name for frame in traceback.extract_tb(back.__traceback__)]
    assert names == ["caught", "beyond", *mine]
    last = back.__traceback__
    while last.tb_next is not None:
        last = last.tb_next
    assert last.tb_frame.f_locals["error"] is error
    assert type(back.__context__) is KeyError


def test_an_original_keeps_its_traceback_when_frames_are_withheld(far: Far) -> None:
    error = raising(ValueError("home"))
    before = error.__traceback__
    (node,) = _parts.describe_exception(error, redact=True)
    assert _parts.build_exception((node,), far.access) is error
    assert error.__traceback__ is before


def test_redacted(far: Far) -> None:
    there = far.exception(raising(ValueError("x")), redact=True)
    assert there.__traceback__.tb_frame.f_code.co_filename.startswith("<test_exception.py")  # type: ignore[union-attr]


def test_text_is_shipped_where_a_class_makes_it(far: Far) -> None:
    (node,) = _parts.describe_exception(ValueError([1]))
    assert node[10:12] == (None, None)
    (node,) = _parts.describe_exception(shapes.Picky("x"))
    assert node[10:12] == ("picky about 'x'", "Picky!")
    # On to a third process as it came; of a local subclass, the other side makes it.
    (node,) = _parts.describe_exception(far.exception(shapes.Picky("x")))
    assert node[10:12] == ("picky about 'x'", "Picky!")
    local = far.cls(shapes.Picky)

    class Mine(local):  # type: ignore[misc, valid-type]
        def __init__(self, *args: Any) -> None:
            pass

    (node,) = _parts.describe_exception(Mine("x"))
    assert node[10:12] == (None, None)
    assert far.asked == []


def test_a_text_that_sends_the_exception_itself() -> None:
    class Sends(Exception):
        def __str__(self) -> str:
            return str(_parts.describe_exception(self)[0][10])

    assert _parts.describe_exception(Sends())[0][10] == "None"


def test_malformed_descriptions_are_errors(far: Far) -> None:
    (node,) = _parts.describe_exception(ValueError("x"))
    node = (*node[:LIVE], Token(None))
    group = _parts.describe_exception(ExceptionGroup("g", [ValueError()]))[0]
    group = (*group[:LIVE], Token(None))
    changes = [
        (0, int),
        (0, 3),
        (0, types.SimpleNamespace),
        (1, 3),
        (2, ((1, 2, 3),)),
        (2, ((1, 2),)),
        (4, 5),
        (5, 9),
        (6, "x"),
        (8, (0,)),
        (8, (77,)),
        (9, (1,)),
    ]
    for index, value in changes:
        bad = (*node[:index], value, *node[index + 1 :])
        with pytest.raises((TypeError, ValueError, IndexError)):
            _parts.build_exception((bad,), far.access)
    with pytest.raises((TypeError, ValueError)):
        _parts.build_exception((group,), far.access)
    for bad in ((), (3,), ((),)):
        with pytest.raises((TypeError, ValueError)):
            _parts.build_exception(bad, far.access)


def test_fields_of_the_wrong_kind_are_errors(far: Far) -> None:
    (node,) = _parts.describe_exception(UnicodeDecodeError("utf-8", b"\xff", 0, 1, "r"))
    bad = (*node[:3], (("start", "x"),), *node[4:LIVE], Token(None))
    with pytest.raises(TypeError):
        _parts.build_exception((bad,), far.access)


def test_not_kept_alive(far: Far) -> None:
    class Marker(Exception):
        pass

    there = far.exception(raising(Marker()))
    gone = weakref.ref(there)
    far.classes.clear()
    del there
    gc.collect()
    assert gone() is None


def test_raising_a_remote_class_here(far: Far) -> None:
    local = far.cls(shapes.AppError)
    made = local(3, reason="here")
    # The session would carry it; here the original comes back as it is.
    assert isinstance(made, shapes.AppError)
    assert far.asked == [("new", None)]


def test_local_subclass_of_a_remote_exception(far: Far) -> None:
    local = far.cls(shapes.Picky)

    class Mine(local):  # type: ignore[misc, valid-type]
        def __init__(self, *args: Any) -> None:
            pass

    with pytest.raises(local) as info:
        raise Mine("salt")
    assert str(info.value) == "picky about 'salt'"
    assert repr(info.value) == "Picky!"


def test_builtin_ones_still_pickle(far: Far) -> None:
    there = far.exception(ValueError("x"))
    del there.__objspace_origin__  # type: ignore[attr-defined]
    assert pickle.loads(pickle.dumps(there)).args == ("x",)
