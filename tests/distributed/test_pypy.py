"""What PyPy's `distributed` promised, and its own tests asked of it, of ours: over each channel.

Everything is there, the one test that it skipped (a file opened over there) included.
"""

import sys
import types

import pytest
from objspace.distributed import ObjectNotFound, Session, pair


def test_the_module_can_be_imported_and_has_the_names():
    import objspace.distributed as distributed

    assert {"Session", "pair", "ObjectNotFound", "session_of"} <= set(dir(distributed))


@pytest.mark.parametrize("value", ["aaa", 3, 344444444444444444, 1.2, (1, "aa"), b"aa", None])
def test_plain_values_come_back_as_they_went(link, value):
    assert link("def same(x): return x").same(value) == value


def test_containers_and_functions_keep_their_types(link):
    remote = link("items = [1, 2, 3]; table = {'a': 3}\ndef f(): pass")
    assert type(remote.items) is list
    assert type(remote.table) is dict
    assert type(remote.f) is types.FunctionType


def test_a_method_of_an_object_that_is_false(link):
    remote = link("empty = []; append = empty.append")
    assert type(remote.append) is types.BuiltinMethodType
    remote.append(5)
    assert remote.empty == [5]


def test_a_list_is_read_and_extended_in_place(link):
    remote = link("items = [1, 2, 3]")
    items = remote.items
    assert len(items) == 3
    assert items[2] == 3
    kept = items
    items += [1, 1, 1]
    assert items is kept
    assert len(items) == len(remote.items) == 6


def test_a_function_is_called(link):
    add = link("def add(x, y): return x + y").add
    assert isinstance(add, types.FunctionType)
    assert add(3, 2) == 5


def test_a_session_over_two_functions_that_move_bytes():
    from queue import Queue
    from threading import Thread

    forth, back = Queue(), Queue()
    there = Session(back.put, forth.get, {"f": lambda x, y: x + y})
    serving = Thread(target=there.serve, daemon=True)
    serving.start()
    here = Session(forth.put, back.get)
    fun = here.get_remote("f")
    assert isinstance(fun, types.FunctionType)
    assert fun(2, 3) == 5
    here.close()
    serving.join(10)
    assert not serving.is_alive()


OBJECT = """
class A:
    "xxx"
    def __init__(self, x):
        self.x = x

    def __len__(self):
        return self.x + 8

    def meth(self, x):
        return x() + 3

a = A(3)
"""


def test_an_object_has_its_attributes_and_operators(link):
    a = link(OBJECT).a
    assert a.x == 3
    assert len(a) == 11


def test_documentation_and_a_callback(link):
    a = link(OBJECT).a

    def one():
        return 1

    assert a.__class__.__doc__ == "xxx"
    assert a.meth(one) == 4


def test_a_function_calls_another_of_its_own_side(link):
    assert link("def g(): return 8\ndef f(x): return x + g()").f(8) == 16


def test_a_dict_equals_its_likeness(link):
    remote_d, d = link("d = {'a': 3}").d, {"a": 3}
    assert d.keys() == remote_d.keys()
    assert remote_d.keys() == d.keys()
    assert list(d.values()) == list(remote_d.values())
    assert d["a"] == remote_d["a"]
    assert d == remote_d
    assert remote_d == d
    assert not d != remote_d


def test_an_object_handed_over_is_used_later(link):
    a = link(
        """
        class A:
            def meth(self, one):
                self.one = one

            def perform(self):
                return 1 + len(self.one())
        a = A()
        """
    ).a

    class B:
        def __call__(self):
            return [1, 2, 3]

    a.meth(B())
    assert a.perform() == 4


def test_a_frame(link):
    remote = link("import sys\nanswer = 42\ndef frame():\n    here = 1\n    return sys._getframe()")
    frame = remote.frame()
    assert type(frame) is types.FrameType
    assert "answer" in frame.f_globals
    assert frame.f_globals.keys() == remote.frame.__globals__.keys()
    assert frame.f_locals == {"here": 1}
    assert set(frame.f_locals.keys()) == {"here"}  # a list from 3.13 on


def test_a_frame_of_ours_is_the_same_frame_over_there(link):
    remote = link("def names(frame): return frame.f_locals.keys(), frame.f_globals.keys()")
    frame = sys._getframe()
    found_locals, found_globals = remote.names(frame)
    assert set(found_globals) == set(frame.f_globals)
    assert {"remote", "frame"} <= set(found_locals)


def test_an_exception(link):
    raising = link("def raising(): 1/0").raising
    with pytest.raises(ZeroDivisionError) as caught:
        raising()
    assert caught.value.__traceback__.tb_next is not None


def test_a_class_method(link):
    a = link(
        """
        class A:
            z = 8
            @classmethod
            def x(cls):
                return cls.z
        a = A()
        """
    ).a
    assert a.x() == 8
    assert type(a).x() == 8


def test_a_class_is_itself_when_it_comes_home(link):
    remote = link(
        """
        class A:
            def m(self, tp):
                return type(self) is tp
        a = A()
        """
    )
    assert remote.a.m(remote.A) is True
    assert remote.a.m(type(remote.a)) is True


def test_an_object_is_made_of_a_remote_class(link):
    cls = link(
        """
        class C:
            def __init__(self, y):
                self.y = y
            def x(self):
                return self.y
        """
    ).C
    made = cls(3)
    assert made.x() == 3
    assert type(made) is cls


def test_the_other_sys(link):
    remote = link("import sys")
    assert type(remote.sys) is types.ModuleType
    assert {"modules", "path", "version_info"} <= set(dir(remote.sys))
    assert tuple(remote.sys.version_info)[:2] == sys.version_info[:2]


def test_a_file_is_opened_and_read_over_there(link, tmp_path):
    path = tmp_path / "text"
    path.write_text("first\nsecond\n")
    remote = link("def opened(path): return open(path)\nimport io")
    with remote.opened(str(path)) as file:
        assert file.readline() == "first\n"
        assert list(file) == ["second\n"]
        file.seek(0)
        assert file.read() == "first\nsecond\n"
    assert file.closed
    with remote.io.open(str(path), "rb") as file:
        assert file.read() == b"first\nsecond\n"


def test_a_descriptor_sees_the_object_and_its_class(link):
    x = link(
        """
        class Getter:
            def __get__(self, obj, cls=None):
                if obj is not None:
                    assert type(obj) is X
                assert cls is X
                return 3

        class X:
            x = Getter()
        x = X()
        """
    ).x
    assert x.x == 3
    assert type(x).x == 3


def test_bases(link):
    remote = link("class X: pass\nclass Y(X): pass\ny = Y()")
    assert isinstance(remote.y, remote.X)
    assert issubclass(type(remote.y), remote.X)


def test_a_name_that_is_not_exported():
    ours, theirs = pair({}, {"y": 1})
    with pytest.raises(ObjectNotFound, match="x is not exported"):
        ours.get_remote("x")
    with pytest.raises(AttributeError):
        ours.remote.x
    ours.close()
    theirs.close()


def test_the_names_that_are_exported():
    ours, theirs = pair({}, {"x": 3, "y": 8})
    assert sorted(ours.remote_keys()) == ["x", "y"]
    ours.close()
    theirs.close()
