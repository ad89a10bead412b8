"""Which tickets a bulk change is about, and how many at most."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from math import inf
from typing import Any

from airflow_provider_lightspeed.api.client import LightspeedClient
from airflow_provider_lightspeed.api.errors import (
    LightspeedConfigurationError,
    LightspeedIncompleteListError,
    LightspeedMalformedResponseError,
)
from airflow_provider_lightspeed.api.list_progress import ListProgress
from airflow_provider_lightspeed.api.paging import Page
from airflow_provider_lightspeed.api.tickets import Ticket, TicketFilter, changed_at, created_at
from airflow_provider_lightspeed.api.wording import counted, first_few
from airflow_provider_lightspeed.bulk.actions import Action
from airflow_provider_lightspeed.bulk.job import Job, version_of, was_never_changed

log = logging.getLogger(__name__)

#: Planning is saved after so many calls: a killed try repeats no more than about these.
_CALLS_AT_RISK = 20


@dataclass(frozen=True, kw_only=True)
class Criteria:
    """What an open ticket must be like to be planned. Closed tickets are never chosen by criteria.

    :param created_before: created before this instant.
    :param updated_before: not changed since this instant; tickets with an unreadable ``updatedAt`` are skipped.
    :param only_answered: answered by the shop.
    :param include_todo: also if the staff has marked it as to do.
    :param email: of the customer with this address (decided by the shop).
    :param language: written in this language, by its two-letter code.
    :param where: a function of your own, called with the ticket as the API returns it.
    """

    created_before: datetime | None = None
    updated_before: datetime | None = None
    only_answered: bool = False
    include_todo: bool = False
    email: str | None = None
    language: str | None = None
    where: Callable[[dict[str, Any]], bool] | None = None

    def __post_init__(self) -> None:
        """Refuse what no ticket can be compared with.

        :raises LightspeedConfigurationError: naming the criterion.
        """
        # Any other text is the language of no ticket, and the task would end green with nothing done.
        if self.language is not None and not (
            isinstance(self.language, str) and re.fullmatch(r"[a-z]{2}", self.language)
        ):
            raise LightspeedConfigurationError(
                f"language must be two lower-case letters such as 'en', got {self.language!r}"
            )
        if self.where is not None and not callable(self.where):
            raise LightspeedConfigurationError(f"where must be a function of a ticket, got {self.where!r}")

    @property
    def is_narrow(self) -> bool:
        """Whether anything narrows the choice: no criterion must not mean every ticket."""
        choices = (self.created_before, self.updated_before, self.email, self.language, self.where)
        return self.only_answered or any(choice is not None for choice in choices)

    def __str__(self) -> str:
        """Name all that apply, for logs: not the address of a customer, nor code."""
        bounds = {"created_before": self.created_before, "updated_before": self.updated_before}
        shown = [f"{name}={instant.isoformat()}" for name, instant in bounds.items() if instant is not None]
        shown += ["only_answered"] if self.only_answered else []
        shown += ["customer_email=***"] if self.email is not None else []
        shown += [f"language={self.language}"] if self.language is not None else []
        shown += [f"where={self.where_name}"] if self.where is not None else []
        shown += ["include_todo"] if self.include_todo else []
        return ", ".join(shown)

    @property
    def where_name(self) -> str | None:
        """How the function is called."""
        return None if self.where is None else getattr(self.where, "__qualname__", type(self.where).__name__)

    def choose(self, ticket: Ticket) -> bool:
        """Return whether the criteria choose a ticket; closed tickets never."""
        if ticket.get("isClosed") or (ticket.get("isTodo") and not self.include_todo):
            return False
        if self.only_answered and not ticket.get("isAnswered"):
            return False
        if self.created_before is not None and created_at(ticket) >= self.created_before:
            return False
        if self.updated_before is not None and not _idle_since(ticket, self.updated_before):
            return False
        if self.language is not None and _language(ticket) != self.language:
            return False
        return self.where is None or bool(self.where(dict(ticket)))

    def filter(self, *, narrow: bool) -> TicketFilter:
        """Return what to ask the shop for.

        :param narrow: leave out what cannot be chosen; False if all open tickets must be counted too.
        """
        return TicketFilter(created_to=self.created_before if narrow else None, email=self.email)


def refuse_too_many(planned: int, max_tickets: int) -> None:
    """Refuse a plan that is larger than allowed.

    :raises LightspeedConfigurationError: with the numbers, and how to allow it.
    """
    if planned > max_tickets:
        raise LightspeedConfigurationError(
            f"{counted(planned, 'ticket')} are more than max_tickets={max_tickets}; no ticket was changed in this try. "
            f"Check the plan; if it is right, set max_tickets={planned}"
        )


def refuse_too_large_share(planned: int, open_tickets: int, max_share: float) -> None:
    """Refuse a plan that takes too large a part of the open tickets.

    :raises LightspeedConfigurationError: with the numbers, and how to allow it.
    """
    if planned > open_tickets * max_share:
        share = planned / max(1, open_tickets)
        raise LightspeedConfigurationError(
            f"the criteria choose {planned:,} of {counted(open_tickets, 'open ticket')} ({share:.1%}), more than "
            f"max_share={max_share}; no ticket was changed in this try. Check the plan; if it is right, set max_share=1.0"
        )


def _idle_since(ticket: Ticket, instant: datetime) -> bool:
    # A ticket with an unreadable last change may have changed since.
    change = created_at(ticket) if was_never_changed(ticket) else changed_at(ticket)
    return change is not None and change < instant


def _language(ticket: Ticket) -> str | None:
    language = ticket.get("language")
    return language.get("code") if isinstance(language, dict) else None


def make_plan(
    client: LightspeedClient,
    job: Job,
    criteria: Criteria,
    action: Action,
    *,
    max_share: float,
    save: Callable[[], None],
) -> None:
    """Choose the tickets by the complete walk, resuming where an earlier try has stopped.

    Malformed tickets are never chosen, and do not count as open.

    Not every walk can be resumed where it was. If the quota has ended such a walk again and again, it is no longer
    interrupted: the client waits, however long.

    :param max_share: part of the open tickets that may be chosen. With 1.0, fewer open tickets may be counted than
        there are.
    :param save: keeps the job.
    :raises LightspeedMalformedResponseError: if most of the tickets are malformed.
    :raises LightspeedQuotaExhaustedError: to resume later with the same job.
    """
    max_wait = inf if job.is_stuck else None
    tickets = criteria.filter(narrow=criteria.email is not None or max_share >= 1.0)
    pages = client.iter_pages(tickets, job.cursor, max_wait=max_wait, keep_malformed=True)
    reading = ListProgress(
        client,
        tickets,
        "Reading about {} tickets for the plan",
        calls=job.calls + client.calls,
        expected=job.expected,
        max_wait=max_wait,
    )
    try:
        _choose(client, job, criteria, action, pages, reading, save)
    except LightspeedIncompleteListError:
        # What was read does not fit together: another try has to start over.
        job.cursor = None
        raise


def _choose(
    client: LightspeedClient,
    job: Job,
    criteria: Criteria,
    action: Action,
    pages: Iterable[Page],
    reading: ListProgress,
    save: Callable[[], None],
) -> None:
    if job.cursor is None:
        job.plan = {ticket_id: job.plan[ticket_id] for ticket_id in job.results}
        job.open_tickets, job.malformed = 0, []
    calls_saved, seen = client.calls, inf
    for page in pages:
        chosen = {
            ticket["id"]: version_of(ticket)
            for ticket in page.tickets
            if criteria.choose(ticket) and action.request(ticket) is not None
        }
        job.plan |= {key: change for key, change in chosen.items() if key not in job.results}
        job.open_tickets += sum(not ticket.get("isClosed") for ticket in page.tickets)
        job.malformed += [ticket.id for ticket in page.rejected]
        job.cursor, seen = page.cursor, page.seen
        if page.cursor is not None and client.calls - calls_saved >= _CALLS_AT_RISK:
            save()
            calls_saved = client.calls
        reading.report(page, page.seen)
        job.expected = reading.expected
    job.plan = dict(sorted(job.plan.items()))
    job.cursor = None
    if job.malformed:
        _report_malformed(job.malformed, seen)


def _report_malformed(ids: list[int | None], seen: float) -> None:
    summary = first_few(["one without id" if key is None else str(key) for key in ids])
    if len(ids) > seen / 2:
        raise LightspeedMalformedResponseError(
            f"{len(ids)} of {seen} tickets are malformed: {summary}. No ticket was changed in this try"
        )
    left_out = counted(len(ids), "malformed ticket")
    log.warning(
        "Left %s out of the plan: %s. To include such tickets, correct them in the shop", left_out, summary
    )
