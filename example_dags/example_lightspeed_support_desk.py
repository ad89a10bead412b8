"""A support desk's day: export yesterday's tickets, close stale ones, wait for today's new ones.

```text
export_tickets ──┬── find_stale_tickets ── close_stale_tickets
                 └── wait_for_new_tickets ── put_on_todo_list
```
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import islice

from airflow.timetables.interval import CronDataIntervalTimetable

try:
    from airflow.sdk import dag, task
except ImportError:  # Airflow 2.11
    from airflow.decorators import dag, task

from airflow_provider_lightspeed.api.tickets import Ticket
from airflow_provider_lightspeed.hooks.lightspeed import LightspeedHook
from airflow_provider_lightspeed.operators.tickets import CloseTicketsOperator, UpdateTicketsOperator
from airflow_provider_lightspeed.sensors.tickets import NewTicketSensor
from airflow_provider_lightspeed.transfers.tickets_to_s3 import LightspeedTicketsToS3Operator

# Settings of this deployment. From the environment, not from Airflow Variables: Airflow parses this file every
# few seconds, and a Variable would query the database each time.
S3_BUCKET = os.environ.get("LIGHTSPEED_S3_BUCKET", "my-support-data")
LIGHTSPEED_CONN_ID = os.environ.get("LIGHTSPEED_CONN_ID", "lightspeed_default")
AWS_CONN_ID = os.environ.get("LIGHTSPEED_AWS_CONN_ID", "aws_default")
# The zone in which your day begins: for the schedule, and for the day in the key.
ZONE = os.environ.get("LIGHTSPEED_TIMEZONE", "UTC")
# Each poll costs a call, and a shop's key has 12,000 a day.
POLL_SECONDS = float(os.environ.get("LIGHTSPEED_POLL_SECONDS", "60"))

IDLE = timedelta(days=14)
# Each ticket costs up to two calls, and a shop's key has 300 in five minutes. The rest is closed next time.
MAX_CLOSED_A_RUN = 100


def stale_tickets(tickets: Iterator[Ticket], idle_since: datetime) -> Iterator[int]:
    """Pick the ids of open tickets that are answered, no to-do, and unchanged for long."""
    for ticket in tickets:
        # A ticket that was never changed may have no time of change.
        changed = datetime.fromisoformat(ticket.get("updatedAt") or ticket["createdAt"])
        waits = ticket.get("isTodo") or not ticket.get("isAnswered")
        if changed < idle_since and not waits and not ticket.get("isClosed"):
            yield ticket["id"]


@dag(
    # A plain cron schedule gives runs of Airflow 3 an empty interval (start == end). This one gives each run
    # the day before it.
    schedule=CronDataIntervalTimetable("0 0 * * *", timezone=ZONE),
    user_defined_macros={"zone": ZONE},
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    # Two runs at once would pick the same tickets.
    max_active_runs=1,
    default_args={"retries": 3},
    description="A day at a support desk: export, close stale tickets, wait for new ones",
    tags=["lightspeed", "export", "bulk", "new-tickets"],
    doc_md=__doc__,
)
def example_lightspeed_support_desk() -> None:
    export = LightspeedTicketsToS3Operator(
        task_id="export_tickets",
        s3_bucket=S3_BUCKET,
        s3_key="tickets/date={{ data_interval_start.in_timezone(zone) | ds }}/tickets.jsonl.gz",
        created_from="{{ data_interval_start }}",
        created_to="{{ data_interval_end }}",
        # One object a day: clearing the run exports the day again, into the same object.
        replace=True,
        lightspeed_conn_id=LIGHTSPEED_CONN_ID,
        aws_conn_id=AWS_CONN_ID,
    )

    @task
    def find_stale_tickets() -> list[int]:
        idle_since = datetime.now(UTC) - IDLE
        # Tickets created later can't be stale, and are not fetched. The others cost one call for 250. If the shop has
        # more than about 50,000, give the operator criteria instead of ids, as example_lightspeed_close_with_approval
        # does: it defers while the quota is used up.
        tickets = LightspeedHook(LIGHTSPEED_CONN_ID).iter_tickets(created_to=idle_since)
        return list(islice(stale_tickets(tickets, idle_since), MAX_CLOSED_A_RUN))

    stale = find_stale_tickets()
    CloseTicketsOperator(
        task_id="close_stale_tickets", ticket_ids=stale, lightspeed_conn_id=LIGHTSPEED_CONN_ID
    )

    wait = NewTicketSensor(
        # New is what no earlier run has delivered. For the first run: what comes after it starts to wait.
        task_id="wait_for_new_tickets",
        # Between two polls the task frees its worker slot.
        mode="reschedule",
        poke_interval=POLL_SECONDS,
        timeout=timedelta(hours=20),
        # A quiet day is not a failure.
        soft_fail=True,
        lightspeed_conn_id=LIGHTSPEED_CONN_ID,
    )

    UpdateTicketsOperator(
        task_id="put_on_todo_list",
        ticket_ids=wait.output,
        is_todo=True,
        lightspeed_conn_id=LIGHTSPEED_CONN_ID,
    )

    export >> [stale, wait]


example_lightspeed_support_desk()
