"""A task that Airflow ends is asked to stop, and stops at a safe point."""

from __future__ import annotations

import time

_NAP = 0.2


class Cancelled(Exception):  # ruff: ignore[error-suffix-on-exception-name] - a request that was followed, no error
    """The job was asked to stop, and did."""


class CancelToken:
    """A request to stop. A plain flag, since a signal handler that takes a lock may wait for itself."""

    def __init__(self) -> None:
        self.requested = False

    def request(self) -> None:
        """Ask the job to stop."""
        self.requested = True

    def check(self) -> None:
        """Raise if the job is to stop.

        :raises Cancelled: so that whatever it was about to do is not begun.
        """
        if self.requested:
            raise Cancelled("the job was asked to stop")

    def sleep(self, seconds: float) -> None:
        """Sleep, but stop early if a stop is requested."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            self.check()
            time.sleep(min(_NAP, left))
        self.check()
