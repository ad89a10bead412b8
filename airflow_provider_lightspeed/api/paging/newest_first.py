"""The walk over a list with the highest ids first.

Each answer shows neighbours of the list, so it *covers* all ids from its first to its last: a ticket
between them that is not in it does not exist. A walk by page leaves holes between the last id of
one page and the first of the next; a ticket falls into one when another, further up, is deleted
between the two calls. Answers that overlap leave no holes, but bring less that is new, since the only
places where an answer can begin are multiples of its length.
"""

from __future__ import annotations

from bisect import bisect_right, insort
from math import inf

from airflow_provider_lightspeed.api.paging.reader import (
    Cursor,
    ListReader,
    NotInOrder,
    Page,
    Walk,
    descending,
)
from airflow_provider_lightspeed.api.tickets import Ticket

#: Lowest id, highest id, tickets between them.
Span = list[int]

#: Calls that may pass without any progress before the walk gives up.
_MAX_IDLE_CALLS = 40

#: From this page on a list that nothing is added to is looked at for deletions, too.
_LONG = 40


class Coverage:
    """Which ids are covered, as spans, and how many tickets each span holds.

    :param spans: (lowest id, highest id, tickets), apart from each other, lowest first.
    """

    def __init__(self, spans: list[Span]) -> None:
        self.spans = spans

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


def newest_first(reader: ListReader, rows: list[Ticket], cursor: Cursor | None = None) -> Walk[None]:
    """Go down by page; then, unless the count proves that the holes are empty, bridge them.

    All that is read after the count, up to the highest id that was seen before it, was there to be
    counted. So where as many were read as were counted, no ticket is missing, whatever the order.
    Once tickets are known to be deleted meanwhile, that number will hardly be reached, and the way by
    page would only leave more holes: bridges go on from there. They hold only in a list by id, so not
    where all that was read fits a list by last change too.

    :param rows: the first page; empty with a cursor. Only its order and its highest id are relied on.
    :raises NotInOrder: if the list turns out not to be in order.
    """
    if cursor is None:
        top = rows[0]["id"]
        reader.track_updated_at(rows, newest_first=True)
        yield reader.emit(rows, None)
        # Nothing above the top matters: it came later.
        state: Cursor = {"top": top, "page": 0, "spans": [[top + 1, top + 1, 0]]}
        state["yielded"] = [row["id"] for row in rows]
        state["count"] = yield from reader.count_if_exact()
        state["by_page"] = state["count"] is not None
        state["added"], state["counted_at"] = 0, 1
    else:
        state = cursor
        reader.resume(cursor)
    descent = _NewestFirstWalk(reader, state)
    yield from descent.by_page()
    if descent.count_reached:
        return
    if state["count"] is None or not reader.maybe_ordered_by_update:
        yield from descent.close_gaps()
    if reader.maybe_ordered_by_update:
        raise NotInOrder


class _NewestFirstWalk:
    """The way down from the top."""

    def __init__(self, reader: ListReader, state: Cursor) -> None:
        self._coverage = Coverage(state["spans"])
        self._reader = reader
        self._top: int = state["top"]
        self._count: int | None = state["count"]
        self._page: int = state["page"]
        self._by_page: bool = state["by_page"]
        # How many tickets were seen to be added since the count, and the page at which was counted last.
        self._added: int = state["added"]
        self._counted_at: int = state["counted_at"]
        self._yielded = frozenset(state["yielded"])

    @property
    def count_reached(self) -> bool:
        """Whether as many were read as were counted."""
        return self._coverage.tickets == self._count

    def by_page(self) -> Walk[None]:
        """Read page after page, to the end, or until as many were read as were counted, or deletions are known of."""
        reader, coverage, idle = self._reader, self._coverage, 0
        while self._by_page and not coverage.reaches_end and not self.count_reached:
            if idle == 0 and self._recount_is_due:
                yield from self._recount()
                continue
            self._page += 1
            rows = yield from reader.list(page=self._page)
            before = coverage.tickets
            yield self._take(rows, from_top=self._page == 1, full=len(rows) >= reader.page_size)
            idle = 0 if coverage.tickets > before else idle + 1
            if idle > _MAX_IDLE_CALLS:
                raise reader.incomplete(
                    "page after page brought nothing new: the shop may ignore the page number", self._count
                )

    @property
    def _recount_is_due(self) -> bool:
        """Whether a count may pay: in a list that moves or is long, and the less often the longer none told anything."""
        may_pay = self._added > 0 or self._page >= _LONG
        return may_pay and self._page >= 4 * self._counted_at and not self._reader.maybe_ordered_by_update

    def _recount(self) -> Walk[None]:
        """Leave the way by page if there are fewer tickets than were counted and added since."""
        count = yield from self._reader.count()
        self._by_page = self._count is not None and count >= self._count + self._added
        self._counted_at = self._page

    def close_gaps(self) -> Walk[None]:
        """Close the holes from the top down: each answer must begin at or above what is covered to the top."""
        reader, coverage = self._reader, self._coverage
        shift, overlap, idle = 0, 1, 0
        while not coverage.whole and not self.count_reached:
            start, page, limit = _overlapping(coverage.at_top + shift - overlap, reader.page_size)
            rows = yield from reader.list(page=page, limit=limit)
            bottom = coverage.bottom
            if start and (not rows or rows[0]["id"] < bottom):
                overlap *= 2  # tickets above were deleted: look further up
            else:
                above = sum(row["id"] >= bottom for row in rows)
                shift = start + above - coverage.at_top
                overlap = max(1, overlap // 2)
                yield self._take(rows, from_top=start == 0, full=len(rows) >= limit)
            idle = 0 if coverage.whole or coverage.bottom < bottom else idle + 1
            if idle > _MAX_IDLE_CALLS:
                raise reader.incomplete(
                    "the list changes faster than it can be read, or the shop ignores the page number",
                    self._count,
                )

    def _take(self, rows: list[Ticket], *, from_top: bool, full: bool) -> Page:
        """Cover what an answer shows, and return a page of those of its tickets not covered before.

        :param from_top: whether the answer begins with the list.
        :param full: whether the list may go on after it.
        """
        ids = [row["id"] for row in rows]
        if not descending(ids):
            raise NotInOrder
        self._reader.track_updated_at(rows, newest_first=True)
        fresh = [row for row in rows if row["id"] <= self._top and row["id"] not in self._coverage]
        high = max([*ids[:1], self._top if from_top else 0])
        self._coverage.add(ids[-1] if full else 0, high, len(fresh))
        if fresh:
            # What is seen again by page was pushed down by tickets that were added above it.
            self._added += len(rows) - len(fresh)
        state: Cursor = {
            "order": "newest",
            "top": self._top,
            "count": self._count,
            "page": self._page,
            "by_page": self._by_page,
            "added": self._added,
            "counted_at": self._counted_at,
            "spans": self._coverage.spans,
            "yielded": sorted(self._yielded),
        }
        return self._reader.emit(
            [row for row in fresh if row["id"] not in self._yielded],
            None if self._reader.maybe_ordered_by_update else state,
        )


def _overlapping(highest_start: int, page_size: int) -> tuple[int, int, int]:
    """Choose page and limit such that the answer begins at most at this place and reaches furthest.

    :return: the place at which it begins, the page, the limit.
    """
    if highest_start <= 0:
        return 0, 1, page_size
    limits = range(page_size // 2, page_size + 1)
    limit = max(limits, key=lambda limit: highest_start // limit * limit + limit)
    before = highest_start // limit
    return before * limit, before + 1, limit
