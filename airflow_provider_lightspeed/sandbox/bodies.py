"""Reads the body of a write: JSON, or a form such as ``ticket[subject]=Hello``."""

from __future__ import annotations

import re
from collections.abc import Mapping
from urllib.parse import parse_qsl

import msgspec

from airflow_provider_lightspeed.sandbox.wire import ApiError, Request

_FIELD = re.compile(r"(\w+)\[(\w+)\]")


def read_properties(request: Request, envelope: str) -> Mapping[str, object]:
    """Return the properties inside the envelope.

    :raises ApiError: 400, as there is no such object.
    """
    body = _read_json(request.body) if "json" in request.content_type else _read_form(request.body)
    properties = body.get(envelope) if isinstance(body, dict) else None
    if not isinstance(properties, dict):
        raise ApiError(400, f"Invalid data input. Expected an object {envelope!r}.")
    return properties


def _read_json(body: bytes) -> object:
    try:
        return msgspec.json.decode(body)
    except msgspec.DecodeError:
        raise ApiError(400, "Invalid data input. The body is not JSON.") from None


def _read_form(body: bytes) -> dict[str, dict[str, str]]:
    envelopes: dict[str, dict[str, str]] = {}
    for name, value in parse_qsl(body.decode("utf-8", "replace"), keep_blank_values=True):
        if field := _FIELD.fullmatch(name):
            envelopes.setdefault(field[1], {})[field[2]] = value
    return envelopes
