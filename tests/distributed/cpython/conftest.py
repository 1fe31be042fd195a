"""Puts remote types where CPython's tests take the type to test from."""

import pytest

from .remote_type import SETUP, RemoteType

ATTRIBUTES = ("type2test", "thetype")


@pytest.fixture(scope="class", autouse=True)
def remote_types(request, over_tcp_for_class):
    """Replaces the type that a class of tests is about by one that makes objects over there."""
    remote = over_tcp_for_class(SETUP)
    for name in ATTRIBUTES:
        if name in vars(request.cls):
            real = vars(request.cls)[name]
            setattr(request.cls, name, RemoteType(real.__name__, (), {}, real=real, remote=remote))
