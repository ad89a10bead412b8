"""Two long bulk changes: one that gets killed, one that outlives its quota."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from airflow_provider_lightspeed._airflow import dag
from airflow_provider_lightspeed.operators.tickets import CloseTicketsOperator

_RETRIES = {"retries": 5, "retry_delay": timedelta(seconds=1)}


@dag(schedule=None, start_date=datetime(2026, 1, 1, tzinfo=UTC), catchup=False, default_args=_RETRIES)
def bulk_kill() -> None:
    CloseTicketsOperator(
        task_id="killed", ticket_ids="{{ dag_run.conf['ids'] }}", lightspeed_conn_id="lightspeed_slow"
    )
    CloseTicketsOperator(
        task_id="deferred",
        created_before="2099-01-01T00:00:00+00:00",
        include_todo=True,
        max_share=1.0,
        lightspeed_conn_id="lightspeed_small",
    )


bulk_kill()
