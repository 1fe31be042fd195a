"""Programs for tests of suspended frames: each is a function without arguments that returns a driver.

A driver has `step()`, which returns what the program has done up to its next suspension or None at the
end, and `object`, the suspended object. Everything that a program does is in the list that it returns
in the end, so that a run that was interrupted, pickled and continued elsewhere can be compared.
"""

import functools
import itertools
import sys


class Ticks:
    """Awaited, it gives control back to the driver `count` times."""

    def __init__(self, count=1):
        self.count = count

    def __await__(self):
        for index in range(self.count):
            yield index
        return self.count


class Manager:
    def __init__(self, log, name, suppress=False):
        self.log, self.name, self.suppress = log, name, suppress

    def __enter__(self):
        self.log.append(("enter", self.name))
        return self

    def __exit__(self, kind, error, traceback):
        self.log.append(("exit", self.name, kind and kind.__name__))
        return self.suppress


class AsyncManager(Manager):
    async def __aenter__(self):
        await Ticks()
        return self.__enter__()

    async def __aexit__(self, *error):
        await Ticks()
        return self.__exit__(*error)


# ---------------------------------------------------------------- generators


def loops():
    log = []
    for x in [1, 2, 3]:
        yield log
        for y in range(2):
            log.append((x, y))
            yield log
    for key in {"a": 1, "b": 2}.items():
        yield log
        log.append(key)
    for index, (a, b) in enumerate(zip("xyz", map(str, (1, 2, 3)))):
        log.append((index, a, b))
        yield log
    n = 3
    while n:
        n -= 1
        log.append(n)
        yield log
    return log


def handlers():
    log = []
    try:
        try:
            yield log
            raise ValueError("one")
        except ValueError as error:
            log.append(repr(error))
            yield log
            try:
                raise KeyError("two")
            except KeyError:
                yield log
                log.append(repr(sys.exc_info()[1]))
                log.append(repr(sys.exc_info()[1].__context__))
            yield log
            log.append(repr(sys.exc_info()[1]))
            raise
        finally:
            yield log
            log.append("finally")
    except ValueError as again:
        log.append(("again", repr(again)))
        yield log
    else:
        log.append("else")
    try:
        yield log
    finally:
        log.append("end")
        yield log
    return log


def groups():
    log = []
    try:
        yield log
        raise ExceptionGroup("g", [ValueError(1), TypeError(2), KeyError(3)])
    except* ValueError as group:
        log.append(repr(group))
        yield log
    except* (TypeError, KeyError) as group:
        yield log
        log.append(repr(group))
    return log


def displays_in_finally():
    log = []
    try:
        try:
            raise LookupError("lost")
        finally:
            yield [2, 1, 1][(yield log) is None]
    except LookupError:
        yield log
    try:
        raise LookupError("lost")
    except LookupError:
        yield [2, 1, 1][(yield log) is None]
    return log


def managers():
    log = []
    with Manager(log, "a"), Manager(log, "b", suppress=True):
        yield log
        with Manager(log, "c") as manager:
            log.append(manager.name)
            yield log
            raise LookupError("lost")
    yield log
    return log


def half_evaluated():
    log = []

    def show(*args, **kwargs):
        return args, sorted(kwargs.items())

    a = [1, (yield log), 3, *((yield log) or ())]
    log.append(a)
    log.append(show(1, (yield log), *[2, 3], key=(yield log), other=(yield log)))
    log.append(f"{(yield log)}-{1 + ((yield log) or 1)!r:>4}")
    table = {"k": 1}
    table["k"] += (yield log) or 5
    log.append(table)
    log.append({"x": (yield log), **table, (yield log): 2})
    log.append("abcdef"[(yield log) or 1 : 3])
    log.append((yield log) or "or")
    log.append("yes" if (yield log) is None else "no")
    log.append(1 < 2 < ((yield log) or 3))
    log.append({1, 2, (yield log)} == {1, 2, None})
    log.append(log.count((yield log)))

    def defaults(x=(yield log), *, y=(yield log)):
        return x, y

    log.append(defaults())
    return log


def comprehensions():
    log = []
    pairs = ((x, y) for x in range(2) for y in "ab")
    for pair in pairs:
        log.append(pair)
        yield log
    x = "kept"
    log.append([x for x in range(3)])
    yield log
    log.append({x: y for x, y in zip("ab", itertools.count())})
    log.append(x)
    cells = [lambda: x for x in range(2)]
    yield log
    log.append([cell() for cell in cells])
    return log


def closures():
    log = []
    total = 0

    def add(n):
        nonlocal total
        total += n
        return total

    for n in (1, 2, 3):
        log.append(add(n))
        yield log
    log.append(total)

    def itself(n):
        return 1 if n == 0 else n * itself(n - 1)

    yield log
    log.append(itself(5))
    del total
    yield log
    try:
        add(1)
    except NameError as error:
        log.append(str(error))
    return log


def delegation():
    log = []

    def inner(n):
        for index in range(n):
            got = yield log
            log.append(("inner", index, got))
        return n * 10

    log.append((yield from inner(2)))
    log.append((yield from inner(1)))
    yield from [log, log]
    return log


def unbound():
    log = []
    for index in range(2):
        try:
            log.append(late)
        except UnboundLocalError:
            log.append("unbound")
        yield log
        late = index
        yield log
    del late
    yield log
    try:
        late
    except UnboundLocalError:
        log.append("unbound again")
    yield log
    return log


def iterators():
    log = []
    pieces = [
        iter([1, 2, 3, 4]),
        iter((1, 2, 3, 4)),
        iter(range(4)),
        iter("abcd"),
        iter(b"abcd"),
        reversed([1, 2, 3, 4]),
        itertools.chain([1, 2], [3, 4]),
        itertools.islice(itertools.count(5), 4),
        enumerate("wxyz"),
        filter(None, [1, 0, 2, 3]),
        iter([]),
    ]
    for iterator in pieces:
        log.append(next(iterator, None))
        yield log
        log.extend(iterator)
    yield log
    log.append([next(iterator, "end") for iterator in pieces])
    return log


def matching():
    log = []
    for value in ({"a": 1, "b": [2, 3]}, [1, 2, 3], "text", 5):
        match value:
            case {"a": x, **rest} if (yield log) is None:
                log.append(("mapping", x, rest))
            case [first, *others] if (yield log) is None:
                log.append(("sequence", first, others))
            case str() if (yield log) is None:
                log.append(("str", value))
            case _:
                log.append(("other", value))
        yield log
    return log


def arguments(a=1, /, b=2, *args, c=3, **kwargs):
    log = [(a, b, args, c, sorted(kwargs))]
    a = yield log
    log.append((a, b, args, c, sorted(kwargs)))
    yield log
    return log


def many_variables():
    log = []
    names = {f"v{n}": n for n in range(300)}
    v0, v1, v2, v3, v4, v5, v6, v7, v8, v9 = (names[f"v{n}"] for n in range(10))
    yield log
    log.append(v0 + v1 + v2 + v3 + v4 + v5 + v6 + v7 + v8 + v9)
    yield log
    return log


class Methods:
    def __init__(self):
        self.log = []

    def run(self):
        for step in range(3):
            self.log.append(step)
            yield self.log
        return self.log


def method():
    return Methods().run()


def decorated():
    @functools.wraps(loops)
    def wrapper():
        result = yield from loops()
        return [*result, "wrapped"]

    return wrapper()


def own_generator():
    """A generator that refers to itself."""
    box = []

    def body():
        log = []
        me = box[0]
        for index in range(2):
            log.append((index, me.gi_running, me is box[0]))
            yield log
        return log

    generator = body()
    box.append(generator)
    return generator


GENERATORS = {
    name: globals()[name]
    for name in [
        "loops",
        "handlers",
        "groups",
        "displays_in_finally",
        "managers",
        "half_evaluated",
        "comprehensions",
        "closures",
        "delegation",
        "unbound",
        "iterators",
        "matching",
        "arguments",
        "many_variables",
        "method",
        "decorated",
        "own_generator",
    ]
}


# ---------------------------------------------------------------- coroutines


async def leaf(log, n):
    log.append(("leaf", n, await Ticks(2)))
    try:
        await Ticks()
        raise ValueError(n)
    except ValueError as error:
        await Ticks()
        log.append(repr(error))
        return n + 1


async def middle(log):
    async with AsyncManager(log, "outer", suppress=True):
        log.append(await leaf(log, 1))
        async with AsyncManager(log, "inner"):
            log.append([await leaf(log, n) for n in range(2)])
            raise LookupError
    return "middle"


async def chain():
    log = []
    log.append(await middle(log))
    return log


async def counting(log, n):
    try:
        for index in range(n):
            await Ticks()
            got = yield index
            log.append(("got", got))
    finally:
        log.append("closed")


async def closing(log):
    try:
        yield 1
    finally:
        await Ticks(2)
        log.append("closed late")


async def async_loops():
    log = []
    async for x in counting(log, 2):
        await Ticks()
        log.append(x)
    log.append([x async for x in counting(log, 2) if await leaf(log, x)])
    generator = counting(log, 3)
    log.append(await generator.asend(None))
    log.append(await generator.asend("sent"))
    await generator.aclose()
    generator = counting(log, 3)
    await anext(generator)
    try:
        await generator.athrow(KeyError("thrown"))
    except KeyError as error:
        log.append(repr(error))
    log.append(await anext(generator, "default"))
    generator = closing(log)
    log.append(await anext(generator))
    await generator.aclose()
    generator = closing(log)
    log.append(await anext(generator))
    log.append(await anext(generator, "end"))
    return log


async def awaitables():
    log = []
    generator = counting(log, 3)
    waiting = [generator.asend(None), anext(generator, "none")]
    await Ticks()
    for awaitable in waiting:
        log.append(await awaitable)
    wrapper = leaf(log, 7).__await__()

    class Wrapped:
        def __await__(self):
            return wrapper

    await Ticks()
    log.append(await Wrapped())
    return log


async def async_half_evaluated():
    log = []
    log.append((1, await leaf(log, 1), {"k": await leaf(log, 2)}, f"{await leaf(log, 3)}"))
    log.append(max(await leaf(log, 1), *[await leaf(log, n) for n in range(2)]))
    return log


async def async_generator():
    log = []
    for index in range(3):
        got = yield index
        log.append(got)
        await Ticks()
    yield log


async def async_generator_run():
    log = []
    generator = async_generator()
    async for value in generator:
        log.append(value if isinstance(value, int) else list(value))
    return log


COROUTINES = {
    name: globals()[name]
    for name in [
        "chain",
        "async_loops",
        "awaitables",
        "async_half_evaluated",
        "async_generator_run",
    ]
}
PROGRAMS = GENERATORS | COROUTINES


def start(name):
    """The suspended object of a program, which has not begun."""
    return PROGRAMS[name]()


def finish(object_):
    """Runs a program to its end: how many steps it took, and its result."""
    count = 0
    while True:
        try:
            object_.send(None)
        except StopIteration as stop:
            return count, stop.value
        count += 1


def advance(object_, steps):
    """Runs a program for some steps. Whether it is still suspended."""
    for _ in range(steps):
        try:
            object_.send(None)
        except StopIteration:
            return False
    return True
