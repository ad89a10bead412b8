"""The tasks of each scenario."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import dag

from airflow_provider_lightspeed.assets import new_tickets_asset
from airflow_provider_lightspeed.operators.tickets import CloseTicketsOperator
from airflow_provider_lightspeed.sensors.tickets import NewTicketSensor
from airflow_provider_lightspeed.transfers.tickets_to_s3 import LightspeedTicketsToS3Operator

_START = datetime(2026, 1, 1, tzinfo=UTC)
# Enough that what breaks passes before they are used up.
_RETRIES = {"retries": 20, "retry_delay": timedelta(seconds=1)}


@dag(schedule=None, start_date=_START, catchup=False, default_args=_RETRIES)
def chaos() -> None:
    LightspeedTicketsToS3Operator(
        task_id="export",
        s3_bucket="chaos",
        s3_key="{{ dag_run.conf['key'] }}",
        created_from="{{ dag_run.conf['created_from'] }}",
        created_to="{{ dag_run.conf['created_to'] }}",
        deferrable=True,
        lightspeed_conn_id="{{ dag_run.conf['export_conn_id'] }}",
    )
    CloseTicketsOperator(
        task_id="close",
        created_before="{{ dag_run.conf['close_before'] }}",
        only_answered=True,
        max_share=1.0,
        on_failure="warn",
        lightspeed_conn_id="{{ dag_run.conf['close_conn_id'] }}",
    )
    NewTicketSensor(
        task_id="watch",
        since_id="{{ dag_run.conf['since_id'] }}",
        min_tickets=3,
        deferrable=True,
        poke_interval=2,
        timeout=600,
        lightspeed_conn_id="{{ dag_run.conf['watch_conn_id'] }}",
    )


@dag(
    schedule=[new_tickets_asset("watched", lightspeed_conn_id="watched", poll_interval=2)], start_date=_START
)
def watched() -> None:
    EmptyOperator(task_id="told")


chaos()
watched()
