"""Exceptions of every shape: groups, notes, chains, odd constructors, three processes."""

import copy
import traceback

import objspace
import pytest
from objspace.distributed import session_of

SETUP = '''
import traceback

CREATED = []

class Required(Exception):
    """Takes arguments that its args do not tell, and counts how often it is made."""
    def __init__(self, code, *, reason):
        CREATED.append(code)
        super().__init__(f"{code}: {reason}")
        self.code, self.reason = code, reason

class Computed(Exception):
    def __init__(self, value):
        super().__init__()
        self.value = value
    def __str__(self):
        return f"computed {self.value}"
    def __repr__(self):
        return f"Computed<{self.value}>"

class OddReduce(Exception):
    def __init__(self, connection):
        self.connection = connection
    def __reduce__(self):
        raise TypeError("never pickled")
    def __getstate__(self):
        raise TypeError("never copied")

class Slotted(ValueError):
    __slots__ = ("extra",)
    def __init__(self, text, extra):
        super().__init__(text)
        self.extra = extra

class Picky(Exception):
    """Its metaclass and its __new__ have their own ideas."""
    def __new__(cls, *args):
        CREATED.append("new")
        return super().__new__(cls, *args)
    def __setattr__(self, name, value):
        raise AttributeError("read only")

class Base(LookupError):
    kind = "base"
    def explain(self):
        return f"{self.kind}: {self.args[0]}"

class Derived(Base):
    kind = "derived"

class AppGroup(ExceptionGroup):
    def derive(self, excs):
        return AppGroup(self.message, excs)

def fail(which):
    if which == "required":
        raise Required(5, reason="because")
    if which == "computed":
        raise Computed([1, 2])
    if which == "odd":
        raise OddReduce({"socket": 3})
    if which == "slotted":
        raise Slotted("text", ["more"])
    if which == "picky":
        raise Picky("a", 1)
    if which == "derived":
        raise Derived("text")
    if which == "notes":
        error = ValueError("noted")
        error.add_note("first")
        error.add_note("second")
        raise error
    if which == "context":
        try:
            1 / 0
        except ZeroDivisionError:
            raise KeyError("second")
    if which == "suppressed":
        try:
            1 / 0
        except ZeroDivisionError:
            raise KeyError("second") from None
    if which == "cause of cause":
        try:
            try:
                raise OSError(2, "no", "file")
            except OSError as first:
                raise Derived("middle") from first
        except Derived as second:
            raise Required(9, reason="last") from second
    if which == "group":
        def raised(error):
            try:
                raise error
            except Exception as caught:
                return caught
        raise ExceptionGroup("many", [
            raised(ValueError("one")),
            raised(Derived("two")),
            AppGroup("inner", [raised(KeyError("three")), raised(Computed(4))]),
        ])
    if which == "cycle":
        first, second = ValueError("first"), KeyError("second")
        first.__context__, second.__context__ = second, first
        raise first
    if which == "exit":
        raise SystemExit(3)
    if which == "stop":
        raise StopIteration
    if which == "unicode":
        b"\\xff".decode("utf-8")
    if which == "import":
        import no_such_module
    if which == "syntax":
        compile("x = = 1", "<typed>", "exec")
    if which == "base":
        raise BaseException("base")

def created():
    made = list(CREATED)
    CREATED.clear()
    return tuple(made)

def through(function, *args):
    return function(*args)

def kept(which):
    try:
        fail(which)
    except Exception as error:
        global last
        last = error
    return last

def same(a, b):
    return a is b

def is_last(error):
    return error is last
'''


def failure(remote, which):
    try:
        remote.fail(which)
    except BaseException as error:
        return error
    raise AssertionError(f"{which} did not fail")


def test_required_arguments_and_side_effects_of_a_constructor(link):
    remote = link(SETUP)
    error = failure(remote, "required")
    assert type(error) is remote.Required
    assert (error.code, error.reason, str(error)) == (5, "because", "5: because")
    assert error.args == ("5: because",)
    assert remote.created() == (5,)  # made once, over there


def test_text_that_the_class_computes(link):
    error = failure(link(SETUP), "computed")
    assert str(error) == "computed [1, 2]"
    assert repr(error) == "Computed<[1, 2]>"
    assert "computed [1, 2]" in "".join(traceback.format_exception_only(error))


def test_odd_reduce_and_attributes_by_reference(link):
    remote = link(SETUP)
    error = failure(remote, "odd")
    assert type(error).__name__ == "OddReduce"
    assert error.connection == {"socket": 3}
    error.connection["socket"] = 4
    assert error.connection["socket"] == 4


def test_slots_and_read_only_errors(link):
    remote = link(SETUP)
    error = failure(remote, "slotted")
    assert error.extra == ["more"]
    assert isinstance(error, ValueError)
    error = failure(remote, "picky")
    assert error.args == ("a", 1)
    assert remote.created() == ("new",)


def test_bases_and_methods(link):
    remote = link(SETUP)
    error = failure(remote, "derived")
    assert isinstance(error, LookupError)
    assert isinstance(error, remote.Base)
    assert error.explain() == "derived: text"
    with pytest.raises(remote.Base):
        remote.fail("derived")
    with pytest.raises(LookupError):
        remote.fail("derived")


def test_notes(link):
    error = failure(link(SETUP), "notes")
    assert error.__notes__ == ["first", "second"]
    error.add_note("third, here")
    text = "".join(traceback.format_exception(error))
    assert text.rstrip().endswith("first\nsecond\nthird, here")


def test_context_cause_and_suppression(link):
    remote = link(SETUP)
    error = failure(remote, "context")
    assert isinstance(error.__context__, ZeroDivisionError)
    assert error.__cause__ is None
    assert not error.__suppress_context__
    error = failure(remote, "suppressed")
    assert error.__suppress_context__
    assert "ZeroDivisionError" not in "".join(traceback.format_exception(error))
    error = failure(remote, "cause of cause")
    assert type(error.__cause__) is remote.Derived
    first = error.__cause__.__cause__
    assert (type(first), first.errno, first.filename) == (FileNotFoundError, 2, "file")
    assert failure(remote, "cycle").__context__.__context__.args == ("first",)


def test_groups(link):
    remote = link(SETUP)
    error = failure(remote, "group")
    assert type(error) is ExceptionGroup
    assert type(error.exceptions[2]) is remote.AppGroup
    caught = []
    try:
        remote.fail("group")
    except* ValueError as group:
        caught.append(("value", [str(e) for e in group.exceptions]))
    except* remote.Derived as group:
        caught.append(("derived", [e.explain() for e in group.exceptions]))
    except* remote.Computed as group:
        caught.append(("computed", [str(e.exceptions[0]) for e in group.exceptions]))
    except* LookupError as group:
        caught.append(("lookup", [type(e).__name__ for e in group.exceptions]))
    assert caught == [
        ("value", ["one"]),
        ("derived", ["derived: two"]),
        ("computed", ["computed 4"]),
        ("lookup", ["AppGroup"]),
    ]
    text = "".join(traceback.format_exception(error))
    assert text.count("raise error") == 4
    matching, rest = error.split(remote.Derived)
    assert [type(e).__name__ for e in matching.exceptions] == ["Derived"]
    assert len(rest.exceptions) == 2


def test_errors_of_the_interpreter_keep_their_fields(link):
    remote = link(SETUP)
    assert failure(remote, "exit").code == 3
    assert failure(remote, "stop").value is None
    assert failure(remote, "unicode").object == b"\xff"
    assert "can't decode byte 0xff" in str(failure(remote, "unicode"))
    assert failure(remote, "import").name == "no_such_module"
    syntax = failure(remote, "syntax")
    assert (syntax.lineno, syntax.filename, syntax.text) == (1, "<typed>", "x = = 1\n")
    assert type(failure(remote, "base")) is BaseException


def test_an_error_that_is_an_object_is_the_same_when_it_comes_home(link):
    remote = link(SETUP)
    error = remote.kept("required")
    assert error.code == 5
    assert remote.is_last(error)
    assert remote.kept("computed") is not error


def test_an_error_that_came_can_be_raised_and_sent_on(link):
    remote = link(SETUP)
    error = failure(remote, "required")

    def again():
        raise error

    with pytest.raises(remote.Required) as caught:
        remote.through(again)
    # Each time an error arrives it is a new object here; over there it is one.
    assert caught.value.code == error.code
    assert remote.same(caught.value, error)
    with pytest.raises(KeyError) as caught:
        try:
            raise error
        except remote.Required as found:
            raise KeyError("ours") from found
    assert caught.value.__cause__ is error


def test_a_local_class_with_a_remote_base_is_caught_on_both_sides(link):
    remote = link(
        SETUP
        + """
def caught(function):
    try:
        function()
    except Base as error:
        return error.explain(), type(error).__name__, error
"""
    )

    class Mine(remote.Base):
        kind = "mine"

    original = Mine("here")

    def fail():
        raise original

    explained, name, error = remote.caught(fail)
    assert (explained, name) == ("mine: here", "Mine")
    assert error is original
    with pytest.raises(remote.Base):
        remote.through(fail)


def test_a_copy_of_an_error_is_an_error(link):
    error = failure(link(SETUP), "notes")
    copied = copy.copy(error)
    assert copied.args == ("noted",)
    assert type(copied) is ValueError


def test_no_error_leaves_anything_behind(link, no_leaks):
    remote = link(SETUP)
    fail = remote.fail
    kinds = ("required", "computed", "odd", "slotted", "notes", "cause of cause", "group")

    def all_of_them():
        for kind in kinds:
            try:
                fail(kind)
            except Exception as error:
                traceback.format_exception(error)
                error.__traceback__ = error.__cause__ = error.__context__ = None

    # Classes are told once.
    all_of_them()
    with no_leaks(remote):
        for _ in range(5):
            all_of_them()


MIDDLE = """
import objspace

class Middle(RuntimeError):
    pass

def start(setup):
    global child, far
    child = objspace.spawn(setup=setup)
    far = child.__enter__()

def stop():
    child.__exit__(None, None, None)

def ask(which):
    here = "in the middle"
    return far.fail(which)

def wrap(which):
    try:
        far.fail(which)
    except Exception as error:
        raise Middle("wrapped") from error

def far_class(name):
    return getattr(far, name)
"""


@pytest.fixture
def three(link):
    middle = link(MIDDLE)
    middle.start(SETUP)
    yield middle
    middle.stop()


def frames(error):
    return [entry.name for entry in traceback.extract_tb(error.__traceback__)]


def test_an_error_crosses_three_processes_with_the_frames_of_all(three):
    with pytest.raises(LookupError) as caught:
        three.ask("derived")
    assert frames(caught.value)[0] == "test_an_error_crosses_three_processes_with_the_frames_of_all"
    assert frames(caught.value)[-2:] == ["ask", "fail"]
    text = "".join(traceback.format_exception(caught.value))
    assert 'raise Derived("text")' in text
    assert "return far.fail(which)" in text
    assert type(caught.value) is three.far_class("Derived")
    assert caught.value.explain() == "derived: text"
    last = caught.value.__traceback__
    locals_of = {}
    while last is not None:
        locals_of[last.tb_frame.f_code.co_name] = last.tb_frame.f_locals
        last = last.tb_next
    assert locals_of["ask"]["here"] == "in the middle"
    assert locals_of["fail"]["which"] == "derived"


def test_a_chain_whose_links_are_of_two_processes(three):
    with pytest.raises(RuntimeError) as caught:
        three.wrap("required")
    assert type(caught.value).__name__ == "Middle"
    cause = caught.value.__cause__
    assert type(cause) is three.far_class("Required")
    assert cause.reason == "because"
    assert frames(caught.value)[-1] == "wrap"
    assert frames(cause) == ["wrap", "fail"]


def test_a_group_crosses_three_processes(three):
    with pytest.raises(ExceptionGroup) as caught:
        three.ask("group")
    assert caught.value.exceptions[1].explain() == "derived: two"
    assert str(caught.value.exceptions[2].exceptions[1]) == "computed 4"


def test_our_own_error_comes_home_through_two_processes(three):
    original = KeyError("ours")

    def fail(which):
        raise original

    far_through = three.far_class("through")
    with pytest.raises(KeyError) as caught:
        far_through(fail, "x")
    assert caught.value is original
    assert frames(original)[-1] == "fail"
    assert session_of(three) is not None
    assert objspace.distributed.session_of(far_through) is not None
