"""Run by type_hook.rs, which provides declare, install, install_other, uninstall and installed."""

import abc
import asyncio
import collections.abc
import enum
import gc
import sys
import threading
import types
import warnings

warnings.simplefilter("error")


class Proxy:
    def __init__(self, declared=list):
        self.declared = declared


class Raising:
    def __get__(self, instance, owner):
        raise LookupError("cannot tell")


declare(Proxy)
assert not installed()
p = Proxy()
real_flags = type.__flags__


# ---------------------------------------------------------------- sites that are hot beforehand
def in_function(x):
    return type(x)


def in_generator(x):
    while True:
        yield type(x)


def with_default(x, f=lambda x: type(x)):
    return f(x)


def nested(x):
    def inner():
        class Body:
            kind = type(x)

        return [type(x) for _ in range(3)], Body.kind

    return inner()


class Holder:
    @staticmethod
    def static(x):
        return type(x)

    @property
    def prop(self):
        return type(self.x)

    @classmethod
    def cls(cls, x):
        return type(x)


async def coroutine(x):
    found = []
    for _ in range(40):
        found.append(type(x))
        await asyncio.sleep(0)
    return found


# Code that no function has: held by a dict, by a tuple that the collector does not track, and by
# one in the other.
loose = compile("for _ in range(100): result = type(x)", "loose", "exec")
namespace = {"x": p}
exec(loose, namespace)
assert namespace["result"] is Proxy
shelf = {"deep": (1, (loose,)), "n": 1}
del loose
for _ in range(3):
    gc.collect()  # a tuple is left alone once what is in it is
assert not gc.is_tracked(shelf["deep"]) and not gc.is_tracked(shelf["deep"][1])

running = in_generator(p)
holder = Holder()
holder.x = p
for _ in range(200):
    assert in_function(p) is Proxy
    assert next(running) is Proxy
    assert with_default(p) is Proxy
    assert nested(p) == ([Proxy] * 3, Proxy)
    assert Holder.static(p) is holder.prop is Holder.cls(p) is Proxy
    assert type(p) is Proxy

# Threads that loop in hot code while the hook goes in.
seen_before, seen_after, stop = threading.Event(), threading.Event(), False


def looping():
    count = 0
    while not stop:
        kind = type(p)
        if kind is Proxy:
            count += 1
            if count == 1000:
                seen_before.set()
        elif kind is list:
            seen_after.set()


threads = [threading.Thread(target=looping, daemon=True) for _ in range(3)]
for t in threads:
    t.start()
assert seen_before.wait(20)


def all_sites(expected):
    assert in_function(p) is expected
    assert next(running) is expected
    assert with_default(p) is expected
    assert nested(p) == ([expected] * 3, expected)
    assert Holder.static(p) is holder.prop is Holder.cls(p) is expected
    exec(shelf["deep"][1][0], namespace)
    assert namespace["result"] is expected
    assert type(p) is expected


def local_code():
    """Code that only a local variable of a running frame holds."""
    code = compile("for _ in range(100): result = type(x)", "local", "exec")
    names = {"x": p}
    exec(code, names)
    assert names["result"] is Proxy
    yield  # for symmetry: a suspended frame too
    exec(code, names)
    assert names["result"] is list


def local_running():
    code = compile("for _ in range(100): result = type(x)", "local", "exec")
    names = {"x": p}
    exec(code, names)
    install()
    exec(code, names)
    return names["result"]


suspended = local_code()
next(suspended)

# A loop of this very module, hot when the hook goes in, in the middle of it.
i, kinds = 0, []
while i < 300:
    kinds.append(type(p))
    if i == 150:
        assert local_running() is list
        assert installed()
    i += 1
assert kinds == [Proxy] * 151 + [list] * 149, (kinds.count(Proxy), kinds.count(list))
assert seen_after.wait(20)
stop = True
for t in threads:
    t.join()
list(suspended)

for _ in range(300):
    all_sites(list)
assert asyncio.run(coroutine(p)) == [list] * 40


# Its metaclasses are flagged immutable, which CPython warns about if their base is not.
import ctypes  # noqa: E402


# ---------------------------------------------------------------- every way to call it
def ways(x):
    yield type(x)
    yield type(*[x])
    yield type(*(x,), **{})
    yield (lambda f: f(x))(type)
    yield next(map(type, [x]))
    yield type.__call__(type, x)
    yield super(Meta, Meta.__new__(Meta, "N", (), {})).__self_class__.__class__ and list
    yield __import__("operator").call(type, x)
    yield __import__("functools").partial(type, x)()


class Meta(type):
    def __call__(cls, *args):
        return super().__call__(*args)

    def __setattr__(cls, name, value):
        super().__setattr__(name, value)


for _ in range(100):
    for kind in ways(p):
        assert kind is list, kind
    assert list(map(type, [p, [], 3, p])) == [list, list, int, list]

assert type(Proxy(dict)) is dict and type(Proxy(Meta)) is Meta
assert type(Proxy(None)) is Proxy
failing = Proxy()
del failing.declared
for _ in range(100):
    try:
        type(failing)
    except AttributeError as error:
        assert "declared" in str(error)
    else:
        raise AssertionError
before = sys.getrefcount(Meta)
for _ in range(1000):
    type(Proxy(Meta))
assert abs(sys.getrefcount(Meta) - before) < 5

# ---------------------------------------------------------------- what type() does else
assert type(3) is int and type("") is str and type(type) is type and type(Proxy) is type
Made = type("Made", (Proxy,), {"a": 1})
assert Made.a == 1 and type(Made) is type and type(Made()) is Made
assert type(Meta("M", (), {})) is Meta
for call in (lambda: type(), lambda: type(1, 2), lambda: type(1, x=2), lambda: type(x=1)):
    try:
        call()
    except TypeError as error:
        assert "type" in str(error), error
    else:
        raise AssertionError
install()  # again: no effect
try:
    install_other()
except RuntimeError as error:
    assert "in use" in str(error)
else:
    raise AssertionError


# ---------------------------------------------------------------- type is as immutable as before
class Empty:
    pass


class EmptyMeta(type):
    pass


class OfEmptyMeta(metaclass=EmptyMeta):
    pass


def refused():
    """What CPython says to attempts at changing `type`, each by another way."""
    attributes = ["x", "__name__", "__qualname__", "__bases__", "__module__", "__doc__", "__abstractmethods__",
                  "__annotations__", "__class__", "__dict__", "__mro__", "mro", "__type_params__", "__call__"]
    for name in attributes:
        for value in ("v", 1, (object,), Empty, EmptyMeta, None):
            yield lambda: setattr(type, name, value)
            yield lambda: type.__setattr__(type, name, value)
            yield lambda: type.__dict__["__setattr__"](type, name, value)
            yield lambda: object.__setattr__(type, name, value)
            getset = type.__dict__.get(name)
            # CPython lets this one through: it only fills the dictionary of `type`.
            if name != "__abstractmethods__" and hasattr(getset, "__set__"):
                yield lambda: getset.__set__(type, value)
        yield lambda: delattr(type, name)
        yield lambda: type.__delattr__(type, name)
        yield lambda: object.__delattr__(type, name)
    for value in (Empty, EmptyMeta, type, abc.ABCMeta, object, 1):
        yield lambda: object.__dict__["__class__"].__set__(type, value)
        yield lambda: setattr(Empty, "__class__", value)
        yield lambda: setattr(int, "__class__", value)
        yield lambda: setattr(Empty(), "__class__", type)
        yield lambda: setattr(OfEmptyMeta, "__class__", type)
        yield lambda: object.__dict__["__class__"].__set__(OfEmptyMeta, type)
    exec_namespace = {}
    yield lambda: exec("type.x = 1", exec_namespace)
    yield lambda: exec("del type.mro", exec_namespace)
    yield lambda: exec("for i in range(50):\n try: type.x = 1\n except TypeError: pass\ntype.x = 1", exec_namespace)


def outcome(attempt):
    try:
        attempt()
    except Exception as error:
        return builtin_type(error).__name__, str(error)
    return "done"


def builtin_type(x):
    return x.__class__


def outcomes():
    return [outcome(attempt) for attempt in refused()]


hooked = outcomes()
assert type(p) is list
uninstall()
assert not installed()
assert type.__flags__ == real_flags
assert outcomes() == hooked, [pair for pair in zip(hooked, outcomes()) if pair[0] != pair[1]]
assert len(hooked) > 300 and sum("immutable" in o[1] for o in hooked) > 100
all_sites(Proxy)
uninstall()  # again: no effect

# ---------------------------------------------------------------- metaclasses notice nothing

class WithAbc(abc.ABC):
    pass


class Colour(enum.Enum):
    RED = 1


class Structure(ctypes.Structure):
    pass


class Late(abc.ABCMeta):
    pass


def metaclasses():
    for cls in (Empty, WithAbc, Colour, OfEmptyMeta, Structure, Late("L", (), {}), Meta("M", (), {})):
        yield lambda: setattr(cls, "attribute", 1)
        yield lambda: type.__setattr__(cls, "attribute", 2)
        yield lambda: object.__setattr__(cls, "attribute", 3)
        yield lambda: delattr(cls, "attribute")
        yield lambda: setattr(cls, "attribute", 1)
        yield lambda: type.__delattr__(cls, "attribute")
        yield lambda: setattr(cls, "__name__", cls.__name__)
        yield lambda: setattr(cls, "__qualname__", 1)
        yield lambda: setattr(cls, "__doc__", "text")
        yield lambda: setattr(cls, "__annotations__", {})
        yield lambda: setattr(cls, "__module__", "m")
        yield lambda: setattr(cls, "__bases__", ())
    yield lambda: collections.abc.Mapping.register(Empty)
    yield lambda: setattr(Empty(), "__class__", Proxy)


plain = [outcome(m) for m in metaclasses()]
for _ in range(3):
    install()
    assert [outcome(m) for m in metaclasses()] == plain

    class During(type):
        pass

    class OfDuring(metaclass=During):
        pass

    OfDuring.a = 1
    type.__setattr__(OfDuring, "a", 2)
    assert OfDuring.a == 2
    all_sites(list)
    uninstall()
    type.__setattr__(OfDuring, "a", 3)
    OfDuring.a = 4
    assert [outcome(m) for m in metaclasses()] == plain
    for _ in range(100):
        all_sites(Proxy)

# ---------------------------------------------------------------- under tracing and monitoring
lines = []


def tracer(frame, event, arg):
    lines.append(event)
    return tracer


def hot_again(x):
    kind = type(x)
    return kind


for _ in range(100):
    hot_again(p)
sys.settrace(tracer)
hot_again(p)
install()
assert hot_again(p) is list
sys.settrace(None)
assert hot_again(p) is list and lines
for _ in range(100):
    assert hot_again(p) is list
uninstall()
if sys.version_info >= (3, 12):
    monitoring = sys.monitoring
    for events in ("CALL", "LINE", "INSTRUCTION", "PY_START"):
        for _ in range(100):
            assert hot_again(p) is Proxy
        seen = []
        monitoring.use_tool_id(3, "test")
        monitoring.register_callback(3, getattr(monitoring.events, events), lambda *a: seen.append(a))
        monitoring.set_events(3, getattr(monitoring.events, events))
        assert hot_again(p) is Proxy
        install()
        assert hot_again(p) is list
        monitoring.set_events(3, 0)
        monitoring.free_tool_id(3)
        for _ in range(100):
            assert hot_again(p) is list
        assert seen
        uninstall()

# ---------------------------------------------------------------- with a frozen heap
for _ in range(100):
    all_sites(Proxy)
gc.freeze()
install()
gc.unfreeze()
all_sites(list)

# ---------------------------------------------------------------- forks and interpreters share it
import os

child = os.fork()
if child == 0:
    os._exit(0 if type(p) is list and in_function(p) is list else 1)
assert os.waitpid(child, 0)[1] == 0

interpreters = __import__("_interpreters" if sys.version_info >= (3, 13) else "_xxsubinterpreters")
other_interpreter = interpreters.create()
code = """
class M(type): pass
class A(metaclass=M): pass
type.__setattr__(A, 'x', 1)
class E(__import__('enum').Enum): A = 1
E.x = 2
try: type.x = 1
except TypeError as e: assert 'immutable' in str(e)
else: assert False
for _ in range(100): assert type(A()) is A
"""
if sys.version_info >= (3, 13):
    failure = interpreters.run_string(other_interpreter, code)
    assert failure is None, failure
else:
    interpreters.run_string(other_interpreter, code)
interpreters.destroy(other_interpreter)

uninstall()
all_sites(Proxy)
assert isinstance(type.__dict__["__name__"], types.GetSetDescriptorType)
assert not gc.garbage
