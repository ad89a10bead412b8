"""Up to which ticket a sensor has delivered."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from airflow_provider_lightspeed._airflow import Variable

if TYPE_CHECKING:
    from airflow_provider_lightspeed._airflow import Context
    from airflow_provider_lightspeed.new_tickets import PollResult

# How many runs are remembered, in case one of them is cleared.
_RUNS_KEPT = 100


class DeliveredRun(msgspec.Struct, frozen=True):
    """What a run has delivered.

    :param ticket_ids: None: all from ``since_id`` (exclusive) to ``max_id``.
    """

    since_id: int
    max_id: int
    ticket_ids: list[int] | None = None

    def includes(self, ticket_id: int) -> bool:
        """Return whether a ticket with an id over ``since_id`` was delivered."""
        return ticket_id <= self.max_id and (self.ticket_ids is None or ticket_id in self.ticket_ids)


class SensorState:
    """The state of one sensor over its runs, in the Airflow Variable `name`.

    XComs of earlier runs would not do: they are found by logical date, which manual and asset-triggered runs of
    Airflow 3 lack; and the task state store belongs to one run.
    """

    def __init__(self, context: Context) -> None:
        ti = context["ti"]
        mapped = f".{ti.map_index}" if ti.map_index is not None and ti.map_index >= 0 else ""
        self.name = f"lightspeed_new_tickets.{ti.dag_id}.{ti.task_id}{mapped}"
        self._run_id = ti.run_id
        self.since_id: int | None = None
        self._runs: dict[str, list[Any]] = {}
        self._read()

    def delivered(self) -> DeliveredRun | None:
        """Return what this very run has delivered already, if it was cleared or died since."""
        found = self._runs.get(self._run_id)
        return None if found is None else DeliveredRun(*found)

    def initialise(self, since_id: int) -> None:
        """Set the start of the very first run, unless another has done so by now."""
        self._read()
        if self.since_id is None:
            self.since_id = since_id
            self._save()

    def advance(self, poll: PollResult, *, keep_ids: bool) -> bool:
        """Record what this run delivers, and return True: unless another run has done so since the poll.

        A Variable can't be locked. But a poll may take minutes while the shop fails, and what is read here has to be
        right for a few milliseconds only.

        :param keep_ids: record each id. The bounds alone are not enough if a function chose: tickets change.
        """
        self._read()
        if self.since_id != poll.since_id or self._run_id in self._runs:
            return False
        self.since_id = poll.max_id
        self._runs[self._run_id] = [poll.since_id, poll.max_id, *([poll.ticket_ids] if keep_ids else [])]
        self._save()
        return True

    def _read(self) -> None:
        state = Variable.get(self.name, None, deserialize_json=True) or {}
        self.since_id = state.get("since_id")
        self._runs = state.get("runs", {})

    def _save(self) -> None:
        state = {"since_id": self.since_id, "runs": dict(list(self._runs.items())[-_RUNS_KEPT:])}
        Variable.set(self.name, state, serialize_json=True)
