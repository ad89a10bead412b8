"""The tasks of each scenario."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import dag

from airflow_provider_lightspeed.assets import new_tickets_asset
from airflow_provider_lightspeed.operators.tickets import CloseTicketsOperator
from airflow_provider_lightspeed.sensors.tickets import NewTicketSensor
from airflow_provider_lightspeed.transfers.ticket_changes_to_s3 import LightspeedTicketChangesToS3Operator
from airflow_provider_lightspeed.transfers.tickets_to_s3 import LightspeedTicketsToS3Operator

_START = datetime(2026, 1, 1, tzinfo=UTC)
# Enough that what breaks passes before they are used up.
_RETRIES = {"retries": 20, "retry_delay": timedelta(seconds=1)}
# The shops' tickets are older than a fortnight. In days: the DAG stays the same each time that it is parsed.
_RECENT = timedelta(days=(datetime.now(UTC) - datetime(2026, 5, 20, tzinfo=UTC)).days)

_FORMAT: Any = "{{ dag_run.conf['log_format'] }}"


def _sync(task_id: str, **arguments: Any) -> LightspeedTicketChangesToS3Operator:
    return LightspeedTicketChangesToS3Operator(
        task_id=task_id,
        s3_bucket="chaos",
        s3_prefix="{{ dag_run.conf['prefix'] }}",
        file_format=_FORMAT,
        recent=_RECENT,
        # The other tasks close any number of them.
        max_updated=1.0,
        lightspeed_conn_id="{{ dag_run.conf['sync_conn_id'] }}",
        **arguments,
    )


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
    _sync("sync", scan="full", deferrable=True) >> [
        _sync("follow", scan="full", deferrable=True, trigger_rule="all_done"),
        _sync("rival", scan="recent", trigger_rule="all_done"),
    ]


@dag(
    schedule=[new_tickets_asset("watched", lightspeed_conn_id="watched", poll_interval=2)], start_date=_START
)
def watched() -> None:
    EmptyOperator(task_id="told")


chaos()
watched()
