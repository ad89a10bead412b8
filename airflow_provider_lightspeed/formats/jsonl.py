"""Tickets as JSON Lines: one object a line, with the API's own property names or flattened."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from airflow_provider_lightspeed.formats.base import Layout, LineFormat
from airflow_provider_lightspeed.formats.columns import Columns, property_types


class JsonLines(LineFormat):
    """JSON Lines. The API's objects as they are, unless the layout flattens them."""

    content_type = "application/x-ndjson"

    def __init__(self, layout: Layout) -> None:
        super().__init__(layout)
        self._encoder = msgspec.json.Encoder()
        self._columns = Columns(layout) if layout.flatten else None

    def fields(self) -> dict[str, str]:
        """Return the columns, or the API's properties that are known."""
        if self._columns:
            return self._columns.fields
        fields = property_types() | ({"messages": "array"} if self.layout.include_messages else {})
        return {name: kind for name, kind in fields.items() if name not in self.layout.exclude}

    def lines(self, tickets: Sequence[dict[str, Any]]) -> bytes:
        """Return each ticket as a line. Instants are RFC 3339 in UTC."""
        rows = [self._columns.row(ticket) for ticket in tickets] if self._columns else tickets
        return self._encoder.encode_lines(rows)
