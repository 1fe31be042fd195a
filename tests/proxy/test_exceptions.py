"""Proxies of exceptions are raised, caught, chained and printed like exceptions."""

import traceback

import pytest
from objspace.tputil import make_proxy


class AppError(LookupError):
    def __init__(self, code):
        super().__init__("lost", code)
        self.code = code


def test_raised_and_caught_by_its_class(proxy_of):
    for obj in (
        KeyError("k"),
        AppError(3),
        OSError(2, "gone"),
        UnicodeDecodeError("utf-8", b"x", 0, 1, "y"),
    ):
        p = proxy_of(obj)
        with pytest.raises(type(obj)) as caught:
            raise p
        assert caught.value is p
        assert type(p) is type(obj)
        assert p.args == obj.args
        assert str(p) == str(obj)
        assert repr(p) == repr(obj)


def test_attributes_are_the_controllers(proxy_of):
    p = proxy_of(AppError(3))
    assert p.code == 3
    p.code = 4
    assert p.code == 4


def test_the_traceback_is_where_the_proxy_was_raised(proxy_of):
    obj = KeyError("k")
    p = proxy_of(obj)
    try:
        raise p
    except KeyError as caught:
        assert caught.__traceback__.tb_frame.f_code.co_name.startswith("test_the_traceback")
    assert p.__traceback__ is not None
    assert obj.__traceback__ is None
    assert p.with_traceback(None) is p
    assert p.__traceback__ is None


def test_chained(proxy_of):
    cause, p = proxy_of(KeyError("cause")), proxy_of(AppError(3))
    try:
        try:
            raise cause
        except KeyError as error:
            raise p from error
    except AppError as caught:
        assert caught.__cause__ is cause
        assert caught.__context__ is cause
        assert caught.__suppress_context__
        text = "".join(traceback.format_exception(caught))
    assert "KeyError: 'cause'" in text
    assert "direct cause" in text
    assert "AppError" in text


def test_reraised_and_context_managed(proxy_of):
    p = proxy_of(ValueError("v"))
    with pytest.raises(ValueError, match="v") as caught:
        try:
            raise p
        except ValueError:
            raise
    assert caught.value is p


def test_a_member_of_a_group(proxy_of):
    p = proxy_of(ValueError("v"))
    try:
        raise ExceptionGroup("g", [p, KeyError("k")])
    except* ValueError as group:
        assert group.exceptions == (p,)
    except* KeyError:
        pass


def test_notes(proxy_of):
    p = proxy_of(ValueError("v"))
    p.add_note("a note")
    assert "a note" in "".join(traceback.format_exception(p))


def test_a_stop_iteration_keeps_its_value(proxy_of):
    class Iterator:
        def __iter__(self):
            return self

        def __next__(self):
            raise proxy_of(StopIteration(5))

    def outer():
        return (yield from Iterator())

    with pytest.raises(StopIteration) as caught:
        next(outer())
    assert caught.value.value == 5


def test_a_group_cannot_be_proxied(proxy_of):
    with pytest.raises(TypeError, match="ExceptionGroup"):
        proxy_of(ExceptionGroup("g", [ValueError()]))


def test_an_uncaught_one_prints(run):
    out = run(
        """
        import sys
        from objspace.tputil import make_proxy
        p = make_proxy(lambda operation: operation.delegate(), obj=KeyError("k"))
        try:
            raise p
        except KeyError:
            sys.excepthook(*sys.exc_info())
        """
    )
    assert out == ""


def test_errors_of_the_controller_while_being_raised(proxy_of):
    def controller(operation):
        raise ValueError("no")

    p = make_proxy(controller, obj=KeyError("k"))
    with pytest.raises(KeyError):
        raise p
    with pytest.raises(ValueError, match="no"):
        str(p)
