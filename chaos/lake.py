"""What a log of changes has come to in S3, read without the provider."""

from __future__ import annotations

import gzip
import io
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from airflow_provider_lightspeed.sandbox import Change
from chaos.rows import Row

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

_CHANGE_FILE = re.compile(r"changes/block=[0-9]{17}/([0-9]{20})\.")
#: Columns that stand for a ticket. `updated_at` may change without a trace in the shop's history.
_COLUMNS = ("created_at", "is_answered", "is_closed", "is_todo", "subject", "memo")

State = Row | None
"""A ticket as it was for a time; None: it did not exist."""


@dataclass(frozen=True)
class Lake:
    """The objects below a prefix.

    :ivar files: rows of each change file, by its number.
    :ivar current: rows of ``current``.
    :ivar reached: the change file up to which ``current`` goes.
    :ivar status: what ``status.json`` holds.
    :ivar others: names of all other objects.
    """

    files: Mapping[int, Sequence[Row]]
    current: Sequence[Row]
    reached: int
    status: Mapping[str, Any]
    others: Sequence[str] = ()

    def complete_as_of(self, ticket_id: int) -> datetime:
        """Return the instant up to which each change of a ticket is in the log."""
        instants = [as_of for after_id, as_of in self.status["coverage"] if after_id < ticket_id]
        return datetime.fromisoformat(instants[-1])


def read_lake(s3: S3Client, bucket: str, prefix: str) -> Lake:
    """Read the objects below a prefix, which ends in a slash."""
    files: dict[int, list[Row]] = {}
    current: list[Row] = []
    status: dict[str, Any] = {}
    reached, others = 0, []
    for name in _names(s3, bucket, prefix):
        found = s3.get_object(Bucket=bucket, Key=prefix + name)
        body = found["Body"].read()
        if number := _CHANGE_FILE.match(name):
            files[int(number[1])] = _rows(body, name)
        elif name.startswith("current/"):
            current, reached = _rows(body, name), int(found["Metadata"]["seq"])
        elif name == "status.json":
            status = json.loads(body)
        elif not name.startswith("_state/"):
            others.append(name)
    return Lake(files, current, reached, status, others)


def replay(files: Mapping[int, Sequence[Row]]) -> dict[int, Row]:
    """Return the tickets as they are after all changes: the last row of each that is not gone."""
    latest = {row["id"]: row for seq in sorted(files) for row in files[seq]}
    return {number: _without_op(row) for number, row in latest.items() if row["op"] != "D"}


def columns_of(ticket: Mapping[str, Any]) -> Row:
    """Return the columns that a ticket of the shop has in the lake."""
    return {
        "created_at": datetime.fromisoformat(ticket["createdAt"]),
        "is_answered": ticket["isAnswered"],
        "is_closed": ticket["isClosed"],
        "is_todo": ticket["isTodo"],
        "subject": ticket["subject"] or None,
        "memo": ticket["memo"] or None,
    }


def state_of(row: Row) -> Row:
    """Return the same columns of a row of the lake."""
    return {name: row[name] or None if name in {"subject", "memo"} else row[name] for name in _COLUMNS}


def states_since(
    last: Mapping[str, Any], is_live: bool, history: Sequence[Change], instant: datetime
) -> list[State]:
    """Return what a ticket was at an instant, and all that it became since; the last state first.

    :param last: the ticket as the shop has it, or had it before it was deleted.
    """
    document = dict(last)
    states: list[State] = [columns_of(document) if is_live else None]
    for change in reversed(history):
        # The history counts whole seconds.
        if datetime.fromisoformat(change.at) + timedelta(seconds=1) < instant:
            break
        document |= change.before
        states.append(None if "createdAt" in change.after else columns_of(document))
    return states


def _names(s3: S3Client, bucket: str, prefix: str) -> list[str]:
    pages = s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
    return [item["Key"].removeprefix(prefix) for page in pages for item in page.get("Contents", [])]


def _rows(body: bytes, name: str) -> list[Row]:
    if name.endswith(".parquet"):
        import pyarrow.parquet

        rows: list[Row] = pyarrow.parquet.read_table(io.BytesIO(body)).to_pylist()
        return rows
    return [_typed(json.loads(line)) for line in gzip.decompress(body).splitlines()]


def _typed(row: dict[str, Any]) -> Row:
    instants = [name for name in ("created_at", "updated_at", "_changed_after", "_changed_by") if row[name]]
    return row | {name: datetime.fromisoformat(row[name]).astimezone(UTC) for name in instants}


def _without_op(row: Row) -> Row:
    return {name: value for name, value in row.items() if name != "op"}
