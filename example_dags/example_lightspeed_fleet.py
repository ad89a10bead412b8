"""Every night: yesterday's tickets of many shops, one task and one object for each shop."""

from __future__ import annotations

import os
from datetime import UTC, datetime

from airflow.timetables.interval import CronDataIntervalTimetable

try:
    from airflow.sdk import dag
except ImportError:  # Airflow 2.11
    from airflow.decorators import dag

from airflow_provider_lightspeed.transfers.tickets_to_s3 import LightspeedTicketsToS3Operator

# One connection for each shop. A new shop is a new connection, and its id added here.
SHOPS = os.environ.get("LIGHTSPEED_FLEET", "shop_nl shop_be shop_de").split()
S3_BUCKET = os.environ.get("LIGHTSPEED_S3_BUCKET", "my-support-data")
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
    # Nights that overlap would share the keys' quotas.
    max_active_runs=1,
    default_args={"retries": 3},
    description="Export the tickets of many shops, one mapped task each",
    tags=["lightspeed", "export"],
    doc_md=__doc__,
)
def example_lightspeed_fleet() -> None:
    LightspeedTicketsToS3Operator.partial(
        task_id="export_tickets",
        s3_bucket=S3_BUCKET,
        s3_key="tickets/date={{ data_interval_start.in_timezone(zone) | ds }}/shop={{ task.lightspeed_conn_id }}/tickets.jsonl.gz",
        created_from="{{ data_interval_start }}",
        created_to="{{ data_interval_end }}",
        # A shop whose quota is used up frees its worker slot, and the others continue.
        deferrable=True,
        replace=True,
        aws_conn_id=AWS_CONN_ID,
        # The web interface then shows the shop instead of a number.
        map_index_template="{{ task.lightspeed_conn_id }}",
    ).expand(lightspeed_conn_id=SHOPS)


example_lightspeed_fleet()
