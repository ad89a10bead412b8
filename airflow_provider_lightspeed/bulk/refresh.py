"""Read planned tickets again shortly before they are changed, with few calls.

One page of a list shows up to 250 tickets in one call, so if the planned tickets are close together in the list, it is
read again, and the tickets of each page are changed before the next one is read. If they are far apart, they are
requested one by one. Both cost at most one call a ticket, and usually a hundredth.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from time import monotonic

from airflow_provider_lightspeed.api.client import LightspeedClient
from airflow_provider_lightspeed.api.errors import (
    LightspeedError,
    LightspeedIncompleteListError,
    LightspeedNotFoundError,
    LightspeedPermanentError,
    LightspeedQuotaExhaustedError,
)
from airflow_provider_lightspeed.api.list_progress import ListProgress
from airflow_provider_lightspeed.api.paging import Cursor, usual_calls
from airflow_provider_lightspeed.api.tickets import PAGE_SIZE, Ticket, TicketFilter, count_tickets, get_ticket
from airflow_provider_lightspeed.bulk.job import Job, version_of

#: Most tickets that are read one by one before they are changed: the first is then changed a few seconds after.
_MOST_AT_ONCE = 40
#: So many readings in a row after which no ticket could be changed in time. Then a ticket fails after each reading.
_MAX_IDLE = 10
#: So few tickets are read one by one, without asking first what a walk would cost.
_FEW = 4

#: Calls a function for many tickets, several at a time.
Each = Callable[[Callable[[int], None], list[int]], None]


@dataclass(frozen=True)
class Snapshot:
    """What some planned tickets were like when they were read.

    :param tickets: those that are there, by id.
    :param read_at: when the reading of each of them began (monotonic).
    :param missing: those that are not there.
    :param failed: why others could not be read.
    :param cursor: where the walk resumes after this snapshot.
    """

    tickets: dict[int, Ticket] = field(default_factory=dict)
    read_at: dict[int, float] = field(default_factory=dict)
    missing: list[int] = field(default_factory=list)
    failed: dict[int, str] = field(default_factory=dict)
    cursor: Cursor | None = None


def snapshots(client: LightspeedClient, job: Job, each: Each) -> Iterator[Snapshot]:
    """Yield what all remaining tickets are like now.

    No more are read one by one than can be changed before the quota is used up: what is read before a wait for the
    quota is of no use after it. A snapshot after which nothing could be done halves the next one.

    :param each: for those that are read one by one.
    """
    if reads_pages(client, job):
        yield from _by_page(client, job)
        job.by_page = False
    at_most, idle = _MOST_AT_ONCE, 0
    while remaining := job.remaining:
        yield from _by_id(client, remaining[: min(at_most, _affordable(client))], each)
        if len(job.remaining) < len(remaining):
            at_most, idle = _MOST_AT_ONCE, 0
            continue
        at_most, idle = max(1, at_most // 2), idle + 1
        if idle >= _MAX_IDLE:
            yield Snapshot(
                failed={remaining[0]: "each time after it was read, its change had to wait for too long"}
            )


def record_last_changes(client: LightspeedClient, job: Job) -> None:
    """Note when each planned ticket was changed last, so that a change before it is processed is noticed.

    A short list needs none: its tickets are changed as soon as they are read. Nor does one whose tickets are so far
    apart that each needs a call: that would double the cost of the job.

    :raises LightspeedQuotaExhaustedError: to resume later with the same job.
    """
    unknown = sum(change is None for change in job.plan.values())
    if unknown <= PAGE_SIZE or not reads_pages(client, job):
        return
    if job.expected:
        what = f"Reading about {job.expected:,} tickets to record their last changes"
        client.log_estimate(calls_to_read(job), what)
    for snapshot in _by_page(client, job, log_progress=True):
        for ticket_id, ticket in snapshot.tickets.items():
            if job.plan[ticket_id] is None:
                job.plan[ticket_id] = version_of(ticket)
        job.cursor = snapshot.cursor
    job.cursor = None


def reads_pages(client: LightspeedClient, job: Job) -> bool:
    """Return whether a walk over the list takes fewer calls than reading the tickets one by one."""
    if job.is_stuck:
        job.by_page = False
    if job.by_page is None:
        remaining = len(job.remaining)
        if remaining > _FEW and job.cursor is None:
            job.expected = client.call(count_tickets(since_id=min(job.plan) - 1))
        job.by_page = remaining > _FEW and (
            job.cursor is not None or usual_calls(job.expected or 0) < remaining
        )
    return job.by_page


def calls_to_read(job: Job) -> int:
    """Return about how many calls it takes to read what remains, once it is decided how.

    Pages are read one after another, tickets several at a time.
    """
    remaining = len(job.remaining)
    if not job.by_page or job.expected is None:
        return remaining
    seen = job.cursor.reader.seen if job.cursor else 0
    return min(usual_calls(max(0, job.expected - seen)), remaining)


def _affordable(client: LightspeedClient) -> int:
    """Return how many tickets can be read and changed with what is left of the quota; one while that is unknown."""
    if client.calls == 0:
        return 1
    return max(1, int(min(client.calls_left, 2 * _MOST_AT_ONCE)) // 2)


def _by_page(client: LightspeedClient, job: Job, *, log_progress: bool = False) -> Iterator[Snapshot]:
    begun = monotonic()
    try:
        # A malformed ticket stays in the plan, is read by id, and fails alone.
        tickets = TicketFilter(since_id=min(job.plan) - 1)
        calls = job.calls + client.calls
        reading = ListProgress(client, tickets, "", calls=calls, expected=job.expected or 0)
        for page in client.iter_pages(tickets, job.cursor, keep_malformed=True):
            if log_progress:
                reading.report(page, page.seen)
            seen = {
                ticket["id"]: ticket
                for ticket in page.tickets
                if ticket["id"] in job.plan and ticket["id"] not in job.results
            }
            yield Snapshot(seen, dict.fromkeys(seen, begun), cursor=page.cursor)
            if not job.remaining:
                return
            begun = monotonic()
    except LightspeedIncompleteListError:
        # Tickets that the walk did not show are read by id: the list need not be complete here.
        pass


def _by_id(client: LightspeedClient, ids: list[int], each: Each) -> Iterator[Snapshot]:
    snapshot = Snapshot()

    def read(ticket_id: int) -> None:
        begun = monotonic()
        try:
            ticket = client.call(get_ticket(ticket_id))
        except LightspeedError as error:
            if is_gone(error):
                snapshot.missing.append(ticket_id)
            elif affects_all(error):
                raise
            else:
                snapshot.failed[ticket_id] = str(error)
        else:
            snapshot.read_at[ticket_id] = begun
            snapshot.tickets[ticket_id] = ticket

    try:
        each(read, ids)
    except LightspeedQuotaExhaustedError:
        yield snapshot  # some may need no call
        raise
    yield snapshot


def affects_all(error: LightspeedError) -> bool:
    """Say whether every other ticket would meet this error too."""
    return isinstance(error, LightspeedPermanentError | LightspeedQuotaExhaustedError)


def is_gone(error: LightspeedError) -> bool:
    """Say whether the API itself says that the ticket is no longer there."""
    return isinstance(error, LightspeedNotFoundError) and error.gone
