"""Read planned tickets again shortly before they are changed, with few calls.

One page of a list shows up to 250 tickets in one call, so where the planned tickets lie close together the list is
walked again, and the tickets of each page are changed before the next one is read. Where they lie far apart, they
are asked for one by one. Both cost no more than one call a ticket, and mostly a hundredth.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from airflow_provider_lightspeed.api.client import LightspeedClient
from airflow_provider_lightspeed.api.errors import (
    LightspeedError,
    LightspeedIncompleteListError,
    LightspeedNotFoundError,
    LightspeedPermanentError,
    LightspeedQuotaExhaustedError,
)
from airflow_provider_lightspeed.api.paging import Cursor
from airflow_provider_lightspeed.api.tickets import PAGE_SIZE, Ticket, TicketFilter, count_tickets, get_ticket
from airflow_provider_lightspeed.bulk.job import Job, version_of

#: Looked up one by one and then changed: so few that the first is changed a few seconds after it was seen.
_ONE_BY_ONE = 40
#: So few tickets are asked for one by one, without asking first what a walk would cost.
_FEW = 4
#: Calls that a walk takes besides its pages.
_WALK_OVERHEAD = 3

#: Calls a function for many tickets, several at a time.
Each = Callable[[Callable[[int], None], list[int]], None]


@dataclass(frozen=True)
class Snapshot:
    """What was seen of some planned tickets in one moment.

    :param tickets: those that are there, by id.
    :param missing: those that are not.
    :param failed: why others could not be seen.
    :param at: when the reading began (monotonic).
    :param cursor: where the walk goes on after this snapshot.
    """

    tickets: dict[int, Ticket]
    missing: list[int]
    failed: dict[int, str]
    at: float
    cursor: Cursor | None


def snapshots(client: LightspeedClient, job: Job, each: Each) -> Iterator[Snapshot]:
    """Yield what all remaining tickets are like now.

    :param each: for those that are asked for one by one.
    """
    if not job.is_stuck and _walk_is_cheaper(client, job):
        yield from _by_page(client, job)
    while left := job.remaining:
        yield _by_id(client, left[:_ONE_BY_ONE], each)


def record_last_changes(client: LightspeedClient, job: Job) -> None:
    """Note when each planned ticket was changed last, so that a change before its turn is found out.

    A short list needs none: its tickets are changed as soon as they are seen. Nor does one whose tickets lie so far
    apart that a call for each would be needed: that would double what the job costs.

    :raises LightspeedQuotaExhaustedError: to go on later with the same job.
    """
    unknown = sum(change is None for change in job.plan.values())
    if unknown <= PAGE_SIZE or job.is_stuck or not _walk_is_cheaper(client, job):
        return
    for snapshot in _by_page(client, job):
        for ticket_id, ticket in snapshot.tickets.items():
            if job.plan[ticket_id] is None:
                job.plan[ticket_id] = version_of(ticket)
        job.cursor = snapshot.cursor
    job.cursor = None


def _walk_is_cheaper(client: LightspeedClient, job: Job) -> bool:
    left = job.remaining
    if len(left) <= _FEW:
        return False
    if job.cursor is not None:
        return True
    listed = int(client.call(count_tickets(since_id=min(job.plan) - 1)))
    return listed // PAGE_SIZE + _WALK_OVERHEAD < len(left)


def _by_page(client: LightspeedClient, job: Job) -> Iterator[Snapshot]:
    begun = time.monotonic()
    pages = client.iter_pages(TicketFilter(since_id=min(job.plan) - 1), job.cursor)
    begun_at = _state(job)
    try:
        for page in pages:
            seen = {
                ticket["id"]: ticket
                for ticket in page.tickets
                if ticket["id"] in job.plan and ticket["id"] not in job.results
            }
            yield Snapshot(seen, [], {}, begun, page.cursor)
            if not job.remaining:
                return
            begun = time.monotonic()
    except LightspeedIncompleteListError:
        # What the walk could not show is asked for by id: nothing rests on the list being complete here.
        pass
    except LightspeedQuotaExhaustedError:
        job.stalls = job.stalls + 1 if _state(job) == begun_at else 0
        raise


def _state(job: Job) -> tuple[Cursor | None, int, int]:
    return job.cursor, len(job.results), sum(change is None for change in job.plan.values())


def _by_id(client: LightspeedClient, ids: list[int], each: Each) -> Snapshot:
    tickets: dict[int, Ticket] = {}
    missing: list[int] = []
    failed: dict[int, str] = {}

    def look_at(ticket_id: int) -> None:
        try:
            tickets[ticket_id] = client.call(get_ticket(ticket_id))
        except LightspeedError as error:
            if is_gone(error):
                missing.append(ticket_id)
            elif affects_all(error):
                raise
            else:
                failed[ticket_id] = str(error)

    begun = time.monotonic()
    each(look_at, ids)
    return Snapshot(tickets, missing, failed, begun, None)


def affects_all(error: LightspeedError) -> bool:
    """Say whether every other ticket would meet this error too."""
    return isinstance(error, LightspeedPermanentError | LightspeedQuotaExhaustedError)


def is_gone(error: LightspeedError) -> bool:
    """Say whether the API itself says that the ticket is no longer there."""
    return isinstance(error, LightspeedNotFoundError) and error.gone
