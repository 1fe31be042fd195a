"""Runs programs on both worlds and compares; also the soak command.

    python -m twin.compare --programs 10000 --threads 2 --seed 1

from the folder above this one. Each thread runs programs of its own on the one session, so that
their calls overtake one another.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import random
import subprocess
import sys
import threading
import time
import types

from .chaos import Chaos
from .program import Run
from .world import SOURCE

SERVER = """
import sys
import objspace
exec(compile(sys.argv[1], "<world>", "exec"), names := {"__name__": "world"})
with objspace.Server(names, "tcp://127.0.0.1:0", policy=objspace.Policy.full()) as server:
    print(server.address, flush=True)
    sys.stdin.read()
"""
SIZES = """
def sizes(theirs):
    from objspace.distributed import session_of
    stats = session_of(theirs).stats()
    return stats["exports"], stats["imports"]
"""


def world():
    module = types.ModuleType("world")
    exec(compile(SOURCE, "<world>", "exec"), module.__dict__)
    return module


class Different(AssertionError):
    """What one world did and the other did not."""


class Twins:
    """A session to another process, and what is needed to run programs on it."""

    def __init__(self, remote):
        from objspace.distributed import session_of

        self.remote = remote
        self.session = session_of(remote)
        self.here = world()
        self.probe = lambda: None
        self.held = [remote.sizes, remote.collect]
        # A class that was told is known to both sides until the session ends.
        for name in ("Thing", "Child", "Slotted", "Words"):
            theirs, ours = getattr(remote, name), getattr(self.here, name)
            self.held.append(theirs)
            remote.same(theirs("x"), ours("x"))
        self.held.append(remote.AppError)
        list(reversed(remote.make("deque", 1)))
        remote.call(lambda x: iter(x), remote.make("deque", 1))
        for function in (iter, reversed):
            remote.call(function, self.here.make("deque", 1))
        for side in (remote, self.here):
            remote.caught(side.make, "unknown", 1)

    def run(self, program):
        """Runs a program in both worlds; raises `Different` where they differ."""
        expected = Run(world(), world())
        outcomes = expected.execute(program)
        twin = Run(self.here, self.remote, expected.left_out)
        try:
            found = twin.execute(program)
        finally:
            twin.clear()
        for position, (wanted, got) in enumerate(zip(outcomes, found, strict=True)):
            if wanted != got:
                step = program[position] if position < len(program) else "at the end"
                raise Different(
                    f"step {position} {step} {wanted[0]}:\n  one process: {wanted[1]}\n"
                    f"  two processes: {got[1]}\n  program: {program}"
                )

    def sizes(self):
        theirs = tuple(self.held[0](self.probe))
        stats = self.session.stats()
        return (stats["exports"], stats["imports"]), theirs

    def settled(self, wanted=None):
        """The sizes of the tables on both sides; `wanted`, if they come to that."""
        for attempt in range(12):
            found = self.sizes()
            if found == wanted:
                break
            # Releases ride on messages; what is part of a cycle waits for a collector.
            if attempt > 1:
                gc.collect()
                self.held[1]()
        return found


def random_program(choice, longest=14):
    return [
        tuple(choice.randrange(1 << 16) for _ in range(4))
        for _ in range(choice.randrange(1, longest))
    ]


def smallest(twins, program):
    """The program without the steps that it does not take to fail."""
    position = 0
    while position < len(program):
        shorter = program[:position] + program[position + 1 :]
        try:
            twins.run(shorter)
        except Different:
            program = shorter
        else:
            position += 1
    return program


@contextlib.contextmanager
def twins(seed=0, *, delay=0.0):
    """A session over TCP through a channel that cuts and delays."""
    import objspace

    with subprocess.Popen(
        [sys.executable, "-c", SERVER, SOURCE + SIZES],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        chaos = remote = None
        try:
            chaos = Chaos(process.stdout.readline().strip(), seed, delay=delay)
            remote = objspace.connect(chaos.address, policy=objspace.Policy.full())
            yield Twins(remote)
        finally:
            if remote is not None:
                objspace.distributed.session_of(remote).close()
            if chaos is not None:
                chaos.close()
            process.stdin.close()
            process.wait(10)


def soak(programs, threads, seed, delay):
    """Runs that many programs; returns how many differed."""
    failed = []
    lock = threading.Lock()
    done = 0

    def work(twin, choice, count, before):
        nonlocal done
        for _ in range(count):
            program = random_program(choice)
            try:
                twin.run(program)
                if threads == 1 and (after := twin.settled(before)) != before:
                    raise Different(f"the tables went from {before} to {after}: {program}")
            except Different as difference:
                with lock:
                    failed.append(program)
                    print(difference, flush=True)
                if len(failed) > 5:
                    return
            with lock:
                done += 1

    # A session for each thousand, so that the seed of the channel changes too.
    for block in range(0, programs, 1000):
        size = min(1000, programs - block)
        with twins(seed + block, delay=delay) as twin:
            for warm in range(30):
                twin.run(random_program(random.Random(warm), 40))
            before = twin.settled(twin.settled())
            workers = [
                threading.Thread(
                    target=work,
                    args=(twin, random.Random(f"{seed} {block} {number}"), size // threads, before),
                )
                for number in range(threads)
            ]
            for worker in workers:
                worker.start()
            for worker in workers:
                worker.join()
            after = twin.settled(before)
            if after != before:
                print(f"the tables went from {before} to {after}", flush=True)
                failed.append("tables")
        print(f"{done} programs, {len(failed)} different", flush=True)
        if failed:
            break
    return failed


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--programs", type=int, default=10_000)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--delay", type=float, default=0.001, help="longest delay, in seconds")
    options = parser.parse_args()
    print(f"seed {options.seed}", flush=True)
    sys.exit(bool(soak(options.programs, options.threads, options.seed, options.delay)))


if __name__ == "__main__":
    main()
