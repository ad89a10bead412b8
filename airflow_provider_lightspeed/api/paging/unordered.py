"""The walk over a list in no order, or in one that changes while we read.

A walk by page is worth nothing there: a ticket that is changed may move from a page not yet read to
one that was. But when a ticket was created never changes. So the list is read in slices of creation
time, each so narrow that it fits on one page; one answer is one moment, and holds its slice whole.

Where to cut is planned from a survey, a plain walk by page that may well be wrong. A slice that is
fuller than planned is cut again. A second with more tickets than a page holds can't be cut; it is
settled by two walks with a count between them (`_settle`).

Slices are cut in the wall clock of the filters. Together they cover all of it whatever its zone is.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Sequence
from datetime import UTC, datetime

from airflow_provider_lightspeed.api.paging.reading import Bounds, Cursor, Reading, Steps
from airflow_provider_lightspeed.api.paging.zone import wall_clock_seconds
from airflow_provider_lightspeed.api.tickets import PAGE_SIZE, Ticket, created_at

#: Tickets planned for a slice: below a page, so that a few new ones do not spill it.
_SLICE = 240
#: How often a crowded second is tried while its tickets are being deleted.
_TRIES = 5
#: No filter's wall clock is further from UTC, in seconds.
_FURTHEST = 15 * 3600


def unordered(reading: Reading, cursor: Cursor | None = None) -> Steps[None]:
    """Read slice by slice. All times here are whole seconds, cuts in UTC, the rest in wall clock.

    :param cursor: of a slice of an earlier walk.
    :raises LightspeedIncompleteListError: if a crowded second can't be settled, or the shop ignores
        the page number or the date filters.
    """
    already = reading.sorted_ids()
    if cursor is None:
        cuts = yield from _plan(reading)
        start: int | None = None
        first = datetime.fromtimestamp(cuts[0] if cuts else 0, UTC)
        offset = int(reading.zone.guess(first).total_seconds())
        recent: set[int] = set()
    else:
        cuts, start, offset = list(cursor["cuts"]), cursor["start"], cursor["offset"]
        recent = set(cursor["recent"])
        reading.seen = cursor["seen"]
    while True:
        end = cuts[0] + offset if cuts else None
        bounds = _bounds(start, end)
        rows = yield from reading.list(bounds=bounds)
        created = sorted(int(created_at(row).timestamp()) for row in rows)
        offset = _fitting(reading, offset, start, end, created)
        if len(rows) >= PAGE_SIZE:
            cut = _cut(start, end, created, offset)
            if cut is not None:
                cuts.insert(0, cut - offset)
                continue
            rows = yield from _settle(reading, bounds)
        fresh = [row for row in rows if row["id"] not in recent and row["id"] not in already]
        recent = {row["id"] for row in rows}
        # A bound one second off on either side holds, inclusive or not, all that was created within.
        start = end + 1 if end is not None else None
        cuts = [cut for cut in cuts[1:] if start is None or cut + offset >= start]
        rest = {"cuts": cuts, "start": start, "offset": offset, "recent": sorted(recent)}
        resumable = len(already) == 0 and end is not None
        yield reading.page(fresh, {"order": "none", **rest} if resumable else None)
        if end is None:
            return


def _plan(reading: Reading) -> Steps[list[int]]:
    """Survey the list by page, and cut it into slices that should fit on a page each."""
    survey = array("q")
    page, before, ids = 0, None, None
    while page == 0 or len(ids or ()) >= PAGE_SIZE:
        page, before = page + 1, ids
        rows = yield from reading.list(page=page)
        ids = [row["id"] for row in rows]
        if ids and ids == before:
            raise reading.incomplete("two pages were the same: the shop may ignore the page number")
        survey.extend(int(created_at(row).timestamp()) for row in rows)
    seconds = array("q", sorted(survey))
    cuts: list[int] = []
    place = 0
    while place + _SLICE < len(seconds):
        # The ticket after the planned ones must lie outside, by the second that bounds are off.
        cut = seconds[place + _SLICE] - 2
        cuts.append(max(cut, cuts[-1] + 1 if cuts else cut))
        place = max(place + 1, bisect_left(seconds, cuts[-1]))
    return cuts


def _bounds(start: int | None, end: int | None) -> Bounds:
    bounds: Bounds = {}
    if start is not None:
        bounds["created_at_min"] = wall_clock_seconds(start - 1)
    if end is not None:
        bounds["created_at_max"] = wall_clock_seconds(end + 1)
    return bounds


def _fitting(
    reading: Reading, offset: int, start: int | None, end: int | None, created: Sequence[int]
) -> int:
    """Correct the guess of the filters' offset by what a slice let through."""
    if not created:
        return offset
    if end is not None:
        if end + 1 - created[-1] < -_FURTHEST:
            raise reading.incomplete("the shop ignores created_at_max, and lists are in no order")
        offset = min(offset, end + 1 - created[-1])
    if start is not None:
        if start - 1 - created[0] > _FURTHEST:
            raise reading.incomplete("the shop ignores created_at_min, and lists are in no order")
        offset = max(offset, start - 1 - created[0])
    return offset


def _cut(start: int | None, end: int | None, created: Sequence[int], offset: int) -> int | None:
    """Choose where to end a slice that does not fit on a page; None where it can't be cut."""
    if start is not None and end is not None:
        middle = (start + end) // 2
        return middle if middle < end else None
    low, middle, high = (created[place] + offset for place in (0, len(created) // 2, -1))
    candidates = (middle, low - 2) if start is None else (middle, high + 2)
    for candidate in candidates:
        if (start is None or candidate > start) and (end is None or candidate < end):
            return candidate
    return None


def _settle(reading: Reading, bounds: Bounds) -> Steps[list[Ticket]]:
    """Read a slice that no page holds: two walks, and a count between them.

    What both walks saw existed at the count. If it is as many as were counted, it is all there was.
    """
    earlier = yield from _all_pages(reading, bounds)
    count = -1
    for _ in range(_TRIES):
        count = yield from reading.count(bounds)
        later = yield from _all_pages(reading, bounds)
        if count == len(earlier.keys() & later.keys()):
            return list(later.values())
        earlier = later
    raise reading.incomplete(
        f"between {bounds.get('created_at_min', 'the beginning')} and {bounds.get('created_at_max', 'now')} more "
        f"tickets were created than a page holds, and they can't be counted and read to the same number",
        count,
    )


def _all_pages(reading: Reading, bounds: Bounds) -> Steps[dict[int, Ticket]]:
    found: dict[int, Ticket] = {}
    page, full, grown = 0, True, True
    while full and grown:
        page += 1
        rows = yield from reading.list(page=page, bounds=bounds)
        full = len(rows) >= PAGE_SIZE
        before = len(found)
        found |= {row["id"]: row for row in rows}
        grown = len(found) > before
    return found
