"""Logs how long it takes to read a list, and how far it is."""

from __future__ import annotations

import logging
from datetime import UTC, timedelta
from math import ceil
from typing import Any, Protocol

from airflow_provider_lightspeed.api.errors import LightspeedError, LightspeedQuotaExhaustedError
from airflow_provider_lightspeed.api.paging import Page, usual_calls
from airflow_provider_lightspeed.api.progress_clock import ProgressClock
from airflow_provider_lightspeed.api.rate_limit import Quota
from airflow_provider_lightspeed.api.tickets import PAGE_SIZE, Request, TicketFilter, count_tickets
from airflow_provider_lightspeed.api.wording import counted, humanize

log = logging.getLogger(__name__)

#: With fewer calls left in a window of the quota, none is used for an estimate.
_FEW_CALLS_LEFT = 10


class Client(Protocol):
    """What is needed of the shop's client."""

    @property
    def calls(self) -> int:
        """API calls so far."""

    @property
    def calls_left(self) -> float:
        """How many calls fit into what is left of the quota above the reserve."""

    @property
    def quota(self) -> Quota | None:
        """What the last responses said is left."""

    def estimate(self, calls: int, *, sequential: int = 0) -> timedelta:
        """Estimate how long so many calls take."""

    def log_estimate(self, calls: int, job: str, *, sequential: int | None = None) -> None:
        """Log how many calls a job needs and how long they take."""

    def call(self, request: Request[Any], *, max_wait: float | None = None) -> Any:
        """Make a call."""


class ListProgress:
    """The log lines of one try to read a list.

    :ivar expected: about how many tickets the list has; 0: that can't be counted; None: not known yet.
    :param job: what is done, such as ``Exporting about {} tickets``.
    :param calls: API calls of earlier tries and of this one so far.
    :param calls_per_ticket: calls for each ticket, besides those for the pages; so many `at_once`.
    :param expected: what an earlier try has counted.
    :param known: about how many tickets there should be, if that is known without asking the shop.
    :param max_wait: as for the calls that read the list.
    """

    def __init__(
        self,
        client: Client,
        tickets: TicketFilter,
        job: str,
        *,
        calls: int,
        calls_per_ticket: int = 0,
        at_once: int = 1,
        expected: int | None = None,
        known: int | None = None,
        max_wait: float | None = None,
    ) -> None:
        self.expected = expected
        self._client = client
        self._tickets = tickets
        self._known = known
        self._job = job
        self._calls_before = calls - client.calls
        self._calls_per_ticket = calls_per_ticket
        self._at_once = at_once
        self._max_wait = max_wait
        self._clock = ProgressClock()

    def report(self, page: Page, read: int) -> None:
        """Log what is due after a page. A list of more than one page is counted first, if reading it has not done so.

        :param read: tickets read so far.
        """
        if self.expected is None and page.seen > PAGE_SIZE:
            self._announce(page, read)
        if not self._clock.due():
            return
        to_go = ""
        # Tickets may have been created since the count: then how many are left is not known.
        if self.expected and self.expected >= read:
            calls, sequential = self._calls_for(self.expected - read)
            duration = self._client.estimate(calls, sequential=sequential)
            to_go = f" of about {self.expected:,}, {humanize(duration)} to go"
        log.info(
            "Read %s%s; %s; %s",
            counted(read, "ticket"), to_go, counted(self._calls, "API call"), self._client.quota or "quota unknown",
        )  # fmt: skip

    @property
    def _calls(self) -> int:
        return self._calls_before + self._client.calls

    def _announce(self, page: Page, read: int) -> None:
        self.expected = self._count() if page.counted is None else page.counted
        if self.expected and self.expected >= read:
            # The calls so far may have detected the zone of date filters too.
            calls = self._calls + self._calls_for(self.expected - read)[0]
            parallel = self._calls_per_ticket * self.expected
            sequential = max(0, calls - parallel) + ceil(parallel / self._at_once)
            self._client.log_estimate(calls, self._job.format(f"{self.expected:,}"), sequential=sequential)

    def _count(self) -> int | None:
        if self._known:
            return self._known
        if self._tickets.email is not None:
            return 0  # the shop's count does not read an address
        if self._client.calls_left < _FEW_CALLS_LEFT:
            return None  # the list itself may need them, and start over if it has to wait
        try:
            return int(self._client.call(_count_about(self._tickets), max_wait=self._max_wait))
        except LightspeedQuotaExhaustedError:
            raise  # the next page has to wait too
        except LightspeedError as error:
            log.info("The shop did not count the list, so it is read without an estimate: %s", error)
            return 0

    def _calls_for(self, tickets: int) -> tuple[int, int]:
        """Return how many calls so many tickets take, and how many of those follow one another."""
        tickets = max(0, tickets)
        pages, others = usual_calls(tickets), self._calls_per_ticket * tickets
        return pages + others, pages + ceil(others / self._at_once)


def _count_about(wanted: TicketFilter) -> Request:
    """Count what matches as if date filters were read in UTC, hours off at most."""
    bounds = {
        name: f"{instant.astimezone(UTC):%Y-%m-%d %H:%M:%S}"
        for name, instant in (("created_at_min", wanted.created_from), ("created_at_max", wanted.created_to))
        if instant is not None
    }
    return count_tickets(since_id=wanted.since_id, **bounds)
