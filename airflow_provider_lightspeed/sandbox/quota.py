"""The quota of one key: three fixed windows, and a limit for any one second that no header shows."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime
from email.utils import format_datetime
from threading import Lock

import msgspec

from airflow_provider_lightspeed.sandbox.config import ShopConfig

_NAMES = ("limit5Min", "limitHour", "limitDay")


class Window(msgspec.Struct, frozen=True):
    """One window as the API shows it."""

    limit: int
    remaining: int
    reset: int
    """Whole seconds until the budget is back."""


class Quota:
    """Counts the calls of one key. Safe to use from several threads."""

    def __init__(self, config: ShopConfig, clock: Callable[[], float]) -> None:
        self._config = config
        self._clock = clock
        self._lock = Lock()
        self.reset()

    def reset(self) -> None:
        """Give all windows their full budget back."""
        with self._lock:
            self._windows = [-1, -1, -1]
            self._used = [0, 0, 0]
            self._last_second: deque[float] = deque()

    def use(self, calls: int) -> None:
        """Use up calls as another program with the same key would."""
        with self._lock:
            self._turn(self._clock())
            self._used = [used + calls for used in self._used]

    def take(self) -> int:
        """Count one call; return 0, or the seconds to wait where it is refused. Refused calls do not count."""
        with self._lock:
            now = self._clock()
            self._turn(now)
            waits = [window.reset for window in self._read(now) if window.remaining <= 0]
            if waits:
                return max(waits)
            if self._config.burst_limit:
                while self._last_second and not 0 <= now - self._last_second[0] < 1:
                    self._last_second.popleft()
                if len(self._last_second) >= self._config.burst_limit:
                    return 1
                self._last_second.append(now)
            self._used = [used + 1 for used in self._used]
            return 0

    def windows(self) -> tuple[Window, ...]:
        """Return the three windows, the shortest first."""
        with self._lock:
            now = self._clock()
            self._turn(now)
            return self._read(now)

    def headers(self, refused_for: int = 0) -> dict[str, str]:
        """Return the headers of every response, and those of a call refused for so many seconds."""
        windows = self.windows()
        remaining = [window.remaining for window in windows]
        if refused_for and self._config.negative_remaining:
            remaining = [left or -1 for left in remaining]
        headers = {
            "X-RateLimit-Limit": "/".join(str(window.limit) for window in windows),
            "X-RateLimit-Remaining": "/".join(map(str, remaining)),
            "X-RateLimit-Reset": "/".join(str(window.reset) for window in windows),
        }
        if refused_for and self._config.retry_after == "seconds":
            headers["Retry-After"] = str(refused_for)
        if refused_for and self._config.retry_after == "date":
            back = datetime.fromtimestamp(math.ceil(self._clock()) + refused_for, UTC)
            headers["Retry-After"] = format_datetime(back, usegmt=True)
        return headers

    def document(self) -> dict[str, dict[str, int | str]]:
        """Return the windows as ``account/ratelimit.json`` writes them."""
        now = self._clock()
        return {
            name: {
                "limit": window.limit,
                "remaining": window.remaining,
                "reset": window.reset,
                "resetTime": datetime.fromtimestamp(int(now) + window.reset, UTC).isoformat(),
            }
            for name, window in zip(_NAMES, self.windows(), strict=True)
        }

    def _turn(self, now: float) -> None:
        for number, seconds in enumerate(self._config.window_seconds):
            window = int(now // seconds)
            if window != self._windows[number]:
                self._windows[number] = window
                self._used[number] = 0

    def _read(self, now: float) -> tuple[Window, ...]:
        return tuple(
            Window(limit, max(0, limit - used), max(1, math.ceil(seconds - now % seconds)))
            for limit, used, seconds in zip(
                self._config.limits, self._used, self._config.window_seconds, strict=True
            )
        )
