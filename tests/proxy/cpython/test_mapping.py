"""`test.mapping_tests` over proxies of dicts."""

import pytest

mapping_tests = pytest.importorskip("test.mapping_tests")

from .delegating import delegating, natively  # noqa: E402


class TestProxiedDict(mapping_tests.TestHashMappingProtocol):
    type2test = delegating(dict)

    @pytest.mark.skip(
        "asks whether type(x) is type2test, which here is a stand-in that makes proxies"
    )
    def test_fromkeys(self): ...


class TestProxiedDictNatively(TestProxiedDict):
    type2test = natively(dict)
