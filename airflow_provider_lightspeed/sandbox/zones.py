"""Instants (epoch seconds) as the API writes and reads them, in any zone."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

_OFFSET = re.compile(r"([+-])(\d{2}):(\d{2})")
_WALL_CLOCK = re.compile(r"\d{4}-\d{2}-\d{2} \d{2}:\d{2}:\d{2}")


def parse_zone(name: str) -> tzinfo:
    """Return the zone for an IANA name (``Europe/Amsterdam``) or a fixed offset (``+14:00``)."""
    if name == "UTC":
        return UTC
    if offset := _OFFSET.fullmatch(name):
        sign, hours, minutes = offset.groups()
        shift = timedelta(hours=int(hours), minutes=int(minutes))
        return timezone(-shift if sign == "-" else shift)
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError) as error:
        raise ValueError(f"Unknown time zone {name!r}: give an IANA name or an offset like +02:00") from error


def write_instant(instant: int, zone: tzinfo) -> str:
    """Write an instant as answers do: ISO 8601 with the zone's offset at that moment."""
    return datetime.fromtimestamp(instant, zone).isoformat()


def read_wall_clock(text: str, zone: tzinfo) -> int:
    """Read a date filter. The hour that a change of clocks repeats is taken as its first pass, as PHP does."""
    if not _WALL_CLOCK.fullmatch(text):
        raise ValueError(f"Not a date of the form YYYY-MM-DD HH:MM:SS: {text!r}")
    return int(datetime.fromisoformat(text).replace(tzinfo=zone).timestamp())
