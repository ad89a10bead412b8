"""The queries in docs/warehouse.md, run on what an export has written."""

from __future__ import annotations

import re
from datetime import datetime
from pathlib import Path

import duckdb
import pytest
import sqlglot
from sqlglot import exp

from airflow_provider_lightspeed.sandbox import Sandbox
from demo.s3_server import S3Server
from tests.integration.exporting import export, new_task

_PAGE = Path(__file__).parents[2] / "docs" / "warehouse.md"


def blocks(heading: str) -> list[str]:
    section = _PAGE.read_text(encoding="utf-8").partition(f"## {heading}\n")[2].partition("\n## ")[0]
    return re.findall(r"```sql\n(.+?)```", section, re.S)


QUERIES = blocks("DuckDB")


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


@pytest.mark.parametrize(
    ("heading", "dialect"),
    [
        ("Snowflake", "snowflake"),
        ("BigQuery", "bigquery"),
        ("Redshift", "redshift"),
        ("Iceberg", "athena"),
    ],
)
@pytest.mark.parametrize("session", ["UTC", "America/New_York"])
def test_a_day_makes_room_for_the_rows_of_its_file_and_no_others(
    heading: str, dialect: str, session: str
) -> None:
    text = re.sub(r"LOAD DATA.+?;", "", "\n".join(blocks(heading)), flags=re.S)
    deletes = [
        found for found in sqlglot.parse(text, dialect=dialect) if isinstance(found, exp.Delete)
    ]
    assert deletes
    base = duckdb.connect(config={"TimeZone": session})
    # Columns of Redshift and Iceberg are UTC without a zone.
    kind = "TIMESTAMP" if heading in ("Redshift", "Iceberg") else "TIMESTAMPTZ"
    instants = ["2026-01-30 22:59:59", "2026-01-30 23:00:00", "2026-01-31 22:59:59", "2026-01-31 23:00:00"]
    for delete in deletes:
        table = delete.this.name
        base.execute(f"CREATE OR REPLACE TABLE {table} (id INT, created_at {kind}, ticket JSON)")
        for number, instant in enumerate(instants):
            written = instant if kind == "TIMESTAMP" else f"{instant}+00"
            base.execute(
                f"INSERT INTO {table} VALUES (?, ?, ?)", [number, written, f'{{"createdAt": "{instant}+00"}}']
            )
        delete.this.set("db", None)
        base.execute(delete.sql("duckdb"))
        assert base.sql(f"SELECT id FROM {table} ORDER BY id").fetchall() == [(0,), (3,)], heading
