"""Tickets as JSON Lines: one object a line, with the API's own property names or flattened."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from airflow_provider_lightspeed.formats.base import Layout, LineFormat
from airflow_provider_lightspeed.formats.columns import Columns


class JsonLines(LineFormat):
    """JSON Lines. The API's objects as they are, unless the layout flattens them."""

    content_type = "application/x-ndjson"

    def __init__(self, layout: Layout) -> None:
        super().__init__(layout)
        self._encoder = msgspec.json.Encoder()
        self._columns = Columns(layout) if layout.flatten else None

    def lines(self, tickets: Sequence[dict[str, Any]]) -> bytes:
        """Return each ticket as a line. Instants are RFC 3339 in UTC."""
        rows = [self._columns.row(ticket) for ticket in tickets] if self._columns else tickets
        return self._encoder.encode_lines(rows)
