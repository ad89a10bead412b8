"""The walk over a list with the lowest ids first."""

from __future__ import annotations

from airflow_provider_lightspeed.api.paging.reading import Cursor, NotInOrder, Reading, Steps, ascending
from airflow_provider_lightspeed.api.tickets import PAGE_SIZE, Ticket


def oldest_first(reading: Reading, rows: list[Ticket], cursor: Cursor | None = None) -> Steps[None]:
    """Go up by ``since_id``.

    :param rows: the first page; empty with a cursor.
    :raises NotInOrder: if the list turns out not to be in order.
    """
    first_call = cursor is None
    cursor = cursor or {"order": "oldest", "last": 0, "inclusive": False}
    last, inclusive = cursor["last"], cursor["inclusive"]
    reading.seen = cursor.get("seen", 0)
    while True:
        if first_call:
            first_call = False
        else:
            # An inclusive since_id would show the last ticket again, on every page.
            rows = yield from reading.list(since_id=last + 1 if inclusive else last)
        full = len(rows) >= PAGE_SIZE
        reading.watch_changes(rows, newest_first=False)
        if rows and rows[0]["id"] == last:
            inclusive = True
            rows = rows[1:]
        ids = [row["id"] for row in rows]
        if not ascending(ids) or (ids and ids[0] <= last):
            raise NotInOrder
        last = ids[-1] if ids else last
        yield reading.page(rows, {"order": "oldest", "last": last, "inclusive": inclusive})
        if not full:
            break
    if reading.maybe_by_change and cursor["last"] == 0:
        yield from _check_order(reading, last)


def _check_order(reading: Reading, last: int) -> Steps[None]:
    """Tell a list by id from a list by last change, where all that was read fits both.

    In the latter, a ticket that is changed while we read moves to the end, behind ids that are lower
    than ours, where ``since_id`` hides it. So look at the end of the list without ``since_id``.
    """
    count = yield from reading.count()
    size = max(range(PAGE_SIZE // 2, PAGE_SIZE + 1), key=lambda limit: (count - 1) % limit)
    rows = yield from reading.list(page=(count - 1) // size + 1, limit=size)
    ids = [row["id"] for row in rows]
    read = reading.sorted_ids()
    newer = sum(ticket_id > last for ticket_id in ids)
    in_order = (
        ascending(ids)
        and bool(ids)
        and ids[0] <= last <= ids[-1]
        and all(ticket_id > last or ticket_id in read for ticket_id in ids)
        and count == len(read) + newer
    )
    if not in_order:
        raise NotInOrder
