"""One day at the support desk: the composed example DAG runs, and customers write while it waits for them."""

from __future__ import annotations

import gzip
from dataclasses import dataclass
from typing import Any

from airflow_provider_lightspeed.sandbox import Call
from demo.airflow_home import OnChange
from demo.outcome import Outcome
from demo.world import BUCKET, World

DAG_ID = "example_lightspeed_support_desk"

CUSTOMERS_ASK = (
    "Where is my order #204817?",
    "Retour aanvragen voor de fietslamp 🚲",
    "Do you ship to Österreich?",
)

Ticket = dict[str, Any]
Tickets = dict[int, Ticket]


@dataclass(frozen=True)
class Day:
    """The day: the shop's own data, and the DAG's results."""

    before: Tickets
    after: Tickets
    asked: list[int]
    """The tickets that customers opened while the sensor waited."""
    calls: list[Call]
    outcome: Outcome
    exported: bytes
    """The object at the address that the export returned."""

    def result(self, task_id: str) -> Any:
        """Return what a task returned."""
        return self.outcome.tasks[task_id].result

    def exported_lines(self) -> list[str]:
        """Return the object's lines: a ticket each."""
        return gzip.decompress(self.exported).decode().splitlines()


def spend_day(world: World, on_change: OnChange = lambda _task_id, _state: None) -> Day:
    """Run the DAG; when its sensor waits, let customers write.

    :raises RuntimeError: the run has failed, or does not end.
    """
    before = world.shop.shop.tickets()
    world.shop.reset_calls()
    asked: list[int] = []

    def live(task_id: str, state: str) -> None:
        on_change(task_id, state)
        if not asked and (task_id, state) == ("wait_for_new_tickets", "up_for_reschedule"):
            asked.extend(
                number for subject in CUSTOMERS_ASK for number in world.shop.add_tickets(subject=subject)
            )
            on_change("customers", f"open {len(asked)} tickets")

    outcome = world.airflow.run_dag(DAG_ID, live)
    world.airflow.require_success(outcome)
    key = str(outcome.tasks["export_tickets"].result["uri"]).removeprefix(f"s3://{BUCKET}/")
    return Day(
        before=before,
        after=world.shop.shop.tickets(),
        asked=asked,
        calls=world.shop.calls,
        outcome=outcome,
        exported=world.s3.client().get_object(Bucket=BUCKET, Key=key)["Body"].read(),
    )
