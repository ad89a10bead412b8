"""What tests of exports share: tries of a task, and what they leave."""

from __future__ import annotations

import gzip
import json
import re
from dataclasses import dataclass, field
from io import BytesIO
from typing import Any

import pyarrow.parquet as pq

from airflow_provider_lightspeed.transfers.tickets_to_s3 import LightspeedTicketsToS3Operator
from demo.s3_server import S3Server
from tests.integration.bulk_runs import Store


@dataclass
class Instance:
    """As much of a task instance as is looked at. Airflow adds to ``max_tries`` what was used up when it is cleared."""

    run_id: str = "run"
    dag_id: str = "dag"
    task_id: str = "export"
    map_index: int = -1
    max_tries: int = 0
    pushed: dict[str, Any] = field(default_factory=dict)

    def xcom_push(self, key: str, value: Any) -> None:
        self.pushed[key] = value


def new_task() -> dict[str, Any]:
    """Return a task's context, which all its tries share."""
    return {"task_state_store": Store(), "ti": Instance()}


def export(context: Any, **arguments: Any) -> dict[str, Any]:
    """Run a try of a task."""
    result: dict[str, Any] = LightspeedTicketsToS3Operator(task_id="export", **arguments).execute(context)
    return result


def keys(server: S3Server, bucket: str) -> list[str]:
    """List a bucket; no upload may be open."""
    client = server.client()
    assert not client.list_multipart_uploads(Bucket=bucket).get("Uploads")
    return [item["Key"] for item in client.list_objects_v2(Bucket=bucket).get("Contents", [])]


def read(server: S3Server, bucket: str, key: str) -> list[dict[str, Any]]:
    """Return the rows of an exported object."""
    data = server.client().get_object(Bucket=bucket, Key=key)["Body"].read()
    if key.endswith(".parquet"):
        rows: list[dict[str, Any]] = pq.read_table(BytesIO(data)).to_pylist()
        return rows
    text = gzip.decompress(data) if key.endswith(".gz") else data
    return [json.loads(line) for line in text.splitlines()]


def any_numbers(line: str) -> str:
    """Return a pattern for a log line of the docs with other numbers."""
    return r"\d[\d,.]*".join(map(re.escape, re.split(r"\d[\d,.]*", line)))
