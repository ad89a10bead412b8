"""The walk over a list in no order, or in one that changes while we read.

A walk by page is worth nothing there: a ticket that is changed may move from a page not yet read to
one that was. But when a ticket was created never changes. So the list is read in slices of creation
time, each so narrow that it fits on one page; one answer is one moment, and holds its slice whole.

Where to cut is planned from a survey, a plain walk by page that may well be wrong. A slice that is
fuller than planned is cut again. A second with more tickets than a page holds can't be cut; it is
settled by two walks with a count between them (`_confirm_by_second_pass`).

Neighbouring slices overlap by two seconds. Where that would be most of them, or where they are narrow
and the filters' zone is not known, a list is settled whole if nobody changes it meanwhile: the survey,
a count and the same walk again (`_read_twice`).

Slices are cut in the wall clock of the filters. Together they cover all of it whatever its zone is.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise

from airflow_provider_lightspeed.api.paging.detect_offset import detect_offset
from airflow_provider_lightspeed.api.paging.reader import Bounds, Cursor, IdSet, ListReader, Walk
from airflow_provider_lightspeed.api.paging.timezone import local_time_from_seconds
from airflow_provider_lightspeed.api.tickets import Ticket, created_at

#: How often a crowded second is tried while its tickets are being deleted.
_TRIES = 20
#: No filter's wall clock is further from UTC, in seconds.
_FURTHEST = 15 * 3600
#: Clocks change at full quarters of an hour, by three hours at most.
_QUARTER, _CLOCK_CHANGE = 900, 3 * 3600
#: A slice of so many seconds is not cut again: bounds are off by one on either side.
_NARROWEST = 3
#: Slices that cost more calls than this, for each page of the list, are not worth it.
_WORTH_A_PAGE = 1.3
#: What it takes to find out that a slice is too full, and to settle it, for each page that it holds.
_CALLS_TO_SETTLE_A_PAGE = 4
#: With narrower slices it matters how far the zone of the filters is off.
_WIDE = 4 * 3600
#: Pages of a survey that are read again at most, after it was stopped.
_PAGES_AT_RISK = 5
#: Moments that its cursor holds at most: some 30 kB.
_SAMPLE = 2048
#: It takes up to ten calls to find the zone: too many for a list of fewer pages.
_PAGES_WORTH_A_ZONE = 8


@dataclass(frozen=True)
class _Survey:
    """What a plain walk by page saw.

    :param count: how many tickets the shop counted before.
    :param newest: the newest ticket of its first page.
    :param ids: what it saw; None if it was taken up in its middle.
    :param seconds: when tickets were created, in order.
    """

    count: int
    newest: list[Ticket]
    ids: IdSet | None
    seconds: array[int]


def time_slices(reader: ListReader, cursor: Cursor | None = None) -> Walk[None]:
    """Read slice by slice. All times here are whole seconds, cuts in UTC, the rest in wall clock.

    :param cursor: of an earlier walk, in its survey or at a slice.
    :raises LightspeedIncompleteListError: if a crowded second can't be settled, or the shop ignores
        the page number or the date filters.
    """
    already = reader.sorted_ids()
    if cursor is None or cursor["order"] == "survey":
        survey = yield from _sample_pages(reader, cursor, resumable=len(already) == 0)
        cuts = _plan(survey.seconds, reader.page_size)
        pages = -(-len(survey.seconds) // reader.page_size)
        crowded = _cost(survey.seconds, cuts, reader.page_size) > _WORTH_A_PAGE * pages + 1
        lost = not reader.zone.known and any(
            last - first < _WIDE for first, last in pairwise([*survey.seconds[:1], *cuts])
        )
        counts = reader.counts_exactly or survey.count == len(survey.seconds)
        if survey.ids is not None and counts and (crowded or (lost and pages < _PAGES_WORTH_A_ZONE)):
            if (yield from _read_twice(reader, survey.ids, already)):
                return
            already = reader.sorted_ids()
        start: int | None = None
        first = datetime.fromtimestamp(cuts[0] if cuts else 0, UTC)
        found = (yield from detect_offset(reader, survey.newest)) if lost else None
        offset = int((reader.zone.guess(first) if found is None else found).total_seconds())
        recent: dict[int, int] = {}
    else:
        cuts, start, offset = list(cursor["cuts"]), cursor["start"], cursor["offset"]
        recent = dict(cursor["recent"])
        reader.seen = cursor["seen"]
    cuts_in_vain = 0
    while True:
        end = _avoid_dst_boundary(cuts[0] + offset) if cuts else None
        if end is not None and start is not None and end < start:
            del cuts[0]
            continue
        bounds = _bounds(start, end)
        rows = yield from reader.list(bounds=bounds)
        created = {row["id"]: int(created_at(row).timestamp()) for row in rows}
        moments = sorted(created.values())
        forgotten = max(recent.values(), default=0) - _CLOCK_CHANGE
        offset = _corrected_offset(reader, offset, start, end, moments, forgotten)
        if len(rows) >= reader.page_size:
            cut = _cut(start, end, [moment + offset for moment in moments], cuts_in_vain)
            if cut is not None:
                cuts.insert(0, cut - offset)
                cuts_in_vain += 1
                continue
            rows = yield from _confirm_by_second_pass(reader, bounds)
            created = {row["id"]: int(created_at(row).timestamp()) for row in rows}
        fresh = [row for row in rows if row["id"] not in recent and row["id"] not in already]
        cuts_in_vain = 0 if fresh else cuts_in_vain
        # Slices overlap by a second; where a clock is set forward, by all that it skipped.
        recent |= created
        latest = max(recent.values(), default=0)
        recent = {number: moment for number, moment in recent.items() if moment > latest - _CLOCK_CHANGE}
        start = end + 1 if end is not None else None
        cuts = cuts[1:]
        # Lists of lists: a cursor is plain JSON, and Airflow's state store refuses a tuple.
        pairs = [list(pair) for pair in recent.items()]
        rest = {"cuts": cuts, "start": start, "offset": offset, "recent": pairs}
        resumable = len(already) == 0 and end is not None
        yield reader.emit(fresh, {"order": "none", **rest} if resumable else None)
        if end is None:
            return


def _sample_pages(reader: ListReader, cursor: Cursor | None, *, resumable: bool) -> Walk[_Survey]:
    """Read page by page, yielding no ticket.

    :param cursor: where an earlier survey was stopped.
    """
    newest: list[Ticket] = []
    ids = array("q")
    if cursor is None:
        count, read, seconds = (yield from reader.count()), 0, array("q")
    else:
        count, read, newest = cursor["count"], cursor["page"], cursor["newest"]
        seconds = _interpolate(cursor["seconds"], cursor["read"])
    for page in range(read + 1, -(-count // reader.page_size) + 1):
        rows = yield from reader.list(page=page)
        newest = newest or sorted(rows, key=lambda row: row["id"])[-1:]
        ids.extend(row["id"] for row in rows)
        seconds.extend(int(created_at(row).timestamp()) for row in rows)
        if len(rows) < reader.page_size:
            break
        if resumable and page % _PAGES_AT_RISK == 0:
            told = [{"id": row["id"], "createdAt": row["createdAt"]} for row in newest]
            some = sorted(seconds)[:: -(-len(seconds) // _SAMPLE)]
            at = {"page": page, "count": count, "newest": told, "seconds": some, "read": len(seconds)}
            yield reader.emit([], {"order": "survey", **at})
    surveyed = None if read else IdSet(ids)
    return _Survey(count, newest, surveyed, array("q", sorted(seconds)))


def _interpolate(seconds: Sequence[int], count: int) -> array[int]:
    """Return as many moments, evenly between those of a sample."""
    moments = array("q")
    for place in range(count):
        whole, part = divmod(place * (len(seconds) - 1) / max(1, count - 1), 1)
        before, after = seconds[int(whole)], seconds[min(int(whole) + 1, len(seconds) - 1)]
        moments.append(int(before + part * (after - before)))
    return moments


def _read_twice(reader: ListReader, surveyed: IdSet, already: IdSet) -> Walk[bool]:
    """Walk by page once more, after a count, and say whether that proves the list complete.

    What both walks saw existed at the count. If it is as many as were counted, it is all there was.

    :param already: ids that were yielded before.
    """
    count = yield from reader.count()
    seen: set[int] = set()
    in_both, page, full, grown = 0, 0, True, True
    while full and grown and in_both != count:
        page += 1
        rows = yield from reader.list(page=page)
        full = len(rows) >= reader.page_size
        fresh = [row for row in rows if row["id"] not in seen]
        grown = bool(fresh)
        seen.update(row["id"] for row in fresh)
        in_both += sum(row["id"] in surveyed for row in fresh)
        yield reader.emit([row for row in fresh if row["id"] not in already], None)
    return in_both == count


def _plan(seconds: Sequence[int], page_size: int) -> list[int]:
    """Cut a list into slices that should fit on a page each."""
    # Below a page, so that a few new tickets do not spill a slice.
    planned = page_size * 24 // 25
    cuts: list[int] = []
    place = 0
    while place + planned < len(seconds):
        # The ticket after the planned ones must lie outside, by the second that bounds are off.
        second = seconds[place + planned]
        cut = second - 2
        if cut <= (cuts[-1] if cuts else seconds[0] - 2):
            cut = second + 1  # a crowded second is a slice by itself
        cuts.append(cut)
        place = bisect_left(seconds, cut)
    return cuts


def _cost(seconds: Sequence[int], cuts: Sequence[int], page_size: int) -> int:
    """Estimate how many calls slices cost."""
    calls = 0
    for start, end in pairwise([seconds[0] if seconds else 0, *cuts, seconds[-1] if seconds else 0]):
        shown = bisect_right(seconds, end + 1) - bisect_left(seconds, start)
        calls += 1 if shown < page_size else _CALLS_TO_SETTLE_A_PAGE * -(-shown // page_size)
    return calls


def _avoid_dst_boundary(end: int) -> int:
    """Keep a cut off the second before a clock may change.

    If the clock skips an hour there, the two wall clocks around the cut are an hour apart, the later
    one first, and what was created in that hour lies in neither slice.
    """
    return end - 1 if (end + 1) % _QUARTER == 0 else end


def _bounds(start: int | None, end: int | None) -> Bounds:
    bounds: Bounds = {}
    if start is not None:
        bounds["created_at_min"] = local_time_from_seconds(start - 1)
    if end is not None:
        bounds["created_at_max"] = local_time_from_seconds(end + 1)
    return bounds


def _corrected_offset(
    reader: ListReader,
    offset: int,
    start: int | None,
    end: int | None,
    created: Sequence[int],
    forgotten: int,
) -> int:
    """Correct the guess of the filters' offset by what a slice let through.

    :param forgotten: up to this moment, no later slice may show a ticket again.
    """
    if not created:
        return offset
    if end is not None:
        if end + 1 - created[-1] < -_FURTHEST:
            raise reader.incomplete("the shop ignores created_at_max, and lists are in no order")
        offset = min(offset, end + 1 - created[-1])
    if start is not None:
        if start - 1 - created[0] > _FURTHEST or created[0] <= forgotten:
            raise reader.incomplete("the shop ignores created_at_min, and lists are in no order")
        offset = max(offset, start - 1 - created[0])
    return offset


def _cut(start: int | None, end: int | None, moments: Sequence[int], cuts_in_vain: int) -> int | None:
    """Choose where to end a slice that does not fit on a page; None where it can't be cut.

    The best place is before the middle ticket's second, or behind it. If that did not help (around a
    clock change wall clocks don't tell where tickets are), halve the slice.
    """
    if start is not None and end is not None and end - start < _NARROWEST:
        return None
    middle = moments[len(moments) // 2]
    candidates = [middle - 2, middle + 1] if cuts_in_vain < 2 else []
    if start is not None and end is not None:
        candidates.append((start + end) // 2)
    elif start is not None:
        candidates.append(max(moments[-1], start) + _CLOCK_CHANGE)
    else:
        candidates.append(min(moments[0], moments[0] if end is None else end) - _CLOCK_CHANGE)
    for candidate in map(_avoid_dst_boundary, candidates):
        if (start is None or candidate >= start) and (end is None or candidate < end):
            return candidate
    return None


def _confirm_by_second_pass(reader: ListReader, bounds: Bounds) -> Walk[list[Ticket]]:
    """Read a slice that no page holds: two walks, and a count between them.

    What both walks saw existed at the count. If it is as many as were counted, it is all there was.
    """
    earlier = yield from _all_pages(reader, bounds)
    count = -1
    for _ in range(_TRIES):
        count = yield from reader.count(bounds)
        later = yield from _all_pages(reader, bounds)
        if count == len(earlier.keys() & later.keys()):
            return list(later.values())
        earlier = later
    raise reader.incomplete(
        f"between {bounds.get('created_at_min', 'the beginning')} and {bounds.get('created_at_max', 'now')} more "
        f"tickets were created than a page holds, and they can't be counted and read to the same number",
        count,
    )


def _all_pages(reader: ListReader, bounds: Bounds) -> Walk[dict[int, Ticket]]:
    found: dict[int, Ticket] = {}
    page, full, grown = 0, True, True
    while full and grown:
        page += 1
        rows = yield from reader.list(page=page, bounds=bounds)
        full = len(rows) >= reader.page_size
        before = len(found)
        found |= {row["id"]: row for row in rows}
        grown = len(found) > before
    return found
