"""Programs for tests of running frames. Each calls `hold()` somewhere deep, once or several times, and
returns all that it has done.

`hold` pickles the running program at the call whose number is in `hold.at`, and then goes on with
"value"; a program that is resumed with "value" elsewhere must return the same.
"""

import contextlib
import functools
import operator
import sys
import traceback

from objspace import pickling


class Hold:
    """Where the program is captured."""

    # How code travels.
    code = "auto"

    def __init__(self):
        self.at = None
        self.count = 0
        self.pickle = None


holder = Hold()


def hold():
    number = holder.count
    holder.count += 1
    if number != holder.at:
        return "value"
    result = pickling.capture()
    if isinstance(result, pickling.Continuation):
        holder.pickle = pickling.dumps(result, code=holder.code)
        return "value"
    return result


def run(name, at=None):
    """Runs a program: its result, the number of its holds, and the pickle of the hold at `at`."""
    holder.__init__()
    holder.at = at
    result = pickling.run(PROGRAMS[name])
    return result, holder.count, holder.pickle


def resume(data, value="value"):
    """Runs a pickled program to its end."""
    holder.__init__()
    return pickling.loads(data).resume(value)


def relay(name):
    """Pickles a program at each hold and goes on from the pickle: the result, and how often."""
    result, _, data = run(name, 0)
    moves = 0
    while data is not None:
        moves += 1
        holder.__init__()
        holder.at = 0
        result = pickling.loads(data).resume("value")
        data = holder.pickle
    return result, moves


def plain():
    log = [hold()]
    for index in range(2):
        log.append((index, hold()))
    return log


def nested():
    def inner(n):
        x = n * 2
        result = [1, hold(), x] if n == 0 else [x, *inner(n - 1), x]
        return result

    return inner(4)


def keywords():
    def show(*args, a=hold, **kwargs):
        return args, a(), sorted(kwargs.items())

    log = [show(1, hold(), a=hold, b=hold(), c=hold())]
    log.append(show(*[hold(), 2], a=lambda: hold() + "!", d=1))
    log.append(f"{hold()!r:>10}{hold()}")
    return log


class Thing:
    made = 0

    def __init__(self, name, log):
        self.name, self.log = name, log
        type(self).made += 1
        log.append(("init", name, hold()))

    @property
    def prop(self):
        return self.name + hold()

    @prop.setter
    def prop(self, value):
        self.log.append(("set", value, hold()))

    @prop.deleter
    def prop(self):
        self.log.append(("del", hold()))

    def method(self, x):
        return [self.name, x, hold()]

    @classmethod
    def from_class(cls, log):
        return cls("class " + hold(), log)

    @staticmethod
    def static(x):
        return x, hold()

    def __call__(self, x):
        return "called", x, hold()

    def __add__(self, other):
        hold()
        return NotImplemented if isinstance(other, Other) else ("add", self.name, other, hold())

    def __radd__(self, other):
        return "radd", other, hold()

    def __iadd__(self, other):
        self.log.append(("iadd", other, hold()))
        return self

    def __mul__(self, other):
        return "mul", other, hold()

    def __neg__(self):
        return "neg", hold()

    def __pos__(self):
        return "pos", hold()

    def __invert__(self):
        return "invert", hold()

    def __bool__(self):
        return hold() == "value"

    def __eq__(self, other):
        return NotImplemented if isinstance(other, Other) else hold() == "value"

    def __lt__(self, other):
        return "lt", other, hold()

    __hash__ = None

    def __getitem__(self, key):
        return "item", key, hold()

    def __setitem__(self, key, value):
        self.log.append(("setitem", key, value, hold()))

    def __delitem__(self, key):
        self.log.append(("delitem", key, hold()))

    def __contains__(self, item):
        return [item, hold()]

    def __enter__(self):
        self.log.append(("enter", hold()))
        return self

    def __exit__(self, kind, error, trace):
        self.log.append(("exit", kind and kind.__name__, hold()))
        return kind is LookupError

    def __iter__(self):
        self.log.append(("iter", hold()))
        return Counter(3)


class Other:
    def __radd__(self, other):
        return "other radd", hold()

    def __eq__(self, other):
        return "other eq", hold()

    __hash__ = None


class Counter:
    def __init__(self, n):
        self.n = n

    def __iter__(self):
        return self

    def __next__(self):
        hold()
        self.n -= 1
        if self.n < 0:
            raise StopIteration
        return self.n, hold()


class Dynamic:
    def __getattr__(self, name):
        if name == "missing" or name.startswith("__"):
            raise AttributeError(name)
        if name == "function":
            return lambda x: (x, hold())
        return name, hold()

    @property
    def broken(self):
        hold()
        raise AttributeError("broken")

    def __setattr__(self, name, value):
        object.__setattr__(self, name, (value, hold()))

    def __delattr__(self, name):
        hold()
        object.__delattr__(self, name)


class Defaults(dict):
    def __missing__(self, key):
        return "missing", key, hold()


def objects():
    log = []
    thing = Thing("thing", log)
    log.append(thing.method(hold()))
    log.append(Thing.from_class(log).name)
    log.append(Thing.static(1))
    log.append(thing(5))
    log.append(thing.prop)
    thing.prop = "new"
    del thing.prop
    log.append(thing.prop.upper())
    return log


def operators():
    log = []
    thing = Thing("thing", log)
    log.append(thing + 1)
    log.append(1 + thing)
    log.append(thing + Other())
    thing += 2
    log.append(thing * 3)
    log.append([-thing, +thing, ~thing])
    log.append(thing == 1)
    log.append(thing == Other())
    log.append(thing < 2)
    log.append(3 > thing)
    log.append(1 in thing)
    log.append(1 not in thing)
    log.append(not thing)
    log.append("true" if thing else "false")
    while not thing:
        log.append("never")
    log.append(thing and "and")
    log.append(thing[1])
    log.append(thing[1:2])
    thing[3] = hold()
    thing[4:5] = "slice"
    del thing[6]
    log.append(Defaults()["key"])
    return log


def boundaries():
    log = []
    with Thing("manager", log) as manager:
        log.append(manager.name)
        hold()
    with Thing("failing", log):
        hold()
        raise LookupError
    for value in Thing("iterated", log):
        log.append(value)
    dynamic = Dynamic()
    log.append(dynamic.anything)
    log.append(dynamic.broken)
    log.append(dynamic.function(1))
    dynamic.x = 5
    log.append(dynamic.x)
    del dynamic.x
    log.append(dynamic.x)
    try:
        dynamic.missing  # noqa: B018
    except AttributeError as error:
        log.append(repr(error))
    return log


def decorate(function):
    @functools.wraps(function)
    def wrapper(*args, **kwargs):
        hold()
        return ["wrapped", function(*args, **kwargs)]

    return wrapper


@decorate
def decorated_function(a, *, b):
    return a, b, hold()


@contextlib.contextmanager
def managed(log):
    log.append(("begin", hold()))
    try:
        yield hold()
    finally:
        log.append(("end", hold()))


def partials():
    log = []
    log.append(functools.partial(decorated_function, 1)(b=2))
    log.append(functools.partial(functools.partial(Thing.static), 3)())
    log.append((lambda x: (x, hold()))(4))
    return log


def consumed(n):
    for index in range(n):
        got = yield index, hold()
        hold()
        if got:
            yield "got", got
    hold()
    return "done"


def generators():
    log = []
    for value in consumed(2):
        log.append((value, hold()))
    generator = (x for x in consumed(2))
    for value in generator:
        log.append(value)

    def outer():
        result = yield from consumed(2)
        log.append(("result", result))
        yield "last", hold()

    for value in outer():
        log.append(value)
    stepped = consumed(2)
    log.append(next(stepped))
    log.append(stepped.send("sent"))
    log.append(next(stepped))
    log.append(next(stepped, "default"))
    log.append([value for value in consumed(1)])
    return log


class Ticks:
    def __await__(self):
        hold()
        yield "tick"
        hold()
        return "ticked"


async def sub(log, n):
    log.append(("sub", n, hold()))
    log.append(await Ticks())
    try:
        raise ValueError(n)
    except ValueError:
        log.append(repr(sys.exc_info()[1]))
        hold()
        log.append(repr(sys.exc_info()[1]))
    return n


async def coroutine(log):
    log.append(await sub(log, 1))
    log.append([await sub(log, n) for n in range(2)])


def coroutines():
    log = []
    running = coroutine(log)
    while True:
        try:
            log.append(running.send(None))
        except StopIteration:
            return log


def exceptions():
    log = []
    try:
        raise ValueError("outer")
    except ValueError:
        try:
            raise KeyError("inner")
        except KeyError:
            hold()
            log.append(repr(sys.exc_info()[1]))
            deeper(log)
        hold()
        log.append(repr(sys.exc_info()[1]))
        try:
            hold()
            raise
        except ValueError as error:
            log.append(repr(error.__context__))
    log.append(sys.exc_info())
    try:
        hold()
    finally:
        log.append("finally")
    return log


def deeper(log):
    log.append(repr(sys.exc_info()[1]))
    hold()
    log.append(repr(sys.exc_info()[1]))
    try:
        raise
    except KeyError:
        log.append(("re-raised", hold()))


def names():
    """What the frames look like from inside."""

    def inner():
        hold()
        frame, found = sys._getframe(), []
        while frame and frame.f_code.co_name != "names":
            found.append((frame.f_code.co_name, frame.f_lineno - frame.f_code.co_firstlineno))
            frame = frame.f_back
        found.append((frame.f_code.co_name, frame.f_lineno - frame.f_code.co_firstlineno))
        return found

    class Local:
        @property
        def value(self):
            return [inner()]

    return [
        inner(),
        *Local().value,
        [x for x in (lambda: inner())()],
    ]


def raises():
    """The traceback of an exception that passes through frames that were resumed."""

    def thrower(n):
        if n:
            thrower(n - 1)
        hold()
        raise LookupError(n)

    def middle():
        for _ in consumed_raising():
            pass

    def consumed_raising():
        with contextlib.suppress(ZeroDivisionError):
            yield thrower(2)

    try:
        middle()
    except LookupError as error:
        return [(entry.name, entry.lineno) for entry in traceback.extract_tb(error.__traceback__)]


def closures():
    log = []
    total = 0

    def add(n):
        nonlocal total
        total += n
        log.append((total, hold()))
        return lambda: total

    get = add(1)
    hold()
    add(2)
    log.append(get())
    return log


def supers():
    log = []

    class Base:
        def __init__(self, x):
            log.append(("base", x, hold()))

        def method(self):
            return ["base", hold()]

    class Derived(Base):
        def __init__(self, x):
            super().__init__(x + 1)
            self.x = hold()

        def method(self):
            return ["derived", *super().method(), __class__.__name__]

    derived = Derived(1)
    log.append((derived.x, derived.method()))
    return log


def recursion():
    def down(n):
        return hold() if n == 0 else [n, down(n - 1)][1]

    return down(100)


def deep_operators():
    class Number:
        def __init__(self, n):
            self.n = n

        def __add__(self, other):
            return [hold()] if self.n == 0 else [operator.neg(1), Number(self.n - 1) + 1]

    return Number(5) + 1


def callables():
    """Objects that can be called, whose other methods are called by the interpreter."""

    class Thing:
        def __call__(self, *args, **names):
            return [args, names, hold()]

        def __enter__(self):
            self.entered = hold()
            return self

        def __exit__(self, *exception):
            self.left = [exception[0], hold()]
            return True

        def __getattr__(self, name):
            if name.startswith("__"):
                raise AttributeError(name)
            return [name, hold()]

        def __eq__(self, other):
            return [other, hold()]

        __hash__ = None

        def __contains__(self, item):
            return hold()

        def __neg__(self):
            return ["neg", hold()]

        def __radd__(self, other):
            return [other, hold()]

        def __setitem__(self, key, value):
            self.item = [key, value, hold()]

        @property
        def owned(self):
            return hold()

    thing = Thing()
    log = [thing(1, two=2), thing.missing, thing == 3, 4 in thing, -thing, 5 + thing, thing.owned]
    thing[6] = 7
    with thing as same:
        log.append(same is thing)
    log += [thing.item, thing.entered, thing.left]
    with thing:
        raise KeyError
    log.append(thing.left)
    with thing:
        return log


PROGRAMS = {
    name: globals()[name]
    for name in (
        "plain nested keywords objects operators boundaries partials generators coroutines "
        "exceptions names raises closures supers recursion deep_operators callables"
    ).split()
}
