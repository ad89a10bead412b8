"""A long bulk change that a person stops."""

from __future__ import annotations

from datetime import UTC, datetime

from airflow_provider_lightspeed._airflow import dag
from airflow_provider_lightspeed.operators.tickets import CloseTicketsOperator


@dag(schedule=None, start_date=datetime(2026, 1, 1, tzinfo=UTC), catchup=False)
def bulk_stop() -> None:
    CloseTicketsOperator(
        task_id="stopped",
        ticket_ids="{{ dag_run.conf['ids'] }}",
        receipt_s3_key="s3://receipts/stopped.jsonl",
        lightspeed_conn_id="lightspeed_slow",
    )


bulk_stop()
