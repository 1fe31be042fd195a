"""Transparent proxies, the low level: `tproxy(type, controller)`."""

from objspace._core import get_tproxy_controller, tproxy

__all__ = ["get_tproxy_controller", "tproxy"]
