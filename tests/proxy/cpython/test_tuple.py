"""`test.seq_tests` over proxies of tuples."""

import pytest

seq_tests = pytest.importorskip("test.seq_tests")

from .delegating import delegating, natively  # noqa: E402


class TestProxiedTuple(seq_tests.CommonTest):
    type2test = delegating(tuple)


class TestProxiedTupleNatively(TestProxiedTuple):
    type2test = natively(tuple)
