"""Classes of every shape: what a program sees of a remote class is what it sees of a local one."""

import copy
import dataclasses
import enum
import functools
import inspect
import io
import pydoc
import re
import rlcompleter
import sys
import types
import typing

import pytest

from objspace.distributed import session_of

# What the expressions below may use.
MODULES = {
    module.__name__: module for module in (copy, dataclasses, enum, functools, inspect, typing)
}

SETUP = """
import enum, abc, typing, dataclasses, collections
from typing import Generic, TypeVar, Protocol, runtime_checkable, NamedTuple
T=TypeVar("T")
class Color(enum.Enum):
    RED=1
    BLUE=2
    def hello(self): return "hi "+self.name
class Perm(enum.Flag):
    R=4
    W=2
class Num(enum.IntEnum):
    ONE=1
class SE(enum.StrEnum):
    A="a"
class Box(Generic[T]):
    def __init__(self,v): self.v=v
class IntBox(Box[int]): pass
class Sub:
    def __class_getitem__(cls, item): return (cls.__name__, item)
@runtime_checkable
class Proto(Protocol):
    def go(self): ...
class Impl:
    def go(self): return 1
class Abs(abc.ABC):
    @abc.abstractmethod
    def f(self): ...
class Reg: pass
Abs.register(Reg)
class Conc(Abs):
    def f(self): return 2
class P(NamedTuple):
    x:int
    y:int=2
P2=collections.namedtuple("P2","a b")
class Meta(type):
    def __call__(cls,*a,**k):
        o=super().__call__(*a,**k); o.tag="meta"; return o
    def extra(cls): return cls.__name__+" extra"
    @property
    def mp(cls): return "mp"
class WithMeta(metaclass=Meta): pass
class Outer:
    class Inner:
        z=5
        class Deep:
            def m(self): return "deep"
class Hook:
    subs=[]
    def __init_subclass__(cls, **kw):
        Hook.subs.append((cls.__name__,kw)); cls.hooked=True
class Hooked(Hook, opt=1): pass
class Desc:
    def __set_name__(self, owner, name): self.name="_"+name
    def __get__(self, i, o=None):
        if i is None: return self
        return getattr(i,self.name,0)
    def __set__(self,i,v): setattr(i,self.name,v*2)
class WithDesc:
    d=Desc()
class Slots:
    __slots__=("a","b")
    def __init__(self): self.a=1
@dataclasses.dataclass(order=True)
class DC:
    x:int
    l:list=dataclasses.field(default_factory=list)
@dataclasses.dataclass(frozen=True)
class FDC:
    x:int
class CellUser:
    def me(self): return __class__
    def sup(self): return super().__repr__()[:5]
class Base:
    def __init__(self): self.log=[]
    def run(self): return self.step()+1
    def step(self): return 10
@dataclasses.dataclass
class Tree:
    "A tree."
    name: str
    children: list["Tree"] = dataclasses.field(default_factory=list)
    def add(self, child: "Tree", *, first: bool = False) -> "Tree":
        "Add a child."
        self.children.append(child)
        return self
tree = Tree("root")
class Odd(Exception):
    pass
def use(x):
    return x.run(), isinstance(x, Base), type(x).__name__
def check(cls, x):
    return isinstance(x, cls), issubclass(type(x), cls)
"""

# What is asked about `o`, whose attributes are the names above.
EXPRESSIONS = """
list(o.Color)
o.Color(1) is o.Color.RED
o.Color["RED"] is o.Color.RED
o.Color.RED.value, o.Color.RED.name
o.Color.RED.hello()
o.Color.RED == o.Color.RED, o.Color.RED != o.Color.BLUE
isinstance(o.Color.RED, o.Color)
isinstance(o.Color.RED, enum.Enum)
issubclass(o.Color, enum.Enum)
type(o.Color).__name__, type(type(o.Color)).__name__
o.Color.RED in o.Color
len(o.Color), list(reversed(o.Color))
o.Color.__members__
{o.Color.RED: 1}[o.Color.RED]
repr(o.Color.RED), str(o.Color.RED), f"{o.Color.RED}"
o.Color(7)
o.Perm.R|o.Perm.W
(o.Perm.R|o.Perm.W) & o.Perm.R is o.Perm.R
o.Num.ONE+1, o.Num.ONE==1, [5,6][o.Num.ONE]
o.SE.A=="a", o.SE.A+"b"
o.Color.RED.__class__ is o.Color
match_(o)
o.Box[int]
o.Box[int](3).v
type(o.Box[int]).__name__
o.Box[int].__origin__ is o.Box
o.IntBox.__orig_bases__
o.Box.__parameters__
typing.get_args(o.IntBox.__orig_bases__[0])
issubclass(o.IntBox,o.Box), issubclass(o.Box, typing.Generic)
o.Sub["k"]
isinstance(o.Impl(), o.Proto), isinstance(o.Reg(), o.Proto)
isinstance(LocalGo(), o.Proto), isinstance(3, o.Proto)
issubclass(o.Impl,o.Proto)
isinstance(o.Reg(), o.Abs), issubclass(o.Reg,o.Abs), isinstance(o.Conc(),o.Abs), isinstance(3,o.Abs)
o.Abs()
inspect.isabstract(o.Abs)
o.P(1), o.P(1)==(1,2), o.P(1).x, o.P(1)._asdict(), o.P(1)._replace(x=5)
o.P._fields, o.P._field_defaults, o.P(1)[0], tuple(o.P(1)), len(o.P(1))
o.P._make([5,6])
a_b(o)
type(o.P2(1,2)) is o.P2, isinstance(o.P2(1,2),tuple), o.P2(1,2)+(3,), (3,)+o.P2(1,2), hash(o.P2(1,2))==hash((1,2)), o.P2(1,2)<o.P2(1,3)
(1,2)==o.P2(1,2), {(1,2):5}[o.P2(1,2)]
o.WithMeta().tag
o.WithMeta.extra(), o.WithMeta.mp
type(o.WithMeta).__name__, isinstance(o.WithMeta,type)
o.Outer.Inner.z, o.Outer.Inner.Deep().m()
o.Outer.Inner is o.Outer.Inner
o.Outer.Inner.Deep.__qualname__
list(o.Hook.subs)
o.Hooked.hooked
subhook(o)
desc(o)
o.WithDesc.d.name
slots(o)
dc(o)
fdc(o)
o.CellUser().me() is o.CellUser, o.CellUser().sup()
sub(o)
sub2(o)
sub3(o)
inspect.signature(o.Base.run), inspect.signature(o.DC), inspect.signature(o.P)
inspect.getsource(o.Base.run)
inspect.getsource(o.Base)
inspect.getsource(o.Outer.Inner.Deep)
inspect.getsource(o.Base().run)
inspect.getdoc(o.Base)
dir(o.Base)==dir(o.Base)
sorted(dir(o.DC(1)))
inspect.getmembers(o.Outer.Inner, inspect.isclass)
inspect.getmro(o.Conc)
o.Conc.__mro__[1] is o.Abs
o.Conc.__subclasses__(), o.Abs.__subclasses__()
vars(o.Base()), o.Base().__dict__
o.Base.__dict__["run"].__name__
o.Base.run.__qualname__, o.Base().run.__self__.log
o.Base.__init__.__name__, callable(o.Base), o.Base == o.Base, hash(o.Base)==hash(o.Base)
repr(o.Base), repr(o.Base())[:14]
typing.get_type_hints(o.DC), o.DC.__annotations__
functools.singledispatch(lambda x: 1).register(o.Base, lambda x: 2)
disp(o)
type("X",(o.Base,),{})().run()
copy.copy(o.DC(1)), copy.deepcopy(o.DC(1))==o.DC(1)
o.Base.newattr
setcls(o)
o.tree.add(o.Tree("leaf")), o.tree.children[0].name
inspect.signature(o.tree.add), inspect.signature(o.Tree)
inspect.getsource(o.tree.add) == inspect.getsource(o.Tree.add)
help_text(o.Outer.Inner.Deep)
help_text(o.Tree.add)
o.use(local_subclass(o)())
o.check(o.Base, local_subclass(o)()), o.check(o.Abs, o.Reg()), o.check(o.Proto, LocalGo())
isinstance(local_subclass(o)(), o.Base), issubclass(local_subclass(o), o.Base)
own_descriptor(o)
cooperative(o)
typing.get_origin(o.Box[int]) is o.Box, typing.get_args(o.Box[str])
generic_subclass(o)
o.Color.RED is o.Color(1), o.Color.RED is o.Color["RED"], [c is o.Color.RED for c in o.Color]
isinstance(o.Odd("x"), Exception), o.Odd("x").args
o.Outer.__dict__["Inner"] is not None, "Inner" in dir(o.Outer)
o.Slots.__slots__, hasattr(o.Slots(), "__dict__")
"""


class LocalGo:
    def go(self):
        pass


def match_(o):
    match o.Color.RED:
        case o.Color.BLUE:
            return "b"
        case o.Color.RED:
            return "r"


def a_b(o):
    a, b = o.P2(3, 4)
    return a, b


def subhook(o):
    class Loc(o.Hook, foo=2):
        pass

    return Loc.hooked, list(o.Hook.subs)[-1]


def desc(o):
    w = o.WithDesc()
    w.d = 4
    return w.d, w._d


def slots(o):
    s = o.Slots()
    s.b = 5
    try:
        s.c = 1
    except AttributeError as e:
        return s.a, s.b, str(e)


def dc(o):
    a = o.DC(1)
    b = o.DC(1)
    return (
        a == b,
        a < o.DC(2),
        repr(a),
        dataclasses.replace(a, x=5),
        dataclasses.asdict(a),
        dataclasses.astuple(a),
        [f.name for f in dataclasses.fields(a)],
        [f.name for f in dataclasses.fields(o.DC)],
        a != o.DC(2),
    )


def fdc(o):
    a = o.FDC(1)
    try:
        a.x = 2
    except dataclasses.FrozenInstanceError as e:
        return hash(a) == hash(o.FDC(1)), str(e), {a: 1}[o.FDC(1)]


def sub(o):
    class Mine(o.Base):
        def step(self):
            return super().step() * 3

    m = Mine()
    return m.run(), m.log, Mine.__mro__[1] is o.Base


def sub2(o):
    class Mine(o.Box):
        pass

    class Mine2(o.Box[int]):
        pass

    return Mine(3).v, Mine2(4).v, Mine2.__orig_bases__, Mine2.__mro__


def sub3(o):
    class Mine(o.Abs):
        def f(self):
            return 3

    return Mine().f(), isinstance(Mine(), o.Abs)


def disp(o):
    f = functools.singledispatch(lambda x: 1)
    f.register(o.Base, lambda x: 2)
    return f(o.Base()), f(3)


def setcls(o):
    o.Base.newattr = 3
    r = o.Base.newattr, o.Base().newattr
    del o.Base.newattr
    return r, hasattr(o.Base, "newattr")


def help_text(x):
    return pydoc.plain(pydoc.render_doc(x)).replace(" in module served", "")


def local_subclass(o):
    class Mine(o.Base):
        def step(self):
            return 100

    return Mine


def own_descriptor(o):
    class Mine:
        d = o.Desc()

    mine = Mine()
    mine.d = 4
    return mine.d, mine._d


def cooperative(o):
    class Mixin:
        def step(self):
            return super().step() + 5

    class Mine(Mixin, o.Base):
        pass

    return Mine().run(), [c.__name__ for c in Mine.__mro__]


def generic_subclass(o):
    class Mine(o.Box[typing.TypeVar("T")]):
        pass

    return Mine.__parameters__, Mine[int], Mine(5).v


def outcome(o, expression):
    try:
        found = repr(eval(expression, {**globals(), **MODULES, "o": o}))
    except Exception as error:
        found = f"{type(error).__name__}: {error}"
    return re.sub("0x[0-9a-f]+", "0x", found)


@pytest.fixture(scope="class")
def other(over_tcp_for_class):
    return over_tcp_for_class(SETUP)


@pytest.fixture
def local(monkeypatch):
    import linecache

    linecache.cache["<served>"] = (len(SETUP), None, SETUP.splitlines(keepends=True), "<served>")
    module = types.ModuleType("served")
    module.__file__ = "<served>"
    monkeypatch.setitem(sys.modules, "served", module)
    exec(compile(SETUP, "<served>", "exec"), module.__dict__)
    return module


class TestShapes:
    @pytest.mark.parametrize("expression", EXPRESSIONS.strip().splitlines())
    def test_a_question_has_the_answer_that_a_local_class_gives(self, other, local, expression):
        expected = outcome(local, expression)
        assert not expected.startswith("NameError")
        assert outcome(other, expression) == expected


def count(remote, action):
    before = session_of(remote).stats()["round_trips"]
    action()
    return session_of(remote).stats()["round_trips"] - before


def test_what_classes_say_costs_no_message(link):
    remote = link(SETUP)
    one, cls, conc, color, box = remote.tree, remote.Tree, remote.Conc, remote.Color, remote.Box
    concrete, plain = conc(), remote.Base

    def ask():
        assert type(one) is cls
        assert isinstance(one, cls)
        assert not isinstance(one, plain)
        assert isinstance(concrete, remote_abs)
        assert issubclass(conc, remote_abs)
        assert cls.__name__ == "Tree"
        assert cls.__doc__ == "A tree."
        assert inspect.signature(cls.add).parameters["first"].default is False
        assert [field.name for field in dataclasses.fields(cls)] == ["name", "children"]
        assert box[int].__origin__ is box
        assert issubclass(color, enum.Enum)
        assert "add" in dir(cls)
        assert cls.__mro__ == (cls, object)
        assert inspect.isabstract(remote_abs)
        match one:
            case plain():
                pytest.fail("the wrong class")
            case cls():
                pass

    remote_abs = remote.Abs
    assert count(remote, ask) == 0
    # Nobody here knows what was registered over there since.
    assert count(remote, lambda: isinstance(one, remote_abs)) == 1


def test_abstract_classes_of_this_process_never_ask(link):
    from collections.abc import Mapping

    remote = link(
        """
        from collections.abc import Mapping
        class Table(Mapping):
            def __getitem__(self, key): return 1
            def __iter__(self): return iter("a")
            def __len__(self): return 1
        table = Table()
        """
    )
    assert isinstance(remote.table, Mapping)

    class Fresh:
        pass

    def ask():
        assert not isinstance(Fresh(), Mapping)
        assert not issubclass(Fresh, Mapping)

    assert count(remote, ask) == 0
    kept = remote.Table
    session_of(remote).close()

    class Fresher:
        pass

    assert not isinstance(Fresher(), Mapping)
    assert kept.__name__ == "Table"


def test_completion_costs_few_messages(link):
    remote = link(SETUP)
    tree, cls = remote.tree, remote.Tree
    completer = rlcompleter.Completer({"tree": tree, "Tree": cls})

    def complete(text):
        found, position = [], 0
        while (match := completer.complete(text, position)) is not None:
            found.append(match)
            position += 1
        return found

    found = []
    assert count(remote, lambda: found.extend(complete("Tree.ad"))) == 0
    assert found
    assert found[0].startswith("Tree.add(")
    found.clear()
    # One for the names, one for each that matches: the completer looks at the value.
    assert count(remote, lambda: found.extend(complete("tree.na"))) <= 4
    assert found == ["tree.name"]
    found.clear()
    assert count(remote, lambda: found.extend(complete("tree.ad"))) <= 24
    assert found
    assert found[0].startswith("tree.add(")


def test_help_and_source_cost_few_messages(link):
    remote = link(SETUP)
    tree, cls = remote.tree, remote.Tree
    assert count(remote, lambda: pydoc.Helper(output=io.StringIO()).help(cls)) <= 2
    source = []
    assert count(remote, lambda: source.append(inspect.getsource(cls))) <= 1
    assert source[0].startswith("@dataclasses.dataclass\nclass Tree:")
    assert source[0].rstrip().endswith("return self")
    with pytest.raises(TypeError, match="built-in class"):
        inspect.getfile(int)
    assert count(remote, lambda: inspect.getsource(cls.add)) <= 1
    assert count(remote, lambda: inspect.signature(cls.add)) == 0
    assert count(remote, lambda: inspect.signature(tree.add)) <= 20


def test_exceptions_of_the_standard_library_are_the_same_class(link):
    import sqlite3
    import subprocess

    remote = link(
        """
        import dataclasses, sqlite3, subprocess
        @dataclasses.dataclass(frozen=True)
        class Frozen:
            x: int
        frozen = Frozen(1)
        def integrity(): raise sqlite3.IntegrityError("not unique")
        def called(): raise subprocess.CalledProcessError(3, ["cmd"], b"out")
        """
    )
    with pytest.raises(dataclasses.FrozenInstanceError):
        remote.frozen.x = 5
    with pytest.raises(sqlite3.IntegrityError, match="not unique"):
        remote.integrity()
    with pytest.raises(subprocess.CalledProcessError, match="non-zero exit status 3") as caught:
        remote.called()
    assert caught.value.returncode == 3
    assert caught.value.output == b"out"
