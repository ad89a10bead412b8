"""Four exports at a time that share a key."""

from __future__ import annotations

from datetime import UTC, datetime

from airflow.sdk import dag

from airflow_provider_lightspeed.transfers.tickets_to_s3 import LightspeedTicketsToS3Operator


@dag(schedule=None, start_date=datetime(2026, 1, 1, tzinfo=UTC), catchup=False)
def one_key() -> None:
    LightspeedTicketsToS3Operator.partial(
        task_id="export_tickets",
        s3_bucket="fleet",
        lightspeed_conn_id="one_key",
        deferrable=True,
    ).expand(s3_key=[f"one_key/{number}.jsonl.gz" for number in range(4)])


one_key()
