"""Printing: with colours where a terminal reads, as plain text anywhere else."""

from __future__ import annotations

import sys
from typing import Any

#: What must not reach a terminal as it is: names and texts in a log are not ours.
_CONTROLS = {code: f"\\x{code:02x}" for code in [*range(32), *range(127, 160)]}

#: A piece of a line: text, or text and a style of rich.
Piece = str | tuple[str, str]

NUMBER = "cyan"
PLACE = "dim"
WRONG = "bold red"
HEADING = "bold yellow"


def plain(pieces: tuple[Piece, ...]) -> str:
    """A line without its colours."""
    return "".join(piece if isinstance(piece, str) else piece[0] for piece in pieces)


def clean(text: str) -> str:
    """A text without control characters."""
    return text.translate(_CONTROLS)


class Printer:
    """Prints lines on standard output."""

    def __init__(self) -> None:
        self._console: Any = None
        if sys.stdout.isatty():
            from rich.console import Console

            self._console = Console(highlight=False, soft_wrap=True)

    def __call__(self, *pieces: Piece) -> None:
        """Prints one line."""
        if self._console is None:
            sys.stdout.write(clean(plain(pieces)) + "\n")
            return
        from rich.text import Text

        self._console.print(
            Text.assemble(
                *(
                    clean(piece) if isinstance(piece, str) else (clean(piece[0]), piece[1])
                    for piece in pieces
                )
            )
        )
