"""The walk over a list with the lowest ids first."""

from __future__ import annotations

from dataclasses import dataclass

from airflow_provider_lightspeed.api.paging.reader import (
    Cursor,
    ListReader,
    NotInOrder,
    Page,
    Walk,
    ascending,
)
from airflow_provider_lightspeed.api.tickets import Ticket

#: Looks for the end of a list before it is given up, because it moves too fast.
_TRIES = 5


@dataclass(frozen=True)
class _End:
    """The end of the list, and how many tickets the whole list held at that moment.

    :param first_id: all tickets with lower ids that are read later were there at that moment.
    """

    rows: list[Ticket]
    size: int
    first_id: int


def oldest_first(reader: ListReader, rows: list[Ticket], cursor: Cursor | None = None) -> Walk[None]:
    """Go up by ``since_id``.

    Where all that was read fits a list by last change too, ``since_id`` may hide tickets that moved to
    the end. So before going up, one answer tells the list's end and its size. All that is read later,
    and is below that end, was there; where it adds up to the size, no ticket is missing, whatever the
    order. Where a change shows on the way that the list is in order, going up to that end is enough.

    :param rows: the first page; empty with a cursor.
    :raises NotInOrder: if the list turns out not to be in order.
    """
    last, inclusive, below = 0, False, 0
    end: _End | None = None
    yielded: set[int] = set()

    def page(rows: list[Ticket]) -> Page:
        state: Cursor = {"order": "oldest", "last": last, "inclusive": inclusive}
        fresh = [row for row in rows if row["id"] not in yielded]
        return reader.emit(fresh, None if reader.maybe_ordered_by_update else state)

    if cursor is not None:
        last, inclusive = cursor["last"], cursor["inclusive"]
        reader.resume(cursor)
        rows = yield from reader.list(since_id=last + inclusive)
    else:
        reader.track_updated_at(rows, newest_first=False)
        if reader.maybe_ordered_by_update:
            yield reader.emit(rows, None)
            yielded = {row["id"] for row in rows}
            end = yield from _read_end(reader, rows)
            # Read the first page again: only what is read after the end can be held against its size.
            rows = yield from reader.list()
    while True:
        full = len(rows) >= reader.page_size
        reader.track_updated_at(rows, newest_first=False)
        if rows and rows[0]["id"] == last:
            inclusive = True
            rows = rows[1:]
        ids = [row["id"] for row in rows]
        if not ascending(ids) or (ids and ids[0] <= last):
            raise NotInOrder
        last = ids[-1] if ids else last
        yield page(rows)
        if end is not None:
            below += sum(ticket_id < end.first_id for ticket_id in ids)
            yielded.update(ticket_id for ticket_id in ids if ticket_id >= end.first_id)
            full = full and last < end.first_id and below + len(end.rows) != end.size
        if not full:
            break
        # An inclusive since_id would show the last ticket again, on every page.
        rows = yield from reader.list(since_id=last + inclusive)
    if reader.maybe_ordered_by_update and (end is None or below + len(end.rows) != end.size):
        raise NotInOrder
    if end is not None:
        last = max([last, *(row["id"] for row in end.rows)])
        yield page(end.rows)


def _read_end(reader: ListReader, first_page: list[Ticket]) -> Walk[_End | None]:
    """Read the last tickets and the size of the list in one answer; None where they can't be found."""
    for _ in range(_TRIES):
        size = yield from reader.count_if_exact()
        if size is None:
            return None
        if size == len(first_page):
            return _End([], size, first_page[-1]["id"] + 1)
        page, limit = _end_of(size, reader.page_size)
        rows = yield from reader.list(page=page, limit=limit)
        # A full page would not tell that it is the last.
        if 0 < len(rows) < limit:
            if not ascending([row["id"] for row in rows]):
                raise NotInOrder
            reader.track_updated_at(rows, newest_first=False)
            return _End(rows, (page - 1) * limit + len(rows), rows[0]["id"])
    return None


def _end_of(size: int, page_size: int) -> tuple[int, int]:
    """Choose page and limit such that the answer ends with the list, is not full, and shows most."""
    limits = range(page_size // 2 + 1, page_size + 1)
    limit = max(limits, key=lambda limit: size % limit)
    return size // limit + 1, limit
