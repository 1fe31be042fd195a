"""What recording costs, as a ratio of the plain program in the same run.

    python benches/dump.py [rounds]

A program of objects, dicts, lists and calls, run plain, under each kind of recording, and under
viztracer and hunter where they are installed. The best of some rounds each; the time includes
writing the log to its end. Sizes are those of the log, per operation.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time

import objspace.dump


class Vec:
    def __init__(self, x, y):
        self.x = x
        self.y = y

    def __add__(self, other):
        return Vec(self.x + other.x, self.y + other.y)

    def dot(self, other):
        return self.x * other.x + self.y * other.y


class Task:
    def __init__(self, n):
        self.n = n
        self.q = []
        self.state = {}

    def step(self, i):
        self.q.append(i)
        if len(self.q) > 8:
            del self.q[0]
        k = i % 17
        if k in self.state:
            self.state[k] += 1
        else:
            self.state[k] = 1
        return self.state[k]


def fib(n):
    return n if n < 2 else fib(n - 1) + fib(n - 2)


def program(count=30000):
    tasks = [Task(i) for i in range(10)]
    total = Vec(0, 0)
    s = 0
    for i in range(count):
        task = tasks[i % 10]
        s += task.step(i)
        total = total + Vec(i, 1)
        if total.dot(Vec(1, 2)) < 0:
            raise ValueError
        s += sum([a for a in task.q if a & 1])
        s += len(f"k{i & 15}".upper())
    return s + fib(20)


def timed(run):
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def recorded(path, **filters):
    objspace.dump.start(path, **filters)
    try:
        program()
    finally:
        recorded.summary = objspace.dump.stop()


def viztracer(path):
    from viztracer import VizTracer

    tracer = VizTracer(
        log_func_args=True,
        log_func_retval=True,
        output_file=path + ".json",
        verbose=0,
        tracer_entries=5_000_000,
    )
    tracer.start()
    program()
    tracer.stop()
    tracer.save()


def hunter(path):
    import hunter as tracer

    with (
        open(path + ".txt", "w") as out,
        tracer.trace(module="__main__", action=tracer.CallPrinter(stream=out)),
    ):
        program(300)


def main():
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    folder = tempfile.mkdtemp(prefix="objspace-bench-")
    path = os.path.join(folder, "log")
    program()
    best: dict[str, float] = {}
    size: dict[str, str] = {}

    def case(name, run, times=rounds):
        best[name] = min(timed(run) for _ in range(times))

    case("plain", program)

    def one(name, **filters):
        case(name, lambda: recorded(path, **filters))
        summary = recorded.summary
        if summary.operations:
            size[name] = (
                f"{summary.operations} operations, "
                f"{summary.bytes / summary.operations:.1f} bytes each, "
                f"{summary.stalls} waits"
            )

    one("everything")
    one("the last 10000", last=10_000)
    one("type Vec", types=["Vec"])
    one("function Vec", functions=["Vec.__init__", "Vec.__add__", "Vec.dot"])
    one("attribute Vec.x", attr="Vec.x")
    one("another module", modules=["json"])
    case("stopped", program)
    for name, run in (("viztracer", viztracer), ("hunter (1/100)", hunter)):
        try:
            case(name, lambda run=run: run(path), 2)
        except ImportError:
            print(f"{name}: not installed")
    plain = best["plain"]
    for name, seconds in best.items():
        factor = seconds / plain * (100 if "1/100" in name else 1)
        print(f"{name:18} {seconds:8.4f} s {factor:7.2f} x  {size.get(name, '')}")


if __name__ == "__main__":
    main()
