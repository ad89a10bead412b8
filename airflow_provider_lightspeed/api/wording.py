"""How log lines and errors write counts, lists and durations."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta


def counted(number: int, noun: str) -> str:
    """Return a number with its noun, such as ``1 ticket`` or ``2,328 tickets``.

    :param noun: in the singular; its plural ends in "s".
    """
    return f"{number:,} {_noun(number, noun)}"


def _noun(number: float, noun: str) -> str:
    return noun if number == 1 else f"{noun}s"


def days(duration: timedelta) -> str:
    """Write a duration in days, such as ``1 day`` or ``1.5 days``."""
    number = duration / timedelta(days=1)
    return f"{number:g} {_noun(number, 'day')}"


def first_few(items: Sequence[str], most: int = 5, separator: str = ", ") -> str:
    """Join the first items of a list; "…" at the end shows that there are more."""
    return separator.join([*items[:most], *(["…"] if len(items) > most else [])])


def humanize(duration: timedelta) -> str:
    """Write an estimate as people say it."""
    seconds = round(duration.total_seconds())
    if seconds < 10:
        return "less than 10 s"
    if seconds < 120:
        return f"about {seconds} s"
    minutes = round(seconds / 60)
    return f"about {minutes} min" if minutes < 120 else f"about {minutes // 60} h {minutes % 60} min"
