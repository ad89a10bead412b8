"""dlt into DuckDB: a full refresh at each look (`--mode replace`), or one that keeps the history (`--mode scd2`)."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import dlt  # type: ignore[import-not-found]  # it lives in an environment of its own
import duckdb
from dlt_rest_api import tickets
from job import Job, looks, report

_COLUMNS = ("id", "is_answered", "is_closed", "is_todo", "subject", "memo")

job = Job.from_command_line()
disposition: Any = job.mode if job.mode == "replace" else {"disposition": "merge", "strategy": "scd2"}


def save(database: str, state: str) -> None:
    """Write the tickets as the warehouse has them now."""
    now = "" if job.mode == "replace" else " WHERE _dlt_valid_to IS NULL"
    with duckdb.connect(database, read_only=True) as warehouse:
        rows = warehouse.execute(f"SELECT {', '.join(_COLUMNS)} FROM shop.tickets{now}").fetchall()  # ruff: ignore[hardcoded-sql-expression] - of constants
    Path(state).write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


with tempfile.TemporaryDirectory() as directory:
    database = f"{directory}/warehouse.duckdb"
    pipeline = dlt.pipeline(
        "day", pipelines_dir=directory, destination=dlt.destinations.duckdb(database), dataset_name="shop"
    )
    for look in looks():
        pipeline.run(tickets(job), write_disposition=disposition)
        if look.state:
            save(database, look.state)
        report(pipeline.last_trace.last_normalize_info.row_counts["tickets"])
