"""The child's end of `objspace.spawn`: `python -m objspace._child READ_FD WRITE_FD SETUP`."""

from __future__ import annotations

import json
import linecache
import sys
from collections.abc import Iterator, Mapping

from objspace._core import session_over_fds

_FILE = "<objspace.spawn setup>"


class _Names(Mapping[str, object]):
    """What the setup code has bound, without the names that every module has."""

    def __init__(self, namespace: dict[str, object]) -> None:
        self.namespace = namespace
        self.setup: object = None

    def __getitem__(self, name: str) -> object:
        if name == "__setup__":
            return self.setup
        if name not in self:
            raise KeyError(name)
        return self.namespace[name]

    def __contains__(self, name: object) -> bool:
        return name == "__setup__" or (name in self.namespace and not str(name).startswith("__"))

    def __iter__(self) -> Iterator[str]:
        return (name for name in self.namespace if not name.startswith("__"))

    def __len__(self) -> int:
        return sum(1 for _ in self)


def main(arguments: list[str]) -> int:
    """Run the setup when asked to, and serve until the parent leaves."""
    read_fd, write_fd, setup = int(arguments[0]), int(arguments[1]), str(json.loads(arguments[2]))
    main_module = sys.modules["__main__"].__dict__
    namespace: dict[str, object] = {
        "__name__": "__main__",
        "__builtins__": main_module["__builtins__"],
    }
    names = _Names(namespace)

    def run_setup() -> None:
        linecache.cache[_FILE] = (len(setup), None, setup.splitlines(keepends=True), _FILE)
        exec(compile(setup, _FILE, "exec", dont_inherit=True), namespace)

    names.setup = run_setup
    session = session_over_fds(read_fd, write_fd, "the parent process", names, None)
    session.serve()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
