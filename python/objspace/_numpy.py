"""Waits for numpy to be imported, whose arrays tell tuples from other sequences by their C type.

What is changed in them, and why, is in the compiled half (`proxy/boundary/numpy.rs`).
"""

from __future__ import annotations

import sys

from objspace._core import hook_indexing

# `typing` takes as long to import as all of objspace.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from importlib.machinery import ModuleSpec
    from types import ModuleType


class _Waiting:
    """Finds nothing itself; what the other finders find as numpy is hooked once it is loaded."""

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name != "numpy":
            return None
        sys.meta_path.remove(self)
        spec = None
        try:
            for finder in sys.meta_path:
                spec = finder.find_spec(name, path, target)
                if spec is not None:
                    break
        finally:
            if spec is None or spec.loader is None:
                sys.meta_path.insert(0, self)
        if spec is None or spec.loader is None:
            return spec
        load = spec.loader.exec_module

        def load_and_hook(module: ModuleType) -> None:
            load(module)
            _hook(module)

        spec.loader.exec_module = load_and_hook  # type: ignore[method-assign]
        return spec


def _hook(module: ModuleType) -> None:
    array = getattr(module, "ndarray", None)
    if isinstance(array, type):
        hook_indexing(array)


def prepare() -> None:
    """Hook numpy if it is there, and wait for it if it is not."""
    module = sys.modules.get("numpy")
    if module is not None and hasattr(module, "ndarray"):
        _hook(module)
    else:
        sys.meta_path.insert(0, _Waiting())
