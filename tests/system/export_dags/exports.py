"""Long exports: one that gets killed, one that is stopped, one that outlives its quota, one that waits for it on its worker."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from airflow_provider_lightspeed._airflow import DAG
from airflow_provider_lightspeed.transfers.tickets_to_s3 import LightspeedTicketsToS3Operator

_RETRIES = {"retries": 20, "retry_delay": timedelta(seconds=1)}

for name, deferrable in (("killed", False), ("stopped", False), ("deferred", True), ("waiting", False)):
    with DAG(
        f"export_{name}", start_date=datetime(2026, 1, 1, tzinfo=UTC), schedule=None, default_args=_RETRIES
    ):
        LightspeedTicketsToS3Operator(
            task_id="export",
            s3_key=f"s3://exports/{name}/tickets.jsonl.gz",
            replace=True,
            deferrable=deferrable,
            lightspeed_conn_id=f"lightspeed_{name}",
        )
