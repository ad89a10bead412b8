"""One reader for the forms in which shops write a value: ids, switches, instants and texts.

The vendor's pages show ids as numbers and switches as booleans; live shops and the form examples write both as text, and
switches as 1 and 0 too.
"""

from __future__ import annotations

import html
import unicodedata
from collections.abc import Iterable
from datetime import datetime
from typing import Any

MAX_ID = 2**63 - 1
_ID_DIGITS = 19
_SWITCHES: dict[str, bool] = {"true": True, "1": True, "false": False, "0": False}


def parse_id(value: Any) -> int | None:
    """Return an id from a number or its decimal text; None if it is no positive 64-bit number."""
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= _ID_DIGITS:
        value = int(value)
    # type, not isinstance: true is no number.
    return value if type(value) is int and 0 < value <= MAX_ID else None


def parse_count(value: Any) -> int | None:
    """Return a count from a number or its decimal text; None if it is neither."""
    return 0 if value == "0" or (type(value) is int and value == 0) else parse_id(value)


def parse_switch(value: Any) -> bool | None:
    """Return a switch; None if the shop left it empty (null or an empty text).

    :raises ValueError: for anything else that is neither true nor false.
    """
    if type(value) is bool:
        return value
    if value is None or value == "":
        return None
    text = str(value) if type(value) is int else value
    switch = _SWITCHES.get(text.lower()) if isinstance(text, str) else None
    if switch is None:
        raise ValueError("neither true nor false")
    return switch


def parse_instant(value: Any) -> datetime | None:
    """Return an instant with its offset from ISO 8601; None if it is none, or its year is impossible."""
    if not isinstance(value, str):
        return None  # ``updatedAt`` is often false, and an exception takes ten times as long
    try:
        instant = datetime.fromisoformat(value)
    except ValueError:
        return None
    # In the first and the last year another zone may not be able to write it.
    return instant if instant.tzinfo is not None and 1 < instant.year < 9999 else None


def is_same_text(one: str, other: str) -> bool:
    """Return whether two texts are the same, apart from the form in which shops may store a text."""
    return one == other or _stored(one) == _stored(other)


def _stored(text: str) -> str:
    """Return a text as shops may store it: trimmed, with entities, other line breaks, or composed characters."""
    lines = html.unescape(text).replace("\r\n", "\n").replace("\r", "\n").strip().split("\n")
    return unicodedata.normalize("NFC", "\n".join(line.rstrip() for line in lines))


def span_of_instants(values: Iterable[Any]) -> tuple[datetime, datetime] | None:
    """Return the first and the last of many instants, fast; None if there is none, or `parse_instant` might refuse one."""
    try:
        instants = [*map(datetime.fromisoformat, values)]
        # Instants with and without an offset can't be compared.
        first, last = min(instants), max(instants)
    except (TypeError, ValueError):
        return None
    # By its own offset, another one may be in the year before or after.
    return (first, last) if first.tzinfo is not None and first.year > 2 and last.year < 9998 else None
