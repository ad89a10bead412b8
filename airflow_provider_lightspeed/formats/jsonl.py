"""Tickets as JSON Lines: one object a line, with the API's own property names."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

_encoder = msgspec.json.Encoder()


def encode(tickets: Iterable[Mapping[str, Any]]) -> bytes:
    """Encode tickets, each as one line that ends in a newline."""
    return _encoder.encode_lines(tickets if isinstance(tickets, list) else list(tickets))
