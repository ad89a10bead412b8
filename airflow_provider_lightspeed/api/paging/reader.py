"""What all walks share: ask for a page of the filtered list, learn what a page holds, remember the ids."""

from __future__ import annotations

import re
from array import array
from bisect import bisect_left
from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from operator import gt, itemgetter, lt
from typing import Any, TypeVar, cast

from airflow_provider_lightspeed.api.errors import (
    LightspeedGatewayError,
    LightspeedIncompleteListError,
    LightspeedInvalidRequestError,
    LightspeedMalformedResponseError,
    LightspeedNotFoundError,
    LightspeedResponseTooLargeError,
    LightspeedServerError,
)
from airflow_provider_lightspeed.api.paging.cursors import Cursor, ReaderState
from airflow_provider_lightspeed.api.paging.timezone import FilterZone
from airflow_provider_lightspeed.api.tickets import (
    PAGE_SIZE,
    SMALLEST_PAGE,
    RejectedTicket,
    Request,
    Ticket,
    TicketFilter,
    changed_at,
    count_tickets,
    created_at,
    list_tickets,
)

#: Page sizes that shops have are multiples of this.
_ROUND = 5
#: How a shop refuses a page that is too deep for it.
_REFUSALS = (
    LightspeedGatewayError,
    LightspeedInvalidRequestError,
    LightspeedNotFoundError,
    LightspeedServerError,
)

_ID = itemgetter("id")
_CREATED_AT = re.compile(rb'"createdAt"\s*:\s*"([^"\\]*)"')

#: Local times for ``created_at_min`` and ``created_at_max``.
Bounds = dict[str, str]

T = TypeVar("T")


@dataclass(frozen=True)
class Page:
    """Tickets that match, next in the walk, none of them yielded before.

    :param cursor: where to resume after this page; None if the walk can only start over.
    :param seen: tickets read so far, including those that do not match.
    :param counted: the shop's own count, if the walk has asked for it: an estimate.
    :param boundary: once the walk has ended, no ticket with an id up to this one is missing. Tickets with
        a higher id came during the walk, and others may have come between them.
    :param rejected: rows that are no readable ticket, each once. One without a readable id has no place in
        the list: the walk proves that none of the others is missing.
    """

    tickets: list[Ticket]
    cursor: Cursor | None
    seen: int
    counted: int | None
    boundary: int
    rejected: list[RejectedTicket]


#: A walk, or a part of one that returns T.
Walk = Generator[Request[Any] | Page, Any, T]


class NotInOrder(Exception):  # ruff: ignore[error-suffix-on-exception-name] - a finding, no failure: the walk continues by time slices
    """This walk can't prove the list complete: it is in another order, or can't be read by page number."""


@dataclass(frozen=True)
class Section:
    """One response: neighbours in the list at one moment.

    :param rows: its tickets, each once.
    :param start: position of the first one in the list.
    :param size: rows of the response, repeated ones included.
    :param limit: rows that the response may have had.
    :param asked: rows that were asked for.
    """

    rows: list[Ticket]
    start: int
    size: int
    limit: int
    asked: int

    @property
    def room(self) -> bool:
        """Whether more rows would have fit: a longer response was seen."""
        return self.size < self.limit

    @property
    def half_empty(self) -> bool:
        """Whether so many more would have fit that rows left out of it can't be the reason."""
        return self.size <= self.limit // 2

    @property
    def may_be_full(self) -> bool:
        """Whether it is as long as asked for, or as the pages of some shops are: a first one may not be the whole list."""
        return self.size >= self.asked or self.size % _ROUND == 0

    @cached_property
    def ids(self) -> list[int]:
        """Ids of its tickets, in its order."""
        return [*map(_ID, self.rows)]


class ListReader:
    """One walk's filter, and what it has read.

    :param filter: the caller's filter.
    :param zone: what is known of the zone of date filters.
    :param page_size: tickets to ask for at once.
    :param keep_malformed: whether rows that are no readable ticket are kept, as rejected.
    """

    def __init__(
        self,
        filter: TicketFilter,
        zone: FilterZone,
        page_size: int = PAGE_SIZE,
        *,
        keep_malformed: bool = False,
    ) -> None:
        self.filter = filter
        self.zone = zone
        self.page_size = page_size
        self.keep_malformed = keep_malformed
        self.longest = 0
        self.seen = 0
        self.boundary = 0
        self.counted: int | None = None
        self._bounds: Bounds = {}
        if filter.created_from:
            self._bounds["created_at_min"] = zone.earliest_local_time(filter.created_from)
        if filter.created_to:
            self._bounds["created_at_max"] = zone.latest_local_time(filter.created_to)
        # Looked into only if a walk turns out not to be in order.
        self._ids = array("q")
        # Rejected rows of which the id is known, and those without one that are not yet yielded.
        self._rejected: dict[int, RejectedTicket] = {}
        self._without_id: list[RejectedTicket] = []
        self._seen_without_id: set[bytes] = set()
        self._yielded_rejected: set[int] = set()
        # Whether a short list has shown different tickets: it moves, or a replica answers in turn.
        self.contradicted = False
        # Whether the order seen so far may as well be that of the last change.
        self.maybe_ordered_by_update = True

    @classmethod
    def resumed(
        cls, filter: TicketFilter, state: ReaderState, page_size: int, *, keep_malformed: bool
    ) -> ListReader:
        """Return a reader that knows what an earlier one had learned. It gave a cursor, so it was sure of the order."""
        reader = cls(filter, state.zone, page_size, keep_malformed=keep_malformed)
        reader.seen, reader.longest, reader.boundary = state.seen, state.longest, state.boundary
        reader.maybe_ordered_by_update = False
        return reader

    def above(self, since_id: int | None, known: Iterable[int]) -> ListReader:
        """Return a reader of the tickets above an id.

        :param known: ids that are read already.
        """
        filter = self.filter if since_id is None else replace(self.filter, since_id=since_id)
        reader = ListReader(filter, self.zone, self.page_size, keep_malformed=self.keep_malformed)
        reader.seen, reader.longest, reader.boundary = self.seen, self.longest, self.boundary
        reader.counted = self.counted
        reader._ids.extend(known)
        return reader

    @property
    def state(self) -> ReaderState:
        """What was learned so far."""
        return ReaderState(self.zone, self.seen, self.longest, self.boundary)

    @property
    def zone_matters(self) -> bool:
        """Whether a better known zone would narrow what is asked for."""
        dated = self.filter.created_from or self.filter.created_to
        return bool(dated) and not self.zone.known

    @property
    def counts_exactly(self) -> bool:
        """Whether the shop surely counts by the filter: ``email`` is not among those of its count."""
        return self.filter.email is None

    @property
    def limit(self) -> int:
        """What a page surely holds. With a greater limit, a shop of small pages may skip tickets."""
        return min(self.page_size, max(self.longest, SMALLEST_PAGE))

    def list(
        self,
        *,
        page: int = 1,
        limit: int | None = None,
        since_id: int | None = None,
        bounds: Bounds | None = None,
    ) -> Walk[Section]:
        """Ask for a page of the filtered list.

        :param bounds: replace the filter's own, unless those are narrower.
        :raises NotInOrder: if the shop refuses a page for being too deep.
        """
        limit = limit or (self.page_size if page == 1 else self.limit)
        while True:
            request = list_tickets(
                page=page,
                limit=limit,
                since_id=self.filter.since_id if since_id is None else since_id,
                email=self.filter.email,
                keep_malformed=self.keep_malformed,
                **self.narrowed(bounds),
            )
            try:
                rows: list[Ticket | RejectedTicket] = yield request
                break
            except LightspeedResponseTooLargeError:
                if limit < 2 * SMALLEST_PAGE:
                    raise  # pages of a few tickets prove no list
                # A page of half the size starts at the same row, or a few rows before it.
                page, limit = 2 * page - 1, limit // 2
                self.page_size = min(self.page_size, limit)
            except _REFUSALS as error:
                if page == 1:
                    raise
                raise NotInOrder from error
        tickets = [*self._readable(rows)] if self.keep_malformed else cast("list[Ticket]", rows)
        once = {ticket["id"]: ticket for ticket in tickets}
        # A repeated row may have been added to a full page.
        self.longest = max(self.longest, min(len(once), limit))
        return Section([*once.values()], (page - 1) * limit, len(rows), min(limit, self.limit), limit)

    def count(self, bounds: Bounds | None = None, *, since_id: int | None = None) -> Walk[int]:
        """Ask how many tickets the filtered list holds. A count proves nothing by itself."""
        request = count_tickets(
            since_id=self.filter.since_id if since_id is None else since_id,
            email=self.filter.email,
            **self.narrowed(bounds),
        )
        count: int = yield request
        if bounds is None and since_id is None:
            self.counted = count
        return count

    def emit(self, rows: Sequence[Ticket], cursor: Callable[[ReaderState], Cursor] | None = None) -> Page:
        """Take note of rows not read before, and return those that match.

        :param cursor: makes the cursor for this page; None: there is none.
        """
        self.seen += len(rows)
        self._ids.extend(map(_ID, rows))
        rejected, self._without_id = self._without_id, []
        readable = rows
        if self._rejected:
            readable = [row for row in rows if row["id"] not in self._rejected]
            rejected += self._newly_rejected(rows)
        matching = self.filter.matching(readable)
        position = cursor(self.state) if cursor else None
        return Page(matching, position, self.seen, self.counted, self.boundary, rejected)

    def _newly_rejected(self, rows: Sequence[Ticket]) -> Generator[RejectedTicket]:
        """Yield what these rows stand for and no page has reported. An unreadable ``createdAt`` is in any window."""
        for row in rows:
            bad = self._rejected.get(row["id"])
            if bad is None or row["id"] in self._yielded_rejected:
                continue
            if "createdAt" not in row or self.filter.matches(row):
                self._yielded_rejected.add(row["id"])
                yield bad

    def _readable(self, rows: Sequence[Ticket | RejectedTicket]) -> Generator[Ticket]:
        """Yield the tickets, and what stands for each rejected row that has an id."""
        for row in rows:
            if not isinstance(row, RejectedTicket):
                yield row
            elif row.id is not None:
                self._rejected.setdefault(row.id, row)
                yield self._stand_in(row.id, row.raw)
            elif row.raw not in self._seen_without_id:
                self._seen_without_id.add(row.raw)
                self._without_id.append(row)

    @staticmethod
    def _stand_in(number: int, raw: bytes) -> Ticket:
        """Return an id, and the ``createdAt`` if that can be read."""
        known: dict[str, Any] = {"id": number}
        for text in _CREATED_AT.findall(raw)[:1]:
            created = {"createdAt": text.decode("ascii", "replace")}
            if second_of(cast("Ticket", known | created)) is not None:
                known |= created
        return cast("Ticket", known)

    def track_updated_at(self, rows: Sequence[Ticket], *, newest_first: bool) -> None:
        """Find out whether the order of ids may in truth be the order of the last change.

        Tickets with an unreadable ``updatedAt`` are skipped: it is not known where such a list would put them.
        """
        if self.maybe_ordered_by_update:
            changes = [changed_at(row) for row in rows]
            known = [change for change in changes if change is not None]
            pairs = pairwise(reversed(known) if newest_first else known)
            self.maybe_ordered_by_update = all(first <= second for first, second in pairs)

    def sorted_ids(self) -> IdSet:
        """Return the ids read so far, for looking up."""
        return IdSet(self._ids)

    def incomplete(self, why: str, expected: int | None = None) -> LightspeedIncompleteListError:
        """Build the exception that says how far this walk came."""
        return LightspeedIncompleteListError(why, seen=self.seen, expected=expected)

    def narrowed(self, bounds: Bounds | None) -> Bounds:
        """Return the bounds of a question: those given, within those of the filter."""
        narrowed = self._bounds | (bounds or {})
        # Local times sort as text.
        for name, narrower in (("created_at_min", max), ("created_at_max", min)):
            if bounds and name in bounds and name in self._bounds:
                narrowed[name] = narrower(bounds[name], self._bounds[name])
        return narrowed


class IdSet:
    """Many ids in 8 bytes each."""

    def __init__(self, ids: Iterable[int]) -> None:
        self._ids = array("q", sorted(ids))

    def __contains__(self, ticket_id: int) -> bool:
        index = bisect_left(self._ids, ticket_id)
        return index < len(self._ids) and self._ids[index] == ticket_id

    def __len__(self) -> int:
        return len(self._ids)

    def highest(self, number: int) -> list[int]:
        """Return the highest ids, ascending."""
        return self._ids[-number:].tolist()


def second_of(row: Ticket) -> int | None:
    """Return when a ticket was created, in seconds since 1970; None if that can't be read."""
    try:
        return int(created_at(row).timestamp())
    except LightspeedMalformedResponseError:
        return None


def overlapping(highest_start: int, limit: int) -> tuple[int, int]:
    """Choose page and limit such that the page starts at this position or before, and reaches furthest.

    :return: page and limit.
    """
    if highest_start <= 0:
        return 1, limit
    limits = range(max(1, limit // 2), limit + 1)
    best = max(limits, key=lambda size: highest_start // size * size + size)
    return highest_start // best + 1, best


def ascending(ids: Sequence[int]) -> bool:
    """Return whether ids strictly rise."""
    return all(map(lt, ids, ids[1:]))


def descending(ids: Sequence[int]) -> bool:
    """Return whether ids strictly fall."""
    return all(map(gt, ids, ids[1:]))
