"""Random programs that run deep: objects whose methods the interpreter calls, functions, generators.

`module(seed)` is the source of a module with `program(log)`. It calls `hold(log)` in all kinds of
places. `relay` pickles the running program at each of them that can be captured, and goes on from the
pickle: the log must be that of the uninterrupted run.

`chain_corpus.py FIRST COUNT` runs that many programs, and prints how many were moved how often.
"""

import contextlib
import random
import sys
import types
import warnings

from objspace import pickling

PRELUDE = """
import functools
import sys
from chain_corpus import hold

class Error(Exception):
    pass

def add(*args, **names):
    return [*args, *names.items()]

def note(log, what):
    log.append(repr(what))
"""

BINARY = ["+", "-", "*", "//", "%", "|", "&", "^", "@"]
NAMES = ["add", "sub", "mul", "floordiv", "mod", "or", "and", "xor", "matmul"]
COMPARED = {"==": "eq", "!=": "ne", "<": "lt", "<=": "le", ">": "gt", ">=": "ge"}


class Writer:
    """Writes one module. What stands at a level uses only what stands at lower ones."""

    def __init__(self, seed):
        self.random = random.Random(seed)
        self.lines = []
        self.fresh = 0

    def pick(self, *choices):
        return self.random.choice(choices)

    def chance(self, probability):
        return self.random.random() < probability

    def line(self, depth, text):
        self.lines.append("    " * depth + text)

    def value(self, level):
        """An expression without statements in it."""
        choices = ["a", "b", "1", "'s'", "None", "hold(log)"]
        if level:
            choices += [f"K{self.random.randrange(level)}({self.random.randrange(3)}, log)"] * 3
        return self.pick(*choices)

    def expression(self, level):
        one, two = self.value(level), self.value(level)
        lower = self.random.randrange(level) if level else None
        choices = [
            lambda: f"{one} {self.pick(*BINARY)} {two}",
            lambda: f"{one} {self.pick(*COMPARED)} {two}",
            lambda: f"{self.pick('-', '+', '~', 'not ')}({one})",
            lambda: f"({one})[{two}]",
            lambda: f"{one} {self.pick('in', 'not in')} ({two})",
            lambda: f"({one}).{self.pick('attribute', 'owned', 'missing')}",
            lambda: f"({one})({two}, log=log)",
            lambda: f"({one}).method({two})",
            lambda: f"({one}).of_class({two}, log)",
            lambda: f"add({one}, hold(log), key={two})",
            lambda: f"add(*[hold(log), {one}], **{{'k': {two}}})",
            lambda: f"{{'k': {one}, 'h': hold(log)}}",
            lambda: f"[{one}, hold(log), {two}]",
            lambda: f"[(x, hold(log)) for x in (1, 2) if {one} or x]",
            lambda: f"({one} if {two} else hold(log))",
            lambda: f"({one} {self.pick('and', 'or')} {two})",
            lambda: f"(lambda x: [x, hold(log)])({one})",
            lambda: "f'{hold(log)}{1}'",
        ]
        if lower is not None:
            choices += [
                lambda: f"f{lower}({one}, {two}, log)",
                lambda: f"functools.partial(f{lower}, {one})({two}, log=log)",
                lambda: f"next(g{lower}({one}, log), 5)",
                lambda: f"[x for x in g{lower}({one}, log)]",
                lambda: f"[*g{lower}({one}, log)]",
                lambda: f"list(g{lower}({one}, log))",
            ]
        return self.pick(*choices)()

    def statement(self, level, depth, deep=2):
        """A statement that raises what it will; the caller guards it."""
        expression = self.expression(level)
        simple = [
            lambda: self.line(depth, f"a = {expression}"),
            lambda: self.line(depth, f"b = {expression}"),
            lambda: self.line(depth, f"note(log, {expression})"),
            lambda: self.line(depth, f"a {self.pick(*BINARY)}= {self.value(level)}"),
            lambda: self.line(depth, f"({self.value(level)})[{self.value(level)}] = a"),
            lambda: self.line(depth, f"del ({self.value(level)})[{self.value(level)}]"),
            lambda: self.line(depth, f"({self.value(level)}).attribute = b"),
            lambda: self.line(depth, f"a, *b = {self.value(level)}, hold(log), 3"),
            lambda: self.line(depth, "raise Error(hold(log))"),
        ]
        if deep == 0 or self.chance(0.6):
            self.pick(*simple)()
            return
        block = [self.branch, self.loop, self.managed, self.guarded, self.closure]
        self.pick(*block)(level, depth, deep - 1)

    def body(self, level, depth, deep, count=2):
        for _ in range(self.random.randrange(1, count + 1)):
            self.statement(level, depth, deep)

    def branch(self, level, depth, deep):
        self.line(depth, f"if {self.expression(level)}:")
        self.body(level, depth + 1, deep)
        self.line(depth, "else:")
        self.body(level, depth + 1, deep)

    def loop(self, level, depth, deep):
        # Not over a list that the loop makes longer.
        over = "(1, hold(log))"
        if level and self.chance(0.8):
            lower = self.random.randrange(level)
            over = self.pick(f"g{lower}({self.value(level)}, log)", f"K{lower}(1, log)")
        self.line(depth, f"for b in {over}:")
        self.body(level, depth + 1, deep)
        if self.chance(0.4):
            self.line(depth + 1, self.pick("if hold(log) == 1: break", "continue"))
        if self.chance(0.3):
            self.line(depth, "else:")
            self.body(level, depth + 1, deep)

    def managed(self, level, depth, deep):
        self.line(depth, f"with {self.value(level)} as a:")
        self.body(level, depth + 1, deep)

    def guarded(self, level, depth, deep):
        self.line(depth, "try:")
        self.body(level, depth + 1, deep)
        if self.chance(0.8):
            self.line(depth, f"except {self.pick('Error', 'TypeError', 'Exception')} as error:")
            self.line(depth + 1, "note(log, [hold(log), error, sys.exception()])")
            self.body(level, depth + 1, deep, 1)
            if self.chance(0.4):
                self.line(depth + 1, "raise")
            if self.chance(0.3):
                self.line(depth, "else:")
                self.body(level, depth + 1, deep, 1)
            if self.chance(0.4):
                return
        self.line(depth, "finally:")
        self.line(depth + 1, "note(log, ['finally', hold(log), sys.exception()])")

    def closure(self, level, depth, deep):
        self.fresh += 1
        name = f"inner{self.fresh}"
        self.line(depth, f"def {name}(x, c=hold(log)):")
        self.line(depth + 1, "nonlocal a")
        self.line(depth + 1, "a = [x, c]")
        self.line(depth + 1, f"return {self.expression(level)}")
        self.line(depth, f"note(log, {name}({self.value(level)}))")

    def function(self, level):
        self.line(0, f"def f{level}(a, b, log):")
        for _ in range(3):
            # What one statement raises does not keep the next from being run.
            self.line(1, "try:")
            self.statement(level, 2)
            self.line(1, "except Exception as error:")
            self.line(2, "note(log, error)")
        self.line(1, f"return {self.pick('a', 'b', 'hold(log)', '[a, b]')}")
        self.line(0, f"def g{level}(a, log):")
        self.line(1, "b = 0")
        for _ in range(2):
            self.line(1, f"yield {self.expression(level)}")
            if self.chance(0.5):
                self.line(1, f"b = yield {self.value(level)}")
        if level and self.chance(0.5):
            self.line(1, f"yield from g{self.random.randrange(level)}(b, log)")
        self.line(1, "return hold(log)")

    def method(self, level, signature, *results):
        self.line(1, f"def {signature}:")
        self.line(2, "a = b = log = self.log")
        self.line(2, f"note(log, [self, {signature.split('(')[0]!r}])")
        if self.chance(0.5):
            self.line(2, f"a = {self.pick('hold(log)', self.expression(level))}")
        self.line(2, f"return {self.pick(*results)}")

    def thing(self, level):
        base = f"K{self.random.randrange(level)}" if level and self.chance(0.4) else "object"
        self.line(0, f"class K{level}({base}):")
        self.line(1, "def __init__(self, n, log):")
        if base != "object":
            self.line(2, "super().__init__(n, log)")
        self.line(2, "self.n, self.log, self.left = n, log, 2")
        if self.chance(0.5):
            self.line(2, "hold(log)")
        self.line(1, "def __repr__(self):")
        self.line(2, f"return f'K{level}-{{self.n}}'")
        self.line(1, "__hash__ = None")
        # Else it would be iterated over by `__getitem__`, without an end.
        self.line(1, "__iter__ = None")
        some = ["self", "hold(log)", "NotImplemented", "NotImplemented", "self.n", "[self, 1]"]
        for name in NAMES:
            for prefix in ("", "r", "i"):
                if self.chance(0.25):
                    self.method(level, f"__{prefix}{name}__(self, other)", *some)
        for name in COMPARED.values():
            if self.chance(0.35):
                self.method(level, f"__{name}__(self, other)", *some)
        for signature, *results in (
            ("__neg__(self)", "self", "hold(log)"),
            ("__invert__(self)", "hold(log)"),
            ("__bool__(self)", "bool(hold(log) % 2)", "True", "False"),
            ("__getitem__(self, key)", "hold(log)", "key"),
            ("__setitem__(self, key, value)", "hold(log)"),
            ("__delitem__(self, key)", "hold(log)"),
            ("__contains__(self, item)", "hold(log)", "self.n == 1"),
            ("__call__(self, *args, log)", "[args, hold(log)]", "self"),
            ("method(self, x)", "[x, hold(log)]", "self"),
            ("__enter__(self)", "self", "hold(log)"),
            ("__exit__(self, *error)", "hold(log) % 2", "None", "True"),
            ("__iter__(self)", "self", "iter([1, hold(log)])", "(x for x in [hold(log), 2])"),
        ):
            if self.chance(0.6):
                self.method(level, signature, *results)
        if self.chance(0.6):
            self.line(1, "def __next__(self):")
            self.line(2, "self.left -= 1")
            self.line(2, "if self.left < 0: raise StopIteration(hold(self.log))")
            self.line(2, "return hold(self.log)")
        if self.chance(0.6):
            self.line(1, "@property")
            self.line(1, "def owned(self):")
            self.line(2, "hold(self.log)")
            self.line(2, self.pick("raise AttributeError('owned')", "return hold(self.log)"))
        if self.chance(0.6):
            self.line(1, "def __getattr__(self, name):")
            self.line(2, "if name.startswith('_') or name == 'log': raise AttributeError(name)")
            self.line(2, "return [name, hold(self.log)]")
        if self.chance(0.5):
            self.line(1, "@classmethod")
            self.line(1, "def of_class(cls, x, log):")
            self.line(2, "return [cls.__name__, x, hold(log)]")

    def module(self):
        levels = 4
        for level in range(levels):
            self.thing(level)
            self.function(level)
        self.line(0, "def program(log):")
        for level in range(levels):
            self.line(1, f"note(log, f{level}(K{level}(1, log), {level}, log))")
        self.line(1, "return 'end'")
        return PRELUDE + "\n".join(self.lines) + "\n"


def module(seed):
    """The source of a program."""
    return Writer(seed).module()


class Holder:
    """What `hold` does: nothing, or one capture."""

    capture = False
    pickle = None
    value = None
    refused = 0
    code = "auto"


holder = Holder()


def hold(log):
    """A place where the program can be captured; returns a number that depends on the log."""
    value = len(log) % 4
    log.append("hold")
    if not holder.capture:
        return value
    try:
        result = pickling.capture()
    except pickling.PicklingError as error:
        if "cannot capture frame" not in str(error):
            raise
        holder.refused += 1
        return value
    if isinstance(result, pickling.Continuation):
        holder.capture = False
        holder.value = value
        holder.pickle = pickling.dumps(result, code=holder.code)
        # What this run does from here on does not count.
        raise SystemExit
    return result


def relay(program, code, most=400):
    """The log of a program that moves at every hold, how often it moved, how often it could not."""

    def whole():
        log = []
        return program(log), log

    holder.code, holder.refused, moves = code, 0, 0
    run = lambda: pickling.run(whole)  # noqa: E731
    while True:
        holder.capture, holder.pickle = moves < most, None
        result = None
        with contextlib.suppress(SystemExit):
            result = run()
        holder.capture = False
        if holder.pickle is None:
            return result, moves, holder.refused
        data, value = holder.pickle, holder.value
        moves += 1

        def run(data=data, value=value):
            continuation = pickling.loads(data)
            holder.capture = moves < most
            return continuation.resume(value)


def check(seed, warm=0, code="auto"):
    """Runs a program both ways."""
    made = types.ModuleType(f"chain_corpus_{seed}")
    sys.modules[made.__name__] = made
    try:
        warnings.simplefilter("ignore", SyntaxWarning)
        exec(compile(module(seed), f"<program {seed}>", "exec"), made.__dict__)
        for _ in range(warm + 1):
            log = []
            result = made.program(log)
        told, moves, refused = relay(made.program, code)
    finally:
        del sys.modules[made.__name__]
    if told != (result, log):
        at = next((i for i, pair in enumerate(zip(told[1], log)) if pair[0] != pair[1]), None)
        raise AssertionError(
            f"program {seed}: entry {at} of {len(log)} and {len(told[1])} differs\n"
            f"whole:   {log[at and max(0, at - 3) :][:8]}\nrelayed: {told[1][at and max(0, at - 3) :][:8]}"
        )
    return moves, refused


def main(first, count):
    sys.modules["chain_corpus"] = sys.modules[__name__]
    moves = refused = 0
    for seed in range(first, first + count):
        more = check(seed, warm=30 * (seed % 2), code=["auto", "value"][seed // 2 % 2])
        moves, refused = moves + more[0], refused + more[1]
    print(moves, refused)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
