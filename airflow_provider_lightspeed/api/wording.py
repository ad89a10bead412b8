"""How log lines and errors write counts and durations."""

from __future__ import annotations

from datetime import timedelta


def counted(number: int, noun: str) -> str:
    """Return a number with its noun, such as ``1 ticket`` or ``2,328 tickets``.

    :param noun: in the singular; its plural ends in "s".
    """
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def humanize(duration: timedelta) -> str:
    """Write an estimate as people say it."""
    seconds = round(duration.total_seconds())
    if seconds < 10:
        return "less than 10 s"
    if seconds < 120:
        return f"about {seconds} s"
    minutes = round(seconds / 60)
    return f"about {minutes} min" if minutes < 120 else f"about {minutes // 60} h {minutes % 60} min"
