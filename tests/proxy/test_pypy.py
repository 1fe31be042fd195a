"""What PyPy's document on transparent proxies says, on CPython."""

import pytest
from objspace.tproxy import get_tproxy_controller, tproxy
from objspace.tputil import ProxyOperation, make_proxy


def test_the_first_example_of_the_document():
    def f(operation, *args, **kwargs):
        if operation == "__add__":
            return 42
        raise AttributeError

    i = tproxy(list, f)
    assert type(i) is list
    assert i + 3 == 42


def test_the_second_example_of_the_document():
    history = []

    def recorder(operation):
        history.append(operation)
        return operation.delegate()

    l = make_proxy(recorder, obj=[])
    assert type(l) is list
    l.append(3)
    assert len(l) == 1
    assert len(history) == 2


def test_a_method_shows_up_as_getattribute_and_type_not_at_all(recorded):
    record = recorded([])
    record.proxy.append(3)
    assert record.take() == ["__getattribute__"]
    assert type(record.proxy) is list
    assert record.proxy.__class__ is list
    assert record.take() == []


def test_the_controller_of_a_proxy_and_of_anything_else():
    def controller(*args):
        raise AttributeError

    assert get_tproxy_controller(tproxy(list, controller)) is controller
    assert get_tproxy_controller(make_proxy(controller, type=dict)) is controller
    assert get_tproxy_controller([]) is None
    assert get_tproxy_controller(None) is None


def test_an_operation_arrives_once_at_each_controller_of_a_proxy_of_a_proxy(recorded):
    inner = recorded([1, 2])
    outer = recorded(inner.proxy)
    assert type(outer.proxy) is list
    for operation, names in [
        (len, ["__len__"]),
        (lambda p: p + [3], ["__add__"]),
        (lambda p: p[0], ["__getitem__"]),
        (lambda p: p.append, ["__getattribute__"]),
        (lambda p: p == [], ["__eq__"]),
        (lambda p: 1 in p, ["__contains__"]),
        (repr, ["__repr__"]),
        (iter, ["__iter__"]),
    ]:
        operation(outer.proxy)
        assert outer.take() == names
        assert inner.take() == names


def test_class_cannot_be_assigned_or_deleted(proxy_of):
    p = proxy_of([])
    with pytest.raises(TypeError, match="__class__ of a proxy cannot be assigned"):
        p.__class__ = dict
    with pytest.raises(TypeError, match="__class__"):
        del p.__class__


@pytest.mark.parametrize(
    "kind", [int, float, complex, bool, str, bytes, type(None), type(...), range, slice]
)
def test_a_type_that_cannot_be_proxied_is_named(kind):
    with pytest.raises(TypeError, match=f"cannot make a proxy of type '{kind.__name__}'"):
        tproxy(kind, print)


def test_wrong_arguments_of_tproxy():
    with pytest.raises(TypeError, match="must be a type, not list"):
        tproxy([], print)
    with pytest.raises(TypeError, match="controller must be callable, not 'int'"):
        tproxy(list, 3)


def test_wrong_arguments_of_make_proxy():
    with pytest.raises(TypeError, match="needs a type or an obj"):
        make_proxy(print)
    with pytest.raises(TypeError, match="must be callable"):
        make_proxy(3, obj=[])
    with pytest.raises(TypeError, match="must be a type"):
        make_proxy(print, type=3)
    with pytest.raises(TypeError, match="unexpected keyword argument 'object'"):
        make_proxy(print, object=[])
    with pytest.raises(TypeError):
        make_proxy()
    with pytest.raises(TypeError, match="multiple values"):
        make_proxy(print, list, type=list)
    with pytest.raises(TypeError, match="type 'NoneType'"):
        make_proxy(print, obj=None)


def test_the_type_may_be_given_by_position_and_differ_from_the_object():
    p = make_proxy(lambda operation: operation.delegate(), list, (1, 2))
    assert type(p) is list
    assert p[0] == 1


def test_attributes_of_an_operation():
    operations = []

    def controller(operation):
        operations.append(operation)
        return operation.delegate()

    def function(a, b=0):
        return a + b

    p = make_proxy(controller, obj=function)
    assert p(1, b=2) == 3
    (operation,) = operations
    assert isinstance(operation, ProxyOperation)
    assert operation.proxyobj is p
    assert operation.opname == "__call__"
    assert operation.args == (1,)
    assert operation.kwargs == {"b": 2}
    assert operation.obj is function
    assert repr(operation) == f"<ProxyOperation function.__call__(<{id(p):#x}>, 1, b=2)>"


def test_an_operation_can_be_changed_before_it_is_delegated():
    def controller(operation):
        if operation.opname == "__getitem__":
            operation.args = (operation.args[0] + 1,)
        return operation.delegate()

    assert make_proxy(controller, obj=[1, 2])[0] == 2


def test_without_an_object_there_is_nothing_to_delegate_to():
    def controller(operation):
        assert not hasattr(operation, "obj")
        return operation.delegate()

    with pytest.raises(TypeError, match="without an underlying obj"):
        len(make_proxy(controller, type=list))


def test_in_place_operators_keep_the_proxy(proxy_of):
    l = original = proxy_of([])
    l += [1]
    l *= 2
    assert l is original
    assert l == [1, 1]
    s = original = proxy_of({1})
    s |= {2}
    s -= {1}
    assert s is original
    assert s == {2}


def test_a_result_that_is_the_object_comes_back_as_the_proxy():
    obj = iter([1])
    p = make_proxy(lambda operation: operation.delegate(), obj=obj)
    assert iter(p) is p
    assert make_proxy(lambda operation: operation.obj, obj=[]).anything is not None
