"""C code of numpy, pandas, orjson, msgpack and lxml over proxies, where these are installed.

The rules are those of `test_limits`: what a real object gives, or an error; never another answer. What
raises over a proxy alone is listed here, and in `docs/proxy-limits.md`.
"""

import io
import os
import sys
from pathlib import Path

import pytest

# numpy and pandas warn about things of their own while they are imported and used.
pytestmark = pytest.mark.filterwarnings("ignore")

DOC = Path(__file__).parents[2] / "docs" / "proxy-limits.md"
MARK = "\n## Other packages\n"
TITLE = """
What raises over a proxy among the uses of numpy, pandas, orjson, msgpack and lxml that
`tests/proxy/test_third_party.py` drives, the same on each Python. C code of other packages that takes
a tuple for one thing and any other sequence for another may take a proxy of a tuple for the latter.

| use | container | raises |
| --- | --- | --- |
"""

LIST, NESTED, TUPLE, DICT = [3, 1, 2], [[1, 2], [3, 4]], (3, 1, 2), {"a": 1, "b": 2}


def array(x, **options):
    a = sys.modules["numpy"].asarray(x, **options)
    return a.dtype.name, a.shape, a.tolist()


def assigned(np, key, value):
    a = np.zeros((4, 4, 4))
    a[key] = value
    return a.tolist()


def fast(np, x):
    return np.sort(x).tolist(), np.concatenate([x, x]).tolist(), np.stack([x, x]).tolist()


def element(etree, *args, **kwargs):
    return etree.tostring(etree.Element("e", *args, **kwargs))


def updated(etree, p):
    e = etree.Element("e")
    e.attrib.update(p)
    return etree.tostring(e)


def saved(np, p):
    np.savetxt(file := io.StringIO(), p)
    return file.getvalue()


# (module, use, what is done, objects, the error over a proxy if there is one)
USES = [
    ("numpy", "asarray", lambda np, p: array(p), [LIST, NESTED, TUPLE, {1, 2}, DICT, bytearray(b"ab")], None),
    ("numpy", "asarray(dtype=object)", lambda np, p: array(p, dtype=object), [LIST, DICT], None),
    ("numpy", "array[p]", lambda np, p: np.arange(64).reshape(4, 4, 4)[p].tolist(), [LIST, TUPLE, (1, 2), [1, 2], ((0, 1),)], None),
    ("numpy", "array.__getitem__(p)", lambda np, p: np.ndarray.__getitem__(np.arange(64).reshape(4, 4, 4), p).tolist(), [LIST, TUPLE], None),
    ("numpy", "matrix[p]", lambda np, p: np.matrix([[1, 2], [3, 4]])[p].tolist(), [(1, 0), [1, 0]], None),
    ("numpy", "masked_array[p]", lambda np, p: np.ma.masked_array(NESTED)[p].tolist(), [(1, 0), [1, 0]], None),
    ("numpy", "array[p] = 1", lambda np, p: assigned(np, p, 1), [LIST, TUPLE, (1, 2)], None),
    ("numpy", "array[...] = p", lambda np, p: assigned(np, 1, p), [[1, 2, 3, 4], (1, 2, 3, 4)], None),
    ("numpy", "zeros(p), reshape(p)", lambda np, p: np.zeros(p).reshape(p).shape, [[2, 3], (2, 3)], None),
    ("numpy", "transpose(p)", lambda np, p: np.zeros((2, 3)).transpose(p).shape, [(1, 0), [1, 0]], None),
    ("numpy", "sum(axis=p)", lambda np, p: np.ones((2, 3)).sum(axis=p).tolist(), [(1, 0)], "TypeError"),
    ("numpy", "array + p, p + array", lambda np, p: ((np.arange(3) + p).tolist(), (p + np.arange(3)).tolist()), [LIST, TUPLE], None),
    ("numpy", "sort, concatenate, stack", fast, [LIST, TUPLE], None),
    ("numpy", "fromiter, isin, dot, pad, where", lambda np, p: (np.fromiter(p, dtype=int).tolist(), np.isin([1, 9], p).tolist(), np.dot(p, p).item(), np.pad(p, 1).tolist(), np.where(p)[0].tolist()), [LIST, TUPLE], None),
    ("numpy", "array(structured)", lambda np, p: np.array(p, dtype="i4,i4").tolist(), [[(1, 2), (3, 4)]], None),
    ("numpy", "frombuffer", lambda np, p: np.frombuffer(p, dtype="u1").tolist(), [bytearray(b"abc")], None),
    ("numpy", "savetxt", saved, [LIST, NESTED], None),
    ("numpy", "dtype(p)", lambda np, p: str(np.dtype(p)), [[("a", "i4")], {"names": ["a"], "formats": ["i4"]}], "TypeError"),
    ("pandas", "Series, Index", lambda pd, p: (pd.Series(p).to_dict(), pd.Index(p).tolist()), [LIST, TUPLE], None),
    ("pandas", "Series(dict), map", lambda pd, p: (pd.Series(p).to_dict(), pd.Series(["a", "b"]).map(p).tolist()), [DICT], None),
    ("pandas", "DataFrame", lambda pd, p: pd.DataFrame(p).to_dict(), [NESTED, {"a": [1, 2], "b": [3, 4]}, [DICT, DICT]], None),
    ("pandas", "isin", lambda pd, p: pd.Series([1, 9]).isin(p).tolist(), [LIST, {1, 2}], None),
    ("pandas", "rename, agg", lambda pd, p: (list(pd.DataFrame({"a": [1]}).rename(columns=p)), pd.DataFrame({"k": [1, 1], "a": [2, 3]}).groupby("k").agg(p).to_dict()), [{"a": "sum"}], None),
    ("pandas", "json_normalize", lambda pd, p: pd.json_normalize(p).to_dict(), [{"a": {"b": 1}}], None),
    ("pandas", "frame[p]", lambda pd, p: pd.DataFrame({"a": [1], "b": [2]})[p].to_dict(), [["a", "b"]], "TypeError"),
    ("pandas", "series.loc[p]", lambda pd, p: pd.Series([1, 2, 3]).loc[p].tolist(), [[0, 2]], "TypeError"),
    ("orjson", "dumps", lambda orjson, p: orjson.dumps(p), [LIST, DICT, TUPLE], "TypeError"),
    ("orjson", "dumps(default=list)", lambda orjson, p: orjson.dumps(p, default=list), [LIST, TUPLE], None),
    ("msgpack", "packb", lambda msgpack, p: msgpack.packb(p), [LIST, DICT, TUPLE, bytearray(b"abc")], "TypeError"),
    ("msgpack", "packb(default=list)", lambda msgpack, p: msgpack.packb(p, default=list), [LIST, TUPLE], None),
    ("msgpack", "packb(strict_types)", lambda msgpack, p: msgpack.packb(p, strict_types=True), [LIST, DICT], "TypeError"),
    ("lxml.etree", "Element(attrib)", lambda etree, p: element(etree, p) + element(etree, **p), [{"a": "1"}], None),
    ("lxml.etree", "Element(nsmap)", lambda etree, p: element(etree, nsmap=p), [{"x": "u"}], None),
    ("lxml.etree", "fromstring", lambda etree, p: etree.tostring(etree.fromstring(p)), [bytearray(b"<a/>")], None),
    ("lxml.etree", "fromstringlist", lambda etree, p: etree.tostring(etree.fromstringlist(p)), [["<a>", "</a>"]], None),
    ("lxml.etree", "xpath(namespaces)", lambda etree, p: len(etree.fromstring('<x:a xmlns:x="u"/>').xpath("/x:a", namespaces=p)), [{"x": "u"}], "ValueError"),
    ("lxml.etree", "attrib.update", updated, [{"x": "u"}], "ValueError"),
]  # fmt: skip


def outcome(use, module, value):
    try:
        return "gives", use(module, value)
    except Exception as error:
        return "raises", type(error).__name__


@pytest.mark.parametrize(
    ("name", "use", "objects", "error"),
    [(name, use, objects, error) for name, _, use, objects, error in USES],
    ids=[f"{name}: {what}" for name, what, *_ in USES],
)
def test_a_use_of_a_proxy(name, use, objects, error, proxy_of):
    module = pytest.importorskip(name, reason=f"{name} is not installed", exc_type=ImportError)
    for obj in objects:
        real = outcome(use, module, obj)
        ours = outcome(use, module, proxy_of(obj))
        if error is not None:
            assert real[0] == "gives"
            assert ours == ("raises", error)
        else:
            assert repr(ours) == repr(real)
            assert type(ours[1]) is type(real[1])


@pytest.mark.parametrize("proxy_first", [True, False])
def test_numpy_may_come_before_the_first_proxy_and_after(proxy_first, run):
    pytest.importorskip("numpy", reason="numpy is not installed", exc_type=ImportError)
    imports = [
        "from objspace.tputil import *; p = make_proxy(delegate, obj=(1, 2))",
        "import numpy",
    ]
    program = "\n".join(imports if proxy_first else reversed(imports))
    out = run(program + "\nprint(numpy.arange(16).reshape(4, 4)[p])")
    assert out == "6\n"


def test_without_numpy_the_finder_stays_out_of_the_way(run):
    out = run(
        """
        import sys
        from objspace.tputil import delegate, make_proxy
        make_proxy(delegate, obj=())
        before = list(sys.meta_path)
        sys.path[:] = []
        try:
            import numpy
        except ModuleNotFoundError as error:
            print(error, sys.meta_path == before)
        """
    )
    assert out == "No module named 'numpy' True\n"


def test_the_table_is_up_to_date():
    rows = "".join(
        f"| `{name}`: `{what}` | {', '.join(sorted({type(obj).__name__ for obj in objects}))} | {error} |\n"
        for name, what, _, objects, error in USES
        if error is not None
    )
    text = DOC.read_text()
    if os.environ.get("OBJSPACE_WRITE_DOCS"):
        text = text.split(MARK)[0] + MARK + TITLE + rows
        DOC.write_text(text)
    assert text.split(MARK)[1:] == [TITLE + rows]
