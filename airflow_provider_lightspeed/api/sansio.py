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
    LightspeedConfigurationError,
    LightspeedConnectionError,
    LightspeedError,
    LightspeedGatewayError,
    LightspeedInvalidRequestError,
    LightspeedMalformedResponseError,
    LightspeedNotFoundError,
    LightspeedQuotaExhaustedError,
    LightspeedResponseTooLargeError,
    LightspeedServerError,
    LightspeedTooLateError,
    LightspeedUnknownOutcomeError,
)
from airflow_provider_lightspeed.api.paging import Cursor, Page, walk
from airflow_provider_lightspeed.api.rate_limit import Quota, RateLimiter, retry_after
from airflow_provider_lightspeed.api.responses import Response, parse_response, too_large
from airflow_provider_lightspeed.api.retry import POLICY, Decision, Failure
from airflow_provider_lightspeed.api.settings import ClientSettings
from airflow_provider_lightspeed.api.tickets import Request, TicketFilter
from airflow_provider_lightspeed.api.wording import counted, humanize

log = logging.getLogger(__name__)

#: Waits shorter than this are not worth a line in the log.
_QUIET_WAIT = 1.0
#: Waits up to this are for the calls a second, and no reason to give up.
_SHORT_WAIT = 1.0
#: How many times the timeout a complete response may take, so that a very slow one ends too.
_LONGEST = 10
_PROXY_AUTHENTICATION = 407
_REQUIRED_HEADERS = {
    "Accept": "application/json",
    "Accept-Encoding": "gzip",
    "User-Agent": "airflow-provider-lightspeed",
}


#: Thrown into queries and walks: the next question may avoid them.
_FOR_QUERIES = (
    LightspeedGatewayError,
    LightspeedInvalidRequestError,
    LightspeedNotFoundError,
    LightspeedResponseTooLargeError,
    LightspeedServerError,
)


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
    """Send this over the wire; its result is a `Response` or a `LightspeedConnectionError`.

    :param name: method and path, for the log.
    :param host: host and cluster, for error messages.
    :param timeout: seconds to wait for a connection, and for each part of the response.
    :param longest: seconds that the whole response may take.
    """

    name: str
    host: str
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
            raise LightspeedConnectionError(
                f"{self.name}: no complete response from {self.host} after {self.longest:.0f} s"
            )

    def not_connected(
        self, reason: BaseException, *, untrusted: bool = False, proxy_status: int | None = None
    ) -> LightspeedConnectionError:
        """Build the error for a request that was surely not sent, since no connection could be made for it.

        :param reason: the transport's exception. Only its kind is shown, since its text may hold anything.
        :param untrusted: whether the shop's certificate does not verify, or its address is none.
        :param proxy_status: HTTP status with which the proxy has refused to connect.
        """
        what, kind = f"no connection to {self.host} could be made", type(reason).__name__
        if untrusted:
            what = (
                f"the certificate of {self.host} does not verify, or this is no valid host. Check the host; if your network has "
                "its own certificate authority, set REQUESTS_CA_BUNDLE or SSL_CERT_FILE"
            )
        elif proxy_status == _PROXY_AUTHENTICATION:
            what = "the proxy wants a user and a password (407). Put them into the address in HTTP_PROXY or HTTPS_PROXY"
        elif proxy_status:
            what = f"the proxy refused to connect to {self.host} ({proxy_status})"
        lasting = untrusted or proxy_status == _PROXY_AUTHENTICATION
        return LightspeedConnectionError(f"{self.name}: {what} ({kind})", sent=False, retryable=not lasting)

    def broken(self, reason: BaseException) -> LightspeedConnectionError:
        """Build the error for a request that may have reached the shop.

        :param reason: the transport's exception. Only its kind is shown, since its text may hold anything.
        """
        what = f"the connection to {self.host} broke, or no complete response came in time"
        return LightspeedConnectionError(f"{self.name}: {what} ({type(reason).__name__})")


@dataclass(frozen=True)
class Decode:
    """Decode a response; its result is the data or a `LightspeedError`."""

    request: Request[Any]
    response: Response
    max_body: int

    def perform(self) -> Any:
        """Decode it. A large body is worth a thread, since this takes time."""
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
        self._logged_until = 0.0

    @property
    def quota(self) -> Quota | None:
        """What the last responses said is left; None before the first."""
        return self._rate_limiter.quota

    @property
    def calls_left(self) -> float:
        """How many calls fit into what is left of the quota; infinite while that is unknown."""
        with self._lock:
            return self._rate_limiter.left(self._clock())

    @property
    def calls_per_window(self) -> float:
        """How many calls the tightest window of the quota allows; infinite while that is unknown."""
        return self._rate_limiter.per_window

    def estimate(self, calls: int, *, sequential: int = 0) -> timedelta:
        """Estimate how long so many calls take with what is left of the quota.

        Other programs on the same key make it longer. Before the first response only the limit of calls
        a second is known.

        :param sequential: how many of them follow one another, each as slow as those so far were on average.
        """
        with self._lock:
            return self._rate_limiter.estimate(calls, self._clock(), sequential=sequential)

    def log_estimate(self, calls: int, job: str, *, sequential: int | None = None) -> None:
        """Log how many calls a job needs and how long they take.

        :param job: what is to be done, such as ``Closing 4000 tickets``.
        :param sequential: how many of the calls follow one another; None: all of them.
        """
        duration = self.estimate(calls, sequential=calls if sequential is None else sequential)
        left = self.quota or "known after the first call"
        log.info(
            "%s takes about %s, %s. Quota: %s", job, counted(calls, "API call"), humanize(duration), left
        )

    def call_flow(
        self, request: Request[T], *, send_before: float = inf, max_wait: float | None = None
    ) -> Flow[T]:
        """Make one call: wait for the quota, send, read, try again if that is safe.

        :param send_before: no attempt is sent after this moment of the clock.
        :param max_wait: seconds that this call may wait, instead of the settings' `max_wait`.
        """
        max_wait = self.settings.max_wait if max_wait is None else max_wait
        send = self._send(request)
        tries = refusals = 0
        trying = 0.0
        maybe_done = False
        while True:
            yield from self._wait_for_turn(send_before, max_wait, sent=maybe_done)
            begun = self._clock()
            reply = yield from self._sent(send)
            if isinstance(reply, Response):
                response, result = reply, (yield Decode(request, reply, send.max_body))
            else:
                response, result = None, reply
            if not isinstance(result, LightspeedError):
                data: T = result
                return data
            is_gone = isinstance(result, LightspeedNotFoundError) and result.gone
            if request.method == "DELETE" and maybe_done and is_gone:
                nothing: Any = None  # the attempt whose response was lost had deleted it
                return nothing  # type: ignore[no-any-return]  # which is what a deletion returns
            failure = retry.classify(result)
            decision = POLICY[request.method][failure]
            if decision is Decision.RAISE:
                raise result
            if decision is Decision.UNKNOWN:
                raise LightspeedUnknownOutcomeError(
                    f"{send.name}: the response was lost, so the new ticket or message may or may not exist. The call was not sent "
                    f"again. Check the shop; run the task again only if nothing is there. Cause: {result}"
                ) from None
            if decision is Decision.WAIT and response is not None:
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
                raise _given_up(result, tries)
            log.warning(
                "Attempt %d of %d failed, the next one is in %.1f s. %s",
                tries,
                retry.MAX_ATTEMPTS,
                pause,
                result,
            )
            self._metrics.count("retries")
            yield Sleep(pause)

    def query_flow(self, query: Generator[Request[Any], Any, T]) -> Flow[T]:
        """Make the calls that a query asks for, one after another, and return what it finds.

        "Not found", "too large", "refused" and a malformed response are thrown into the query, because it may continue
        with them.
        """
        response: Any = None
        while True:
            try:
                failed = isinstance(response, LightspeedError)
                request = query.throw(response) if failed else query.send(response)
            except StopIteration as end:
                found: T = end.value
                return found
            try:
                response = yield from self.call_flow(request)
            except (*_FOR_QUERIES, LightspeedMalformedResponseError) as error:
                response = error

    def pages_flow(
        self,
        tickets: TicketFilter,
        cursor: Cursor | None = None,
        *,
        max_wait: float | None = None,
        keep_malformed: bool = False,
    ) -> Generator[Effect | Page, Any, None]:
        """Read the list of all tickets that match, and yield its pages too.

        :param cursor: of the last page that was processed in an earlier walk with the same filter.
        :param max_wait: as for `call_flow`.
        :param keep_malformed: yield rows that are no readable ticket as rejected; else they are an error.
        """
        steps = walk(tickets, self.settings.filter_timezone, cursor, keep_malformed=keep_malformed)
        response: Any = None
        while True:
            try:
                failed = isinstance(response, LightspeedError)
                step = steps.throw(response) if failed else steps.send(response)
            except StopIteration:
                return
            if isinstance(step, Page):
                response = yield step
                continue
            try:
                response = yield from self.call_flow(step, max_wait=max_wait)
            except _FOR_QUERIES as error:
                response = error

    def _sent(self, send: Send) -> Generator[Send, Any, Any]:
        started = self._clock()
        reply = None
        try:
            reply = yield send
        finally:  # also if the caller is cancelled: the call is no longer in flight
            self._take_note(reply if isinstance(reply, Response) else None, started)
        return reply

    @staticmethod
    def _pause(response: Response | None, tries: int) -> float:
        asked = retry_after(response.headers, datetime.now(UTC)) if response else None
        return max(_jittered(tries), min(asked or 0.0, retry.MAX_RETRY_AFTER))

    def _send(self, request: Request[Any]) -> Send:
        headers = dict(_REQUIRED_HEADERS, Authorization=self.settings.authorization)
        name = f"{request.method} /{request.path}"
        body = None
        try:
            query = urlencode(request.query)
            if request.body is not None:
                body = msgspec.json.encode(request.body)
                headers["Content-Type"] = "application/json"
        except UnicodeEncodeError:
            # The text itself may be private.
            raise LightspeedConfigurationError(
                f"a text has half a character (a surrogate, such as \\ud83d without its second half), so {name} was not "
                "sent. Correct the text where it was cut or decoded"
            ) from None
        url = self.settings.url(request.path) + (query and f"?{query}")
        timeout = self.settings.timeout
        return Send(
            name,
            self.settings.host,
            request.method,
            url,
            headers,
            body,
            timeout,
            timeout * _LONGEST,
            self.settings.max_body,
        )

    def _wait_for_turn(
        self, send_before: float, max_wait: float, *, sent: bool
    ) -> Generator[Sleep, Any, None]:
        """Wait until the rate limit allows a call.

        :param sent: whether the shop may have run an earlier attempt, for the errors.
        """
        while True:
            with self._lock:
                now = self._clock()
                if now > send_before:
                    raise LightspeedTooLateError("the call had to wait for too long to be of use", sent=sent)
                wait = self._rate_limiter.acquire(now)
                if wait.seconds <= 0:
                    self.calls += 1
                # Several threads may wait for the same: only one logs it.
                is_news = (
                    wait.seconds >= _QUIET_WAIT and now + wait.seconds > self._logged_until + _QUIET_WAIT
                )
                if is_news:
                    self._logged_until = now + wait.seconds
            if wait.seconds <= 0:
                self._metrics.count("calls")
                return
            until = datetime.now(UTC) + timedelta(seconds=wait.seconds)
            if wait.seconds > max(max_wait, _SHORT_WAIT):
                raise LightspeedQuotaExhaustedError(
                    f"{wait.reason}; calls are possible again at {until:%Y-%m-%d %H:%M:%S} UTC, in "
                    f"{wait.seconds:.0f} s, which is longer than max_wait ({max_wait:.0f} s). Let Airflow retry then, or raise "
                    "max_wait",
                    until=until,
                    sent=sent,
                    reason=wait.reason,
                )
            if is_news:
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
                why = (
                    "the shop refused a call (429) with quota left, probably for too many calls in one second"
                )
                self._rate_limiter.block(now + retry.MIN_RATE_LIMIT_DELAY + _jittered(refusals), why)
        self._metrics.count("rate_limited")


def _given_up(error: LightspeedError, attempts: int) -> LightspeedError:
    """Return the error of the last attempt, with what to do. The errors of the others are in the log."""
    made = f"Failed {attempts} times" if attempts > 1 else "Failed"
    error.args = (". ".join(part for part in (str(error).rstrip("."), made, error.hint) if part),)
    return error


def _jittered(tries: int) -> float:
    return retry.backoff(tries, random.random())  # ruff: ignore[suspicious-non-cryptographic-random-usage] - jitter, no secret
