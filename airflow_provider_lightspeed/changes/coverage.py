"""Up to which instant the log has every change: one instant for all tickets, or a later one for recent ids. Pure."""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple


class Scope(NamedTuple):
    """Tickets with an id above ``after_id``, and the instant up to which each of their changes is in the log."""

    after_id: int
    as_of: datetime


#: Scopes with rising ``after_id``. For a ticket, the last scope that holds it counts.
Coverage = tuple[Scope, ...]


def covered_by(coverage: Coverage, after_id: int, as_of: datetime) -> Coverage:
    """Return the coverage after a scan of all tickets above an id, begun at an instant."""
    return (*(scope for scope in coverage if scope.after_id < after_id), Scope(after_id, as_of))


def as_of(coverage: Coverage, ticket_id: int) -> datetime | None:
    """Return the instant up to which each change of a ticket is in the log; None if no scan has covered it."""
    return next((scope.as_of for scope in reversed(coverage) if scope.after_id < ticket_id), None)


def complete_as_of(coverage: Coverage) -> datetime | None:
    """Return the instant up to which every change of any ticket is in the log; None before the first full scan."""
    if not coverage or coverage[0].after_id > 0:
        return None
    return min(scope.as_of for scope in coverage)


def recent_as_of(coverage: Coverage) -> datetime | None:
    """Return the instant up to which every change of a recent ticket is in the log."""
    return coverage[-1].as_of if coverage else None


def latest(first: Coverage, second: Coverage) -> Coverage:
    """Join two coverages that are both true of the same log: for each ticket, the later instant."""
    bounds = sorted({scope.after_id for scope in (*first, *second)})
    joined: list[Scope] = []
    for after_id in bounds:
        known = [found for one in (first, second) if (found := as_of(one, after_id + 1))]
        if not joined or joined[-1].as_of != max(known):
            joined.append(Scope(after_id, max(known)))
    return tuple(joined)
