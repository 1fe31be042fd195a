"""Random programs: generator functions of every statement that can stand around a `yield`.

`program(seed)` is the source of one function `f(log)`. `Run` drives one; `serve` is what a child
process does for the tests: it loads pickles and drives them to their end.
"""

import base64
import json
import random
import sys
import traceback

PRELUDE = """
import contextlib

class Manager:
    def __init__(self, log, name, swallow=False):
        self.log, self.name, self.swallow = log, name, swallow
    def __enter__(self):
        self.log.append(("enter", self.name))
        return len(self.log)
    def __exit__(self, kind, error, tb):
        self.log.append(("exit", self.name, kind and kind.__name__))
        return self.swallow

@contextlib.contextmanager
def managed(log, name):
    log.append(("in", name))
    try:
        yield name
    finally:
        log.append(("out", name))

def add(*args, **kwargs):
    return sum(a for a in args if isinstance(a, int)) + len(kwargs)

def sub(n, log):
    got = yield ("sub", n)
    log.append(got)
    for i in range(n):
        yield i
    return n

class Error(Exception):
    pass
"""

NAMES = "abcd"


class Writer:
    """Writes the body of one function."""

    def __init__(self, seed):
        self.random = random.Random(seed)
        self.lines = []
        self.left = 28
        self.fresh = 0

    def pick(self, *choices):
        return self.random.choice(choices)

    def line(self, depth, text):
        self.lines.append("    " * depth + text)

    def name(self):
        return self.pick(*NAMES)

    def new(self, kind):
        self.fresh += 1
        return f"{kind}{self.fresh}"

    def number(self, deep=2):
        """An expression that is an int, or what was sent."""
        if deep == 0:
            return self.pick(self.name(), str(self.random.randrange(5)))
        kind = self.random.randrange(14)
        one, two = self.number(deep - 1), self.number(deep - 1)
        return {
            0: f"({one} + {two})",
            1: f"add({one}, {two})",
            2: f"add({one}, *[{two}, {one}], k={two})",
            3: f"len([{one}, (yield {two}), {one}])",
            4: f"add({one}, (yield {two}), {one})",
            5: f"((yield {one}) or {two})",
            6: f"len(f'{{{one}}}-{{(yield {two})}}')",
            7: f"sum([x + {one} for x in range(3) if x != {two}])",
            8: f"({one} if {two} % 2 else (yield {one}) or 0)",
            9: f"sum({{x: x * 2 for x in range({self.random.randrange(4)})}}.values())",
            10: f"(lambda x, y=2: x + y)({one})",
            11: f"[{one}, {two}, 1][(yield 0) is None]",
            12: f"{{'k': {one}}}['k']",
            13: f"{one}",
        }[kind]

    def block(self, depth, loop=False, length=None):
        before = len(self.lines)
        for _ in range(length or self.random.randrange(1, 4)):
            self.statement(depth, loop)
        if len(self.lines) == before:
            self.line(depth, f"log.append({self.name()})")

    def statement(self, depth, loop):
        self.left -= 1
        simple = depth > 5 or self.left < 0
        kind = self.random.randrange(6 if simple else 24)
        r = self.random
        match kind:
            case 0:
                self.line(depth, f"{self.name()} = {self.number()}")
            case 1:
                self.line(depth, f"{self.name()} {self.pick('+', '-', '*')}= {self.number(1)}")
            case 2:
                self.line(depth, f"yield {self.number(1)}")
            case 3:
                self.line(depth, f"{self.name()} = (yield {self.number(1)}) or {self.number(0)}")
            case 4:
                self.line(depth, f"log.append({self.number(1)})")
            case 5:
                if loop and r.random() < 0.5:
                    self.line(depth, f"if {self.name()} % 3 == 0: {self.pick('break', 'continue')}")
                elif r.random() < 0.2:
                    self.line(depth, f"if {self.name()} > 40: return {self.name()}")
                else:
                    self.line(depth, f"assert {self.name()} is not None")
            case 6 | 7:
                self.line(depth, f"if {self.number(1)} % 2:")
                self.block(depth + 1, loop)
                if r.random() < 0.6:
                    self.line(depth, "else:")
                    self.block(depth + 1, loop)
            case 8 | 9 | 10:
                self.loop(depth)
            case 11:
                count = self.new("w")
                self.line(depth, f"{count} = 0")
                self.line(depth, f"while {count} < {r.randrange(1, 3)}:")
                self.line(depth + 1, f"{count} += 1")
                self.block(depth + 1, True)
                if r.random() < 0.3:
                    self.line(depth, "else:")
                    self.block(depth + 1, loop)
            case 12 | 13 | 14:
                self.attempt(depth, loop)
            case 15 | 16:
                self.manage(depth, loop)
            case 17:
                self.line(depth, f"{self.name()} = (yield from sub({r.randrange(3)}, log)) or 1")
            case 18 | 19:
                self.closure(depth)
            case 20:
                inner = self.new("g")
                self.line(depth, f"def {inner}(n={self.name()} % 3):")
                self.line(depth + 1, "for i in range(n):")
                self.line(depth + 2, "got = yield i")
                self.line(depth + 2, f"log.append((got, {self.name()}))")
                self.line(depth, f"for v in {inner}():")
                self.line(depth + 1, f"{self.name()} += v")
                self.block(depth + 1, True, 1)
            case 21:
                self.line(depth, f"match ({self.name()} % 3, (yield {self.name()})):")
                self.line(depth + 1, "case (0, None):")
                self.block(depth + 2, loop, 1)
                self.line(depth + 1, "case (x, y) if x == 1:")
                self.line(depth + 2, "log.append((x, y))")
                self.block(depth + 2, loop, 1)
                self.line(depth + 1, "case _:")
                self.block(depth + 2, loop, 1)
            case 22:
                lazy = self.new("e")
                self.line(depth, f"{lazy} = (x + {r.randrange(3)} for x in [1, 2, 3])")
                self.line(depth, f"log.append(next({lazy}))")
                self.line(depth, f"yield {self.name()}")
                self.line(depth, f"log.append(list({lazy}))")
            case 23:
                self.line(depth, f"yield ({self.name()}, [log[-1:], {{'k': {self.name()}}}])")

    def loop(self, depth):
        target, over = self.pick(
            ("i", f"range({self.random.randrange(4)})"),
            ("i", "[3, 1, 2]"),
            ("i", "(x for x in range(3))"),
            ("i, j", "enumerate('xy')"),
            ("i, j", "zip(range(3), 'ab')"),
            ("i, j", "{'a': 1, 'b': 2}.items()"),
            ("i", "{'a': 1, 'b': 2}"),
            ("i", "map(str, range(2))"),
            ("i", "reversed([1, 2])"),
            ("i", "sub(1, log)"),
        )
        self.line(depth, f"for {target} in {over}:")
        self.line(depth + 1, f"log.append({target.split(',')[0]})")
        self.block(depth + 1, True)
        if self.random.random() < 0.2:
            self.line(depth, "else:")
            self.block(depth + 1, False, 1)

    def attempt(self, depth, loop):
        r = self.random
        self.line(depth, "try:")
        self.block(depth + 1, loop)
        if r.random() < 0.7:
            self.line(
                depth + 1, f"if {self.name()} % 2: raise {self.pick('Error(1)', 'KeyError(2)')}"
            )
            self.block(depth + 1, loop, 1)
        handled = r.random() < 0.8
        if handled:
            star = r.random() < 0.15
            if star:
                self.line(depth, "except* Error as error:")
            else:
                self.line(
                    depth, self.pick("except Error as error:", "except (Error, KeyError) as error:")
                )
            # A loop cannot be left from within except*.
            self.block(depth + 1, loop and not star)
            self.line(depth + 1, "log.append(repr(error))")
            if star:
                self.lines = [
                    line.replace("return ", "pass #") if number > 0 else line
                    for number, line in enumerate(self.lines)
                ]
            elif r.random() < 0.25:
                self.line(depth + 1, f"if {self.name()} > 3: raise")
            if r.random() < 0.3:
                self.line(depth, "else:")
                self.block(depth + 1, loop, 1)
        if not handled or r.random() < 0.4:
            self.line(depth, "finally:")
            self.block(depth + 1, False, 1)
            self.line(depth + 1, "log.append('finally')")

    def manage(self, depth, loop):
        name = self.new("m")
        self.line(
            depth,
            self.pick(
                f"with Manager(log, {name!r}, True) as {self.name()}:",
                f"with Manager(log, {name!r}):",
                f"with managed(log, {name!r}), Manager(log, 'second'):",
            ),
        )
        self.block(depth + 1, loop)
        if self.random.random() < 0.3:
            self.line(depth + 1, f"if {self.name()} > 1: raise Error({name!r})")

    def closure(self, depth):
        inner, shared = self.new("f"), self.new("s")
        self.line(depth, f"{shared} = {self.name()}")
        self.line(depth, f"def {inner}(x):")
        self.line(depth + 1, f"nonlocal {shared}")
        self.line(depth + 1, f"{shared} += x")
        self.line(depth + 1, f"return {shared} + len(log)")
        self.line(depth, f"yield {inner}(1)")
        self.line(depth, f"{self.name()} = {inner}({self.number(1)}) + {shared}")


def program(seed):
    """The source of a function `f_SEED(log)`."""
    for attempt in range(100):
        writer = Writer(f"{seed}/{attempt}")
        writer.line(0, f"def f_{seed}(log):")
        writer.line(1, "a, b, c, d = 1, 2, 3, 4")
        writer.block(1, length=6)
        writer.line(1, "yield a")
        writer.line(1, "return a, b, c, d")
        source = "\n".join(writer.lines) + "\n"
        try:
            compile(source, "<corpus>", "exec")
        except SyntaxError:
            continue
        return source
    raise AssertionError(f"no program for {seed}")


def module(seeds):
    """The source of a module of programs."""
    return PRELUDE + "\n\n" + "\n\n".join(map(program, seeds))


def end(generator):
    """Closes a generator that may yield while it is closed."""
    for _ in range(50):
        try:
            generator.close()
        except RuntimeError:
            continue
        except Exception:
            pass
        return


def drive(generator, log, start, most):
    """Drives a generator from its yield number `start` to its end: what happens on the way."""
    trace = []
    try:
        for number in range(start, most):
            sent = None if number == 0 or number % 3 == 2 else number
            trace.append(("yield", repr(generator.send(sent))))
        trace.append(("more",))
    except StopIteration as stop:
        trace.append(("return", repr(stop.value)))
    except Exception as error:
        lines = [entry.lineno for entry in traceback.extract_tb(error.__traceback__)[1:]]
        trace.append(("raise", repr(error), lines))
    end(generator)
    trace.append(("log", repr(log)))
    return json.loads(json.dumps(trace))


def serve():
    """Reads lines of JSON: a pickle of (generator, log), where it stands, and how far to go."""
    from objspace import pickling

    for line in sys.stdin:
        data, start, most = json.loads(line)
        try:
            generator, log = pickling.loads(base64.b64decode(data))
            answer = drive(generator, log, start, most)
        except BaseException:
            answer = traceback.format_exc()
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    sys.path.insert(0, sys.argv[1])
    serve()
