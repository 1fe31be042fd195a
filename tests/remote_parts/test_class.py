"""Classes: described, built, and what a program sees of them, with the messages that it costs."""

import abc
import collections.abc
import copy
import dataclasses
import enum
import functools
import gc
import inspect
import io
import pickle
import pydoc
import sys
import types
import typing
import weakref
from typing import Any

import pytest
import shapes
from far import Far
from objspace._core import _parts


@pytest.fixture
def thing(far: Far) -> Any:
    return far.cls(shapes.Thing)


def test_names_bases_and_documentation(far: Far, thing: Any) -> None:
    assert thing is not shapes.Thing
    for name in ("__name__", "__qualname__", "__module__", "__doc__", "__match_args__"):
        assert getattr(thing, name) == getattr(shapes.Thing, name)
    assert thing.__mro__ == (thing, far.cls(shapes.Base), object)
    assert issubclass(thing, far.cls(shapes.Base))
    assert repr(thing) == "<class 'shapes.Thing'>"
    assert isinstance(thing, type)
    assert thing.__class__ is type
    assert _parts.visible_metaclass(thing) is type
    assert _parts.visible_metaclass(int) is None
    assert callable(thing)
    assert inspect.isclass(thing)
    assert far.asked == []


def test_dir_is_the_same(far: Far) -> None:
    for cls in (
        shapes.Thing,
        shapes.Base,
        shapes.Point,
        shapes.Slotted,
        shapes.Shape,
        shapes.Square,
        shapes.Box,
    ):
        theirs = set(dir(far.cls(cls)))
        mine = set(dir(cls)) - {"__del__"}
        assert theirs == mine, cls
    assert far.asked == []


def test_signatures_are_the_same(far: Far, thing: Any) -> None:
    for name in (
        "__init__",
        "method",
        "defaults",
        "wrapped",
        "make",
        "helper",
        "__len__",
        "waits",
        "asyncgen",
    ):
        mine = str(inspect.signature(getattr(shapes.Thing, name)))
        theirs = str(inspect.signature(getattr(thing, name)))
        assert theirs == mine, name
    assert str(inspect.signature(thing)) == str(inspect.signature(shapes.Thing))
    assert inspect.getfullargspec(thing.method).kwonlyargs == ["flag"]
    assert typing.get_type_hints(thing.method) == typing.get_type_hints(shapes.Thing.method)
    assert far.asked == []


def test_methods_are_functions(far: Far, thing: Any) -> None:
    method = thing.method
    assert type(method) is types.FunctionType
    assert inspect.isfunction(method)
    for name in ("__name__", "__qualname__", "__module__", "__doc__"):
        assert getattr(method, name) == getattr(shapes.Thing.method, name)
    assert method.__code__.co_filename == shapes.__file__
    assert inspect.getsource(method) == inspect.getsource(shapes.Thing.method)
    assert inspect.ismethod(thing.make)
    assert inspect.isfunction(thing.helper)
    assert inspect.iscoroutinefunction(thing.waits)
    assert inspect.isgeneratorfunction(thing.generates)
    assert inspect.isasyncgenfunction(thing.asyncgen)
    assert not inspect.iscoroutinefunction(thing.method)
    assert isinstance(thing.label, property)
    assert thing.label.__doc__ == "The label."
    assert inspect.isdatadescriptor(thing.label)
    assert inspect.signature(thing.label.fget).return_annotation is str
    assert far.asked == []


def test_kinds_in_the_dict(thing: Any) -> None:
    kinds = {attribute.name: attribute.kind for attribute in inspect.classify_class_attrs(thing)}
    assert kinds["method"] == "method"
    assert kinds["make"] == "class method"
    assert kinds["helper"] == "static method"
    assert kinds["label"] == "property"
    assert kinds["counter"] == "data"


def test_help(far: Far) -> None:
    for cls in (shapes.Base, shapes.Slotted, shapes.Shape):
        mine = pydoc.render_doc(cls, renderer=pydoc.plaintext)
        # A doc that a method inherits is found by way of the module, which is not here.
        inherited = " |      Initialize self.  See help(type(self)) for accurate signature.\n"
        assert pydoc.render_doc(far.cls(cls), renderer=pydoc.plaintext) == mine.replace(
            inherited, ""
        )
    assert far.asked == []
    text = pydoc.render_doc(far.cls(shapes.Thing), renderer=pydoc.plaintext)
    assert "method(" in text
    assert "flag: bool = True" in text
    assert "The label." in text
    assert "counter = 0" in text


def test_calling_methods(far: Far, thing: Any) -> None:
    real = shapes.Thing("n")
    assert thing.method(real, 1, "z", 2.0, flag=False, other=3) == (
        "n",
        1,
        "z",
        (2.0,),
        False,
        {"other": 3},
    )
    assert thing.helper(1, b=5) == 6
    assert thing.make("x") == (shapes.Thing, "x")
    assert thing.overridden(real) == "Thing+Base"
    assert thing.label.fget(real) == "n:3"
    thing.label.fset(real, "m")
    assert real.name == "m"
    assert thing.wrapped(real, 1) == 2
    assert far.asked == [
        ("call", "method"),
        ("call", "helper"),
        ("call_for", "make"),
        ("call", "overridden"),
        ("property_get", "label"),
        ("property_set", "label"),
        ("call", "wrapped"),
    ]


def test_errors_of_methods_have_no_frame_of_ours(thing: Any) -> None:
    import traceback

    with pytest.raises(LookupError) as info:
        thing.fails(shapes.Thing("n"))
    names = [(frame.name, frame.line) for frame in traceback.extract_tb(info.value.__traceback__)]
    assert names[0][0] == "test_errors_of_methods_have_no_frame_of_ours"
    assert ("fails", "raise LookupError(self.name)") in names
    assert [name for name, _ in names].count("fails") == 1
    assert "stub" not in [name for name, _ in names]


def test_calling_the_class_makes_an_object_over_there(far: Far, thing: Any) -> None:
    made = thing("a", 2, tags=["t"])
    assert type(made) is shapes.Thing
    assert (made.name, made.size, made.tags) == ("a", 2, ["t"])
    assert far.asked == [("new", None)]


def test_state_is_read_over_there(far: Far, thing: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    assert thing.counter == 0
    monkeypatch.setattr(shapes.Thing, "counter", 5)
    assert thing.counter == 5
    assert thing._private == [1, 2]
    assert far.asked == [("get", "counter")] * 2 + [("get", "_private")]
    monkeypatch.setattr(shapes.Thing, "later", "new", raising=False)
    assert thing.later == "new"
    with pytest.raises(AttributeError, match="type object 'Thing' has no attribute 'nothing'"):
        thing.nothing
    far.asked.clear()
    assert not hasattr(thing, "__nothing__")
    assert far.asked == []


def test_state_of_a_base_and_of_a_child_are_kept_apart(far: Far) -> None:
    square = far.cls(shapes.Square)
    assert square.colour == "red"
    assert isinstance(far.cls(shapes.Shape).colour, property)


def test_setting_and_deleting_happen_over_there(
    far: Far, thing: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shapes.Thing, "counter", 0)
    thing.counter = 9
    assert shapes.Thing.counter == 9
    thing.extra = [1]
    assert shapes.Thing.extra == [1]  # type: ignore[attr-defined]
    assert thing.extra is shapes.Thing.extra  # type: ignore[attr-defined]
    del thing.extra
    assert not hasattr(shapes.Thing, "extra")
    with pytest.raises(AttributeError):
        thing.extra
    monkeypatch.setattr(shapes.Thing, "helper", shapes.Thing.__dict__["helper"])
    thing.helper = 3
    assert thing.helper == 3
    with pytest.raises(TypeError, match="cannot be changed"):
        thing.__bases__ = (object,)
    with pytest.raises(AttributeError):
        del thing.never_there


def test_a_method_that_was_replaced_is_state(far: Far) -> None:
    class Changing:
        def method(self) -> int:
            return 1

    local = far.cls(Changing)
    local.method = lambda self: 2
    assert local.method(None) == 2
    assert Changing().method() == 2

    class Mine(local):  # type: ignore[misc, valid-type]
        pass

    assert Mine().method() == 2


def test_local_subclass(far: Far, thing: Any) -> None:
    class Mine(thing):  # type: ignore[misc]
        own = 1

        def method(self, x: int) -> Any:  # type: ignore[override]
            return ("mine", super().method(x))

    far.asked.clear()
    mine = Mine("me", 5)
    assert far.asked == [("call", "__init__")]
    assert type(mine) is Mine
    assert isinstance(mine, thing)
    assert vars(mine) == {"name": "me", "size": 5, "tags": None}
    assert mine.method(1) == ("mine", ("me", 1, "y", (), True, {}))
    assert len(mine) == 5
    assert mine + 1 == ("add", "me", 1)
    assert mine.label == "me:5"
    mine.label = "you"
    assert mine.name == "you"
    assert mine.cached == "youyou"
    assert mine.counter == 0
    assert Mine.counter == 0
    assert Mine.own == 1
    Mine.own = 2
    assert Mine.own == 2
    assert Mine.make("x") == (Mine, "x")
    assert mine.helper(1) == 3
    with pytest.raises(TypeError, match="unhashable"):
        hash(mine)
    assert mine.__class__ is Mine
    assert Mine.__class__ is type
    with pytest.raises(AttributeError, match="type object 'Mine' has no attribute 'nothing'"):
        Mine.nothing
    with pytest.raises(AttributeError, match="'Mine' object has no attribute 'nothing'"):
        mine.nothing


def test_local_subclass_with_a_local_abstract_base(far: Far, thing: Any) -> None:
    class Abstract(abc.ABC):
        @abc.abstractmethod
        def todo(self) -> None: ...

    class Mine(thing, Abstract):  # type: ignore[misc]
        pass

    with pytest.raises(TypeError, match="abstract"):
        Mine("x")

    class Done(Abstract, thing):  # type: ignore[misc]
        def todo(self) -> None: ...

    assert isinstance(Done("x"), Abstract)
    assert Done.__class__ is abc.ABCMeta
    Abstract.register(thing)
    assert issubclass(thing, Abstract)


def test_local_dataclass_and_singledispatch(far: Far, thing: Any) -> None:
    @functools.singledispatch
    def what(value: Any) -> str:
        return "other"

    @what.register
    def _(value: thing) -> str:
        return "thing"

    class Mine(thing):  # type: ignore[misc]
        pass

    assert what(Mine("x")) == "thing"
    assert what(1) == "other"


def test_class_with_its_own_new(far: Far) -> None:
    local = far.cls(shapes.WithNew)
    assert type(local(1, 2)) is shapes.WithNew
    assert local.__new__(local, 3).made == (3,)

    class Mine(local):  # type: ignore[misc, valid-type]
        pass

    with pytest.raises(
        TypeError, match=r"local class '.*Mine': its remote base 'WithNew' defines __new__"
    ):
        Mine()


def test_nested_class_is_fetched_once(far: Far, thing: Any) -> None:
    assert thing.Nested is thing.Nested
    assert far.asked == [("get", "Nested")]


def test_class_that_refers_to_itself(far: Far) -> None:
    assert far.cls(shapes.Selfish).me is shapes.Selfish


def test_slots(far: Far) -> None:
    local = far.cls(shapes.Slotted)
    assert local.__slots__ == ("__hidden", "a", "b")
    assert inspect.ismemberdescriptor(local.a)
    assert "_Slotted__hidden" in dir(local)
    assert not hasattr(local, "__dict__") or "__dict__" not in local.__dict__
    child = far.cls(shapes.SlottedChild)
    assert child.__slots__ == ("c",)

    class Mine(child):  # type: ignore[misc, valid-type]
        __slots__ = ()

    mine = Mine()
    assert mine.a == 1
    with pytest.raises(AttributeError):
        mine.other = 1
    assert far.cls(shapes.Open).__dictoffset__ != 0
    assert local.__basicsize__ == shapes.Slotted.__basicsize__
    assert child.__basicsize__ == shapes.SlottedChild.__basicsize__


def test_dataclass(far: Far) -> None:
    local = far.cls(shapes.Point)
    assert dataclasses.is_dataclass(local)
    names = [field.name for field in dataclasses.fields(local)]
    assert names == ["x", "y", "tags", "where", "odd"]
    by_name = {field.name: field for field in dataclasses.fields(local)}
    assert by_name["y"].default == 0
    assert by_name["x"].default is dataclasses.MISSING
    assert by_name["tags"].default_factory is list
    assert by_name["tags"].metadata == {"unit": "m"}
    assert by_name["x"].type is int
    assert str(by_name["tags"].type) == "list[str]"
    assert by_name["odd"].kw_only
    assert not by_name["where"].repr
    assert local.__dataclass_params__.order
    assert local.__match_args__ == ("x", "y", "tags", "where")
    assert str(inspect.signature(local)).startswith(
        "(x: int, y: int = 0, tags: list[str] = <factory>"
    )
    assert far.asked == []
    assert by_name["where"].default is shapes.SOMEWHERE
    assert by_name["odd"].default_factory() == [7]

    assert _parts.class_fact(local, "__dataclass_fields__") is local.__dataclass_fields__
    assert _parts.class_fact(shapes.Point, "__dataclass_fields__") is None
    assert _parts.class_fact(local, "x") is None

    @dataclasses.dataclass
    class Mine(local):  # type: ignore[misc, valid-type]
        z: int = 5

    mine = Mine(1)
    assert (mine.x, mine.y, mine.z, mine.odd) == (1, 0, 5, [7])
    assert mine.where is shapes.SOMEWHERE
    assert dataclasses.replace(mine, x=3).x == 3
    assert dataclasses.asdict(mine)["z"] == 5


def test_abstract(far: Far) -> None:
    local = far.cls(shapes.Shape)
    assert inspect.isabstract(local)
    assert local.__abstractmethods__ == {"area", "colour"}
    assert local.__class__ is abc.ABCMeta
    assert not inspect.isabstract(far.cls(shapes.Square))
    assert far.asked == []
    with pytest.raises(TypeError, match="abstract"):
        local()

    class Mine(local):  # type: ignore[misc, valid-type]
        def area(self) -> float:
            return 1.0

    with pytest.raises(TypeError, match="colour"):
        Mine()

    class Whole(Mine):
        colour = "blue"

    assert Whole().describe() == "blue 1.0"
    assert isinstance(Whole(), local)


def test_abstract_checks_know_registrations_over_there(far: Far) -> None:
    local = far.cls(shapes.Shape)

    class Virtual:
        pass

    assert not isinstance(Virtual(), local)
    shapes.Shape.register(Virtual)
    assert isinstance(Virtual(), local)
    assert issubclass(Virtual, local)

    class Another:
        pass

    local.register(Another)
    assert isinstance(Another(), local)
    assert isinstance(Another(), shapes.Shape)
    far.asked.clear()
    assert not isinstance(3, local)
    assert not issubclass(int, local)
    assert far.asked == [("__instancecheck__", None), ("__subclasscheck__", None)]


def test_plain_classes_do_not_show_abstractness(far: Far, thing: Any) -> None:
    with pytest.raises(AttributeError):
        thing.register
    assert "_abc_impl" not in dir(thing)
    assert not isinstance(3, thing)
    far.asked.clear()
    assert not isinstance(3, thing)
    assert not issubclass(int, thing)
    assert far.asked == []


def test_enum(far: Far) -> None:
    local = far.cls(shapes.Colour)
    assert local.__class__ is enum.EnumType
    assert issubclass(local, enum.Enum)
    assert isinstance(local, enum.EnumType)
    assert repr(local) == "<enum 'Colour'>"
    assert local.RED is shapes.Colour.RED
    assert local.RED is local.CRIMSON
    assert local(2) is shapes.Colour.GREEN
    assert local["GREEN"] is shapes.Colour.GREEN
    assert list(local) == [shapes.Colour.RED, shapes.Colour.GREEN]
    assert list(reversed(local)) == [shapes.Colour.GREEN, shapes.Colour.RED]
    assert len(local) == 2
    assert shapes.Colour.RED in local
    assert set(local.__members__) == {"RED", "GREEN", "CRIMSON"}
    assert bool(local)
    assert inspect.isfunction(local.shout)
    assert local.shout(shapes.Colour.RED) == "RED!"
    with pytest.raises(ValueError, match="9 is not a valid"):
        local(9)
    with pytest.raises(TypeError, match="enum"):

        class Mine(local):  # type: ignore[misc, valid-type]
            BLUE = 3

    far.asked.clear()
    assert local.RED is shapes.Colour.RED
    assert far.asked == []
    rights = far.cls(shapes.Rights)
    assert shapes.Rights(3) == rights.READ | rights.WRITE


def test_metaclass(far: Far) -> None:
    local = far.cls(shapes.WithMeta)
    meta = far.cls(shapes.Meta)
    assert local.__class__ is meta
    assert isinstance(local, meta)
    assert meta.__class__ is type
    assert len(local) == 42
    assert local.hello() == "hello WithMeta"
    assert local.upper == "WITHMETA"

    class Mine(local):  # type: ignore[misc, valid-type]
        pass

    assert shapes.Meta.registry[-1] is Mine
    assert Mine.__class__ is meta
    with pytest.raises(TypeError, match=r"metaclass 'MetaNew'.*defines __new__"):

        class Other(far.cls(shapes.WithMetaNew)):  # type: ignore[misc]
            pass


def test_metaclass_that_checks(far: Far) -> None:
    local = far.cls(shapes.Checked)
    assert isinstance("yes", local)
    assert not isinstance("no", local)


def test_generics(far: Far) -> None:
    local = far.cls(shapes.Box)
    assert [parameter.__name__ for parameter in local.__parameters__] == ["T"]
    alias = local[int]
    assert typing.get_origin(alias) is local
    assert typing.get_args(alias) == (int,)
    assert repr(alias) == "shapes.Box[int]"
    assert type(alias(3)) is shapes.Box
    with pytest.raises(TypeError):
        local[int, str]

    class Mine(local[str]):  # type: ignore[misc, valid-type]
        pass

    assert Mine.__bases__ == (local,)
    assert repr(far.cls(shapes.Listish)[int]) == "shapes.Listish[int]"


@pytest.mark.skipif(sys.version_info < (3, 12), reason="syntax of 3.12")
def test_type_parameters(far: Far) -> None:
    space: dict[str, Any] = {"__name__": "shapes"}
    exec("class Modern[A, *Bs, **C]:\n    def get(self, item: A) -> A: ...\n", space)
    local = far.cls(space["Modern"])
    assert [type(parameter).__name__ for parameter in local.__type_params__] == [
        "TypeVar",
        "TypeVarTuple",
        "ParamSpec",
    ]
    assert local.__parameters__ == local.__type_params__


def test_building_runs_no_init_subclass(far: Far) -> None:
    before = list(shapes.Registers.seen)
    local = far.cls(shapes.Registered)
    assert shapes.Registers.seen == before
    assert far.asked == []
    assert local.__mro__ == (local, far.cls(shapes.Registers), object)

    class Mine(local, key=3):  # type: ignore[misc, valid-type, call-arg]
        pass

    assert shapes.Registers.seen[-1] is Mine
    assert shapes.LOG[-1] == {"key": 3}


def test_builtin_bases_and_patterns(far: Far) -> None:
    local = far.cls(shapes.MyList)
    assert issubclass(local, list)

    class Mine(local):  # type: ignore[misc, valid-type]
        pass

    assert Mine([1, 2]).total() == 3
    virtual = far.cls(shapes.VirtualSequence)
    assert issubclass(virtual, collections.abc.Sequence)
    real = far.cls(shapes.Sequence2)
    assert issubclass(real, collections.abc.Sequence)
    assert virtual.__flags__ & (1 << 5)
    assert real.__flags__ & (1 << 5)


def test_descriptors(far: Far) -> None:
    local = far.cls(shapes.HasDescriptor)
    assert isinstance(local.field, shapes.Typed)

    class Mine(local):  # type: ignore[misc, valid-type]
        pass

    mine = Mine()
    assert mine.field == "unset"
    mine.field = 3
    assert mine.field == 3
    assert vars(mine) == {"field": 3}
    with pytest.raises(AttributeError):
        del mine.field


def test_getattr_of_the_remote_class_serves_local_objects(far: Far) -> None:
    class Mine(far.cls(shapes.Dynamic)):  # type: ignore[misc]
        pass

    assert Mine().dyn_x == "x"
    with pytest.raises(AttributeError):
        Mine().other


def test_classes_of_c(far: Far) -> None:
    import re

    local = far.cls(re.Pattern)
    assert local.__name__ == "Pattern"
    assert local.match(re.compile("a"), "ab").group() == "a"
    assert local.pattern.__get__ is not None
    assert "groups" in dir(local)


def test_a_class_is_passed_on_as_it_came(far: Far, thing: Any) -> None:
    description = _parts.describe_class(thing)
    assert description[:4] == _parts.describe_class(shapes.Thing)[:4]
    assert description[7] == _parts.describe_class(shapes.Thing)[7]
    second = Far()
    second.classes[shapes.Base] = far.cls(shapes.Base)
    again = second.build(thing, description)
    far.asked.clear()
    assert again.helper(1) == 3
    assert second.asked == far.asked == [("call", "helper")]
    assert str(inspect.signature(again.method)) == str(inspect.signature(shapes.Thing.method))


def test_descriptions_are_plain(far: Far) -> None:
    def check(value: Any, path: str) -> None:
        if type(value) is tuple:
            for index, item in enumerate(value):
                check(item, f"{path}[{index}]")
        elif isinstance(value, type):
            assert value.__module__ == "builtins", path
        else:
            assert value is None or value is ... or type(value) in {bool, int, float, str, bytes}, (
                path,
                value,
            )

    for cls in [value for value in vars(shapes).values() if isinstance(value, type)]:
        description = _parts.describe_class(cls)
        for index in (0, 1, 2, 3, 6, 7, 8):
            check(description[index], f"{cls.__name__}[{index}]")


def test_describing_runs_nothing(far: Far) -> None:
    class Loud(type):
        def __getattribute__(cls, name: str) -> Any:
            raise AssertionError(name)

    class Mine:
        def __get__(self, instance: Any, owner: Any) -> Any:
            raise AssertionError

        def __repr__(self) -> str:
            raise AssertionError

    mine = Mine()
    loud = Loud(
        "Loud1", (), {"field": Mine(), "method": lambda self, x=mine: None, "__doc__": Mine()}
    )
    description = _parts.describe_class(loud)
    assert description[3] is None
    assert "Mine object" in repr(description)


def test_malformed_descriptions_are_errors(far: Far) -> None:
    good = list(_parts.describe_class(shapes.Thing))
    good[4] = (object,)
    for index, value in [
        (0, None),
        (1, 3),
        (5, 3),
        (5, int),
        (6, "x"),
        (7, 3),
        (7, ((1, 2),)),
        (7, (("m", 0),)),
        (7, (("m", 0, (1,)),)),
        (7, (("m", 99),)),
        (8, (1,)),
    ]:
        bad = [*good]
        bad[index] = value
        with pytest.raises((TypeError, ValueError, IndexError)):
            _parts.build_class(tuple(bad), (object,), far.access)
    with pytest.raises(ValueError, match="malformed"):
        _parts.build_class((1,), (object,), far.access)
    with pytest.raises(TypeError):
        _parts.build_class(tuple(good), (bool,), far.access)


def test_a_hostile_function_description(far: Far) -> None:
    good = _parts.describe_class(shapes.Thing)
    method = next(attribute for attribute in good[7] if attribute[0] == "method")
    described = method[2]
    for index, value in [
        (2, (("not a name", 1, (), ()),)),
        (2, (("a", 9, (), ()),)),
        (2, (("b", 3, (), ()), ("a", 0, (), ()))),
    ]:
        bad = (*described[:index], value, *described[index + 1 :])
        shape = (*good[:4], (object,), *good[5:7], (("method", 0, bad),), good[8])
        local = _parts.build_class(shape, (object,), far.access)
        assert str(inspect.signature(local.method)) == "(*args, **kwargs)"


def test_lost_connection(far: Far, thing: Any) -> None:
    far.lost = True
    assert inspect.signature(thing.method)
    assert thing.__doc__
    assert dir(thing)
    with pytest.raises(ConnectionError):
        thing.counter
    with pytest.raises(ConnectionError):
        thing("x")


def test_classes_are_collected() -> None:
    far = Far()
    local = far.cls(shapes.Thing)
    far.cls(shapes.WithMeta)

    class Mine(local):  # type: ignore[misc, valid-type]
        pass

    gone = [weakref.ref(cls) for cls in (local, Mine, *far.classes.values())]
    del local, Mine, far
    gc.collect()
    assert [ref() for ref in gone] == [None] * len(gone)


def test_copy_and_pickle_of_the_class(thing: Any) -> None:
    assert copy.copy(thing) is thing
    assert copy.deepcopy(thing) is thing
    with pytest.raises((pickle.PicklingError, AttributeError)):
        pickle.dumps(thing, protocol=2)


def test_unions_and_weak_references(thing: Any) -> None:
    assert isinstance(3, thing | int)
    assert weakref.ref(thing)() is thing
    assert {thing: 1}[thing] == 1
    out = io.StringIO()
    print(thing, file=out)
    assert out.getvalue() == "<class 'shapes.Thing'>\n"


def test_source_of_functions_from_other_files(far: Far, tmp_path: Any) -> None:
    import linecache

    space: dict[str, Any] = {"__name__": "elsewhere"}
    paths = [tmp_path / "one.py", tmp_path / "two.py"]
    paths[0].write_text("class Mixed:\n    def one(self):\n        return 1\n")
    paths[1].write_text("# two\ndef two(self):\n    return 2\nMixed.two = two\n")
    for path in paths:
        exec(compile(path.read_text(), str(path), "exec"), space)
    description = list(_parts.describe_class(space["Mixed"]))
    # As another machine would tell it: the files were last changed at another time.
    text = repr(description)
    assert str(paths[1]) in text
    description[7] = unstamped(description[7])
    description[8] = unstamped(description[8])
    local = far.build(space["Mixed"], tuple(description))
    assert local.one.__code__.co_filename == f"{paths[0]} [test]"
    assert local.two.__code__.co_filename == f"{paths[1]} [test]"
    assert far.asked == []
    assert inspect.getsource(local.one) == "    def one(self):\n        return 1\n"
    assert inspect.getsource(local.two) == "def two(self):\n    return 2\n"
    assert far.asked == [("source", str(paths[0])), ("source", str(paths[1]))]
    assert _parts.answer_class(space["Mixed"], "source", __file__) is None
    linecache.clearcache()


def unstamped(value: Any) -> Any:
    if type(value) is not tuple:
        return value
    if len(value) == 2 and type(value[1]) is tuple and all(type(item) is int for item in value[1]):
        return (value[0], (1, 1))
    return tuple(unstamped(item) for item in value)
