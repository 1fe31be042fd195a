"""A recursive search that moves to another process in the middle of its recursion."""

import os

import objspace
from objspace import schedule, tasklet
from objspace.tasklets import run


def queens(size, columns=()):
    """All ways to place queens; pauses once, three calls deep."""
    if len(columns) == size:
        return [columns], {os.getpid()}
    if columns == (0, 2):
        schedule(remove=True)
    found, where = [], set()
    for column in range(size):
        if all(
            column != other and abs(column - other) != len(columns) - row
            for row, other in enumerate(columns)
        ):
            ways, pids = queens(size, (*columns, column))
            found += ways
            where |= pids
    return found, where


if __name__ == "__main__":
    search = tasklet(queens)(5)
    run()
    with objspace.spawn() as remote:
        found, where = search.move(remote)
    print(len(found), "ways, found by", "this process" if os.getpid() in where else "the other one")
