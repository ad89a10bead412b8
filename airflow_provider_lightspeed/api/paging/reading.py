"""What all walks share: asking for a page within the filter, and remembering which ids were read."""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, TypeVar

from airflow_provider_lightspeed.api.errors import LightspeedIncompleteListError
from airflow_provider_lightspeed.api.paging.zone import FilterZone
from airflow_provider_lightspeed.api.tickets import (
    PAGE_SIZE,
    Request,
    Ticket,
    TicketFilter,
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
    """

    tickets: list[Ticket]
    cursor: Cursor | None
    seen: int


#: A walk, or a part of one that returns T.
Steps = Generator[Request | Page, Any, T]


class NotInOrder(Exception):  # ruff: ignore[error-suffix-on-exception-name] - a finding, no failure: the walk goes on by time slices
    """The list is not in the order that its first page seemed to show."""


class Reading:
    """One walk's filter, and what it has read.

    :param wanted: the caller's filter.
    :param zone: what is known of the zone of date filters.
    """

    def __init__(self, wanted: TicketFilter, zone: FilterZone) -> None:
        self.wanted = wanted
        self.zone = zone
        self.seen = 0
        self._bounds: Bounds = {}
        if wanted.created_from:
            self._bounds["created_at_min"] = zone.earliest_wall_clock(wanted.created_from)
        if wanted.created_to:
            self._bounds["created_at_max"] = zone.latest_wall_clock(wanted.created_to)
        # Ids that were read, 8 bytes each; sorted only if a walk turns out not to be in order.
        self._read = array("q")
        # Whether the order seen so far may as well be that of the last change.
        self.maybe_by_change = True

    @property
    def zone_matters(self) -> bool:
        """Whether a better known zone would narrow what is asked for."""
        dated = self.wanted.created_from or self.wanted.created_to
        return bool(dated) and not self.zone.known

    def list(
        self,
        *,
        page: int = 1,
        limit: int = PAGE_SIZE,
        since_id: int | None = None,
        bounds: Bounds | None = None,
    ) -> Steps[list[Ticket]]:
        """Ask for a page of the filtered list; ``bounds`` replace the filter's own."""
        request = list_tickets(
            page=page,
            limit=limit,
            since_id=self.wanted.since_id if since_id is None else since_id,
            email=self.wanted.email,
            **(self._bounds | (bounds or {})),
        )
        rows: list[Ticket] = yield request
        return rows

    def count(self, bounds: Bounds | None = None) -> Steps[int]:
        """Ask how many tickets the filtered list holds."""
        request = count_tickets(
            since_id=self.wanted.since_id, email=self.wanted.email, **(self._bounds | (bounds or {}))
        )
        count: int = yield request
        return count

    def page(self, rows: Sequence[Ticket], cursor: Cursor | None) -> Page:
        """Take note of rows not read before, and hand on those that match."""
        self.seen += len(rows)
        self._read.extend(row["id"] for row in rows)
        if cursor is not None:
            cursor |= {"zone": self.zone.to_json(), "seen": self.seen}
        return Page([row for row in rows if self.wanted.holds(row)], cursor, self.seen)

    def watch_changes(self, rows: Sequence[Ticket], *, newest_first: bool) -> None:
        """See whether the order of ids might in truth be the order of the last change."""
        if self.maybe_by_change:
            changes = [str(row.get("updatedAt") or "") for row in rows]
            pairs = pairwise(reversed(changes) if newest_first else changes)
            self.maybe_by_change = all(first <= second for first, second in pairs)

    def sorted_ids(self) -> IdSet:
        """Return the ids read so far, for looking up."""
        return IdSet(self._read)

    def incomplete(self, why: str, expected: int | None = None) -> LightspeedIncompleteListError:
        """Build the exception that says how far this reading came."""
        return LightspeedIncompleteListError(why, seen=self.seen, expected=expected)


class IdSet:
    """Many ids in 8 bytes each."""

    def __init__(self, ids: array[int]) -> None:
        self._ids = array("q", sorted(ids))

    def __contains__(self, wanted: int) -> bool:
        place = bisect_left(self._ids, wanted)
        return place < len(self._ids) and self._ids[place] == wanted

    def __len__(self) -> int:
        return len(self._ids)


def ascending(ids: Sequence[int]) -> bool:
    """Say whether ids strictly rise."""
    return all(first < second for first, second in pairwise(ids))


def descending(ids: Sequence[int]) -> bool:
    """Say whether ids strictly fall."""
    return all(first > second for first, second in pairwise(ids))
