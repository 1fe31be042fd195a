"""`test.seq_tests` over tuples that another process made."""

import pytest

seq_tests = pytest.importorskip("test.seq_tests")


class TestRemoteTuple(seq_tests.CommonTest):
    type2test = tuple
