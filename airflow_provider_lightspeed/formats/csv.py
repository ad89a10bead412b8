"""Tickets as CSV (RFC 4180, UTF-8), safe to open in a spreadsheet."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import msgspec

from airflow_provider_lightspeed.formats.base import Layout, LineFormat
from airflow_provider_lightspeed.formats.columns import Columns

#: Where a spreadsheet may see a formula (OWASP, "CSV injection"): at the start of a cell. Readers that split at
#: semicolons or tabs, as Excel does in many locales, start a cell after those and after line breaks too.
_FORMULA = re.compile(r"\A(?=[=+\-@\t\r\n＝＋－＠])|(?<=[;\t\r\n])(?=[=+\-@＝＋－＠])")
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


class Csv(LineFormat):
    """CSV with a line of column names. A missing value is an empty cell without quotes, an empty text is ``""``."""

    content_type = "text/csv; charset=utf-8; header=present"

    def __init__(self, layout: Layout) -> None:
        self._columns = Columns(layout)
        super().__init__(layout)
        self._escape_formulas = layout.escape_formulas

    def head(self) -> bytes:
        """Return the line of column names."""
        mark = _BYTE_ORDER_MARK if self.layout.csv_bom else b""
        return mark + ",".join(self._columns.names).encode() + b"\r\n"

    def fields(self) -> dict[str, str]:
        """Return the columns; messages are JSON text here."""
        return self._columns.fields | ({"messages": "string"} if "messages" in self._columns.names else {})

    def lines(self, tickets: Sequence[dict[str, Any]]) -> bytes:
        """Return the tickets' lines."""
        return "".join(self._line(self._columns.row(ticket)) for ticket in tickets).encode()

    def _line(self, row: dict[str, Any]) -> str:
        return ",".join(map(self._cell, row.values())) + "\r\n"

    def _cell(self, value: Any) -> str:
        if value is None:
            return ""
        if isinstance(value, bool):
            return "true" if value else "false"
        if isinstance(value, int):
            return str(value)
        if isinstance(value, datetime):
            return value.replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"
        text = value if isinstance(value, str) else msgspec.json.encode(value).decode()
        if self._escape_formulas:
            text = _FORMULA.sub("'", text)
        return '"' + text.replace('"', '""') + '"'
