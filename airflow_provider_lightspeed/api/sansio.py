"""The client's logic without I/O: retries, waits and the reading of lists, once for sync and async.

Methods of `SansIOClient` are generators. They yield effects (`Send`, `Decode`, `Sleep`) and are sent the result of each;
they never touch a socket or sleep. The clients (`airflow_provider_lightspeed.api.client`) perform the effects.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from math import inf
from typing import Any, Protocol, TypeVar
from urllib.parse import urlencode

import msgspec

from airflow_provider_lightspeed.api import retry
from airflow_provider_lightspeed.api.errors import (
    LightspeedConnectionError,
    LightspeedError,
    LightspeedNotFoundError,
    LightspeedQuotaExhaustedError,
    LightspeedTooLateError,
    LightspeedUnknownOutcomeError,
)
from airflow_provider_lightspeed.api.paging import Cursor, Page, walk
from airflow_provider_lightspeed.api.rate_limit import Quota, RateLimiter, humanize, retry_after
from airflow_provider_lightspeed.api.responses import Response, parse_response, too_large
from airflow_provider_lightspeed.api.retry import POLICY, Decision, Failure
from airflow_provider_lightspeed.api.settings import ClientSettings
from airflow_provider_lightspeed.api.tickets import Request, TicketFilter

log = logging.getLogger(__name__)

#: Waits shorter than this are not worth a line in the log.
_QUIET_WAIT = 1.0
#: Waits up to this are for the calls a second, and no reason to give up.
_SHORT_WAIT = 1.0
#: How many times its timeout a whole response may take, so that one that drips does not take for ever.
_LONGEST = 10
_REQUIRED_HEADERS = {
    "Accept": "application/json",
    "Accept-Encoding": "gzip",
    "User-Agent": "airflow-provider-lightspeed",
}


class Metrics(Protocol):
    """Takes the client's metrics; the hook gives one that passes them on to Airflow."""

    def count(self, name: str, value: int = 1) -> None:
        """Add to a counter."""

    def gauge(self, name: str, value: float) -> None:
        """Set a gauge."""


class _NoMetrics:
    def count(self, name: str, value: int = 1) -> None: ...

    def gauge(self, name: str, value: float) -> None: ...


@dataclass(frozen=True)
class Send:
    """Send this over the wire; answered by an `Response` or a `LightspeedConnectionError`.

    :param name: method and path, for the log.
    :param timeout: seconds to wait for a connection, and for each part of the response.
    :param longest: seconds that the whole response may take.
    """

    name: str
    method: str
    url: str
    headers: Mapping[str, str] = field(repr=False)
    body: bytes | None = field(repr=False)
    timeout: float
    longest: float
    max_body: int

    def check(self, size: int, *, overdue: bool = False) -> None:
        """Refuse to read on.

        :param size: bytes of the body so far.
        """
        if size > self.max_body:
            raise too_large(self.max_body)
        if overdue:
            raise LightspeedConnectionError(f"{self.name}: no complete response after {self.longest:.0f} s")

    def failed(self, reason: object, *, sent: bool, retryable: bool) -> LightspeedConnectionError:
        """Build the error for a transport's exception, of which only the kind is told: its text may hold anything."""
        if not retryable:
            what = "the shop's certificate does not verify, or its address is none"
        elif not sent:
            what = "no connection to the shop could be made"
        else:
            what = "the connection broke, or no complete response came in time"
        kind = type(reason).__name__
        return LightspeedConnectionError(f"{self.name}: {what} ({kind})", sent=sent, retryable=retryable)


@dataclass(frozen=True)
class Decode:
    """Decode an response; answered by its data or a `LightspeedError`."""

    request: Request
    response: Response
    max_body: int

    def perform(self) -> Any:
        """Decode it. A large body is worth a thread of its own."""
        try:
            return parse_response(self.request, self.response, self.max_body)
        except LightspeedError as error:
            return error


@dataclass(frozen=True)
class Sleep:
    """Wait so many seconds."""

    seconds: float


T = TypeVar("T")

Effect = Send | Decode | Sleep
#: Yields effects, and returns their result.
Flow = Generator[Effect, Any, T]


class SansIOClient:
    """One key at one shop: its quota, its retries, its count of calls.

    :param clock: seconds that only go forward; replaced in tests.
    """

    def __init__(
        self,
        settings: ClientSettings,
        *,
        metrics: Metrics | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.settings = settings
        self.calls = 0
        self._metrics = metrics or _NoMetrics()
        self._clock = clock
        self._rate_limiter = RateLimiter(
            reserve=settings.quota_reserve, calls_per_second=settings.calls_per_second
        )
        # The threads of a bulk job share one client.
        self._lock = threading.Lock()
        self._told_until = 0.0

    @property
    def quota(self) -> Quota | None:
        """What the last answers said is left; None before the first."""
        return self._rate_limiter.quota

    def estimate(self, calls: int) -> timedelta:
        """Estimate how long so many calls take with what is left of the quota.

        Other programs on the same key make it longer. Before the first response only the limit of calls
        a second is known.
        """
        with self._lock:
            return self._rate_limiter.estimate(calls, self._clock())

    def log_estimate(self, calls: int, job: str) -> timedelta:
        """Say in the log how many calls a job needs and how long they take, and return how long.

        :param job: what is to be done, such as ``Closing 4000 tickets``.
        """
        duration = self.estimate(calls)
        left = self.quota or "not told yet"
        log.info("%s takes %d calls, about %s. Quota: %s", job, calls, humanize(duration), left)
        return duration

    def call_flow(
        self, request: Request, *, send_before: float = inf, max_wait: float | None = None
    ) -> Flow[Any]:
        """Make one call, whatever it takes: wait for the quota, send, read, try again where that is safe.

        :param send_before: no try is sent after this moment of the clock.
        :param max_wait: seconds that this call may wait, in place of the settings' `max_wait`.
        """
        max_wait = self.settings.max_wait if max_wait is None else max_wait
        send = self._send(request)
        tries = refusals = 0
        trying = 0.0
        maybe_done = False
        while True:
            try:
                yield from self._wait_for_turn(send_before, max_wait)
            except (LightspeedQuotaExhaustedError, LightspeedTooLateError) as error:
                error.sent = maybe_done
                raise
            begun = self._clock()
            reply = yield from self._sent(send)
            if isinstance(reply, Response):
                response, result = reply, (yield Decode(request, reply, send.max_body))
            else:
                response, result = None, reply
            if not isinstance(result, LightspeedError):
                return result
            is_gone = isinstance(result, LightspeedNotFoundError) and result.gone
            if request.method == "DELETE" and maybe_done and is_gone:
                return None  # the try whose response was lost had deleted it
            failure = retry.classify(result)
            verdict = POLICY[request.method][failure]
            if verdict is Decision.RAISE:
                raise result
            if verdict is Decision.UNKNOWN:
                raise LightspeedUnknownOutcomeError(
                    f"{send.name}: what it should create may or may not exist now. It is not sent again; look in "
                    f"the shop before you do. What happened: {result}"
                ) from result
            if verdict is Decision.WAIT and response is not None:
                refusals += 1
                if refusals >= retry.MAX_RATE_LIMITED:
                    raise result
                self._block(response, refusals)
                continue
            tries += 1
            maybe_done = maybe_done or failure is not Failure.NOT_CONNECTED
            pause = self._pause(response, tries)
            trying += self._clock() - begun + pause
            if tries >= retry.MAX_ATTEMPTS or trying > retry.MAX_ELAPSED:
                raise result
            log.warning(
                "Try %d of %d failed, the next one is in %.1f s. %s", tries, retry.MAX_ATTEMPTS, pause, result
            )
            self._metrics.count("retries")
            yield Sleep(pause)

    def query_flow(self, query: Generator[Request, Any, T]) -> Flow[T]:
        """Make the calls that a query asks for, one after another, and return what it finds.

        It is told what was not found, which may response its question.
        """
        response: Any = None
        while True:
            try:
                not_found = isinstance(response, LightspeedNotFoundError)
                request = query.throw(response) if not_found else query.send(response)
            except StopIteration as end:
                found: T = end.value
                return found
            try:
                response = yield from self.call_flow(request)
            except LightspeedNotFoundError as error:
                response = error

    def pages_flow(
        self, tickets: TicketFilter, cursor: Cursor | None = None, *, max_wait: float | None = None
    ) -> Generator[Effect | Page, Any, None]:
        """Walk over all tickets that match, and yield their pages too.

        :param cursor: of the last page that was dealt with in an earlier walk with the same filter.
        :param max_wait: as for `call_flow`.
        """
        steps = walk(tickets, self.settings.filter_timezone, cursor)
        response: Any = None
        while True:
            try:
                step = steps.send(response)
            except StopIteration:
                return
            if isinstance(step, Page):
                response = yield step
            else:
                response = yield from self.call_flow(step, max_wait=max_wait)

    def _sent(self, send: Send) -> Generator[Send, Any, Any]:
        started = self._clock()
        reply = None
        try:
            reply = yield send
        finally:  # also where the caller is cancelled: the call is under way no more
            self._take_note(reply if isinstance(reply, Response) else None, started)
        return reply

    @staticmethod
    def _pause(response: Response | None, tries: int) -> float:
        asked = retry_after(response.headers, datetime.now(UTC)) if response else None
        return max(_jittered(tries), min(asked or 0.0, retry.MAX_RETRY_AFTER))

    def _send(self, request: Request) -> Send:
        headers = dict(_REQUIRED_HEADERS, Authorization=self.settings.authorization)
        body = None
        if request.body is not None:
            body = msgspec.json.encode(request.body)
            headers["Content-Type"] = "application/json"
        url = self.settings.url(request.path)
        if request.query:
            url += "?" + urlencode(request.query)
        timeout = self.settings.timeout
        name = f"{request.method} /{request.path}"
        return Send(
            name, request.method, url, headers, body, timeout, timeout * _LONGEST, self.settings.max_body
        )

    def _wait_for_turn(self, send_before: float, max_wait: float) -> Generator[Sleep, Any, None]:
        while True:
            with self._lock:
                now = self._clock()
                if now > send_before:
                    raise LightspeedTooLateError("the call had to wait for too long to be of use")
                wait = self._rate_limiter.acquire(now)
                if wait.seconds <= 0:
                    self.calls += 1
                # Of the threads that wait for the same, one says so.
                tell = wait.seconds >= _QUIET_WAIT and now + wait.seconds > self._told_until + _QUIET_WAIT
                if tell:
                    self._told_until = now + wait.seconds
            if wait.seconds <= 0:
                self._metrics.count("calls")
                return
            until = datetime.now(UTC) + timedelta(seconds=wait.seconds)
            if wait.seconds > max(max_wait, _SHORT_WAIT):
                raise LightspeedQuotaExhaustedError(
                    f"{wait.reason}; calls are possible again at {until:%Y-%m-%d %H:%M:%S} UTC, in "
                    f"{wait.seconds:.0f} s, which is longer than max_wait ({max_wait:.0f} s)",
                    until=until,
                )
            if tell:
                log.info("Waiting %.0f s, until %s UTC: %s", wait.seconds, f"{until:%H:%M:%S}", wait.reason)
            self._metrics.count("seconds_waited", round(wait.seconds))
            yield Sleep(wait.seconds)

    def _take_note(self, response: Response | None, started: float) -> None:
        with self._lock:
            self._rate_limiter.record(self._clock(), response.headers if response else None, started)
            quota = self._rate_limiter.quota
        if quota is not None:
            for window in quota.windows:
                self._metrics.gauge(f"quota_left.{window.name.replace(' ', '_')}", window.remaining)

    def _block(self, response: Response, refusals: int) -> None:
        """Hold all calls up after a 429, for as long as the shop says; else by back-off."""
        seconds = retry_after(response.headers, datetime.now(UTC))
        with self._lock:
            now = self._clock()
            if seconds is not None:
                why = "the shop refused a call (429) and said how long to wait (Retry-After)"
                self._rate_limiter.block(now + max(seconds, _jittered(refusals)), why)
            elif self._rate_limiter.used_up(now) is None:
                # The limit of calls a second, which no header shows.
                why = "the shop refused a call (429) with quota left: too many calls in one second, it seems"
                self._rate_limiter.block(now + retry.MIN_RATE_LIMIT_DELAY + _jittered(refusals), why)
        self._metrics.count("rate_limited")


def _jittered(tries: int) -> float:
    return retry.backoff(tries, random.random())  # ruff: ignore[suspicious-non-cryptographic-random-usage] - jitter, no secret
