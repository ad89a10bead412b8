"""The queries in docs/warehouse.md, run on what an export has written."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import duckdb
import pytest

from airflow_provider_lightspeed.sandbox import Sandbox
from demo.s3_server import S3Server
from tests.integration.exporting import any_numbers, export, new_task

_PAGE = Path(__file__).parents[2] / "docs" / "warehouse.md"
_SECTION = _PAGE.read_text(encoding="utf-8").partition("## DuckDB\n")[2].partition("\n## ")[0]
QUERIES = re.findall(r"```sql\n(.+?)```", _SECTION, re.S)


@pytest.mark.usefixtures("aws")
@pytest.mark.parametrize("query", QUERIES, ids=["parquet", "jsonl"])
def test_duckdb(sandbox: Sandbox, s3_server: S3Server, s3_bucket: str, tmp_path: Path, query: str) -> None:
    (key,) = re.findall(r"s3://my-warehouse/(tickets/\*/[\w.]+)'", query)
    key = key.replace("*", "date=2026-06-01")
    export(new_task(), s3_bucket=s3_bucket, s3_key=key)
    (tmp_path / key).parent.mkdir(parents=True)
    s3_server.client().download_file(s3_bucket, key, str(tmp_path / key))
    rows = duckdb.sql(query.replace("s3://my-warehouse", str(tmp_path))).fetchall()
    truth = sandbox.shop.tickets()
    assert [row[0] for row in rows] == sorted(truth)
    for number, created, is_closed, subject, customer, date in rows:
        ticket = truth[number]
        assert created == datetime.fromisoformat(ticket["createdAt"])
        assert (is_closed, subject) == (ticket["isClosed"], ticket["subject"])
        assert customer == (ticket["customer"]["resource"]["id"] if ticket["customer"] else None)
        assert str(date) == "2026-06-01"


@pytest.mark.usefixtures("aws", "sandbox")
def test_the_log_line_in_the_tutorial(s3_bucket: str, log: Callable[[], str]) -> None:
    (line,) = re.findall(
        r"```text\n(Exported.+)\n```", _PAGE.with_name("tutorial.md").read_text(encoding="utf-8")
    )
    (key,) = re.findall(r"s3://my-warehouse/(\S+)", line)
    export(new_task(), s3_bucket=s3_bucket, s3_key=key)
    pattern = any_numbers(line.replace("my-warehouse", s3_bucket))
    assert re.search(pattern, log())
