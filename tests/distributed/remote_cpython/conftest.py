"""Puts remote types where CPython's tests take the type to test from."""

import pytest

from .remote_type import SETUP, RemoteType

ATTRIBUTES = ("type2test", "thetype")


@pytest.fixture(scope="class", autouse=True)
def remote_types(request, over_tcp_for_class):
    """Replaces the type that a class of tests is about by one that makes objects over there."""
    support = pytest.importorskip("test.support")
    remote = over_tcp_for_class(SETUP)
    for name in ATTRIBUTES:
        real = getattr(request.cls, name, None)
        if isinstance(real, type):
            replacement = RemoteType(real.__name__, (), {}, real=real, remote=remote)
            setattr(request.cls, name, replacement)
    # An object that nobody here holds any more dies over there with the next message, at the latest.
    with pytest.MonkeyPatch.context() as patch:
        collect = support.gc_collect

        def collect_both():
            collect()
            remote.collect()

        patch.setattr(support, "gc_collect", collect_both)
        yield
