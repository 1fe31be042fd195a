"""One of two programs that call each other: keeps orders, and hands them to whoever has joined.

    python office.py URL ORDERS

Waits for a clerk to join, gives it orders by calling it, and ends when all are done. The clerk
calls back in the middle of that: both sides hold objects of the other.
"""

import sys
import threading

import objspace


class Refused(Exception):
    """The office's own error, which a clerk may raise."""


class Office:
    def __init__(self):
        self.joined = threading.Event()
        self.clerks = []
        self.prices = {"tea": 3, "coffee": 4}
        self.ledger = []

    def join(self, clerk):
        """Takes a clerk on."""
        self.clerks.append(clerk)
        self.joined.set()
        return f"welcome, {clerk.name}"

    def price(self, thing):
        """Asked by clerks, while the office waits for them."""
        if thing not in self.prices:
            raise Refused(f"no {thing} today")
        return self.prices[thing]

    def book(self, amount):
        self.ledger.append(amount)


def main():
    office = Office()
    names = {"office": office, "Refused": Refused}
    with objspace.Server(names, sys.argv[1], policy=objspace.Policy.public()) as server:
        print(server.address, flush=True)
        office.joined.wait()
        (clerk,) = office.clerks
        for order in sys.argv[2].split(","):
            try:
                print(order, clerk.serve(order), flush=True)
            except Refused as error:
                print(order, "refused:", error, flush=True)
        print("ledger", office.ledger, flush=True)
        clerk.go_home()


if __name__ == "__main__":
    main()
