"""What a program works with: the same source, loaded here and over there."""

SOURCE = '''
import collections


class AppError(LookupError):
    def __init__(self, message, *, code=0):
        super().__init__(message)
        self.code = code


class Thing:
    """An object with state, operators, a property and methods that call back."""

    shared = 0

    def __init__(self, value):
        self.value = value
        self.items = []

    def __repr__(self):
        return f"Thing({self.value!r})"

    def __eq__(self, other):
        if not isinstance(other, Thing):
            return NotImplemented
        return self.value == other.value

    def __hash__(self):
        return 7

    def __add__(self, other):
        if isinstance(other, (int, str)):
            return Thing((self.value, other))
        return NotImplemented

    def __radd__(self, other):
        return ("radd", other, self.value)

    def __iadd__(self, other):
        self.items.append(other)
        return self

    def __len__(self):
        return len(self.items)

    def __getitem__(self, key):
        return self.items[key]

    def __contains__(self, item):
        return item in self.items

    def __call__(self, *args, **kwargs):
        return args, tuple(sorted(kwargs.items()))

    def __enter__(self):
        self.items.append("enter")
        return self

    def __exit__(self, kind, error, traceback):
        self.items.append((kind and kind.__name__, error and error.args))
        return kind is not None and issubclass(kind, KeyError)

    @property
    def double(self):
        return self.value * 2

    @double.setter
    def double(self, value):
        self.value = value

    def method(self, x, *rest, key=None):
        return self.value, x, rest, key

    def chain(self):
        return self

    def each(self, function):
        return [function(item) for item in self.items]

    def fail(self, kind, note=None):
        try:
            raise kind("inner")
        except kind as error:
            outer = AppError("outer", code=self.value)
            if note:
                outer.add_note(note)
            raise outer from error


class Slotted:
    __slots__ = ("a", "b")

    def __init__(self, a):
        self.a = a


class Child(Thing):
    def method(self, x, *rest, key=None):
        return "child", super().method(x, *rest, key=key)


class Words(list):
    """A list with a method of its own."""

    def longest(self):
        return max((len(str(word)) for word in self), default=None)


def count(limit):
    """A generator that answers what it is sent, and returns a value."""
    total = 0
    for number in range(limit):
        try:
            got = yield number
        except ValueError as error:
            yield ("caught", error.args)
            continue
        total += got or 0
    return total


def make(kind, value):
    if kind == "list":
        return [value, 1, "x"]
    if kind == "dict":
        return {"a": value, 1: "one"}
    if kind == "set":
        return {1, 2, 3}
    if kind == "bytearray":
        return bytearray(b"bytes")
    if kind == "deque":
        return collections.deque([value, 2])
    if kind == "thing":
        return Thing(value)
    if kind == "child":
        return Child(value)
    if kind == "slotted":
        return Slotted(value)
    if kind == "words":
        return Words(["a", "bcd"])
    if kind == "generator":
        return count(3)
    raise AppError(kind, code=1)


KEPT = {}


def keep(lane, key, value):
    KEPT.setdefault(lane, {})[key] = value


def kept(lane, key):
    return KEPT.setdefault(lane, {})[key]


def forget(lane):
    KEPT.pop(lane, None)


def same(a, b):
    return a is b


def call(function, *args, **kwargs):
    return function(*args, **kwargs)


def caught(function, *args):
    try:
        return "returned", function(*args)
    except Exception as error:
        return "raised", type(error).__name__, error.args, getattr(error, "code", None)


def collect():
    import gc
    gc.collect()
'''
KINDS = (
    "list",
    "dict",
    "set",
    "bytearray",
    "deque",
    "thing",
    "child",
    "slotted",
    "words",
    "generator",
)
