"""`test.list_tests`, and with it `test.seq_tests`, over lists of another process."""

import pytest

list_tests = pytest.importorskip("test.list_tests")


class TestRemoteList(list_tests.CommonTest):
    type2test = list
