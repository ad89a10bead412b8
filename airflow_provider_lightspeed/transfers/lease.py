"""Until when an export is to be taken for alive."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

log = logging.getLogger(__name__)

#: How long an export is taken for alive after its last sign of life.
ALIVE = timedelta(hours=2)


def _now() -> datetime:
    return datetime.now(UTC)


class Lease:
    """Keeps other runs from taking this export for dead, however long it works or waits.

    :param write: makes the instant known to other runs.
    :param clock: replaced in tests, as is `sleep`.
    """

    def __init__(
        self,
        write: Callable[[datetime], None],
        *,
        clock: Callable[[], datetime] = _now,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._write = write
        self._clock = clock
        self._sleep = sleep
        self._until = datetime.min.replace(tzinfo=UTC)

    def hold(self, until: datetime | None = None) -> None:
        """Be taken for alive until some time after an instant (default: now)."""
        self._until = (until or self._clock()) + ALIVE
        self._write(self._until)

    def renew(self) -> None:
        """Give a sign of life if the last one was long ago; costs nothing otherwise."""
        from botocore.exceptions import BotoCoreError, ClientError

        before = self._until
        if before - self._clock() > ALIVE * 3 / 4:
            return
        try:
            self.hold()
        except (BotoCoreError, ClientError) as error:
            self._until = before
            if before <= self._clock():
                raise
            log.warning(
                "The lease of what is staged could not be renewed; it holds until %s: %s", before, error
            )

    def sleep(self, seconds: float) -> None:
        """Sleep, and stay alive meanwhile."""
        while seconds > 0:
            self.renew()
            nap = min(seconds, ALIVE.total_seconds() / 4)
            self._sleep(nap)
            seconds -= nap
