"""The record of every call that reached the sandbox."""

from __future__ import annotations

import time
from collections.abc import Mapping
from threading import Lock

import msgspec


class Call(msgspec.Struct, frozen=True, kw_only=True):
    """One call, and how it ended."""

    at: float
    """Epoch seconds."""
    monotonic: float
    """For measuring the time between two calls."""
    key: str
    """The API key it came with, known or not."""
    method: str
    path: str
    """As it was sent, with cluster and language."""
    query: Mapping[str, str]
    body: str
    status: int
    """0 where the connection was dropped."""
    fault: str | None = None


class CallLog:
    """Keeps calls in the order in which they arrived. Safe to use from several threads."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._calls: list[Call] = []

    def add(self, call: Call) -> None:
        """Record a call."""
        with self._lock:
            self._calls.append(call)

    def all(self) -> list[Call]:
        """Return all calls so far."""
        with self._lock:
            return list(self._calls)

    def clear(self) -> None:
        """Forget all calls."""
        with self._lock:
            self._calls.clear()

    def count(self, *, method: str | None = None, path_prefix: str = "", key: str | None = None) -> int:
        """Return how many calls there were with this method, start of path and key."""
        return sum(
            method in {None, call.method} and key in {None, call.key} and call.path.startswith(path_prefix)
            for call in self.all()
        )


def arrival() -> tuple[float, float]:
    """Return both clocks at this moment."""
    return time.time(), time.monotonic()
