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


class Group(ExceptionGroup):
    def derive(self, members):
        return Group(self.message, members)


def group_of(kind=ExceptionGroup):
    return kind("g", [ValueError("v"), KeyError("k"), ExceptionGroup("inner", [ValueError("w")])])


@pytest.mark.parametrize("kind", [ExceptionGroup, Group])
def test_a_group_is_raised_and_taken_apart(kind, proxy_of):
    p = proxy_of(group_of(kind))
    assert type(p) is kind
    with pytest.raises(kind) as caught:
        raise p
    assert caught.value is p
    assert p.message == "g"
    assert len(p.exceptions) == 3
    errors, rest = p.split(ValueError)
    assert [type(part) for part in (errors, rest)] == [kind, kind]
    assert [repr(member) for member in rest.exceptions] == ["KeyError('k')"]
    assert errors.__traceback__ is p.__traceback__ is not None
    assert p.subgroup(OSError) is None
    assert p.subgroup(lambda error: True) is p
    assert "inner" in "".join(traceback.format_exception(p))


@pytest.mark.parametrize("kind", [ExceptionGroup, Group])
def test_a_group_meets_except_star(kind, proxy_of):
    seen = []
    with pytest.raises(kind) as caught:
        try:
            raise proxy_of(group_of(kind))
        except* KeyError as group:
            seen.append(repr(group.exceptions))
    assert seen == ["(KeyError('k'),)"]
    assert repr(caught.value) == repr(
        kind("g", [ValueError("v"), ExceptionGroup("inner", [ValueError("w")])])
    )
    p = proxy_of(group_of(kind))
    try:
        raise p
    except* Exception as group:
        assert group is p
    p = proxy_of(group_of(kind))
    with pytest.raises(ExceptionGroup) as caught:
        try:
            raise p
        except* ValueError:
            raise
        except* KeyError as error:
            raise OSError("new") from error
    assert sorted(type(part).__name__ for part in caught.value.exceptions) == sorted(
        [kind.__name__, "OSError"]
    )


def test_a_group_inside_a_group_and_a_proxy_of_a_proxy(proxy_of):
    inner = proxy_of(ExceptionGroup("inner", [ValueError("v"), KeyError("k")]))
    outer = proxy_of(proxy_of(ExceptionGroup("outer", [inner, OSError("o")])))
    found = []
    try:
        raise outer
    except* ValueError as group:
        found.append(repr(group))
    except* (KeyError, OSError) as group:
        found.append(repr(group))
    assert found == [
        "ExceptionGroup('outer', [ExceptionGroup('inner', [ValueError('v')])])",
        "ExceptionGroup('outer', [ExceptionGroup('inner', [KeyError('k')]), OSError('o')])",
    ]


def test_a_group_whose_controller_has_no_members():
    from objspace.tproxy import tproxy

    with pytest.raises(TypeError, match="must be str, not int"):
        tproxy(ExceptionGroup, lambda name, *args: () if args == ("exceptions",) else 3)
    with pytest.raises(ZeroDivisionError):
        tproxy(ExceptionGroup, lambda name, *args: 1 / 0)


def test_an_uncaught_group_prints(run):
    out = run(
        """
        import sys
        from objspace.tputil import delegate, make_proxy
        sys.stderr = sys.stdout
        try:
            raise make_proxy(delegate, obj=ExceptionGroup("g", [KeyError("k")]))
        except ExceptionGroup:
            sys.__excepthook__(*sys.exc_info())
        """
    )
    assert "ExceptionGroup: g (1 sub-exception)" in out
    assert "KeyError: 'k'" in out


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
