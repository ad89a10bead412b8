"""This provider: its export operator, with a task state store as Airflow 3.3 gives it one."""

from __future__ import annotations

import json
from typing import Any

from job import Job, at_work
from lightspeed import connect

job = Job.from_command_line()
connect(job)

import requests  # ruff: ignore[unused-import, module-import-not-at-top-of-file] - loaded before the clock starts, as with the others
from airflow.providers.amazon.aws.hooks.s3 import S3Hook  # ruff: ignore[module-import-not-at-top-of-file]

import airflow_provider_lightspeed.transfers.export  # ruff: ignore[unused-import, module-import-not-at-top-of-file] - likewise
from airflow_provider_lightspeed.transfers.tickets_to_s3 import LightspeedTicketsToS3Operator  # ruff: ignore[module-import-not-at-top-of-file]


class Store(dict[str, Any]):
    """Airflow's, but for the way to the database and back."""

    def set(self, name: str, value: Any) -> None:
        self[name] = json.dumps(value)

    def delete(self, name: str) -> None:
        self.pop(name, None)


operator = LightspeedTicketsToS3Operator(task_id="export", s3_bucket=job.bucket, s3_key=job.target)
S3Hook("aws_default").get_conn()  # loads boto3
with at_work():
    operator.execute({"task_state_store": Store()})  # type: ignore[typeddict-unknown-key]  # newer than Airflow's own types
