"""What questions to a long log cost: seconds of whole commands, and of a bare start of one.

    python benches/dump_reading.py [operations [folder]]

Records a program until its log has that many operations (ten million by default; the log is kept
in the folder, if one is given, and used again), then asks it. Each question is a whole command, as
somebody types it: starting Python, opening the log and printing are included. Of three times
the worst is shown; the log is in the cache of the system, since it was just written or read.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time

import objspace.dump


class Account:
    def __init__(self, owner):
        self.owner = owner
        self.state = "new"


class Point:
    def __init__(self, x, y):
        self.x = x
        self.y = y

    def moved(self, step):
        return Point(self.x + step, self.y - step)


def round_of(points, seen, account, number):
    for index, point in enumerate(points):
        points[index] = point.moved(number % 7)
        key = (number + index) % 1009
        seen[key] = seen.get(key, 0) + 1
    if number % 1000 == 0:
        account.state = "used"
        account.uses = number


def record(path, wanted):
    """Records until there are enough operations; the serials of a rare and of a busy object."""
    points = [Point(n, -n) for n in range(100)]
    start = time.perf_counter()
    objspace.dump.start(path, modules=[__name__])
    account = Account("somebody")
    seen = {}
    number = 0
    while objspace.dump._core._dump_operations() < wanted:
        number += 1
        round_of(points, seen, account, number)
    summary = objspace.dump.stop()
    print(
        f"recorded {summary.operations} operations in {time.perf_counter() - start:.1f} s, "
        f"{summary.bytes / 1e6:.0f} MB, {summary.bytes / summary.operations:.1f} bytes each"
    )


def ask(*arguments):
    """The worst time of three, and the lines of the answer."""
    times = []
    for _ in range(3):
        start = time.perf_counter()
        done = subprocess.run(
            [sys.executable, "-m", "objspace", *map(str, arguments)],
            capture_output=True,
            text=True,
            check=False,
        )
        times.append(time.perf_counter() - start)
        assert done.returncode in (0, 1), done.stderr
    return max(times), len(done.stdout.splitlines())


def main():
    wanted = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000_000
    with tempfile.TemporaryDirectory() as temporary:
        path = os.path.join(sys.argv[2] if len(sys.argv) > 2 else temporary, "reading.dump")
        if not os.path.exists(path):
            record(path, wanted)
        start = time.perf_counter()
        log = objspace.dump.Log(path)
        print(
            f"{log.operations} operations in {log.blocks} blocks; opening in this process "
            f"{time.perf_counter() - start:.3f} s"
        )
        rare = log.find(operations=["setattr"], name="uses", limit=1)[0].operands[0].serial
        busy = log.find(operations=["setitem"], limit=2)[1].operands[0].serial
        late = log.find(operations=["setattr"], name="y", backwards=True, limit=1)[0]
        place = f"{os.path.basename(__file__)}:"
        line = log.site(late.site).line
        uses = log.site(log.find(operations=["setattr"], name="uses", limit=1)[0].site).line
        print(f"{'question':44} {'seconds':>8} {'lines':>7}")
        for name, arguments in [
            ("objspace --version (a bare start)", ["--version"]),
            ("object, rare", ["dump", "object", path, rare]),
            ("object, in every round", ["dump", "object", path, busy]),
            ("object, short-lived, at the end", ["dump", "object", path, late.operands[0].serial]),
            ("why Account.state", ["dump", "why", path, "Account.state"]),
            ("why Point.x", ["dump", "why", path, "Point.x"]),
            ("why Account.owner (set once, first)", ["dump", "why", path, "Account.owner"]),
            ("why Account.x (never, name is busy)", ["dump", "why", path, "Account.x"]),
            ("why FILE:LINE, busy", ["dump", "why", path, f"{place}{line}"]),
            ("why FILE:LINE, rare", ["dump", "why", path, f"{place}{uses}"]),
        ]:
            seconds, lines = ask(*arguments)
            print(f"{name:44} {seconds:8.2f} {lines:7}")


if __name__ == "__main__":
    main()
