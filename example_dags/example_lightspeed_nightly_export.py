"""Every night: yesterday's tickets to S3, one gzipped JSON Lines object a day."""

from __future__ import annotations

import os
from datetime import UTC, datetime

from airflow.timetables.interval import CronDataIntervalTimetable

try:
    from airflow.sdk import dag
except ImportError:  # Airflow 2.11
    from airflow.decorators import dag

from airflow_provider_lightspeed.transfers.tickets_to_s3 import LightspeedTicketsToS3Operator

# Settings of this deployment. From the environment, not from Airflow Variables: Airflow parses this file every
# few seconds, and a Variable would query the database each time.
S3_BUCKET = os.environ.get("LIGHTSPEED_S3_BUCKET", "my-support-data")
LIGHTSPEED_CONN_ID = os.environ.get("LIGHTSPEED_CONN_ID", "lightspeed_default")
AWS_CONN_ID = os.environ.get("LIGHTSPEED_AWS_CONN_ID", "aws_default")
# The zone in which your day begins: for the schedule, and for the day in the key.
ZONE = os.environ.get("LIGHTSPEED_TIMEZONE", "UTC")


@dag(
    # A plain cron schedule gives runs of Airflow 3 an empty interval (start == end). This one gives each run
    # the day before it.
    schedule=CronDataIntervalTimetable("0 0 * * *", timezone=ZONE),
    user_defined_macros={"zone": ZONE},
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    default_args={"retries": 3},
    description="Export the tickets of each day to S3",
    tags=["lightspeed", "export"],
    doc_md=__doc__,
)
def example_lightspeed_nightly_export() -> None:
    LightspeedTicketsToS3Operator(
        task_id="export_tickets",
        s3_bucket=S3_BUCKET,
        s3_key="tickets/date={{ data_interval_start.in_timezone(zone) | ds }}/tickets.jsonl.gz",
        created_from="{{ data_interval_start }}",
        created_to="{{ data_interval_end }}",
        # One object a day: clearing the run exports the day again, into the same object.
        replace=True,
        lightspeed_conn_id=LIGHTSPEED_CONN_ID,
        aws_conn_id=AWS_CONN_ID,
    )


example_lightspeed_nightly_export()
