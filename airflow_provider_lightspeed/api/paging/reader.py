"""What all walks share: asking for a page within the filter, and remembering which ids were read."""

from __future__ import annotations

import zlib
from array import array
from bisect import bisect_left
from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Any, TypeVar

from airflow_provider_lightspeed.api.errors import LightspeedIncompleteListError
from airflow_provider_lightspeed.api.paging.timezone import FilterZone
from airflow_provider_lightspeed.api.tickets import (
    PAGE_SIZE,
    Request,
    Ticket,
    TicketFilter,
    changed_at,
    count_tickets,
    list_tickets,
)

#: Where a walk can go on; plain JSON values.
Cursor = dict[str, Any]

#: Wall clocks for ``created_at_min`` and ``created_at_max``.
Bounds = dict[str, str]

T = TypeVar("T")


@dataclass(frozen=True)
class Page:
    """Tickets that match, next in the walk, none of them yielded before.

    :param cursor: where to go on after this page; None where the walk can only begin again.
    :param seen: tickets read so far, those that did not match included.
    :param counted: how many the shop says there are, where the walk has asked: a good estimate, no promise.
    """

    tickets: list[Ticket]
    cursor: Cursor | None
    seen: int
    counted: int | None


#: A walk, or a part of one that returns T.
Walk = Generator[Request | Page, Any, T]


class NotInOrder(Exception):  # ruff: ignore[error-suffix-on-exception-name] - a finding, no failure: the walk goes on by time slices
    """The list is not in the order that its first page seemed to show."""


class ListReader:
    """One walk's filter, and what it has read.

    :param filter: the caller's filter.
    :param zone: what is known of the zone of date filters.
    :param page_size: tickets to ask for at once.
    """

    def __init__(self, filter: TicketFilter, zone: FilterZone, page_size: int = PAGE_SIZE) -> None:
        self.filter = filter
        self.zone = zone
        self.page_size = page_size
        self.seen = 0
        self.counted: int | None = None
        self._bounds: Bounds = {}
        if filter.created_from:
            self._bounds["created_at_min"] = zone.earliest_local_time(filter.created_from)
        if filter.created_to:
            self._bounds["created_at_max"] = zone.latest_local_time(filter.created_to)
        # Looked into only if a walk turns out not to be in order.
        self._read = IdLog()
        # Whether the order seen so far may as well be that of the last change.
        self.maybe_ordered_by_update = True

    @property
    def zone_matters(self) -> bool:
        """Whether a better known zone would narrow what is asked for."""
        dated = self.filter.created_from or self.filter.created_to
        return bool(dated) and not self.zone.known

    @property
    def counts_exactly(self) -> bool:
        """Whether the shop surely counts by the filter: ``email`` is not among those of its count."""
        return self.filter.email is None

    def list(
        self,
        *,
        page: int = 1,
        limit: int | None = None,
        since_id: int | None = None,
        bounds: Bounds | None = None,
    ) -> Walk[list[Ticket]]:
        """Ask for a page of the filtered list; ``bounds`` replace the filter's own."""
        request = list_tickets(
            page=page,
            limit=limit or self.page_size,
            since_id=self.filter.since_id if since_id is None else since_id,
            email=self.filter.email,
            keep_malformed=False,
            **(self._bounds | (bounds or {})),
        )
        rows: list[Ticket] = yield request
        return rows

    def count(self, bounds: Bounds | None = None) -> Walk[int]:
        """Ask how many tickets the filtered list holds."""
        request = count_tickets(
            since_id=self.filter.since_id, email=self.filter.email, **(self._bounds | (bounds or {}))
        )
        count: int = yield request
        if bounds is None:
            self.counted = count
        return count

    def count_if_exact(self) -> Walk[int | None]:
        """Ask how many tickets the filtered list holds; None where the shop may not count by the filter."""
        if not self.counts_exactly:
            return None
        count = yield from self.count()
        return count

    def resume(self, cursor: Cursor) -> None:
        """Take over what an earlier walk knew. It gave a cursor, so it was sure of the order."""
        self.seen = cursor["seen"]
        self.maybe_ordered_by_update = False

    def emit(self, rows: Sequence[Ticket], cursor: Cursor | None) -> Page:
        """Take note of rows not read before, and hand on those that match.

        :param cursor: where to go on, or None.
        """
        self.seen += len(rows)
        self._read.extend([row["id"] for row in rows])
        if cursor is not None:
            cursor |= {"zone": self.zone.to_json(), "seen": self.seen}
        return Page([row for row in rows if self.filter.matches(row)], cursor, self.seen, self.counted)

    def track_updated_at(self, rows: Sequence[Ticket], *, newest_first: bool) -> None:
        """See whether the order of ids might in truth be the order of the last change.

        Tickets without a legible ``updatedAt`` prove nothing: where such a list would put them is not known.
        """
        if self.maybe_ordered_by_update:
            changes = [changed_at(row) for row in rows]
            known = [change for change in changes if change is not None]
            pairs = pairwise(reversed(known) if newest_first else known)
            self.maybe_ordered_by_update = all(first <= second for first, second in pairs)

    def sorted_ids(self) -> IdSet:
        """Return the ids read so far, for looking up."""
        return IdSet(self._read)

    def incomplete(self, why: str, expected: int | None = None) -> LightspeedIncompleteListError:
        """Build the exception that says how far this reader came."""
        return LightspeedIncompleteListError(why, seen=self.seen, expected=expected)


class IdLog:
    """Ids in the order in which they were read, packed: neighbours differ by little, so a million take a few hundred kB."""

    def __init__(self) -> None:
        self._pages: list[bytes] = []

    def extend(self, ids: Sequence[int]) -> None:
        """Add the ids of a page."""
        steps = array("q", [second - first for first, second in pairwise([0, *ids])])
        self._pages.append(zlib.compress(steps.tobytes(), 1))

    def __iter__(self) -> Iterator[int]:
        for packed in self._pages:
            steps = array("q")
            steps.frombytes(zlib.decompress(packed))
            yield from accumulate(steps)


class IdSet:
    """Many ids in 8 bytes each."""

    def __init__(self, ids: Iterable[int]) -> None:
        self._ids = array("q", sorted(ids))

    def __contains__(self, ticket_id: int) -> bool:
        index = bisect_left(self._ids, ticket_id)
        return index < len(self._ids) and self._ids[index] == ticket_id

    def __len__(self) -> int:
        return len(self._ids)


def ascending(ids: Sequence[int]) -> bool:
    """Say whether ids strictly rise."""
    return all(first < second for first, second in pairwise(ids))


def descending(ids: Sequence[int]) -> bool:
    """Say whether ids strictly fall."""
    return all(first > second for first, second in pairwise(ids))
