"""New tickets start this DAG, with no schedule and no waiting task: put them on the support team's to-do list.

Needs Airflow 3. On 2.11 this file has no DAG: use `example_lightspeed_react_to_new_tickets`.
"""

from __future__ import annotations

import os
from datetime import UTC, datetime
from typing import Any

import airflow

try:
    from airflow.sdk import dag, task
except ImportError:  # Airflow 2.11
    from airflow.decorators import dag, task

from airflow_provider_lightspeed.assets import new_ticket_ids, new_tickets_asset
from airflow_provider_lightspeed.operators.tickets import UpdateTicketsOperator

# Settings of this deployment. From the environment, not from Airflow Variables: Airflow parses this file every
# few seconds, and a Variable would query the database each time.
LIGHTSPEED_CONN_ID = os.environ.get("LIGHTSPEED_CONN_ID", "lightspeed_default")
# Each poll of the shop costs a call, and a shop's key has 12,000 a day. All assets of one shop share them.
POLL_SECONDS = float(os.environ.get("LIGHTSPEED_POLL_SECONDS", "60"))

if not airflow.__version__.startswith("2."):
    MY_SHOP = new_tickets_asset("my_shop", lightspeed_conn_id=LIGHTSPEED_CONN_ID, poll_interval=POLL_SECONDS)

    @dag(
        schedule=[MY_SHOP],
        start_date=datetime(2026, 1, 1, tzinfo=UTC),
        catchup=False,
        description="Run once for each batch of new tickets",
        tags=["lightspeed", "new-tickets"],
        doc_md=__doc__,
    )
    def example_lightspeed_new_ticket_events() -> None:
        @task(inlets=[MY_SHOP])
        def new_tickets(**context: Any) -> list[int]:
            # One run may get several events.
            return new_ticket_ids(MY_SHOP, context)

        UpdateTicketsOperator(
            task_id="put_on_todo_list",
            ticket_ids=new_tickets(),
            is_todo=True,
            retries=3,
            lightspeed_conn_id=LIGHTSPEED_CONN_ID,
        )

    example_lightspeed_new_ticket_events()
