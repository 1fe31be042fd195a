"""`test.list_tests` and `test.seq_tests` over proxies of lists."""

import pytest

list_tests = pytest.importorskip("test.list_tests")

from .delegating import delegating, natively  # noqa: E402


class TestProxiedList(list_tests.CommonTest):
    type2test = delegating(list)


class TestProxiedListNatively(TestProxiedList):
    type2test = natively(list)
