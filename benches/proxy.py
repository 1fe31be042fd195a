"""What an operation on a proxy costs: `python benches/proxy.py`, with a release build installed.

Ratios within one run: to the object itself, to a class written by hand that forwards the same
operation through a method that a controller would be, and to `wrapt.ObjectProxy` where installed.
"""

import operator
import os
import subprocess
import sys
import timeit

from objspace.tproxy import tproxy
from objspace.tputil import delegate, make_proxy


class Thing:
    def __init__(self):
        self.x = 1

    def method(self):
        return 1

    def __add__(self, other):
        return other

    def __getitem__(self, key):
        return key

    def __len__(self):
        return 3

    def __call__(self, value):
        return value

    def __setitem__(self, key, value):
        pass

    def __contains__(self, item):
        return True

    def __bool__(self):
        return True

    def __iter__(self):
        return iter(())

    def __eq__(self, other):
        return True

    def __hash__(self):
        return 3


class Operation:
    """What a hand-written forwarder gives its controller."""

    def __init__(self, obj, name, args):
        self.obj = obj
        self.name = name
        self.args = args

    def delegate(self):
        return getattr(self.obj, self.name)(*self.args)


class Forwarding:
    """The same as a delegating proxy, by hand."""

    def __init__(self, obj):
        object.__setattr__(self, "_obj", obj)

    def __getattr__(self, name):
        return controller(Operation(self._obj, "__getattribute__", (name,)))

    def __add__(self, other):
        return controller(Operation(self._obj, "__add__", (other,)))

    def __getitem__(self, key):
        return controller(Operation(self._obj, "__getitem__", (key,)))

    def __len__(self):
        return controller(Operation(self._obj, "__len__", ()))

    def __call__(self, value):
        return controller(Operation(self._obj, "__call__", (value,)))


class Method:
    """The least that forwards an operation by a method."""

    def __init__(self, obj):
        self._obj = obj

    def _do(self, name, *args):
        return getattr(self._obj, name)(*args)

    def __getattr__(self, name):
        return self._do("__getattribute__", name)

    def __add__(self, other):
        return self._do("__add__", other)

    def __getitem__(self, key):
        return self._do("__getitem__", key)

    def __len__(self):
        return self._do("__len__")

    def __call__(self, value):
        return self._do("__call__", value)


def controller(operation):
    return operation.delegate()


def direct(thing):
    def control(name, *args):
        return getattr(thing, name)(*args)

    return tproxy(Thing, control)


ACTIONS = {
    "p.x": lambda p: p.x,
    "p + 1": lambda p: p + 1,
    "p[1]": lambda p: p[1],
    "len(p)": lambda p: len(p),
    "p(1)": lambda p: p(1),
}
# What wrapt does too: forward an operation, without a controller that could look at it.
FORWARDED = {
    **ACTIONS,
    "1 in p": lambda p: 1 in p,
    "p == 1": lambda p: p == 1,
    "hash(p)": lambda p: hash(p),
    "bool(p)": lambda p: not p,
    "iter(p)": lambda p: iter(p),
    "p.method()": lambda p: p.method(),
    "repr(p)": lambda p: repr(p),
    "p.x = 1": lambda p: setattr(p, "x", 1),
    "p[1] = 2": lambda p: operator.setitem(p, 1, 2),
}
ROUNDS = 7


def measure(action, proxies, number=20_000):
    """The nanoseconds for each, the least of several rounds in which all take turns."""
    least = dict.fromkeys(proxies, float("inf"))
    for _ in range(ROUNDS):
        for kind, p in proxies.items():
            try:
                time = min(timeit.repeat(lambda p=p: action(p), number=number, repeat=2))
            except TypeError:
                time = float("nan")
            least[kind] = min(time / number * 1e9, least[kind])
    return least


def table(title, actions, proxies, ratios):
    heads = [*proxies, *(f"{a}/{b}" for a, b in ratios)]
    print(f"{title:12}" + "".join(f"{head:>22}" for head in heads))
    for name, action in actions.items():
        times = measure(action, proxies)
        print(
            f"{name:12}"
            + "".join(f"{time:22.0f}" for time in times.values())
            + "".join(f"{times[a] / times[b]:22.2f}" for a, b in ratios)
        )
    print()


def fresh(hook, program):
    """A figure that a program prints in an interpreter of its own."""
    environment = {**os.environ, "OBJSPACE_TYPE_HOOK": hook}
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return float(done.stdout)


TYPE = """
import timeit, objspace.tproxy
x = 1
print(min(timeit.repeat("type(x)", globals=globals(), number=500_000, repeat=5)) * 2000)
"""
IMPORT = """
import time
start = time.perf_counter()
import objspace.tproxy
print((time.perf_counter() - start) * 1000)
"""


def main():
    thing = Thing()
    table(
        "ns",
        ACTIONS,
        {
            "object": thing,
            "make_proxy": make_proxy(controller, obj=thing),
            "by hand": Forwarding(thing),
            "tproxy": direct(thing),
            "method": Method(thing),
        },
        [("make_proxy", "by hand"), ("tproxy", "method")],
    )
    proxies = {"object": thing, "delegate": make_proxy(delegate, obj=thing)}
    ratios = [("delegate", "object")]
    try:
        import wrapt
    except ImportError:
        print("wrapt is not installed: no comparison with it")
    else:
        proxies["wrapt"] = wrapt.CallableObjectProxy(thing)
        ratios.append(("delegate", "wrapt"))
    table("ns", FORWARDED, proxies, ratios)
    without = min(fresh("0", TYPE) for _ in range(ROUNDS))
    with_hook = min(fresh("1", TYPE) for _ in range(ROUNDS))
    print(f"type(x): {without:.1f} ns without the hook, {with_hook:.1f} with it, ratio", end=" ")
    print(f"{with_hook / without:.2f}")
    times = sorted(fresh("1", IMPORT) for _ in range(ROUNDS))
    print(f"import objspace.tproxy: {times[len(times) // 2]:.1f} ms")


if __name__ == "__main__":
    main()
