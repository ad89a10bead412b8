"""The walk over a list with the highest ids first, by page number.

Each response shows neighbours of the list at one moment. Tickets that come or go between two calls move all
others, so a page alone leaves a gap. Therefore each page starts inside what was read: the *chain*, from the
highest id to the lowest one so far. What a response shows below the chain follows it without a gap, whatever
happened between the two calls, and whichever moment the response is from. No count, page length or date is
part of this proof.

A replica may lack the newest tickets. So a first page that may not be the whole list is read again, and so is one
that the next response contradicts; what is above it then belongs to it.

The end is a response that starts in the chain and had room for more. A shop may cut the list at some depth,
so a question by date confirms it: nothing is older than the last ticket.

All that was read may fit a list by last change too, where a changed ticket moves to the top. Such a list is
read at its top again, down to a ticket that has not moved; and as many must have been read as the shop counted.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import takewhile
from math import ceil

from airflow_provider_lightspeed.api.errors import LightspeedMalformedResponseError
from airflow_provider_lightspeed.api.paging.cursors import NewestFirstCursor, ReaderState
from airflow_provider_lightspeed.api.paging.detect_offset import detect_offset
from airflow_provider_lightspeed.api.paging.reader import (
    ListReader,
    NotInOrder,
    Page,
    Section,
    Walk,
    descending,
    overlapping,
    second_of,
)
from airflow_provider_lightspeed.api.paging.time_slices import count_in_parts
from airflow_provider_lightspeed.api.paging.timezone import LOWEST, TICK, local_time
from airflow_provider_lightspeed.api.tickets import Ticket, created_at

#: Calls without a new ticket, one after another, after which the list is read in another way.
_MAX_IDLE_CALLS = 16
#: How fast a measured drift is forgotten: it is some calls old when it is needed.
_FORGET = 0.9


def newest_first(
    reader: ListReader, first: Section | None, cursor: NewestFirstCursor | None = None
) -> Walk[None]:
    """Go down by page number; each page starts in the chain.

    :param first: the first page; None with a cursor.
    :raises NotInOrder: if the list turns out not to be in order, or its deep pages can't be read.
    """
    count: int | None = None
    # What is above this id may have been hidden by a replica; None: it was asked for.
    top: int | None = None
    if first is not None:
        # Repeated rows may not count for the place of the last one.
        top, bottom, depth, drift = first.ids[0], first.ids[-1], len(first.rows), 0.0
    elif cursor is not None:
        top, bottom, depth, drift = cursor.top, cursor.bottom, cursor.depth, cursor.drift

    def page_of(rows: list[Ticket]) -> Page:
        state = None if reader.maybe_ordered_by_update else position
        return reader.emit(rows, state)

    def position(state: ReaderState) -> NewestFirstCursor:
        return NewestFirstCursor(state, top, bottom, depth, drift)

    if first is not None and top is not None:
        yield page_of(first.rows)
        if first.may_be_full or reader.contradicted:
            newer = yield from _read_newer(reader, top, looks=2 if reader.contradicted else 1)
            top = None
            if newer:
                yield page_of(newer)
            first = replace(first, rows=[*newer, *first.rows])
        if reader.counts_exactly and reader.maybe_ordered_by_update:
            count = yield from reader.count()
    in_first, margin, idle = reader.seen, ceil(drift), 0
    near_end = False
    while True:
        page, limit = overlapping(depth - 1 - margin, reader.limit)
        if near_end:
            page, limit = _half_empty(depth, reader.limit) or (page, limit)
        section = yield from reader.list(page=page, limit=limit if page > 1 else reader.page_size)
        if not descending(section.ids):
            raise NotInOrder
        if top is not None:
            has_moved = section.ids[depth - 1 - section.start :][:1] != [bottom]
            newer = (yield from _read_newer(reader, top, looks=2)) if has_moved else []
            top = None
            if newer:
                yield page_of(newer)
                first = first and replace(first, rows=[*newer, *first.rows])
                in_first = reader.seen
        reader.track_updated_at(section.rows, newest_first=True)
        fresh = [row for row in section.rows if row["id"] < bottom]
        known = len(section.rows) - len(fresh)
        in_chain = known > 0 or page == 1
        idle = 0 if fresh and in_chain else idle + 1
        if idle >= _MAX_IDLE_CALLS:
            raise NotInOrder
        asked_half_empty, near_end = near_end, False
        if not in_chain:
            # Deletions have moved the chain up, out of this page.
            margin = 2 * max(margin, depth - section.start)
            continue
        if page > 1:
            # So many rows fewer than expected are above the chain's lowest one.
            drift = max(_FORGET * drift, depth - section.start - known)
            margin = ceil(drift)
        if section.rows and section.ids[-1] > bottom:
            # New tickets have moved the chain down: its lowest one is further down than this page.
            depth = max(depth, section.start + len(section.rows)) + 1
        else:
            depth = section.start + len(section.rows)
            if section.rows:
                bottom = section.ids[-1]
        if fresh:
            if reader.counted is None and reader.counts_exactly and first is not None:
                yield from reader.count()  # an estimate for the caller
            yield page_of(fresh)
        if not section.room or not section.rows:
            continue
        shows_end = section.half_empty and not fresh
        # A list of one page needs no date: what follows its last row was just asked for.
        is_short = (
            first is not None
            and first.size < reader.page_size
            and reader.seen == in_first
            and section.rows == first.rows[section.start :]
        )
        some = [*(first.rows if first else ()), *section.rows]
        older = None if is_short else (yield from _has_older(reader, some, bottom))
        if older is False or (older is None and shows_end):
            break
        if shows_end:
            raise NotInOrder  # there are older tickets, but no page shows them
        if not fresh and page > 1 and older is None and not asked_half_empty:
            near_end = True  # a page that starts near the end shows whether it is one
        elif not fresh:
            # Rows are left out of this page, so the chain's lowest one is further down.
            depth += (section.limit - section.size + 1) // 2
    if reader.maybe_ordered_by_update and first is not None:
        yield from _read_top(reader, first, count, reader.seen - in_first)


def _read_newer(reader: ListReader, top: int, looks: int) -> Walk[list[Ticket]]:
    """Read the first page again, and return the tickets above an id: a replica may have lacked them.

    :raises NotInOrder: if a ticket has moved to the top.
    """
    newer: list[Ticket] = []
    for look in range(1, looks + 1):
        again = yield from reader.list(limit=reader.page_size - look % 2)
        if not descending(again.ids):
            raise NotInOrder
        newer = [*(row for row in again.rows if row["id"] > top), *newer]
        top = max([top, *again.ids])
    reader.boundary = max(reader.boundary, top)
    return newer


def _half_empty(depth: int, limit: int) -> tuple[int, int] | None:
    """Choose page and limit such that the page starts in the chain, and is half empty if the chain is the list."""
    for size in range(limit, limit // 2, -1):
        before, rows = divmod(depth, size)
        if 0 < rows <= size // 2:
            return before + 1, size
    return None


def _has_older(reader: ListReader, rows: list[Ticket], bottom: int) -> Walk[bool | None]:
    """Ask by date whether a ticket is below the chain; None: neither dates nor a count contradict that none is.

    The last ticket of the list is the chain's lowest one, or one above it if others were deleted. The likeliest offset
    of the filters shows the last ticket, and none after it. If it is not the right one, the lowest offset hides the
    last ticket. If the shop counts more than were read, or any below the last ticket, the offset is detected.

    :param rows: some of the list, its last one last.
    :raises NotInOrder: if it can't be.
    """
    last = rows[-1]
    try:
        created = created_at(last)
    except LightspeedMalformedResponseError:
        return None
    for offset in (reader.zone.guess(created), LOWEST):
        section = yield from reader.list(bounds={"created_at_max": local_time(created, offset + TICK)})
        if any(ticket_id < bottom for ticket_id in section.ids):
            return True
        if section.half_empty and last["id"] in section.ids:
            return False
    if reader.counts_exactly:
        above = yield from reader.count(since_id=last["id"] - 1)
        seconds = sorted(second for row in rows if (second := second_of(row)) is not None)
        count = yield from count_in_parts(reader, seconds, reader.seen)
        if count is not None and count <= above and count <= reader.seen:
            return None
    detected = yield from detect_offset(reader, [last])
    if detected is None:
        raise NotInOrder  # the counts contradict what was shown, and no date can be asked to find out
    section = yield from reader.list(bounds={"created_at_max": local_time(created, detected + TICK)})
    if any(ticket_id < bottom for ticket_id in section.ids):
        return True
    if not section.half_empty:
        raise NotInOrder  # of so many tickets of one second, some may be on the next page
    return False


def _read_top(reader: ListReader, first: Section, count: int | None, below: int) -> Walk[None]:
    """Read the first page again, down to a ticket that has not moved.

    :param first: the first page as it was.
    :param count: taken after it.
    :param below: tickets read after the count.
    :raises NotInOrder: if a ticket has moved to the top, or another number was counted.
    """
    if count is None:
        raise NotInOrder
    top = yield from reader.list()
    before = {row["id"]: row.get("updatedAt") for row in first.rows}
    new = list(takewhile(lambda row: before.get(row["id"], reader) != row.get("updatedAt"), top.rows))
    there = sum(ticket_id in before for ticket_id in top.ids)
    moved = not descending(top.ids) or any(row["id"] <= first.ids[0] for row in new)
    if moved or len(new) == len(top.rows) or below + there != count:
        raise NotInOrder
