"""The type of a proxy is the proxied type, wherever it is asked for."""

import abc
import collections.abc
import dataclasses
import enum
import functools
import gc
import inspect
import io
import types
import typing
import weakref

import pytest
from objspace.tproxy import tproxy
from objspace.tputil import make_proxy


class Plain:
    def __init__(self):
        self.x = 1


class Slotted:
    __slots__ = ("x",)

    def __init__(self):
        self.x = 1


class OfList(list):
    pass


class Meta(type):
    def __new__(mcs, name, bases, body):
        made.append(name)
        return super().__new__(mcs, name, bases, body)


made = []


class WithMeta(metaclass=Meta):
    pass


class Abstract(abc.ABC):
    @abc.abstractmethod
    def f(self): ...


class Concrete(Abstract):
    def f(self):
        return 1


class Colour(enum.Enum):
    RED = 1


@dataclasses.dataclass
class Point:
    x: int
    y: int = 0


@dataclasses.dataclass(frozen=True)
class Frozen:
    x: int

    def moved(self):
        object.__setattr__(self, "x", self.x + 1)
        return self.x


T = typing.TypeVar("T")


class Generic(typing.Generic[T]):
    pass


def function():
    return 1


def generator():
    yield 1


async def coroutine():
    return 1


def traceback():
    try:
        raise KeyError
    except KeyError as error:
        return error.__traceback__


OBJECTS = [
    [1],
    {"a": 1},
    {1},
    frozenset({1}),
    (1,),
    bytearray(b"x"),
    Plain(),
    Slotted(),
    OfList([1]),
    WithMeta(),
    Concrete(),
    Colour.RED,
    Point(1),
    Frozen(1),
    Generic(),
    function,
    [].append,
    Plain().__init__,
    len,
    types,
    generator(),
    iter([1]),
    map(int, ()),
    KeyError("k"),
    traceback(),
    inspect.currentframe(),
    function.__code__,
    {}.keys(),
    collections.deque([1]),
    memoryview(b"x"),
    io.StringIO(),
    property(function),
    object(),
    Plain,
    list,
]
NAMES = [type(obj).__qualname__ for obj in OBJECTS]


@pytest.mark.parametrize("obj", OBJECTS, ids=NAMES)
def test_type_class_and_isinstance(obj, proxy_of):
    p = proxy_of(obj)
    assert type(p) is type(obj)
    assert p.__class__ is type(obj)
    assert isinstance(p, type(obj))
    assert repr(p) == repr(obj)
    assert callable(p) == callable(obj)
    for abstract in (
        collections.abc.Sequence,
        collections.abc.Mapping,
        collections.abc.Set,
        collections.abc.Hashable,
        collections.abc.Iterable,
        collections.abc.Iterator,
        collections.abc.Callable,
        collections.abc.Sized,
    ):
        assert isinstance(p, abstract) == isinstance(obj, abstract)


@pytest.mark.parametrize("obj", OBJECTS, ids=NAMES)
def test_what_the_type_lacks_the_proxy_lacks_in_the_same_words(obj, recorded):
    record = recorded(obj)

    def message(action, value):
        try:
            action(value)
        except Exception as error:
            return f"{type(error).__name__}: {error}"
        return None

    lacking = {
        "__len__": len,
        "__iter__": iter,
        "__next__": next,
        "__call__": lambda x: x(),
        "__getitem__": lambda x: x[0],
        "__setitem__": lambda x: x.__class__ and exec("x[0] = 1", {"x": x}),
        "__hash__": hash,
        "__neg__": lambda x: -x,
        "__index__": lambda x: [0][x],
        "__float__": float,
        "__enter__": lambda x: exec("with x: pass", {"x": x}),
        "__add__": lambda x: x + 1,
        "__lshift__": lambda x: x << 1,
        "__reversed__": reversed,
        "__abs__": abs,
        "__divmod__": lambda x: divmod(x, 2),
    }
    for name, action in lacking.items():
        if getattr(type(obj), name, None) is None:
            if name == "__reversed__" and hasattr(type(obj), "__getitem__"):
                continue
            if isinstance(obj, type) and name == "__getitem__":
                continue  # `C[int]` is an operation of the class, though `type` has no such method
            record.take()
            assert message(action, record.proxy) == message(action, obj)
            if name != "__index__":
                assert name not in record.take()


def test_predicates_of_inspect(proxy_of):
    assert inspect.isfunction(proxy_of(function))
    assert inspect.ismodule(proxy_of(types))
    assert inspect.isgenerator(proxy_of(generator()))
    assert inspect.isclass(proxy_of(Plain))
    assert inspect.isbuiltin(proxy_of(len))
    assert inspect.ismethod(proxy_of(Plain().__init__))
    assert inspect.istraceback(proxy_of(traceback()))
    assert inspect.isframe(proxy_of(inspect.currentframe()))
    assert inspect.iscode(proxy_of(function.__code__))
    c = coroutine()
    assert inspect.iscoroutine(proxy_of(c))
    c.close()
    assert inspect.signature(proxy_of(function)) == inspect.signature(function)


def test_patterns(proxy_of):
    match proxy_of([1, 2]):
        case [a, b]:
            assert (a, b) == (1, 2)
        case _:
            pytest.fail("a list is a sequence")
    match proxy_of({"a": 1, "b": 2}):
        case {"a": a, **rest}:
            assert a == 1
            assert rest == {"b": 2}
        case _:
            pytest.fail("a dict is a mapping")
    match proxy_of(Point(1, 2)):
        case Point(x, y=2):
            assert x == 1
        case _:
            pytest.fail("a point is a Point")
    match proxy_of({1}):
        case []:
            pytest.fail("a set is no sequence")
        case set():
            pass


def test_singledispatch(proxy_of):
    @functools.singledispatch
    def kind(x):
        return "other"

    @kind.register
    def _(x: list):
        return "list"

    assert kind(proxy_of([])) == "list"


def test_a_hot_call_of_type(proxy_of):
    def is_list(x):
        return type(x) is list

    p = proxy_of([])
    for _ in range(1000):
        assert is_list([])
    assert is_list(p)
    for _ in range(10000):
        assert is_list(p)
    assert not is_list(())


def test_hidden_subclasses_stay_hidden_and_run_no_code(proxy_of):
    before = list(made)
    initialised = []

    class Base:
        def __init_subclass__(cls, **kwargs):
            initialised.append(cls)

    class Child(Base):
        pass

    del initialised[:]
    proxies = [proxy_of(WithMeta()), proxy_of(Base()), proxy_of(Child())]
    assert made == before
    assert initialised == []
    assert WithMeta.__subclasses__() == []
    assert Base.__subclasses__() == [Child]
    assert type.__subclasses__(Child) == []
    assert [type(p) for p in proxies] == [WithMeta, Base, Child]
    assert {"hidden"}.isdisjoint(dir(Base))


def test_proxies_do_not_keep_their_class_alive(proxy_of):
    class Mortal:
        pass

    reference = weakref.ref(Mortal)
    p = proxy_of(Mortal())
    assert type(p) is Mortal
    del Mortal, p
    gc.collect()
    assert reference() is None


def test_the_class_itself_called_with_a_proxy(proxy_of):
    class A:
        def __init__(self):
            self.x = 1

        @property
        def y(self):
            return self.x + 1

        def f(self):
            return self.x

        @classmethod
        def g(cls):
            return cls

    class B(A):
        def f(self):
            return super().f() + 10

    p = proxy_of(B())
    assert p.f() == 11
    assert B.f(p) == 11
    assert A.f(p) == 1
    assert A.y.__get__(p) == 2
    assert p.g() is B
    assert super(B, p).f() == 1


def test_object_methods_called_by_the_class_reach_the_controller(recorded):
    class Careful:
        def __setattr__(self, name, value):
            super().__setattr__(name, value)

        def __getattribute__(self, name):
            return super().__getattribute__(name)

    record = recorded(Careful())
    Careful.__setattr__(record.proxy, "x", 1)
    assert record.obj.x == 1
    assert Careful.__getattribute__(record.proxy, "x") == 1
    object.__setattr__(record.proxy, "x", 2)
    assert object.__getattribute__(record.proxy, "x") == 2
    assert object.__getattribute__(record.proxy, "__class__") is Careful
    object.__delattr__(record.proxy, "x")
    assert not hasattr(record.obj, "x")


def test_a_frozen_dataclass_is_changed_the_way_it_changes_itself(proxy_of, recorded):
    for wrap in (proxy_of, lambda obj: proxy_of(proxy_of(obj)), lambda obj: recorded(obj).proxy):
        obj = Frozen(1)
        p = wrap(obj)
        with pytest.raises(dataclasses.FrozenInstanceError):
            p.x = 5
        assert Frozen.moved(p) == 2
        assert p.moved() == 3
        assert obj.x == 3
        with pytest.raises(dataclasses.FrozenInstanceError):
            del p.x
        object.__delattr__(p, "x")
        assert not hasattr(obj, "x")
    record = recorded(Frozen(1))
    object.__setattr__(record.proxy, "x", 2)
    assert record.take() == ["__setattr__"]


def test_the_methods_of_attributes_of_a_class_run_once(proxy_of):
    log = []

    class Logging:
        def __setattr__(self, name, value):
            log.append(("set", name))
            super().__setattr__(name, value)

        def __getattribute__(self, name):
            log.append(("get", name))
            return super().__getattribute__(name)

        def __delattr__(self, name):
            log.append(("del", name))
            object.__delattr__(self, name)

    for p in (proxy_of(Logging()), proxy_of(proxy_of(Logging()))):
        for change in (
            lambda p: setattr(p, "x", 1),
            lambda p: Logging.__setattr__(p, "x", 1),
        ):
            change(p)
            assert log == [("set", "x")]
            del log[:]
            assert Logging.__getattribute__(p, "x") == 1
            assert p.x == 1
            assert log == [("get", "x")] * 2
            del log[:]
            Logging.__delattr__(p, "x")
            assert log == [("del", "x")]
            del log[:]


def test_storage_of_a_proxy_is_never_read(proxy_of):
    p = proxy_of(Slotted())
    with pytest.raises(AttributeError):
        Slotted.x.__get__(p)
    q = proxy_of(Plain())
    with pytest.raises(AttributeError):
        Plain.__dict__["__dict__"].__get__(q)
    assert vars(q) == {"x": 1}


def test_a_value_written_into_a_slot_by_hand_is_let_go(proxy_of):
    class Value:
        pass

    value = Value()
    reference = weakref.ref(value)
    p = proxy_of(Slotted())
    Slotted.x.__set__(p, value)
    del value
    assert reference() is not None
    del p
    assert reference() is None


def test_subclasses_of_builtins_are_no_builtins_to_c_code(proxy_of):
    p = proxy_of(OfList([3, 1]))
    assert sorted(p) == [1, 3]
    assert p + [4] == [3, 1, 4]
    with pytest.raises(TypeError):
        list.sort(object())
    assert list.index(p, 1) == 1


def test_an_abstract_class_can_be_proxied():
    p = tproxy(Abstract, lambda opname, *args: opname)
    assert type(p) is Abstract
    assert isinstance(p, Abstract)


def test_enum_members(proxy_of):
    p = proxy_of(Colour.RED)
    assert p == Colour.RED
    assert p.name == "RED"
    assert hash(p) == hash(Colour.RED)
    assert list(Colour) == [Colour.RED]


def test_generic_classes(proxy_of):
    assert isinstance(proxy_of(Generic[int]()), Generic)


def test_proxies_of_classes(proxy_of):
    p = proxy_of(Plain)
    assert p().x == 1
    assert isinstance(p(), p)
    assert not isinstance(3, p)
    assert issubclass(Plain, p)
    assert p.__name__ == "Plain"
    assert proxy_of(list)[int] == list[int]
    with pytest.raises(TypeError, match="type 'Plain' is not subscriptable"):
        p[int]
    with pytest.raises(TypeError, match="type|base"):

        class _(p):
            pass


def test_weak_references_follow_the_type(proxy_of):
    p = proxy_of(Plain())
    reference = weakref.ref(p)
    assert reference() is p
    del p
    assert reference() is None
    for obj in ([], {}, (), KeyError()):
        with pytest.raises(TypeError, match=f"weak reference to '{type(obj).__name__}' object"):
            weakref.ref(proxy_of(obj))
    assert weakref.ref(proxy_of({1}))


def test_slots_added_to_a_class_later(proxy_of):
    class Growing:
        pass

    p = proxy_of(Growing())
    with pytest.raises(TypeError):
        len(p)
    Growing.__len__ = lambda self: 3
    assert len(p) == 3


def test_make_proxy_of_a_proxied_type_by_type(proxy_of):
    p = make_proxy(lambda operation: 5, type=Plain)
    assert p.anything == 5
