"""A pytest plugin for Jinja2's own tests: the objects that Jinja2 is made of are proxies.

Every environment, template, context, node of a syntax tree, token stream, loader, extension, macro and
loop context is handed out as a proxy the moment it is made, before `__init__` runs, so that even its
first attribute is assigned through the proxy. `tools/library-suite` runs it.
"""

from types import MethodType, SimpleNamespace

from jinja2 import environment, ext, lexer, loaders, nodes, runtime
from objspace.tputil import make_proxy

CENTRAL = [
    environment.Environment,
    ext.Extension,
    lexer.TokenStream,
    loaders.BaseLoader,
    nodes.Node,
    runtime.Context,
    runtime.LoopContext,
    runtime.Macro,
]
LEAST = 20_000

made = {}


def controller(operation):
    """Delegates; a method gets the proxy for its `self`, so that what it does is seen too."""
    result = operation.delegate()
    if type(result) is MethodType and result.__self__ is operation.obj:
        return MethodType(result.__func__, operation.proxyobj)
    return result


def proxy_of(obj):
    name = type(obj).__qualname__
    made[name] = made.get(name, 0) + 1
    return make_proxy(controller, obj=obj)


def replace(cls):
    """Let `cls` and its subclasses make proxies."""
    assert cls.__new__ is object.__new__

    def __new__(cls, *args, **kwargs):
        return proxy_of(object.__new__(cls))

    cls.__new__ = __new__


for cls in CENTRAL:
    replace(cls)

# Overlays and templates are made by `object.__new__`, called by name in this module.
environment.object = SimpleNamespace(__new__=lambda cls: proxy_of(object.__new__(cls)))


def pytest_sessionfinish(session):
    if session.exitstatus == 0 and sum(made.values()) < LEAST:
        session.exitstatus = 1


def pytest_terminal_summary(terminalreporter):
    terminalreporter.write_line(f"{sum(made.values())} proxies of {len(made)} classes were made")
