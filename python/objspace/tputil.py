"""Transparent proxies, the convenient level: `make_proxy(controller, obj=...)`."""

from objspace._core import ProxyOperation, make_proxy

__all__ = ["ProxyOperation", "make_proxy"]
