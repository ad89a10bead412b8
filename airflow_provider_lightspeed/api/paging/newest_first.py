"""The walk over a list with the highest ids first.

Each answer shows neighbours of the list, so it *covers* all ids from its first to its last: a ticket
between them that is not in it does not exist. A walk by page leaves holes between the last id of
one page and the first of the next; a ticket falls into one when another, further up, is deleted
between the two calls.
"""

from __future__ import annotations

from bisect import bisect_right, insort
from math import inf

from airflow_provider_lightspeed.api.paging.reading import Cursor, NotInOrder, Reading, Steps, descending
from airflow_provider_lightspeed.api.tickets import PAGE_SIZE, Ticket

#: Lowest id, highest id, tickets between them.
Span = list[int]

#: Calls that may pass without any progress before the walk gives up.
_PATIENCE = 40


class Coverage:
    """Which ids are covered, as spans, and how many tickets each span holds.

    :param spans: (lowest id, highest id, tickets), apart from each other, lowest first.
    """

    def __init__(self, spans: list[Span] | None = None) -> None:
        self.spans = spans or []

    def __contains__(self, ticket_id: int) -> bool:
        place = bisect_right(self.spans, [ticket_id, inf]) - 1
        return place >= 0 and ticket_id <= self.spans[place][1]

    @property
    def tickets(self) -> int:
        """How many tickets were read."""
        return sum(tickets for _, _, tickets in self.spans)

    @property
    def bottom(self) -> int:
        """Lowest id of the span that reaches up to the top."""
        return self.spans[-1][0]

    @property
    def at_top(self) -> int:
        """How many tickets the span that reaches up to the top holds."""
        return self.spans[-1][2]

    @property
    def reaches_end(self) -> bool:
        """Whether the end of the list was read."""
        return self.spans[0][0] == 0

    @property
    def whole(self) -> bool:
        """Whether there is no hole from the top to the end."""
        return len(self.spans) == 1 and self.reaches_end

    def add(self, low: int, high: int, tickets: int) -> None:
        """Cover a span in which so many tickets were new; spans that touch become one."""
        joined = [low, high, tickets]
        apart = []
        for span in self.spans:
            if span[0] <= joined[1] + 1 and joined[0] <= span[1] + 1:
                joined = [min(span[0], joined[0]), max(span[1], joined[1]), span[2] + joined[2]]
            else:
                apart.append(span)
        insort(apart, joined)
        self.spans = apart


def newest_first(reading: Reading, rows: list[Ticket], cursor: Cursor | None = None) -> Steps[None]:
    """Go down by page; then, unless the count proves that the holes are empty, bridge them.

    :param rows: the first page; empty with a cursor.
    :raises NotInOrder: if the list turns out not to be in order.
    """
    if cursor is None:
        state: Cursor = {"order": "newest", "top": rows[0]["id"], "page": 1, "spans": []}
        reading.watch_changes(rows, newest_first=True)
        yield reading.page(rows, None)
        first_ids = {row["id"] for row in rows}
        state["count"] = yield from reading.count()
        # Read the first page again: only what is read after the count can be held against it.
        rows = yield from reading.list()
    else:
        state = dict(cursor)
        reading.seen = cursor["seen"]
        first_ids = set()
    coverage = Coverage(state["spans"])
    idle = 0
    while not (coverage.spans and coverage.reaches_end):
        if coverage.spans or cursor is not None:
            state["page"] += 1
            rows = yield from reading.list(page=state["page"])
        fresh = _take(reading, coverage, rows, state["top"], state["page"] == 1, len(rows) >= PAGE_SIZE)
        idle = 0 if fresh else idle + 1
        if idle > _PATIENCE:
            raise reading.incomplete(
                "page after page brought nothing new: the shop may ignore the page number"
            )
        yield reading.page(
            [row for row in fresh if row["id"] not in first_ids], state | {"spans": coverage.spans}
        )
    if coverage.tickets != state["count"]:
        if reading.maybe_by_change and cursor is None:
            raise NotInOrder
        yield from _bridge(reading, coverage, state)
    if reading.maybe_by_change and cursor is None:
        yield from _check_order(reading, state["top"])


def _take(
    reading: Reading, coverage: Coverage, rows: list[Ticket], top: int, from_top: bool, full: bool
) -> list[Ticket]:
    """Cover what an answer shows, and return its tickets that were not covered before.

    :param top: the highest id at the first call. What is above came later and does not count.
    :param from_top: whether the answer begins with the list.
    :param full: whether the list may go on after it.
    """
    ids = [row["id"] for row in rows]
    if not descending(ids):
        raise NotInOrder
    reading.watch_changes(rows, newest_first=True)
    fresh = [row for row in rows if row["id"] <= top and row["id"] not in coverage]
    high = max([*ids[:1], top if from_top else 0])
    coverage.add(ids[-1] if full else 0, high if ids else 0, len(fresh))
    return fresh


def _bridge(reading: Reading, coverage: Coverage, state: Cursor) -> Steps[None]:
    """Close the holes from the top down: each answer must begin at or above what is covered to the top."""
    shift, overlap, idle = 0, 1, 0
    while not coverage.whole:
        start, page, limit = _overlapping(coverage.at_top + shift - overlap)
        rows = yield from reading.list(page=page, limit=limit)
        bottom = coverage.bottom
        if start and (not rows or rows[0]["id"] < bottom):
            overlap *= 2  # tickets above were deleted: look further up
        else:
            above = sum(row["id"] >= bottom for row in rows)
            shift = start + above - coverage.at_top
            fresh = _take(reading, coverage, rows, state["top"], start == 0, len(rows) >= limit)
            overlap = max(1, overlap // 2)
            yield reading.page(fresh, state | {"spans": coverage.spans})
            idle = 0 if coverage.whole or coverage.bottom < bottom else idle + 1
        if overlap > 2 * max(PAGE_SIZE, coverage.at_top + shift) or idle > _PATIENCE:
            raise reading.incomplete("the list changes faster than it can be read", state["count"])


def _overlapping(highest_start: int) -> tuple[int, int, int]:
    """Choose page and limit such that the answer begins at most at this place and reaches furthest.

    :return: the place at which it begins, the page, the limit.
    """
    if highest_start <= 0:
        return 0, 1, PAGE_SIZE
    limits = range(PAGE_SIZE // 2, PAGE_SIZE + 1)
    limit = max(limits, key=lambda limit: highest_start // limit * limit + limit)
    before = highest_start // limit
    return before * limit, before + 1, limit


def _check_order(reading: Reading, top: int) -> Steps[None]:
    """Tell a list by id from a list by last change, where all that was read fits both.

    In the latter, a ticket that is changed while we read moves to the top, behind our back.
    """
    rows = yield from reading.list()
    ids = [row["id"] for row in rows]
    read = reading.sorted_ids()
    in_order = (
        descending(ids)
        and bool(ids)
        and ids[0] >= top >= ids[-1]
        and all(ticket_id > top or ticket_id in read for ticket_id in ids)
    )
    if not in_order:
        raise NotInOrder
