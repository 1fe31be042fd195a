"""A kernel: runs cells, as a notebook does, and lets other programs look at its variables.

python kernel.py URL
"""

import code
import sys

import objspace

CELLS = [
    "import random",
    "random.seed(1)",
    "readings = [{'hour': n % 24, 'value': random.gauss(20, 5)} for n in range(100_000)]",
    "def mean(rows): return sum(row['value'] for row in rows) / len(rows)",
    "by_hour = {h: [r for r in readings if r['hour'] == h] for h in range(24)}",
]


class Kernel:
    """Runs cells in one namespace, which it serves."""

    def __init__(self, url):
        self.namespace = {"__name__": "notebook"}
        self.interpreter = code.InteractiveInterpreter(self.namespace)
        self.namespace["run"] = self.run
        # Its users may do what they could do in the notebook itself.
        self.server = objspace.Server(self.namespace, url, policy=objspace.Policy.full())

    def run(self, cell):
        """Runs one cell."""
        self.interpreter.runcode(compile(cell, "<cell>", "exec"))


def main():
    kernel = Kernel(sys.argv[1])
    for cell in CELLS:
        kernel.run(cell)
    with kernel.server as server:
        print(server.address, flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main()
