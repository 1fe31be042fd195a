"""Loads forged and damaged frames, as a process of its own: errors are fine, a crash is not.

`forge.py SEED COUNT`: COUNT mutations of the states of suspended frames, of running frames and of whole
pickles. What is accepted is run for some steps. Prints how many were refused and how many accepted.
"""

import faulthandler
import gc
import random
import resource
import signal
import sys
import types
import warnings

import chain_programs
import suspended_programs
from objspace import pickling
from objspace._core import Reducer, unwrap_pickle, wrap_pickle

NULL = pickling.loads(pickling.dumps(sys.modules["objspace._pickles"].NULL))


class TimeUpError(BaseException):
    """A forged frame has run for long enough."""


def time_up(*_args):
    raise TimeUpError


JUNK = [
    lambda: NULL,
    lambda: None,
    lambda: 5,
    lambda: -1,
    lambda: 10**30,
    lambda: "text",
    list,
    dict,
    set,
    tuple,
    lambda: (1, 2, 3),
    lambda: [1],
    lambda: types.CellType(),
    lambda: types.CellType(7),
    lambda: iter([1, 2]),
    lambda: ValueError("forged"),
    lambda: ValueError,
    lambda: len,
    lambda: lambda: 1,
    lambda: "text".upper,
    object,
    lambda: suspended_programs.loops(),
    lambda: sys,
]


def mutate(values, random_):
    """A tuple with some of its items changed; tuples inside are changed as well."""
    values = list(values)
    for _ in range(random_.choice((1, 1, 1, 2, 4))):
        how = random_.randrange(10)
        if not values or how == 0:
            values.insert(random_.randrange(len(values) + 1), random_.choice(JUNK)())
            continue
        index = random_.randrange(len(values))
        value = values[index]
        if how == 1:
            del values[index]
        elif how == 2:
            other = random_.randrange(len(values))
            values[index], values[other] = values[other], values[index]
        elif how <= 5 and type(value) is int:
            values[index] = value + random_.choice((-3, -2, -1, 1, 2, 3, 8, 64))
        elif how <= 7 and type(value) is tuple:
            values[index] = mutate(value, random_)
        else:
            values[index] = random_.choice(JUNK)()
    return tuple(values)


def suspended_seeds():
    reduce = Reducer("auto")
    for name in suspended_programs.PROGRAMS:
        steps, _ = suspended_programs.finish(suspended_programs.start(name))
        for point in range(steps + 1):
            program = suspended_programs.start(name)
            suspended_programs.advance(program, point)
            reduced = reduce(program)
            yield program, reduced[0], reduced[1], reduced[2], reduced[5]


def chain_seeds():
    for name in chain_programs.PROGRAMS:
        _, points, _ = chain_programs.run(name)
        for point in range(points):
            _, _, data = chain_programs.run(name, point)
            yield name, data


class Forger:
    def __init__(self, seed):
        self.random = random.Random(seed)
        self.suspended = list(suspended_seeds())
        self.chains = list(chain_seeds())
        self.payloads = [data for _, data in self.chains]
        self.payloads += [pickling.dumps(program) for program, *_ in self.suspended]
        self.refused = self.accepted = 0

    def one(self):
        return self.random.choice((self.state, self.state, self.chain, self.bytes))()

    def state(self):
        _, make, args, state, setter = self.random.choice(self.suspended)
        made = make(*args)
        setter(made, mutate(state, self.random))
        for _ in range(3):
            made.send(None)

    def chain(self):
        _, data = self.random.choice(self.chains)
        whole = pickling.loads(data)
        reduced = Reducer("auto")(whole)
        (tag, handled, frames), attributes = reduced[2]
        if self.random.randrange(3):
            frames = list(frames)
            index = self.random.randrange(len(frames))
            frames[index] = mutate(frames[index], self.random)
            state = tag, handled, tuple(frames)
        else:
            state = mutate((tag, handled, frames), self.random)
        made = reduced[0](*reduced[1])
        reduced[5](made, (state, attributes))
        made.resume("value")

    def bytes(self):
        data = self.random.choice(self.payloads)
        start, end = unwrap_pickle(data)
        payload = bytearray(data[start:end])
        for _ in range(self.random.choice((1, 1, 2, 5))):
            index = self.random.randrange(len(payload))
            how = self.random.randrange(3)
            if how == 0:
                payload[index] = self.random.randrange(256)
            elif how == 1:
                payload[index] ^= 1 << self.random.randrange(8)
            else:
                del payload[index : index + self.random.randrange(1, 4)]
        loaded = pickling.loads(wrap_pickle(bytes(payload)))
        if isinstance(loaded, types.GeneratorType | types.CoroutineType):
            loaded.send(None)


def main(seed, count):
    faulthandler.enable()
    # Whatever a damaged pickle says: it may not make us take more than this.
    resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))
    warnings.simplefilter("ignore")
    sys.unraisablehook = lambda _error: None
    signal.signal(signal.SIGALRM, time_up)
    forger = Forger(int(seed))
    for number in range(int(count)):
        try:
            signal.setitimer(signal.ITIMER_REAL, 2)
            try:
                forger.one()
                forger.accepted += 1
            finally:
                signal.setitimer(signal.ITIMER_REAL, 0)
        except (Exception, TimeUpError, GeneratorExit):
            forger.refused += 1
        if number % 1000 == 999:
            gc.collect()
    print(forger.refused, forger.accepted)


if __name__ == "__main__":
    main(*sys.argv[1:])
