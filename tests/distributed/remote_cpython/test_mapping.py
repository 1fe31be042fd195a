"""`test.mapping_tests` over dicts of another process."""

import pytest

mapping_tests = pytest.importorskip("test.mapping_tests")


class TestRemoteMapping(mapping_tests.TestMappingProtocol):
    type2test = dict


class TestRemoteDict(mapping_tests.TestHashMappingProtocol):
    type2test = dict
