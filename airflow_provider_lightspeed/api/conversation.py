"""A conversation with a shop: what retries, waits and walks, once for sync and async.

`Conversation` is generators all through. They yield what is to be done (`Send`, `Read`, `Sleep`) and are sent what came
of it; they never touch a socket or sleep. The clients (`airflow_provider_lightspeed.api.client`) carry their wishes out.
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

from airflow_provider_lightspeed.api import retries
from airflow_provider_lightspeed.api.answers import Answer, read_answer, too_large
from airflow_provider_lightspeed.api.errors import (
    LightspeedConnectionError,
    LightspeedError,
    LightspeedNotFoundError,
    LightspeedQuotaExhausted,
    LightspeedTooLate,
    LightspeedUnknownOutcomeError,
)
from airflow_provider_lightspeed.api.paging import Cursor, Page, walk
from airflow_provider_lightspeed.api.quota import Pacer, Quota, in_words, retry_after
from airflow_provider_lightspeed.api.retries import VERDICTS, Failure, Verdict
from airflow_provider_lightspeed.api.settings import ClientSettings
from airflow_provider_lightspeed.api.tickets import Request, TicketFilter

log = logging.getLogger(__name__)

#: Waits shorter than this are not worth a line in the log.
_QUIET_WAIT = 1.0
#: Waits up to this are for the calls a second, and no reason to give up.
_SHORT_WAIT = 1.0
#: How many times its timeout a whole answer may take, so that one that drips does not take for ever.
_LONGEST = 10
_REQUIRED_HEADERS = {
    "Accept": "application/json",
    "Accept-Encoding": "gzip",
    "User-Agent": "airflow-provider-lightspeed",
}


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
    """Send this over the wire; answered by an `Answer` or a `LightspeedConnectionError`.

    :param name: method and path, for the log.
    :param timeout: seconds to wait for a connection, and for each part of the answer.
    :param longest: seconds that the whole answer may take.
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
            raise LightspeedConnectionError(f"{self.name}: no complete answer after {self.longest:.0f} s")

    def failed(self, reason: object, *, sent: bool, retryable: bool) -> LightspeedConnectionError:
        """Build the error for a transport's exception, of which only the kind is told: its text may hold anything."""
        if not retryable:
            what = "the shop's certificate does not verify, or its address is none"
        elif not sent:
            what = "no connection to the shop could be made"
        else:
            what = "the connection broke, or no complete answer came in time"
        kind = type(reason).__name__
        return LightspeedConnectionError(f"{self.name}: {what} ({kind})", sent=sent, retryable=retryable)


@dataclass(frozen=True)
class Read:
    """Read an answer; answered by its data or a `LightspeedError`."""

    request: Request
    answer: Answer
    max_body: int

    def carry_out(self) -> Any:
        """Read it. A large body is worth a thread of its own."""
        try:
            return read_answer(self.request, self.answer, self.max_body)
        except LightspeedError as error:
            return error


@dataclass(frozen=True)
class Sleep:
    """Wait so many seconds."""

    seconds: float


T = TypeVar("T")

Wish = Send | Read | Sleep
#: What is to be done, and at the end what came of all of it.
Wishes = Generator[Wish, Any, T]


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
        self._told_until = 0.0

    @property
    def quota(self) -> Quota | None:
        """What the last answers said is left; None before the first."""
        return self._pacer.quota

    @property
    def calls_left(self) -> float:
        """How many calls fit into what is left of the quota; infinite while that is unknown."""
        with self._lock:
            return self._pacer.left(self._clock())

    @property
    def calls_per_window(self) -> float:
        """How many calls the tightest window of the quota allows; infinite while that is unknown."""
        return self._pacer.per_window

    def plan(self, calls: int) -> timedelta:
        """Estimate how long so many calls take with what is left of the quota.

        Other programs on the same key make it longer. Before the first answer only the limit of calls
        a second is known.
        """
        with self._lock:
            return self._pacer.plan(calls, self._clock())

    def announce(self, calls: int, job: str) -> timedelta:
        """Say in the log how many calls a job needs and how long they take, and return how long.

        :param job: what is to be done, such as ``Closing 4000 tickets``.
        """
        duration = self.plan(calls)
        left = self.quota or "not told yet"
        log.info("%s takes %d calls, about %s. Quota: %s", job, calls, in_words(duration), left)
        return duration

    def exchange(
        self, request: Request, *, send_before: float = inf, max_wait: float | None = None
    ) -> Wishes[Any]:
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
            except (LightspeedQuotaExhausted, LightspeedTooLate) as error:
                error.sent = maybe_done
                raise
            begun = self._clock()
            reply = yield from self._sent(send)
            if isinstance(reply, Answer):
                answer, result = reply, (yield Read(request, reply, send.max_body))
            else:
                answer, result = None, reply
            if not isinstance(result, LightspeedError):
                return result
            is_gone = isinstance(result, LightspeedNotFoundError) and result.gone
            if request.method == "DELETE" and maybe_done and is_gone:
                return None  # the try whose answer was lost had deleted it
            failure = retries.classify(result)
            verdict = VERDICTS[request.method][failure]
            if verdict is Verdict.RAISE:
                raise result
            if verdict is Verdict.UNKNOWN:
                raise LightspeedUnknownOutcomeError(
                    f"{send.name}: what it should create may or may not exist now. It is not sent again; look in "
                    f"the shop before you do. What happened: {result}"
                ) from result
            if verdict is Verdict.WAIT and answer is not None:
                refusals += 1
                if refusals >= retries.MAX_REFUSALS:
                    raise result
                self._block(answer, refusals)
                continue
            tries += 1
            maybe_done = maybe_done or failure is not Failure.NOT_CONNECTED
            pause = self._pause(answer, tries)
            trying += self._clock() - begun + pause
            if tries >= retries.MAX_TRIES or trying > retries.LONGEST_TRYING:
                raise result
            log.warning(
                "Try %d of %d failed, the next one is in %.1f s. %s", tries, retries.MAX_TRIES, pause, result
            )
            self._meter.count("retries")
            yield Sleep(pause)

    def search(self, search: Generator[Request, Any, T]) -> Wishes[T]:
        """Make the calls that a search asks for, one after another, and return what it finds.

        It is told what was not found, which may answer its question.
        """
        answer: Any = None
        while True:
            try:
                not_found = isinstance(answer, LightspeedNotFoundError)
                request = search.throw(answer) if not_found else search.send(answer)
            except StopIteration as end:
                found: T = end.value
                return found
            try:
                answer = yield from self.exchange(request)
            except LightspeedNotFoundError as error:
                answer = error

    def pages(
        self, tickets: TicketFilter, cursor: Cursor | None = None, *, max_wait: float | None = None
    ) -> Generator[Wish | Page, Any, None]:
        """Walk over all tickets that match, and yield their pages too.

        :param cursor: of the last page that was dealt with in an earlier walk with the same filter.
        :param max_wait: as for `exchange`.
        """
        steps = walk(tickets, self.settings.filter_timezone, cursor)
        answer: Any = None
        while True:
            try:
                step = steps.send(answer)
            except StopIteration:
                return
            if isinstance(step, Page):
                answer = yield step
            else:
                answer = yield from self.exchange(step, max_wait=max_wait)

    def _sent(self, send: Send) -> Generator[Send, Any, Any]:
        started = self._clock()
        reply = None
        try:
            reply = yield send
        finally:  # also where the caller is cancelled: the call is under way no more
            self._take_note(reply if isinstance(reply, Answer) else None, started)
        return reply

    @staticmethod
    def _pause(answer: Answer | None, tries: int) -> float:
        asked = retry_after(answer.headers, datetime.now(UTC)) if answer else None
        return max(_jittered(tries), min(asked or 0.0, retries.LONGEST_ASKED))

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
                    raise LightspeedTooLate("the call had to wait for too long to be of use")
                wait = self._pacer.admit(now)
                if wait.seconds <= 0:
                    self.calls += 1
                # Of the threads that wait for the same, one says so.
                tell = wait.seconds >= _QUIET_WAIT and now + wait.seconds > self._told_until + _QUIET_WAIT
                if tell:
                    self._told_until = now + wait.seconds
            if wait.seconds <= 0:
                self._meter.count("calls")
                return
            until = datetime.now(UTC) + timedelta(seconds=wait.seconds)
            if wait.seconds > max(max_wait, _SHORT_WAIT):
                raise LightspeedQuotaExhausted(
                    f"{wait.reason}; calls are possible again at {until:%Y-%m-%d %H:%M:%S} UTC, in "
                    f"{wait.seconds:.0f} s, which is longer than max_wait ({max_wait:.0f} s)",
                    until=until,
                )
            if tell:
                log.info("Waiting %.0f s, until %s UTC: %s", wait.seconds, f"{until:%H:%M:%S}", wait.reason)
            self._meter.count("seconds_waited", round(wait.seconds))
            yield Sleep(wait.seconds)

    def _take_note(self, answer: Answer | None, started: float) -> None:
        with self._lock:
            self._pacer.answered(self._clock(), answer.headers if answer else None, started)
            quota = self._pacer.quota
        if quota is not None:
            for window in quota.windows:
                self._meter.gauge(f"quota_left.{window.name.replace(' ', '_')}", window.remaining)

    def _block(self, answer: Answer, refusals: int) -> None:
        """Hold all calls up after a 429, for as long as the shop says; else by back-off."""
        seconds = retry_after(answer.headers, datetime.now(UTC))
        with self._lock:
            now = self._clock()
            if seconds is not None:
                why = "the shop refused a call (429) and said how long to wait (Retry-After)"
                self._pacer.block(now + max(seconds, _jittered(refusals)), why)
            elif self._pacer.used_up(now) is None:
                # The limit of calls a second, which no header shows.
                why = "the shop refused a call (429) with quota left: too many calls in one second, it seems"
                self._pacer.block(now + retries.SHORTEST_REFUSAL + _jittered(refusals), why)
        self._meter.count("refusals")


def _jittered(tries: int) -> float:
    return retries.backoff(tries, random.random())  # ruff: ignore[suspicious-non-cryptographic-random-usage] - jitter, no secret
