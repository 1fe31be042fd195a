"""Types to put in place of built-in ones: calling one makes a proxy of a real object."""

from __future__ import annotations

from objspace.tputil import delegate, make_proxy


def by_python(operation):
    return operation.delegate()


class _Delegating(type):
    """Says of the proxied type's instances, proxies or not, that they are its own.

    A subclass stands in for a real subclass with the same body.
    """

    def __new__(mcs, name, bases, body, *, real=None, controller=None):
        if real is None:
            reals = tuple(getattr(base, "real", base) for base in bases)
            real = type(name, reals, {k: v for k, v in body.items() if k != "__classcell__"})
            controller = bases[0].controller
        return super().__new__(
            mcs, name, (), {"real": real, "controller": staticmethod(controller)}
        )

    def __init__(cls, name, bases, body, *, real=None, controller=None):
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
        controller = type.__getattribute__(cls, "controller")
        return make_proxy(controller, obj=cls.real(*args, **kwargs))


def delegating(real, controller=by_python):
    """A stand-in for the type `real`: what it makes are proxies."""
    return _Delegating(real.__name__, (), {}, real=real, controller=controller)


def natively(real):
    """The same, with the controller that is written in Rust."""
    return delegating(real, delegate)
