"""The client: what retries, waits and walks, once for sync and async.

`Conversation.exchange` is a generator. It yields what is to be done (`Send`, `Sleep`) and is sent what
came of it; it never touches a socket or sleeps. `LightspeedClient` and `AsyncLightspeedClient` carry
its wishes out with their transports, and hold nothing that decides anything.
"""

from __future__ import annotations

import asyncio
import logging
import random
import threading
import time
from collections.abc import AsyncIterator, Callable, Generator, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol
from urllib.parse import urlencode

import msgspec

from airflow_provider_lightspeed.api.answers import Answer, read_answer
from airflow_provider_lightspeed.api.errors import (
    LightspeedError,
    LightspeedNotFoundError,
    LightspeedQuotaExhausted,
    LightspeedUnknownOutcomeError,
)
from airflow_provider_lightspeed.api.paging import Cursor, Page, walk
from airflow_provider_lightspeed.api.quota import Pacer, Quota, retry_after
from airflow_provider_lightspeed.api.retries import (
    MAX_REFUSALS,
    MAX_TRIES,
    VERDICTS,
    Verdict,
    backoff,
    classify,
)
from airflow_provider_lightspeed.api.settings import CLUSTERS, ClientSettings
from airflow_provider_lightspeed.api.tickets import Request, Ticket, TicketFilter

__all__ = ["CLUSTERS", "AsyncLightspeedClient", "ClientSettings", "LightspeedClient", "Meter", "Send"]

log = logging.getLogger(__name__)

#: Waits shorter than this are not worth a line in the log.
_QUIET_WAIT = 1.0
#: A body larger than this is read outside the event loop, which it would hold up.
_LARGE_BODY = 256 * 1024
_REQUIRED_HEADERS = {"Accept": "application/json", "User-Agent": "airflow-provider-lightspeed"}


class Meter(Protocol):
    """Takes the client's metrics; the hook gives one that passes them on to Airflow."""

    def count(self, name: str, value: int = 1) -> None:
        """Add to a counter."""

    def gauge(self, name: str, value: float) -> None:
        """Set a gauge."""


class _NoMeter:
    def count(self, name: str, value: int = 1) -> None: ...

    def gauge(self, name: str, value: float) -> None: ...


@dataclass(frozen=True)
class Send:
    """Send this over the wire; answered by an `Answer` or a `LightspeedConnectionError`."""

    method: str
    url: str
    headers: Mapping[str, str]
    body: bytes | None
    timeout: float
    max_body: int


@dataclass(frozen=True)
class Sleep:
    """Wait so many seconds."""

    seconds: float


Exchange = Generator[Send | Sleep, "Answer | LightspeedError | None", Any]


class Conversation:
    """One key's conversation with one shop: its quota, its retries, its count of calls.

    :param clock: seconds that only go forward; replaced in tests.
    """

    def __init__(
        self,
        settings: ClientSettings,
        *,
        meter: Meter | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.settings = settings
        self.calls = 0
        self._meter = meter or _NoMeter()
        self._clock = clock
        self._pacer = Pacer(reserve=settings.quota_reserve, calls_per_second=settings.calls_per_second)
        # The threads of a bulk job share one conversation.
        self._lock = threading.Lock()

    @property
    def quota(self) -> Quota | None:
        """What the last answers said is left; None before the first."""
        return self._pacer.quota

    def plan(self, calls: int) -> timedelta:
        """Estimate how long so many calls take with what is left of the quota.

        Other programs on the same key make it longer. Before the first answer only the limit of calls
        a second is known.
        """
        with self._lock:
            return self._pacer.plan(calls, self._clock())

    def exchange(self, request: Request) -> Exchange:
        """Make one call, whatever it takes: wait for the quota, send, read, try again where that is safe."""
        send = self._send(request)
        tries = refusals = 0
        while True:
            yield from self._wait_for_turn()
            reply = yield send
            answer = reply if isinstance(reply, Answer) else None
            self._take_note(answer)
            error = self._read(request, reply, repeated=tries > 0)
            if not isinstance(error, LightspeedError):
                return error
            tries += 1
            verdict = VERDICTS[request.method][classify(error)]
            if verdict is Verdict.RAISE:
                raise error
            if verdict is Verdict.UNKNOWN:
                raise LightspeedUnknownOutcomeError(
                    f"{request.method} /{request.path}: what it should create may or may not exist now. "
                    f"It is not sent again; look in the shop before you do. What happened: {error}"
                ) from error
            if verdict is Verdict.WAIT and answer is not None:
                refusals += 1
                tries -= 1
                if refusals >= MAX_REFUSALS:
                    raise error
                self._block(answer, refusals)
                continue
            if tries >= MAX_TRIES:
                raise error
            pause = backoff(tries, random.random())  # ruff: ignore[suspicious-non-cryptographic-random-usage] - jitter, no secret
            log.warning("Try %d of %d failed, next in %.1f s: %s", tries, MAX_TRIES, pause, error)
            self._meter.count("retries")
            yield Sleep(pause)

    def _send(self, request: Request) -> Send:
        headers = dict(_REQUIRED_HEADERS, Authorization=self.settings.authorization)
        body = None
        if request.body is not None:
            body = msgspec.json.encode(request.body)
            headers["Content-Type"] = "application/json"
        url = self.settings.url(request.path)
        if request.query:
            url += "?" + urlencode(request.query)
        return Send(request.method, url, headers, body, self.settings.timeout, self.settings.max_body)

    def _wait_for_turn(self) -> Generator[Sleep, Any, None]:
        while True:
            with self._lock:
                wait = self._pacer.admit(self._clock())
                if wait.seconds <= 0:
                    self.calls += 1
            if wait.seconds <= 0:
                self._meter.count("calls")
                return
            until = datetime.now(UTC) + timedelta(seconds=wait.seconds)
            if wait.seconds > self.settings.max_wait:
                raise LightspeedQuotaExhausted(
                    f"{wait.reason}; calls are possible again at {until:%Y-%m-%d %H:%M:%S} UTC, in "
                    f"{wait.seconds:.0f} s, which is longer than max_wait ({self.settings.max_wait:.0f} s)",
                    until=until,
                )
            if wait.seconds >= _QUIET_WAIT:
                log.info("Waiting %.0f s, until %s UTC: %s", wait.seconds, f"{until:%H:%M:%S}", wait.reason)
            self._meter.count("seconds_waited", round(wait.seconds))
            yield Sleep(wait.seconds)

    def _take_note(self, answer: Answer | None) -> None:
        with self._lock:
            self._pacer.answered(self._clock(), answer.headers if answer else None)
            quota = self._pacer.quota
        if quota is not None:
            for window in quota.windows:
                self._meter.gauge(f"quota_left.{window.name.replace(' ', '_')}", window.remaining)

    def _read(self, request: Request, reply: Any, *, repeated: bool) -> Any:
        if isinstance(reply, LightspeedError):
            return reply
        try:
            return read_answer(request, reply)
        except LightspeedNotFoundError as error:
            if request.method == "DELETE" and repeated:
                return None  # the try whose answer was lost had deleted it
            return error
        except LightspeedError as error:
            return error

    def _block(self, answer: Answer, refusals: int) -> None:
        """Hold all calls up after a 429, for as long as the shop says; else by back-off."""
        seconds = retry_after(answer.headers, datetime.now(UTC))
        with self._lock:
            now = self._clock()
            window = self._pacer.used_up(now)
            if seconds is None and window is None:
                # The limit of calls a second, which no header shows.
                seconds = 1.0 + backoff(refusals, random.random())  # ruff: ignore[suspicious-non-cryptographic-random-usage] - jitter, no secret
            if seconds is not None:
                self._pacer.block(now + seconds)
        self._meter.count("refusals")


class LightspeedClient(Conversation):
    """The client of tasks. Threads may share it.

    :param settings: where the shop is, and who asks.
    :param meter: takes metrics.
    """

    def __init__(
        self,
        settings: ClientSettings,
        *,
        meter: Meter | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(settings, meter=meter, clock=clock)
        # requests is loaded with the first client, not with the DAG file.
        from airflow_provider_lightspeed.api.transport import Transport

        self._transport = Transport()
        #: How this client sleeps; a job that can be stopped puts a sleep that can be woken in its place.
        self.sleep: Callable[[float], None] = time.sleep

    def call(self, request: Request) -> Any:
        """Make a call and return its data.

        :raises LightspeedError: one of its subclasses says what went wrong.
        """
        exchange = self.exchange(request)
        try:
            wish = next(exchange)
            while True:
                wish = exchange.send(self._carry_out(wish))
        except StopIteration as end:
            return end.value

    def _carry_out(self, wish: Send | Sleep) -> Answer | LightspeedError | None:
        if isinstance(wish, Sleep):
            self.sleep(wish.seconds)
            return None
        try:
            return self._transport.send(wish)
        except LightspeedError as error:
            return error

    def iter_pages(self, tickets: TicketFilter, cursor: Cursor | None = None) -> Iterator[Page]:
        """Walk over all tickets that match, page by page.

        :param cursor: of the last page that was dealt with in an earlier walk with the same filter.
        """
        steps = walk(tickets, self.settings.filter_timezone, cursor)
        reply: Any = None
        while True:
            try:
                step = steps.send(reply)
            except StopIteration:
                return
            if isinstance(step, Page):
                reply = None
                yield step
            else:
                reply = self.call(step)

    def iter_tickets(self, tickets: TicketFilter) -> Iterator[Ticket]:
        """Yield every ticket that matches, each once, or fail (see `airflow_provider_lightspeed.api.paging`)."""
        for page in self.iter_pages(tickets):
            yield from page.tickets

    def close(self) -> None:
        """Close the kept-alive connections."""
        self._transport.close()


class AsyncLightspeedClient(Conversation):
    """The client of triggers; use it as an async context manager."""

    async def __aenter__(self) -> AsyncLightspeedClient:
        # aiohttp is loaded with the first client, not with the DAG file.
        from airflow_provider_lightspeed.api.async_transport import AsyncTransport

        self._transport = AsyncTransport()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._transport.close()

    async def call(self, request: Request) -> Any:
        """Make a call and return its data. See `LightspeedClient.call`."""
        exchange = self.exchange(request)
        try:
            wish = next(exchange)
            while True:
                reply = await self._carry_out(wish)
                if isinstance(reply, Answer) and len(reply.body) > _LARGE_BODY:
                    wish = await asyncio.to_thread(_resume, exchange, reply)
                else:
                    wish = exchange.send(reply)
        except (StopIteration, _Ended) as end:
            return end.value

    async def _carry_out(self, wish: Send | Sleep) -> Answer | LightspeedError | None:
        if isinstance(wish, Sleep):
            await asyncio.sleep(wish.seconds)
            return None
        try:
            return await self._transport.send(wish)
        except LightspeedError as error:
            return error

    async def iter_pages(self, tickets: TicketFilter, cursor: Cursor | None = None) -> AsyncIterator[Page]:
        """Walk over all tickets that match. See `LightspeedClient.iter_pages`."""
        steps = walk(tickets, self.settings.filter_timezone, cursor)
        reply: Any = None
        while True:
            try:
                step = steps.send(reply)
            except StopIteration:
                return
            if isinstance(step, Page):
                reply = None
                yield step
            else:
                reply = await self.call(step)

    async def iter_tickets(self, tickets: TicketFilter) -> AsyncIterator[Ticket]:
        """Yield every ticket that matches. See `LightspeedClient.iter_tickets`."""
        async for page in self.iter_pages(tickets):
            for ticket in page.tickets:
                yield ticket


class _Ended(Exception):  # ruff: ignore[error-suffix-on-exception-name] - not an error; StopIteration can't cross a thread into a coroutine
    def __init__(self, value: Any) -> None:
        super().__init__()
        self.value = value


def _resume(exchange: Exchange, reply: Answer) -> Send | Sleep:
    try:
        return exchange.send(reply)
    except StopIteration as end:
        raise _Ended(end.value) from None
