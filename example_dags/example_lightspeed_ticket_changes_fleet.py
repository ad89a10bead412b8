"""Every night: the tickets of many shops as they are now, and every change. Each shop has its own prefix."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta

try:
    from airflow.sdk import dag
except ImportError:  # Airflow 2.11
    from airflow.decorators import dag

from airflow_provider_lightspeed.assets import ticket_changes_asset
from airflow_provider_lightspeed.transfers.ticket_changes_to_s3 import LightspeedTicketChangesToS3Operator

# One connection for each shop. A new shop is a new connection, and its id added here.
SHOPS = os.environ.get("LIGHTSPEED_FLEET", "shop_nl shop_be shop_de").split()
S3_BUCKET = os.environ.get("LIGHTSPEED_S3_BUCKET", "my-support-data")
AWS_CONN_ID = os.environ.get("LIGHTSPEED_AWS_CONN_ID", "aws_default")


@dag(
    schedule="0 3 * * *",
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,
    default_args={"retries": 3},
    description="Keep the tickets of many shops, and every change, in S3",
    tags=["lightspeed", "changes"],
    doc_md=__doc__,
)
def example_lightspeed_ticket_changes_fleet() -> None:
    # A task for each shop instead of a mapped one, so that each shop has its own asset, which starts its own DAGs.
    for shop in SHOPS:
        LightspeedTicketChangesToS3Operator(
            task_id=f"sync_{shop}",
            s3_prefix=f"s3://{S3_BUCKET}/fleet/{shop}/",
            # With one run a day, each run is a full scan.
            scan="auto",
            # One ticket that can't be read does not stop a shop.
            on_malformed="quarantine",
            # The texts of deleted tickets leave the change files after a month.
            compact=timedelta(days=30),
            # A shop whose quota is used up frees its worker slot, and the others continue.
            deferrable=True,
            lightspeed_conn_id=shop,
            aws_conn_id=AWS_CONN_ID,
            # Another name than that of `example_lightspeed_ticket_changes`, which writes another prefix.
            outlets=[ticket_changes_asset(f"fleet_{shop}")],
        )


example_lightspeed_ticket_changes_fleet()
