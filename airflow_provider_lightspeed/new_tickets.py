"""What counts as new, when to poll again, and the events that triggers send to tasks. Pure functions and values."""

from __future__ import annotations

import hashlib
from collections.abc import Generator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from itertools import islice, takewhile
from typing import Annotated, Any

import msgspec

from airflow_provider_lightspeed.api.errors import (
    LightspeedError,
    LightspeedMalformedResponseError,
    LightspeedNotFoundError,
    LightspeedQuotaExhaustedError,
)
from airflow_provider_lightspeed.api.queries import newest_ticket
from airflow_provider_lightspeed.api.tickets import (
    PAGE_SIZE,
    RejectedTicket,
    Request,
    Ticket,
    created_at,
    get_ticket,
)

#: Maximum seconds between polls while the shop fails (or the poke interval, if that is longer).
MAX_PAUSE = 600.0
#: Maximum number of delivered tickets that a cursor knows by id.
LOOK_BACK = 100
#: A ticket may appear so many seconds later than one with a greater id, and is delivered all the same.
LOOK_BACK_AGE = 15 * 60
# No shop is known to have smaller pages.
_SMALLEST_PAGE = 20
# Tickets by which a shop is recognised: more than a replica may lack.
_WITNESSES = 5


class Seen(msgspec.Struct, frozen=True, gc=False):
    """What is kept of a ticket that a poll read.

    :param fingerprint: see :func:`fingerprint`.
    :param created: in seconds since 1970; None if it is unreadable.
    :param counts: whether the caller's function chose it.
    """

    fingerprint: int
    created: int | None
    counts: bool = True

    @classmethod
    def of(cls, ticket: Ticket | RejectedTicket, counts: bool = True) -> Seen:
        """Keep what matters of a ticket."""
        return cls(fingerprint(ticket), created_second(ticket), counts)


class PollResult(msgspec.Struct, frozen=True):
    """What a task or an event delivers.

    :param since_id: the greatest id delivered before. A ticket that appeared late may have a lower one.
    :param ticket_ids: the new tickets, ascending.
    :param max_id: the greatest id that is done now, delivered or not counted.
    """

    since_id: int
    ticket_ids: list[int]
    max_id: int

    def result(self) -> dict[str, Any]:
        """Return the result of a task."""
        return {
            "ticket_ids": self.ticket_ids,
            "count": len(self.ticket_ids),
            "since_id": self.since_id,
            "max_id": self.max_id,
        }


TicketId = Annotated[int, msgspec.Meta(ge=0)]


class Cursor(msgspec.Struct, frozen=True, omit_defaults=True):
    """Which tickets of a shop are done.

    :param since_id: all tickets up to this id are done. A poll asks for those above.
    :param known: the tickets above it that are done, ascending: the look-back. It is open while there are any.
    :param witnesses: id and creation time (seconds since 1970) of the newest of them, by which the shop is recognised.
    :param shop: hash of the shop's address and key (``ClientSettings.shop``).
    :param page_size: what a page of the shop holds, as far as polls have shown it.
    """

    since_id: TicketId
    known: tuple[TicketId, ...] = ()
    witnesses: tuple[tuple[TicketId, int], ...] = ()
    shop: str | None = None
    page_size: Annotated[int, msgspec.Meta(ge=1)] = PAGE_SIZE

    @property
    def max_id(self) -> int:
        """The greatest id that is done."""
        return max((self.since_id, *self.known))

    def to_json(self) -> dict[str, Any]:
        """Return it as plain JSON values. Airflow's stores take no tuples."""
        plain: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(self))
        return plain

    def is_new(self, ticket_id: int) -> bool:
        """Return whether a ticket is not done yet."""
        return ticket_id > self.since_id and ticket_id not in self.known

    def new(self, tickets: Mapping[int, Seen]) -> dict[int, Seen]:
        """Return those that are not done, ascending."""
        return {ticket_id: tickets[ticket_id] for ticket_id in sorted(filter(self.is_new, tickets))}

    def deliver(
        self, new: Mapping[int, Seen], limit: int, page_size: int = PAGE_SIZE
    ) -> tuple[PollResult, Cursor]:
        """Return what to deliver of the new tickets, lowest ids first, and the cursor behind that.

        :param limit: maximum number of tickets to deliver; the others stay new.
        :param page_size: what a page holds, as far as the poll has shown it. A look-back fits half a page, so that it
            takes no further call.
        """
        page_size = self._shown(page_size)
        counting = [ticket_id for ticket_id, seen in new.items() if seen.counts]
        delivered, rest = counting[:limit], counting[limit:]
        done = {
            ticket_id: seen
            for ticket_id, seen in new.items()
            if (not rest or ticket_id < rest[0])
            # A malformed one that could not be judged stays new, until it is below the look-back.
            and (seen.counts or seen.created is not None)
        }
        known = sorted({*self.known, *done})
        floor = max([self.since_id, *known[: -_look_back(page_size)]])
        if rest:
            floor = min(floor, rest[0] - 1)
        witnesses = {
            *self.witnesses,
            *((i, seen.created) for i, seen in done.items() if seen.created is not None),
        }
        after = Cursor(
            floor,
            tuple(ticket_id for ticket_id in known if ticket_id > floor),
            tuple(sorted(witnesses)[-_WITNESSES:]),
            self.shop,
            page_size,
        )
        return PollResult(self.max_id, delivered, after.max_id), after

    def settled(self, tickets: Mapping[int, Seen], now: float, page_size: int = PAGE_SIZE) -> Cursor:
        """Return the cursor after a poll that delivers nothing.

        It is without the look-back, if nothing can appear late any more; and without the lowest of the new tickets, if
        they do not count and are too many. Each poll reads what is new again, so that has to fit a page.

        :param tickets: what the poll read. A list that shows none of the known tickets may come from a shop that fails.
        :param now: seconds since 1970, before the poll.
        :param page_size: as for `deliver`.
        """
        if new := self.new(tickets):
            too_many = max(0, len(new) - _look_back(self._shown(page_size)))
            passed = takewhile(lambda ticket_id: not new[ticket_id].counts, islice(new, too_many))
            since_id = max([self.since_id, *passed])
            known = tuple(ticket_id for ticket_id in self.known if ticket_id > since_id)
            return msgspec.structs.replace(self, since_id=since_id, known=known)
        youngest = max((created for _, created in self.witnesses), default=0)
        is_over = now - youngest >= LOOK_BACK_AGE
        if not is_over or tickets.keys().isdisjoint(self.known):
            return self
        return msgspec.structs.replace(self, since_id=self.max_id, known=())

    def _shown(self, page_size: int) -> int:
        return min(self.page_size, max(page_size, _SMALLEST_PAGE))


def _look_back(page_size: int) -> int:
    return min(LOOK_BACK, page_size // 2)


def first_cursor(start: str, shop: str) -> Generator[Request[Any], Any, Cursor]:
    """Find where tickets begin to be new in a shop without a cursor.

    Yields calls to make, and is sent their data or thrown their errors.

    :param start: ``latest`` (after the newest ticket) or ``earliest``.
    """
    if start == "earliest":
        return Cursor(0, shop=shop)
    # An empty list is asked for twice: believed by mistake, it would make every ticket new.
    newest = (yield from newest_ticket()) or (yield from newest_ticket())
    return (yield from _adopt(Cursor(newest), shop))


def cursor_in(shop: str, cursor: Cursor) -> Generator[Request[Any], Any, Cursor | None]:
    """Find the cursor of a shop that may have got another key; None if the cursor is that of another shop.

    Yields calls to make, and is sent their data or thrown their errors.

    :raises LightspeedMalformedResponseError: if only a malformed ticket may show that it is the same shop.
    """
    if cursor.shop == shop:
        return cursor
    if cursor.shop is None:  # written by a person, or by an early version
        return (yield from _adopt(cursor, shop))
    is_same = yield from _shows_a_witness(cursor)
    return msgspec.structs.replace(cursor, shop=shop) if is_same else None


def _adopt(cursor: Cursor, shop: str) -> Generator[Request[Any], Any, Cursor]:
    """Return a cursor of a shop for one that is of none yet.

    Its newest ticket becomes a witness: by it the shop is recognised if the key is rotated before there are new tickets.
    """
    created = None
    if cursor.max_id:
        with suppress(LightspeedMalformedResponseError):
            created = yield from _created(cursor.max_id)
    witnesses = cursor.witnesses or (() if created is None else ((cursor.max_id, created),))
    return msgspec.structs.replace(cursor, shop=shop, witnesses=witnesses)


def _shows_a_witness(cursor: Cursor) -> Generator[Request[Any], Any, bool]:
    malformed = None
    for ticket_id, created in reversed(cursor.witnesses):
        try:
            if (yield from _created(ticket_id)) == created:
                return True
        except LightspeedMalformedResponseError as error:
            malformed = error
    if malformed:
        raise malformed
    return False


def _created(ticket_id: int) -> Generator[Request[Any], Any, int | None]:
    try:
        return created_second((yield get_ticket(ticket_id)))
    except LightspeedNotFoundError as error:
        if not error.gone:
            raise
        return None


def created_second(ticket: Ticket | RejectedTicket) -> int | None:
    """Return when a ticket was created, in seconds since 1970; None if that is unreadable."""
    if isinstance(ticket, RejectedTicket):
        return None
    try:
        return int(created_at(ticket).timestamp())
    except (LightspeedError, OverflowError):
        return None


def fingerprint(ticket: Ticket | RejectedTicket) -> int:
    """Return a number that stands for a ticket as it is now. It has no key: see docs/privacy.md."""
    if isinstance(ticket, RejectedTicket):
        content = ticket.raw
    else:
        content = msgspec.json.encode(ticket, order="sorted")
    return int.from_bytes(hashlib.blake2b(content, digest_size=8).digest())


def digest(tickets: Mapping[int, Seen]) -> str:
    """Return a text that stands for these tickets as they are now, in any order."""
    fingerprints = sorted((ticket_id, seen.fingerprint) for ticket_id, seen in tickets.items())
    return hashlib.sha256(msgspec.json.encode(fingerprints)).hexdigest()


@dataclass
class PollSchedule:
    """How long to wait from one poll to the next.

    :param interval: seconds between two polls that succeed.
    """

    interval: float
    _failures: int = 0

    def after_success(self) -> float:
        """Return the pause after a poll that succeeded."""
        self._failures = 0
        return self.interval

    def after_error(self, error: Exception, now: datetime) -> float:
        """Return the pause after one that failed: until the quota is back, else longer each time."""
        if isinstance(error, LightspeedQuotaExhaustedError):
            return max(0.0, (error.until - now).total_seconds())
        self._failures += 1
        longest = max(self.interval, MAX_PAUSE)
        return min(self.interval * 2.0 ** min(self._failures - 1, 20), longest)


class PollEvent(msgspec.Struct, frozen=True):
    """The trigger asks the task to poll: something is new, or it is time for the last poll.

    :param deadline: when the sensor times out, in seconds since 1970. A task that was deferred knows nothing of the
        time before, so the event brings it.
    """

    deadline: float

    def payload(self) -> dict[str, Any]:
        """Return it as an event carries it."""
        return {"status": "poll", "deadline": self.deadline}


class FailedEvent(msgspec.Struct, frozen=True):
    """The trigger reports that no further poll can succeed: the credentials or the arguments are wrong.

    :param kind: class of the error.
    :param message: its text.
    """

    kind: str
    message: str

    def payload(self) -> dict[str, Any]:
        """Return it as an event carries it."""
        return {"status": "failed", "kind": self.kind, "message": self.message}


def read_event(payload: object) -> PollEvent | FailedEvent:
    """Read the event of a trigger.

    :raises ValueError: if it is neither of the two, as when triggerer and worker run different versions.
    """
    match payload:
        case {"status": "poll", "deadline": float() | int() as deadline}:
            return PollEvent(float(deadline))
        case {"status": "failed", "kind": str(kind), "message": str(message)}:
            return FailedEvent(kind, message)
    shape = sorted(map(str, payload)) if isinstance(payload, Mapping) else type(payload).__name__
    raise ValueError(
        f"The trigger sent an event that this version of the provider does not know ({shape}): "
        "do triggerer and workers run the same version?"
    )
