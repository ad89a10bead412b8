"""Exported files, read without the provider, and what must be in them."""

from __future__ import annotations

import csv
import gzip
import io
import json
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

from airflow_provider_lightspeed.sandbox.distortions import Distortions, rewrite_ticket

Row = Mapping[str, Any]


def read_rows(body: bytes, ending: str) -> list[Row]:
    """Return the rows of an export: whole tickets from JSON Lines, else some of their columns."""
    if ending == "parquet":
        import pyarrow.parquet

        return [_some(row) for row in pyarrow.parquet.read_table(io.BytesIO(body)).to_pylist()]
    text = (gzip.decompress(body) if ending.endswith(".gz") else body).decode()
    if ending.startswith("csv"):
        return [_some(_typed(row)) for row in csv.DictReader(io.StringIO(text))]
    return [json.loads(line) for line in text.splitlines()]


def row_of(ticket: Mapping[str, Any], options: Distortions, ending: str) -> Row:
    """Return the row that a ticket makes in such a file.

    :param options: of the shop: JSON Lines holds a ticket as this shop writes it, but for switches, which are read.
    """
    if ending.startswith("jsonl"):
        row: Row = json.loads(rewrite_ticket(json.dumps(ticket), replace(options, switches="boolean")))
        return row
    return {
        "id": ticket["id"],
        "created_at": datetime.fromisoformat(ticket["createdAt"]),
        "is_answered": ticket["isAnswered"],
        "is_closed": ticket["isClosed"],
        "is_todo": ticket["isTodo"],
        "subject": ticket["subject"] or None,
    }


def _some(row: Row) -> Row:
    names = ("id", "created_at", "is_answered", "is_closed", "is_todo", "subject")
    return {name: row[name] if name != "subject" else row[name] or None for name in names}


def _typed(row: Mapping[str, str]) -> Row:
    flags = {name: row[name] == "true" for name in ("is_answered", "is_closed", "is_todo")}
    return {**row, **flags, "id": int(row["id"]), "created_at": datetime.fromisoformat(row["created_at"])}
