"""The walk over a list with the lowest ids first, by ``since_id``.

Each response shows the lowest ids above the last one. No insert or delete can shift that, and no page
number is needed. The end is seen: a question that starts one ticket lower shows the last ticket, and nothing
after it.

All that was read may fit a list by last change too. There, ``since_id`` hides tickets that moved to the end.
So such a list is read to its end by page number as well, from a ticket that did not move; and as many must
have been read as the shop counts.
"""

from __future__ import annotations

from airflow_provider_lightspeed.api.paging.cursors import OldestFirstCursor, ReaderState
from airflow_provider_lightspeed.api.paging.reader import (
    ListReader,
    NotInOrder,
    Section,
    Walk,
    ascending,
    overlapping,
)
from airflow_provider_lightspeed.api.tickets import Ticket


def oldest_first(
    reader: ListReader, first: Section | None, cursor: OldestFirstCursor | None = None
) -> Walk[None]:
    """Go up by ``since_id``.

    :param first: the first page; None with a cursor.
    :raises NotInOrder: if the list turns out not to be in order.
    """
    last, inclusive = (cursor.last, cursor.inclusive) if cursor else (0, False)
    tail: list[Ticket] = []

    def position(state: ReaderState) -> OldestFirstCursor:
        return OldestFirstCursor(state, last, inclusive)

    lower = empty = False
    section = first or (yield from reader.list(since_id=last + inclusive))
    while True:
        reader.track_updated_at(section.rows, newest_first=False)
        ids, asked = section.ids, last - lower
        if not ascending(ids) or (ids and ids[0] < asked):
            raise NotInOrder
        inclusive = inclusive or ids[:1] == [asked]
        fresh = [row for row in section.rows if row["id"] > last]
        if fresh:
            # The first page, and one that is not full, may be the last: the next question starts one ticket lower.
            lower = section.room or (section is first and not reader.maybe_ordered_by_update)
            empty = False
            last = reader.boundary = fresh[-1]["id"]
            tail = [*tail, *fresh][-reader.page_size :]
            yield reader.emit(fresh, None if reader.maybe_ordered_by_update else position)
        elif empty or (lower and last in ids and section.room):
            break  # after the last ticket there is none; or it is gone, and questions of both shapes show none
        else:
            lower, empty = not lower, True
        if reader.maybe_ordered_by_update and (lower or empty):
            yield from _read_end(reader, tail)
            break
        # An inclusive since_id would show the last ticket again, on every page.
        section = yield from reader.list(since_id=last - lower + inclusive)


def _read_end(reader: ListReader, tail: list[Ticket]) -> Walk[None]:
    """Read the end of the list by page number, from a ticket that has not moved, and count.

    :param tail: the last tickets read.
    :raises NotInOrder: if a ticket has moved, or another number is counted.
    """
    if not reader.counts_exactly:
        raise NotInOrder
    page, limit = overlapping(reader.seen - 1, reader.limit)
    end = yield from reader.list(page=page, limit=limit)
    known = {row["id"]: row.get("updatedAt") for row in tail}
    fresh = [row for row in end.rows if row["id"] not in known]
    unmoved = end.rows and known.get(end.rows[0]["id"], reader) == end.rows[0].get("updatedAt")
    in_order = ascending(end.ids) and all(row["id"] > tail[-1]["id"] for row in fresh)
    if not (unmoved and end.room and in_order):
        raise NotInOrder
    if fresh:
        reader.boundary = fresh[-1]["id"]
        yield reader.emit(fresh)
    if (yield from reader.count()) != reader.seen:
        raise NotInOrder
