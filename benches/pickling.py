"""What pickling frames costs, as ratios within one run. Build with `--release` first.

    python benches/pickling.py [PROTOTYPE]

PROTOTYPE is a folder with a prototype that has `ch.capture`, `tp.dumps` and `tp.loads`; its chain
of six frames is then measured beside ours.
"""

import functools
import pickle
import statistics
import sys
import time

from objspace import pickling
from objspace.pickling import Continuation, capture, run


def microseconds(work, number=2000, rounds=9):
    """The median time of a call, in microseconds."""
    times = []
    for _ in range(rounds):
        begin = time.perf_counter()
        for _ in range(number):
            work()
        times.append((time.perf_counter() - begin) / number * 1e6)
    return statistics.median(times)


def looping(values):
    total = 0
    for value in values:
        total += value
        yield total


SAVED = []


def level(n):
    """Six frames with `measure`, the innermost of which captures and is measured there."""
    if n:
        result = level(n - 1)
        return result
    value = capture()
    if isinstance(value, Continuation):
        SAVED.append(pickling.dumps(value))
        SAVED.append(microseconds(lambda: pickling.dumps(value)))
        return None
    return value


def level_captured():
    return microseconds_of_capture(4)


def microseconds_of_capture(n):
    if n:
        result = microseconds_of_capture(n - 1)
        return result
    times = []
    for _ in range(9):
        begin = time.perf_counter()
        for _ in range(1000):
            pickling.dumps(capture())
        times.append((time.perf_counter() - begin) / 1000 * 1e6)
    return statistics.median(times)


def main(prototype=None):
    print(f"Python {sys.version.split()[0]}")
    for size in (0, 10, 1000):
        values = list(range(size))
        generator = looping([0, *values])
        next(generator)
        local = tuple(generator.gi_frame.f_locals.values())
        data = pickling.dumps(generator)
        plain = microseconds(functools.partial(pickle.dumps, local, 5))
        ours = microseconds(functools.partial(pickling.dumps, generator))
        load = microseconds(functools.partial(pickling.loads, data))
        line = f"generator over {size:4} ints: dump {ours:6.1f} us, {ours / plain:5.1f} x pickle"
        try:
            import cloudpickle
        except ImportError:
            pass
        else:
            closure = (lambda held: lambda: held)(values)
            cloud = microseconds(functools.partial(cloudpickle.dumps, closure))
            line += f", {ours / cloud:4.2f} x cloudpickle of a closure"
        print(f"{line}; load {load:.1f} us; {len(data)} bytes")
    run(level, 5)
    data, dump = SAVED
    load = microseconds(lambda: pickling.loads(data))
    both = run(level_captured)
    print(f"chain of 6: dump {dump:.1f} us, with capture {both:.1f} us, load {load:.1f} us")
    if prototype:
        measure_prototype(prototype, both, load)


def measure_prototype(folder, ours_dump, ours_load):
    sys.path.insert(0, folder)
    import ch
    import tp

    def base(n):
        if n:
            result = base(n - 1)
            return result
        times = []
        for _ in range(9):
            begin = time.perf_counter()
            for _ in range(200):
                frames, exc = ch.capture(main_of)
                data = tp.dumps((frames, exc), ch.override(frames))
            times.append((time.perf_counter() - begin) / 200 * 1e6)
        return statistics.median(times), data

    main_of = measure_prototype
    dump, data = base(5)
    load = microseconds(lambda: tp.loads(data), 200)
    print(
        f"prototype: dump with capture {dump:.1f} us, load {load:.1f} us; "
        f"ours {ours_dump / dump:.2f} and {ours_load / load:.2f} of that "
        f"(the aim: {15 / 36:.2f} and {10 / 15:.2f})"
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
