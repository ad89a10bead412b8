"""Every 15 minutes: the tickets of a shop as they are now, and every change, to S3. A second DAG loads the changes."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from typing import Any

try:
    from airflow.sdk import dag, task
except ImportError:  # Airflow 2.11
    from airflow.decorators import dag, task

from airflow_provider_lightspeed.assets import ticket_changes_asset
from airflow_provider_lightspeed.changes import read_changes
from airflow_provider_lightspeed.transfers.ticket_changes_to_s3 import (
    CheckTicketChangesOperator,
    LightspeedTicketChangesToS3Operator,
)

# Settings of this deployment. From the environment, not from Airflow Variables: Airflow parses this file every
# few seconds, and a Variable would query the database each time.
S3_PREFIX = f"s3://{os.environ.get('LIGHTSPEED_S3_BUCKET', 'my-support-data')}/lightspeed/shop_nl/"
LIGHTSPEED_CONN_ID = os.environ.get("LIGHTSPEED_CONN_ID", "lightspeed_default")
AWS_CONN_ID = os.environ.get("LIGHTSPEED_AWS_CONN_ID", "aws_default")

SCAN: Any = "{{ dag_run.conf.get('scan', 'auto') }}"

changes = ticket_changes_asset("shop_nl")


@dag(
    schedule=timedelta(minutes=15),
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,
    default_args={"retries": 3},
    description="Keep the tickets as they are now, and every change, in S3",
    tags=["lightspeed", "changes"],
    doc_md=__doc__,
)
def example_lightspeed_ticket_changes() -> None:
    sync = LightspeedTicketChangesToS3Operator(
        task_id="sync_tickets",
        s3_prefix=S3_PREFIX,
        # Recent tickets in each run, all tickets once a day. If the DAG runs once a day, each run is a full scan.
        # Trigger the DAG with {"scan": "full"} to read all of them at once.
        scan=SCAN,
        # After many tickets were deleted in the shop: trigger the DAG with {"accept_deleted": <the number in the error>}.
        accept_deleted="{{ dag_run.conf.get('accept_deleted', '') }}",
        lightspeed_conn_id=LIGHTSPEED_CONN_ID,
        aws_conn_id=AWS_CONN_ID,
        outlets=[changes],
    )
    check = CheckTicketChangesOperator(
        task_id="check",
        s3_prefix=S3_PREFIX,
        max_age=timedelta(hours=26),
        lightspeed_conn_id=LIGHTSPEED_CONN_ID,
        aws_conn_id=AWS_CONN_ID,
        # It also runs if the sync fails, and fails itself if the last full scan is too old.
        trigger_rule="all_done",
    )
    sync >> check


@dag(
    schedule=[changes],
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,
    default_args={"retries": 3},
    description="Load the changes, whenever there are new ones",
    tags=["lightspeed", "changes"],
    doc_md="Loads the changes whenever there are new ones.",
)
def example_lightspeed_load_ticket_changes() -> None:
    @task(multiple_outputs=False)
    def load() -> dict[str, int]:
        """Count the changes; yours writes them to a table, and keeps the highest `_seq` there in one transaction."""
        counts = {"I": 0, "U": 0, "D": 0}
        for row in read_changes(S3_PREFIX, after=0, aws_conn_id=AWS_CONN_ID):
            counts[row["op"]] += 1
        return counts

    load()


example_lightspeed_ticket_changes()
example_lightspeed_load_ticket_changes()
