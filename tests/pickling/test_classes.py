"""Classes of `__main__`, weak references, matches, and what `typing` names, written by one process and made again in another."""

import base64
import gc
import io
import os
import re
import sys
import textwrap

import pytest
from objspace import pickling

PRELUDE = "import base64\nfrom objspace import pickling\n"
WRITE = "print(base64.b64encode(pickling.dumps(value)).decode())\n"


@pytest.fixture
def written(python):
    """`written(program)` runs `program` and returns the pickle of its `value`."""

    def run(program):
        done = python(PRELUDE + textwrap.dedent(program) + WRITE)
        assert done.returncode == 0, done.stderr
        return base64.b64decode(done.stdout)

    return run


@pytest.fixture
def moved(written, elsewhere):
    """`moved(program, code)` runs `program`, pickles its `value`, and runs `code` with it elsewhere."""

    def run(program, code):
        return elsewhere(written(program), code)

    return run


def test_a_generic_class(moved):
    printed = moved(
        """
        from typing import Generic, TypeVar
        T = TypeVar("T", bound=int)
        class Box(Generic[T]):
            def __init__(self, held: T): self.held = held
        class Crate(Box[T]): pass
        value = Box, Crate[bool](True), Box[int], T
        """,
        """
        Box, crate, alias, T = value
        print(Box(1).held, crate.held, alias.__origin__ is Box, alias.__args__)
        print(Box.__parameters__ == (T,), T.__bound__, T.__name__, Box[str].__args__)
        print(type(crate).__orig_bases__[0].__origin__ is Box)
        """,
    )
    assert printed == "1 True True (<class 'int'>,)\nTrue <class 'int'> T (<class 'str'>,)\nTrue\n"


@pytest.mark.skipif(sys.version_info < (3, 12), reason="type parameters have a syntax since 3.12")
def test_a_generic_class_with_type_parameters_of_its_own(moved):
    printed = moved(
        """
        class Box[T: int]:
            def put[S](self, one: S) -> T: return one
        type Pair[T] = tuple[T, T]
        value = Box[bool](), Box.__type_params__, Pair, Box.put.__type_params__
        """,
        """
        box, (T,), Pair, (S,) = value
        print(box.put(3), T.__bound__, type(box).__type_params__ == (T,), S.__name__, Pair.__name__)
        print(Pair[int].__origin__ is Pair, Pair.__value__)
        """,
    )
    assert printed == "3 <class 'int'> True S Pair\nTrue tuple[T, T]\n"


def test_names_that_typing_makes(moved):
    printed = moved(
        """
        from typing import NewType, ParamSpec, TypeVar
        UserId = NewType("UserId", int)
        Admin = NewType("Admin", UserId)
        P = ParamSpec("P")
        K = TypeVar("K", str, bytes)
        C = TypeVar("C", covariant=True)
        value = UserId, Admin, P, K, C, [UserId, K]
        """,
        """
        UserId, Admin, P, K, C, again = value
        print(UserId(5), Admin.__supertype__ is UserId, P.args, K.__constraints__, C, again[0] is UserId)
        print(again[1] is K, UserId.__module__)
        """,
    )
    assert printed == ("5 True P.args (<class 'str'>, <class 'bytes'>) +C True\nTrue __main__\n")


def test_type_variables_loaded_twice_are_one(written):
    data = written(
        """
        import pickle
        from typing import TypeVar
        T = TypeVar("T")
        value = pickling.dumps(T), pickling.dumps([T])
        """
    )
    one, two = (pickling.loads(part) for part in pickling.loads(data))
    assert two[0] is one


def test_an_init_subclass_with_arguments_is_not_run_again(moved):
    printed = moved(
        """
        registry = []
        class Plugin:
            def __init_subclass__(cls, *, name, **rest):
                super().__init_subclass__(**rest)
                cls.name = name
                registry.append(name)
        class One(Plugin, name="one"):
            def get(self): return self.name, super().__repr__()[:1]
        class Two(One, dict, name="two"):
            __slots__ = ("extra",)
        value = One, Two, registry
        """,
        """
        One, Two, registry = value
        two = Two(a=1)
        two.extra = 3
        print(One().get(), two.get(), two, two.extra, registry)
        print([c.__name__ for c in Two.__mro__], type(Two), Two.__bases__ == (One, dict))
        class Three(One, name="three"): pass
        print(Three.name, [c.__name__ for c in One.__subclasses__()])
        """,
    )
    assert printed == (
        "('one', '<') ('two', '{') {'a': 1} 3 ['one', 'two']\n"
        "['Two', 'One', 'Plugin', 'dict', 'object'] <class 'type'> True\n"
        "three ['Two', 'Three']\n"
    )


def test_a_metaclass_with_arguments_is_not_run_again(moved):
    printed = moved(
        """
        import abc
        class Meta(abc.ABCMeta):
            made = []
            def __new__(meta, name, bases, namespace, *, tag):
                namespace["tag"] = tag
                meta.made.append(name)
                return super().__new__(meta, name, bases, namespace)
            def __init__(cls, name, bases, namespace, *, tag):
                super().__init__(name, bases, namespace)
                cls.initialised = True
            def mro(cls):
                return [cls, *super().mro()[1:]]
            def __call__(cls, *args):
                made = super().__call__(*args)
                made.by = cls.__name__
                return made
        class Shape(metaclass=Meta, tag="shape"):
            @abc.abstractmethod
            def area(self): ...
            def __init_subclass__(cls): cls.seen = cls.tag
        class Square(Shape, tag="square"):
            def area(self): return 4
        class Foreign: pass
        Shape.register(Foreign)
        value = Square(), Shape, Meta, Foreign
        """,
        """
        square, Shape, Meta, Foreign = value
        Square = type(square)
        print(square.by, Square().by, Square.tag, Square.seen, Square.initialised, Meta.made)
        print(type(Square) is Meta, isinstance(Foreign(), Shape), issubclass(Square, Shape))
        try:
            Shape()
        except TypeError as error:
            print("area" in str(error))
        """,
    )
    assert printed == (
        "Square Square square square True ['Shape', 'Square']\nTrue True True\nTrue\n"
    )


def remade(data):
    """The class of a pickle, as if another process had written it."""

    class Reader(pickling.Unpickler):
        def find_class(self, module, name):
            found = super().find_class(module, name)
            if name != "make_class":
                return found
            return lambda identifier, *rest: found(os.urandom(len(identifier)), *rest)

    return Reader(io.BytesIO(data)).load()


def test_a_metaclass_in_passing_leaves_nothing_behind():
    class Base:
        def __init_subclass__(cls, *, must): ...

    class Sub(Base, must=1): ...

    data = pickling.dumps(Sub)
    metaclasses = len(type.__subclasses__(type))
    copies = [remade(data) for _ in range(20)]
    assert len({id(copy) for copy in copies}) == 20
    for copy in copies:
        assert copy is not Sub
        assert type(copy) is type
        assert [c.__name__ for c in copy.__mro__] == ["Sub", "Base", "object"]
    del copies, copy
    gc.collect()
    assert len(type.__subclasses__(type)) == metaclasses


def test_weak_references(moved):
    printed = moved(
        """
        import weakref
        class Node: pass
        def gone(reference): print("gone", reference() is None)
        node = Node()
        lost = weakref.ref(Node())
        alone = Node()
        node.own = weakref.ref(node)
        values = weakref.WeakValueDictionary(a=node, b=alone)
        keys = weakref.WeakKeyDictionary({node: 1, alone: 2})
        members = weakref.WeakSet([node, alone])
        value = [node, weakref.ref(node), weakref.ref(node, gone), lost, values, keys, members,
                 weakref.ref(alone), weakref.ref(int)]
        """,
        """
        import gc
        gc.collect()
        node, one, two, lost, values, keys, members, alone, of_int = value
        print(one() is node, two() is node, node.own is one, lost(), alone(), of_int())
        print(dict(values) == {"a": node}, dict(keys) == {node: 1}, list(members) == [node])
        del node, value
        gc.collect()
        print(one(), dict(values), dict(keys), list(members))
        """,
    )
    assert printed == (
        "True True True None None <class 'int'>\nTrue True True\ngone True\nNone {} {} []\n"
    )


def test_weak_methods(moved):
    printed = moved(
        """
        import weakref
        class Node:
            def met(self): return "met"
        node = Node()
        value = [node, weakref.WeakMethod(node.met), weakref.WeakMethod(Node().met),
                 weakref.WeakMethod(node.met, lambda reference: print("gone"))]
        """,
        """
        node, method, lost, watched = value
        print(method()(), lost())
        del node, value
        print(method())
        """,
    )
    assert printed == "met None\ngone\nNone\n"


def test_a_generic_function(moved):
    """`functools.singledispatch` keeps closures, weak dictionaries and a variable that is `None`."""
    printed = moved(
        """
        import functools
        @functools.singledispatch
        def kind(value): return "object"
        @kind.register
        def _(value: int): return "int"
        value = kind
        """,
        """
        print(value(1), value("x"), value.dispatch(bool) is value.registry[int])
        """,
    )
    assert printed == "int object True\n"


@pytest.mark.parametrize(
    "match",
    [
        "re.search('(b)(c)?', 'abab')",
        "re.compile('b').match('abab', 1)",
        "re.compile('a.*').fullmatch('xaby', 1, 3)",
        "list(re.finditer('(?P<one>a)|b*', 'abbab'))[2]",
        "re.match(b'\\\\w', bytearray(b'ab'))",
    ],
)
def test_matches_of_regular_expressions(moved, match):
    show = "(m.regs, m.lastindex, m.lastgroup, m.pos, m.endpos, m.string, m.re, m.group(0))"
    printed = moved(
        f"import re\nm = {match}\nvalue = m, {show}\n",
        f"m, before = value\nprint(before == {show}, type(m).__name__)",
    )
    assert printed == "True Match\n"


def test_a_match_in_text_that_has_changed_since_is_refused():
    text = bytearray(b"abc")
    match = re.search(b"c", text)
    text[:] = b"cba"
    with pytest.raises(pickling.PicklingError, match="does not find it any more"):
        pickling.dumps(match)
