"""Remote exceptions: class, arguments, traceback, debugger."""

import io
import pdb
import traceback

import pytest

SETUP = """
class AppError(LookupError):
    def __init__(self, message, *, code):
        super().__init__(message)
        self.code = code

def inner(depth):
    secret = "treasure"
    items = [1, 2, 3]
    raise AppError("lost", code=depth)

def middle(depth):
    return inner(depth + 1)

def outer():
    return middle(1)

def divide(a, b):
    return a / b

def chained():
    try:
        divide(1, 0)
    except ZeroDivisionError as error:
        raise KeyError("key") from error

def call(function):
    return function()

def catch(function):
    try:
        function()
    except Exception as error:
        return type(error).__name__, str(error), error
"""


def test_builtin_and_user_classes_are_caught(link):
    remote = link(SETUP)
    with pytest.raises(ZeroDivisionError, match="division by zero"):
        remote.divide(1, 0)
    with pytest.raises(LookupError) as caught:
        remote.outer()
    assert type(caught.value).__name__ == "AppError"
    with pytest.raises(remote.AppError):
        remote.outer()
    assert caught.value.code == 2
    assert caught.value.args == ("lost",)


def test_the_traceback_shows_both_sides(link):
    remote = link(SETUP)
    with pytest.raises(LookupError) as caught:
        remote.outer()
    names = [entry.name for entry in traceback.extract_tb(caught.value.__traceback__)]
    assert names[-3:] == ["outer", "middle", "inner"]
    assert names[0] == "test_the_traceback_shows_both_sides"
    text = "".join(traceback.format_exception(caught.value))
    assert 'raise AppError("lost", code=depth)' in text


def test_cause_arrives(link):
    with pytest.raises(KeyError) as caught:
        link(SETUP).chained()
    assert isinstance(caught.value.__cause__, ZeroDivisionError)


def test_pdb_walks_into_the_remote_frames(link):
    remote = link(SETUP)
    with pytest.raises(LookupError) as caught:
        remote.outer()
    commands = io.StringIO("p secret\np items[1]\nup\np depth\nq\n")
    output = io.StringIO()
    debugger = pdb.Pdb(stdin=commands, stdout=output, nosigint=True, readrc=False)
    debugger.use_rawinput = False
    debugger.reset()
    debugger.interaction(None, caught.value.__traceback__)
    assert "'treasure'" in output.getvalue()
    assert "2\n" in output.getvalue()
    assert "inner(depth + 1)" in output.getvalue() or "middle" in output.getvalue()


def test_an_exception_of_a_callback_passes_through_and_comes_home(link):
    remote = link(SETUP)

    class Local(Exception):
        pass

    original = Local("mine")

    def fail():
        raise original

    with pytest.raises(Local) as caught:
        remote.call(fail)
    assert caught.value is original
    name, text, error = remote.catch(fail)
    assert (name, text) == ("Local", "mine")
    assert error is original


def test_an_exception_that_comes_home_brings_the_frames_of_the_other_side(link):
    remote = link(
        SETUP
        + """
def through(function):
    return function()
"""
    )

    def fail():
        raise KeyError("mine")

    with pytest.raises(KeyError) as caught:
        remote.through(fail)
    names = [entry.name for entry in traceback.extract_tb(caught.value.__traceback__)]
    assert names[0] == "test_an_exception_that_comes_home_brings_the_frames_of_the_other_side"
    assert "through" in names
    assert names[-1] == "fail"


def test_text_made_by_the_other_side_does_not_hang_the_reply(link):
    remote = link(
        SETUP
        + """
class Shown(Exception):
    def __str__(self):
        return "shown by the owner"
"""
    )

    class Local(remote.Shown):
        pass

    def fail():
        raise Local("x")

    with pytest.raises(Local):
        remote.call(fail)
