"""What an operation on a proxy costs: `python benches/proxy.py`, with a release build installed.

Ratios within one run: to the object itself, to a class written by hand that forwards the same
operation through a method that a controller would be, and to `wrapt.ObjectProxy` where installed.
"""

import operator
import subprocess
import sys
import timeit

from objspace.tproxy import tproxy
from objspace.tputil import make_proxy


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
    "p[1]": operator.itemgetter(1),
    "len(p)": len,
    "p(1)": lambda p: p(1),
}


def measure(action, p, number=100_000):
    return min(timeit.repeat(lambda: action(p), number=number, repeat=5)) / number * 1e9


def main():
    thing = Thing()
    kinds = {
        "object": thing,
        "make_proxy": make_proxy(controller, obj=thing),
        "by hand": Forwarding(thing),
        "tproxy": direct(thing),
        "method": Method(thing),
    }
    try:
        import wrapt
    except ImportError:
        pass
    else:
        kinds["wrapt"] = wrapt.ObjectProxy(thing)
    print(
        f"{'ns':10}" + "".join(f"{kind:>12}" for kind in kinds) + f"{'/by hand':>12}{'/method':>12}"
    )
    for name, action in ACTIONS.items():
        times = {}
        for kind, p in kinds.items():
            try:
                times[kind] = measure(action, p)
            except TypeError:
                times[kind] = float("nan")
        print(
            f"{name:10}"
            + "".join(f"{time:12.0f}" for time in times.values())
            + f"{times['make_proxy'] / times['by hand']:12.2f}"
            + f"{times['tproxy'] / times['method']:12.2f}"
        )
    for hook in ("0", "1"):
        program = (
            "import timeit, objspace.tproxy; objspace.tproxy.tproxy(list, print); x = 1;"
            "print(min(timeit.repeat('type(x)', globals=globals(), number=10**6, repeat=7)) * 1e3)"
        )
        command = [sys.executable, "-c", program]
        done = subprocess.run(
            command, env={"OBJSPACE_TYPE_HOOK": hook}, capture_output=True, text=True, check=True
        )
        print(f"type(x) with OBJSPACE_TYPE_HOOK={hook}: {float(done.stdout):.1f} ns")


if __name__ == "__main__":
    main()
