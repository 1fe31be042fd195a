"""References: counted, released in batches, and safe against what crosses a release on the way."""

import gc
import threading
import weakref

from objspace.distributed import session_of

SETUP = """
class Thing:
    pass

things = [Thing() for _ in range(100)]
one = things[0]

def make():
    return Thing()

def same(n):
    return [one] * n

def drop(index):
    things[index] = None

import weakref
watched = weakref.WeakSet()

def make_watched():
    thing = Thing()
    watched.add(thing)
    return thing

def alive():
    return len(watched)

def batch(n):
    return [Thing() for _ in range(n)]
"""


def test_a_hundred_thousand_references_leave_nothing_behind(link, no_leaks):
    """In batches, each of which is one message and is released by few."""
    remote = link(SETUP)
    batch = remote.batch
    session = session_of(remote)
    list(batch(1))
    with no_leaks(remote):
        before = session.stats()
        # A tenth of them where only the transport differs.
        batches = 10 if link.transport == "tcp" else 1
        for _ in range(batches):
            things = list(batch(10_000))
            assert len(things) == 10_000
            del things
        after = session.stats()
        sent = after["messages_sent"] - before["messages_sent"]
        # A call and a snapshot for each batch, and what gives everything back.
        assert after["round_trips"] - before["round_trips"] == 2 * batches
        assert sent <= 6 * batches


def test_dropped_objects_die_over_there(link):
    remote = link(SETUP)
    make, alive = remote.make_watched, remote.alive
    things = [make() for _ in range(50)]
    assert alive() == 50
    del things[10:]
    gc.collect()
    # Releases go before the next message.
    assert alive() == 10


def test_identity_and_weak_references_hold_while_the_proxy_lives(link):
    remote = link(SETUP)
    one = remote.one
    reference = weakref.ref(one)
    kept = weakref.WeakKeyDictionary({one: "kept"})
    assert remote.one is one
    assert remote.things[0] is one
    assert all(thing is one for thing in remote.same(10))
    assert kept[remote.one] == "kept"
    number = id(one)
    del one
    gc.collect()
    assert reference() is None
    assert not kept
    # It can come again.
    assert remote.one is remote.one
    assert number


def test_what_is_released_and_sent_again_at_once_is_there(link, no_leaks):
    """The reply that exports an object again crosses the release of it."""
    remote = link(SETUP)
    things = remote.things

    def get(index):
        return things[index]

    for index in range(4):
        get(index)
    with no_leaks(remote):
        failures = []

        def work(seed):
            for turn in range(200):
                thing = get((seed + turn) % 4)
                if type(thing).__name__ != "Thing" or thing != thing:
                    failures.append(turn)
                del thing

        threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert failures == []


def test_an_object_sent_many_times_is_one_entry(link):
    remote = link(SETUP)
    session = session_of(remote)
    same = remote.same(1000)
    before = session.stats()["imports"]
    objects = list(same)
    assert session.stats()["imports"] - before <= 1
    assert len({id(thing) for thing in objects}) == 1
