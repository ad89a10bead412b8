"""Airflow's own HttpOperator with a `pagination_function`, and S3Hook for what it has collected."""

from __future__ import annotations

import gzip
import json
import os
import re
from typing import Any

from job import PAGE, Job, at_work

job = Job.from_command_line()
os.environ["AIRFLOW_CONN_SHOP"] = json.dumps({
    "conn_type": "http",
    "host": job.shop,
    "login": job.key,
    "password": job.secret,
})
os.environ["AIRFLOW_CONN_AWS_DEFAULT"] = job.airflow_connection()

from airflow.providers.amazon.aws.hooks.s3 import S3Hook  # ruff: ignore[module-import-not-at-top-of-file]
from airflow.providers.http.operators.http import HttpOperator  # ruff: ignore[module-import-not-at-top-of-file]


def next_page(response: Any) -> dict[str, Any] | None:
    if len(response.json()["tickets"]) < PAGE:
        return None
    page = int(re.search(r"page=(\d+)", response.url)[1])  # type: ignore[index]  # each call has one
    return {"data": {"limit": PAGE, "page": page + 1}}


def to_s3(responses: list[Any]) -> None:
    lines = (
        json.dumps(ticket, ensure_ascii=False)
        for response in responses
        for ticket in response.json()["tickets"]
    )
    packed = gzip.compress("\n".join(lines).encode(), 1)
    S3Hook("aws_default").load_bytes(packed, job.target, job.bucket)


export = HttpOperator(
    task_id="export",
    http_conn_id="shop",
    endpoint="en/tickets.json",
    method="GET",
    data={"limit": PAGE, "page": 1},
    pagination_function=next_page,
    response_filter=to_s3,
)
S3Hook("aws_default").get_conn()  # loads what each task that talks to S3 has loaded
with at_work():
    export.execute({})
