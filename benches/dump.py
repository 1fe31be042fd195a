"""What recording costs, as a ratio of the plain program in the same run.

    python benches/dump.py [rounds]

A program of objects, dicts, lists and calls, run plain, under each kind of recording, and under
viztracer and hunter where they are installed. The best of some alternating rounds each; the time
includes writing the log to its end. CPU is that of all threads: on a machine with nothing to spare,
the thread that writes the log costs time too.
"""

from __future__ import annotations

import math
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


COUNT = 30000
#: These are run twice only.
SLOW = ("viztracer, arguments", "and its file", "hunter (1/100)")


def program(count=COUNT):
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


def recorded(**filters):
    def run(path):
        objspace.dump.start(path, **filters)
        try:
            program()
        finally:
            run.summary = objspace.dump.stop()

    return run


def viztracer(*, write):
    from viztracer import VizTracer

    def run(path):
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
        if write:
            tracer.save()

    return run


def hunter():
    import hunter as tracer

    def run(path):
        with (
            open(path + ".txt", "w") as out,
            tracer.trace(module=__name__, action=tracer.CallPrinter(stream=out)),
        ):
            program(COUNT // 100)

    return run


def plain(path):
    program()


def cases():
    vec = ["Vec.__init__", "Vec.__add__", "Vec.dot"]
    yield "plain", plain
    yield "everything", recorded()
    yield "the last 10000", recorded(last=10_000)
    yield "types=[Vec]", recorded(types=["Vec"])
    yield "functions of Vec", recorded(functions=vec)
    yield 'attr="Vec.x"', recorded(attr="Vec.x")
    yield "another module", recorded(modules=["json"])
    yield "stopped", plain
    for name, make in (
        ("viztracer, arguments", lambda: viztracer(write=False)),
        ("and its file", lambda: viztracer(write=True)),
        ("hunter (1/100)", hunter),
    ):
        try:
            yield name, make()
        except ImportError:
            print(f"{name}: not installed")


def main():
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    path = os.path.join(tempfile.mkdtemp(prefix="objspace-bench-"), "log")
    program()
    known = list(cases())
    wall = dict.fromkeys((name for name, _ in known), math.inf)
    cpu = dict(wall)
    # One after the other in each round, so that a slow moment of the machine hits all alike.
    for number in range(rounds):
        for name, run in known:
            if number >= 2 and name in SLOW:
                continue
            start, start_cpu = time.perf_counter(), time.process_time()
            run(path)
            wall[name] = min(wall[name], time.perf_counter() - start)
            cpu[name] = min(cpu[name], time.process_time() - start_cpu)
    print(f"{'':20} {'time':>9}  x plain   CPU x plain   log")
    for name, run in known:
        factor = 100 if "1/100" in name else 1
        summary = getattr(run, "summary", None)
        size = ""
        if summary and summary.operations:
            each = summary.bytes / summary.operations
            size = f"{summary.operations} operations, {each:.1f} bytes each"
        elif name == "and its file":
            size = f"{os.path.getsize(path + '.json') / 1e6:.0f} MB"
        elif "hunter" in name:
            size = f"{os.path.getsize(path + '.txt') * factor / 1e6:.0f} MB"
        print(
            f"{name:20} {wall[name] * factor:8.4f}s {wall[name] / wall['plain'] * factor:8.2f}"
            f" {cpu[name] / cpu['plain'] * factor:13.2f}   {size}"
        )


if __name__ == "__main__":
    main()
