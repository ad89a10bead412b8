"""Make the plan of a bulk change from criteria: walk over the whole list, and count what is open."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from math import inf

from airflow_provider_lightspeed.api.client import LightspeedClient
from airflow_provider_lightspeed.api.errors import (
    LightspeedIncompleteListError,
    LightspeedQuotaExhaustedError,
)
from airflow_provider_lightspeed.api.paging import Page
from airflow_provider_lightspeed.api.tickets import TicketFilter
from airflow_provider_lightspeed.bulk.actions import Action
from airflow_provider_lightspeed.bulk.job import Job
from airflow_provider_lightspeed.bulk.plan import Criteria, stamp

#: A killed try asks again for no more than about this.
_CALLS_AT_RISK = 20


def make_plan(
    client: LightspeedClient,
    job: Job,
    criteria: Criteria,
    action: Action,
    *,
    max_share: float,
    save: Callable[[], None],
) -> None:
    """Choose the tickets by the complete walk, going on where an earlier try has stopped.

    Not every list lets a walk go on where it was. Where the quota has ended such a walk again and again, it is no
    longer interrupted: the client waits, however long.

    :param max_share: part of the open tickets that may be chosen; ``job.open_tickets`` tells at least whether it is
        kept to. With 1.0, fewer may be counted than there are.
    :param save: keeps the job.
    :raises LightspeedQuotaExhaustedError: to go on later with the same job.
    """
    begun_at = job.cursor
    max_wait = inf if job.is_stuck else None
    # A ticket does not say whose it is: with an address, only this customer's are seen.
    of_one, capped = criteria.email is not None, max_share < 1.0
    tickets = criteria.filter(narrow=of_one or not capped)
    try:
        _choose(
            client, job, criteria, action, client.iter_pages(tickets, job.cursor, max_wait=max_wait), save
        )
        if of_one and capped:
            open_tickets = client.iter_pages(TicketFilter(), max_wait=max_wait)
            job.open_tickets = _count_open(open_tickets, enough=len(job.left) / max_share)
    except LightspeedQuotaExhaustedError:
        job.stalls = job.stalls + 1 if job.cursor == begun_at else 0
        raise
    except LightspeedIncompleteListError:
        # What was read does not fit together: another try has to begin anew.
        job.cursor = None
        raise
    job.stalls = 0


def _choose(
    client: LightspeedClient,
    job: Job,
    criteria: Criteria,
    action: Action,
    pages: Iterable[Page],
    save: Callable[[], None],
) -> None:
    if job.cursor is None:
        job.plan = {ticket_id: job.plan[ticket_id] for ticket_id in job.results}
        job.open_tickets = 0
    calls_saved = client.calls
    for page in pages:
        chosen = {
            ticket["id"]: stamp(ticket)
            for ticket in page.tickets
            if criteria.choose(ticket) and action.request(ticket) is not None
        }
        job.plan |= {key: change for key, change in chosen.items() if key not in job.results}
        job.open_tickets += sum(not ticket.get("isClosed") for ticket in page.tickets)
        job.cursor = page.cursor
        if page.cursor is not None and client.calls - calls_saved >= _CALLS_AT_RISK:
            save()
            calls_saved = client.calls
    job.plan = dict(sorted(job.plan.items()))
    job.cursor = None


def _count_open(pages: Iterable[Page], enough: float) -> int:
    """Count the shop's open tickets until there are enough, which mostly takes one page."""
    found = 0
    for page in pages:
        found += sum(not ticket.get("isClosed") for ticket in page.tickets)
        if found >= enough:
            break
    return found
