"""Code by reference and by value, the header, signatures, and what a pickle may name."""

import dis
import hashlib
import hmac
import io
import pickle
import re
import struct
import sys
import types

import pytest
from objspace import _pickles, pickling

SOURCE = """
class Thing:
    @property
    def value(self):
        for i in range(3):
            yield i

def count(n):
    for i in range(n):
        yield i

def nested():
    def inside():
        yield 1
        yield 2
    return inside

lam = lambda: (yield 5)
table = {"k": [lambda: (yield 1), lambda: (yield 2)]}

def decorated(f):
    import functools
    @functools.wraps(f)
    def wrapper(*args):
        yield "before"
        yield from f(*args)
    return wrapper

@decorated
def wrapped():
    yield 7

def consts():
    yield 1 if 3 in {1, 2, 3} else 0
    yield (1.0, -0.0, 1j, b"x", "\\udc80", ..., None, True, (1, (2, 3)))
"""


def begun(generator):
    next(generator)
    return generator


def size_of_code(data):
    return data.count(b"code_value")


def test_every_kind_of_code_goes_by_reference(module, elsewhere):
    made = module(SOURCE)
    generators = [
        begun(made.Thing().value),
        begun(made.count(3)),
        begun(made.nested()()),
        begun(made.lam()),
        begun(made.table["k"][1]()),
        begun(made.wrapped()),
        begun(made.consts()),
    ]
    data = pickling.dumps(generators)
    assert b"code_value" not in data
    printed = elsewhere(data, "print([list(g) for g in value])", module.path)
    rests = [list(g) for g in generators]
    assert rests == [[1, 2], [1, 2], [2], [], [], [7], rests[6]]
    assert printed == f"{rests}\n"


def test_code_that_is_loaded_by_reference_is_the_code_that_is_in_use(module):
    made = module(SOURCE)
    copy = pickling.loads(pickling.dumps(begun(made.count(3))))
    assert copy.gi_code is made.count.__code__


def test_an_edited_comment_or_another_place_changes_nothing(module, elsewhere):
    made = module(SOURCE)
    data = pickling.dumps(begun(made.count(4)))
    other = module.folder / "elsewhere"
    other.mkdir()
    (other / f"{made.__name__}.py").write_text("# A comment.\n\n" + SOURCE)
    printed = elsewhere(data, "print(list(value), value.gi_code.co_filename)", [str(other)])
    assert printed.startswith("[1, 2, 3] ")
    assert "elsewhere" in printed


def test_changed_code_is_a_clear_error(module, elsewhere):
    made = module(SOURCE)
    data = pickling.dumps(begun(made.count(4)))
    other = module.folder / "elsewhere"
    other.mkdir()
    file = other / f"{made.__name__}.py"
    code = """
    """
    program = "pass"
    for text, message in [
        (SOURCE.replace("yield i\n\ndef nested", "yield i + 1\n\ndef nested"), "is different here"),
        ("", "is not in the module"),
    ]:
        file.write_text(text)
        with pytest.raises(AssertionError) as caught:
            elsewhere(data, program + code, [str(other)])
        assert "UnpicklingError: the code of " in str(caught.value)
        assert f"{made.__name__}.count" in str(caught.value)
        assert message in str(caught.value)


def test_code_by_value_needs_no_module(module, elsewhere):
    made = module(SOURCE)
    function = made.count
    data = pickling.dumps(function.__code__, code="value")
    printed = elsewhere(data, "import types; print(list(types.FunctionType(value, globals())(3)))")
    assert printed == "[0, 1, 2]\n"
    copy = pickling.loads(data)
    assert copy == function.__code__
    assert copy is not function.__code__
    assert list(copy.co_lines()) == list(function.__code__.co_lines())


def test_old_code_travels_by_value_when_its_file_has_changed(module, elsewhere):
    made = module(SOURCE)
    (module.folder / f"{made.__name__}.py").write_text(SOURCE.replace("yield i", "yield -i"))
    data = pickling.dumps(begun(made.count(4)))
    assert size_of_code(data) == 1
    assert elsewhere(data, "print(list(value))", module.path) == "[1, 2, 3]\n"


def test_by_reference_or_not_at_all(module):
    made = module(SOURCE)
    pickling.dumps(begun(made.count(3)), code="reference")
    code = compile("def f():\n yield 1\n", "<here>", "exec")
    namespace = {"__name__": made.__name__}
    exec(code, namespace)
    with pytest.raises(pickling.PicklingError, match="cannot be pickled by reference"):
        pickling.dumps(namespace["f"].__code__, code="reference")
    with pytest.raises(ValueError, match='"auto", "reference" or "value"'):
        pickling.dumps(1, code="some")


def test_specialised_code_has_the_same_hash_and_bytes():
    def hot(n):
        total = 0
        for i in range(n):
            total += i * 2
        return total

    before = pickling.dumps(hot.__code__, code="value"), _pickles.code_hash(hot.__code__)
    for _ in range(100):
        hot(100)
    if sys.version_info >= (3, 11):
        quickened = [i.opname for i in dis.get_instructions(hot, adaptive=True)]
        assert any("INT" in name or "RANGE" in name for name in quickened), quickened
    assert pickling.dumps(hot.__code__, code="value") == before[0]
    assert _pickles.code_hash(pickling.loads(before[0])) == before[1]


def make(source):
    return compile(source, "<x>", "eval")


def test_the_hash_tells_constants_apart():
    sources = [
        "1",
        "1.0",
        "True",
        "'1'",
        "b'1'",
        "1j",
        "(1,)",
        "x in {1}",
        "x in {2}",
        "0.0",
        "-0.0",
    ]
    hashes = {bytes(_pickles.code_hash(make(source))) for source in sources}
    assert len(hashes) == len(sources)


def test_the_hash_does_not_depend_on_the_order_of_sets(python):
    program = """
    from objspace import _pickles
    code = compile("x in {'a', 'b', 'c', 'd', 'e', 'f'}", "<x>", "eval")
    print(_pickles.code_hash(code).hex())
    """
    import os

    printed = {
        python(program, env={**os.environ, "PYTHONHASHSEED": str(n)}).stdout for n in range(4)
    }
    assert len(printed) == 1


def test_code_whose_bytes_were_changed_is_refused():
    code = make("1 + x")
    fields = list(_reduced(code)[1][1])
    digest = _reduced(code)[1][0]
    assert _pickles.code_value(digest, tuple(fields)) == code
    for index, value in [(6, b"\x00" * len(fields[6])), (7, (2,)), (8, ("y",)), (4, 50)]:
        changed = list(fields)
        changed[index] = value
        with pytest.raises(pickling.UnpicklingError, match=r"hash|code by value"):
            _pickles.code_value(digest, tuple(changed))
    deep = ()
    for _ in range(200_000):
        deep = (deep,)
    changed = list(fields)
    changed[7] = deep
    with pytest.raises(pickling.UnpicklingError, match="within each other"):
        _pickles.code_value(digest, tuple(changed))
    # Taken apart from the outside, so that no destructor recurses.
    while deep:
        (deep,) = deep
    with pytest.raises(pickling.UnpicklingError, match="18 fields"):
        _pickles.code_value(digest, ())


def _reduced(code):
    from objspace._core import Reducer

    return Reducer("value")(code)


def test_repeated_frames_are_small(module):
    made = module(SOURCE)
    sizes = []
    for n in (10, 110):
        sizes.append(len(pickling.dumps([begun(made.count(3)) for _ in range(n)])))
    locals_of_one = len(pickle.dumps((3, iter(range(3)), 0))) - len(pickle.dumps(()))
    each = (sizes[1] - sizes[0]) / 100
    assert each - locals_of_one <= 60
    data = pickling.dumps(begun(made.count(3)), code="value")
    several = pickling.dumps([begun(made.count(3)) for _ in range(11)], code="value")
    assert (len(several) - len(data)) / 10 - locals_of_one <= 60


# -- the header -----------------------------------------------------------------------------------


def test_the_header_names_both_versions():
    data = bytearray(pickling.dumps(1))
    assert data[:5] == b"\xf0OSP\x01"
    tag = sys.implementation.cache_tag.encode()
    at = data.index(tag)
    other = bytes(data).replace(tag, tag[:-1] + b"0", 1)
    with pytest.raises(pickling.UnpicklingError) as caught:
        pickling.loads(other)
    assert sys.implementation.cache_tag in str(caught.value)
    assert sys.implementation.cache_tag[:-1] + "0" in str(caught.value)
    number = bytearray(data)
    number[at + len(tag)] ^= 1
    with pytest.raises(
        pickling.UnpicklingError, match=r"bytecode \w{8}\), this is .*bytecode \w{8}"
    ):
        pickling.loads(bytes(number))
    data[4] = 9
    with pytest.raises(pickling.UnpicklingError, match=r"of format 9.*reads format 1"):
        pickling.loads(bytes(data))


@pytest.mark.parametrize("key", [None, b"key"])
def test_every_damaged_byte_is_noticed(key):
    data = pickling.dumps([1, "two"], key=key)
    for position in range(len(data)):
        changed = bytearray(data)
        changed[position] ^= 0x10
        with pytest.raises(
            (pickling.UnpicklingError, pickle.UnpicklingError, KeyError, ValueError)
        ):
            pickling.loads(bytes(changed), key=key)
    for end in range(len(data)):
        with pytest.raises((pickling.UnpicklingError, EOFError)):
            pickling.loads(data[:end], key=key)


def test_signatures():
    data = pickling.dumps("value", key=b"secret")
    assert pickling.loads(data, key=b"secret") == "value"
    with pytest.raises(pickling.UnpicklingError, match="does not fit"):
        pickling.loads(data, key=b"other")
    with pytest.raises(pickling.UnpicklingError, match="takes the key"):
        pickling.loads(data)
    with pytest.raises(pickling.UnpicklingError, match="not signed"):
        pickling.loads(pickling.dumps("value"), key=b"secret")
    with pytest.raises(pickling.UnpicklingError, match="ordinary pickle"):
        pickling.loads(pickle.dumps("value"), key=b"secret")
    with pytest.raises(ValueError, match="must not be empty"):
        pickling.dumps("value", key=b"")
    payload = data[len(data) - len(pickle.dumps("value", 5)) :]
    header = data[: len(data) - len(payload) - 32]
    seal = data[len(header) : len(header) + 32]
    assert seal == hmac.new(b"secret", header + payload, hashlib.sha256).digest()
    file = io.BytesIO()
    pickling.dump("value", file, key=b"k")
    file.seek(0)
    assert pickling.load(file, key=b"k") == "value"


def test_sizes_are_bounded(tmp_path):
    data = pickling.dumps(b"x" * 1000)
    with pytest.raises(pickling.UnpicklingError, match=r"1\d\d\d bytes, 500 are allowed"):
        pickling.loads(data, limit=500)
    with pytest.raises(pickling.UnpicklingError, match="500 are allowed"):
        pickling.load(io.BytesIO(data), limit=500)
    assert pickling.loads(data, limit=2000)
    header = len(data) - len(pickle.dumps(b"x" * 1000, 5)) - 12
    huge = data[:header] + struct.pack("<Q", 2**62) + data[header + 8 :]
    with pytest.raises(EOFError):
        pickling.load(io.BytesIO(huge))
    with pytest.raises(pickling.UnpicklingError, match="shorter than its header says"):
        pickling.loads(huge)


# -- what a pickle may name -----------------------------------------------------------------------


def test_allow_lists_modules(module):
    made = module(SOURCE)
    generator = begun(made.count(4))
    data = pickling.dumps([generator, {1, 2}, ValueError("x"), iter([1])])
    value = pickling.loads(data, allow=[made.__name__])
    assert list(value[0]) == [1, 2, 3]
    with pytest.raises(
        pickling.UnpicklingError, match=f"module {made.__name__}, which allow= does not"
    ):
        pickling.loads(data, allow=["other"])
    file = io.BytesIO(data)
    assert list(pickling.load(file, allow=[made.__name__])[0]) == [1, 2, 3]
    with pytest.raises(TypeError, match="list of names"):
        pickling.loads(data, allow=made.__name__)


def test_allow_refuses_code_by_value(module):
    made = module(SOURCE)
    for value in (begun(made.count(4)), made.count.__code__):
        data = pickling.dumps(value, code="value")
        pickling.loads(data)
        with pytest.raises(pickling.UnpicklingError, match="code by value"):
            pickling.loads(data, allow=[made.__name__])


def by_hand(module, name, *arguments):
    """A pickle that calls a function of that name."""
    call = b"".join(pickle.dumps(a, 2)[2:-1] for a in arguments)
    return (
        b"\x80\x04"
        + b"".join(b"\x8c" + bytes([len(t)]) + t.encode() for t in (module, name))
        + b"\x93("
        + call
        + b"tR."
    )


@pytest.mark.parametrize(
    "call",
    [
        ("os", "system", "true"),
        ("builtins", "eval", "1"),
        ("builtins", "getattr", 1, "real"),
        ("made_0", "os.system", "true"),
        ("made_0", "system", "true"),
        ("made_0", "f.__globals__.get", "x"),
        ("objspace._pickles", "module_globals", "os"),
        ("objspace._pickles", "import_module", "os"),
        ("objspace._pickles", "function_reference", "os", "system", ""),
        ("objspace._pickles", "attribute", 1, "__class__"),
        ("objspace._pickles", "open_file", "/etc/passwd", "FileIO", "rb", 0, {}),
        ("objspace._pickles", "itself.__class__", 1),
    ],
    ids=lambda call: ".".join(call[:2]),
)
def test_nothing_else_can_be_reached_by_name(module, call):
    made = module("import os\nfrom os import system\ndef f(): pass\n", "made_0")
    data = by_hand(*call)
    with pytest.raises(pickling.UnpicklingError):
        pickling.loads(data, allow=[made.__name__])


def test_the_rule_ends_with_the_load():
    with pytest.raises(pickling.UnpicklingError):
        pickling.loads(by_hand("os", "getpid"), allow=[])
    assert pickling.loads(by_hand("os", "getpid")) > 0
    assert pickling.loads(pickling.dumps(re)) is re
    assert isinstance(pickling.loads(pickling.dumps(types)), types.ModuleType)
