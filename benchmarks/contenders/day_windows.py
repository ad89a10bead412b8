"""This provider's export by creation date: at each look the tickets that are new since the last one."""

from __future__ import annotations

import logging

from job import Job, looks, report
from lightspeed import connect

job = Job.from_command_line()
connect(job)
logging.disable(logging.INFO)

from airflow_provider_lightspeed.transfers.tickets_to_s3 import LightspeedTicketsToS3Operator  # ruff: ignore[module-import-not-at-top-of-file] - reads the connections

for look in looks():
    window = {"created_from": look.since} if look.since else {}
    done = LightspeedTicketsToS3Operator(
        task_id="export",
        s3_bucket=job.bucket,
        s3_key=f"{job.prefix}/{look.number:03}.jsonl.gz",
        created_to=look.until,
        **window,
    ).execute({})
    report(done["tickets"])
