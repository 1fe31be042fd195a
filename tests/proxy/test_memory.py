"""Life and death of proxies, each in a process where a crash would be seen."""

import gc
import weakref

import pytest


class Thing:
    pass


def test_cycles_through_the_controller_are_collected(proxy_of):
    from objspace.tproxy import tproxy

    class Controller:
        def __call__(self, *args):
            raise AttributeError

    for kind in (list, Thing, KeyError, type(lambda: None)):
        controller = Controller()
        controller.proxy = tproxy(kind, controller)
        reference = weakref.ref(controller)
        del controller
        gc.collect()
        assert reference() is None


def test_cycles_through_the_object_and_the_operations(recorded):
    thing = Thing()
    reference = weakref.ref(thing)
    record = recorded(thing)
    thing.record = record
    len(dir(record.proxy))
    del thing, record
    gc.collect()
    assert reference() is None


MILLION = """
import gc
from objspace.tproxy import tproxy
from objspace.tputil import delegate, make_proxy

class Thing:
    pass

class Controller:
    def __call__(self, *args):
        return None

def controller(*args):
    return None

def by_python(operation):
    return operation.delegate()

def dropped():
    tproxy(list, controller)
    len(make_proxy(by_python, obj=[]))
    make_proxy(delegate, obj=Thing()).x = 1
    tproxy(KeyError, controller)

def in_cycles():
    for kind in (list, Thing):
        control = Controller()
        control.proxy = tproxy(kind, control)
    thing, items = Thing(), []
    thing.proxy = make_proxy(delegate, obj=thing)
    items.append(make_proxy(by_python, obj=items))

def rss():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1])

def rounds(n):
    for _ in range(n):
        ACTION()
    gc.collect()

rounds(5000)
before, objects = rss(), len(gc.get_objects())
rounds(250_000)
print(rss() - before, len(gc.get_objects()) - objects)
"""


@pytest.mark.slow
@pytest.mark.parametrize("action", ["dropped", "in_cycles"])
def test_a_million_proxies_leave_the_process_at_its_former_size(action, run):
    pages, objects = run(MILLION.replace("ACTION", action)).split()
    assert int(pages) < 256  # of some forty thousand that they took
    assert int(objects) < 10


def test_classes_made_and_dropped_leave_no_memory_behind(run):
    out = run(
        """
        import gc
        from objspace.tproxy import tproxy

        def rounds(n):
            for _ in range(n):
                kind = type("Kind", (), {"__len__": lambda self: 0})
                tproxy(kind, print)

        rounds(200)
        gc.collect()
        before = len(gc.get_objects())
        rounds(500)
        gc.collect()
        print(len(gc.get_objects()) - before)
        """
    )
    assert int(out) < 50


def test_a_long_chain_of_proxies_dies_without_exhausting_the_stack(run):
    out = run(
        """
        from objspace.tputil import make_proxy
        p = []
        for _ in range(200000):
            p = make_proxy(lambda operation: operation.delegate(), obj=p)
        del p
        print("alive")
        """
    )
    assert out == "alive\n"


def test_proxies_survive_the_end_of_the_interpreter(run):
    run(
        """
        import sys, atexit
        from objspace.tputil import make_proxy
        class Thing:
            def __del__(self):
                pass
        kept = [make_proxy(lambda operation: operation.delegate(), obj=obj)
                for obj in ([], {}, Thing(), KeyError(), print, sys)]
        sys.kept = kept
        sys.modules["kept"] = kept[0]
        atexit.register(lambda: len(kept[0]))
        """
    )


def test_the_death_of_a_proxy_keeps_the_error_that_is_raised(proxy_of):
    def raising():
        p = proxy_of(Thing())  # noqa: F841
        raise KeyError("kept")

    try:
        raising()
    except KeyError as error:
        assert error.args == ("kept",)


def test_finalisers_of_the_class_run_for_the_object_only(proxy_of):
    ended = []

    class Ending:
        def __del__(self):
            ended.append(self)

    p = proxy_of(Ending())
    p.self = p
    del p
    gc.collect()
    assert len(ended) == 1


def test_fork_keeps_the_hook(run):
    out = run(
        """
        import os
        from objspace.tputil import make_proxy
        p = make_proxy(lambda operation: operation.delegate(), obj=[])
        pid = os.fork()
        if pid == 0:
            os._exit(0 if type(p) is list and len(p) == 0 else 1)
        print(os.waitpid(pid, 0)[1])
        """
    )
    assert out == "0\n"


def test_without_the_hook_everything_else_works(run):
    import os

    out = run(
        """
        from objspace.tputil import make_proxy
        p = make_proxy(lambda operation: operation.delegate(), obj=[1])
        print(type(p) is list, isinstance(p, list), p.__class__ is list, p + [2], [0] + p)
        """,
        env={**os.environ, "OBJSPACE_TYPE_HOOK": "0"},
    )
    assert out == "False True True [1, 2] [0, 1]\n"


def test_type_still_refuses_to_be_changed(proxy_of):
    proxy_of([])
    with pytest.raises(TypeError, match="immutable type"):
        type.x = 1
