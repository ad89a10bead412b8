"""Airflow's connections, for this provider's operators."""

from __future__ import annotations

import json
import os

from job import Job


def connect(job: Job) -> None:
    """Set the connections to shop and S3."""
    os.environ["AIRFLOW_CONN_LIGHTSPEED_DEFAULT"] = json.dumps({
        "conn_type": "lightspeed",
        "host": job.shop,
        "login": job.key,
        "password": job.secret,
        "extra": {"calls_per_second": 0},
    })
    os.environ["AIRFLOW_CONN_AWS_DEFAULT"] = job.airflow_connection()
