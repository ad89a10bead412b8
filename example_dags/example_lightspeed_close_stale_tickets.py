"""Every Monday: close the tickets that the shop has answered and the customer has left alone for long."""

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

# What differs between deployments, in one place. The environment rather than Airflow Variables: this file is
# parsed every few seconds, and a Variable read here would ask the database each time.
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
        # Tickets created later can't be stale, so that they need not be fetched. The others are gone through, 250
        # with a call: where a shop has more than some 50,000, give the operator criteria in place of ids, as
        # example_lightspeed_close_with_approval does, and it goes on over as many hours as the quota needs.
        tickets = LightspeedHook(LIGHTSPEED_CONN_ID).iter_tickets(created_to=idle_since)
        return list(islice(stale_tickets(tickets, idle_since), MAX_A_RUN))

    CloseTicketsOperator(
        task_id="close_stale_tickets",
        ticket_ids=find_stale_tickets(),
        # With True the task only says what it would close: a good first week.
        dry_run=False,
        lightspeed_conn_id=LIGHTSPEED_CONN_ID,
    )


example_lightspeed_close_stale_tickets()
