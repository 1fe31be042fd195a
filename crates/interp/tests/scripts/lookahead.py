"""Run by lookahead.rs, which provides spy, agent, deaf, keen, log and understood."""

import gc
import operator
import sys
import time

p = spy()
q = spy()
log()

CALL = (True, [], True)  # called at once
VALUE = (False, None, False)  # nothing is known


def chain(*names, call=False):
    return (False, list(names), call)


# Each expression, and what the first fetch of an attribute must learn.
cases = {
    # calls
    "p.foo()": CALL,
    "p.foo(1, 'a', None, 2.5)": CALL,
    "p.foo(a, b, a)": CALL,
    "p.foo(a, k=b)": CALL,
    "p.foo(k=1, l=a)": CALL,
    "p.foo([1, 2, 3])": CALL,
    "p.foo([1, 2, a])": CALL,
    "p.foo((a, b), [a, [b, ()]])": CALL,
    "p.foo({1, 2, 3})": CALL,
    "p.foo({})": CALL,
    "p.foo({'a': a, 'b': b})": CALL,
    "p.foo({'a': a})": CALL,
    "p.foo({'a': 1})": CALL,
    "p.foo(a is b, a is not b)": CALL,
    "p.foo(lambda: a)": CALL,
    "p.foo(lambda x=a, *, y=b: x)": CALL,
    "p.foo(p, q)": CALL,
    "p.foo(len, sys)": CALL,
    "p.foo(-1, 2 ** 10, 'a' 'b')": CALL,
    "p.foo(a, *())": VALUE,
    "(p.foo)(1)": CALL,
    "p.foo(1).bar": CALL,
    "[p.foo(1), 2]": CALL,
    "(1, 2, [3, p.foo(1)])": CALL,
    "len([p.foo(a)])": CALL,
    "(p if a else q).foo(1)": CALL,
    "[p, q][0].foo(1)": CALL,
    "a + b if p.foo() else b": CALL,
    "f'{p.foo()} {a}'": CALL,
    "not p.foo()": CALL,
    "p.foo() or p.foo()": CALL,
    # arguments that run code, may fail or may be seen
    "p.foo(a + b)": VALUE,
    "p.foo(-a)": VALUE,
    "p.foo(not a)": VALUE,
    "p.foo(a < b)": VALUE,
    "p.foo(a in (b,))": VALUE,
    "p.foo(len(''))": VALUE,
    "p.foo(q.bar)": VALUE,
    "p.foo(q.bar())": VALUE,
    "p.foo(p.bar(1))": VALUE,
    "p.foo(l[0])": VALUE,
    "p.foo(l[0:1])": VALUE,
    "p.foo(f'{a}')": VALUE,
    "p.foo(a if b else 1)": VALUE,
    "p.foo(a and b)": VALUE,
    "p.foo(*l)": VALUE,
    "p.foo(**{})": VALUE,
    "p.foo([x for x in l])": VALUE,
    "p.foo([*l])": VALUE,
    "p.foo({**{}})": VALUE,
    "p.foo({a: 1})": VALUE,
    "p.foo({a})": VALUE,
    "p.foo(x := 1)": VALUE,
    "p.foo(unbound)": VALUE,
    "p.foo(1, [2, unbound])": VALUE,
    # fetches that are no calls
    "p.foo": VALUE,
    "[p.foo]": VALUE,
    "p.foo + 1 if 0 else p.bar": VALUE,
    "len([p.foo])": VALUE,
    "print if p.foo is None else 1": VALUE,
    "(p.foo, 1)": VALUE,
    # by another way than the bytecode
    "getattr(p, 'foo')()": VALUE,
    "getattr(p, 'foo')": VALUE,
    "operator.attrgetter('foo')(p)": VALUE,
    "operator.methodcaller('foo', 1)(p)": VALUE,
    "agent.foo(1)": VALUE,
    "agent.foo.bar": VALUE,
    "agent.foo": VALUE,
    "hasattr(p, 'foo')": VALUE,
    # chains
    "p.a.b": chain("b"),
    "p.a.b.c.d": chain("b", "c", "d"),
    "p.a.b()": chain("b", call=True),
    "p.a.b.c(1, k=a)": chain("b", "c", call=True),
    "p.a.b.c(a + b)": chain("b", "c"),
    "p.a.b.c(unbound)": chain("b", "c"),
    "p.a.b(1).c": chain("b", call=True),
    "(p.a).b": chain("b"),
    "p.a[0].b if 0 else p.c.d": chain("d"),
    "p.a.b is p": chain("b"),
}

contexts = {}


def context(function):
    contexts[function.__name__] = function
    return function


def attempt(thunk):
    try:
        thunk()
    except (AttributeError, NameError, TypeError):
        pass


def compiled(source):
    namespace = {"sys": sys, "operator": operator}
    exec(compile(source, "case", "exec"), namespace)
    return namespace["f"]


@context
def function_with_arguments(expression):
    f = compiled(f"def f(p, q, a, b, l, agent):\n if a == 0: unbound = 1\n return {expression}")
    return lambda: f(p, q, 1, 2, [1, 2], the_agent)


@context
def function_with_globals(expression):
    f = compiled(f"def f():\n return {expression}")
    f.__globals__.update(p=p, q=q, a=1, b=2, l=[1, 2], agent=the_agent)
    return f


@context
def closure(expression):
    f = compiled(
        "def g(p, q, a, b, l, agent):\n"
        " if a == 0: unbound = 1\n"
        f" def f():\n  return ({expression}), lambda: (p, q, a, b, l, agent, unbound)\n"
        " return f\n"
        "def f(*args): return g(*args)()"
    )
    return lambda: f(p, q, 1, 2, [1, 2], the_agent)


@context
def captured_here(expression):
    f = compiled(
        "def f(p, q, a, b, l, agent):\n"
        " if a == 0: unbound = 1\n"
        f" return ({expression}), lambda: (p, q, a, b, l, agent, unbound)"
    )
    return lambda: f(p, q, 1, 2, [1, 2], the_agent)


@context
def module(expression):
    code = compile(expression, "case", "exec")
    return lambda: exec(code, dict(p=p, q=q, a=1, b=2, l=[1, 2], agent=the_agent, sys=sys, operator=operator))


@context
def module_with_locals(expression):
    code = compile(expression, "case", "exec")
    globals_ = dict(p=p, q=q, l=[1, 2], sys=sys, operator=operator)
    return lambda: exec(code, globals_, dict(a=1, b=2, agent=the_agent))


@context
def generator(expression):
    f = compiled(f"def f(p, q, a, b, l, agent):\n if a == 0: unbound = 1\n yield 1\n yield {expression}")
    return lambda: list(f(p, q, 1, 2, [1, 2], the_agent))


@context
def in_try(expression):
    f = compiled(
        "def f(p, q, a, b, l, agent):\n"
        " if a == 0: unbound = 1\n"
        " for i in [1, 2, 3]:\n"
        "  with open('/dev/null') as file:\n"
        "   try:\n    raise KeyError\n"
        f"   except KeyError as e:\n    return {expression}\n"
        "   finally:\n    i = 2"
    )
    return lambda: f(p, q, 1, 2, [1, 2], the_agent)


@context
def many_names(expression):
    names = "".join(f" x{i} = 1; obj.y{i}\n" for i in range(300))
    f = compiled(
        "def f(p, q, a, b, l, agent, obj):\n"
        " if a == 0: unbound = 1\n"
        f" if a == 5:\n {names.replace(chr(10), chr(10) + ' ')[:-1]}\n"
        f" return {expression}"
    )
    return lambda: f(p, q, 1, 2, [1, 2], the_agent, None)


@context
def many_lines(expression):
    f = compiled(
        "def f(p, q, a, b, l, agent):\n if a == 0: unbound = 1\n"
        " return (" + expression.replace("(", "(\n").replace(".", "\n.") + "\n)"
        if "'" not in expression and "2.5" not in expression
        else f"def f(p, q, a, b, l, agent):\n if a == 0: unbound = 1\n return {expression}"
    )
    return lambda: f(p, q, 1, 2, [1, 2], the_agent)


@context
def coroutine(expression):
    f = compiled(f"async def f(p, q, a, b, l, agent):\n if a == 0: unbound = 1\n return {expression}")

    def run():
        c = f(p, q, 1, 2, [1, 2], the_agent)
        try:
            c.send(None)
        except StopIteration:
            pass

    return run


the_agent = agent()
wrong = []
for name, make in contexts.items():
    for expression, expected in cases.items():
        thunk = make(expression)
        for run in range(30):  # cold and specialised
            log()
            attempt(thunk)
            entries = log()
            assert entries, (name, expression)
            got = entries[0][1:]
            if got != expected:
                wrong.append((name, expression, run, got, expected))
                break
assert not wrong, "\n".join(map(str, wrong))


# ---------------------------------------------------------------- every step of a chain
def steps():
    p.a.b.c(1)


for _ in range(30):
    log()
    steps()
    assert log() == [
        ("a", False, ["b", "c"], True),
        ("b", False, ["c"], True),
        ("c", True, [], True),
    ]


# ---------------------------------------------------------------- the same instruction, others in between
class Meddling:
    def __getattr__(self, name):
        return getattr(p, name)


class Direct:
    @property
    def foo(self):
        return p.foo

    @property
    def bar(self):
        return p.bar(1)


def through(x):
    return x.foo(1)


for x, expected in [(Meddling(), VALUE), (Direct(), VALUE), (the_agent, VALUE), (p, CALL)] * 20:
    log()
    through(x)
    assert [entry[1:] for entry in log()] == [expected], (x, expected)
log()
Direct().bar
assert log()[0][1:] == CALL

# A name that is equal but not the one of the bytecode.
log()
exec("getattr(p, ''.join(['fo', 'o']))()")
assert log()[0][1:] == VALUE


# ---------------------------------------------------------------- namespaces that are no dicts
class Namespace(dict):
    def __getitem__(self, key):
        return dict.__getitem__(self, key)


log()
exec("p.foo(a)", {"p": p, "a": 1}, Namespace(a=2))
exec("p.foo(1)", {"p": p, "a": 1}, Namespace(a=2))
exec("def f(): p.foo(a)\nf()", Namespace(p=p, a=1))
exec("class A:\n x = p.foo(1)\n y = p.foo(x)")
entries = [entry[1:] for entry in log()]
assert entries == [VALUE, CALL, VALUE, CALL, CALL], entries


class Prepared(type):
    @classmethod
    def __prepare__(cls, name, bases):
        return Namespace()


log()


class WithNamespace(metaclass=Prepared):
    a = 1
    b = p.foo(a)


assert log()[0][1:] == VALUE


# ---------------------------------------------------------------- watched code
def watched():
    return p.foo(
        1,
        [2],
    )


def observe(expected):
    for _ in range(3):
        log()
        watched()
        (entry,) = log()
        assert entry[1:] == expected, (entry, expected)


observe(CALL)


def tracer(frame, event, arg):
    frame.f_trace_opcodes = True
    return tracer


sys.settrace(tracer)
try:
    observe(VALUE)
finally:
    sys.settrace(None)
observe(CALL)
sys.setprofile(lambda *args: None)
try:
    observe(VALUE)
finally:
    sys.setprofile(None)
observe(CALL)
if sys.version_info >= (3, 12):
    monitoring = sys.monitoring
    monitoring.use_tool_id(2, "test")
    for event, expected in [("CALL", VALUE), ("LINE", VALUE), ("INSTRUCTION", VALUE), ("PY_RETURN", CALL)]:
        event = getattr(monitoring.events, event)
        monitoring.register_callback(2, event, lambda *args: None)
        monitoring.set_events(2, event)
        try:
            observe(expected)
        finally:
            monitoring.set_events(2, 0)
            monitoring.register_callback(2, event, None)
        observe(CALL)
    monitoring.free_tool_id(2)

# ---------------------------------------------------------------- code objects come and go
for _ in range(2000):
    exec("p.foo(1)")
    assert log()[-1][1:] == CALL
gc.collect()

# ---------------------------------------------------------------- the whole standard library
import pathlib
import sysconfig
import types
import warnings

warnings.simplefilter("ignore")
total = 0
library = pathlib.Path(sysconfig.get_path("stdlib"))
assert (library / "os.py").exists(), library
for path in sorted(library.glob("*.py")) + sorted(library.glob("asyncio/*.py")) + sorted(library.glob("email/*.py")):
    codes = [compile(path.read_bytes(), str(path), "exec")]
    while codes:
        code = codes.pop()
        total += 1
        assert understood(code), (path, code)
        codes.extend(c for c in code.co_consts if isinstance(c, types.CodeType))
assert total > 5000, total

# A display in a `finally` begins as the list of an `except*` does.
for display in "[2, 1, 1][x]", "[*x]", "[]", "[] < x < y", "[y for y in x]":
    source = f"def f(x, y):\n try: x()\n finally: yield {display}"
    [code] = [c for c in compile(source, "", "exec").co_consts if isinstance(c, types.CodeType)]
    assert understood(code), display


# ---------------------------------------------------------------- what it costs
def timed(x, count=200_000):
    best = 1e9
    for _ in range(5):
        start = time.perf_counter()
        for _ in range(count):
            x.foo(1, 2)
        best = min(best, time.perf_counter() - start)
    return best / count * 1e9


print(f"method_call_position: {timed(keen()) - timed(deaf()):.0f} ns", file=sys.stderr)
