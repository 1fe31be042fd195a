"""Method calls over TCP against a raw ping-pong in Python, as ratios of one run.

    python benches/session.py [rounds]

Both sides are bound to one CPU: on a small machine waking another CPU costs more than all the rest.
Build with `maturin develop --release` first.
"""

import os
import socket
import statistics
import subprocess
import sys
import time

import objspace
from objspace.distributed import session_of

CPU = max(os.sched_getaffinity(0))
SIZE = 44
BURST = 10_000
RAW = f"""
import os, socket
os.sched_setaffinity(0, {{{CPU}}})
listener = socket.create_server(("127.0.0.1", 0))
print(listener.getsockname()[1], flush=True)
peer, _ = listener.accept()
peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
while data := peer.recv(65536):
    peer.sendall(data)
"""
SERVED = f"""
import os, sys
os.sched_setaffinity(0, {{{CPU}}})
import objspace
class Thing:
    def add(self, a, b):
        return a + b
names = {{"thing": Thing()}}
with objspace.Server(names, "tcp://127.0.0.1:0", policy=objspace.Policy.full()) as server:
    server.start()
    print(server.address, flush=True)
    sys.stdin.read()
"""


def median(function, count=2000):
    """Microseconds of one call."""
    samples = []
    for _ in range(count):
        start = time.perf_counter_ns()
        function()
        samples.append(time.perf_counter_ns() - start)
    return statistics.median(samples) / 1e3


def child(source):
    process = subprocess.Popen(
        [sys.executable, "-c", source], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    return process, process.stdout.readline().strip()


def main():
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 7
    os.sched_setaffinity(0, {CPU})
    raw_child, port = child(RAW)
    served_child, url = child(SERVED)
    raw = socket.create_connection(("127.0.0.1", int(port)))
    raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    message = bytes(SIZE)
    remote = objspace.connect(url)
    session = session_of(remote)
    thing = remote.thing
    add = thing.add

    def ping():
        raw.sendall(message)
        raw.recv(65536)

    def pipelined():
        with session.pipeline():
            promises = [thing.add(1, 2) for _ in range(BURST)]
        return promises

    cases = {"bound method": lambda: add(1, 2), "x.foo(a, b)": lambda: thing.add(1, 2)}
    for warm in (ping, *cases.values()):
        median(warm, 300)
    results = {name: [] for name in (*cases, "pipelined")}
    for _ in range(rounds):
        base = median(ping)
        for name, case in cases.items():
            results[name].append(median(case) / base)
        results["pipelined"].append(median(pipelined, 1) / BURST / base)
    print(f"raw ping-pong {base:.1f} us in the last round; medians of ratios to it:")
    for name, ratios in results.items():
        print(f"  {name:14} {statistics.median(ratios):.2f}")
    session.close()
    raw.close()
    served_child.stdin.close()
    for process in (raw_child, served_child):
        process.wait(10)


if __name__ == "__main__":
    main()
