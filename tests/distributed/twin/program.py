"""A program is a list of steps; a step is an operation and four numbers that choose its operands.

Run with `here` and `there` both of this process, it tells what should happen; run with a `there`
of another process, what does. Steps that would put an object into itself are found by the first run
and left out by both: how deep a recursion goes is not what is compared.
"""

from __future__ import annotations

import operator
import threading

from .world import KINDS

OPERATIONS = {}
PLAIN = (None, 0, 1, 2, -1, 1.5, "x", "long text", b"b", True, (1, "t"), frozenset([1]), 10**30)
IMMUTABLE = (type(None), int, float, str, bytes, bool)
POOL_LIMIT = 14


class Skip(Exception):
    """The step has nothing to work on."""


def step(function):
    OPERATIONS[function.__name__] = function
    return function


class Run:
    """One run of one program."""

    def __init__(self, here, there, left_out=None):
        self.here, self.there = here, there
        self.pool = []
        self.first = left_out is None
        self.left_out = set() if left_out is None else left_out
        self.position = -1
        # Programs run at the same time in one world, each in a thread of its own.
        self.lane = threading.get_ident()

    def of(self, number, *kinds):
        """An object of the pool, of one of these types if any are named."""
        fitting = [x for x in self.pool if not kinds or type(x).__name__ in kinds]
        if not fitting:
            raise Skip
        return fitting[number % len(fitting)]

    def plain(self, number):
        return PLAIN[number % len(PLAIN)]

    def value(self, number):
        """A plain value or an object of the pool."""
        if number % 3 == 0 and self.pool:
            return self.pool[number // 3 % len(self.pool)]
        return self.plain(number)

    def into(self, number, container):
        """A value to be put into a container."""
        value = self.value(number)
        if self.first and reaches(value, container):
            self.left_out.add(self.position)
        if self.position in self.left_out:
            raise Skip
        return value

    def side(self, number):
        return self.there if number % 3 else self.here

    def add(self, value):
        if len(self.pool) < POOL_LIMIT and not any(value is known for known in self.pool):
            self.pool.append(value)

    def execute(self, program):
        """The outcome of each step."""
        outcomes = []
        names = list(OPERATIONS)
        for position, (which, a, b, c) in enumerate(program[:4]):
            kind = KINDS[(a + b + c) % len(KINDS)]
            self.add(self.side(which + position).make(kind, self.plain(a)))
        for self.position, (which, a, b, c) in enumerate(program):
            name = names[which % len(names)]
            outcomes.append((name, self.outcome(OPERATIONS[name], a, b, c)))
        outcomes.append(("pool", [self.normal(value, top=False) for value in self.pool]))
        return outcomes

    def outcome(self, function, a, b, c):
        try:
            value = function(self, a, b, c)
        except Skip:
            return "skipped"
        except Exception as error:
            return self.error(error)
        outcome = self.normal(value)
        if type(value).__name__ in MUTABLE:
            self.add(value)
        return outcome

    def error(self, error):
        causes = []
        cause = error.__cause__
        while cause is not None:
            causes.append((type(cause).__name__, str(cause)))
            cause = cause.__cause__
        if type(error) is TypeError:
            # Its text names the types of operands, of which one may be a copy.
            return "raised", "TypeError", str(error).count("NotImplemented")
        return (
            "raised",
            [kind.__name__ for kind in type(error).__mro__],
            str(error),
            self.normal(error.args),
            getattr(error, "code", None) if type(error).__name__ == "AppError" else None,
            list(getattr(error, "__notes__", ())),
            causes,
        )

    def normal(self, value, depth=0, top=True):
        """A value as plain data, the same for the same value in both worlds."""
        kind = type(value).__name__
        if isinstance(value, IMMUTABLE):
            return kind, repr(value)
        if depth > 5:
            return kind
        if top or depth:
            for index, known in enumerate(self.pool):
                if known is value:
                    return "pool", index
        inside = depth + 1
        if kind == "tuple":
            return kind, [self.normal(item, inside) for item in value]
        if kind in ("list", "deque", "Words"):
            return kind, [self.normal(item, inside) for item in value]
        if kind in ("set", "frozenset", "dict_keys"):
            return kind, sorted(repr(self.normal(item, inside)) for item in value)
        if kind == "dict":
            return kind, [
                (self.normal(key, inside), self.normal(item, inside)) for key, item in value.items()
            ]
        if kind == "bytearray":
            return kind, list(value)
        if kind in ("Thing", "Child"):
            return kind, self.normal(value.value, inside), self.normal(list(value.items), inside)
        if kind == "Slotted":
            return kind, self.normal(value.a, inside), hasattr(value, "b")
        return kind

    def clear(self):
        """Takes everything apart, so that no cycle is left that goes through both worlds."""
        for value in self.pool:
            kind = type(value).__name__
            if kind in ("list", "dict", "set", "bytearray", "deque", "Words"):
                value.clear()
            elif kind in ("Thing", "Child"):
                value.items, value.value = [], None
            elif kind == "Slotted":
                value.a = value.b = None
            elif kind == "generator":
                value.close()
        self.there.forget(self.lane)
        self.here.forget(self.lane)
        self.pool.clear()


MUTABLE = (
    "list",
    "dict",
    "set",
    "bytearray",
    "deque",
    "Thing",
    "Child",
    "Slotted",
    "Words",
    "generator",
)


def reaches(value, container, seen=None):
    """Whether the container is found in the value."""
    seen = {} if seen is None else seen
    if value is container:
        return True
    if id(value) in seen or isinstance(value, IMMUTABLE):
        return False
    seen[id(value)] = value
    if isinstance(value, dict):
        inner = [*value, *value.values()]
    elif isinstance(value, (list, tuple, set, frozenset)) or type(value).__name__ == "deque":
        inner = list(value)
    elif hasattr(value, "items") and hasattr(value, "value"):
        inner = [value.value, value.items]
    elif type(value).__name__ == "Slotted":
        inner = [value.a, getattr(value, "b", None)]
    elif type(value).__name__ == "generator":
        return False
    else:
        inner = []
    return any(reaches(item, container, seen) for item in inner)


LISTS = ("list", "Words")
SEQUENCES = ("list", "Words", "deque")
THINGS = ("Thing", "Child")


# Making and sharing


@step
def make(run, a, b, c):
    value = run.side(a).make(KINDS[b % len(KINDS)], run.plain(c))
    run.add(value)
    return value


@step
def make_more(run, a, b, c):
    return make(run, a, b, c)


@step
def make_unknown(run, a, b, c):
    return run.side(a).make("nothing of that kind", None)


@step
def make_of_class(run, a, b, c):
    side = run.side(a)
    value = (side.Thing, side.Child, side.Slotted)[b % 3](run.plain(c))
    run.add(value)
    return value


@step
def same(run, a, b, c):
    x, y = run.of(a), run.of(b)
    return x is y, run.there.same(x, y), run.there.same(x, x), run.here.same(x, y)


@step
def keep(run, a, b, c):
    side, value = run.side(a), run.of(b)
    side.keep(run.lane, c % 3, value)
    return side.kept(run.lane, c % 3) is value


@step
def kept(run, a, b, c):
    return run.side(a).kept(run.lane, b % 4)


@step
def types(run, a, b, c):
    x, y = run.of(a), run.of(b)
    return type(x) is type(y), isinstance(x, type(y)), type(x).__name__, x.__class__ is type(x)


# Sequences


@step
def append(run, a, b, c):
    x = run.of(a, *SEQUENCES)
    return x.append(run.into(b, x))


@step
def extend(run, a, b, c):
    x, y = run.of(a, *SEQUENCES), run.of(b, *SEQUENCES, "dict")
    if x is y:
        raise Skip
    if run.first and any(reaches(item, x) for item in y):
        run.left_out.add(run.position)
    if run.position in run.left_out:
        raise Skip
    if c % 2:
        x.extend(y)
    else:
        kept = x
        x += y
        return x is kept
    return None


@step
def insert(run, a, b, c):
    x = run.of(a, *SEQUENCES)
    return x.insert(c % 5 - 2, run.into(b, x))


@step
def pop(run, a, b, c):
    x = run.of(a, *SEQUENCES, "bytearray")
    if type(x).__name__ == "deque":
        return x.pop()
    return x.pop(b % 5 - 2)


@step
def remove(run, a, b, c):
    return run.of(a, *SEQUENCES).remove(run.plain(b))


@step
def index(run, a, b, c):
    x = run.of(a, *SEQUENCES)
    return x.index(run.plain(b)), x.count(run.plain(c))


@step
def item(run, a, b, c):
    return run.of(a, *SEQUENCES, "bytearray", *THINGS)[b % 7 - 3]


@step
def slices(run, a, b, c):
    return run.of(a, *LISTS, "bytearray")[slice(*bounds(b, c))]


def bounds(b, c):
    return (
        None if b % 4 == 0 else b % 7 - 3,
        None if c % 4 == 0 else c % 9 - 4,
        (None, 1, 2, -1)[(b + c) % 4],
    )


@step
def set_item(run, a, b, c):
    x = run.of(a, *SEQUENCES)
    x[b % 5 - 2] = run.into(c, x)


@step
def set_slice(run, a, b, c):
    x, y = run.of(a, *LISTS), run.of(c, *LISTS, "deque", "dict")
    if run.first and any(reaches(item, x) for item in y):
        run.left_out.add(run.position)
    if run.position in run.left_out:
        raise Skip
    x[slice(*bounds(b, c))] = y


@step
def delete_item(run, a, b, c):
    x = run.of(a, *LISTS, "bytearray")
    if c % 2:
        del x[b % 5 - 2]
    else:
        del x[slice(*bounds(b, c))]


@step
def order(run, a, b, c):
    x = run.of(a, *LISTS)
    if b % 3 == 0:
        return x.reverse()
    if b % 3 == 1:
        return x.sort(key=lambda item: (type(item).__name__, len(str(type(item)))), reverse=c % 2)
    return x.sort()


@step
def arithmetic(run, a, b, c):
    x = run.of(a, *SEQUENCES, "bytearray")
    how = b % 4
    if how == 0:
        return x * (c % 3)
    if how == 1:
        return (c % 3) * x
    y = run.of(c, *SEQUENCES, *THINGS)
    return x + y


@step
def repeat_in_place(run, a, b, c):
    x = kept = run.of(a, *SEQUENCES, "bytearray")
    if len(x) > 30:
        raise Skip
    x *= b % 3
    return x is kept


@step
def whole(run, a, b, c):
    x = run.of(a, *SEQUENCES, "dict", "set", "bytearray", *THINGS)
    how = b % 7
    if how == 0:
        return len(x), bool(x)
    if how == 1:
        return sorted(repr(run.normal(item, 1)) for item in x)
    if how == 2:
        return [run.normal(item, 1) for item in reversed(x)] if hasattr(x, "__reversed__") else None
    if how == 3:
        return run.plain(c) in x
    if how == 4:
        return type(x.copy()).__name__ if hasattr(x, "copy") else None
    if how == 5:
        return sum(1 for _ in x), any(True for _ in x)
    return max(x, key=lambda item: str(run.normal(item, 1)), default=None)


@step
def words(run, a, b, c):
    return run.of(a, "Words").longest()


@step
def unpack(run, a, b, c):
    first, *rest = run.of(a, *SEQUENCES)
    return first, tuple(rest)


@step
def star(run, a, b, c):
    x = run.of(a, *SEQUENCES)
    return run.side(b).call(lambda *args: len(args), *x)


# Comparisons


@step
def compare(run, a, b, c):
    x, y = run.of(a), run.value(b)
    how = (operator.eq, operator.ne, operator.lt, operator.le, operator.gt, operator.ge)[c % 6]
    return how(x, y)


@step
def compare_reflected(run, a, b, c):
    x, y = run.of(a), run.value(b)
    how = (operator.eq, operator.ne, operator.lt, operator.le, operator.gt, operator.ge)[c % 6]
    return how(y, x)


@step
def compare_over_there(run, a, b, c):
    x, y = run.of(a), run.value(b)
    how = (operator.eq, operator.ne, operator.lt, operator.le, operator.gt, operator.ge)[c % 6]
    return run.there.call(how, x, y)


@step
def hashes(run, a, b, c):
    x = run.of(a)
    if hash(x) != hash(x):
        return "changes"
    return {x: 1}[x]


# Dicts and sets


@step
def dict_set(run, a, b, c):
    x = run.of(a, "dict")
    x[run.plain(b)] = run.into(c, x)


@step
def dict_get(run, a, b, c):
    return run.of(a, "dict")[run.plain(b)]


@step
def dict_methods(run, a, b, c):
    x, key, how = run.of(a, "dict"), run.plain(b), c % 7
    if how == 0:
        return x.get(key, "default")
    if how == 1:
        return x.pop(key)
    if how == 2:
        return x.setdefault(key, run.into(c // 7, x))
    if how == 3:
        return list(x), list(x.values()), list(x.items())
    if how == 4:
        return x.popitem()
    if how == 5:
        return key in x, key in x.keys(), len(x.items())
    del x[key]
    return None


@step
def dict_merge(run, a, b, c):
    x, y, how = run.of(a, "dict"), run.of(b, "dict"), c % 4
    if how == 0:
        return x | y
    if how == 1:
        return {**x, **y}
    if run.first and any(reaches(item, x) for item in y.values()):
        run.left_out.add(run.position)
    if run.position in run.left_out:
        raise Skip
    if how == 2:
        return x.update(y)
    kept = x
    x |= y
    return x is kept


@step
def dict_views(run, a, b, c):
    x, y = run.of(a, "dict"), run.of(b, "dict", "set")
    how = (operator.and_, operator.or_, operator.sub, operator.xor, operator.eq, operator.le)[c % 6]
    return how(x.keys(), y if isinstance(y, set) else y.keys())


@step
def set_operators(run, a, b, c):
    x, y = run.of(a, "set"), run.of(b, "set")
    how = (operator.and_, operator.or_, operator.sub, operator.xor, operator.le, operator.lt)[c % 6]
    return how(x, y)


@step
def set_in_place(run, a, b, c):
    x, y = run.of(a, "set"), run.of(b, "set")
    how = (operator.iand, operator.ior, operator.isub, operator.ixor)[c % 4]
    return how(x, y) is x


@step
def set_methods(run, a, b, c):
    x, value, how = run.of(a, "set"), run.plain(b), c % 5
    if how == 0:
        return x.add(value)
    if how == 1:
        return x.discard(value)
    if how == 2:
        return x.remove(value)
    if how == 3:
        return x.isdisjoint([value]), x.issuperset([value]), x.union([value])
    return x.update([value, 1])


@step
def add_object_to_set(run, a, b, c):
    return run.of(a, "set").add(run.of(b, *THINGS, "Slotted", "list"))


@step
def bytes_of(run, a, b, c):
    x = run.of(a, "bytearray")
    how = b % 5
    if how == 0:
        return x.upper(), x.hex(), x == b"bytes"
    if how == 1:
        return x.append(c % 300)
    if how == 2:
        return x.find(b"t"), x.decode()
    if how == 3:
        x[0:2] = b"##"
        return None
    kept = x
    x += b"!"
    return x is kept


# Objects of users' classes


@step
def read_attribute(run, a, b, c):
    return getattr(
        run.of(a, *THINGS, "Slotted"), ("value", "items", "a", "b", "shared", "no")[b % 6]
    )


@step
def write_attribute(run, a, b, c):
    x = run.of(a, *THINGS, "Slotted")
    setattr(x, ("value", "extra", "a", "b", "double")[b % 5], run.plain(c))


@step
def delete_attribute(run, a, b, c):
    delattr(run.of(a, *THINGS, "Slotted"), ("extra", "b", "shared", "no")[b % 4])


@step
def properties(run, a, b, c):
    return run.of(a, *THINGS).double


@step
def method(run, a, b, c):
    x = run.of(a, *THINGS)
    return x.method(run.value(b), *[run.plain(c)] * (b % 3), key=run.value(c))


@step
def wrong_arguments(run, a, b, c):
    return run.of(a, *THINGS).method()


@step
def chain(run, a, b, c):
    x = run.of(a, *THINGS)
    return x.chain() is x, x.chain().chain().value


@step
def call_it(run, a, b, c):
    return run.of(a)(run.plain(b), key=run.plain(c))


@step
def add(run, a, b, c):
    x = run.of(a, *THINGS)
    return (x + run.plain(b)) if c % 2 else (run.plain(b) + x)


@step
def add_in_place(run, a, b, c):
    x = kept = run.of(a, *THINGS)
    x += run.into(b, x)
    return x is kept


@step
def enter(run, a, b, c):
    x = run.of(a, *THINGS)
    with x as entered:
        if b % 3 == 0:
            raise KeyError("suppressed")
        if b % 3 == 1:
            raise run.side(c).AppError("through", code=c % 5)
    return entered is x


@step
def fail(run, a, b, c):
    kinds = (ValueError, KeyError, ZeroDivisionError, OSError)
    return run.of(a, *THINGS).fail(kinds[b % 4], "note" if c % 2 else None)


@step
def caught_by_class(run, a, b, c):
    x = run.of(a, *THINGS)
    try:
        x.fail(ValueError)
    except run.here.AppError:
        return "a class of one or the other"
    except run.there.AppError:
        return "a class of one or the other"


# Callbacks


@step
def callback(run, a, b, c):
    x = run.of(a, *THINGS)
    return x.each(lambda item: (item, b))


@step
def callback_that_fails(run, a, b, c):
    x = run.of(a, *THINGS)

    def failing(item):
        raise (ValueError, run.here.AppError, run.there.AppError)[b % 3]("callback")

    return x.each(failing)


@step
def caught_over_there(run, a, b, c):
    def failing(value):
        if b % 4 == 0:
            return value
        raise (ValueError, run.here.AppError, run.there.AppError)[b % 4 - 1](
            "callback", *[1] * (b % 2)
        )

    return run.there.caught(failing, run.value(c))


@step
def nested_calls(run, a, b, c):
    there = run.there

    def down(depth):
        if depth == 0:
            if c % 2:
                raise KeyError("bottom")
            return run.value(a)
        return there.call(down, depth - 1)

    return down(b % 5)


@step
def operation_over_there(run, a, b, c):
    x, y = run.of(a), run.value(b)
    how = (operator.add, operator.contains, operator.getitem, operator.mul, operator.or_)[c % 5]
    if how is operator.mul and not isinstance(y, int):
        raise Skip
    if how is operator.mul and y > 5:
        raise Skip
    return run.there.call(how, x, y)


@step
def change_while_over_there(run, a, b, c):
    x = run.of(a, "list")
    value = run.plain(b)
    return run.there.call(lambda y: (y.append(value), y is x, len(y) == len(x)), x)


# Generators


@step
def advance(run, a, b, c):
    x = run.of(a, "generator")
    how = b % 5
    if how == 0:
        return x.send(c % 10)
    if how == 1:
        return x.throw(ValueError("thrown"))
    if how == 2:
        return x.throw(KeyError("not caught"))
    if how == 3:
        return x.close()
    return next(x)


@step
def stop_value(run, a, b, c):
    x = run.of(a, "generator")
    try:
        while True:
            x.send(None)
    except StopIteration as stop:
        return stop.value


@step
def delegate(run, a, b, c):
    x = run.of(a, "generator")

    def outer():
        result = yield from x
        yield ("result", result)

    return list(outer())


@step
def generator_over_there(run, a, b, c):
    x = run.of(a, "generator")
    return run.there.call(next, x, "exhausted")
