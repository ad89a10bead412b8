"""The walk over a list in no order, or in one that changes while it is read.

A walk by page proves nothing there: a ticket that is changed may move from a page not yet read to one that
was. But the creation time of a ticket never changes. So the list is read in slices of creation time, each so
narrow that one response shows it whole; one response is one moment.

Where to cut is planned from a sample, a plain walk by page that may miss tickets. Rows may be left out of a
response, and tickets behind it be missed. So it is taken for its whole slice only if it had so much room that rows
left out can't be the reason: half a page, or less if the sample had many pages and all were full. Slices are planned
to fit into that. After a longer response, the page behind must show no others; else the slice is cut again.

A second with more tickets than a page holds can't be cut: it is read page by page until two passes, and a
count between them, agree (`_confirm_by_second_pass`). Neighbouring slices overlap by two seconds. If that would
be most of them, or if they are narrow and the filters' zone is not known, the whole list is read that way
(`_read_twice`).

A slice may come from a replica that lacks the newest tickets. So at the end, the shop is asked for all that is
newer than the last ones read, and mostly twice (`_read_newest`).

Slices are cut in the local time of the filters. Together they cover all of it whatever its zone is.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise
from math import ceil

from airflow_provider_lightspeed.api.paging.cursors import (
    KnownTicket,
    ReaderState,
    SampleCursor,
    SliceCursor,
)
from airflow_provider_lightspeed.api.paging.detect_offset import detect_offset
from airflow_provider_lightspeed.api.paging.reader import (
    Bounds,
    IdSet,
    ListReader,
    NotInOrder,
    Section,
    Walk,
    ascending,
    descending,
    overlapping,
    second_of,
)
from airflow_provider_lightspeed.api.paging.timezone import HIGHEST, LOWEST, local_time_from_seconds
from airflow_provider_lightspeed.api.tickets import SMALLEST_PAGE, Ticket, created_at

#: How often a slice is read again that shows no ticket, and counts some.
_TRIES_IF_EMPTY = 5
#: How often a crowded second is read while its tickets are being deleted.
_TRIES = 20
#: No filter's local time is further from UTC, in seconds.
_FURTHEST = 15 * 3600
#: Clocks change at full quarters of an hour, by three hours at most.
_QUARTER, _CLOCK_CHANGE = 900, 3 * 3600
#: A slice of so many seconds is not cut again: bounds are off by one on either side.
_NARROWEST = 3
#: If so many pages of a sample were full, few rows are left out of any page:
_FULL_PAGES = 4
#: so many at most, or a twelfth.
_LEFT_OUT = 3
#: Share of it that slices are planned for, so that a few new tickets do not spill one.
_PLANNED = 0.96
#: Slices that cost more calls than this, for each page of the list, are not worth it.
_WORTH_A_PAGE = 1.5
#: What it takes to find out that a slice is too full, and to read it, for each page that it holds.
_CALLS_TO_SETTLE_A_PAGE = 4
#: With narrower slices it matters how far the zone of the filters is off.
_WIDE = 4 * 3600
#: Pages of a sample that are read again at most, after it was stopped.
_PAGES_AT_RISK = 5
#: Moments that its cursor holds at most: some 30 kB.
_SAMPLE = 2048
#: Detecting the zone costs up to ten calls: too many for a list of fewer pages.
_PAGES_WORTH_A_ZONE = 8
#: Nor is a count worth its call there, which is but an estimate for the caller.
_PAGES_WORTH_A_COUNT = 8
#: Pages in a row that show nothing new (the shop ignores the page number), or only the end of the list.
_MAX_IDLE_PAGES = 4


class _Pass:
    """Reads a list page by page, in whatever order it is; each page starts at the last row of the one before.

    :ivar ids: what was read, in the order of the list.
    :ivar unbroken: whether each page has shown that row, so that nothing can be missing between two pages.
    :ivar ended: whether the end was seen: the last row, and a page half empty after it.
    :ivar regular: whether all pages were full but the last, without repeated rows.
    """

    def __init__(self, reader: ListReader, bounds: Bounds | None = None, depth: int = 0) -> None:
        self.ids = array("q")
        self.depth = depth
        self.unbroken = depth == 0
        self.ended = False
        self.regular = True
        self._reader = reader
        self._bounds = bounds
        self._known: set[int] = set()
        self._idle = 0
        self._short = False

    @property
    def whole(self) -> bool:
        """Whether the list was read whole, if nothing in it has moved meanwhile."""
        return self.unbroken and self.ended

    def read(self, first: Section | None = None) -> Walk[list[Ticket] | None]:
        """Return the rows of the next page that follow those read; None after the last page.

        :param first: the first page, if it was read already.
        """
        if self.ended or self._idle >= _MAX_IDLE_PAGES:
            return None
        page, limit = overlapping(self.depth - 1, self._reader.limit)
        try:
            section = first or (yield from self._reader.list(page=page, limit=limit, bounds=self._bounds))
        except NotInOrder:
            self.unbroken = False
            return None
        ids, rows = section.ids, section.rows
        if not rows:
            self._idle += 1  # one empty response proves nothing
            return rows
        shows_last = bool(self.ids) and self.ids[-1] in ids
        if shows_last:
            rows = rows[ids.index(self.ids[-1]) + 1 :]
        elif self.ids or page > 1:
            self.unbroken = False
        rows = [row for row in rows if row["id"] not in self._known]
        self.depth = section.start + len(section.rows)
        if not rows:
            # Rows are left out of this page: the last one is further down.
            self.depth += (section.limit - section.size) // 2 + 1
        self.ids.extend(row["id"] for row in rows)
        self._known.update(row["id"] for row in rows)
        near_end = section.half_empty and shows_last
        # Tickets may come as fast as the end is read: it is not read forever.
        self._idle = 0 if rows and not near_end else self._idle + 1
        self.ended = near_end and not rows
        if rows and self._short:
            self.regular = False  # that page was not the last
        self._short = section.size < section.asked
        self.regular = self.regular and len(section.rows) == section.size
        return rows


@dataclass(frozen=True)
class _Sample:
    """What a plain walk by page has seen.

    :param newest: id and ``createdAt`` of the newest ticket of its first page.
    :param order: the pass itself; None if it was resumed.
    :param seconds: when tickets were created, ascending.
    :param regular: whether all pages were full.
    """

    newest: KnownTicket | None
    order: _Pass | None
    seconds: array[int]
    regular: bool


def time_slices(
    reader: ListReader, first: Section | None, cursor: SampleCursor | SliceCursor | None = None
) -> Walk[None]:
    """Read slice by slice, then the newest tickets once more.

    :param first: the first page, if it was just read.
    :param cursor: of an earlier walk, in its sample or at a slice.
    :raises LightspeedIncompleteListError: if a crowded second can't be read, or the shop ignores
        the page number or the date filters.
    """
    newest, confirmed = yield from _read_slices(reader, first, cursor)
    for _ in range(_TRIES):
        rest = yield from _read_newest(reader, newest, confirmed=confirmed)
        if rest is None:
            return
        # Many tickets have come meanwhile. They are a list of their own.
        newest, confirmed = yield from _read_slices(rest, None)
        reader.seen = rest.seen
    raise reader.incomplete("tickets are created faster than the list can be read")


def _read_newest(reader: ListReader, newest: list[int], *, confirmed: bool) -> Walk[ListReader | None]:
    """Ask for the newest tickets, since a slice may have come from a replica that lacks some.

    :param newest: the highest ids read.
    :param confirmed: whether the last call showed the very newest of them; then one more is enough.
    :return: a reader for the tickets above the lowest of them, if they are more than a page.
    """
    floor = newest[0] if 0 < len(newest) < reader.seen else None
    found: dict[int, Ticket] = {}
    for page, limit in ((1, reader.page_size), (2, reader.limit)):
        section = yield from reader.list(since_id=floor, page=page, limit=limit)
        sections = [section]
        if not (page == 1 and confirmed and section.half_empty and newest[-1] in section.ids):
            # Two servers may answer in turn.
            sections.append((yield from reader.list(since_id=floor, page=page, limit=limit - 1)))
        found |= {row["id"]: row for section in sections for row in section.rows}
        if floor is not None and any(ticket_id < floor for ticket_id in found):
            return None  # the shop ignores since_id
        if floor is not None and page == 1 and not found and reader.counts_exactly:
            count = yield from reader.count(since_id=floor)
            if count >= SMALLEST_PAGE:
                raise reader.incomplete(
                    f"the shop lists no ticket after id {floor} any more, and counts {count:,}"
                )
        if all(section.half_empty for section in sections):
            fresh = [row for ticket_id, row in found.items() if ticket_id not in newest]
            if fresh:
                yield reader.emit(fresh)
            return None
    return reader.above(floor, newest)


def _kept(reader: ListReader) -> int:
    """Return how many of the highest ids are remembered: mostly half a page holds them, and news too."""
    return max(SMALLEST_PAGE, reader.limit // 3)


def _read_slices(
    reader: ListReader, first: Section | None, cursor: SampleCursor | SliceCursor | None = None
) -> Walk[tuple[list[int], bool]]:
    """Read slice by slice; return the highest ids read, ascending, and whether the last call showed them.

    All times here are whole seconds, cuts in UTC, the rest in local time.
    """
    already = reader.sorted_ids()
    newest = already.highest(_kept(reader))
    if isinstance(cursor, SliceCursor):
        newest = cursor.newest
        slices, start, offset, regular = list(cursor.slices), cursor.start, cursor.offset, cursor.regular
        recent = {pair[0]: pair[1] for pair in cursor.recent}
    else:
        sample = yield from _sample_pages(reader, first, cursor, resumable=len(already) == 0)
        seconds = sample.seconds
        regular = sample.regular and len(seconds) > _FULL_PAGES * reader.limit
        planned = ceil(_PLANNED * _most_rows(reader.limit, regular=regular))
        ends = _plan(seconds, planned)
        pages = -(-len(seconds) // reader.limit)
        crowded = _cost(seconds, ends, reader.limit, planned) > _WORTH_A_PAGE * pages + 1
        lost = not reader.zone.known and any(
            last - first < _WIDE for first, last in pairwise([*seconds[:1], *ends])
        )
        if sample.order is not None and (crowded or (lost and pages < _PAGES_WORTH_A_ZONE)):
            proven = yield from _read_twice(reader, sample.order, already, seconds)
            already = reader.sorted_ids()
            newest = already.highest(_kept(reader))
            if proven:
                return newest, False
        slices, start, recent = [*ends, None], None, {}
        earliest = datetime.fromtimestamp(ends[0] if ends else 0, UTC)
        detected = None
        if lost and sample.newest is not None:
            detected = yield from detect_offset(reader, [sample.newest])  # type: ignore[list-item]  # id and createdAt are enough
        offset = int((reader.zone.guess(earliest) if detected is None else detected).total_seconds())
    useless_cuts = 0
    created: dict[int, int] = {}
    asked_more = True
    while slices:
        planned_end = slices.pop(0)
        end = None if planned_end is None else _avoid_dst_boundary(planned_end + offset)
        if end is not None and start is not None and end < start:
            continue
        bounds = _bounds(start, end)
        section = yield from reader.list(bounds=bounds)
        if not section.rows:
            section = yield from _read_empty_again(reader, bounds)
        rows = section.rows
        created = _seconds(reader, rows)
        moments = sorted(created.values())
        forgotten = max(recent.values(), default=0) - _CLOCK_CHANGE
        offset = _corrected_offset(reader, offset, start, end, moments, forgotten)
        is_full = asked_more = not section.room
        if section.room and section.size > _most_rows(section.limit, regular=regular):
            asked_more = True
            is_full = yield from _has_more(reader, section, bounds)
        if is_full:
            local = [moment + offset for moment in moments]
            first_end = _cut(start, end, local, _denser_end(section.ids), useless_cuts)
            if first_end is not None:
                slices[:0] = [first_end - offset, planned_end]
                useless_cuts += 1
                continue
            rows = yield from _confirm_by_second_pass(reader, bounds)
            created = _seconds(reader, rows)
        fresh = [row for row in rows if row["id"] not in recent and row["id"] not in already]
        useless_cuts = 0 if fresh else useless_cuts
        # Once some were dropped, more would not be the highest ones.
        kept = _kept(reader) if len(newest) == reader.seen else len(newest)
        newest = sorted({*newest, *(row["id"] for row in fresh)})[-kept:]
        # Slices overlap by a second; where a clock is set forward, by all that it skipped.
        recent |= created
        latest = max(recent.values(), default=0)
        recent = {number: moment for number, moment in recent.items() if moment > latest - _CLOCK_CHANGE}
        start = None if end is None else end + 1

        def position(
            state: ReaderState,
            start: int | None = start,
            offset: int = offset,
            recent: dict[int, int] = recent,
            newest: list[int] = newest,
        ) -> SliceCursor:
            pairs = [list(pair) for pair in recent.items()]
            return SliceCursor(state, regular, [*slices], start, offset, pairs, newest)

        yield reader.emit(fresh, position if slices and not len(already) else None)
    return newest, not asked_more and len(newest) >= SMALLEST_PAGE and created.keys() >= {
        *newest[-SMALLEST_PAGE:]
    }


def _read_empty_again(reader: ListReader, bounds: Bounds) -> Walk[Section]:
    """Read a slice again that seems to hold no ticket; return what it shows.

    One empty response proves nothing. Nor do two: a shop whose lists fail returns one after the other. So the slice is
    counted too.
    """
    count = 0
    for smaller in range(1, _TRIES_IF_EMPTY + 1):
        section = yield from reader.list(bounds=bounds, limit=max(1, reader.page_size - smaller))
        if section.rows or not reader.counts_exactly:
            return section
        count = yield from reader.count(bounds)
        if not count:
            return section
    if count < SMALLEST_PAGE:
        return section  # rows may be left out of a list, and counted
    raise reader.incomplete(
        f"between {bounds.get('created_at_min', 'the beginning')} and {bounds.get('created_at_max', 'now')} the shop lists "
        f"no ticket, and counts {count:,}"
    )


def _has_more(reader: ListReader, section: Section, bounds: Bounds) -> Walk[bool]:
    """Return whether a slice holds tickets that its first response does not show."""
    behind = yield from reader.list(page=2, limit=ceil(section.size * 3 / 4), bounds=bounds)
    if behind.ids[:1] == section.ids[:1]:
        return False  # the shop ignores the page number
    if not behind.half_empty:
        return True
    ids = behind.ids
    if ids != section.ids[behind.start :]:
        # Something has moved: a ticket behind the response may have come to its front.
        again = yield from reader.list(bounds=bounds)
        ids = [*ids, *again.ids]
    # Tickets that have come meanwhile need not be read.
    newest = max(reader.boundary, *section.ids)
    return any(ticket_id <= newest for ticket_id in {*ids} - {*section.ids})


def _seconds(reader: ListReader, rows: Sequence[Ticket]) -> dict[int, int]:
    """Return when tickets were created, by id, without rejected ones that do not say so."""
    if not reader.keep_malformed:
        return {row["id"]: int(created_at(row).timestamp()) for row in rows}
    return {row["id"]: second for row in rows if (second := second_of(row)) is not None}


def _sample_pages(
    reader: ListReader, first: Section | None, cursor: SampleCursor | None, *, resumable: bool
) -> Walk[_Sample]:
    """Read page by page, yielding no ticket.

    :param first: the first page, if it was just read.
    :param cursor: where an earlier sampling was stopped.
    """
    if cursor is None:
        order, newest, seconds, regular = _Pass(reader), None, array("q"), True
    else:
        newest, regular = cursor.newest, cursor.regular
        order, seconds = _Pass(reader, depth=cursor.depth), _interpolate(cursor.seconds, cursor.depth)
    pages = 0
    while (rows := (yield from order.read(None if pages else first))) is not None:
        pages += 1
        created = _seconds(reader, rows)
        seconds.extend(created.values())
        if created:
            highest = max(created)
            row = next(row for row in rows if row["id"] == highest)
            newest = newest or {"id": highest, "createdAt": row["createdAt"]}
            # All that follows is read after this ticket was there.
            reader.boundary = max(reader.boundary, highest)
        if pages == _PAGES_WORTH_A_COUNT and reader.counted is None:
            yield from reader.count()
        if resumable and pages % _PAGES_AT_RISK == 0:
            some = sorted(seconds)[:: -(-len(seconds) // _SAMPLE) or 1]

            def position(
                state: ReaderState, newest: KnownTicket | None = newest, some: list[int] = some
            ) -> SampleCursor:
                return SampleCursor(state, order.depth, newest, some, regular and order.regular)

            yield reader.emit([], position)
    unbroken = order if cursor is None else None
    return _Sample(newest, unbroken, array("q", sorted(seconds)), regular and order.regular and order.ended)


def _interpolate(seconds: Sequence[int], count: int) -> array[int]:
    """Return as many moments, evenly between those of a sample."""
    moments = array("q")
    for number in range(count if seconds else 0):
        whole, part = divmod(number * (len(seconds) - 1) / max(1, count - 1), 1)
        before, after = seconds[int(whole)], seconds[min(int(whole) + 1, len(seconds) - 1)]
        moments.append(int(before + part * (after - before)))
    return moments


def _read_twice(reader: ListReader, earlier: _Pass, already: IdSet, seconds: Sequence[int]) -> Walk[bool]:
    """Read the whole list by page once more, after a count, and return whether that proves it complete.

    :param already: ids that were yielded before.
    :param seconds: when its tickets were created, ascending.
    """
    count = yield from count_in_parts(reader, seconds, len(earlier.ids))
    later = _Pass(reader)
    yielded: set[int] = set()
    while (rows := (yield from later.read())) is not None:
        fresh = [row for row in rows if row["id"] not in already and row["id"] not in yielded]
        yielded.update(row["id"] for row in fresh)
        yield reader.emit(fresh)
    return _agree(earlier, later, count) and set(earlier.ids) <= set(later.ids)


def count_in_parts(reader: ListReader, seconds: Sequence[int], shown: int) -> Walk[int | None]:
    """Count a list in two parts of its time; None if no time divides it.

    A shop may cap its counts, and its lists at the same number. Two parts that are each below what its pages show are
    not capped. The border is looked for like the offset of the filters, since both parts are to hold tickets.

    :param seconds: when some of its tickets were created, ascending.
    :param shown: tickets that its pages show.
    """
    if not seconds or seconds[-1] - seconds[0] < _NARROWEST:
        return (yield from reader.count())
    amid = seconds[len(seconds) // 4 : -(len(seconds) // 4) or None]
    before, after = max(pairwise(amid), key=lambda pair: pair[1] - pair[0])
    middle = (before + after) // 2
    offset = int(reader.zone.guess(datetime.fromtimestamp(middle, UTC)).total_seconds())
    low, high = int(LOWEST.total_seconds()) - _QUARTER, int(HIGHEST.total_seconds()) + _QUARTER
    while low < offset < high:
        border = _avoid_dst_boundary(middle + offset)
        older = yield from reader.count(_bounds(None, border))
        newer = (yield from reader.count(_bounds(border + 1, None))) if older else 0
        if older and newer:
            break
        low, high = (low, offset) if older else (offset, high)
        offset = (low + high) // 2 // _QUARTER * _QUARTER
    else:
        return None
    reader.counted = older + newer  # an estimate for the caller, who would count again
    if max(older, newer) >= shown:
        return None
    if older + newer == shown:
        return shown
    # Bounds overlap: tickets at the border may be in both parts.
    twice = yield from reader.count(_bounds(border + 1, border))
    return older + newer - twice


def _agree(earlier: _Pass, later: _Pass, count: int | None) -> bool:
    """Return whether two passes prove a list complete.

    What both have seen existed between them. If as many were counted then, it is all there was. Another count proves
    nothing, even a lower one: the shop may count too few and cut its lists.
    """
    if not (earlier.whole and later.whole):
        return False
    both = len(set(earlier.ids) & set(later.ids))
    return count == both


def _plan(seconds: Sequence[int], planned: int) -> list[int]:
    """Return where to cut a list into slices of so many tickets."""
    cuts: list[int] = []
    cut, index = seconds[0] - 2 if seconds else 0, 0
    while index + planned < len(seconds):
        # The ticket after the planned ones must lie outside, by the second that bounds are off.
        second = seconds[index + planned]
        # A crowded second is a slice by itself.
        cut = second - 2 if second - 2 > cut else second + 1
        cuts.append(cut)
        index = bisect_left(seconds, cut)
    return cuts


def _most_rows(limit: int, *, regular: bool) -> int:
    """Return how many rows a response may have to be taken for its whole slice.

    :param regular: whether the sample had many pages, and all were full.
    """
    return max(limit // 2, limit - max(_LEFT_OUT, limit // 12) if regular else 0)


def _cost(seconds: Sequence[int], cuts: Sequence[int], limit: int, most: int) -> int:
    """Estimate how many calls slices cost.

    :param most: rows of a response that takes no second call.
    """
    calls = 0
    for start, end in pairwise([seconds[0] if seconds else 0, *cuts, seconds[-1] if seconds else 0]):
        shown = bisect_right(seconds, end + 1) - bisect_left(seconds, start)
        calls += 1 if shown <= most else 2 if shown < limit else _CALLS_TO_SETTLE_A_PAGE * -(-shown // limit)
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


def _cut(
    start: int | None, end: int | None, moments: Sequence[int], share: float, useless_cuts: int
) -> int | None:
    """Choose where to end a slice that does not fit on a page; None if it can't be cut.

    The best place is before a ticket's second, or behind it. If that did not help (around a clock change
    local times don't tell where tickets are), halve the slice.

    :param share: part of the tickets shown that the first slice should hold.
    """
    if start is not None and end is not None and end - start < _NARROWEST:
        return None
    middle = moments[int(len(moments) * share)]
    candidates = [middle - 2, middle + 1] if useless_cuts < 2 else []
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


def _denser_end(ids: Sequence[int]) -> float:
    """Return where to cut a slice that is too full: what its first page shows of it is one end, by the order of ids."""
    return 1 / 8 if descending(ids) else 7 / 8 if ascending(ids) else 1 / 2


def _confirm_by_second_pass(reader: ListReader, bounds: Bounds) -> Walk[list[Ticket]]:
    """Read a slice that no page holds, until two passes agree."""
    earlier, rows = yield from _all_pages(reader, bounds)
    count = 0
    for _ in range(_TRIES):
        count = yield from reader.count(bounds)
        later, more = yield from _all_pages(reader, bounds)
        if _agree(earlier, later, count):
            return [*(rows | more).values()]
        earlier, rows = later, more
    raise reader.incomplete(
        f"between {bounds.get('created_at_min', 'the beginning')} and {bounds.get('created_at_max', 'now')} more "
        f"tickets were created than a page holds, and they can't be counted and read to the same number",
        count,
    )


def _all_pages(reader: ListReader, bounds: Bounds) -> Walk[tuple[_Pass, dict[int, Ticket]]]:
    found: dict[int, Ticket] = {}
    order = _Pass(reader, bounds)
    while (rows := (yield from order.read())) is not None:
        found |= {row["id"]: row for row in rows}
    return order, found
