"""A ticket as one row of typed columns: the same columns for all data.

``jsonl`` writes the API's own objects; this is for ``flatten``, CSV and Parquet. No value is lost: what no column
can hold goes to ``extra``.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

import msgspec

from airflow_provider_lightspeed.formats.base import Layout
from airflow_provider_lightspeed.formats.properties import (
    MESSAGE,
    TICKET,
    Found,
    Path,
    is_missing,
    nested,
    shape_of,
    unknown,
)

log = logging.getLogger(__name__)

Kind = Literal["integer", "boolean", "text", "instant", "messages", "json"]

_WHOLE_NUMBER = re.compile(r"\s*-?[0-9]+\s*")
_INT64 = range(-(2**63), 2**63)


def _integer(value: Any) -> int | None:
    # Numbers may come as text (seen in live responses).
    if isinstance(value, str) and _WHOLE_NUMBER.fullmatch(value):
        value = int(value)
    return value if type(value) is int and value in _INT64 else None


def _boolean(value: Any) -> bool | None:
    return value if isinstance(value, bool) else None


def _text(value: Any) -> str | None:
    if value is False or value is None:
        return None
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


def _instant(value: Any) -> datetime | None:
    if not isinstance(value, str) or not value:
        return None
    try:
        instant = datetime.fromisoformat(value)
        return instant.astimezone(UTC) if instant.utcoffset() is not None else None
    except (ValueError, OverflowError):  # no instant, or one outside of UTC's calendar
        return None


#: A column's name, the way to its value in the API's object, and what makes the column's value of it.
Reader = tuple[str, str, Path, Callable[[Any], Any]]

_READ: dict[str, Callable[[Any], Any]] = {
    "integer": _integer,
    "boolean": _boolean,
    "text": _text,
    "instant": _instant,
}

_SQL: dict[Kind, str] = {
    "integer": "bigint",
    "boolean": "boolean",
    "text": "string",
    "instant": "timestamp",
    "json": "string",
}


@dataclass(frozen=True)
class Column:
    """One column.

    :param name: in the file.
    :param kind: of its values; each may be missing.
    :param path: where the API's object has it.
    :param inner: the columns of each item of a list.
    """

    name: str
    kind: Kind
    path: Path
    inner: tuple[Column, ...] = ()

    @property
    def sql(self) -> str:
        """Its type in SQL."""
        if self.kind != "messages":
            return _SQL[self.kind]
        return f"array<struct<{','.join(f'{column.name}:{column.sql}' for column in self.inner)}>>"


def _column(name: str, kind: Kind, *path: str) -> Column:
    return Column(name, kind, path)


_EXTRA = _column("extra", "json", "extra")
_TICKET_COLUMNS = (
    _column("id", "integer", "id"),
    _column("created_at", "instant", "createdAt"),
    _column("updated_at", "instant", "updatedAt"),
    _column("is_answered", "boolean", "isAnswered"),
    _column("is_closed", "boolean", "isClosed"),
    _column("is_todo", "boolean", "isTodo"),
    _column("do_notify_answered", "boolean", "doNotifyAnswered"),
    _column("subject", "text", "subject"),
    _column("memo", "text", "memo"),
    _column("language_id", "integer", "language", "id"),
    _column("language_code", "text", "language", "code"),
    _column("language_locale", "text", "language", "locale"),
    _column("language_title", "text", "language", "title"),
    _column("customer_id", "integer", "customer", "resource", "id"),
)
_MESSAGE_COLUMNS = (
    _column("id", "integer", "id"),
    _column("created_at", "instant", "createdAt"),
    _column("updated_at", "instant", "updatedAt"),
    _column("from", "text", "from"),
    _column("message", "text", "message"),
    _EXTRA,
)


def property_types() -> dict[str, str]:
    """Return the JSON type of each of the API's properties."""
    scalars = {column.path[0]: column.kind for column in _TICKET_COLUMNS}
    json_types: dict[str, str] = {"integer": "integer", "boolean": "boolean"}
    return {
        name: "object" if inner else json_types.get(scalars[name], "string") for name, inner in TICKET.items()
    }


class Columns:
    """The columns of a layout, and rows for them."""

    def __init__(self, layout: Layout) -> None:
        columns = [
            Column(column.name, "text", column.path) if column.name in layout.text else column
            for column in _TICKET_COLUMNS
        ]
        if layout.include_messages:
            inner = tuple(
                column for column in _MESSAGE_COLUMNS if f"messages.{column.path[0]}" not in layout.exclude
            )
            columns.append(Column("messages", "messages", ("messages",), inner))
        columns.append(_EXTRA)
        self.all: tuple[Column, ...] = tuple(
            column for column in columns if column.path[0] not in layout.exclude
        )
        self._readers = _readers(self.all)
        self._message_columns = next((column.inner for column in self.all if column.kind == "messages"), ())
        self._message_readers = _readers(self._message_columns)
        self._has_extra, self._messages_have_extra = _EXTRA in self.all, _EXTRA in self._message_columns
        self._logged: set[str] = set()

    @property
    def fields(self) -> dict[str, str]:
        """The type of each column in SQL, by its name."""
        return {column.name: column.sql for column in self.all}

    @property
    def names(self) -> list[str]:
        """The names of the columns, in order."""
        return [column.name for column in self.all]

    def row(self, ticket: Mapping[str, Any]) -> dict[str, Any]:
        """Return a ticket's values: int, bool, str, UTC datetime, list of messages or None."""
        row, unread = _read(ticket, self._readers)
        if self._message_columns:
            row["messages"] = self._messages(ticket.get("messages"))
        if self._has_extra:
            row["extra"] = self._extra([*unknown(ticket, shape_of(ticket)), *unread], "")
        return row

    def _messages(self, raw: Any) -> list[dict[str, Any]] | None:
        return [self._message_row(message) for message in raw] if isinstance(raw, list) else None

    def _message_row(self, message: Mapping[str, Any]) -> dict[str, Any]:
        row, unread = _read(message, self._message_readers)
        if self._messages_have_extra:
            row["extra"] = self._extra([*unknown(message, MESSAGE), *unread], "messages.")
        return row

    def _extra(self, found: Found, prefix: str) -> str | None:
        if not found:
            return None
        names = {prefix + ".".join(path) for path, _ in found}
        if not names <= self._logged:
            log.warning(
                "Properties that no column of this version can hold go to 'extra': %s",
                ", ".join(sorted(names - self._logged)),
            )
            self._logged |= names
        return msgspec.json.encode(nested(found), order="sorted").decode()


def _readers(columns: Iterable[Column]) -> list[Reader]:
    """Return how each plain column is read: all that can be known before there is a ticket."""
    return [
        (column.name, column.path[0], column.path[1:], _READ[column.kind])
        for column in columns
        if column.kind in _READ
    ]


def _read(item: Mapping[str, Any], readers: list[Reader]) -> tuple[dict[str, Any], Found]:
    """Return the values of the plain columns, and those that do not fit their column."""
    row: dict[str, Any] = {}
    unread: Found = []
    for name, first, rest, read in readers:
        raw = item.get(first)
        for step in rest:
            # ``false`` instead of a relation, or one that is unknown as a whole
            raw = raw.get(step) if isinstance(raw, dict) else None
        value = row[name] = read(raw)
        if value is None and not is_missing(raw):
            unread.append(((first, *rest), raw))
    return row, unread
