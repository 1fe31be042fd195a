"""The log that is kept in the repository says to Python what it always said."""

from __future__ import annotations

import math
import pathlib

import objspace.dump
import pytest

KEPT = pathlib.Path(__file__).parents[1] / "vectors" / "dump" / "log.dump"
REF = objspace.dump.Ref


@pytest.fixture(scope="module")
def log():
    return objspace.dump.Log(KEPT)


def told(each):
    return (each.number, each.operation, each.operands, each.status, each.value, each.end_time)


def test_what_is_known_of_the_whole(log):
    assert log.operations == 45
    assert log.range == (1, 45)
    assert log.incomplete is None
    assert log.meta == {"python": "3.13.0"}
    assert log.threads == [(0, 140_000, "MainThread"), (3, 140_001, "worker")]
    assert log.tasks == {5: "job"}
    assert log.notes == [(44, "a note")]


def test_operations(log):
    every = log.find()
    assert told(every[0]) == (1, "call", (REF(2), -3), "result", REF(3), 1 << 40)
    number, operation, operands, status, value, _ = told(every[1])
    assert (number, operation, status, value) == (2, "setattr", "done", None)
    assert operands[:2] == (REF(3), -0.5)
    assert repr(operands[2]) == "<nothing>"
    assert told(every[2]) == (3, "getitem", (REF(5), REF(6)), "raised", REF(7), 2_500)
    assert (every[2].task, every[2].parent, every[2].depth, every[2].time) == (5, 1, 1, 1_000)
    assert [repr(value) for value in every[3].operands] == [
        *("<nothing>", "None", "True", "False", "Ellipsis", "NotImplemented", "<unknown>"),
        *(str(-(1 << 60)), str((1 << 60) - 1), repr(-math.inf), "2.2250738585072014e-308"),
        *("#8", "#9", "0", "1", "-1", "64"),
    ]
    # One of each kind, in the order of their numbers.
    assert tuple(each.operation for each in every[4:43]) == objspace.dump.operations
    assert [each.status for each in every[4:8]] == ["result", "done", "raised", "exhausted"]
    assert told(every[43]) == (44, "binary", (1, 2), "lost", None, 1 << 40)
    assert told(every[44]) == (45, "getattr", (REF(3),), None, None, None)


def test_objects(log):
    def known(serial):
        each = log.object(serial)
        return each.type_name, each.text, each.value, each.is_class

    assert known(1) == ("builtins.type", "builtins.type", None, True)
    assert known(2) == ("builtins.type", "app.Order", None, True)
    assert known(3) == ("app.Order", None, None, False)
    assert known(5) == ("app.Order", "(7, 'new')", None, False)
    assert known(6)[1:] == ("größe", "größe", False)
    assert known(7)[1:] == ("aaaa…", None, False)
    assert known(8)[1:] == (repr(b"\x00\xff"), b"\x00\xff", False)
    assert known(9)[1:] == ("-0x100000000000000000", -(1 << 68), False)
    assert known(10)[1:] == ("0x1000…", None, False)
    with pytest.raises(KeyError, match="no object 4"):
        log.object(4)
    assert log.death(11) == (43, 3)
    assert [each.number for each in log.find(object=11)] == [4, *range(5, 44)]
    # A result that lies two blocks later is at its place.
    assert [each.number for each in log.find(object=3)] == [1, 2, 45]
    assert [each.number for each in log.find(object=3, limit=1)] == [1]
    assert [each.number for each in log.find(object=3, backwards=True)] == [45, 2, 1]


def test_a_site(log):
    site = log.site(1)
    assert (site.operation, site.name, site.file, site.function) == (
        *("setattr", "größe", "app.py", "App.run"),
    )
    assert (site.module, site.line, site.end_line, site.column, site.end_column) == (
        *("app", 12, 13, 1, 301),
    )
