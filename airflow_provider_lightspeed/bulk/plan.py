"""Which tickets a bulk change is about, and how many at most. Pure functions over tickets."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from airflow_provider_lightspeed.api.errors import LightspeedConfigurationError
from airflow_provider_lightspeed.api.tickets import Ticket, TicketFilter, changed_at, created_at

#: The last change of each ticket when it was planned, by id, in the order of work. See `stamp`;
#: None where only the id is known.
Plan = dict[int, str | None]


@dataclass(frozen=True, kw_only=True)
class Criteria:
    """What an open ticket must be like to be planned. Closed tickets are never chosen by criteria.

    :param created_before: created before this instant.
    :param updated_before: not changed since this instant, and it can be told.
    :param only_answered: answered by the shop.
    :param include_todo: also if the staff has marked it as to do.
    :param email: of the customer with this address (decided by the shop).
    :param language: written in this language, by its two-letter code.
    :param where: any test of your own, given the ticket as the API answers it.
    """

    created_before: datetime | None = None
    updated_before: datetime | None = None
    only_answered: bool = False
    include_todo: bool = False
    email: str | None = None
    language: str | None = None
    where: Callable[[dict[str, Any]], bool] | None = None

    @property
    def given(self) -> bool:
        """Whether anything narrows the choice: no criterion must not mean every ticket."""
        choices = (self.created_before, self.updated_before, self.email, self.language, self.where)
        return self.only_answered or any(choice is not None for choice in choices)

    def choose(self, ticket: Ticket) -> bool:
        """Say whether an open ticket is meant."""
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

        :param narrow: leave out what cannot be chosen. Not where all open tickets are to be counted on the way.
        """
        return TicketFilter(created_to=self.created_before if narrow else None, email=self.email)


def stamp(ticket: Ticket) -> str:
    """Return a ticket's ``updatedAt`` as a text of which two compare, in UTC; empty if it was never changed.

    What can't be read as an instant is kept as it is: it shows at least that it has become another.
    """
    instant = changed_at(ticket)
    if instant is not None:
        with suppress(OverflowError):
            return instant.astimezone(UTC).isoformat()
    return "" if _never_changed(ticket) else str(ticket.get("updatedAt"))


def refuse_too_many(planned: int, max_tickets: int) -> None:
    """Refuse a plan that is larger than allowed.

    :raises LightspeedConfigurationError: with the numbers, and how to allow it.
    """
    if planned > max_tickets:
        raise LightspeedConfigurationError(
            f"{planned} tickets are more than max_tickets={max_tickets}; no ticket was touched. "
            f"If that many are meant, set max_tickets={planned}"
        )


def refuse_too_large_share(planned: int, open_tickets: int, max_share: float) -> None:
    """Refuse a plan that takes too large a part of the open tickets.

    :raises LightspeedConfigurationError: with the numbers, and how to allow it.
    """
    if planned > open_tickets * max_share:
        share = planned / max(1, open_tickets)
        raise LightspeedConfigurationError(
            f"the criteria choose {planned} of {open_tickets} open tickets ({share:.1%}), more than "
            f"max_share={max_share}; no ticket was touched. If that many are meant, set max_share=1.0"
        )


def _idle_since(ticket: Ticket, instant: datetime) -> bool:
    # Of a ticket whose last change can't be read nobody knows that it was before: it is left alone.
    change = created_at(ticket) if _never_changed(ticket) else changed_at(ticket)
    return change is not None and change < instant


def _never_changed(ticket: Ticket) -> bool:
    # By identity: 0 == False, and a number is no way to say nothing.
    change = ticket.get("updatedAt")
    return change is None or change is False or change == ""


def _language(ticket: Ticket) -> str | None:
    language = ticket.get("language")
    return language.get("code") if isinstance(language, dict) else None
