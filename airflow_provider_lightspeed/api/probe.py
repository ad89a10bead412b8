"""Finds out how a shop answers.

It makes at most 20 calls and only reads. Its report holds no customer data: no text, address or id of a ticket.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import TYPE_CHECKING, Any, cast

from airflow_provider_lightspeed.api.errors import LightspeedAPIError, LightspeedError
from airflow_provider_lightspeed.api.tickets import (
    PAGE_SIZE,
    RejectedTicket,
    Request,
    Ticket,
    changed_at,
    count_tickets,
    created_at,
    list_tickets,
)
from airflow_provider_lightspeed.api.wording import counted

if TYPE_CHECKING:
    from airflow_provider_lightspeed.api.client import LightspeedClient
    from airflow_provider_lightspeed.api.rate_limit import Quota

MAX_CALLS = 20

#: An order of fewer rows may be chance.
_MIN_ROWS = 8
#: Belongs to no customer (RFC 2606).
_NO_EMAIL = "probe@example.invalid"
_SECOND = timedelta(seconds=1)
#: Around an instant, whether bounds are inclusive or not.
_WIDE = (-2 * _SECOND, 2 * _SECOND)
#: All offsets that zones have now, in minutes.
_OFFSETS = sorted({
    *range(-12 * 60, 14 * 60 + 1, 60),
    *(-570, -210, -150, 210, 270, 330, 345, 390, 525, 570, 630, 645, 765, 825),
})
_REFUSED = "unknown, because the shop refused the call"
_TOO_FEW = f"unknown, because the shop has fewer than {_MIN_ROWS} tickets"
_NO_TICKETS = "unknown, because the shop listed no tickets"
_OUT_OF_CALLS = f"unknown, because the {MAX_CALLS} calls were used up before"


@dataclass(frozen=True)
class Finding:
    """One answer about a shop.

    :param topic: what was asked.
    :param result: what the shop does, or "unknown, because …".
    :param meaning: what this means for tasks with this shop.
    """

    topic: str
    result: str
    meaning: str

    def __str__(self) -> str:
        return f"{self.topic}: {self.result}\n    {self.meaning}"


@dataclass(frozen=True)
class ShopReport:
    """How a shop answers.

    :param calls: how many calls that took.
    """

    findings: tuple[Finding, ...]
    calls: int
    date: datetime

    def __getitem__(self, topic: str) -> str:
        """Return the result of a topic."""
        return next(finding.result for finding in self.findings if finding.topic == topic)

    def __str__(self) -> str:
        return "\n".join([
            f"Probed on {self.date:%Y-%m-%d %H:%M} UTC with {self.calls} calls. Nothing was written.",
            "This report holds no text, address or id of a ticket or customer.",
            "",
            *map(str, self.findings),
        ])


class _OutOfCallsError(Exception):
    """The probe may make no more calls."""


def probe_shop(client: LightspeedClient) -> ShopReport:
    """Find out how the shop of a client answers.

    :raises LightspeedError: the shop cannot be read at all.
    """
    probe = _Probe(client)
    return ShopReport(
        (
            *probe.lists(),
            probe.since_id(),
            probe.email(),
            *probe.dates(),
            _quota(client.quota),
        ),
        probe.calls,
        datetime.now(UTC),
    )


class _Probe:
    """Makes the calls and remembers the tickets that it has seen."""

    def __init__(self, client: LightspeedClient) -> None:
        self._client = client
        self.calls = 0
        self._count = 0
        self._first: list[Ticket] = []
        self._seen: dict[int, Ticket] = {}
        self._rejected: set[int | None] = set()
        self._order = ""
        self._reads_since_id = False
        self._is_lagging = False
        self._is_small = False

    def lists(self) -> list[Finding]:
        """Read the first pages and the count, with which the other findings begin."""
        self._count = self._ask(count_tickets())
        self._first = self._list()
        again = self._list()
        if not self._first and self._count:
            self._first = again
        second = self._list(page=2) if self._first else []
        self._order = _order(self._first)
        self._is_small = not second
        return [
            self._describe_order(),
            self._moments(again),
            self._page_limit(second),
            _repeats(self._first, second),
            self._honesty(second),
            _response_offsets([*self._first, *second]),
            self._unreadable(),
        ]

    def since_id(self) -> Finding:
        """Ask for the tickets above one of the first page."""
        topic = "since_id"
        if len(self._first) < _MIN_ROWS:
            return Finding(
                topic, _TOO_FEW, "Exports work either way: they pass over a ticket that comes again."
            )
        pivot = sorted(ticket["id"] for ticket in self._first)[-_MIN_ROWS]
        try:
            ids = [ticket["id"] for ticket in self._list(since_id=pivot)]
        except LightspeedAPIError:
            return Finding(topic, _REFUSED, "The provider needs since_id. Report this shop.")
        if not ids or min(ids) < pivot:
            return Finding(
                topic,
                "not applied as 'greater than'",
                "Sensors and ordered exports cannot rely on this shop. Report it.",
            )
        self._reads_since_id = True
        if pivot in ids:
            return Finding(topic, "inclusive", "The provider passes over the ticket that comes again.")
        if self._order != "oldest first" and len(ids) >= len(self._first):
            return Finding(topic, "greater than, or inclusive", "The provider is right either way.")
        return Finding(topic, "greater than, exclusive", "As expected.")

    def email(self) -> Finding:
        """Ask for the tickets of an address that no customer has."""
        topic = "email"
        if not self._first or not self._count:
            return Finding(topic, _NO_TICKETS, "Filters by e-mail address are up to the shop.")
        try:
            listed = self._list(limit=1, email=_NO_EMAIL)
            count = self._ask(count_tickets(email=_NO_EMAIL))
        except LightspeedAPIError:
            return Finding(topic, _REFUSED, "Do not use customer_email with this shop.")
        except _OutOfCallsError:
            return Finding(topic, _OUT_OF_CALLS, "Probe again at a quiet hour.")
        if listed:
            return Finding(
                topic,
                "ignored by lists",
                "Do not use customer_email with this shop: it matches tickets of all customers.",
            )
        if count:
            return Finding(
                topic,
                "read by lists, ignored by the count",
                "As expected: the provider counts by reading the list.",
            )
        return Finding(topic, "read by lists and by the count", "The provider reads the list all the same.")

    def dates(self) -> list[Finding]:
        """Find the offset at which date filters are read, and whether their bounds are inclusive."""
        zone, bounds = "offset of date filters", "bounds of date filters"
        unknown = "Exports ask for a wider window and decide by each ticket's own createdAt."
        if not self._seen:
            return [Finding(topic, _NO_TICKETS, unknown) for topic in (zone, bounds)]
        try:
            found = self._date_filters()
        except LightspeedAPIError:
            return [Finding(topic, _REFUSED, "Exports of a window may fail.") for topic in (zone, bounds)]
        except _OutOfCallsError:
            return [Finding(topic, _OUT_OF_CALLS, unknown) for topic in (zone, bounds)]
        if found is None:
            why = "unknown, because a known ticket was found at no offset"
            return [Finding(topic, why, unknown) for topic in (zone, bounds)]
        offset, month, edges = found
        return [
            Finding(
                zone,
                f"{_offset_text(offset)} in {month}",
                "Set the connection's filter_timezone to a zone with this offset in that month: exports save calls.",
            ),
            Finding(
                bounds,
                f"created_at_min {edges[0]}, created_at_max {edges[1]}",
                "Exports ask for a little more on both sides, and decide by createdAt.",
            ),
        ]

    # How it is found

    def _unreadable(self) -> Finding:
        topic = "tickets that cannot be read"
        if not self._seen:
            return Finding(topic, _NO_TICKETS, "Exports fail at such a ticket, and name it.")
        found = f"{len(self._rejected)} of {counted(len(self._seen), 'ticket')}"
        meaning = "Exports fail at such a ticket, and name it." if self._rejected else "As expected."
        return Finding(topic, found, meaning)

    def _describe_order(self) -> Finding:
        order = self._order or _TOO_FEW
        meaning = {
            "newest first": "Exports read pages from the newest ticket down, with overlaps.",
            "oldest first": "Exports continue after the last id (since_id). The cheapest order.",
        }.get(order, "Exports read such a shop in slices of creation time, which takes more calls.")
        return Finding("order of lists", order, meaning)

    def _page_limit(self, second: Sequence[Ticket]) -> Finding:
        topic, rows = "page limit", len(self._first)
        if not second:
            why = f"unknown, because one page lists all ({counted(rows, 'ticket')})" if rows else _NO_TICKETS
            return Finding(topic, why, "The provider learns the page size from the responses.")
        if rows >= PAGE_SIZE:
            return Finding(topic, f"{rows} rows for limit={PAGE_SIZE}", "As documented.")
        # A page of that size begins where page 2 begins only if that size is the limit.
        start = self._list(limit=rows, page=2)[:1]
        if start and start[0]["id"] == second[0]["id"]:
            return Finding(
                topic,
                f"{rows} rows for limit={PAGE_SIZE}",
                f"Reading this shop takes {PAGE_SIZE / rows:.1f} times as many calls.",
            )
        if start and start[0]["id"] in {ticket["id"] for ticket in self._first}:
            return Finding(
                topic,
                f"over {rows} rows, but rows are left out of pages",
                "The provider reads on after a short page. Tickets that no list shows are in no export.",
            )
        return Finding(topic, "unknown, because the list changed meanwhile", "Probe again at a quiet hour.")

    def _moments(self, again: Sequence[Ticket]) -> Finding:
        topic = "same list asked twice"
        if not self._first:
            return Finding(topic, _NO_TICKETS, "An empty list is believed only if it is confirmed.")
        ids = [ticket["id"] for ticket in self._first]
        gone = {*ids} - {ticket["id"] for ticket in again}
        self._is_lagging = not again or (bool(gone) and max(gone) == max(ids))
        if self._is_lagging:
            return Finding(
                topic,
                "the second response lacks the newest tickets of the first",
                "A replica or cache may answer. Exports overlap their responses, and fail if these never agree.",
            )
        return Finding(
            topic, "the same tickets, or newer ones", "No sign of a lagging replica in two responses."
        )

    def _honesty(self, second: Sequence[Ticket]) -> Finding:
        topic, size = "count", len(self._first)
        if not size:
            result = f"{self._count:,}, and the list is empty" if self._count else "0, as the list"
            return Finding(topic, result, "There is nothing to compare yet.")
        ids = [ticket["id"] for ticket in (*self._first, *second)]
        listed = len(set(ids))
        if listed < len(ids):
            return Finding(topic, "unknown, because rows repeat", "The provider ends no list by a count.")
        fewer = "The count is capped or lags. The provider ends no list by a count."
        if not second and listed != self._count:
            what = "more" if self._count > listed else "fewer"
            return Finding(
                topic, f"{what} tickets than the list shows ({self._count:,} for {listed:,})", fewer
            )
        if not second:
            return Finding(topic, f"exact ({self._count:,})", "As expected.")
        if self._count < listed:
            return Finding(topic, f"too low: {self._count:,}, and two pages show {listed:,} tickets", fewer)
        last = -(-self._count // size)
        expected = self._count - (last - 1) * size
        try:
            end = self._list(limit=size, page=last) if last > 2 else second
            if len(end) != expected and (
                len(self._list(limit=size, page=last)) != len(end)
                or self._ask(count_tickets()) != self._count
            ):
                return Finding(
                    topic, "unknown, because responses differ in time", "Probe again at a quiet hour."
                )
            beyond = self._list(limit=size, page=last + 1)
        except LightspeedAPIError:
            return Finding(
                topic,
                f"unknown, because the shop refuses page {last} or {last + 1} of {size} rows",
                "Exports of more tickets than its pages reach are read in slices of creation time.",
            )
        if beyond or len(end) > expected:
            return Finding(topic, f"too low: more rows follow after {self._count:,}", fewer)
        if len(end) == expected:
            return Finding(topic, f"{self._count:,}, and the list ends there", "As expected.")
        return Finding(
            topic,
            f"{self._count:,}, but pages end {expected - len(end)} rows before",
            "Rows are left out, deep pages are empty, or the count is too high. The provider proves each list by overlaps.",
        )

    def _date_filters(self) -> tuple[timedelta, str, list[str]] | None:
        """Return the offset at which filters are read, the month in which it was found, and how bounds are read."""
        readable = {row_id: created for row_id, row in self._seen.items() if (created := _created(row))}
        if not readable:
            return None
        # Not the newest: a replica may not have it yet.
        ticket_id = sorted(readable)[-_MIN_ROWS:][0]
        created = readable[ticket_id]
        own = created.utcoffset() or timedelta()
        offset = self._likely_offset(ticket_id, created, own)
        is_proven = offset is not None
        if offset is None and (self._reads_since_id or self._is_small):
            offset = self._search_offset(ticket_id, created)
        if offset is None:
            return None
        absent = "unknown" if self._is_lagging else "exclusive"
        edges = [
            "inclusive" if self._shows(ticket_id, created, offset, *window) else absent
            for window in ((timedelta(), _SECOND), (-_SECOND, timedelta()))
        ]
        if not is_proven and "inclusive" not in edges and not self._shows(ticket_id, created, offset, *_WIDE):
            return None
        return offset, f"{created:%Y-%m}", edges

    def _likely_offset(self, ticket_id: int, created: datetime, own: timedelta) -> timedelta | None:
        for candidate in dict.fromkeys((timedelta(), own)):
            if self._shows(ticket_id, created, candidate, *_WIDE):
                return candidate
        return None

    def _search_offset(self, ticket_id: int, created: datetime) -> timedelta:
        low, high = 0, len(_OFFSETS) - 1
        lowest = timedelta(minutes=_OFFSETS[0])
        while low < high:
            middle = (low + high) // 2
            width = timedelta(minutes=_OFFSETS[middle]) - lowest
            if self._shows(ticket_id, created, lowest, _WIDE[0], width + _WIDE[1]):
                high = middle
            else:
                low = middle + 1
        return timedelta(minutes=_OFFSETS[low])

    def _shows(
        self, ticket_id: int, created: datetime, offset: timedelta, before: timedelta, after: timedelta
    ) -> bool:
        local = created.astimezone(UTC).replace(tzinfo=None) + offset
        rows = self._list(
            since_id=ticket_id - 1 if self._reads_since_id else None,
            created_at_min=f"{local + before:%Y-%m-%d %H:%M:%S}",
            created_at_max=f"{local + after:%Y-%m-%d %H:%M:%S}",
        )
        return any(row["id"] == ticket_id for row in rows)

    def _list(self, **filters: Any) -> list[Ticket]:
        rows = self._ask(list_tickets(**filters, keep_malformed=True))
        self._rejected.update(row.id for row in rows if isinstance(row, RejectedTicket))
        # Their place in the list counts; nothing else of them is read.
        tickets = [
            cast(Ticket, {"id": row.id or 0}) if isinstance(row, RejectedTicket) else row for row in rows
        ]
        self._seen.update((ticket["id"], ticket) for ticket in tickets)
        return tickets

    def _ask(self, request: Request) -> Any:
        if self.calls >= MAX_CALLS:
            raise _OutOfCallsError
        self.calls += 1
        return self._client.call(request)


def _created(ticket: Ticket) -> datetime | None:
    try:
        return created_at(ticket)
    except LightspeedError:
        return None


def _order(rows: Sequence[Ticket]) -> str:
    if len(rows) < _MIN_ROWS:
        return ""
    ids = [row["id"] for row in rows]
    if all(a >= b for a, b in pairwise(ids)):
        return "newest first"
    if all(a <= b for a, b in pairwise(ids)):
        return "oldest first"
    changes = [changed for row in rows if (changed := changed_at(row)) is not None]
    if len(changes) == len(rows) and all(a >= b for a, b in pairwise(changes)):
        return "by last change, latest first"
    if len(changes) == len(rows) and all(a <= b for a, b in pairwise(changes)):
        return "by last change, oldest first"
    return "none that was found"


def _repeats(first: Sequence[Ticket], second: Sequence[Ticket]) -> Finding:
    pages = [[ticket["id"] for ticket in page] for page in (first, second)]
    topic = "rows that repeat"
    if any(len(ids) != len(set(ids)) for ids in pages):
        return Finding(topic, "a ticket comes twice in one page", "The provider delivers it once.")
    if {*pages[0]} & {*pages[1]}:
        return Finding(
            topic,
            "a ticket of page 1 comes again on page 2",
            "A ticket came in meanwhile, or rows repeat. The provider delivers it once.",
        )
    return Finding(topic, "none in the pages that were read", "As expected.")


def _response_offsets(rows: Sequence[Ticket]) -> Finding:
    topic = "offset of times in responses"
    offsets = sorted({
        offset for row in rows if (made := _created(row)) and (offset := made.utcoffset()) is not None
    })
    if not offsets:
        return Finding(topic, _NO_TICKETS, "The provider reads the offset of each time.")
    shown = ", ".join(map(_offset_text, offsets))
    return Finding(topic, shown, "The provider reads the offset of each time.")


def _quota(quota: Quota | None) -> Finding:
    topic = "quota headers"
    if quota is None:
        return Finding(
            topic,
            "unknown, because no response had readable ones",
            "The provider cannot see the quota before it is used up. Lower calls_per_second.",
        )
    limits = [window.limit for window in quota.windows]
    return Finding(
        topic,
        f"{'/'.join(map(str, limits))} calls in 5 minutes, 1 hour and 1 day",
        f"An export reads up to {limits[0] * PAGE_SIZE:,} tickets in 5 minutes; a bulk change changes up to {limits[0]:,}.",
    )


def _offset_text(offset: timedelta) -> str:
    minutes = round(offset.total_seconds() / 60)
    return f"{'-' if minutes < 0 else '+'}{abs(minutes) // 60:02d}:{abs(minutes) % 60:02d}"
