"""What the log says is what happened: against classes that tell themselves, and by hand."""

from __future__ import annotations

import linecache
import operator

import objspace.dump
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from .conftest import told


class Told:
    """An object that notes every operation that reaches it: the reference."""

    notes: list = []  # noqa: RUF012
    count = 0

    def __init__(self):
        Told.count += 1
        object.__setattr__(self, "tag", f"t{Told.count}")

    def note(self, operation, *operands, result=None, fails=False):
        number = len(Told.notes)
        error = KeyError(number) if fails else None
        Told.notes.append((operation, [tag(each) for each in operands], tag(error or result)))
        if error:
            raise error
        return result

    def __getattr__(self, name):
        return self.note("getattr " + name, self, result=Told(), fails=name == "missing")

    def __delattr__(self, name):
        self.note("delattr " + name, self, fails=name == "missing")

    def __getitem__(self, key):
        return self.note("getitem", self, key, result=key, fails=key == 3)

    def __setitem__(self, key, value):
        self.note("setitem", self, key, value, fails=key == 3)

    def __delitem__(self, key):
        self.note("delitem", self, key, fails=key == 3)

    def __contains__(self, key):
        return self.note("contains", self, key, result=key == 1)

    def __bool__(self):
        return self.note("truth", self, result=self.tag[-1] in "02468")

    def __call__(self, *args, **kwargs):
        return self.note(
            "call", self, *args, *kwargs.values(), result=len(args), fails=len(args) > 2
        )

    def __iter__(self):
        self.steps = 2
        return self.note("iter", self, result=self)

    def __next__(self):
        steps = self.__dict__["steps"]
        self.__dict__["steps"] = steps - 1
        if not steps:
            Told.notes.append(("next", [tag(self)], "exhausted"))
            raise StopIteration
        return self.note("next", self, result=steps)

    def __setattr__(self, name, value):
        if name == "steps":
            self.__dict__["steps"] = value
        else:
            self.note("setattr " + name, self, value, fails=name == "missing")

    def __format__(self, spec):
        return self.note("format", self, *[spec] * bool(spec), result="text")

    def __enter__(self):
        return self.note("enter", self, result=self)

    def __exit__(self, *args):
        return True


def binary(name, symbol, kind):
    def method(self, other):
        return self.note(f"{kind} {symbol}", self, other, result=Told(), fails=other == 3)

    setattr(Told, name, method)


SYMBOLS = {"add": "+", "sub": "-", "mul": "*", "matmul": "@", "truediv": "/", "floordiv": "//"}
SYMBOLS |= {"mod": "%", "pow": "**", "lshift": "<<", "rshift": ">>", "and": "&", "or": "|"}
for name, symbol in SYMBOLS.items():
    binary(f"__{name}__", symbol, "binary")
    binary(f"__i{name}__", symbol + "=", "inplace")
for name, symbol in {"lt": "<", "le": "<=", "gt": ">", "ge": ">=", "ne": "!="}.items():
    binary(f"__{name}__", symbol, "compare")


def tag(value):
    """A value as both sides write it."""
    if isinstance(value, Told):
        return value.__dict__["tag"]
    if isinstance(value, KeyError):
        return f"raised ({value.args[0]},)"
    return value


STATEMENTS = [
    "x = a.field",
    "x = a.missing",
    "a.field = {n}",
    "a.missing = b",
    "del a.field",
    "del a.missing",
    "x = a[{n}]",
    "a[{n}] = b",
    "a[b] = {n}",
    "del a[{n}]",
    "x = {n} in a",
    "x = b not in a",
    "x = 1 if a else 2",
    "x = not a",
    "x = a and 5",
    "if a and b or c: x = 6",
    "while a:\n        break",
    "x = a()",
    "x = a({n}, b)",
    "x = a(1, 2, 3)",
    "x = a(1, k={n})",
    "x = a(b, k=c, l={n})",
    "for x in a: pass",
    "for x in a: y = x",
    "x = [y for y in a]",
    "p, q = a",
    "x = f'{{a}}'",
    "x = f'{{a:>{n}}}{{b}}'",
    "with a as x: a[1]",
    "with a: pass",
    "b = a",
    "a, b = b, a",
    "a.field[{n}].x",
    "a.field.other = a.third",
    "x = a[a.field]",
]
STATEMENTS += [f"x = a {symbol} {{n}}" for symbol in SYMBOLS.values()]
STATEMENTS += [f"x = a {symbol} b" for symbol in ("+", "-", "<", "!=", ">=")]
STATEMENTS += ["a += {n}", "a -= b", "x = a < b + c", "x = a < {n} != 2"]


def generated(numbered):
    lines = ["def program(a, b, c):"]
    for template, n in numbered:
        statement = template.format(n=n)
        lines += ["    try:", f"        {statement}".replace("\n        ", "\n            ")]
        lines += ["    except (KeyError, AttributeError) as error:", "        del error"]
    return "\n".join([*lines, "    return a"]) + "\n"


def reached(log, tags):
    """What the log says reached the objects of the reference, in their words."""
    found = []
    for each in log.find():
        receiver = each.operands[0] if each.operands else None
        if each.operation == "unpack":
            continue
        if not isinstance(receiver, objspace.dump.Ref):
            continue
        if not log.object(receiver.serial).type_name.endswith(".Told"):
            continue
        words = each.operation
        if each.operation in ("getattr", "setattr", "delattr", "binary", "inplace", "compare"):
            words += " " + each.name
        if each.name == "__exit__":
            continue

        def written(value):
            if not isinstance(value, objspace.dump.Ref):
                return value
            thing = log.object(value.serial)
            if thing.type_name.endswith(".Told"):
                return tags.setdefault(value.serial, f"?{value.serial}")
            if thing.type_name == "builtins.KeyError":
                return "raised " + thing.text
            return thing.value if thing.value is not None else thing.text

        result = each.value
        if each.status == "exhausted":
            result = "exhausted"
        found.append((words, [written(each) for each in each.operands], written(result)))
    return found


def same(found, notes):
    """Whether two accounts agree, up to the names of objects (consistently renamed)."""
    names: dict = {}
    assert len(found) == len(notes), (found, notes)
    for ours, theirs in zip(found, notes, strict=True):
        assert ours[0] == theirs[0], (ours, theirs)
        if ours[0] == "truth" and ours[2] is None:
            # Both ways lead to the same place.
            ours, theirs = (*ours[:2], 0), (*theirs[:2], 0)
        flat = [*ours[1], ours[2]], [*theirs[1], theirs[2]]
        assert len(flat[0]) == len(flat[1]), (ours, theirs)
        for mine, other in zip(*flat, strict=True):
            if isinstance(mine, str) and mine.startswith("?"):
                assert names.setdefault(mine, other) == other, (ours, theirs)
                assert isinstance(other, str)
                assert other.startswith("t"), (ours, theirs)
            else:
                assert mine == other, (ours, theirs)
    assert len(set(names.values())) == len(names)


@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(st.lists(st.tuples(st.sampled_from(STATEMENTS), st.integers(0, 4)), max_size=12))
def test_the_log_agrees_with_objects_that_tell(tmp_path, numbered):
    check(tmp_path, numbered)


@pytest.mark.parametrize("template", STATEMENTS)
def test_every_statement_agrees(tmp_path, template):
    check(tmp_path, [(template, n) for n in (0, 1, 3)])


def check(tmp_path, numbered):
    source = generated(numbered)
    names: dict = {}
    exec(compile(source, "<program>", "exec"), names)
    a, b, c = Told(), Told(), Told()
    Told.notes.clear()
    objspace.dump.start(tmp_path / "log", functions=["program"])
    try:
        names["program"](a, b, c)
    finally:
        objspace.dump.stop()
    log = objspace.dump.Log(tmp_path / "log")
    found, notes = reached(log, {}), list(Told.notes)
    try:
        same(*adjusted(log, found, notes))
    except AssertionError as error:
        raise AssertionError(f"{error}\n{source}\n{found}\n{notes}") from None
    assert not [each for each in log.find() if each.status in (None, "lost")]


def adjusted(log, found, notes):
    """`not in` and `not` give the opposite of what the object answered; `p, q = a` iterates in C."""
    results = []
    operations = [
        each
        for each in log.find()
        if each.operation in ("contains", "truth") and each.name.startswith("not")
    ]
    opposite = {each.number for each in operations}
    numbers = [
        each.number
        for each in log.find()
        if each.operands
        and isinstance(each.operands[0], objspace.dump.Ref)
        and log.object(each.operands[0].serial).type_name.endswith(".Told")
        and each.operation != "unpack"
        and each.name != "__exit__"
    ]
    for number, (words, operands, result) in zip(numbers, found, strict=True):
        results.append(
            (
                words,
                operands,
                operator.not_(result) if number in opposite and result is not None else result,
            )
        )
    return results, without_unpacking(log, notes)


def without_unpacking(log, kept):
    """The notes without what unpacking does by itself, in C, which is not in the log."""
    order = [
        each.operation
        for each in log.find()
        if each.operands
        and isinstance(each.operands[0], objspace.dump.Ref)
        and log.object(each.operands[0].serial).type_name.endswith(".Told")
        and each.name != "__exit__"
    ]
    result = []
    position = 0
    for operation in order:
        if operation == "unpack":
            # One `iter`, and three `next` of which the last finds nothing.
            assert kept[position][0] == "iter"
            position += 1
            while position < len(kept) and kept[position][0] == "next":
                position += 1
                if kept[position - 1][2] == "exhausted":
                    break
        else:
            result.append(kept[position])
            position += 1
    return result


def test_names_values_and_results_by_hand(record):
    class Box:
        pass

    def program(box):
        box.size = 2**70
        box.name = "short"
        box.data = b"\x00\xff"
        box.ratio = -0.5
        box.nothing = None
        numbers = [1, 2]
        numbers[0:1] = (5,)
        return numbers[::2], {"a": 1}, ...

    log = record(program, Box())
    rows = told(log)
    assert ("setattr", "size", ["<Box>", 2**70], "done", None) in rows
    assert ("setattr", "name", ["<Box>", "short"], "done", None) in rows
    assert ("setattr", "data", ["<Box>", b"\x00\xff"], "done", None) in rows
    assert ("setattr", "ratio", ["<Box>", -0.5], "done", None) in rows
    assert ("setattr", "nothing", ["<Box>", None], "done", None) in rows
    assert not [row for row in rows if row[3] in ("lost", None)]


def test_sites_say_where(record):
    def program(d):
        return d["key"] + d["other"]

    log = record(program, {"key": 1, "other": 2})
    sites = [log.site(each.site) for each in log.find()]
    first = sites[0]
    line = linecache.getline(first.file, first.line)
    parts = [line.encode()[site.column : site.end_column].decode() for site in sites]
    assert parts == ['d["key"]', 'd["other"]', 'd["key"] + d["other"]']
    assert first.file == __file__
    assert first.function.endswith("program")
    assert first.module == __name__


def test_an_operation_without_user_code_never_runs_any(record):
    class Loud:
        def __repr__(self):
            raise AssertionError("repr was called")

        __str__ = __hash__ = __repr__

        def __getattribute__(self, name):
            raise AssertionError("an attribute was asked for")

    def program(loud):
        x = [loud]
        y = (loud, loud)
        return x, y

    log = record(program, Loud())
    assert ("build", "list", ["<Loud>"], "result", "<list [<Loud>]>") in told(log)


def test_serials_are_not_used_again(record):
    class Box:
        pass

    def program():
        seen = set()
        for _ in range(50):
            seen.add(id(Box()))
        for _ in range(50):
            seen.add(id([1]))
        for _ in range(50):
            seen.add(id({}))
        for i in range(50):
            seen.add(id((i,)))
        return len(seen)

    log = record(program)
    assert log.find(operations=["call"])[-1].value < 100  # addresses were used again
    for text in ("Box", "list", "dict", "tuple"):
        serials = {
            each.operands[1].serial
            for each in log.find(operations=["call"])
            if len(each.operands) == 2
            and isinstance(each.operands[1], objspace.dump.Ref)
            and log.object(each.operands[1].serial).type_name.endswith(f".{text}")
            and log.object(each.operands[0].serial).text == "builtins.id"
        }
        assert len(serials) == 50, text


def test_the_life_of_an_object(record):
    class Box:
        pass

    def program():
        box = Box()
        box.x = 1
        box.x += 1
        del box
        return 5 + len("abc")

    log = record(program)
    born = log.find(operations=["call"])[0]
    life = log.life(born.value.serial)
    assert life.object.type_name.endswith("Box")
    assert [each.operation for each in life.operations] == ["call", "setattr", "getattr", "setattr"]
    after, thread = life.death
    assert log.operation(after).operation == "setattr"
    assert thread == 0


def test_a_dropped_result_is_not_lost(record):
    def program(items):
        items.pop()
        items.pop
        items[0]
        len(items)
        return items

    log = record(program, [1, 2, 3])
    values = [each.value for each in log.find() if each.operation != "getattr"]
    assert values == [3, 1, 2]
    assert all(each.status == "result" for each in log.find())
