"""A log of changes kept by a DAG that often looks and one that reads all, and a DAG that loads what they find."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

from airflow_provider_lightspeed._airflow import DAG, task
from airflow_provider_lightspeed.assets import ticket_changes_asset
from airflow_provider_lightspeed.changes import read_changes
from airflow_provider_lightspeed.transfers.ticket_changes_to_s3 import LightspeedTicketChangesToS3Operator

PREFIX = "s3://warehouse/lightspeed/shop/"
changes = ticket_changes_asset("shop")


for name, scan, often in (("often", "auto", 10), ("nightly", "full", 40)):
    with DAG(
        name,
        start_date=datetime(2026, 1, 1, tzinfo=UTC),
        schedule=timedelta(seconds=often),
        catchup=False,
        max_active_runs=1,
        # Airflow fails one of two tasks that are the first to update an asset, and do so at the same moment.
        is_paused_upon_creation=name == "nightly",
        default_args={"retries": 20, "retry_delay": timedelta(seconds=1)},
    ):
        LightspeedTicketChangesToS3Operator(
            task_id="sync",
            s3_prefix=PREFIX,
            scan=scan,  # type: ignore[arg-type]
            max_deleted=1,
            max_updated=1,
            outlets=[changes],
        )

with DAG(
    "load", start_date=datetime(2026, 1, 1, tzinfo=UTC), schedule=[changes], catchup=False, max_active_runs=1
):

    @task(retries=20, retry_delay=timedelta(seconds=1))
    def load() -> int:
        """Keep the rows in a file, with those of the loads before: it appears whole, so it is its own transaction."""
        loaded = Path(os.environ["LOADED"])
        rows = json.loads(loaded.read_text()) if loaded.exists() else []
        before = len(rows)
        after = rows[-1]["_seq"] if rows else 0
        for row in read_changes(PREFIX, after=after):
            rows.append({name: row[name] for name in ("op", "_seq", "id", "subject", "is_closed")})
        part = loaded.with_suffix(".part")
        part.write_text(json.dumps(rows))
        part.replace(loaded)
        return len(rows) - before

    load()
