"""Everything that a frame drags along: written here, loaded in another process."""

import contextvars
import dataclasses
import enum
import functools
import io
import itertools
import os
import pickle
import socket
import sys
import threading
import traceback
import types

import pytest
from objspace import pickling


def again(value, **options):
    return pickling.loads(pickling.dumps(value, **options))


# -- functions, cells, classes ------------------------------------------------------------------


def test_a_lambda_that_refers_to_itself():
    factorial = lambda n: 1 if n < 2 else n * factorial(n - 1)  # noqa: E731
    copy = again(factorial)
    assert copy is not factorial
    assert copy(5) == 120
    cell = copy.__closure__[0]
    assert cell.cell_contents is copy


def test_functions_that_share_a_variable_share_it_after_loading(module, elsewhere):
    made = module(
        """
        def counter():
            n = 0
            def add():
                nonlocal n
                n += 1
            def get():
                return n
            return add, get
        """
    )
    printed = elsewhere(
        pickling.dumps(made.counter()),
        """
        add, get = value
        add(); add()
        print(get())
        """,
        module.path,
    )
    assert printed == "2\n"


def test_a_variable_that_is_none_is_still_bound():
    def outer():
        last = None

        def step(value):
            nonlocal last
            last, before = value, last
            return before

        return step

    copy = again(outer())
    assert copy(1) is None
    assert copy(2) == 1
    assert again(types.CellType(None)).cell_contents is None


def test_a_cell_may_be_empty_or_contain_itself():
    assert again(types.CellType()) == types.CellType()
    cell = types.CellType()
    cell.cell_contents = [cell]
    copy = again(cell)
    assert copy.cell_contents[0] is copy


def test_what_belongs_to_a_function_comes_with_it():
    def outer():
        def inner(a: int, b=2, *args, c=3, **kwargs) -> str:
            """What it does."""
            return (a, b, c)

        inner.attribute = [1]
        return inner

    function = outer()
    copy = again(function)
    assert copy(1, c=5) == (1, 2, 5)
    assert copy.__defaults__ == (2,)
    assert copy.__kwdefaults__ == {"c": 3}
    assert copy.__annotations__ == function.__annotations__
    assert copy.__doc__ == "What it does."
    assert copy.attribute == [1]
    assert (copy.__name__, copy.__qualname__) == (function.__name__, function.__qualname__)
    assert copy.__module__ == function.__module__
    assert copy.__globals__ is function.__globals__


class Methods:
    def method(self):
        return "method", type(self).__name__

    @classmethod
    def of_class(cls):
        return "class", cls.__name__

    @staticmethod
    def static():
        return "static"

    @property
    def value(self):
        return 1

    def __eq__(self, other):
        return type(other) is type(self)

    __hash__ = None


class Derived(Methods):
    def method(self):
        return "derived"


def test_methods_keep_their_function_and_object():
    value = Derived()
    pairs = [value.method, super(Derived, value).method, Derived.of_class, value]
    own, base, of_class, copy = again(pairs)
    assert own() == "derived"
    assert base() == ("method", "Derived")
    assert of_class() == ("class", "Derived")
    assert own.__self__ is base.__self__ is copy
    assert base.__func__ is Methods.method


def test_functions_in_classes_go_by_name():
    parts = [
        Methods.method,
        Methods.static,
        Methods.__dict__["of_class"].__func__,
        Methods.value.fget,
    ]
    assert all(one is other for one, other in zip(again(parts), parts, strict=True))


def test_builtin_methods_keep_the_identity_of_their_object():
    items = []
    append, same = again([items.append, items])
    append(1)
    assert same == [1]
    assert again("abc".__len__)() == 3
    assert again(len) is len
    assert again(functools.partial(int, base=2))("101") == 5
    assert again(object.__init__) is object.__init__
    assert again(dict.__dict__["fromkeys"].__get__(None, dict))("ab") == {"a": None, "b": None}


def test_the_method_of_a_builtin_base():
    class Loud(list):
        def append(self, value):
            raise AssertionError

    value = Loud()
    plain = super(Loud, value).append
    copy, owner = again([plain, value])
    copy(1)
    assert list(owner) == [1]


def test_what_stands_in_classes():
    for kind in (staticmethod, classmethod):
        made = again(kind(lambda: 1))
        assert type(made) is kind
    made = again(property(lambda self: 1, lambda self, value: None, doc="text"))
    assert made.fget(None) == 1
    assert made.__doc__ == "text"
    assert again(types.MappingProxyType({"a": 1})) == {"a": 1}
    assert type(again(types.MappingProxyType({}))) is types.MappingProxyType
    shared = {}
    proxy, mapping = again([types.MappingProxyType(shared), shared])
    mapping["k"] = 1
    assert proxy["k"] == 1
    assert again(vars(Methods)) == vars(Methods)


def test_a_cached_function_is_made_again_without_its_cache():
    calls = []

    @functools.lru_cache(maxsize=7)
    def cached(x):
        calls.append(x)
        return x * 2

    cached(1)
    copy = again(cached)
    assert copy(4) == 8
    assert copy.cache_parameters() == {"maxsize": 7, "typed": False}


LOCAL_CLASSES = """
import abc, collections, dataclasses, enum, functools, sys, typing
from objspace import pickling

class Base(abc.ABC):
    registry = []
    @abc.abstractmethod
    def area(self): ...
    @classmethod
    def make(cls, *args): return cls(*args)

class Square(Base):
    __slots__ = ("side",)
    def __init__(self, side): self.side = side
    def area(self): return self.side ** 2
    @property
    def double(self): return self.side * 2
    def __repr__(self): return f"{super().__class__.__name__}({self.side})"
    @functools.cached_property
    def never(self): return 1

class Color(enum.Enum):
    RED = 1
    GREEN = 2
    CRIMSON = 1
    def shout(self): return self.name.upper() + "!"

class Flags(enum.IntFlag):
    A = 1
    B = 2

@dataclasses.dataclass
class Point:
    x: int
    y: int = 2
    tags: list = dataclasses.field(default_factory=list)

Pair = collections.namedtuple("Pair", "left right")

class Node:
    count = 0
    def __init__(self): self.children = []
    def add(self):
        child = Node()
        self.children.append(child)
        Node.count += 1
        return child
    class Inner:
        value = 3

class Meta(type):
    def __call__(cls, *args):
        made = super().__call__(*args)
        made.by_meta = True
        return made

class WithMeta(metaclass=Meta):
    pass

class Err(Exception):
    def __init__(self, a, b):
        super().__init__(f"{a} and {b}")
        self.a, self.b = a, b

node = Node()
node.add()
everything = [Square(3), Color.CRIMSON, Color, Flags.A | Flags.B, Point(1), Pair(1, 2), node, Node, Node.Inner,
              WithMeta(), Base, Err(1, 2)]
"""


def test_classes_of_main_come_by_value(python, elsewhere):
    program = LOCAL_CLASSES + "sys.stdout.write(pickling.dumps(everything).hex())"
    done = python(program)
    assert done.returncode == 0, done.stderr
    printed = elsewhere(
        bytes.fromhex(done.stdout),
        """
        import abc, enum, dataclasses
        square, color, Color, flags, point, pair, node, Node, Inner, meta, Base, error = value
        assert square.area() == 9 and square.double == 6 and not hasattr(square, "__dict__") or True
        assert square.side == 3
        assert Base in type(square).__mro__
        assert type(square).make(4).area() == 16
        try: Base()
        except TypeError as e: assert "abstract" in str(e)
        else: raise AssertionError
        assert color is Color.RED is Color(1) and Color["CRIMSON"] is color
        assert [c.name for c in Color] == ["RED", "GREEN"] and color.shout() == "RED!"
        assert flags == 3 and isinstance(flags, enum.IntFlag) and (flags & 1).name == "A"
        assert dataclasses.asdict(point) == {"x": 1, "y": 2, "tags": []}
        assert type(point)(5).tags == [] and type(point)(1) == point
        assert pair.left == 1 and pair._replace(left=9).left == 9
        child = node.add()
        assert type(child) is Node and Node.count == 2 and len(node.children) == 2
        assert Node.Inner is Inner and Inner.value == 3
        assert meta.by_meta and type(meta)().by_meta
        assert str(error) == "1 and 2" and (error.a, error.b) == (1, 2)
        print("all")
        """,
    )
    assert printed == "all\n"


def test_a_class_loaded_twice_is_one_class(python, elsewhere):
    program = LOCAL_CLASSES + "print(pickling.dumps(Node).hex(), pickling.dumps(node).hex())"
    first, second = python(program).stdout.split()
    data = pickling.dumps([bytes.fromhex(first), bytes.fromhex(second)])
    printed = elsewhere(
        data,
        """
        Node, node = map(pickling.loads, value)
        print(type(node) is Node)
        """,
    )
    assert printed == "True\n"


def test_types_of_the_interpreter_go_by_name():
    kinds = [types.GeneratorType, types.CellType, types.CodeType, type(None), int, types.NoneType]
    assert again(kinds) == kinds


def test_a_class_comes_home_as_itself():
    class Local:
        pass

    value = again(Local())
    assert type(value) is Local


def test_global_variables_of_main_come_along(python, elsewhere):
    program = """
    import os.path, xml.dom, sys, logging.handlers
    from objspace import pickling
    limit = 3
    unused = open(os.devnull)
    def helper(n): return n < limit
    def fact(n): return 1 if helper(n) else n * fact(n - 1)
    def module(): return logging.handlers.DEFAULT_TCP_LOGGING_PORT
    def bump():
        global limit
        limit += 1
        return limit
    print(pickling.dumps([fact, module, bump, helper]).hex())
    """
    printed = elsewhere(
        bytes.fromhex(python(program).stdout),
        """
        fact, module, bump, helper = value
        print(fact(5), module(), helper(3), bump(), helper(3))
        """,
    )
    assert printed == "60 9020 False 4 True\n"


# -- modules, context variables -------------------------------------------------------------------


def test_modules_travel_by_name(elsewhere):
    import xml.sax.handler

    printed = elsewhere(
        pickling.dumps([os.path, xml.sax.handler]), "print([m.__name__ for m in value])"
    )
    assert printed == "['posixpath', 'xml.sax.handler']\n"
    with pytest.raises(pickling.PicklingError, match="module 'nowhere'"):
        pickling.dumps(types.ModuleType("nowhere"))


def test_context_variables_travel_by_name(module, elsewhere):
    made = module("import contextvars\nuser = contextvars.ContextVar('u', default=0)\n")
    context = contextvars.copy_context()
    context.run(made.user.set, 5)
    data = pickling.dumps([made.user, context])
    printed = elsewhere(
        data,
        "variable, context = value\nprint(variable.get(), context.run(variable.get))",
        module.path,
    )
    assert printed == "0 5\n"
    with pytest.raises(pickling.PicklingError, match="context variable 'lone'"):
        pickling.dumps(contextvars.ContextVar("lone"))


# -- exceptions, tracebacks, frames ---------------------------------------------------------------


class Picky(Exception):
    def __init__(self, first, second):
        super().__init__(f"{first}-{second}")
        self.first = first
        self.second = second


def inner(n):
    marker = [n]
    if n == 0:
        raise Picky("one", "two")
    return inner(n - 1), marker


def caught():
    try:
        inner(3)
    except Picky as error:
        error.add_note("a note")
        return error


def test_an_exception_keeps_all_that_it_has(elsewhere):
    error = caught()
    error.__cause__ = KeyError("cause")
    error.__suppress_context__ = False
    error.__context__ = OSError(2, "no", "file")
    copy = again(error)
    assert type(copy) is Picky
    assert copy.args == error.args
    assert (copy.first, copy.second) == ("one", "two")
    assert copy.__notes__ == ["a note"]
    assert repr(copy.__cause__) == "KeyError('cause')"
    assert copy.__context__.filename == "file"
    assert copy.__context__.errno == 2
    assert copy.__suppress_context__ is False
    assert traceback.format_exception(copy) == traceback.format_exception(error)


def test_the_frames_of_a_traceback(elsewhere):
    entries = list(traceback.walk_tb(again(caught()).__traceback__))
    assert [frame.f_code.co_name for frame, _ in entries] == ["caught"] + ["inner"] * 4
    assert [frame.f_locals.get("marker") for frame, _ in entries[1:]] == [[3], [2], [1], [0]]
    frames = [frame for frame, _ in entries]
    assert all(inner.f_back is outer for outer, inner in itertools.pairwise(frames))
    assert frames[0].f_back is None
    assert frames[0].f_globals is globals()
    assert [line for _, line in entries] == [
        line for _, line in traceback.walk_tb(caught().__traceback__)
    ]
    frames[1].clear()
    assert frames[1].f_locals == {}


def test_a_traceback_in_another_process(module, elsewhere):
    made = module(
        """
        def deep(n):
            if n:
                return deep(n - 1)
            return 1 / n
        def caught(n):
            try:
                deep(n)
            except ZeroDivisionError as error:
                return error
        """
    )
    error = made.caught(2)
    data = pickling.dumps([error, error.__traceback__.tb_next])
    printed = elsewhere(
        data,
        """
        import traceback
        error, second = value
        assert error.__traceback__.tb_next is second
        print("".join(traceback.format_exception(error)), end="")
        """,
        module.path,
    )
    assert printed == "".join(traceback.format_exception(error))


def test_a_long_traceback():
    def deep(n):
        if n == 0:
            raise ValueError
        deep(n - 1)

    try:
        deep(800)
    except ValueError as error:
        copy = again(error)
    assert len(list(traceback.walk_tb(copy.__traceback__))) == 802


def test_one_pickler_writes_a_traceback_and_then_a_part_of_it():
    error = caught()
    file = io.BytesIO()
    pickler = pickling.Pickler(file)
    pickler.dump(error.__traceback__)
    pickler.clear_memo()
    pickler.dump(error.__traceback__.tb_next)
    file.seek(0)
    first, second = pickling.load(file), pickling.load(file)
    assert len(list(traceback.walk_tb(first))) == 5
    assert len(list(traceback.walk_tb(second))) == 4


@pytest.mark.parametrize(
    "error",
    [
        StopIteration(5),
        SystemExit(3),
        UnicodeDecodeError("utf-8", b"abc", 0, 1, "why"),
        ImportError("text", name="n", path="p"),
        NameError("text", name="n"),
        AttributeError("text", name="n", obj=[1]),
        FileNotFoundError(2, "no", "a", None, "b"),
        BlockingIOError(11, "again", 5),
        SyntaxError("text", ("f", 1, 2, "line", 1, 3)),
        ExceptionGroup("group", [ValueError(1), KeyError(2)]),
        KeyboardInterrupt(),
    ],
    ids=lambda error: type(error).__name__,
)
def test_builtin_exceptions_keep_their_attributes(error):
    copy = again(error)
    assert type(copy) is type(error)
    assert repr(copy) == repr(error)
    names = [name for name in dir(error) if not name.startswith("__") or name == "__dict__"]
    for name in names:
        if not callable(getattr(error, name, None)) and name not in ("args", "exceptions"):
            assert getattr(copy, name, None) == getattr(error, name, None), name


def test_exception_groups_keep_the_tracebacks_of_their_members():
    try:
        try:
            raise ValueError("inside")
        except ValueError as error:
            raise ExceptionGroup("all", [error]) from None
    except ExceptionGroup as group:
        copy = again(group)
        assert traceback.format_exception(copy) == traceback.format_exception(group)


def test_an_exception_that_refers_to_itself():
    error = ValueError("x")
    error.me = error
    error.__context__ = KeyError()
    error.__context__.__cause__ = error
    copy = again(error)
    assert copy.me is copy
    assert copy.__context__.__cause__ is copy


def test_the_frame_of_a_class_body_and_of_a_module(python):
    done = python(
        """
        import sys
        from objspace import pickling
        class Body:
            x = 1
            frame = pickling.loads(pickling.dumps(sys._getframe()))
        top = pickling.loads(pickling.dumps(sys._getframe()))
        print(Body.frame.f_locals["x"], top.f_locals is globals())
        """
    )
    assert done.stderr == ""
    assert done.stdout == "1 True\n"


def handling():
    try:
        raise ValueError("kept")
    except ValueError as error:
        entry = error.__traceback__
        yield entry
        yield entry.tb_frame.f_locals["entry"] is entry


def test_the_frame_of_a_generator_is_its_own():
    generator = handling()
    entry = next(generator)
    copy, traceback_of_copy = again([generator, entry])
    assert traceback_of_copy.tb_frame is copy.gi_frame
    assert next(copy) is True
    frame = again(generator.gi_frame)
    assert frame.f_locals["entry"].tb_frame is frame
    generator.close()


def test_a_generated_frame_cannot_be_given_variables_twice():
    from objspace import _pickles

    code = caught.__code__
    frame = _pickles.make_frame(code, globals(), 0)
    _pickles.set_frame(frame, ({0: 1}, None))
    with pytest.raises(ValueError, match="just made"):
        _pickles.set_frame(frame, ({0: 2}, None))
    for lasti in (-4, 1, 10**6):
        with pytest.raises(ValueError, match="not within its code"):
            _pickles.make_frame(code, globals(), lasti)
    with pytest.raises(ValueError, match="of that number"):
        _pickles.set_frame(_pickles.make_frame(code, globals(), 0), ({99: 1}, None))
    with pytest.raises(ValueError, match="just made"):
        _pickles.set_frame(sys._getframe(), ({0: 2}, None))


# -- what is refused ------------------------------------------------------------------------------


def fails_with(value):
    with pytest.raises(pickling.PicklingError) as caught:
        pickling.dumps(value)
    return str(caught.value)


def test_what_cannot_move_is_named_with_the_path_to_it():
    def main():
        sock = socket.socket()
        try:
            raise ValueError("x")
        except ValueError as error:
            return error, sock

    error, sock = main()
    with sock:
        line = main.__code__.co_firstlineno + 5
        assert f"frame main() line {line}, local 'sock' → socket: " in fails_with(error)
    assert "['a'], [1] → lock: " in fails_with({"a": [0, threading.Lock()]})

    class Holder:
        pass

    holder = Holder()
    holder.inside = [Holder()]
    holder.inside[0].thread = threading.Thread()
    assert "Holder.inside, [0], Holder.thread → Thread: " in fails_with(holder)
    lock = threading.RLock()
    assert "variable 'lock' of the function around it → RLock" in fails_with(lambda: lock)
    with open(os.devnull) as file:
        assert "reopen_files()" in fails_with([file])


def test_errors_of_the_objects_themselves_are_kept():
    class Broken:
        def __reduce__(self):
            raise LookupError("broken by itself")

    with pytest.raises(pickling.PicklingError, match=r"\[0\] → Broken: broken by itself") as caught:
        pickling.dumps([Broken()])
    assert isinstance(caught.value.__cause__, LookupError)


def test_a_registered_reducer_is_asked():
    class Connection:
        def __init__(self, address):
            self.address = address
            self.lock = threading.Lock()

    class Better(Connection):
        pass

    pickling.register(Connection, lambda c: (type(c), (c.address,)))
    try:
        copy = again([Better("here")])[0]
        assert (type(copy), copy.address) == (Better, "here")
        pickling.register(Better, lambda c: 5)
        assert "must return a tuple" in fails_with(Better("x"))
        pickling.register(Better, lambda c: NotImplemented)
        assert "lock" in fails_with(Better("x"))
    finally:
        pickling.register(Connection, None)
        pickling.register(Better, None)
    assert "lock" in fails_with(Connection("there"))


@pytest.fixture
def files():
    pickling.reopen_files()
    yield
    for kind in (
        io.BufferedRandom,
        io.BufferedReader,
        io.BufferedWriter,
        io.FileIO,
        io.TextIOWrapper,
    ):
        pickling.register(kind, None)


def test_regular_files_are_opened_again_where_asked_for(files, tmp_path):
    path = tmp_path / "text"
    path.write_text("line 1\nline 2\nline 3\n")
    with open(path) as file:
        file.readline()
        with again(file) as copy:
            assert copy.read() == "line 2\nline 3\n"
        assert file.readline() == "line 2\n"
    with open(path, "rb", buffering=0) as file:
        file.seek(5)
        with again(file) as copy:
            assert copy.read() == b"1\nline 2\nline 3\n"
            assert type(copy) is io.FileIO
    with open(path, "w") as file:
        file.write("new 1\n")
        with again(file) as copy:
            copy.write("new 2\n")
        assert path.read_text() == "new 1\nnew 2\n"
    with open(path, "a") as file, again(file) as copy:
        copy.write("end\n")
    assert path.read_text().endswith("new 2\nend\n")
    with open(path, "r+b") as file:
        file.seek(2)
        with again(file) as copy:
            assert copy.tell() == 2
            copy.write(b"W")
    assert path.read_text().startswith("neW 1")


def test_other_files_are_refused_also_then(files, tmp_path):
    read, write = os.pipe()
    with open(read), open(write, "w") as file:
        assert "no regular file" in fails_with(file)
    path = tmp_path / "gone"
    with open(path, "w") as file:
        path.unlink()
        assert "no name by which" in fails_with(file)
        path.write_text("another")
        assert "no name by which" in fails_with(file)
    assert "is closed" in fails_with(file)


# -- the interface of pickle ----------------------------------------------------------------------


def test_ordinary_pickles_are_read():
    value = {"a": [1, 2.5, "x"]}
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        data = pickle.dumps(value, protocol)
        assert pickling.loads(data) == value
        file = io.BytesIO(data + data)
        unpickler = pickling.Unpickler(file)
        assert unpickler.load() == value
        assert pickling.load(file) == value


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_all_protocols(protocol):
    value = [lambda x: x + 1, caught(), iter({"a": 1})]
    function, error, iterator = again(value, protocol=protocol)
    assert function(1) == 2
    assert traceback.format_exception(error) == traceback.format_exception(value[1])
    assert list(iterator) == ["a"]


def test_subclasses_of_the_classes_work_as_with_pickle():
    class P(pickling.Pickler):
        def persistent_id(self, obj):
            return "the one" if isinstance(obj, complex) else None

        def reducer_override(self, obj):
            return (set, ("ab",)) if isinstance(obj, range) else NotImplemented

    class U(pickling.Unpickler):
        def persistent_load(self, pid):
            return [pid]

    file = io.BytesIO()
    P(file).dump([1j, range(2), lambda: 3])
    file.seek(0)
    first, second, third = U(file).load()
    assert first == ["the one"]
    assert second == {"a", "b"}
    assert third() == 3


def test_out_of_band_buffers():
    buffers = []
    data = pickling.dumps(pickle.PickleBuffer(b"large"), buffer_callback=buffers.append)
    assert bytes(pickling.loads(data, buffers=buffers)) == b"large"


def test_files_of_several_pickles(tmp_path):
    path = tmp_path / "pickles"
    with open(path, "wb") as file:
        for i in range(3):
            pickling.dump(i, file)
    with open(path, "rb") as file:
        assert [pickling.load(file) for _ in range(3)] == [0, 1, 2]
        with pytest.raises(EOFError):
            pickling.load(file)


@dataclasses.dataclass
class Point:
    x: int


class Color(enum.Enum):
    RED = 1


def test_importable_classes_go_by_name():
    assert type(again(Point(1))) is Point
    assert again(Color.RED) is Color.RED
    assert b"co_code" not in pickling.dumps(Point)
    assert len(pickling.dumps(Point)) < 120
