"""Plays the session and the other side: carries descriptions as a session would, in one process."""

from __future__ import annotations

from typing import Any

from objspace._core import _parts

FRAME = 10
LIVE = 12
CLASS = 0
TRACEBACK = 9


class Token:
    """Stands for a live object of the other side."""

    def __init__(self, live: Any) -> None:
        self.live = live


class Far:
    """Counts what is asked, and can go away."""

    def __init__(self) -> None:
        self.asked: list[tuple[Any, ...]] = []
        self.lost = False
        self.classes: dict[type, type] = {}

    # frames

    def access(self, operation: str, subject: Any, *arguments: Any) -> Any:
        self.asked.append((operation, *arguments))
        if self.lost:
            raise ConnectionError("the other side is gone")
        live = subject.live if isinstance(subject, Token) else subject
        return _parts.answer_frame(operation, live, *arguments)

    def entries(self, traceback: Any, *, redact: bool = False) -> tuple[Any, ...]:
        entries = _parts.describe_traceback(traceback, redact)
        return tuple(self._entry(entry) for entry in entries)

    def _entry(self, entry: tuple[Any, ...]) -> tuple[Any, ...]:
        frame = entry[FRAME]
        return (*entry[:FRAME], None if frame is None else Token(frame))

    def traceback(self, exception: BaseException, **options: Any) -> Any:
        return _parts.build_traceback(self.entries(exception.__traceback__, **options), self.access)

    # exceptions

    def exception(self, exception: BaseException, **options: Any) -> BaseException:
        nodes = []
        for node in _parts.describe_exception(exception, **options):
            node = list(node)
            node[CLASS] = self.cls(node[CLASS])
            node[TRACEBACK] = tuple(self._entry(entry) for entry in node[TRACEBACK])
            node[LIVE] = Token(node[LIVE])
            nodes.append(tuple(node))
        return _parts.build_exception(tuple(nodes), self.access)

    # classes

    def cls(self, cls: type) -> Any:
        """The local picture of a class; builtin and standard ones are themselves."""
        if cls.__module__ in {
            "builtins",
            "abc",
            "enum",
            "typing",
            "collections",
            "collections.abc",
        }:
            return cls
        if cls not in self.classes:
            self.classes[cls] = self.build(cls, _parts.describe_class(cls))
        return self.classes[cls]

    def build(self, cls: type, description: tuple[Any, ...]) -> type:
        shape = list(description)
        shape[4] = tuple(self.cls(base) for base in shape[4])
        if shape[5] is not None:
            shape[5] = self.cls(shape[5])

        def access(operation: str, name: str | None = None, *args: Any, **kwargs: Any) -> Any:
            self.asked.append((operation, name))
            if self.lost:
                raise ConnectionError("the other side is gone")
            args = tuple(self.home(arg) for arg in args)
            return _parts.answer_class(cls, operation, name, *args, **kwargs)

        return _parts.build_class(tuple(shape), shape[4], access)

    def home(self, value: Any) -> Any:
        for original, picture in self.classes.items():
            if value is picture:
                return original
        origin = _parts.origin(value)
        return value if origin is None else origin.live
