"""A host whose plug-in runs in a child process, possibly of another Python.

    python host.py [PYTHON]

PYTHON needs objspace too, and nothing of the host. An error in the plug-in is an exception here,
and a crash of it is a `ConnectionLost`; neither takes the host with it.
"""

import os
import sys
from pathlib import Path

import objspace


class Document:
    """Only the host has this class."""

    def __init__(self, text):
        self.lines = text.splitlines()
        self.tags = []


def main():
    python = sys.argv[1] if len(sys.argv) > 1 else sys.executable
    document = Document("a rose is a rose\nis a rose is a rose\nsaid Gertrude\nStein once")
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}
    with objspace.spawn(python=python, setup="from plugin import plugin", env=env) as remote:
        plugin = remote.plugin
        print(f"{plugin.name}, in Python {plugin.python}")
        report = plugin.run(document, lambda done, of: print(f"  {done} of {of} lines"))
        # The report stays over there; a dict is a dict, wherever it lives.
        print(report.summary())
        print(isinstance(report, dict), report["rose"], document.tags)
        try:
            plugin.run(None, print)
        except AttributeError as error:
            print(f"{type(error).__name__}: {error}")


if __name__ == "__main__":
    main()
