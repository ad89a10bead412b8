"""Whether a log of changes is complete and up to date. Pure."""

from __future__ import annotations

from datetime import datetime, timedelta

from airflow_provider_lightspeed.changes.records import Status


def problems(status: Status | None, head: int, current: int, max_age: timedelta, now: datetime) -> list[str]:
    """Return what is wrong with a prefix; nothing if all is well.

    :param head: number of the last change file.
    :param current: number of the change file up to which ``current`` goes.
    """
    if status is None:
        return ["status.json is missing or cannot be read"]
    found = []
    if status.complete_as_of is None:
        found.append("no full scan has succeeded yet")
    elif now - status.complete_as_of > max_age:
        found.append(
            f"complete_as_of is {status.complete_as_of.isoformat()}, {_hours(now - status.complete_as_of)} ago; "
            f"max_age is {_hours(max_age)}"
        )
    if status.refused is not None:
        found.append(
            f"a {status.refused.scan} scan was refused at {status.refused.started.isoformat()}: {status.refused.why}"
        )
    if not head == current == status.seq:
        found.append(
            f"the log ends with change file {head}, current goes up to {current}, and status.json up to {status.seq}: a "
            "run is under way, or one was killed and the next one repairs it"
        )
    return found


def _hours(duration: timedelta) -> str:
    return f"{duration.total_seconds() / 3600:.1f} h"
