"""One day at the support desk: the composed example DAG runs, and customers write while it waits for them."""

from __future__ import annotations

import gzip
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from airflow_provider_lightspeed.sandbox import Call
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
Event = tuple[str, str]
"""A task (or "customers") and what has become of it."""

_GIVE_UP_AFTER = 120.0


@dataclass(frozen=True)
class Day:
    """All that is to be known about the day: the shop's truth on one side, what the DAG says on the other."""

    before: Tickets
    after: Tickets
    asked: list[int]
    """The tickets that customers opened while the sensor waited."""
    calls: list[Call]
    outcome: Outcome
    key: str
    """Where the export says it lies in the bucket."""
    exported: bytes
    """That object's content."""

    def result(self, task_id: str) -> Any:
        """Return what a task returned."""
        return self.outcome.tasks[task_id].result

    def exported_lines(self) -> list[str]:
        """Return the object's lines: a ticket each."""
        return gzip.decompress(self.exported).decode().splitlines()


def spend_day(world: World, on_event: Callable[[Event], None] = lambda _: None) -> Day:
    """Run the DAG while customers write.

    :raises RuntimeError: the run has failed, or does not end.
    """
    before = world.shop.shop.tickets()
    world.shop.reset_calls()
    asked: list[int] = []
    give_up = time.monotonic() + _GIVE_UP_AFTER
    with world.airflow.running_dag(DAG_ID) as run:
        seen: dict[str, str | None] = {}
        while True:
            # In this order: what happened up to the end must still be seen.
            is_over = run.is_over
            states = run.task_states()
            for task_id, state in states.items():
                if state is not None and seen.get(task_id) != state:
                    on_event((task_id, state))
            seen = states
            if not asked and states.get("wait_for_new_tickets") == "up_for_reschedule":
                asked = [i for subject in CUSTOMERS_ASK for i in world.shop.add_tickets(subject=subject)]
                on_event(("customers", f"open {len(asked)} tickets"))
            if is_over:
                break
            if time.monotonic() > give_up:
                raise RuntimeError(f"The run does not end; its log: {world.airflow.log}")
            time.sleep(0.1)
        outcome = run.wait()
    if outcome.state != "success":
        states = {task_id: task.state for task_id, task in outcome.tasks.items()}
        raise RuntimeError(f"The run has ended as {outcome.state}: {states}; its log: {world.airflow.log}")
    key = str(outcome.tasks["export_tickets"].result["uri"]).removeprefix(f"s3://{BUCKET}/")
    return Day(
        before=before,
        after=world.shop.shop.tickets(),
        asked=asked,
        calls=world.shop.calls,
        outcome=outcome,
        key=key,
        exported=world.s3.client().get_object(Bucket=BUCKET, Key=key)["Body"].read(),
    )
