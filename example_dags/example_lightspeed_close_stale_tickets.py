"""Every Monday: close tickets that are answered and had no change for weeks."""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import islice

try:
    from airflow.sdk import dag, task
except ImportError:  # Airflow 2.11
    from airflow.decorators import dag, task

from airflow_provider_lightspeed.api.tickets import Ticket
from airflow_provider_lightspeed.hooks.lightspeed import LightspeedHook
from airflow_provider_lightspeed.operators.tickets import CloseTicketsOperator

# Settings of this deployment. From the environment, not from Airflow Variables: Airflow parses this file every
# few seconds, and a Variable would query the database each time.
LIGHTSPEED_CONN_ID = os.environ.get("LIGHTSPEED_CONN_ID", "lightspeed_default")

IDLE = timedelta(days=14)
# Each ticket costs up to two calls, and a shop's key has 300 in five minutes. The rest is closed next time.
MAX_A_RUN = 100


def stale_tickets(tickets: Iterator[Ticket], idle_since: datetime) -> Iterator[int]:
    """Pick the ids of open tickets that are answered, no to-do, and unchanged for long."""
    for ticket in tickets:
        # A ticket that was never changed may have no time of change.
        changed = datetime.fromisoformat(ticket.get("updatedAt") or ticket["createdAt"])
        waits = ticket.get("isTodo") or not ticket.get("isAnswered")
        if changed < idle_since and not waits and not ticket.get("isClosed"):
            yield ticket["id"]


@dag(
    schedule="0 6 * * 1",
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    # Two runs at once would pick the same tickets.
    max_active_runs=1,
    default_args={"retries": 3},
    description="Close tickets that have been idle for weeks",
    tags=["lightspeed", "bulk"],
    doc_md=__doc__,
)
def example_lightspeed_close_stale_tickets() -> None:
    @task
    def find_stale_tickets() -> list[int]:
        idle_since = datetime.now(UTC) - IDLE
        # Tickets created later can't be stale, and are not fetched. The others cost one call for 250. If the shop has
        # more than about 50,000, give the operator criteria instead of ids, as example_lightspeed_close_with_approval
        # does: it defers while the quota is used up.
        tickets = LightspeedHook(LIGHTSPEED_CONN_ID).iter_tickets(created_to=idle_since)
        return list(islice(stale_tickets(tickets, idle_since), MAX_A_RUN))

    CloseTicketsOperator(
        task_id="close_stale_tickets",
        ticket_ids=find_stale_tickets(),
        # With True the task only reports what it would close: use it for the first week.
        dry_run=False,
        lightspeed_conn_id=LIGHTSPEED_CONN_ID,
    )


example_lightspeed_close_stale_tickets()
