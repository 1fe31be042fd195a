"""The other of two programs that call each other: joins an office and serves its orders.

python clerk.py URL NAME
"""

import sys
import threading

import objspace


class Clerk:
    def __init__(self, name, office):
        self.name = name
        self.office = office
        self.done = threading.Event()

    def serve(self, order):
        """Called by the office, which this calls in turn."""
        price = self.office.price(order)
        self.office.book(price)
        return f"for {price}, by {self.name}"

    def go_home(self):
        self.done.set()


def main():
    # What an office may do here: the public methods of what it was given.
    remote = objspace.connect(sys.argv[1], policy=objspace.Policy.public())
    clerk = Clerk(sys.argv[2], remote.office)
    print(clerk.office.join(clerk), flush=True)
    # Nothing is asked of this thread meanwhile: the session serves the office's calls.
    clerk.done.wait()
    print("home", flush=True)


if __name__ == "__main__":
    main()
