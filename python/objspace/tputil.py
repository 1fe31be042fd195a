"""Transparent proxies, the convenient level: `make_proxy(controller, obj=...)`."""

from objspace._core import ProxyOperation, delegate, make_proxy

__all__ = ["ProxyOperation", "delegate", "make_proxy"]
