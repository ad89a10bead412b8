"""Detects the offset from UTC at which the shop reads date filters."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from datetime import timedelta
from typing import Any

from airflow_provider_lightspeed.api.paging.reader import Bounds, ListReader, second_of
from airflow_provider_lightspeed.api.paging.timezone import HIGHEST, LOWEST, TICK, local_time
from airflow_provider_lightspeed.api.tickets import Request, Ticket, created_at

_QUARTER = timedelta(minutes=15)


def detect_offset(
    reader: ListReader, rows: Sequence[Ticket]
) -> Generator[Request | Any, Any, timedelta | None]:
    """Find the offset at which filters are read, with one call where the first guess is right, eleven at most.

    A ticket of known creation that a filter two seconds wide lets through proves the offset. Which to
    prove: first the likeliest ones, then what halving the 105 possible ones points to. If
    the proof fails (the ticket may be gone meanwhile) nothing is known, and the caller asks widely.
    """
    rows = [row for row in rows if second_of(row) is not None]
    if not rows:
        return None
    probe = max(rows, key=lambda row: row["id"])
    created = created_at(probe)

    def between(lowest: timedelta, highest: timedelta) -> Bounds:
        return {
            "created_at_min": local_time(created, lowest),
            "created_at_max": local_time(created, highest),
        }

    def shown(bounds: Bounds) -> Generator[Any, Any, list[int]]:
        found = yield from reader.list(since_id=probe["id"] - 1, bounds=bounds)
        return found.ids

    def is_offset(offset: timedelta) -> Generator[Any, Any, bool]:
        found = yield from shown(between(offset - TICK, offset + TICK))
        return probe["id"] in found

    for offset in reader.zone.candidates(created):
        if (yield from is_offset(offset)):
            return offset
    low, high = 0, (HIGHEST - LOWEST) // _QUARTER
    # Beyond the filter's own bounds, several steps ask the same.
    answers: dict[str, bool] = {}
    while low < high:
        middle = (low + high) // 2
        bounds = between(LOWEST - TICK, LOWEST + middle * _QUARTER + TICK)
        question = reader.narrowed(bounds)["created_at_max"]
        if question not in answers:
            found = yield from shown(bounds)
            answers[question] = any(ticket_id >= probe["id"] for ticket_id in found)
        if answers[question]:
            high = middle
        else:
            low = middle + 1
    offset = LOWEST + low * _QUARTER
    return offset if (yield from is_offset(offset)) else None
