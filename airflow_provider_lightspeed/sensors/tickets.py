"""Wait for new support tickets."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

from airflow.providers.common.compat.sdk import BaseSensorOperator, PokeReturnValue, Variable

from airflow_provider_lightspeed.api.errors import LightspeedConfigurationError
from airflow_provider_lightspeed.arguments import parse_ticket_filter
from airflow_provider_lightspeed.exceptions import fail_without_retry
from airflow_provider_lightspeed.hooks.lightspeed import LightspeedHook

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

# How many runs are remembered, for when one of them is cleared.
_RUNS_KEPT = 100


class NewTicketSensor(BaseSensorOperator):
    """Wait until there are new support tickets, and hand their ids over.

    In ``poke`` and ``reschedule`` mode alike. One call a poke while nothing is new.

    Returns ``{"ticket_ids", "count", "since_id", "max_id"}``, ids ascending.

    With ``since_id``, new means a greater id, and no state is kept. Without it, the sensor goes on where its last
    success ended, over scheduled, manual and asset-triggered runs of every Airflow version. It keeps that in the
    Airflow Variable ``lightspeed_new_tickets.<dag_id>.<task_id>`` (for a mapped task with ``.<map_index>``):
    look at it under Admin > Variables, delete it to start anew. A run that is cleared or retried after its success
    hands over the same tickets again, of the last 100 runs. Runs that overlap may hand over the same tickets: set
    ``max_active_runs=1``.

    :param since_id: only tickets with a greater id (templated).
    :param customer_email: only tickets of the customer with this e-mail address (templated). It is not named
        ``email``, since that is Airflow's own: whom to tell of a failure.
    :param min_tickets: how many new tickets to wait for.
    :param start: what the very first run counts as new: ``latest``, what comes after its first poke, or
        ``earliest``, every ticket of the shop.
    :param lightspeed_conn_id: connection to the shop (templated).
    :raises LightspeedTaskFailed: (no retry) if the credentials or arguments are wrong.
    :raises LightspeedError: (retried, or passed over with ``silent_fail``) for what may pass.
    """

    template_fields: Sequence[str] = ("since_id", "customer_email", "lightspeed_conn_id")
    ui_color = "#e9f9e3"

    def __init__(
        self,
        *,
        since_id: int | str | None = None,
        customer_email: str | None = None,
        min_tickets: int = 1,
        start: Literal["latest", "earliest"] = "latest",
        lightspeed_conn_id: str = LightspeedHook.default_conn_name,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.since_id = since_id
        self.customer_email = customer_email
        self.min_tickets = min_tickets
        self.start = start
        self.lightspeed_conn_id = lightspeed_conn_id

    @fail_without_retry()
    def poke(self, context: Context) -> PokeReturnValue:
        """Look for new tickets once."""
        if self.start not in {"latest", "earliest"}:
            raise LightspeedConfigurationError(f"start must be 'latest' or 'earliest', got {self.start!r}")
        given = parse_ticket_filter(since_id=self.since_id, email=self.customer_email)
        hook = LightspeedHook(self.lightspeed_conn_id)
        if given.since_id is not None:
            return self._look(hook, given.since_id)
        return self._go_on(hook, context)

    def _go_on(self, hook: LightspeedHook, context: Context) -> PokeReturnValue:
        cursor = _Cursor(context)
        if (handed_over := cursor.handed_over()) is not None:
            since_id, max_id = handed_over
            ids = self._new_ids(hook, since_id)
            return _found(since_id, [ticket_id for ticket_id in ids if ticket_id <= max_id])
        if cursor.since_id is None:
            cursor.begin(hook.newest_ticket_id() if self.start == "latest" else 0)
            self.log.info("First run: tickets with an id over %d are new", cursor.since_id)
        answer = self._look(hook, cursor.since_id or 0)
        if answer.is_done and answer.xcom_value:
            cursor.move(answer.xcom_value["since_id"], answer.xcom_value["max_id"])
        return answer

    def _look(self, hook: LightspeedHook, since_id: int) -> PokeReturnValue:
        ids = self._new_ids(hook, since_id)
        self.log.info("%d new tickets since %d; %s", len(ids), since_id, hook.get_conn().quota)
        return _found(since_id, ids) if len(ids) >= self.min_tickets else PokeReturnValue(False)

    def _new_ids(self, hook: LightspeedHook, since_id: int) -> list[int]:
        return sorted(
            ticket["id"] for ticket in hook.iter_tickets(since_id=since_id, email=self.customer_email)
        )


class _Cursor:
    """Up to where this sensor has handed tickets over, in an Airflow Variable.

    XComs of earlier runs would not do: they are found by logical date, which manual and asset-triggered runs of
    Airflow 3 lack; and the task state store belongs to one run.
    """

    def __init__(self, context: Context) -> None:
        ti = context["ti"]
        mapped = f".{ti.map_index}" if ti.map_index is not None and ti.map_index >= 0 else ""
        self._name = f"lightspeed_new_tickets.{ti.dag_id}.{ti.task_id}{mapped}"
        self._run_id = ti.run_id
        state = Variable.get(self._name, None, deserialize_json=True) or {}
        self.since_id: int | None = state.get("since_id")
        self._runs: dict[str, list[int]] = state.get("runs", {})

    def handed_over(self) -> tuple[int, int] | None:
        """Return the bounds of what this very run has handed over already, if it was cleared or died since."""
        bounds = self._runs.get(self._run_id)
        return None if bounds is None else (bounds[0], bounds[1])

    def begin(self, since_id: int) -> None:
        """Set the start of the very first run."""
        self.since_id = since_id
        self._save()

    def move(self, since_id: int, max_id: int) -> None:
        """Note what this run hands over."""
        self.since_id = max_id
        self._runs[self._run_id] = [since_id, max_id]
        self._save()

    def _save(self) -> None:
        state = {"since_id": self.since_id, "runs": dict(list(self._runs.items())[-_RUNS_KEPT:])}
        Variable.set(self._name, state, serialize_json=True)


def _found(since_id: int, ids: list[int]) -> PokeReturnValue:
    result = {
        "ticket_ids": ids,
        "count": len(ids),
        "since_id": since_id,
        "max_id": max(ids, default=since_id),
    }
    return PokeReturnValue(True, result)
