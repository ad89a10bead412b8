"""Undo a bulk close: reopen the tickets that its receipt lists as closed. Start it manually.

Tickets that were closed before the bulk close stay closed. So do tickets that were changed since.
"""

from __future__ import annotations

import os
from datetime import UTC, datetime

try:
    from airflow.sdk import Param, dag
except ImportError:  # Airflow 2.11
    from airflow.decorators import dag
    from airflow.models.param import Param

from airflow_provider_lightspeed.operators.tickets import UpdateTicketsOperator

LIGHTSPEED_CONN_ID = os.environ.get("LIGHTSPEED_CONN_ID", "lightspeed_default")
AWS_CONN_ID = os.environ.get("LIGHTSPEED_AWS_CONN_ID", "aws_default")


@dag(
    schedule=None,
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    params={
        "receipt": Param(
            "s3://my-support-data/tickets/closed/…/closed.jsonl",
            type="string",
            pattern="^s3://.+/.+",
            description="Address of the receipt that the bulk close wrote",
        )
    },
    description="Undo a bulk close by its receipt",
    tags=["lightspeed", "bulk"],
    doc_md=__doc__,
)
def example_lightspeed_reopen_tickets() -> None:
    UpdateTicketsOperator(
        task_id="reopen",
        ticket_ids="{{ params.receipt }}",
        is_closed=False,
        # The same limit as that of the close.
        max_tickets=2000,
        lightspeed_conn_id=LIGHTSPEED_CONN_ID,
        aws_conn_id=AWS_CONN_ID,
    )


example_lightspeed_reopen_tickets()
