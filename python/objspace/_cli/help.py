"""Help pages, drawn with rich from what argparse knows."""

from __future__ import annotations

import argparse
from typing import IO, TYPE_CHECKING

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Iterable

    from objspace._cli import Parser

WIDEST = 100
HEADING = "bold yellow"
NAME = "bold cyan"
PLACEHOLDER = "cyan"


def show(parser: Parser, file: IO[str]) -> None:
    """Prints the help page of one parser."""
    console = Console(file=file, highlight=False)
    console.width = min(console.width, WIDEST)
    console.print(Text(parser.description or ""))
    console.print()
    console.print(usage(parser), soft_wrap=True)

    actions = [action for action in parser._actions if action.help is not argparse.SUPPRESS]
    for action in actions:
        if isinstance(action, argparse._SubParsersAction):
            section(
                console,
                "Commands",
                ((Text(choice.dest, NAME), choice.help) for choice in action._choices_actions),
            )
    section(
        console,
        "Arguments",
        (
            (Text(str(action.metavar or action.dest), PLACEHOLDER), action.help)
            for action in actions
            if not action.option_strings and not isinstance(action, argparse._SubParsersAction)
        ),
    )
    section(
        console,
        "Options",
        ((option(action), action.help) for action in actions if action.option_strings),
    )
    section(
        console,
        "Examples",
        ((Text(line, NAME), f"# {note}") for line, note in parser.examples),
        stacked=any(len(line) + len(note) + 10 > console.width for line, note in parser.examples),
    )


def usage(parser: Parser) -> Text:
    line = Text("Usage: ", HEADING)
    line.append(parser.prog, NAME)
    line.append(" [OPTIONS]", PLACEHOLDER)
    for action in parser._actions:
        if not action.option_strings:
            line.append(f" {action.metavar or action.dest}", PLACEHOLDER)
            if isinstance(action, argparse._SubParsersAction):
                line.append(" ...", PLACEHOLDER)
    return line


def option(action: argparse.Action) -> Text:
    text = Text()
    for index, name in enumerate(action.option_strings):
        text.append(", " if index else "")
        text.append(name, NAME)
    if action.choices:
        text.append(" " + "|".join(map(str, action.choices)), PLACEHOLDER)
    elif action.nargs != 0:
        text.append(f" {action.metavar or action.dest.upper()}", PLACEHOLDER)
    return text


def section(
    console: Console,
    title: str,
    rows: Iterable[tuple[Text, str | None]],
    *,
    stacked: bool = False,
) -> None:
    """One block of the page: names on the left, what they mean on the right or underneath."""
    rows = list(rows)
    if not rows:
        return
    console.print()
    console.print(Text(f"{title}:", HEADING))
    if stacked:
        for name, meaning in rows:
            console.print(Padding(Text(meaning or "", "dim"), (0, 0, 0, 2)))
            console.print(Padding(name, (0, 0, 0, 2)))
        return
    table = Table.grid(padding=(0, 3))
    table.add_column(no_wrap=True)
    table.add_column()
    for name, meaning in rows:
        table.add_row(name, Text(meaning or ""))
    console.print(Padding(table, (0, 0, 0, 2)))
