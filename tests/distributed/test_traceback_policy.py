"""How much of its errors a process shows: `Policy.public(tracebacks=…)`."""

import traceback

import objspace
import pytest
from objspace.distributed import pair

CODE = """
class Failure(Exception):
    def __init__(self, text):
        super().__init__(text)
        self.shown = "shown"
        self._hidden = ["hidden"]

class Vault:
    pass

vault = Vault()

def inner(password):
    local = "a secret local"
    try:
        raise KeyError("internal detail")
    except KeyError as error:
        raise Failure("text") from error

def fail():
    inner("pass" + "word")

def missing():
    vault.door
"""
FILE = "/srv/hidden/folder/application.py"


def session(policy):
    import linecache
    import types

    module = types.ModuleType("application")
    linecache.cache[FILE] = (len(CODE), None, CODE.splitlines(keepends=True), FILE)
    exec(compile(CODE, FILE, "exec"), module.__dict__)
    names = {"fail": module.fail, "missing": module.missing}
    return pair({}, names, policy=(objspace.Policy.full(), policy))


def failure(policy, name="fail"):
    ours, theirs = session(policy)
    try:
        getattr(ours.remote, name)()
    except Exception as error:
        return error, "".join(traceback.format_exception(error)), (ours, theirs)
    raise AssertionError("it did not fail")


def close(sessions):
    for each in sessions:
        each.close()


@pytest.mark.parametrize(
    "policy",
    [
        objspace.Policy.full(),
        objspace.Policy.public(tracebacks="full"),
        objspace.Policy.public(tracebacks=True),
    ],
)
def test_full_shows_source_locals_and_paths(policy):
    error, text, sessions = failure(policy)
    assert 'raise Failure("text") from error' in text
    assert "internal detail" in text
    assert error._hidden == ["hidden"]
    last = error.__traceback__
    while last.tb_next is not None:
        last = last.tb_next
    assert last.tb_frame.f_locals["local"] == "a secret local"
    close(sessions)


@pytest.mark.parametrize(
    "policy",
    [
        objspace.Policy.public(),
        objspace.Policy.public(tracebacks=False),
        objspace.Policy.public(tracebacks="redacted"),
    ],
)
def test_redacted_is_the_default_and_shows_neither_source_nor_locals_nor_folders(policy):
    error, text, sessions = failure(policy)
    assert [entry.name for entry in traceback.extract_tb(error.__traceback__)][-2:] == [
        "fail",
        "inner",
    ]
    assert "application.py" in text
    assert "hidden/folder" not in text
    assert "raise Failure" not in text
    assert "secret" not in text
    assert "password" not in text
    for entry, _ in traceback.walk_tb(error.__traceback__):
        if entry.f_code.co_name == "inner":
            assert "local" not in entry.f_locals
            assert "vault" not in entry.f_globals
    assert error.shown == "shown"
    assert "_hidden" not in vars(error)
    assert isinstance(error.__cause__, KeyError)
    close(sessions)


def test_none_shows_the_error_alone():
    error, text, sessions = failure(objspace.Policy.public(tracebacks="none"))
    assert str(error) == "text"
    assert type(error).__name__ == "Failure"
    assert "application" not in text.replace("application.Failure", "")
    assert "inner" not in text
    assert "internal detail" not in text
    assert error.__cause__ is None
    assert error.__context__ is None
    close(sessions)


def test_the_object_without_an_attribute_is_not_handed_out():
    error, _, sessions = failure(objspace.Policy.public(), "missing")
    assert isinstance(error, AttributeError)
    assert error.name == "door"
    assert error.obj is None
    close(sessions)
    error, _, sessions = failure(objspace.Policy.full(), "missing")
    assert type(error.obj).__name__ == "Vault"
    close(sessions)


def test_an_unknown_way_is_refused_by_name():
    with pytest.raises(ValueError, match=r'"full", "redacted" or "none", not \'all\''):
        objspace.Policy.public(tracebacks="all")
    assert repr(objspace.Policy.public(tracebacks="none")) == 'Policy.public(tracebacks="none")'
    assert repr(objspace.Policy.public()) == "Policy.public()"
