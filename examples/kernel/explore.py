"""Explores the variables of a kernel, of which it fetches what it looks at.

python explore.py URL
"""

import sys

import objspace
from objspace.distributed import session_of


def main():
    remote = objspace.connect(sys.argv[1], policy=objspace.Policy.full())
    session = session_of(remote)
    before = session.stats()

    readings, by_hour = remote.readings, remote.by_hour
    print(sorted(name for name in dir(remote) if not name.startswith("_")))
    print(type(readings).__name__, len(readings), sorted(readings[0]))
    print([round(row["value"], 1) for row in readings[:3]])
    print(len(by_hour), list(by_hour)[:5], len(by_hour[3]))
    # The function runs where the rows are.
    print(round(remote.mean(by_hour[3]), 3))
    # So does a cell; its result is there for everybody.
    remote.run("warm = [row for row in readings if row['value'] > 35]")
    print(len(remote.warm))

    after = session.stats()
    print(f"{after['bytes_received'] - before['bytes_received']} bytes of 100,000 rows", end=" ")
    print(f"in {after['round_trips'] - before['round_trips']} round trips")
    session.close()


if __name__ == "__main__":
    main()
