"""Tickets of any content, read back from each format by readers that others wrote."""

from __future__ import annotations

import csv
import io
import json
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_provider_lightspeed.formats import FORMATS
from tests.unit.written import unpack, write

# What JSON can hold: no lone surrogates.
_TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
_MISSING = st.just(False)
# Hypothesis wants bounds without a zone, and adds it.
_FIRST, _LAST = (datetime.fromisoformat(text) for text in ("2000-01-01", "2100-01-01"))
_INSTANT = st.datetimes(_FIRST, _LAST, timezones=st.just(UTC)).map(datetime.isoformat)
TICKETS = st.lists(
    st.fixed_dictionaries(
        {"id": st.integers(1, 2**53)},
        optional={
            "createdAt": _INSTANT,
            "updatedAt": _INSTANT | _MISSING | st.none(),
            "isClosed": st.booleans(),
            "subject": _TEXT | _MISSING,
            "memo": _TEXT,
            "language": st.fixed_dictionaries({"id": st.integers(1, 99), "code": _TEXT}) | _MISSING,
            "customer": st.integers(1, 2**40).map(lambda number: {"resource": {"id": number}}) | _MISSING,
            "somethingNew": st.none() | st.integers(-9, 9) | _TEXT | st.lists(_TEXT, max_size=2),
        },
    ),
    max_size=6,
    unique_by=lambda ticket: ticket["id"],
)


def truth(ticket: dict[str, Any]) -> dict[str, Any]:
    """Say in other words than the code's what some columns are to hold."""

    def instant(name: str) -> datetime | None:
        return datetime.fromisoformat(ticket[name]) if ticket.get(name) else None

    def text(name: str) -> str | None:
        return None if ticket.get(name) is False else ticket.get(name)

    language, customer = ticket.get("language") or {}, ticket.get("customer") or {"resource": {"id": None}}
    return {
        "id": ticket["id"],
        "created_at": instant("createdAt"),
        "updated_at": instant("updatedAt"),
        "is_closed": ticket.get("isClosed"),
        "subject": text("subject"),
        "memo": text("memo"),
        "language_id": language.get("id"),
        "language_code": language.get("code"),
        "customer_id": customer["resource"]["id"],
    }


@settings(max_examples=50, deadline=None)
@given(TICKETS, st.integers(0, 6), st.sampled_from(["none", "gzip", "zstd"]))
def test_the_apis_objects_come_back(tickets: list[dict[str, Any]], cut: int, compression: str) -> None:
    data = write([tickets[:cut], tickets[cut:]], compression=compression)
    lines = unpack(data, compression).decode().split("\n")
    assert [json.loads(line) for line in lines if line] == tickets
    assert data == write([tickets[:cut], tickets[cut:]], compression=compression)


@settings(max_examples=50, deadline=None)
@given(TICKETS, st.integers(0, 6))
def test_parquet_has_the_truth(tickets: list[dict[str, Any]], cut: int) -> None:
    table = pq.read_table(
        io.BytesIO(write([tickets[:cut], tickets[cut:]], file_format="parquet", compression="zstd"))
    )
    expected = [truth(ticket) for ticket in tickets]
    names = list(truth({"id": 1}))
    assert table.select(names).to_pylist() == expected
    extras = [None if text is None else json.loads(text) for text in table.column("extra").to_pylist()]
    assert extras == [
        {"somethingNew": ticket["somethingNew"]} if "somethingNew" in ticket else None for ticket in tickets
    ]


@settings(max_examples=50, deadline=None)
@given(TICKETS, st.integers(0, 6))
def test_csv_has_the_truth(tickets: list[dict[str, Any]], cut: int) -> None:
    layout: dict[str, Any] = {"file_format": "csv", "escape_formulas": False}
    data = write([tickets[:cut], tickets[cut:]], **layout)
    assert data == write([tickets], **layout)  # without compression pages leave no trace
    for row, ticket in zip(_csv_rows(data), tickets, strict=True):
        for name, value in truth(ticket).items():
            assert row[name] == _as_csv(value)


@pytest.mark.parametrize("file_format", list(FORMATS))
def test_the_columns_are_the_same_whatever_the_data(file_format: str) -> None:
    layout: dict[str, Any] = {"file_format": file_format, "flatten": True}
    full = {"id": 1, "subject": "x", "somethingNew": 1, "language": {"id": 1}}
    found = {
        tuple(pq.read_schema(io.BytesIO(data)).names)
        if file_format == "parquet"
        else tuple(data.decode().splitlines()[0].split(","))
        if file_format == "csv"
        else tuple(json.loads(data))
        for data in (write([[full]], **layout), write([[{"id": 2}]], **layout))
    }
    assert len(found) == 1
    if file_format != "jsonl":  # which has no columns without a row
        empty = write([], **layout)
        names = (
            pq.read_schema(io.BytesIO(empty)).names
            if file_format == "parquet"
            else empty.decode().strip().split(",")
        )
        assert tuple(names) in found


HARD = {
    1: "plain",
    2: "Grüße 🙂 日本語 \u202e",
    3: 'quotes ", commas, "" and \\',
    4: "lines\r\nand\nmore\rlines\u2028end",
    5: "é🙂" * 170_000,  # 1 MB in UTF-8
    6: "",
    7: "NULL",
    8: "\x00 and \x00",
}


@pytest.mark.parametrize("key", ["t.jsonl", "t.jsonl.gz", "t.csv", "t.csv.gz", "t.csv.zst", "t.parquet"])
def test_duckdb_reads_hard_texts(tmp_path: Path, key: str) -> None:
    file_format = key.split(".")[1]
    compression = {"gz": "gzip", "zst": "zstd"}.get(key.rpartition(".")[2], "none")
    tickets = [
        {"id": number, "createdAt": "2026-03-29T03:00:00+02:00", "isClosed": True, "subject": text}
        for number, text in HARD.items()
    ]
    file = tmp_path / key
    file.write_bytes(
        write([tickets[:3], tickets[3:]], file_format=file_format, compression=compression, flatten=True)
    )
    reader = {
        "jsonl": f"read_json('{file}', format = 'newline_delimited')",
        "csv": f"read_csv('{file}', max_line_size = 4000000, allow_quoted_nulls = false)",
        "parquet": f"read_parquet('{file}')",
    }[file_format]
    with duckdb.connect() as database:
        database.execute("SET TimeZone = 'UTC'")
        rows = database.execute(
            f"SELECT id, created_at::TIMESTAMPTZ, is_closed, subject FROM {reader} ORDER BY id"
        ).fetchall()
    created = datetime(2026, 3, 29, 1, tzinfo=UTC)
    assert rows == [(number, created, True, text) for number, text in HARD.items()]


@pytest.mark.parametrize("file_format", list(FORMATS))
def test_nul_comes_back(file_format: str) -> None:
    data = write([[{"id": 1, "subject": "a\x00b"}]], file_format=file_format, flatten=True)
    if file_format == "parquet":
        assert pq.read_table(io.BytesIO(data)).column("subject").to_pylist() == ["a\x00b"]
    elif file_format == "csv":
        assert _csv_rows(data)[0]["subject"] == "a\x00b"
    else:
        assert json.loads(data)["subject"] == "a\x00b"


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "\n=1", "＝1"])
def test_no_cell_is_run(text: str) -> None:
    tickets = [{"id": 1, "subject": text, "memo": text, "somethingNew": text}]
    (row,) = _csv_rows(write([tickets], file_format="csv"))
    harmless = (
        "'\t'=1"
        if text == "\t=1"
        else "'\r'=1"
        if text == "\r=1"
        else "'\n'=1"
        if text == "\n=1"
        else f"'{text}"
    )
    assert (row["subject"], row["memo"]) == (harmless, harmless)
    assert not any(value.startswith(("=", "+", "-", "@", "\t", "\r", "\n", "＝")) for value in row.values())


def _csv_rows(data: bytes) -> list[dict[str, str]]:
    # Python 3.11's reader takes no NUL; and a cell of 1 MB is above its limit.
    csv.field_size_limit(sys.maxsize)
    text = io.StringIO(data.decode().replace("\x00", "\ue000"), newline="")
    return [
        {name: cell.replace("\ue000", "\x00") for name, cell in row.items()} for row in csv.DictReader(text)
    ]


def _as_csv(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, datetime):
        return value.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    return str(value).replace("\ue000", "\x00")  # as the reader above has it
