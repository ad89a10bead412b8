"""The SQL in docs/current-state.md, run on a log of changes: for other engines, its translation to DuckDB."""

from __future__ import annotations

import re
from collections.abc import Callable
from itertools import count
from pathlib import Path

import duckdb
import pytest
import sqlglot
from sqlglot import exp

from airflow_provider_lightspeed.sandbox import Sandbox
from airflow_provider_lightspeed.transfers.ticket_changes_to_s3 import LightspeedTicketChangesToS3Operator
from demo.s3_server import S3Server
from tests.integration.exporting import Instance, any_numbers, keys, new_task

_PAGE = (Path(__file__).parents[2] / "docs" / "current-state.md").read_text(encoding="utf-8")


def blocks(heading: str) -> list[str]:
    section = re.split(r"\n##+ ", _PAGE.partition(f"### {heading}\n")[2])[0]
    return re.findall(r"```sql\n(.+?)```", section, re.S)


CURRENT, MERGE, HISTORY = blocks("DuckDB")
(LOG_LINE,) = re.findall(r"```text\n(Full scan.+)\n```", _PAGE)
(GONE,) = re.findall(r"```text\n +(SELECT e.+)\n", _PAGE)
(DURATIONS,) = re.findall(r"```text\n(SELECT id,.+?)```", _PAGE, re.S)


#: What COPY or LOAD DATA brings into the table of changes.
LOADED = """
CREATE OR REPLACE TABLE ticket_changes AS
SELECT * FROM read_parquet('{}/lightspeed/shop_nl/changes/*/*.parquet') WHERE _seq <= {}
"""


def translated(heading: str) -> list[str]:
    """Return what creates and fills ``tickets_kept``, for DuckDB."""
    text = re.sub(r"LOAD DATA.+?;", "", "\n".join(blocks(heading)), flags=re.S)
    found = []
    for statement in sqlglot.parse(text, dialect=heading.lower()):
        if not isinstance(statement, (exp.Create, exp.Delete, exp.Insert, exp.Merge)):
            continue
        target = statement.this.find(exp.Table)
        if target is None or target.name != "tickets_kept":
            continue
        if isinstance(statement, exp.Create):
            statement.set("properties", None)
        for table in list(statement.find_all(exp.Table)):
            if table.db == "parquet":
                table.set("this", exp.to_identifier("ticket_changes"))
            table.set("db", None)
        found.append(statement.sql("duckdb"))
    return found


@pytest.mark.usefixtures("aws")
def test_sql(
    sandbox: Sandbox,
    s3_server: S3Server,
    s3_bucket: str,
    tmp_path: Path,
    log: Callable[[], str],
) -> None:
    prefix = f"s3://{s3_bucket}/lightspeed/shop_nl/"

    runs = count(1)

    def run() -> None:
        context = {**new_task(), "ti": Instance(f"run {next(runs)}")}
        LightspeedTicketChangesToS3Operator(task_id="sync", s3_prefix=prefix, scan="full").execute(context)  # type: ignore[arg-type]
        for key in keys(s3_server, s3_bucket):
            (tmp_path / key).parent.mkdir(parents=True, exist_ok=True)
            s3_server.client().download_file(s3_bucket, key, str(tmp_path / key))

    def sql(text: str) -> list[tuple[object, ...]]:
        return base.sql(text.replace("s3://my-warehouse", str(tmp_path))).fetchall()

    def merge() -> None:
        for statement in MERGE.split(";\n\n"):
            base.execute(statement.replace("s3://my-warehouse", str(tmp_path)))

    base = duckdb.connect()
    run()
    line = LOG_LINE.replace("s3://my-warehouse/lightspeed/shop_nl/", prefix)
    assert re.search(any_numbers(line), log())
    merge()
    ids = sandbox.shop.ids()
    (new,) = sandbox.add_tickets(1, subject="New", isAnswered=False, isClosed=False)
    sandbox.update_ticket(ids[5], subject="Once")
    sandbox.delete_ticket(ids[7])
    run()
    sandbox.update_ticket(ids[5], subject="Twice")
    sandbox.update_ticket(new, isAnswered=True)
    run()
    for _ in range(2):  # loading again changes nothing
        merge()
        truth = {number: ticket["subject"] for number, ticket in sandbox.shop.tickets().items()}
        assert dict(sql("SELECT id, subject FROM tickets WHERE NOT _deleted")) == truth  # type: ignore[arg-type]
        assert sql("SELECT id FROM tickets WHERE _deleted") == [(ids[7],)]
    for heading in ("Athena", "Snowflake", "Spark", "BigQuery", "Redshift"):
        create, *writes = translated(heading)
        base.execute(f"DROP TABLE IF EXISTS tickets_kept; {create}")
        for newest in (1, 3, 3, 2):  # loading again changes nothing, nor does an older state of the log
            base.execute(LOADED.format(tmp_path, newest))
            for statement in writes:
                base.execute(statement)
        rows = "SELECT id, is_closed, subject, _seq, _deleted FROM {} ORDER BY id"
        assert sql(rows.format("tickets_kept")) == sql(rows.format("tickets")), heading
        same = "SELECT count(*) FROM tickets_kept JOIN tickets USING (id) WHERE tickets_kept.created_at = tickets.created_at"
        assert sql(same) == sql("SELECT count(*) FROM tickets"), heading
    base.execute("CREATE TABLE exported AS SELECT id FROM tickets UNION ALL SELECT 1")
    assert sql(GONE) == [(1,)]
    assert [number for number, *_ in sql(CURRENT)] == sorted(sandbox.shop.ids())
    sql_history = HISTORY.replace("s3://my-warehouse", str(tmp_path))
    base.execute(sql_history)
    subjects = sql(
        f"SELECT subject, valid_to IS NULL FROM ticket_history WHERE id = {ids[5]} ORDER BY valid_from"
    )
    assert [subject for subject, _ in subjects][1:] == ["Once", "Twice"]
    assert [is_last for _, is_last in subjects] == [False, False, True]
    assert sql("SELECT count(*) FROM ticket_history WHERE valid_to < valid_from") == [(0,)]
    ((number, at_least, at_most, closed, _),) = sql(DURATIONS)
    assert number == new
    assert at_least is not None
    assert at_least < at_most  # type: ignore[operator]
    assert closed is None
