"""Pickles that are written and read without CPython's pickler: the same as those that it writes."""

import contextlib
import copyreg
import gc
import importlib
import pickle
import subprocess
import sys
import types

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from objspace import pickling
from objspace._core import read_directly, unwrap_pickle, write_directly

SOURCE = """
import functools

def count(values, extra=None):
    total = 0
    for value in values:
        total += value
        yield total, extra

def handling(values):
    try:
        raise LookupError("handled")
    except LookupError:
        for value in values:
            yield value

def closing():
    seen = []
    def see(value):
        seen.append(value)
        return seen
    while True:
        see((yield seen))

def holding(values):
    itself = [(yield)]
    held = (len, dict, functools, count, itself)
    for value in values:
        yield held
        itself.append(value)

async def waiting(kind):
    return await kind()

async def outer():
    return await waiting(Pause)

async def stream(values):
    for value in values:
        yield value

def paused():
    got = yield "paused"
    return got

class Pause:
    __await__ = lambda self: paused()

class Held:
    def method(self):
        return self

def depth(n, capture):
    if n:
        found = depth(n - 1, capture)
        return n, found
    return capture()
"""


@pytest.fixture(scope="module")
def code(tmp_path_factory):
    """A module that can be imported, so that its code goes by reference."""
    folder = tmp_path_factory.mktemp("direct")
    (folder / "direct_code.py").write_text(SOURCE)
    sys.path.insert(0, str(folder))
    yield importlib.import_module("direct_code")
    sys.path.remove(str(folder))
    del sys.modules["direct_code"]


def parts(value):
    """What a value consists of, for comparing: plain content, and other values."""
    kind = type(value)
    if kind in (list, tuple):
        return None, list(value)
    if kind is dict:
        return None, [part for item in value.items() for part in item]
    if kind in (set, frozenset):
        return None, sorted(value, key=repr)
    if kind is slice:
        return None, [value.start, value.stop, value.step]
    if kind in (types.GeneratorType, types.CoroutineType, types.AsyncGeneratorType):
        prefix = {"g": "gi", "c": "cr", "a": "ag"}[kind.__name__[0]]
        frame = getattr(value, f"{prefix}_frame")
        code = getattr(value, f"{prefix}_code")
        own = code, value.__name__, value.__qualname__
        return (own, frame and frame.f_lasti), [frame and dict(frame.f_locals)]
    if kind is types.CellType:
        try:
            return None, [value.cell_contents]
        except ValueError:
            return "empty", []
    if kind.__name__.endswith("iterator") or kind in (enumerate, zip):
        return None, list(value.__reduce__()[1:])
    return (repr(value), value) if kind is bytearray else repr(value), []


def assert_same(first, second):
    """Both values are of the same types and contents, and what is shared in one is shared in both."""
    pairs, waiting = {}, [(first, second)]
    back = {}
    alive = []
    while waiting:
        one, other = waiting.pop()
        assert type(one) is type(other)
        if one is other:
            continue
        alive.append((one, other))
        # Numbers are not shared by pickles, nor empty tuples by anybody but the interpreter.
        if type(one) not in (int, float, bool) and one != ():
            if id(one) in pairs:
                assert pairs[id(one)] == id(other)
                continue
            assert back.setdefault(id(other), id(one)) == id(one)
            pairs[id(one)] = id(other)
        (content, inner), (other_content, other_inner) = parts(one), parts(other)
        assert content == other_content
        assert len(inner) == len(other_inner)
        waiting += zip(inner, other_inner, strict=True)


def by_pickler(value, mode="auto"):
    data = pickling._dumps_by_pickler(value, 5, True, None, mode, None)
    begin, end = unwrap_pickle(data)
    return data[begin:end]


def by_unpickler(payload):
    return pickling._load_payload(payload, None, True, "ASCII", "strict", None)


def check(value):
    """Writes a value in both ways, and reads each in both."""
    direct = write_directly(value)
    assert direct is not None
    general = by_pickler(value)
    expected = by_unpickler(general)
    (read,) = read_directly(direct)
    assert_same(expected, read)
    assert_same(expected, by_unpickler(direct))
    # The pickler's own are read directly too, if they are in one frame and of known instructions.
    if (also := read_directly(general)) is not None:
        assert_same(expected, also[0])
    return read


hashable = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-(1 << 63), (1 << 63) - 1),
        st.integers(-300, 70_000),
        st.floats(allow_nan=False),
        st.text(st.characters(exclude_categories=["Cs"]), max_size=300),
        st.binary(max_size=300),
        st.sampled_from([2**k + d for k in (7, 8, 15, 16, 31, 32, 62) for d in (-1, 0, 1)]),
        st.sampled_from([-(2**k) + d for k in (7, 8, 15, 31, 63) for d in (0, 1)]),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=5).map(tuple),
        st.frozensets(inner, max_size=4),
    ),
    max_leaves=8,
)


@st.composite
def graphs(draw):
    """Values that refer to each other in any way."""
    made = [draw(hashable)]
    for _ in range(draw(st.integers(1, 12))):
        inner = st.one_of(hashable, st.sampled_from(range(len(made))).map(made.__getitem__))
        few = draw(st.lists(inner, max_size=6))
        kind = draw(st.integers(0, 9))
        if kind == 0:
            made.append(few)
        elif kind == 1:
            made.append(tuple(few))
        elif kind == 2:
            keys = draw(st.lists(hashable, min_size=len(few), max_size=len(few)))
            made.append(dict(zip(keys, few, strict=True)))
        elif kind == 3:
            made.append(set(draw(st.lists(hashable, max_size=5))))
        elif kind == 4:
            made.append(bytearray(draw(st.binary(max_size=20))))
        elif kind == 5:
            iterator = iter(few)
            for _ in zip(range(draw(st.integers(0, len(few) + 1))), iterator, strict=False):
                pass
            made.append(iterator)
        elif kind == 6:
            made.append(iter(tuple(few)))
        elif kind == 7:
            limits = draw(st.tuples(st.integers(-9, 9), st.integers(-9, 9), st.integers(1, 3)))
            made.append(draw(st.sampled_from([range, slice, lambda *a: iter(range(*a))]))(*limits))
        elif kind == 8:
            made.append(draw(st.sampled_from([enumerate, reversed, zip]))(few))
        elif made and type(made[-1]) is list:
            made[-1].append(made)
    made.append(made[0])
    return made


@settings(max_examples=300, deadline=None)
@given(graphs())
def test_values_are_the_same_in_both_ways(value):
    check(value)


def test_what_contains_itself():
    tuple_in_list = ([],)
    tuple_in_list[0].append(tuple_in_list)
    five = ([], 1, 2, 3, 4)
    five[0].append(five)
    list_in_list = []
    list_in_list.append(list_in_list)
    table = {}
    table["itself"] = table
    iterated = []
    iterated.append(iter(iterated))
    for value in (tuple_in_list, five, list_in_list, table, iterated):
        read = check([value, value])
        assert read[0] is read[1]
    read = check(five)
    assert read[0][0] is read


def test_generators(code):
    shared = [1, 2, 3]
    one, two = code.count(shared, "extra"), code.count(shared, [shared])
    next(one)
    finished = code.count(())
    list(finished)
    renamed = code.count(shared)
    renamed.__name__ = "other"
    handling = code.handling(shared)
    next(handling)
    fresh = code.count(range(3))
    read = check([one, two, finished, renamed, fresh, shared])
    assert next(read[0]) == (3, "extra")
    assert [total for total, _ in read[1]] == [1, 3, 6]
    assert list(read[2]) == []
    assert read[3].__name__ == "other"
    assert next(read[1], None) is None
    # The exception that is handled is one that the pickler has to take apart.
    assert write_directly(handling) is None
    assert list(pickling.loads(pickling.dumps(handling))) == [2, 3]


def test_cells_functions_classes_modules_and_what_refers_to_itself(code):
    closing = code.closing()
    next(closing)
    closing.send(1)
    # The inner function is of no module.
    assert write_directly(closing) is None
    read = pickling.loads(pickling.dumps(closing))
    assert read.send(2) == [1, 2]
    cells = [types.CellType(), types.CellType(None), types.CellType([1])]
    cells.append(types.CellType(cells))
    read = check(cells)
    assert read[3].cell_contents is read
    holding = code.holding([1, 2])
    next(holding)
    holding.send(holding)
    read = check(holding)
    assert next(read)[4] == [read, 1]
    check([code.Held, code.Held.method, code, len, int, sys, types.SimpleNamespace])


def test_coroutines(code):
    awaiting = code.waiting(code.outer)
    assert awaiting.send(None) == "paused"
    assert write_directly(awaiting) is not None
    (read,) = read_directly(write_directly(awaiting))
    for coroutine in (awaiting, read):
        with pytest.raises(StopIteration) as stopped:
            coroutine.send(5)
        assert stopped.value.value == 5
    streaming = code.stream([1, 2])
    with pytest.raises(StopIteration):
        streaming.asend(None).send(None)
    read = check(streaming)
    with pytest.raises(StopIteration) as stopped:
        read.asend(None).send(None)
    assert stopped.value.value == 2


def test_chains(code):
    captured = pickling.run(code.depth, 5, pickling.capture)
    while type(captured) is tuple:
        captured = captured[1]
    direct = write_directly(captured)
    assert direct is not None
    general = by_pickler(captured)
    assert len(direct) < len(general)
    for read in (read_directly(direct)[0], by_unpickler(direct), read_directly(general)[0]):
        assert read.resume("end") == (5, (4, (3, (2, (1, "end")))))
    captured.note = "attributes are for the pickler"
    assert write_directly(captured) is None
    assert pickling.loads(pickling.dumps(captured)).note == captured.note


class Many(list):
    pass


@pytest.mark.parametrize(
    "value",
    [Many([1]), 1 << 64, "\ud800", 1j, object(), ValueError(1), lambda: 1, type(None), [].append],
)
def test_what_is_not_known_is_left_to_the_pickler(value):
    assert write_directly([1, value]) is None
    assert type(pickling.loads(pickling.dumps(value))) is type(value)


def test_reducers_of_the_user_are_asked(code):
    generator = code.count([1])
    iterator = iter([1, 2])
    assert write_directly([generator, iterator]) is not None
    pickling.register(types.GeneratorType, lambda generator: (str, (generator.__name__,)))
    try:
        assert write_directly(generator) is None
        assert write_directly(iterator) is not None
        assert pickling.loads(pickling.dumps(generator)) == "count"
    finally:
        pickling.register(types.GeneratorType, None)
    assert write_directly(generator) is not None
    copyreg.pickle(type(len), lambda function: (str, ("function",)))
    try:
        assert write_directly(len) is None
        assert pickling.loads(pickling.dumps(len)) == "function"
    finally:
        del copyreg.dispatch_table[type(len)]
    kind = type(iterator)
    before = copyreg.dispatch_table.get(kind)
    copyreg.pickle(kind, lambda iterator: (str, ("iterator",)))
    try:
        assert write_directly(iterator) is None
        assert pickling.loads(pickling.dumps(iterator)) == "iterator"
    finally:
        del copyreg.dispatch_table[kind]
        if before is not None:
            copyreg.dispatch_table[kind] = before


def test_other_protocols_and_options_are_the_pickler_s(code):
    generator = code.count([1])
    for protocol in (2, 3, 4, 5, -1, None):
        data = pickling.dumps(generator, protocol)
        assert next(pickling.loads(data)) == (1, None)
        begin, _ = unwrap_pickle(data)
        assert data[begin + 1] == (protocol if protocol in (2, 3, 4) else 5)
    buffers = []
    value = pickle.PickleBuffer(b"out of band")
    data = pickling.dumps([value], buffer_callback=buffers.append)
    assert buffers == [value]
    assert pickling.loads(data, buffers=buffers) == [value]
    with pytest.raises(ValueError, match="code="):
        pickling.dumps(1, code="other")
    with pytest.raises(ValueError, match="protocol"):
        pickling.dumps(1, 99)
    with pytest.raises(TypeError):
        pickling.dumps(1, "5")


def test_deep_and_large_data_is_left_to_the_pickler():
    nested = []
    for _ in range(150):
        nested = [nested]
    assert write_directly(nested) is None
    assert pickling.loads(pickling.dumps(nested)) == nested
    numbers = list(range(200_000))
    assert write_directly(numbers) is None
    assert pickling.loads(pickling.dumps(numbers)) == numbers
    large = ["x" * 1000 + str(number) for number in range(1000)]
    assert write_directly(large) is None
    assert pickling.loads(pickling.dumps(large)) == large
    for _ in range(1000):
        nested = [nested]
    depth = 0
    nested = pickling.loads(write_deep(5_000))
    while nested:
        nested, depth = nested[0], depth + 1
    assert depth == 5_000


def write_deep(depth):
    """A pickle of lists in each other, made by hand: reading does not nest."""
    payload = b"]" * (depth + 1) + b"a" * depth + b"."
    payload = b"\x80\x05\x95" + len(payload).to_bytes(8, "little") + payload
    from objspace._core import wrap_pickle

    return wrap_pickle(payload)


def test_names_are_audited_and_looked_up_as_pickle_does_it(code):
    data = pickling.dumps([code.count([1]), code.Held.method])
    script = f"""
import sys
sys.path.insert(0, {str(next(iter(p for p in sys.path if "direct" in p)))!r})
from objspace import pickling
from objspace._core import read_directly, unwrap_pickle
data = {data!r}
begin, end = unwrap_pickle(data)
payload = data[begin:end]
import direct_code
seen = []
sys.addaudithook(lambda event, args: event == "pickle.find_class" and seen.append(args))
assert read_directly(payload) is not None
direct, seen[:] = list(seen), []
pickling._load_payload(payload, None, True, "ASCII", "strict", None)
assert direct == seen, (direct, seen)
assert ("direct_code", "Held.method") in seen
for name in (b"Held.nothing", b"nothing", b"<locals>.no"):
    wrong = payload.replace(b"\\x0bHeld.method", bytes([len(name)]) + name)
    wrong = wrong[:3] + (len(wrong) - 11).to_bytes(8, "little") + wrong[11:]
    texts = []
    for load in (read_directly, lambda p: pickling._load_payload(p, None, True, "ASCII", "strict", None)):
        try:
            load(wrong)
        except AttributeError as error:
            texts.append(str(error))
    # What is wrong with a local name, CPython says differently from version to version.
    assert len(texts) == 2 and (texts[0] == texts[1] or b"local" in name), texts
print("fine")
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    assert done.stdout == "fine\n", done.stderr


@pytest.mark.parametrize(
    "instructions",
    [
        b"",
        b".",
        b"0.",
        b"1.",
        b"t.",
        b"(0.",
        b"(1.",
        b"N(0.",
        b"N(\x85.",
        b"N(R.",
        b"NN\x93.",
        b"h\x00.",
        b"j\xff\xff\xff\xff.",
        b"Na.",
        b"]Nu.",
        b"}(Nu.",
        b"}Ns.",
        b"N)R.",
        b"NNR.",
        b"NNb.",
        b"]N(b.",
        b"]N(a.",
        b"\x91.",
        b"\x94.",
        b"K",
        b"\x8c\x05ab.",
        b"X\xff\xff\xff\xffab.",
        b"\x96\xff\xff\xff\xff\xff\xff\xff\xffab.",
        b"\x8a\x09123456789.",
        b"\x8c\x02\xff\xff.",
    ],
)
def test_instructions_that_do_not_fit_together_are_errors(instructions):
    frame = b"\x95" + len(instructions).to_bytes(8, "little")
    payload = b"\x80\x05" + frame + instructions
    for load in (read_directly, by_unpickler):
        with contextlib.suppress(Exception):
            assert load(payload) in (None, (0x393837363534333231,), 0x393837363534333231), load


def test_a_module_that_was_replaced_or_loaded_again(tmp_path, monkeypatch):
    path = tmp_path / "direct_changing.py"
    path.write_text("def count():\n    yield 1\n    yield 2\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    module = importlib.import_module("direct_changing")
    generator = module.count()
    next(generator)
    assert write_directly(generator) is not None
    path.write_text("def count():\n    yield 1\n    yield 'changed'\n")
    importlib.invalidate_caches()
    module = importlib.reload(module)
    # The loader finds other code now: by reference the other side would find that.
    payload = write_directly(generator)
    assert payload is None or b"code_value" in payload
    assert next(pickling.loads(pickling.dumps(generator))) == 2
    new = module.count()
    next(new)
    assert b"code_reference" in write_directly(new)
    monkeypatch.delitem(sys.modules, "direct_changing")
    again = importlib.import_module("direct_changing")
    assert again is not module
    # Its globals are those of no module that could be imported.
    assert b"module_globals" not in (write_directly(new) or b"")
    assert next(pickling.loads(pickling.dumps(new))) == "changed"
    other = again.count()
    assert b"module_globals" in write_directly(other)


def test_many_rounds_leave_nothing_behind(code):
    shared = {"list": [1, 2], "text": "text"}
    generator = code.count([1, 2, 3], shared)
    next(generator)
    value = [generator, iter([1]), code.Held, {1, 2}]
    modules = set(sys.modules)

    def rounds(number):
        for _ in range(number):
            pickling.loads(pickling.dumps(value))
            write_directly([value, object()])
        gc.collect()
        return len(gc.get_objects()), sys.getrefcount(generator), sys.getrefcount(shared)

    objects, *references = rounds(100)
    after, *references_after = rounds(10_000)
    assert references_after == references
    # Not one object for each round; the interpreter makes and drops a few of its own.
    assert after < objects + 100
    assert set(sys.modules) == modules
