"""Types to put in place of built-in ones: calling one makes an object in another process.

A subclass that a test defines becomes a class of the other process, whose methods are functions of
this one: each of its overridden methods is a callback.
"""

from __future__ import annotations

SETUP = """
import gc

def collect():
    gc.collect()

def make(cls, *args, **kwargs):
    return cls(*args, **kwargs)

def make_class(name, bases, names, values):
    body = dict(zip(names, values))
    body["__module__"] = "served"
    return type(name, tuple(bases), body)
"""


class RemoteType(type):
    """Says of the objects of the real type, remote or not, that they are its own.

    A class statement with one as its base makes a class of the other process.
    """

    def __new__(mcs, name, bases, body, *, real=None, remote=None):
        if real is not None:
            return super().__new__(mcs, name, (), {"real": real, "remote": remote})
        remote = next(base.remote for base in bases if isinstance(base, RemoteType))
        reals = [getattr(base, "real", base) for base in bases]
        hidden = {"__classcell__", "__qualname__", "__module__"}
        own = {key: value for key, value in body.items() if key not in hidden}
        made = remote.make_class(name, reals, list(own), list(own.values()))
        if "__classcell__" in body:
            body["__classcell__"].cell_contents = made
        return made

    def __init__(cls, name, bases, body, *, real=None, remote=None):
        super().__init__(name, (), {})

    def __instancecheck__(cls, instance):
        return isinstance(instance, cls.real)

    def __subclasscheck__(cls, subclass):
        return issubclass(subclass, cls.real)

    def __eq__(cls, other):
        return other is cls.real or other is cls

    def __hash__(cls):
        return hash(cls.real)

    def __getattr__(cls, name):
        return getattr(type.__getattribute__(cls, "real"), name)

    def __setattr__(cls, name, value):
        setattr(cls.real, name, value)

    def __call__(cls, *args, **kwargs):
        return cls.remote.make(cls.real, *args, **kwargs)
