"""What a client may hand over by name: nothing that runs code, opens files or walks attributes."""

import builtins
import io
import operator
import os
import pathlib
import string
import threading

import objspace
import pytest
from objspace.distributed import session_of


@pytest.fixture
def remote(victim):
    remote = objspace.connect(victim.url, policy=objspace.Policy.full())
    yield remote
    session_of(remote).close()


def test_a_permitted_sort_is_no_way_to_evaluate_text(remote, tmp_path):
    mark = tmp_path / "mark"
    shelf = remote.thing.items
    shelf.append(f"open({str(mark)!r}, 'w')")
    with pytest.raises(PermissionError, match=r"builtins\.eval by name, which would run here"):
        shelf.sort(key=eval)
    assert not os.path.exists(mark)
    shelf.pop()


@pytest.mark.parametrize(
    "function",
    [
        eval,
        exec,
        compile,
        __import__,
        getattr,
        setattr,
        delattr,
        vars,
        globals,
        locals,
        dir,
        input,
        breakpoint,
        id,
        print,
        io.FileIO,
        pathlib.Path,
        operator.attrgetter,
        operator.methodcaller,
        string.Formatter,
        threading.Thread,
        type(lambda: 0),
        type((lambda: 0).__code__),
    ],
)
def test_what_runs_code_or_reaches_past_the_gate_is_refused(remote, function):
    call = remote.thing.call
    with pytest.raises(PermissionError, match=r"only Policy\.full\(\) takes it"):
        call(function)


def test_what_only_computes_is_taken(remote):
    call = remote.thing.call
    assert call(len, "abc") == 3
    assert call(sorted, (3, 1)) == [1, 3]
    assert call(int, "7") == 7
    with pytest.raises(ZeroDivisionError):
        call(divmod, 1, 0)


def test_every_function_of_builtins_is_decided(remote):
    # `open` is not of that module, `__build_class__` is private: they travel by reference, and run
    # where they came from.
    functions = {
        name
        for name, value in vars(builtins).items()
        if type(value) is type(len) and value.__module__ == "builtins" and name != "__build_class__"
    }
    taken = set()
    for name in functions:
        try:
            remote.thing.call(getattr(builtins, name))
        except PermissionError:
            continue
        except TypeError:
            taken.add(name)
    assert taken == {
        "abs",
        "aiter",
        "all",
        "anext",
        "any",
        "ascii",
        "bin",
        "callable",
        "chr",
        "divmod",
        "format",
        "hash",
        "hex",
        "isinstance",
        "issubclass",
        "iter",
        "len",
        "max",
        "min",
        "next",
        "oct",
        "ord",
        "pow",
        "repr",
        "round",
        "sorted",
        "sum",
    }


def test_a_client_does_not_take_them_from_a_server_either():
    from objspace.distributed import pair

    here, there = pair(
        {}, {"parser": eval, "size": len}, policy=(objspace.Policy.public(), objspace.Policy.full())
    )
    try:
        with pytest.raises(PermissionError, match=r"builtins\.eval"):
            here.get_remote("parser")
        assert here.get_remote("size") is len
    finally:
        here.close()
        there.close()
