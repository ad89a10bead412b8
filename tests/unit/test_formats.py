"""Tickets to files, read back by readers that others wrote."""

from __future__ import annotations

import csv
import gzip
import io
import json
import subprocess
import sys
import zlib
from datetime import UTC, datetime
from typing import Any

import duckdb
import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_provider_lightspeed.api.tickets import Ticket, TicketMessage
from airflow_provider_lightspeed.formats import (
    FORMATS,
    FormatError,
    Layout,
    choose,
    make_format,
    properties,
)
from airflow_provider_lightspeed.formats import parquet as parquet_module
from airflow_provider_lightspeed.formats.columns import Columns
from tests.unit.written import unpack, write

COLUMNS = [
    "id",
    "created_at",
    "updated_at",
    "is_answered",
    "is_closed",
    "is_todo",
    "do_notify_answered",
    "subject",
    "memo",
    "language_id",
    "language_code",
    "language_locale",
    "language_title",
    "customer_id",
    "extra",
]


def ticket(number: int, **properties: Any) -> dict[str, Any]:
    return {
        "id": number,
        "createdAt": "2026-03-29T03:00:00+02:00",
        "updatedAt": False,
        "isAnswered": True,
        "isClosed": False,
        "isTodo": False,
        "subject": "Where is it?",
        "memo": "",
        "doNotifyAnswered": False,
        "language": {"id": 1, "code": "nl", "locale": "nl_NL", "title": "Nederlands"},
        "customer": {"resource": {"id": 7, "url": "customers/7", "link": "x"}},
        "messages": {"resource": {"id": False, "url": "tickets/1/messages", "link": "x"}},
        **properties,
    }


@pytest.mark.parametrize("compression", ["none", "gzip", "zstd"])
@pytest.mark.parametrize("pages", [[], [[]], [[ticket(1)], [], [ticket(2), ticket(3)]]])
def test_jsonl_holds_the_objects_as_they_are(pages: list[list[dict[str, Any]]], compression: str) -> None:
    data = write(pages, compression=compression)
    assert [json.loads(line) for line in unpack(data, compression).splitlines()] == [
        row for page in pages for row in page
    ]
    assert data == write(pages, compression=compression)
    assert bool(data) == (compression != "none" or any(pages))


@settings(max_examples=30)
@given(st.data())
@pytest.mark.parametrize("compression", ["none", "gzip", "zstd"])
@pytest.mark.parametrize("file_format", ["jsonl", "csv"])
def test_wherever_the_work_passes_to_another_process_the_file_is_the_same(
    file_format: str, compression: str, data: st.DataObject
) -> None:
    """However the tickets are cut into pages; compressed, the bytes may differ, but not what is in them."""
    rows = [ticket(number, subject="é" * (number % 7)) for number in range(1, data.draw(st.integers(0, 30)))]
    layout = Layout(file_format, compression)
    whole = b"".join((made := make_format(layout)).finish([made.encode(rows)]))
    chunks, made = [], make_format(layout)
    for cut, is_killed in data.draw(st.lists(st.tuples(st.integers(0, 10), st.booleans()), max_size=8)):
        page, rows = rows[:cut], rows[cut:]
        chunks.append(made.encode(page))
        if is_killed:
            chunks.append(made.flush())
            state = msgspec.json.decode(msgspec.json.encode(made.state), type=list[int])
            made.encode([ticket(99)])  # lost with its process
            made = make_format(layout)
            made.resume(state)
    file = b"".join(made.finish([*chunks, made.encode(rows)]))
    assert unpack(file, compression) == unpack(whole, compression)
    if compression == "gzip":
        member = zlib.decompressobj(31)
        assert member.decompress(file) == unpack(whole, compression)
        assert member.eof
        assert not member.unused_data


def test_a_format_that_starts_over_forgets_what_it_encoded() -> None:
    made = make_format(Layout("csv", "gzip"))
    made.encode([ticket(1)])
    made.resume([])
    file = b"".join(made.finish([made.encode([ticket(2)])]))
    assert gzip.decompress(file) == gzip.decompress(
        write([[ticket(2)]], file_format="csv", compression="gzip")
    )


def test_columns_have_types_in_parquet() -> None:
    rows = [ticket(1, brandNew={"b": 1, "a": 2}), ticket(2, language=False, customer=False, subject=False)]
    for pages in ([rows], [rows[:1], rows[1:]], []):
        table = pq.read_table(io.BytesIO(write(pages, file_format="parquet", compression="zstd")))
        instant, text = pa.timestamp("us", tz="UTC"), pa.string()
        assert dict(zip(table.schema.names, table.schema.types, strict=True)) == dict(
            zip(COLUMNS, [pa.int64(), instant, instant, *[pa.bool_()] * 4, text, text, pa.int64(), *[text] * 3,
                          pa.int64(), text], strict=True)
        )  # fmt: skip
    table = pq.read_table(io.BytesIO(write([rows], file_format="parquet", compression="gzip")))
    first, second = table.to_pylist()
    assert first["created_at"] == datetime(2026, 3, 29, 1, tzinfo=UTC)
    assert first["extra"] == '{"brandNew":{"a":2,"b":1}}'
    assert (first["customer_id"], first["language_id"], first["memo"]) == (7, 1, "")
    assert [second[name] for name in ("updated_at", "customer_id", "language_code", "subject", "extra")] == [
        None
    ] * 5


def test_parquet_row_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet_module, "_ROW_GROUP_BYTES", 20_000)
    pages = [[ticket(page * 100 + place) for place in range(100)] for page in range(20)]
    made = make_format(Layout("parquet", "zstd"))
    staged = [
        b"".join(made.encode(page) for page in pages[:7]),
        b"".join(made.encode(page) for page in pages[7:]),
    ]
    file = pq.ParquetFile(io.BytesIO(b"".join(made.finish(staged))))
    assert 1 < file.num_row_groups < 20
    assert file.read().column("id").to_pylist() == list(range(2000))


@pytest.mark.parametrize("compression", ["none", "gzip", "zstd"])
def test_csv(compression: str, tmp_path: Any) -> None:
    rows = [
        ticket(1, subject='a,"b"\r\nc', memo="=1+1", brandNew=1),
        ticket(2, subject="\u00e9\U0001f600 \x00 end", memo="", customer=False),
        ticket(3, subject=False, memo="-"),
    ]
    data = write([rows], file_format="csv", compression=compression)
    text = unpack(data, compression).decode()
    read = list(csv.DictReader(io.StringIO(text.replace("\x00", "<NUL>"), newline="")))
    assert list(read[0]) == COLUMNS
    assert [row["subject"] for row in read] == ['a,"b"\r\nc', "\u00e9\U0001f600 <NUL> end", ""]
    assert [row["memo"] for row in read] == ["'=1+1", "", "'-"]
    assert [row["created_at"] for row in read] == ["2026-03-29T01:00:00.000000Z"] * 3
    ending = {"none": "", "gzip": ".gz", "zstd": ".zst"}[compression]
    file = tmp_path / f"tickets.csv{ending}"
    file.write_bytes(write([rows[:1], rows[2:]], file_format="csv", compression=compression))
    found = duckdb.sql(f"select id, created_at, is_answered, subject from read_csv('{file}')").fetchall()
    assert [row[0] for row in found] == [1, 3]
    assert found[0][2] is True
    assert found[0][3] == 'a,"b"\r\nc'


def test_csv_formulas_as_they_are_and_an_empty_file() -> None:
    assert b'"=1+1"' in write([[ticket(1, memo="=1+1")]], file_format="csv", escape_formulas=False)
    assert write([], file_format="csv").decode() == ",".join(COLUMNS) + "\r\n"


@pytest.mark.parametrize("file_format", list(FORMATS))
def test_messages_are_structs(file_format: str) -> None:
    message = {
        "id": 5,
        "createdAt": "2026-01-01T00:00:00+00:00",
        "updatedAt": None,
        "from": "shop",
        "message": "Hi",
    }
    rows = [ticket(1, messages=[message]), ticket(2)]
    data = write([rows], file_format=file_format, flatten=True, include_messages=True)
    if file_format == "parquet":
        found = pq.read_table(io.BytesIO(data)).column("messages").to_pylist()
        assert found[0][0]["created_at"] == datetime(2026, 1, 1, tzinfo=UTC)
    elif file_format == "csv":
        found = [row["messages"] for row in csv.DictReader(io.StringIO(data.decode(), newline=""))]
        found = [json.loads(text) if text else None for text in found]
    else:
        found = [json.loads(line)["messages"] for line in data.splitlines()]
    assert found[0][0].keys() == {"id", "created_at", "updated_at", "from", "message", "extra"}
    assert (found[0][0]["message"], found[1]) == ("Hi", None)


def test_choice_by_key() -> None:
    keys = {"a.jsonl.gz": ("jsonl", "gzip"), "a.csv": ("csv", "none"), "a.parquet": ("parquet", "zstd"),
            "a.csv.zst": ("csv", "zstd"), "a": ("jsonl", "none")}  # fmt: skip
    assert {key: choose(key) for key in keys} == keys
    assert choose("a", "csv", "gzip") == ("csv", "gzip")
    assert choose("a.gz", "csv") == ("csv", "gzip")
    assert choose("a.csv", compression="none") == ("csv", "none")
    assert choose("a.parquet", compression="none") == ("parquet", "none")
    with pytest.raises(FormatError, match=r"unknown file_format 'xml': use jsonl, csv, parquet"):
        make_format(Layout("xml"))
    with pytest.raises(FormatError, match="unknown compression 'rar'"):
        make_format(Layout(compression="rar"))


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        (("a.csv.gz", None, "zstd"), "has the ending of gzip, but compression is 'zstd'"),
        (("a.jsonl.gz", None, "none"), "has the ending of gzip, but compression is 'none'"),
        (("a.csv", None, "gzip"), "has the ending of csv, but compression is 'gzip'"),
        (("a.jsonl", None, "zstd"), "has the ending of jsonl, but compression is 'zstd'"),
        (("a.csv", "parquet", None), "has the ending of csv, but file_format is 'parquet'"),
        (("a.parquet.gz", None, None), "compressed inside the file"),
        (("a.gz", "parquet", None), "compressed inside the file"),
    ],
)
def test_a_key_that_readers_would_take_for_something_else(given: Any, complaint: str) -> None:
    with pytest.raises(FormatError, match=complaint):
        choose(*given)


@pytest.mark.parametrize(
    "text", ["0001-01-01T00:00:00+01:00", "9999-12-31T23:59:59-01:00", "2026-01-01", "no"]
)
def test_what_is_no_instant_is_left_out(text: str) -> None:
    assert Columns(Layout("csv", "none")).row(ticket(1, updatedAt=text))["updated_at"] is None


def test_an_unknown_property_is_warned_of_once(caplog: pytest.LogCaptureFixture) -> None:
    write([[ticket(1, brandNew=1), ticket(2, brandNew=1)]], file_format="csv")
    assert caplog.text.count("brandNew") == 1


HUGE = 2**63


@pytest.mark.parametrize(
    ("properties", "extra"),
    [
        ({"language": {"id": 1, "dialect": "Flemish"}}, {"language": {"dialect": "Flemish"}}),
        ({"language": "nl"}, {"language": "nl"}),
        (
            {"customer": {"resource": {"id": 7, "embedded": {"a": 1}}}},
            {"customer": {"resource": {"embedded": {"a": 1}}}},
        ),
        ({"customer": {"resource": {"id": 7}, "vip": True}}, {"customer": {"vip": True}}),
        ({"customer": {"resource": {"id": HUGE}}}, {"customer": {"resource": {"id": HUGE}}}),
        ({"customer": {"resource": {"id": str(HUGE)}}}, {"customer": {"resource": {"id": str(HUGE)}}}),
        ({"language": {"id": "1_0"}}, {"language": {"id": "1_0"}}),
        ({"updatedAt": "last week"}, {"updatedAt": "last week"}),
        ({"updatedAt": "0001-01-01T00:00:00+01:00"}, {"updatedAt": "0001-01-01T00:00:00+01:00"}),
        ({"isTodo": 0, "isClosed": "yes"}, {"isTodo": 0, "isClosed": "yes"}),
        ({"language": False, "customer": "", "updatedAt": None, "isTodo": None, "subject": False}, None),
    ],
)
@pytest.mark.parametrize("file_format", list(FORMATS))
def test_what_no_column_can_hold_is_in_extra(
    file_format: str, properties: dict[str, Any], extra: Any, caplog: pytest.LogCaptureFixture
) -> None:
    (row,) = read(file_format, [ticket(1, **properties)])
    assert (json.loads(row["extra"]) if row["extra"] else None) == extra
    assert ("no column of this version" in caplog.text) == (extra is not None)


@pytest.mark.parametrize("file_format", list(FORMATS))
def test_what_no_column_of_a_message_can_hold_is_in_its_extra(file_format: str) -> None:
    message = {
        "id": 5,
        "createdAt": "2026-01-01T00:00:00+00:00",
        "from": "shop",
        "mood": "good",
        "updatedAt": "no",
    }
    (row,) = read(file_format, [ticket(1, messages=[message])], include_messages=True)
    (found,) = json.loads(row["messages"]) if file_format == "csv" else row["messages"]
    assert json.loads(found["extra"]) == {"mood": "good", "updatedAt": "no"}
    assert not row["extra"]


@pytest.mark.parametrize("file_format", list(FORMATS))
def test_each_year_is_iso_8601(file_format: str) -> None:
    for year in ("0999", "0001", "9999"):
        (row,) = read(file_format, [ticket(1, createdAt=f"{year}-12-30T01:02:03+00:00")])
        text = row["created_at"].isoformat() if file_format == "parquet" else row["created_at"]
        assert text.startswith(f"{year}-12-30T01:02:03")


def read(file_format: str, tickets: list[dict[str, Any]], **layout: Any) -> list[dict[str, Any]]:
    data = write([tickets], file_format=file_format, flatten=True, **layout)
    if file_format == "parquet":
        rows: list[dict[str, Any]] = pq.read_table(io.BytesIO(data)).to_pylist()
        return rows
    if file_format == "csv":
        return list(csv.DictReader(io.StringIO(data.decode(), newline="")))
    return [json.loads(line) for line in data.splitlines()]


def test_csv_with_a_byte_order_mark() -> None:
    data = write([[ticket(1, subject="é")]], file_format="csv", csv_bom=True)
    (row,) = csv.DictReader(io.StringIO(data.decode("utf-8-sig"), newline=""))
    assert (row["id"], row["subject"]) == ("1", "é")
    assert data.startswith(b"\xef\xbb\xbfid,")


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("text", ["a;=1+1", "a\n=1+1", "a\r\n@SUM(A1)", "a\t-1", ';"=1', "a;＝1", "\t=1"])
def test_no_cell_is_a_formula_for_a_reader_with_another_delimiter(text: str, delimiter: str) -> None:
    data = write([[ticket(1, subject=text, memo=text)]], file_format="csv").decode()
    # Where the delimiter is another one, a quote inside of a cell protects neither it nor line breaks.
    quoting = csv.QUOTE_MINIMAL if delimiter == "," else csv.QUOTE_NONE
    lines = [data] if delimiter == "," else data.splitlines()
    for line in lines:
        for row in csv.reader(io.StringIO(line, newline=""), delimiter=delimiter, quoting=quoting):
            assert not [cell for cell in row if cell.startswith(("=", "+", "-", "@", "\t", "\r", "＝"))]


def test_formats_know_the_properties_that_the_client_knows() -> None:
    assert set(properties.TICKET) == Ticket.__annotations__.keys()
    assert set(properties.MESSAGE) == TicketMessage.__annotations__.keys()


def test_parquet_keeps_no_memory_that_it_has_freed() -> None:
    """Arrow's own allocators do, by many MiB. The writer takes Arrow's default one, whatever Python has set."""
    code = """
import os
before = dict(os.environ)
from airflow_provider_lightspeed.formats import Layout, make_format
made = make_format(Layout(file_format="parquet", compression="zstd"))
list(made.finish([made.encode([{"id": number, "subject": "x" * 100} for number in range(1, 10_000)])]))
import pyarrow
assert dict(os.environ) == before
for name in pyarrow.supported_memory_backends():
    if getattr(pyarrow, name + "_memory_pool")().max_memory():
        print(name)
"""
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.split() == ["system"]
