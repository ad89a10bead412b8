"""A ticket as one row of columns with types: the same columns whatever the data.

The API's own objects are kept as they come by ``jsonl``; this is for ``flatten``, CSV and Parquet.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

import msgspec

from airflow_provider_lightspeed.formats.base import Layout

log = logging.getLogger(__name__)

Kind = Literal["integer", "boolean", "text", "instant", "messages", "json"]


@dataclass(frozen=True)
class Column:
    """One column.

    :param name: in the file.
    :param kind: of its values; each may be missing.
    :param path: where the API's object has it.
    :param read: the row's value, from the ticket.
    :param inner: what each item of a list has.
    """

    name: str
    kind: Kind
    path: tuple[str, ...]
    read: Callable[[Mapping[str, Any]], Any]
    inner: tuple[Column, ...] = ()

    @property
    def sql(self) -> str:
        """Its type as SQL knows it."""
        if self.kind != "messages":
            return _SQL[self.kind]
        return f"array<struct<{','.join(f'{column.name}:{column.sql}' for column in self.inner)}>>"


def _integer(value: Any) -> int | None:
    # ``false`` and ``""`` stand for a missing number (seen in live answers), and numbers may come as text.
    if value is None or isinstance(value, (bool, float)):
        return None
    try:
        return int(value)
    except (TypeError, ValueError):
        return None


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
    except (ValueError, OverflowError):  # no instant, or one that UTC's calendar does not have
        return None


_READ: dict[str, Callable[[Any], Any]] = {
    "integer": _integer,
    "boolean": _boolean,
    "text": _text,
    "instant": _instant,
}


def _column(name: str, kind: Kind, *path: str) -> Column:
    convert = _READ[kind]

    def read(ticket: Mapping[str, Any]) -> Any:
        value: Any = ticket
        for step in path:
            if not isinstance(value, Mapping):
                return None  # ``false`` in place of a relation
            value = value.get(step)
        return convert(value)

    return Column(name, kind, path, read)


_MESSAGE_COLUMNS = (
    _column("id", "integer", "id"),
    _column("created_at", "instant", "createdAt"),
    _column("updated_at", "instant", "updatedAt"),
    _column("from", "text", "from"),
    _column("message", "text", "message"),
)

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

_SQL: dict[Kind, str] = {
    "integer": "bigint",
    "boolean": "boolean",
    "text": "string",
    "instant": "timestamp",
    "json": "string",
}

_KNOWN = frozenset(column.path[0] for column in _TICKET_COLUMNS) | {"messages"}


class Columns:
    """The columns of a layout, and rows for them."""

    def __init__(self, layout: Layout) -> None:
        columns = [
            _column(column.name, "text", *column.path) if column.name in layout.text else column
            for column in _TICKET_COLUMNS
        ]
        if layout.include_messages:
            columns.append(_messages(layout.exclude))
        columns.append(Column("extra", "json", ("extra",), self._extra))
        self.all: tuple[Column, ...] = tuple(
            column for column in columns if column.path[0] not in layout.exclude
        )
        self._warned = False

    @property
    def fields(self) -> dict[str, str]:
        """The type of each column, by its name, as SQL knows it."""
        return {column.name: column.sql for column in self.all}

    @property
    def names(self) -> list[str]:
        """The names of the columns, in order."""
        return [column.name for column in self.all]

    def row(self, ticket: Mapping[str, Any]) -> dict[str, Any]:
        """Return a ticket's values: int, bool, str, UTC datetime, list of messages or None."""
        return {column.name: column.read(ticket) for column in self.all}

    def _extra(self, ticket: Mapping[str, Any]) -> str | None:
        unknown = {name: value for name, value in ticket.items() if name not in _KNOWN}
        if not unknown:
            return None
        if not self._warned:
            self._warned = True
            log.warning(
                "Properties not known to this version go to the column 'extra': %s", ", ".join(unknown)
            )
        return msgspec.json.encode(unknown, order="sorted").decode()


def _messages(exclude: Container[str]) -> Column:
    inner = tuple(column for column in _MESSAGE_COLUMNS if f"messages.{column.path[0]}" not in exclude)

    def read(ticket: Mapping[str, Any]) -> list[dict[str, Any]] | None:
        messages = ticket.get("messages")
        if not isinstance(messages, list):
            return None
        return [{column.name: column.read(message) for column in inner} for message in messages]

    return Column("messages", "messages", ("messages",), read, inner)
