"""Iterators and views: they keep their position, and share what they are over."""

import collections
import copy as copying
import itertools
import pickle
import sys
import warnings

import pytest
from objspace import pickling


def again(value, **options):
    return pickling.loads(pickling.dumps(value, **options))


D = dict(enumerate("abcdef"))
ITERATORS = {
    "list": lambda: iter([1, 2, 3, 4, 5]),
    "tuple": lambda: iter((1, 2, 3, 4)),
    "str": lambda: iter("abcdé"),
    "bytes": lambda: iter(b"abcd"),
    "bytearray": lambda: iter(bytearray(b"abcd")),
    "range": lambda: iter(range(5)),
    "large range": lambda: iter(range(2**70, 2**70 + 5)),
    "set": lambda: iter({1, 2, 3, 4}),
    "frozenset": lambda: iter(frozenset("abcd")),
    "dict": lambda: iter(dict(D)),
    "dict values": lambda: iter(dict(D).values()),
    "dict items": lambda: iter(dict(D).items()),
    "reversed dict": lambda: reversed(dict(D)),
    "reversed values": lambda: reversed(dict(D).values()),
    "reversed items": lambda: reversed(dict(D).items()),
    "ordered dict": lambda: iter(collections.OrderedDict(D)),
    "deque": lambda: iter(collections.deque("abcd")),
    "reversed list": lambda: reversed([1, 2, 3, 4]),
    "reversed tuple": lambda: reversed((1, 2, 3, 4)),
    "enumerate": lambda: enumerate("abcd"),
    "zip": lambda: zip("abcd", [1, 2, 3, 4]),  # noqa: B905
    "zip strict": lambda: zip("abc", [1, 2, 3], strict=True),
    "map": lambda: map(str, range(5)),
    "filter": lambda: filter(None, [1, 0, 2, 0, 3, 4]),
    "callable": lambda: iter([3, 2, 1, 0].pop, 3),
    "getitem": lambda: iter(Sequence()),
    "accumulate": lambda: itertools.accumulate(range(6)),
    "chain": lambda: itertools.chain("ab", [1, 2]),
    "chain from iterable": lambda: itertools.chain.from_iterable(iter(["ab", "cd"])),
    "combinations": lambda: itertools.combinations("abcd", 2),
    "combinations with": lambda: itertools.combinations_with_replacement("abc", 2),
    "compress": lambda: itertools.compress("abcdef", [1, 0, 1, 1, 1]),
    "count": lambda: itertools.islice(itertools.count(3, 2), 5),
    "cycle": lambda: itertools.islice(itertools.cycle("ab"), 7),
    "dropwhile": lambda: itertools.dropwhile(bool, [1, 0, 1, 2, 3]),
    "filterfalse": lambda: itertools.filterfalse(None, [0, 1, 0, 0, 0]),
    "groupby": lambda: (k for k, _ in itertools.groupby("aabbcd")),
    "islice": lambda: itertools.islice("abcdefgh", 1, 8, 2),
    "pairwise": lambda: itertools.pairwise([1, None, 3, 4]),
    "permutations": lambda: itertools.permutations("abc", 2),
    "product": lambda: itertools.product("ab", [1, 2]),
    "repeat": lambda: itertools.repeat("x", 4),
    "starmap": lambda: itertools.starmap(pow, [(2, 1), (2, 2), (2, 3)]),
    "takewhile": lambda: itertools.takewhile(bool, [1, 2, 3, 0]),
    "tee": lambda: itertools.tee("abcd")[0],
    "zip longest": lambda: itertools.zip_longest("abc", [1]),
}
# Generators are the matter of another file.
del ITERATORS["groupby"]


class Sequence:
    def __getitem__(self, index):
        if index > 4:
            raise IndexError
        return index


ITERTOOLS = {kind for kind in vars(itertools).values() if isinstance(kind, type)}


@pytest.mark.parametrize("how", ["copy", "deepcopy", "pickle"])
@pytest.mark.parametrize("name", [n for n in ITERATORS if type(ITERATORS[n]()) in ITERTOOLS])
def test_plain_copies_of_iterators_give_no_warning_once_installed(name, how):
    iterator = ITERATORS[name]()
    next(iterator)
    pickling.install()
    try:
        if how == "pickle":
            copied = pickle.loads(pickle.dumps(iterator))
        else:
            copied = getattr(copying, how)(iterator)
    finally:
        pickling.uninstall()
    assert type(copied) is type(iterator)
    # A shallow copy may share what it iterates over.
    rest = list(copied)
    if how != "copy":
        assert rest == list(iterator)


@pytest.mark.skipif(sys.version_info < (3, 12), reason="deprecated since 3.12")
def test_the_warning_of_itertools_is_given_to_all_others():
    iterator = itertools.count(1)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        before = list(warnings.filters)
        copied = again(iterator)
        assert not caught
        assert warnings.filters == before
        copying.copy(iterator)
        pickle.dumps(iterator)
        assert len(caught) >= 2
    assert next(copied) == 1
    with pytest.raises(DeprecationWarning, match="itertools"):
        iterator.__reduce__()


@pytest.mark.parametrize("name", ITERATORS)
@pytest.mark.parametrize("taken", [0, 1, 2])
def test_iterators_keep_their_position(name, taken):
    iterator = ITERATORS[name]()
    for _ in range(taken):
        next(iterator)
    copy = again(iterator)
    twice = again(copy)
    rest = list(iterator)
    assert rest
    assert list(copy) == rest
    assert list(twice) == rest


@pytest.mark.parametrize("name", ITERATORS)
def test_exhausted_iterators_stay_exhausted(name):
    iterator = ITERATORS[name]()
    for _ in iterator:
        pass
    copy = again(iterator)
    assert list(copy) == []
    assert list(again(copy)) == []


def test_pairs_share_the_iterator_that_they_are_over():
    source = iter("abcd")
    pairs = itertools.pairwise(source)
    next(pairs)
    copied, same = again([pairs, source])
    assert next(same) == "c"
    assert list(copied) == [("b", "d")]


@pytest.mark.skipif(sys.version_info < (3, 12), reason="new in 3.12")
def test_batches_keep_their_size():
    batches = itertools.batched("abcdefgh", 3)
    next(batches)
    assert list(again(batches)) == [("d", "e", "f"), ("g", "h")]
    if sys.version_info >= (3, 13):
        strict = itertools.batched("abcd", 3, strict=True)
        next(strict)
        with pytest.raises(ValueError, match="incomplete"):
            next(again(strict))


@pytest.mark.parametrize("view", ["keys", "values", "items"])
def test_an_iterator_over_a_dict_goes_on_over_that_dict(view):
    d = {"a": 1, "b": 2, "c": 3}
    iterator = iter(getattr(d, view)())
    next(iterator)
    copy, same = again([iterator, d])
    same["c"] = 30
    d["c"] = 30
    assert list(copy) == list(iterator)
    iterator = iter(getattr(d, view)())
    next(iterator)
    copy, same = again([iterator, d])
    same["new"] = 1
    with pytest.raises(RuntimeError, match="changed size"):
        next(copy)


def test_an_iterator_over_a_dict_that_has_changed_size():
    d = {"a": 1, "b": 2}
    iterator = iter(d)
    next(iterator)
    d["c"] = 3
    copy = again(iterator)
    with pytest.raises(RuntimeError, match="changed size"):
        next(copy)


def test_an_iterator_inside_of_the_dict_that_it_iterates_over():
    d = {"a": 1, "b": 2, "me": None}
    d["me"] = iterator = iter(d.items())
    next(iterator)
    copy = again(d)
    assert next(copy["me"]) == ("b", 2)
    key, value = next(copy["me"])
    assert (key, value) == ("me", copy["me"])
    assert next(copy["me"], None) is None


def test_an_iterator_over_a_set_notices_changes():
    s = {1, 2, 3, 4}
    iterator = iter(s)
    next(iterator)
    copy, same = again([iterator, s])
    next(copy)
    same.add(100)
    with pytest.raises(RuntimeError, match="changed size"):
        next(copy)


def test_views_are_views_of_the_same_dict():
    d = {"a": 1}
    keys, values, items, same = again([d.keys(), d.values(), d.items(), d])
    same["b"] = 2
    assert list(keys) == ["a", "b"]
    assert list(values) == [1, 2]
    assert list(items) == [("a", 1), ("b", 2)]
    ordered = collections.OrderedDict(a=1)
    assert list(again(ordered.items())) == [("a", 1)]
    assert type(again(ordered.keys())) is type(ordered.keys())


@pytest.mark.parametrize(
    "make",
    [
        lambda: iter(memoryview(b"abc")),
        lambda: memoryview(b"abc"),
        lambda: __import__("re").finditer("a", "aa"),
    ],
)
def test_iterators_that_cannot_be_pickled_are_refused_by_name(make):
    value = make()
    # An iterator over matches is a callable iterator over the method of a scanner.
    name = type(value).__name__.replace("callable_iterator", "SRE_Scanner")
    with pytest.raises(pickling.PicklingError, match=name):
        pickling.dumps([value])
