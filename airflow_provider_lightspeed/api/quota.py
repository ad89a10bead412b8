"""The shop's quota: three windows read from headers, and when the next call may start.

Undocumented, but seen in live answers: ``X-RateLimit-Limit: 300/3000/12000``, ``-Remaining`` and
``-Reset`` (seconds to go), for 5 minutes, 1 hour and 1 day. Besides, the vendor's staff name a limit
of 20 requests a second, which no header shows.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime

#: The windows in the order of the headers, with their nominal lengths in seconds.
WINDOWS = (("5 minutes", 300.0), ("1 hour", 3600.0), ("1 day", 86400.0))

#: Two answers speak of the same window if their resets lie this close (whole seconds, and the way).
_SAME_RESET = 2.0


@dataclass(frozen=True)
class Window:
    """One quota window, as last heard of.

    :param name: its length in words.
    :param length: its nominal length in seconds.
    :param limit: calls that it allows.
    :param remaining: calls left; the shop may say -1.
    :param resets_at: when the budget comes back, on the caller's clock, in seconds.
    """

    name: str
    length: float
    limit: int
    remaining: int
    resets_at: float


@dataclass(frozen=True)
class Quota:
    """All windows of one key."""

    windows: tuple[Window, ...]

    def __str__(self) -> str:
        return ", ".join(f"{max(0, w.remaining)} of {w.limit} calls left in {w.name}" for w in self.windows)

    @classmethod
    def from_headers(cls, headers: Mapping[str, str], now: float) -> Quota | None:
        """Read the triple; None where it is missing or malformed (the last one heard of goes on to count).

        :param headers: names in any case.
        :param now: the caller's clock.
        """
        lower = {name.lower(): value for name, value in headers.items()}
        triples = [_numbers(lower.get(f"x-ratelimit-{part}", "")) for part in ("limit", "remaining", "reset")]
        if any(len(numbers) != len(WINDOWS) for numbers in triples):
            return None
        windows = tuple(
            Window(name, length, limit, remaining, now + max(0, reset))
            for (name, length), limit, remaining, reset in zip(WINDOWS, *triples, strict=True)
        )
        return cls(windows)

    def after(self, newer: Quota) -> Quota:
        """Take in what a newer answer says; answers of parallel calls may arrive out of order."""
        merged = []
        for old, new in zip(self.windows, newer.windows, strict=True):
            same = abs(old.resets_at - new.resets_at) <= _SAME_RESET and old.limit == new.limit
            if same:
                merged.append(replace(new, remaining=min(old.remaining, new.remaining)))
            else:
                merged.append(new if new.resets_at >= old.resets_at else old)
        return Quota(tuple(merged))


def _numbers(text: str) -> Sequence[int]:
    try:
        return [int(part) for part in text.split("/")]
    except ValueError:
        return []


@dataclass(frozen=True)
class Wait:
    """How long to wait before a call, and why.

    :param seconds: 0 to go at once.
    :param reason: for the log.
    """

    seconds: float
    reason: str = ""


class Pacer:
    """Decides when the next call may start. It has no clock: the caller passes the time.

    :param reserve: the part of each window (0.0–0.9) that is left to other programs on the key.
    :param calls_per_second: most calls that may start in any one second; 0 for no such limit.
    """

    def __init__(self, *, reserve: float = 0.0, calls_per_second: float = 20) -> None:
        self.quota: Quota | None = None
        self._reserve = reserve
        self._burst = int(calls_per_second)
        self._starts: deque[float] = deque(maxlen=max(1, self._burst))
        self._in_flight = 0
        self._blocked_until = 0.0

    def admit(self, now: float) -> Wait:
        """Let a call start (no wait), or say how long to wait before asking again."""
        wait = max(self._quota_wait(now), self._burst_wait(now), key=lambda wait: wait.seconds)
        if wait.seconds <= 0:
            self._starts.append(now)
            self._in_flight += 1
        return wait

    def answered(self, now: float, headers: Mapping[str, str] | None) -> None:
        """Take note that a call has ended, and of what its answer says; None where no answer came."""
        self._in_flight -= 1
        heard = Quota.from_headers(headers, now) if headers is not None else None
        if heard is not None:
            self.quota = self.quota.after(heard) if self.quota else heard

    def block(self, until: float) -> None:
        """Start no call before this instant: the shop has just refused one."""
        self._blocked_until = max(self._blocked_until, until)

    def used_up(self, now: float) -> Window | None:
        """Name the window that holds calls up longest, if one does."""
        if self.quota is None:
            return None
        closed = [
            w for w in self.quota.windows if w.resets_at > now and self._spare(w) - self._in_flight <= 0
        ]
        return max(closed, key=lambda window: window.resets_at, default=None)

    def plan(self, calls: int, now: float) -> timedelta:
        """Estimate how long so many calls take with what is left, if no other program uses the key."""
        at_full_speed = calls / self._burst if self._burst else 0.0
        if self.quota is None:
            return timedelta(seconds=at_full_speed)
        longest = max((self._time_within(window, calls, now) for window in self.quota.windows), default=0.0)
        return timedelta(seconds=max(at_full_speed, longest))

    def _time_within(self, window: Window, calls: int, now: float) -> float:
        to_reset = max(0.0, window.resets_at - now)
        spare = max(0, self._spare(window)) if to_reset else 0
        if calls <= spare:
            return 0.0
        each = max(1, window.limit - self._kept(window))
        full_windows = -(-(calls - spare) // each) - 1
        return to_reset + full_windows * window.length

    def _spare(self, window: Window) -> int:
        return window.remaining - self._kept(window)

    def _kept(self, window: Window) -> int:
        return int(window.limit * self._reserve)

    def _quota_wait(self, now: float) -> Wait:
        wait = Wait(self._blocked_until - now, "the shop refused a call for now (429)")
        window = self.used_up(now)
        if window is not None and window.resets_at - now > wait.seconds:
            kept = f", {self._kept(window)} of them kept for other programs" if self._kept(window) else ""
            spent = f"the quota of {window.name} is used up ({max(0, window.remaining)} of {window.limit} left{kept})"
            wait = Wait(window.resets_at - now, spent)
        return wait

    def _burst_wait(self, now: float) -> Wait:
        if not self._burst or len(self._starts) < self._burst:
            return Wait(0)
        return Wait(self._starts[0] + 1.0 - now, f"{self._burst} calls a second is the shop's limit")


def retry_after(headers: Mapping[str, str], wall_now: datetime) -> float | None:
    """Read ``Retry-After`` in either form, in seconds; None where it is missing or malformed.

    Undocumented whether the shop sends it, so both forms of RFC 9110 are read.
    """
    text = headers.get("retry-after", "").strip()
    if not text:
        return None
    if text.isascii() and text.isdigit():
        return float(text)
    try:
        instant = parsedate_to_datetime(text)
    except ValueError:
        return None
    if instant.tzinfo is None:
        instant = instant.replace(tzinfo=UTC)
    return max(0.0, (instant - wall_now).total_seconds())
