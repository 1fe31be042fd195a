"""Threads, callbacks, recursion and interruptions on one session."""

import textwrap
import threading

import pytest

SETUP = """
import threading

class Place:
    def __init__(self):
        self.local = threading.local()
        self.lock = threading.RLock()

    def call(self, function, *args):
        return function(*args)

    def echo(self, value):
        return value

    def nest(self, depth, back):
        return 0 if depth == 0 else 1 + back(depth - 1)

    def set(self, value):
        self.local.value = value

    def get(self):
        return getattr(self.local, "value", None)

    def locked(self, function):
        with self.lock:
            return function()

place = Place()
"""


def run_threads(count, body):
    """Runs `body(index)` on so many threads at once; raises the first error of any."""
    errors = []

    def run(index):
        try:
            body(index)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(index,), daemon=True) for index in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(35)
    assert not any(thread.is_alive() for thread in threads), "a thread is stuck"
    if errors:
        raise errors[0]


def test_many_threads_with_callbacks_get_their_own_results(link):
    place = link(SETUP).place

    def body(index):
        here = threading.get_ident()

        def back(number):
            assert threading.get_ident() == here
            return number + index

        for number in range(12):
            assert place.call(back, number) == number + index
            assert place.echo((index, number)) == (index, number)

    run_threads(64, body)


def test_both_sides_send_much_at_once(link):
    data = bytes(64 << 20 if link.transport == "tcp" else 16 << 20)
    place = link(SETUP).place

    def back(value):
        return value

    def body(index):
        if index:
            assert place.call(back, data) == data
        else:
            assert place.echo(data) == data

    run_threads(2, body)


@pytest.mark.parametrize("depth", [40, 120])
def test_recursion_to_and_fro_succeeds(link, depth):
    place = link(SETUP).place

    def back(left):
        return place.nest(left, back)

    assert place.nest(depth // 2, back) == depth // 2


# More than the limit of the process inside, which otherwise could not be reported.
@pytest.mark.timeout(90)
@pytest.mark.parametrize("transport_of_child", ["pair", "spawn", "tcp"])
def test_recursion_a_thousand_deep_ends_well(python, transport_of_child):
    program = """
        import sys, threading
        import objspace
        from objspace.distributed import pair
        setup = '''
        class Place:
            def nest(self, depth, back):
                return 0 if depth == 0 else 1 + back(depth - 1)
        place = Place()
        '''
        import textwrap
        setup = textwrap.dedent(setup)
        how = sys.argv[1]
        names = {}
        exec(setup, names)
        if how == "pair":
            here, there = pair({}, names)
            remote = here.remote
        elif how == "spawn":
            view = objspace.spawn(setup=setup)
            remote = view.__enter__() if hasattr(view, "__enter__") else view
        else:
            server = objspace.Server(names, "tcp://127.0.0.1:0", policy=objspace.Policy.full())
            server.start()
            remote = objspace.connect(server.address, policy=objspace.Policy.full())
        place = remote.place
        def back(left):
            return place.nest(left, back)
        for depth in (1000, 5000):
            try:
                print("result", place.nest(depth, back) == depth)
            except RecursionError:
                print("RecursionError")
        print("after", place.nest(3, back))
        sys.stdout.flush()
        import os
        os._exit(0)
    """
    done = python(program, transport_of_child, timeout=60)
    assert done.returncode == 0, done.stderr[-2000:]
    lines = done.stdout.split("\n")
    assert lines[0] in ("RecursionError", "result True")
    assert lines[1] == "RecursionError"
    assert lines[2] == "after 3"


def test_thread_locals_and_locks_hold_along_a_chain_of_calls(link):
    place = link(SETUP).place

    def body(index):
        def inside():
            # Called back while the lock is held over there: the same thread takes it again.
            place.set(index)
            return place.locked(place.get)

        for _ in range(5):
            assert place.locked(inside) == index

    run_threads(4, body)


def test_an_interrupted_call_leaves_the_session_usable(python):
    program = textwrap.dedent("""
        import os, signal, sys, threading
        import objspace
        setup = '''
        import time
        def sleep(started):
            started()
            for _ in range(100):
                time.sleep(0.01)
        def add(a, b):
            return a + b
        '''
        import textwrap
        with objspace.spawn(setup=textwrap.dedent(setup)) as remote:
            sleep, add = remote.sleep, remote.add
            def started():
                threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGINT)).start()
            try:
                sleep(started)
            except KeyboardInterrupt:
                print("interrupted")
            print(add(1, 2))
    """)
    done = python(program, timeout=40)
    assert done.stdout.split() == ["interrupted", "3"], done.stderr[-2000:]
