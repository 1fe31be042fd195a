"""A generator that is written to disk every three items, and survives its process."""

import os
import signal
import sys

from objspace import pickling


def work(items):
    total = 0
    for item in items:
        total += item
        yield item, total


def main(path, kill_at):
    if os.path.exists(path):
        with open(path, "rb") as file:
            job = pickling.load(file)
    else:
        job = work(range(10))
    for number, (item, total) in enumerate(job, 1):
        print(item, total, flush=True)
        if item == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)
        if number % 3 == 0:
            with open(path + ".new", "wb") as file:
                pickling.dump(job, file)
            os.replace(path + ".new", path)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
