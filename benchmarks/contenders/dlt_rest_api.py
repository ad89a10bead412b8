"""dlt's `rest_api` source, loaded to its filesystem destination on S3."""

from __future__ import annotations

import os
import tempfile

os.environ["RUNTIME__DLTHUB_TELEMETRY"] = "false"
os.environ["RUNTIME__LOG_LEVEL"] = "ERROR"

import dlt  # type: ignore[import-not-found]  # it lives in an environment of its own
import s3fs  # type: ignore[import-not-found] # ruff: ignore[unused-import] - loaded before the clock starts, as with the others
from dlt.sources.rest_api import rest_api_source  # type: ignore[import-not-found]
from job import PAGE, Job, at_work

job = Job.from_command_line()
with tempfile.TemporaryDirectory() as directory, at_work():
    source = rest_api_source({
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
    destination = dlt.destinations.filesystem(
        f"s3://{job.bucket}/{job.prefix}",
        credentials={
            "aws_access_key_id": job.access_key,
            "aws_secret_access_key": job.secret_key,
            "endpoint_url": job.s3,
            "region_name": job.region,
        },
    )
    pipeline = dlt.pipeline(
        "benchmark", pipelines_dir=directory, destination=destination, dataset_name="shop"
    )
    pipeline.run(source, loader_file_format="jsonl")
