"""As soon as customers open tickets: answer those that ask where their parcel is, put the others on the to-do list.

The sensor waits in the triggerer, which takes no worker slot.
"""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from typing import Any

try:
    from airflow.sdk import dag, task
except ImportError:  # Airflow 2.11
    from airflow.decorators import dag, task

from airflow_provider_lightspeed.api.errors import LightspeedNotFoundError
from airflow_provider_lightspeed.hooks.lightspeed import LightspeedHook
from airflow_provider_lightspeed.operators.tickets import UpdateTicketsOperator
from airflow_provider_lightspeed.sensors.tickets import NewTicketSensor

# Settings of this deployment. From the environment, not from Airflow Variables: Airflow parses this file every
# few seconds, and a Variable would query the database each time.
LIGHTSPEED_CONN_ID = os.environ.get("LIGHTSPEED_CONN_ID", "lightspeed_default")
# Each poll of the shop costs a call, and a shop's key has 12,000 a day.
POLL_SECONDS = float(os.environ.get("LIGHTSPEED_POLL_SECONDS", "60"))

PARCEL = ("where is my", "delivery", "track", "parcel", "shipped")
REPLY = "Thank you for your message. You can follow your parcel under My account > Orders."


def asks_for_a_parcel(subject: str) -> bool:
    """Say whether a customer asks for a parcel."""
    return any(word in subject.lower() for word in PARCEL)


@dag(
    # Each run waits until shortly before the next one. No ticket is missed between two runs: the sensor
    # continues after the last one that it delivered.
    schedule="*/5 * * * *",
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,
    # No later run gets a ticket that the sensor has delivered.
    default_args={"retries": 3},
    description="Answer or sort new tickets as they come",
    tags=["lightspeed", "new-tickets"],
    doc_md=__doc__,
)
def example_lightspeed_triage() -> None:
    wait = NewTicketSensor(
        task_id="wait_for_new_tickets",
        deferrable=True,
        poke_interval=POLL_SECONDS,
        timeout=timedelta(minutes=4, seconds=30),
        # Five minutes without a new ticket are not a failure: the task is skipped.
        soft_fail=True,
        # Staff may have answered it already.
        where=lambda ticket: not ticket.get("isAnswered"),
        lightspeed_conn_id=LIGHTSPEED_CONN_ID,
    )

    @task(multiple_outputs=True)
    def classify(new: Any) -> dict[str, list[int]]:
        hook = LightspeedHook(LIGHTSPEED_CONN_ID)
        kinds: dict[str, list[int]] = {"reply": [], "todo": []}
        for ticket_id in new["ticket_ids"]:
            try:
                subject = hook.get_ticket(ticket_id).get("subject") or ""
            except LightspeedNotFoundError as error:
                if not error.gone:
                    raise  # a page of a proxy, not of the shop
                continue  # deleted meanwhile
            kinds["reply" if asks_for_a_parcel(subject) else "todo"].append(ticket_id)
        return kinds

    @task
    def reply(ticket_ids: Any) -> None:
        hook = LightspeedHook(LIGHTSPEED_CONN_ID)
        for ticket_id in ticket_ids:
            try:
                messages = list(hook.iter_ticket_messages(ticket_id))
            except LightspeedNotFoundError as error:
                if not error.gone:
                    raise
                continue
            # A second try could answer twice.
            if not any(message.get("from") == "shop" for message in messages):
                hook.create_ticket_message(ticket_id, REPLY)

    kinds: Any = classify(wait.output)
    reply(kinds["reply"])
    UpdateTicketsOperator(
        task_id="put_on_todo_list",
        ticket_ids=kinds["todo"],
        is_todo=True,
        lightspeed_conn_id=LIGHTSPEED_CONN_ID,
    )


example_lightspeed_triage()
