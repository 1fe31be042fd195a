"""Transparent proxies, the low level: `tproxy(type, controller)`."""

from objspace._core import (
    get_tproxy_controller,
    install_type_hook,
    tproxy,
    type_hook_installed,
    uninstall_type_hook,
)

__all__ = [
    "get_tproxy_controller",
    "install_type_hook",
    "tproxy",
    "type_hook_installed",
    "uninstall_type_hook",
]
