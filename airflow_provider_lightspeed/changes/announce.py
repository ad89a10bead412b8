"""Whether the end of a log was announced by an asset event."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from airflow_provider_lightspeed.changes.log import ChangeLog
from airflow_provider_lightspeed.changes.records import Announced, Status


def announce(change_log: ChangeLog, run: str) -> Callable[[], None] | None:
    """Return a function that records that the end of the log was announced; None if another run has announced it.

    A record of this run does not count: it may have been killed before its event was sent. So its retry may repeat an
    event. If no retry follows, the event is sent with the next change.
    """
    status = change_log.read_status()
    if status is None or not status.seq:
        return None
    last = status.announced
    if last is not None and last.seq >= status.seq and last.run != run:
        return None
    seq = status.seq

    def note() -> None:
        def change(there: Status | None) -> Status | None:
            if there is None or (there.announced and there.announced.seq > seq):
                return None
            return msgspec.structs.replace(there, announced=Announced(seq, run))

        change_log.write_status(change)

    return note
