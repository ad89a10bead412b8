"""The walk over a list with the lowest ids first, by ``since_id``.

Each response shows the lowest ids above the last one. No insert or delete can shift that, and no page
number is needed. The end is seen: a question that starts one ticket lower shows the last ticket, and nothing
after it. If no response shows that ticket, the shop must count none after it.

All that was read may fit a list by last change too. There, ``since_id`` hides tickets that moved to the end.
So the end of such a list is read by page number as well: it must show the same tickets, and the list must be as
long as the shop counted at the beginning, and as long as what was read.
"""

from __future__ import annotations

from airflow_provider_lightspeed.api.paging.cursors import OldestFirstCursor, ReaderState
from airflow_provider_lightspeed.api.paging.reader import (
    ListReader,
    NotInOrder,
    Section,
    Walk,
    ascending,
)
from airflow_provider_lightspeed.api.tickets import Ticket

#: How often the end of the list is looked for where the shop counts tickets that no response shows.
_MOST_LOOKS = 8


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

    lower = empty = shows_last = False
    looks = 0
    count: int | None = None
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
            # Rows left out of it may be why a response looks as if more had fit.
            is_look = not section.may_be_full if section is first else section.half_empty
            looks, empty, shows_last = int(is_look), False, False
            last = reader.boundary = fresh[-1]["id"]
            tail = [*tail, *fresh][-reader.page_size :]
            yield reader.emit(fresh, None if reader.maybe_ordered_by_update else position)
        else:
            looks += 1
            shows_last = shows_last or last in ids
            # After the last ticket there is none; or it is gone, and questions of both shapes show none. Two servers
            # may answer in turn, of which one lags behind.
            is_end = empty or (lower and last in ids and section.room)
            if is_end and looks >= (4 if reader.contradicted else 2):
                more = 0
                if not shows_last and reader.counts_exactly:
                    more = yield from reader.count(since_id=last + inclusive)
                if not more:
                    break
                if looks >= _MOST_LOOKS:
                    raise reader.incomplete(f"the shop lists no ticket after id {last}, and counts {more:,}")
            lower, empty = not lower, True
        if reader.maybe_ordered_by_update:
            if count is None:
                count = yield from reader.count()
            if lower or empty or reader.seen >= count:
                yield from _read_end(reader, tail, count, end_seen=looks > 0)
                break
        # An inclusive since_id would show the last ticket again, on every page.
        section = yield from reader.list(since_id=last - lower + inclusive)


def _read_end(reader: ListReader, tail: list[Ticket], count: int, *, end_seen: bool) -> Walk[None]:
    """Read the end of the list by page number: it must show the last tickets as they were read, and no others.

    :param tail: the last tickets read.
    :param count: taken after the first page. As many must have been read, and be in the list.
    :param end_seen: whether the last response had room for more.
    :raises NotInOrder: if not.
    """
    # The page that shows most of the end, and has room for more.
    limit = max(range(reader.limit // 2 + 1, reader.limit + 1), key=lambda size: reader.seen % size)
    end = yield from reader.list(page=reader.seen // limit + 1, limit=limit)
    last = [(row["id"], row.get("updatedAt")) for row in tail[-len(end.rows) :]]
    shown = [(row["id"], row.get("updatedAt")) for row in end.rows]
    size = end.start + len(end.rows)
    if not (reader.counts_exactly and end.room and shown == last and reader.seen == size == count):
        raise NotInOrder
    if end_seen:
        return
    # Count and page may come from a server that lags behind.
    behind = yield from reader.list(since_id=tail[-1]["id"] - 1)
    if any(row["id"] > tail[-1]["id"] for row in behind.rows):
        raise NotInOrder
