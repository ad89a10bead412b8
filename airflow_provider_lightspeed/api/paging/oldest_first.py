"""The walk over a list with the lowest ids first."""

from __future__ import annotations

from airflow_provider_lightspeed.api.paging.reading import Cursor, NotInOrder, Reading, Steps, ascending
from airflow_provider_lightspeed.api.tickets import Ticket

#: Looks at a list's end before it is given up, because it moves too fast.
_TRIES = 5


def oldest_first(reading: Reading, rows: list[Ticket], cursor: Cursor | None = None) -> Steps[None]:
    """Go up by ``since_id``.

    :param rows: the first page; empty with a cursor.
    :raises NotInOrder: if the list turns out not to be in order.
    """
    last, inclusive = 0, False
    if cursor is not None:
        last, inclusive = cursor["last"], cursor["inclusive"]
        reading.resume(cursor)
        rows = yield from reading.list(since_id=last + inclusive)
    while True:
        full = len(rows) >= reading.page_size
        reading.watch_changes(rows, newest_first=False)
        if rows and rows[0]["id"] == last:
            inclusive = True
            rows = rows[1:]
        ids = [row["id"] for row in rows]
        if not ascending(ids) or (ids and ids[0] <= last):
            raise NotInOrder
        last = ids[-1] if ids else last
        state: Cursor = {"order": "oldest", "last": last, "inclusive": inclusive}
        yield reading.page(rows, None if reading.maybe_by_change else state)
        if not full:
            break
        # An inclusive since_id would show the last ticket again, on every page.
        rows = yield from reading.list(since_id=last + inclusive)
    if reading.maybe_by_change:
        yield from _check_order(reading, last)


def _check_order(reading: Reading, last: int) -> Steps[None]:
    """Tell a list by id from a list by last change, where all that was read fits both.

    In the latter, a ticket that is changed while we read moves to the end, behind ids that are lower
    than ours, where ``since_id`` hides it. So look at the end of the list without ``since_id``: it must
    be what was read last and what is new, and no more than was read may be in the whole list.
    """
    read = reading.sorted_ids()
    size = len(read)
    for _ in range(_TRIES):
        page, limit = _end_of(size, reading.page_size)
        rows = yield from reading.list(page=page, limit=limit)
        before = (page - 1) * limit
        size = before + len(rows)
        if len(rows) >= limit:
            size += reading.page_size // 2  # it grew; the end is further down
        elif before == 0 or len(rows) >= limit // 2:
            break
    else:
        raise NotInOrder
    ids = [row["id"] for row in rows]
    newer = sum(ticket_id > last for ticket_id in ids)
    if (
        not ascending(ids)
        or (before and ids[0] > last)
        or any(ticket_id <= last and ticket_id not in read for ticket_id in ids)
        or read.at_least(ids[0] if ids else 0) > len(ids) - newer
        or size > len(read) + newer
    ):
        raise NotInOrder


def _end_of(size: int, page_size: int) -> tuple[int, int]:
    """Choose page and limit such that the answer ends with the list, is not full, and shows much."""
    limits = range(page_size // 2 + 1, page_size + 1)
    limit = max(limits, key=lambda limit: size % limit)
    return size // limit + 1, limit
