"""dlt's `rest_api` source, loaded to its filesystem destination on S3."""

from __future__ import annotations

import os
import tempfile
from typing import Any

os.environ["RUNTIME__DLTHUB_TELEMETRY"] = "false"
os.environ["RUNTIME__LOG_LEVEL"] = "ERROR"

import dlt  # type: ignore[import-not-found]  # it lives in an environment of its own
import s3fs  # type: ignore[import-not-found] # ruff: ignore[unused-import] - loaded before the clock starts, as with the others
from dlt.sources.rest_api import rest_api_source  # type: ignore[import-not-found]
from job import PAGE, Job, at_work


def tickets(job: Job) -> Any:
    """Describe the shop."""
    return rest_api_source({
        "client": {
            "base_url": f"{job.shop}/en/",
            "auth": {"type": "http_basic", "username": job.key, "password": job.secret},
            "paginator": {
                "type": "page_number",
                "base_page": 1,
                "page_param": "page",
                "total_path": None,
                "stop_after_empty_page": True,
            },
        },
        "resources": [
            {
                "name": "tickets",
                "endpoint": {"path": "tickets.json", "params": {"limit": PAGE}, "data_selector": "tickets"},
            }
        ],
    })


if __name__ == "__main__":
    task = Job.from_command_line()
    with tempfile.TemporaryDirectory() as directory, at_work():
        destination = dlt.destinations.filesystem(
            f"s3://{task.bucket}/{task.prefix}",
            credentials={
                "aws_access_key_id": task.access_key,
                "aws_secret_access_key": task.secret_key,
                "endpoint_url": task.s3,
                "region_name": task.region,
            },
        )
        pipeline = dlt.pipeline(
            "benchmark", pipelines_dir=directory, destination=destination, dataset_name="shop"
        )
        pipeline.run(tickets(task), loader_file_format="jsonl")
