"""This provider: the tickets as they are now, and every change."""

from __future__ import annotations

import logging
from types import SimpleNamespace
from typing import Any

from job import Job, looks, report
from lightspeed import connect

job = Job.from_command_line()
connect(job)
logging.disable(logging.INFO)

from airflow_provider_lightspeed.transfers.ticket_changes_to_s3 import LightspeedTicketChangesToS3Operator  # ruff: ignore[module-import-not-at-top-of-file] - reads the connections

for look in looks():
    run = SimpleNamespace(
        dag_id="day", task_id="sync", run_id=f"look {look.number}", map_index=-1, max_tries=0
    )
    context: Any = {"ti": run}
    done = LightspeedTicketChangesToS3Operator(
        task_id="sync", s3_bucket=job.bucket, s3_prefix=job.prefix, scan="full" if look.is_full else "recent"
    ).execute(context)
    report(done["inserted"] + done["updated"] + done["deleted"])
