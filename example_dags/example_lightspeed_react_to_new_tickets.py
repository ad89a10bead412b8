"""All day: as soon as customers open tickets, put those tickets on the support team's to-do list."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta

try:
    from airflow.sdk import dag
except ImportError:  # Airflow 2.11
    from airflow.decorators import dag

from airflow_provider_lightspeed.operators.tickets import UpdateTicketsOperator
from airflow_provider_lightspeed.sensors.tickets import NewTicketSensor

# Settings of this deployment. From the environment, not from Airflow Variables: Airflow parses this file every
# few seconds, and a Variable would query the database each time.
LIGHTSPEED_CONN_ID = os.environ.get("LIGHTSPEED_CONN_ID", "lightspeed_default")
# Each poll of the shop costs a call, and a shop's key has 12,000 a day.
POLL_SECONDS = float(os.environ.get("LIGHTSPEED_POLL_SECONDS", "60"))


@dag(
    # Each run waits until shortly before the next one. "@continuous" would react a little sooner, but start a run
    # every second if, for example, the secret is wrong. No ticket is missed between two runs: the sensor
    # continues after the last one that it delivered.
    schedule="*/5 * * * *",
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,
    default_args={"retries": 3},
    description="Put new tickets on the to-do list",
    tags=["lightspeed", "new-tickets"],
    doc_md=__doc__,
)
def example_lightspeed_react_to_new_tickets() -> None:
    wait = NewTicketSensor(
        task_id="wait_for_new_tickets",
        # Between two polls the task frees its worker slot.
        mode="reschedule",
        poke_interval=POLL_SECONDS,
        timeout=timedelta(minutes=4, seconds=30),
        # Five minutes without a new ticket are not a failure: the task is skipped.
        soft_fail=True,
        lightspeed_conn_id=LIGHTSPEED_CONN_ID,
    )

    UpdateTicketsOperator(
        task_id="put_on_todo_list",
        ticket_ids=wait.output,
        is_todo=True,
        lightspeed_conn_id=LIGHTSPEED_CONN_ID,
    )


example_lightspeed_react_to_new_tickets()
