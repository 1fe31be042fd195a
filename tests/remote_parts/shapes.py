"""Classes and exceptions of every sort, as a program elsewhere might define them."""

import abc
import collections.abc
import dataclasses
import enum
import functools
import types
from typing import Any, Generic, TypeVar

T = TypeVar("T")
LOG: list[Any] = []


class Holder:
    pass


SOMEWHERE = Holder()


def note(function: Any) -> Any:
    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        LOG.append(function.__name__)
        return function(*args, **kwargs)

    return wrapper


class Base:
    """The base."""

    def shared(self) -> str:
        return f"Base.shared of {type(self).__name__}"

    def overridden(self) -> str:
        return "Base"


class Thing(Base):
    """A thing.

    With more lines.
    """

    __match_args__ = ("name", "size")
    name: str
    size: int = 3
    _private = [1, 2]  # noqa: RUF012
    counter = 0
    handler = Base

    class Nested:
        depth = 1

    def __init__(self, name: str, size: int = 3, *, tags: list[str] | None = None) -> None:
        self.name = name
        self.size = size
        self.tags = tags

    def method(
        self, x: int, /, y: str = "y", *rest: float, flag: bool = True, **more: object
    ) -> tuple[Any, ...]:
        """The method's doc."""
        return (self.name, x, y, rest, flag, more)

    def defaults(
        self,
        items: list[int] = [1, 2],  # noqa: B006
        thing: object = object,
        function: Any = len,
    ) -> None:
        pass

    @note
    def wrapped(self, a: int, b: int = 1) -> int:
        return a + b

    def overridden(self) -> str:
        return "Thing+" + super().overridden()

    def fails(self) -> None:
        raise LookupError(self.name)

    async def waits(self, n: int) -> int:
        return n

    def generates(self, n: int) -> Any:
        yield from range(n)

    async def asyncgen(self) -> Any:
        yield 1

    @classmethod
    def make(cls, name: str) -> Any:
        """Makes one."""
        return cls, name

    @staticmethod
    def helper(a: int, b: int = 2) -> int:
        return a + b

    @property
    def label(self) -> str:
        """The label."""
        return f"{self.name}:{self.size}"

    @label.setter
    def label(self, value: str) -> None:
        self.name = value

    @property
    def readonly(self) -> int:
        return 1

    @functools.cached_property
    def cached(self) -> str:
        """A cached value."""
        return self.name * 2

    def __len__(self) -> int:
        return self.size

    def __add__(self, other: Any) -> Any:
        return ("add", self.name, other)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Thing) and self.name == other.name

    __hash__ = None  # type: ignore[assignment]

    def __del__(self) -> None:
        pass


class WithNew:
    def __new__(cls, *args: Any) -> Any:
        self = super().__new__(cls)
        self.made = args
        return self


class Slotted:
    __slots__ = ("__hidden", "a", "b")

    def __init__(self) -> None:
        self.a = 1


class SlottedChild(Slotted):
    __slots__ = {"c": "The c."}


class Open(Slotted):
    pass


@dataclasses.dataclass(order=True)
class Point:
    x: int
    y: int = 0
    tags: list[str] = dataclasses.field(default_factory=list, compare=False, metadata={"unit": "m"})
    where: Any = dataclasses.field(default=SOMEWHERE, repr=False)
    odd: Any = dataclasses.field(default_factory=lambda: [7], kw_only=True)


class Shape(abc.ABC):
    @abc.abstractmethod
    def area(self) -> float: ...

    @property
    @abc.abstractmethod
    def colour(self) -> str: ...

    def describe(self) -> str:
        return f"{self.colour} {self.area()}"


class Square(Shape):
    colour = "red"  # type: ignore[assignment]

    def area(self) -> float:
        return 4.0


class Colour(enum.Enum):
    """Colours."""

    RED = 1
    GREEN = 2
    CRIMSON = 1  # noqa: PIE796

    def shout(self) -> str:
        return self.name + "!"


class Rights(enum.IntFlag):
    READ = 1
    WRITE = 2


class Meta(type):
    registry: list[type] = []  # noqa: RUF012

    def __init__(cls, name: str, bases: Any, namespace: Any, **kwargs: Any) -> None:
        type.__init__(cls, name, bases, namespace)
        Meta.registry.append(cls)

    def __len__(cls) -> int:
        return 42

    def hello(cls) -> str:
        return f"hello {cls.__name__}"

    @property
    def upper(cls) -> str:
        return cls.__name__.upper()


class WithMeta(metaclass=Meta):
    pass


class Checker(type):
    def __instancecheck__(cls, instance: object) -> bool:
        return instance == "yes"


class Checked(metaclass=Checker):
    pass


class MetaNew(type):
    def __new__(mcs, name: str, bases: Any, namespace: Any) -> Any:
        return super().__new__(mcs, name, bases, namespace)


class WithMetaNew(metaclass=MetaNew):
    pass


class Box(Generic[T]):
    def __init__(self, item: T) -> None:
        self.item = item


class Listish:
    __class_getitem__ = classmethod(types.GenericAlias)  # type: ignore[var-annotated]


class Registers:
    seen: list[type] = []  # noqa: RUF012

    def __init_subclass__(cls, **kwargs: Any) -> None:
        Registers.seen.append(cls)
        LOG.append(kwargs)


class Registered(Registers):
    pass


class Sequence2(collections.abc.Sequence):  # type: ignore[type-arg]
    def __len__(self) -> int:
        return 2

    def __getitem__(self, index: Any) -> Any:
        return "ab"[index]


@collections.abc.Sequence.register
class VirtualSequence:
    def __len__(self) -> int:
        return 0


class MyList(list):  # type: ignore[type-arg]
    def total(self) -> int:
        return sum(self)


class Typed:
    """A descriptor."""

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    def __get__(self, instance: Any, owner: Any = None) -> Any:
        return self if instance is None else instance.__dict__.get(self.name, "unset")

    def __set__(self, instance: Any, value: Any) -> None:
        instance.__dict__[self.name] = value


class HasDescriptor:
    field = Typed()


class Dynamic:
    def __getattr__(self, name: str) -> str:
        if name.startswith("dyn_"):
            return name[4:]
        raise AttributeError(name)


class Selfish:
    pass


Selfish.me = Selfish  # type: ignore[attr-defined]


# Exceptions


class AppError(LookupError):
    """An error of the application."""

    severity = 3

    def __init__(self, code: int, *, reason: str) -> None:
        super().__init__(f"code {code}")
        self.code = code
        self.reason = reason

    def explain(self) -> str:
        return f"{self.code}: {self.reason}"


class Picky(Exception):
    def __init__(self, *args: Any) -> None:
        if LOG and LOG[-1] == "refuse":
            raise RuntimeError("made too often")
        super().__init__(*args)

    def __str__(self) -> str:
        return f"picky about {self.args[0]!r}"

    def __repr__(self) -> str:
        return "Picky!"


class NewError(OSError):
    def __new__(cls, what: str) -> Any:
        self = super().__new__(cls, 5, what, "/some/file")
        self.what = what
        return self

    def __init__(self, what: str) -> None:
        super().__init__(7, "init " + what, "/other/file")


class SlottedError(Exception):
    __slots__ = ("slot",)


class ReadOnly(Exception):
    @property
    def args_count(self) -> int:
        return len(self.args)


class MyGroup(ExceptionGroup[Exception]):
    def derive(self, excs: Any) -> Any:
        return MyGroup(self.message, excs)


class Unprintable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")


def raise_chain() -> None:
    try:
        try:
            raise AppError(4, reason="deep")
        except AppError as error:
            raise ValueError("middle", [1]) from error
    except ValueError:
        raise KeyError("outer") from None
