"""What pickling frames costs, as ratios within one run. Build with `--release` first.

    python benches/pickling.py [PROTOTYPE]

PROTOTYPE is a folder with a prototype that has `ch.capture`, `tp.dumps` and `tp.loads`; its chain
of six frames is then measured beside ours. All figures are the best of several rounds, which other
work on the machine disturbs least. The code that is pickled is that of a module that can be
imported, which this file is to itself.
"""

import functools
import pickle
import sys
import time

from objspace import pickling
from objspace.pickling import capture, run


def microseconds(*works, number=2000, rounds=25):
    """The best time of a call of each, in microseconds; all of them in turns."""
    best = [float("inf")] * len(works)
    for _ in range(rounds):
        for index, work in enumerate(works):
            begin = time.perf_counter()
            for _ in range(number):
                work()
            time_of_call = (time.perf_counter() - begin) / number * 1e6
            best[index] = min(best[index], time_of_call)
    return best


def looping(values):
    total = 0
    for value in values:
        total += value
        yield total


def level(n):
    """A chain of six frames for n=5, written in the innermost."""
    if n:
        result = level(n - 1)
        return result
    return pickling.dumps(capture())


def captured(n):
    if n:
        result = captured(n - 1)
        return result
    return capture()


def measure_generator(size):
    values = list(range(size))
    generator = looping([0, *values])
    next(generator)
    local = tuple(generator.gi_frame.f_locals.values())
    data = pickling.dumps(generator)
    works = [
        functools.partial(pickle.dumps, local, 5),
        functools.partial(pickling.dumps, generator),
        functools.partial(pickling.loads, data),
        functools.partial(pickling.dumps, generator, code="value"),
    ]
    try:
        import cloudpickle
    except ImportError:
        pass
    else:
        closure = (lambda held: lambda: held)(values)
        works.append(functools.partial(cloudpickle.dumps, closure))
    plain, dump, load, by_value, *cloud = microseconds(*works)
    line = f"generator over {size:4} ints: dump {dump:5.2f} us, {dump / plain:4.2f} x pickle"
    if cloud:
        line += f", {dump / cloud[0]:4.2f} x cloudpickle of a closure"
    print(f"{line}; load {load:.2f} us; {len(data)} bytes; dump of code by value {by_value:.1f} us")


def measure_chain(prototype=None):
    data = run(level, 5)
    works = [functools.partial(run, level, 5), functools.partial(pickling.loads, data)]
    names = ["capture and dump", "load"]
    if prototype:
        works += prototype_works(prototype)
        names += ["prototype's capture and dump", "load"]
    figures = microseconds(*works, functools.partial(run, captured, 5), number=500)
    *figures, alone = figures
    told = zip(names, figures, strict=True)
    print("chain of 6: " + ", ".join(f"{name} {figure:.2f} us" for name, figure in told))
    print(f"  of that, calls and capture {alone:.2f} us; {len(data)} bytes")
    if prototype:
        dump, load, their_dump, their_load = figures
        print(
            f"  dump {dump / their_dump:.2f} and load {load / their_load:.2f} of the prototype's "
            f"(the aim: {15 / 36:.2f} and {10 / 15:.2f})"
        )


def prototype_works(folder):
    sys.path.insert(0, folder)
    import ch
    import tp

    globals().update(ch=ch, tp=tp)
    data = begin()
    return [begin, functools.partial(tp.loads, data)]


def begin():
    return theirs(5)


def theirs(n):
    if n:
        result = theirs(n - 1)
        return result
    frames, exception = ch.capture(begin)  # noqa: F821
    return tp.dumps((frames, exception), ch.override(frames))  # noqa: F821


def main(prototype=None):
    print(f"Python {sys.version.split()[0]}")
    for size in (0, 10, 1000):
        measure_generator(size)
    measure_chain(prototype)


if __name__ == "__main__":
    # As a module that other processes can import, so that code goes by reference.
    import importlib

    importlib.import_module("pickling").main(*sys.argv[1:])
