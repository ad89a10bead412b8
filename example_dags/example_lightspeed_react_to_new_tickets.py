"""All day: as soon as customers open tickets, put those tickets on the support team's to-do list."""

from __future__ import annotations

import logging
import os
from datetime import UTC, datetime, timedelta
from typing import Any

from airflow.providers.common.compat.sdk import dag, task

from airflow_provider_lightspeed.hooks.lightspeed import LightspeedHook
from airflow_provider_lightspeed.sensors.tickets import NewTicketSensor

# What differs between deployments, in one place. The environment rather than Airflow Variables: this file is
# parsed every few seconds, and a Variable read here would ask the database each time.
LIGHTSPEED_CONN_ID = os.environ.get("LIGHTSPEED_CONN_ID", "lightspeed_default")
# Each look at the shop costs a call, and a shop's key has 12,000 a day.
POLL_SECONDS = float(os.environ.get("LIGHTSPEED_POLL_SECONDS", "60"))

log = logging.getLogger(__name__)


@dag(
    # Each run waits until shortly before the next one. "@continuous" would react a little sooner, and start a new
    # run every second while, say, the secret is wrong.
    schedule="*/5 * * * *",
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,
    tags=["lightspeed"],
    doc_md=__doc__,
)
def example_lightspeed_react_to_new_tickets() -> None:
    wait = NewTicketSensor(
        task_id="wait_for_new_tickets",
        # Go on after the newest ticket that an earlier run has handed over; the very first run waits for
        # tickets newer than those that are there.
        since_id=(
            "{{ (ti.xcom_pull(task_ids='wait_for_new_tickets', include_prior_dates=True) or {}).get('max_id') }}"
        ),
        # Between two looks the task gives its worker slot back.
        mode="reschedule",
        poke_interval=POLL_SECONDS,
        timeout=timedelta(minutes=4, seconds=30),
        # Five quiet minutes are no failure.
        soft_fail=True,
        lightspeed_conn_id=LIGHTSPEED_CONN_ID,
    )

    @task(retries=3)
    def put_on_todo_list(new: dict[str, Any]) -> None:
        hook = LightspeedHook(LIGHTSPEED_CONN_ID)
        for ticket_id in new["ticket_ids"]:
            ticket = hook.update_ticket(ticket_id, is_todo=True)
            log.info("New ticket %s: %s", ticket_id, ticket["subject"])

    put_on_todo_list(wait.output)


example_lightspeed_react_to_new_tickets()
