"""What the log says is what happened: against classes that tell themselves, and by hand."""

from __future__ import annotations

import contextlib
import linecache
import operator

import objspace.dump
import pytest
from hypothesis import HealthCheck, Phase, given, settings
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
        # Less than none if a loop within the loop has exhausted it.
        if steps <= 0:
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

    def __exit__(self, kind, error, traceback):
        return self.note("exit", *[error] * (error is not None), result=True)

    def __await__(self):
        self.note("await", self)
        yield
        return self.note("awaited", result=7)

    def __aiter__(self):
        self.steps = 2
        return self.note("iter async", self, result=self)

    def __anext__(self):
        return self.note("next async", self, result=Later(self))

    async def __aenter__(self):
        return self

    async def __aexit__(self, *args):
        return True

    def __repr__(self):
        return self.note("format !r", self, result="shown")


class Later:
    """What `__anext__` gives: nothing of it is noted."""

    def __init__(self, of):
        self.of = of

    def __await__(self):
        self.of.__dict__["steps"] -= 1
        if self.of.__dict__["steps"] < 0:
            raise StopAsyncIteration
        yield
        return self.of.__dict__["steps"]


def binary(name, symbol, kind):
    def method(self, other):
        return self.note(f"{kind} {symbol}", self, other, result=Told(), fails=other == 3)

    setattr(Told, name, method)


SYMBOLS = {"add": "+", "sub": "-", "mul": "*", "matmul": "@", "truediv": "/", "floordiv": "//"}
SYMBOLS |= {"mod": "%", "pow": "**", "lshift": "<<", "rshift": ">>", "and": "&", "or": "|"}
for name, symbol in SYMBOLS.items():
    binary(f"__{name}__", symbol, "binary")
    binary(f"__i{name}__", symbol + "=", "inplace")
for name, symbol in {"neg": "-", "pos": "+", "invert": "~"}.items():
    setattr(Told, f"__{name}__", lambda self, s=symbol: self.note(f"unary {s}", self, result=s))
for name, symbol in {"lt": "<", "le": "<=", "gt": ">", "ge": ">=", "ne": "!="}.items():
    binary(f"__{name}__", symbol, "compare")


def tag(value):
    """A value as both sides write it."""
    if isinstance(value, Told):
        return value.__dict__["tag"]
    if isinstance(value, KeyError):
        return f"raised ({value.args[0]},)"
    if isinstance(value, slice):
        return ("slice", tag(value.start), tag(value.stop))
    if callable(value):
        return value.__qualname__
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
STATEMENTS += [
    "x = a[1:{n}]",
    "x = a[:b]",
    "a[{n}:2] = c",
    "del a[{n}:]",
    "x = -a, +b, ~c",
    "x = a(*[{n}, b])",
    "x = a(*[1], k={n}, **{{'l': c}})",
    "x = a(*[1, 2, 3], **{{}})",
    "p, *q = a",
    "*p, = a",
    "x = f'{{a!r}}{{b[{n}]}}'",
    "x = a.field if b else c.field",
    "(x := a[{n}]) and b",
    "del a.field, b[{n}], c.missing",
    "a.field += {n}",
    "a[{n}] += 2",
    "a **= {n}",
    "a[b] @= {n}",
    "x = a < b < c[{n}]",
    "x = a < b >= {n}",
    "x = {{y: a[y] for y in b}}",
    "x = {{a[y] for y in b if c}}",
    "x = [a[y] for y in b if y != {n}]",
    "x = [y for z in a for y in b]",
    "x = [[a[z] for z in b] for y in c]",
    "x = list(a[y] for y in b)",
    "x = next(a[y] for y in b)",
    "def g(): yield a[{n}]\n    x = list(g())",
    "def g():\n        try: yield a[1]\n        finally: b[{n}]\n    i = g(); next(i); i.close()",
    "def g():\n        try: yield a[1]\n        except KeyError: b[{n}]; raise"
    "\n    i = g(); next(i); i.throw(KeyError(8))",
    "def g(): return (yield from a)\n    x = [c + y for y in g()]",
    "def g():\n        nonlocal a\n        a = b; a[{n}]\n    g()",
    "def g():\n        global kept\n        kept = a; kept[{n}]; del kept\n    g()",
    "@a\n    def g(): pass",
    "@a.field\n    @b\n    def g(): pass",
    "class g:\n        x = a[{n}]; y = b.field\n        def z(self): pass",
    "class g:\n        def m(self): return a[{n}]\n    g().m()",
    "x = (lambda y: a[y])({n})",
    "with a as x, b: x[{n}]",
    "with a:\n        b.missing",
    "with a:\n        raise KeyError(5)",
    "with a:\n        try: b[{n}]\n        finally: c[3]",
    "try: a[3]\n    finally: b[{n}]",
    "try: a[3]\n    except KeyError as error: b[3]",
    "try: a.missing\n    except KeyError as error: raise KeyError({n}) from error",
    "try: a[{n}]\n    except KeyError: pass\n    else: b[1]\n    finally: c.field",
    "assert a, b[{n}]\n    x = c",
    "for x in a:\n        if b: continue\n        a[x]",
    "for x in a:\n        b[{n}]; break\n    else: c[1]",
    "while a[{n}]: break",
    "match a[{n}]:\n        case 0 | 3: b[1]\n        case 1: b[2]\n        case x if c: b[x]",
    "match [a, {n}]:\n        case [x, 1]: x[1]\n        case [x, *y]: x[2]",
    "match {{'k': a}}:\n        case {{'k': x, **y}}: x[{n}]",
    "match a:\n        case int(): b[1]\n        case Told(): b[2]",
]
ASYNC = [
    "x = await a",
    "x = [await y for y in (a, b)]",
    "async with a as x: x[{n}]",
    "async with a: b[3]",
    "async for x in a: b[x]",
    "async for x in a:\n        if x: break",
    "x = [b[y] async for y in a]",
    "async def g():\n        yield a[{n}]; yield b[1]\n    async for x in g(): c[x]",
    "x = await a + (await b)",
]
STATEMENTS += ["a += {n}", "a -= b", "x = a < b + c", "x = a < {n} != 2"]


def generated(numbered, keyword=""):
    lines = [f"{keyword}def program(a, b, c):"]
    for template, n in numbered:
        first, *rest = template.format(n=n).split("\n")
        lines += ["    try:", f"        {first}", *(f"        {line[4:]}" for line in rest)]
        lines += [
            "    except (KeyError, AttributeError, AssertionError) as error:",
            "        del error",
        ]
    return "\n".join([*lines, "    return a"]) + "\n"


#: Operations that reach their first operand.
REACHING = {
    *("getattr", "setattr", "delattr", "getitem", "setitem", "delitem", "contains", "truth"),
    *("call", "call_ex", "iter", "next", "unpack", "format", "enter", "exit", "unary", "binary"),
    *("inplace", "compare", "await", "send"),
}
NAMED = {"getattr", "setattr", "delattr", "binary", "inplace", "compare", "unary"}


class Account:
    """What the log says reached the objects of the reference, in their words."""

    def __init__(self, log):
        self.log = log
        self.tags: dict = {}
        self.slices: dict = {}
        self.rows = [row for each in log.find() if (row := self.row(each)) is not None]

    def type_of(self, value):
        if not isinstance(value, objspace.dump.Ref):
            return ""
        return self.log.object(value.serial).type_name.rpartition(".")[2]

    def written(self, value):
        if not isinstance(value, objspace.dump.Ref):
            return value
        thing = self.log.object(value.serial)
        match self.type_of(value):
            case "Told":
                return self.tags.setdefault(value.serial, f"?{value.serial}")
            case "KeyError":
                return f"raised {thing.text}"
            case "slice":
                return self.slices.get(value.serial, "slice")
        return thing.value if thing.value is not None else thing.text

    def row(self, each):
        """(operation, operands, result, whether operands are known) if it reaches one of them."""
        operands = [self.written(value) for value in each.operands]
        if each.operation == "build" and each.name == "slice":
            self.slices[each.value.serial] = ("slice", *operands)
        if each.operation not in REACHING or not operands:
            return None
        result = "exhausted" if each.status == "exhausted" else self.written(each.value)
        kind = self.type_of(each.operands[0])
        if kind == "method" and operands[0] == "Told.__exit__":
            return ("exit", [value for value in operands[1:] if value is not None], result, True)
        if kind != "Told" or (each.operation, each.name) == ("enter", "async"):
            return None
        words = each.operation
        if words in NAMED or each.name in ("async", "!r"):
            words += " " + each.name
        if each.name == "slice":
            operands[1:3] = [("slice", *operands[1:3])]
        if each.name.startswith("not") and words in ("contains", "truth") and result is not None:
            # The object was asked the opposite.
            result = operator.not_(result)
        if words == "call_ex":
            return ("call", operands[:1], result, False)
        return (words, operands, result, True)


def compare(account, notes):
    """Whether two accounts agree, up to the names of objects (consistently renamed)."""
    names: dict = {}
    notes = [note for note in notes if note[0] != "awaited"]

    def is_same(mine, other):
        if isinstance(mine, tuple) and isinstance(other, tuple):
            return len(mine) == len(other) and all(map(is_same, mine, other))
        if mine == "slice" and isinstance(other, tuple):
            # Made in C; its bounds are among the operands.
            return True
        if isinstance(mine, str) and mine.startswith("?"):
            is_object = isinstance(other, str) and other.startswith("t")
            return is_object and names.setdefault(mine, other) == other
        return mine == other and type(mine) is type(other)

    position = 0
    for words, operands, result, are_known in account:
        assert position < len(notes), f"{words} {operands} happened only in the log"
        operation, theirs, outcome = notes[position]
        position += 1
        about = f"log: {words} {operands} {result}; object: {operation} {theirs} {outcome}"
        if words == "unpack":
            # Done in C: `iter`, and `next` until there is none; what is behind a star is a list of
            # the iterator, which is asked for its iterator again.
            assert operation == "iter", about
            assert is_same(operands[0], theirs[0]), about
            while notes[position - 1][2] != "exhausted":
                assert notes[position][0] in ("iter", "next"), about
                assert notes[position][1] == theirs, about
                position += 1
            continue
        if words == "send":
            # `yield from` of an iterator that cannot be sent to.
            words, operands = "next", operands[:1]
            result = "exhausted" if result is None else result
        assert words == operation, about
        if are_known:
            assert len(operands) == len(theirs), about
        for mine, other in zip(operands, theirs, strict=are_known):
            assert is_same(mine, other), about
        if words in ("await", "next async") or (words == "truth" and result is None):
            # An iterator of the reference; a test both of whose ways lead to the same place.
            continue
        assert is_same(result, outcome), about
    assert position == len(notes), f"only the objects know of {notes[position:]}"
    assert len(set(names.values())) == len(names)


# Not the phase in which Hypothesis itself listens to `sys.monitoring`: docs/limits.md.
@settings(
    max_examples=60,
    deadline=None,
    phases=[Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink],
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(st.lists(st.tuples(st.sampled_from(STATEMENTS), st.integers(0, 4)), max_size=12))
def test_the_log_agrees_with_objects_that_tell(tmp_path, numbered):
    check(tmp_path, numbered)


@pytest.mark.parametrize("template", STATEMENTS)
def test_every_statement_agrees(tmp_path, template):
    check(tmp_path, [(template, n) for n in (0, 1, 3)])


@pytest.mark.parametrize("template", ASYNC)
def test_every_asynchronous_statement_agrees(tmp_path, template):
    check(tmp_path, [(template, n) for n in (0, 1, 3)], "async ")


def run_to_its_end(coroutine):
    """An event loop without events."""
    with contextlib.suppress(StopIteration):
        while True:
            coroutine.send(None)


def check(tmp_path, numbered, keyword=""):
    source = generated(numbered, keyword)
    names: dict = {"Told": Told}
    exec(compile_source(source), names)
    # What a tag is decides what is true.
    Told.count = 0
    a, b, c = Told(), Told(), Told()
    Told.notes.clear()
    objspace.dump.start(tmp_path / "log", files=["<program>"])
    try:
        done = names["program"](a, b, c)
        if keyword:
            run_to_its_end(done)
    finally:
        objspace.dump.stop()
    log = objspace.dump.Log(tmp_path / "log")
    account, notes = Account(log).rows, list(Told.notes)
    try:
        compare(account, notes)
    except AssertionError as error:
        raise AssertionError(f"{error}\n{source}\n{account}\n{notes}") from None
    assert not [each for each in log.find() if each.status in (None, "lost")]


def compile_source(source):
    return compile(source, "<program>", "exec")


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
