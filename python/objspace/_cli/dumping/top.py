"""`objspace dump top`: what happened most."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from objspace._cli import Complaint
from objspace._cli.dumping import output, source, words

if TYPE_CHECKING:
    import argparse

_ATTRIBUTE = {"getattr": "read", "setattr": "set", "delattr": "deleted", "superattr": "read"}


def run(options: argparse.Namespace) -> None:
    """Prints the rankings asked for."""
    if options.count < 1:
        raise Complaint(f"a count is at least 1, not {options.count}")
    log = source.open_log(options.log)
    said = words.Words(log)
    printer = output.Printer()
    per_site = log.counts()
    total = sum(per_site)
    for index, by in enumerate(options.by or ["type", "attribute", "line"]):
        if index:
            printer()
        counts: Counter[str] = Counter()
        details: dict[str, Counter[str]] = {}
        if by == "type":
            counts.update(log.receiver_counts())
        else:
            for number, count in enumerate(per_site):
                if not count:
                    continue
                site = said.site(number)
                if by == "attribute":
                    if site.operation not in _ATTRIBUTE:
                        continue
                    key = site.name
                    details.setdefault(key, Counter())[_ATTRIBUTE[site.operation]] += count
                elif by == "line":
                    key = said.place(number)
                elif by == "function":
                    key = f"{site.module}.{site.function}"
                else:
                    key = (
                        f"{site.operation} {site.name}" if _is_symbol(site.name) else site.operation
                    )
                counts[key] += count
        printer((f"by {by}", output.HEADING), f", of {total} operations")
        # Equal counts by name: the same log gives the same page.
        ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
        for key, count in ranked[: options.count]:
            more = ", ".join(f"{n} {what}" for what, n in sorted(details.get(key, {}).items()))
            share = 100 * count / total if total else 0
            printer(
                (f"{count:>12} ", output.NUMBER),
                f"{share:5.1f} %  {key}",
                (f"   {more}" if more else "", output.PLACE),
            )


def _is_symbol(name: str) -> bool:
    return bool(name) and not name[0].isalnum() and name[0] not in "_<"
