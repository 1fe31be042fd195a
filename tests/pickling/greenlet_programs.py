"""Programs of plain greenlets. Each is run by a greenlet that switches to its parent now and then, and
returns what it has done; what it is resumed with is the number of the switch."""

import contextlib
import functools

import greenlet


def pause(*args):
    return greenlet.getcurrent().parent.switch(*args)


def flat():
    log = [pause("a")]
    for index in range(3):
        log.append((index, pause(index), [pause(), 7]))
    return log


def nested():
    def inner(n):
        local = n * 10
        if n:
            return [local, *inner(n - 1), pause(n)]
        return [pause("deep")]

    return inner(4)


class Made:
    def __init__(self, x):
        self.x = (x, pause("init"))

    def __add__(self, other):
        return self.x, other, pause("add")

    @property
    def prop(self):
        return pause("property")

    def __enter__(self):
        return pause("enter")

    def __exit__(self, kind, value, traceback):
        self.x = (kind, pause("exit"))
        return True

    def __getitem__(self, key):
        return key, pause("item")


def through_c():
    made = Made(1)
    log = [made.x, made + 2, made.prop, made[3]]
    with made as entered:
        log.append(entered)
        raise LookupError(pause("body"))
    log.append(made.x)
    log.append(functools.partial(pause, "partial")())
    return log


def handled():
    log = []
    try:
        raise KeyError("first")
    except KeyError:
        log.append(pause("handling"))
        try:
            raise ValueError("second")
        except ValueError as error:
            log.append((pause(), repr(error.__context__)))
        with contextlib.suppress(KeyError):
            pause("again")
            raise
    return log


def generators():
    def count(n):
        for index in range(n):
            got = yield pause(index)
            if got:
                yield got

    log = list(map(str, [1, 2]))
    for value in count(3):
        log.append(value)
    numbers = count(2)
    log.append(next(numbers))
    log.append(numbers.send(None))

    def outer():
        log.append((yield from count(2)))

    for value in outer():
        log.append((value, pause()))
    return log


def bound():
    main = greenlet.getcurrent().parent
    switch = main.switch
    return [switch(1), main.switch(2, k=3), greenlet.greenlet.switch(main, *[4]), main.switch(*[5])]


class Holder:
    def method(self):
        self.log = [pause(1)]
        self.log.append(pause(2))
        return self.log


PROGRAMS = {
    "flat": flat,
    "nested": nested,
    "through_c": through_c,
    "handled": handled,
    "generators": generators,
    "bound": bound,
    "method": Holder().method,
    "partial": functools.partial(pause, "from C"),
    "lambda": lambda: [pause(), *[pause(x) for x in (1, 2)]],
}


def start(name, at):
    """A greenlet that has been switched to `at` times, and what it has switched away with."""
    made = greenlet.greenlet(PROGRAMS[name])
    seen = []
    for number in range(at):
        seen.append(made.switch(*([number] if number else [])))
    return made, seen


def finish(made, number):
    """Resumes a greenlet until it is dead: all that it switches away with, its result last."""
    seen = []
    while not made.dead:
        seen.append(made.switch(*([number] if number else [])))
        number += 1
    return seen
