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


@dag(
    # A plain cron schedule gives runs of Airflow 3 an empty interval (start == end). This one gives each run
    # the day before it. Set the zone in which your day begins, in the key too: `ds` alone is the day in UTC, and
    # `data_interval_start.in_timezone('Europe/Amsterdam') | ds` is the one in Amsterdam.
    schedule=CronDataIntervalTimetable("0 0 * * *", timezone="UTC"),
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
        s3_key="tickets/date={{ data_interval_start | ds }}/shop={{ task.lightspeed_conn_id }}/tickets.jsonl.gz",
        created_from="{{ data_interval_start }}",
        created_to="{{ data_interval_end }}",
        # A shop whose quota is used up lets go of the worker, and the others go on.
        deferrable=True,
        replace=True,
        aws_conn_id=AWS_CONN_ID,
        # The web interface shows the shop rather than a number.
        map_index_template="{{ task.lightspeed_conn_id }}",
    ).expand(lightspeed_conn_id=SHOPS)


example_lightspeed_fleet()
