"""The ticket resource: its types, its filters, and its endpoints as plain request values."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Generic, Literal, NotRequired, TypedDict

from airflow_provider_lightspeed.api.errors import (
    LightspeedConfigurationError,
    LightspeedMalformedResponseError,
)
from airflow_provider_lightspeed.api.values import parse_instant, span_of_instants

#: Most tickets that one response may hold (vendor page: "limit … maximum: 250").
PAGE_SIZE = 250
#: How many it holds if ``limit`` is not given (vendor page: "default: 50").
DEFAULT_PAGE_SIZE = 50
#: Every shop shows at least so many tickets on a page.
SMALLEST_PAGE = 5

_ID = itemgetter("id")

if TYPE_CHECKING:
    from typing_extensions import TypeVar

    T_co = TypeVar("T_co", covariant=True, default=Any)
else:
    from typing import TypeVar

    T_co = TypeVar("T_co", covariant=True)

Method = Literal["GET", "POST", "PUT", "DELETE"]


class Language(TypedDict):
    """A language of the shop, as a ticket carries it."""

    id: int
    code: str
    locale: str
    title: str


class Resource(TypedDict):
    """The address of a related object. ``id`` is ``false`` for a collection (vendor page)."""

    id: int | Literal[False]
    url: str
    link: str


class Link(TypedDict):
    """A relation to another object."""

    resource: Resource | Literal[False]


class Ticket(TypedDict):
    """A support ticket, with the API's own property names (vendor page "Ticket").

    ``false`` stands for null almost anywhere (undocumented: seen in live responses), and properties
    not listed here may appear at any time; they are kept. The client returns ids as numbers and switches as
    booleans or None, whatever form the shop writes.
    """

    id: int
    createdAt: str
    updatedAt: NotRequired[str | Literal[False] | None]
    isAnswered: NotRequired[bool | None]
    isClosed: NotRequired[bool | None]
    isTodo: NotRequired[bool | None]
    subject: NotRequired[str]
    memo: NotRequired[str]
    doNotifyAnswered: NotRequired[bool | None]
    language: NotRequired[Language | Literal[False]]
    customer: NotRequired[Link | Literal[False]]
    messages: NotRequired[Link | Literal[False]]


#: ``from`` is a keyword of Python, hence the functional form.
TicketMessage = TypedDict(
    "TicketMessage",
    {
        "id": int,
        "createdAt": str,
        "updatedAt": NotRequired[str | Literal[False] | None],
        "from": NotRequired[Literal["customer", "shop"]],
        "message": NotRequired[str],
    },
)


@dataclass(frozen=True)
class RejectedTicket:
    """A row of a list that is no readable ticket.

    :param id: its id, if that can be read.
    :param raw: its bytes as the shop sent them.
    :param reason: what is wrong with it, without any of its texts.
    """

    id: int | None
    raw: bytes = field(repr=False)
    reason: str


@dataclass(frozen=True)
class Request(Generic[T_co]):
    """One call, before it knows host, language and credentials. ``T_co`` is what its response holds.

    :param path: path below the language, such as ``tickets/2546.json``.
    :param envelope: the key under which the response holds its data; None if it holds none.
    :param expected_id: id of the ticket that the response must be about.
    :param keep_malformed: return a `RejectedTicket` for each malformed row of the list, instead of failing.
    """

    method: Method
    path: str
    query: Mapping[str, str | int] = field(default_factory=dict)
    body: Mapping[str, Any] | None = None
    envelope: str | None = None
    is_list: bool = False
    expected_id: int | None = None
    keep_malformed: bool = False


@dataclass(frozen=True)
class TicketFilter:
    """Which tickets a list is to hold.

    :param since_id: only tickets with a greater id.
    :param created_from: only tickets created at or after this instant.
    :param created_to: only tickets created before this instant.
    :param email: only tickets of the customer with this e-mail address (decided by the shop).
    """

    since_id: int | None = None
    created_from: datetime | None = None
    created_to: datetime | None = None
    email: str | None = None

    def __post_init__(self) -> None:
        if self.since_id is not None and self.since_id < 0:
            raise LightspeedConfigurationError(f"since_id must not be negative, got {self.since_id}")
        for name in ("created_from", "created_to"):
            bound = getattr(self, name)
            if bound is not None and bound.utcoffset() is None:
                raise LightspeedConfigurationError(
                    f"{name} must be an instant with a zone, got {bound}; add an offset such as +00:00"
                )
        if self.created_from and self.created_to and self.created_from >= self.created_to:
            raise LightspeedConfigurationError(
                f"the window is empty or reversed: created_from {self.created_from.isoformat()} is not before "
                f"created_to {self.created_to.isoformat()}. A cron schedule has data_interval_start == "
                "data_interval_end in Airflow 3: use CronDataIntervalTimetable, or give explicit bounds"
            )

    def matches(self, ticket: Ticket) -> bool:
        """Say whether a ticket belongs, by its own properties (``email`` is the shop's to decide)."""
        if self.since_id is not None and ticket["id"] <= self.since_id:
            return False
        created = created_at(ticket)
        if self.created_from is not None and created < self.created_from:
            return False
        return self.created_to is None or created < self.created_to

    def matching(self, tickets: Sequence[Ticket]) -> list[Ticket]:
        """Return those that belong, in their order.

        :raises LightspeedMalformedResponseError: if it can't be read when one of them was created.
        """
        return (
            [*tickets] if self._match_all(tickets) else [ticket for ticket in tickets if self.matches(ticket)]
        )

    def _match_all(self, tickets: Sequence[Ticket]) -> bool:
        """Say whether all belong, fast: of most pages they do. Where it is in doubt, they do not."""
        created = span_of_instants(ticket.get("createdAt") for ticket in tickets)
        if created is None:
            return False
        first, last = created
        return (
            (self.since_id is None or min(map(_ID, tickets)) > self.since_id)
            and (self.created_from is None or first >= self.created_from)
            and (self.created_to is None or last < self.created_to)
        )


def created_at(ticket: Ticket) -> datetime:
    """Read when a ticket was created.

    :raises LightspeedMalformedResponseError: if it is missing, not ISO 8601, or has no offset (a zone
        is never assumed).
    """
    text = ticket.get("createdAt")
    instant = parse_instant(text)
    if instant is None:
        raise LightspeedMalformedResponseError(
            f"ticket {ticket['id']} has the createdAt {text!r}, which is not an ISO 8601 instant with an offset"
        )
    return instant


def changed_at(ticket: Ticket) -> datetime | None:
    """Read when a ticket was last changed; None where it does not say so in ISO 8601 with an offset."""
    return parse_instant(ticket.get("updatedAt"))


def list_tickets(
    *,
    page: int = 1,
    limit: int = PAGE_SIZE,
    since_id: int | None = None,
    created_at_min: str | None = None,
    created_at_max: str | None = None,
    email: str | None = None,
    keep_malformed: bool = False,
) -> Request[list[Any]]:
    """Ask for one page of tickets. Date bounds are local times without a zone, ``YYYY-MM-DD HH:MM:SS`` (vendor page).

    A row is malformed if it is not valid JSON in UTF-8, has no positive id, or a switch is neither true nor false.

    :param keep_malformed: return a `RejectedTicket` for each malformed row, in the order of the list, and for each
        without a legible ``createdAt`` too. Otherwise the call fails with an error that names the first malformed one,
        and `created_at` with one that names a ticket without a legible ``createdAt``.
    """
    query: dict[str, str | int] = {"limit": limit}
    if page > 1:
        query["page"] = page
    query |= _filters(since_id, created_at_min, created_at_max, email)
    return Request(
        "GET", "tickets.json", query, envelope="tickets", is_list=True, keep_malformed=keep_malformed
    )


def count_tickets(
    *,
    since_id: int | None = None,
    created_at_min: str | None = None,
    created_at_max: str | None = None,
    email: str | None = None,
) -> Request[int]:
    """Ask how many tickets there are (``email`` is not among the vendor's filters of this endpoint)."""
    query = _filters(since_id, created_at_min, created_at_max, email)
    return Request("GET", "tickets/count.json", query, envelope="count")


def get_ticket(ticket_id: int) -> Request[Ticket]:
    """Ask for one ticket. A response about another ticket is an error."""
    number = parse_ticket_id(ticket_id)
    return Request("GET", f"tickets/{number}.json", envelope="ticket", expected_id=number)


def create_ticket(properties: Mapping[str, Any]) -> Request[Ticket]:
    """Create a ticket."""
    return Request("POST", "tickets.json", body={"ticket": dict(properties)}, envelope="ticket")


def update_ticket(ticket_id: int, properties: Mapping[str, Any]) -> Request[Ticket | None]:
    """Change the given properties of a ticket, and no others.

    The response holds the ticket as it is now, or None if the shop answers 204: the change is done, and only another
    `get_ticket` shows the ticket. A response about another ticket is an error.
    """
    number = parse_ticket_id(ticket_id)
    if not properties:
        raise LightspeedConfigurationError(f"no property of ticket {number} to change was given")
    body = {"ticket": dict(properties)}
    return Request("PUT", f"tickets/{number}.json", body=body, envelope="ticket", expected_id=number)


def delete_ticket(ticket_id: int) -> Request[None]:
    """Delete a ticket."""
    return Request("DELETE", f"tickets/{parse_ticket_id(ticket_id)}.json")


def list_messages(ticket_id: int, *, page: int = 1) -> Request[list[TicketMessage]]:
    """Ask for one page of a ticket's messages."""
    query: dict[str, str | int] = {"limit": PAGE_SIZE}
    if page > 1:
        query["page"] = page
    path = f"tickets/{parse_ticket_id(ticket_id)}/messages.json"
    return Request("GET", path, query, envelope="ticketMessages", is_list=True)


def count_messages(ticket_id: int) -> Request[int]:
    """Ask how many messages a ticket has."""
    return Request("GET", f"tickets/{parse_ticket_id(ticket_id)}/messages/count.json", envelope="count")


def create_message(ticket_id: int, properties: Mapping[str, Any]) -> Request[TicketMessage]:
    """Add a message to a ticket."""
    path = f"tickets/{parse_ticket_id(ticket_id)}/messages.json"
    return Request("POST", path, body={"ticketMessage": dict(properties)}, envelope="ticketMessage")


def parse_ticket_id(value: object) -> int:
    """Read a ticket id from an int or its decimal text.

    :raises LightspeedConfigurationError: for anything else: a wrong id must not become another path, and ``2,001`` in a
        list of ids not the tickets 2 and 1.
    """
    if isinstance(value, str) and re.fullmatch(r"\s*[1-9][0-9]{0,17}\s*", value):
        value = int(value)
    if isinstance(value, int) and not isinstance(value, bool) and value > 0:
        return value
    raise LightspeedConfigurationError(
        f"a ticket id is a positive whole number without leading zeros, got {value!r}"
    )


def _filters(
    since_id: int | None, created_at_min: str | None, created_at_max: str | None, email: str | None
) -> dict[str, str | int]:
    given = {
        "since_id": since_id,
        "created_at_min": created_at_min,
        "created_at_max": created_at_max,
        "email": email,
    }
    return {name: value for name, value in given.items() if value is not None}
