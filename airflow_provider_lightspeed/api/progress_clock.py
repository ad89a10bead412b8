"""When a long job logs how far it is."""

from __future__ import annotations

import time

#: Seconds between two lines on progress.
_EVERY = 10.0


class ProgressClock:
    """Paces the lines on progress of one job."""

    def __init__(self) -> None:
        self._logged = time.monotonic()

    def due(self) -> bool:
        """Return whether a line is due; the next one is due ten seconds later."""
        now = time.monotonic()
        if now - self._logged < _EVERY:
            return False
        self._logged = now
        return True
