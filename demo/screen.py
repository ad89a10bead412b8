"""Plain text for people: headings, tables, and colours where a terminal shows them."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Sequence

_COLOURS = {"bold": "1", "dim": "2", "red": "31", "green": "32"}


def paint(text: str, colour: str) -> str:
    """Colour a text, on a terminal whose owner has not asked for none (https://no-color.org)."""
    if not sys.stdout.isatty() or os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
        return text
    return f"\033[{_COLOURS[colour]}m{text}\033[0m"


def heading(text: str) -> None:
    """Print a heading."""
    say(f"\n{paint(text, 'bold')}")


def say(text: str) -> None:
    """Print a line at once, also into a pipe."""
    print(text, flush=True)


def table(rows: Iterable[Sequence[str]], *, right: Iterable[int] = ()) -> None:
    """Print rows in columns.

    :param right: the columns to be set flush right.
    """
    rows = list(rows)
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    flush_right = set(right)
    for row in rows:
        cells = (
            cell.rjust(width) if place in flush_right else cell.ljust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        say(f"  {'  '.join(cells)}".rstrip())


def cut(text: str, width: int) -> str:
    """Shorten a text to a width."""
    return text if len(text) <= width else f"{text[: width - 1]}…"
