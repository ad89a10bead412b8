"""The shop's quota: three windows read from headers, and when the next call may start.

Undocumented, but seen in live responses: ``X-RateLimit-Limit: 300/3000/12000``, ``-Remaining`` and
``-Reset`` (seconds to go), for 5 minutes, 1 hour and 1 day. Besides, the vendor's staff name a limit
of 20 requests a second, which no header shows.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from math import inf

#: The windows in the order of the headers, with their nominal lengths in seconds.
WINDOWS = (("5 minutes", 300.0), ("1 hour", 3600.0), ("1 day", 86400.0))

#: Resets come in whole seconds, rounded up or down.
_ROUNDING = 1.0
#: How soon to ask again when only calls under way keep the next one from starting.
_MOMENT = 0.02
#: Digits of the largest number that a header may hold.
_DIGITS = 12


@dataclass(frozen=True)
class Window:
    """One quota window, as last heard of.

    :param name: its length in words.
    :param length: its nominal length in seconds.
    :param limit: calls that it allows.
    :param remaining: calls left; the shop may say -1.
    :param resets_at: when the budget comes back at the latest, on the caller's clock, in seconds.
    :param resets_from: when it may come back at the earliest: a response may take long to arrive.
    """

    name: str
    length: float
    limit: int
    remaining: int
    resets_at: float
    resets_from: float

    def after(self, newer: Window) -> Window:
        """Combine with the values of another response; responses of parallel calls may arrive out of order."""
        if newer.resets_from > self.resets_at:
            return newer
        if newer.resets_at < self.resets_from:
            return self
        return replace(
            newer,
            remaining=min(self.remaining, newer.remaining),
            resets_at=min(self.resets_at, newer.resets_at),
            resets_from=max(self.resets_from, newer.resets_from),
        )

    def left(self, now: float) -> int:
        """How many calls are left; all of them once the budget is back."""
        return self.limit if self.resets_at <= now else self.remaining


@dataclass(frozen=True)
class Quota:
    """All windows of one key."""

    windows: tuple[Window, ...]

    def __str__(self) -> str:
        left = [f"{max(0, w.remaining):,} of {w.limit:,}" for w in self.windows]
        first, *others = self.windows
        return ", ".join([
            f"{left[0]} calls left in {first.name}",
            *(f"{count} in {window.name}" for count, window in zip(left[1:], others, strict=True)),
        ])

    @classmethod
    def from_headers(
        cls, headers: Mapping[str, str], now: float, started: float | None = None
    ) -> Quota | None:
        """Read the triple; None where it is missing or malformed (the last one still counts).

        :param headers: names in any case.
        :param now: the caller's clock.
        :param started: when the call was sent, on the same clock.
        """
        lower = {name.lower(): value for name, value in headers.items()}
        triples = [_numbers(lower.get(f"x-ratelimit-{part}", "")) for part in ("limit", "remaining", "reset")]
        if any(len(numbers) != len(WINDOWS) for numbers in triples) or min(triples[0]) < 1:
            return None
        return cls(
            tuple(
                _window(name, length, limit, remaining, min(max(0, reset), length), now, started)
                for (name, length), limit, remaining, reset in zip(WINDOWS, *triples, strict=True)
            )
        )

    def after(self, newer: Quota) -> Quota:
        """Combine with the values of another response."""
        return Quota(tuple(old.after(new) for old, new in zip(self.windows, newer.windows, strict=True)))

    def without_one(self) -> Quota:
        """Subtract a call whose response did not say what is left: it may have counted."""
        return Quota(tuple(replace(window, remaining=window.remaining - 1) for window in self.windows))


def _window(
    name: str, length: float, limit: int, remaining: int, reset: float, now: float, started: float | None
) -> Window:
    earliest = (now if started is None else started) + reset - _ROUNDING
    return Window(name, length, limit, remaining, now + reset, earliest)


def _numbers(text: str) -> Sequence[int]:
    parts = [part.strip() for part in text.split("/")]
    well_formed = all(re.fullmatch(rf"-?[0-9]{{1,{_DIGITS}}}", part) for part in parts)
    return [int(part) for part in parts] if well_formed else []


@dataclass(frozen=True)
class Wait:
    """How long to wait before a call, and why.

    :param seconds: 0 to go at once.
    :param reason: for the log.
    """

    seconds: float
    reason: str = ""


class RateLimiter:
    """Decides when the next call may start. It has no clock: the caller passes the time.

    The shop counts a call at some moment between its start and its response. So a call in flight uses one call of
    each window and one of the calls a second. Until the first response shows what is left, calls go one at a time.

    :param reserve: the part of each window (0.0–0.9) that is left to other programs on the key.
    :param calls_per_second: most calls that may count in any one second; 0 for no such limit.
    """

    def __init__(self, *, reserve: float = 0.0, calls_per_second: float = 20) -> None:
        self.quota: Quota | None = None
        self._reserve = reserve
        self._burst = int(calls_per_second)
        self._ends: deque[float] = deque(maxlen=self._burst)
        self._in_flight = 0
        self._answered = False
        self._timed, self._seconds = 0, 0.0
        self._blocked_until = 0.0
        self._blocked_why = ""

    def acquire(self, now: float) -> Wait:
        """Start a call (no wait), or return how long to wait before asking again."""
        wait = max(self._quota_wait(now), self._burst_wait(now), key=lambda wait: wait.seconds)
        if wait.seconds <= 0:
            self._in_flight += 1
        return wait

    def record(self, now: float, headers: Mapping[str, str] | None, started: float | None = None) -> None:
        """Record that a call has ended, with the headers of its response; None if no response came."""
        self._in_flight -= 1
        self._ends.append(now)
        self._answered = self._answered or headers is not None
        if headers is not None and started is not None:
            self._timed, self._seconds = self._timed + 1, self._seconds + now - started
        heard = Quota.from_headers(headers, now, started) if headers is not None else None
        if heard is not None:
            self.quota = self.quota.after(heard) if self.quota else heard
        elif self.quota is not None:
            self.quota = self.quota.without_one()

    def block(self, until: float, why: str) -> None:
        """Start no call before this instant: the shop has just refused one."""
        if until > self._blocked_until:
            self._blocked_until, self._blocked_why = until, why

    def used_up(self, now: float) -> Window | None:
        """Name the window with no calls left that holds calls up longest, if there is one."""
        windows = self.quota.windows if self.quota else ()
        closed = [window for window in windows if self._spare(window, now) <= 0]
        return max(closed, key=lambda window: window.resets_at, default=None)

    def estimate(self, calls: int, now: float, *, sequential: int = 0) -> timedelta:
        """Estimate how long so many calls take with what is left, if no other program uses the key.

        :param sequential: how many of them follow one another, each as slow as those so far were on average.
        """
        slow = sequential * self._seconds / max(1, self._timed)
        at_full_speed = calls / self._burst if self._burst else 0.0
        windows = self.quota.windows if self.quota else ()
        waits = [self._time_within(window, calls, now) for window in windows]
        return timedelta(seconds=max(at_full_speed, slow, self._blocked_until - now, *waits))

    def left(self, now: float) -> float:
        """Return how many calls fit into what is left above the reserve; infinite while that is unknown."""
        windows = self.quota.windows if self.quota else ()
        return max(
            0.0, min((float(self._spare(window, now)) for window in windows), default=inf) - self._in_flight
        )

    @property
    def per_window(self) -> float:
        """How many calls the tightest window allows above the reserve; infinite while that is unknown."""
        windows = self.quota.windows if self.quota else ()
        return min((float(window.limit - self._kept(window)) for window in windows), default=inf)

    def _time_within(self, window: Window, calls: int, now: float) -> float:
        spare = max(0, self._spare(window, now))
        if calls <= spare:
            return 0.0
        full_windows = -(-(calls - spare) // (window.limit - self._kept(window))) - 1
        to_reset = window.resets_at - now if window.resets_at > now else window.length
        return to_reset + full_windows * window.length

    def _spare(self, window: Window, now: float) -> int:
        return window.left(now) - self._kept(window)

    def _kept(self, window: Window) -> int:
        return int(window.limit * self._reserve)

    def _quota_wait(self, now: float) -> Wait:
        wait = Wait(self._blocked_until - now, self._blocked_why)
        if window := self.used_up(now):
            kept = f", {self._kept(window)} of them kept for other programs" if self._kept(window) else ""
            spent = f"the quota of {window.name} is used up ({max(0, window.remaining)} of {window.limit} left{kept})"
            return max(wait, Wait(window.resets_at - now, spent), key=lambda wait: wait.seconds)
        if wait.seconds <= 0 and self._in_flight and self._must_hear_first(now):
            return Wait(_MOMENT, "what is left of the quota is not known until a call under way returns")
        return wait

    def _must_hear_first(self, now: float) -> bool:
        if self.quota is None:
            return not self._answered
        return any(self._spare(window, now) <= self._in_flight for window in self.quota.windows)

    def _burst_wait(self, now: float) -> Wait:
        recent = [end for end in self._ends if end + 1.0 > now]
        if not self._burst or self._in_flight + len(recent) < self._burst:
            return Wait(0)
        seconds = recent[0] + 1.0 - now if recent else _MOMENT
        return Wait(seconds, f"{self._burst} calls a second is the shop's limit")


def retry_after(headers: Mapping[str, str], wall_now: datetime) -> float | None:
    """Read ``Retry-After`` in either form, in seconds; None where it is missing or malformed.

    Undocumented whether the shop sends it, so both forms of RFC 9110 are read. A date is read against the response's
    own ``Date``, if it has one: the clock of this machine may be off. No wait is longer than the longest window of
    the quota.
    """
    text = headers.get("retry-after", "").strip()
    if not text:
        return None
    if text.isascii() and text.isdigit():
        return min(float(text), WINDOWS[-1][1])
    instant = _http_date(text)
    if instant is None:
        return None
    seconds = (instant - (_http_date(headers.get("date", "")) or wall_now)).total_seconds()
    return min(max(0.0, seconds), WINDOWS[-1][1])


def _http_date(text: str) -> datetime | None:
    try:
        instant = parsedate_to_datetime(text)
        return instant.replace(tzinfo=UTC) if instant.tzinfo is None else instant.astimezone(UTC)
    except (ValueError, OverflowError):
        return None
