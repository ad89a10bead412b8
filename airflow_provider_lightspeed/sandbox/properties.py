"""Reads the properties of a write, as tolerant as the API: JSON or form values, ids or links."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from airflow_provider_lightspeed.sandbox.tickets import LANGUAGES

_FLAGS = {
    "isAnswered": "is_answered",
    "isClosed": "is_closed",
    "isTodo": "is_todo",
    "doNotifyAnswered": "do_notify_answered",
}
_TEXTS = {"subject": "subject", "memo": "memo"}
_TRUTH: dict[object, bool] = {"true": True, "false": False, "1": True, "0": False, True: True, False: False}
WRITABLE = frozenset({*_FLAGS, *_TEXTS, "customer"})
_CUSTOMER = re.compile(r"(?:customers/)?([1-9]\d{0,17})")

STAFF_ONLY = frozenset({"createdAt", "language"})


def read_ticket(properties: Mapping[str, object]) -> dict[str, Any]:
    """Return the fields that a client sets. Read-only and unknown properties are left out, as PHP does.

    :raises ValueError: a value is not of its property's kind.
    """
    fields: dict[str, Any] = {}
    for name, value in properties.items():
        if name in _FLAGS:
            fields[_FLAGS[name]] = _read_flag(name, value)
        elif name in _TEXTS:
            fields[_TEXTS[name]] = _read_text(name, value)
        elif name == "customer":
            fields["customer"] = _read_customer(value)
    return fields


def read_staff_ticket(properties: Mapping[str, object]) -> dict[str, Any]:
    """Return the fields that the shop's staff sets, who can set more but must not mistype.

    :raises ValueError: there is no such property, or a value is not of its kind.
    """
    known = WRITABLE | STAFF_ONLY
    if unknown := set(properties) - known:
        raise ValueError(f"Unknown properties {sorted(unknown)}: choose from {sorted(known)}")
    fields = read_ticket(properties)
    if "createdAt" in properties:
        fields["created_at"] = _read_instant(properties["createdAt"])
    if "language" in properties:
        code = properties["language"]
        if code is not None and code not in LANGUAGES:
            raise ValueError(f"language must be None or one of {LANGUAGES}, not {code!r}")
        fields["language"] = code
    return fields


def _read_flag(name: str, value: object) -> bool:
    try:
        return _TRUTH[value]
    except (KeyError, TypeError):
        raise ValueError(f"{name} must be true or false, not {value!r}") from None


def _read_text(name: str, value: object) -> str:
    if isinstance(value, str):
        return value
    raise ValueError(f"{name} must be a text, not {value!r}")


def _read_customer(value: object) -> int | None:
    if value is None or value is False or value == "":
        return None
    match = None if value is True else _CUSTOMER.fullmatch(str(value))
    if match is None:
        raise ValueError(f"customer must be an id or customers/{{id}}, not {value!r}")
    return int(match[1])


def _read_instant(value: object) -> int:
    instant = datetime.fromisoformat(value) if isinstance(value, str) else value
    if not isinstance(instant, datetime) or instant.tzinfo is None:
        raise ValueError(f"createdAt must be an instant with its zone, not {value!r}")
    return int(instant.timestamp())
