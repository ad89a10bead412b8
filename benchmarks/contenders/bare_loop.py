"""Fifteen lines of requests in a task: what one writes in an afternoon. No retries, no quota, no thought of anything else.

Like the provider, it lives where Airflow is loaded, and has S3 from Airflow's connection.
"""

from __future__ import annotations

import gzip
import os
import tempfile

import boto3.s3.transfer  # ruff: ignore[unused-import] - loaded before the clock starts, as with the others
import msgspec
import requests
from airflow.providers.amazon.aws.hooks.s3 import S3Hook
from airflow.sdk import task
from job import PAGE, Job, at_work

job = Job.from_command_line()
os.environ["AIRFLOW_CONN_AWS_DEFAULT"] = job.airflow_connection()


@task
def export() -> None:
    """Write all tickets to S3."""
    session = requests.Session()
    session.auth = (job.key, job.secret)
    encoder = msgspec.json.Encoder()
    params = {"limit": PAGE}
    with tempfile.NamedTemporaryFile(suffix=".gz") as file:
        with gzip.open(file, "wb", 1) as packed:
            while True:
                answer = session.get(f"{job.shop}/en/tickets.json", params=params, timeout=30)
                answer.raise_for_status()
                tickets = msgspec.json.decode(answer.content)["tickets"]
                packed.write(encoder.encode_lines(tickets))
                if len(tickets) < PAGE:
                    break
                if job.order == "oldest":
                    params["since_id"] = tickets[-1]["id"]
                else:
                    params["page"] = params.get("page", 1) + 1
        file.flush()
        S3Hook("aws_default").get_conn().upload_file(file.name, job.bucket, job.target)


S3Hook("aws_default").get_conn()  # loads boto3
with at_work():
    export.function()
