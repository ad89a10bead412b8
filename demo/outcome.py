"""The outcome of a DAG run, as plain values for another process."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import msgspec


class TaskOutcome(msgspec.Struct, frozen=True):
    """One task at the end of a run; of a mapped task, the last of its instances."""

    state: str | None
    result: Any
    """What it returned."""


class Outcome(msgspec.Struct, frozen=True):
    """A run at its end."""

    state: str
    data_interval_start: datetime | None
    data_interval_end: datetime | None
    tasks: dict[str, TaskOutcome]
