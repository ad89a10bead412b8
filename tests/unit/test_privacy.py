"""What leaves the shop."""

from __future__ import annotations

import json
from typing import Any

import pytest

from airflow_provider_lightspeed.api.errors import LightspeedConfigurationError
from airflow_provider_lightspeed.formats import Layout, make_format
from airflow_provider_lightspeed.privacy import Privacy

KEY = "a-key-of-some-length"
TICKET: dict[str, Any] = {
    "id": 1,
    "createdAt": "2026-01-01T00:00:00+00:00",
    "subject": "My order 4711",
    "memo": "",
    "customer": {"resource": {"id": 4711, "url": "customers/4711", "link": "https://x/customers/4711.json"}},
    "phone": "0031",
    "age": 5,
}


def test_without_wishes_nothing_changes() -> None:
    assert Privacy().apply(TICKET) == TICKET


def test_fields_are_dropped_by_either_name() -> None:
    assert Privacy(["customer_id", "subject", "extra.phone"]).apply(TICKET).keys() == {
        "id",
        "createdAt",
        "memo",
        "age",
    }
    assert "age" not in Privacy(["extra"]).apply(TICKET)


def test_the_same_customer_stays_joinable_and_is_nowhere_to_be_read() -> None:
    privacy = Privacy(hashed=["customer_id", "subject", "memo", "extra.phone"], key=KEY)
    hashed = privacy.apply(TICKET)
    assert "4711" not in json.dumps(hashed)
    assert "0031" not in json.dumps(hashed)
    assert hashed["memo"] == ""
    assert hashed["customer"] == privacy.apply({**TICKET, "id": 2})["customer"]
    assert hashed["customer"] != Privacy(hashed=["customer"], key=KEY[::-1]).apply(TICKET)["customer"]
    assert privacy.apply({"id": 1, "customer": False}) == {"id": 1, "customer": False}
    made = make_format(Layout("csv", text=privacy.text_columns, exclude=privacy.exclude))
    assert hashed["customer"]["resource"]["id"].encode() in made.encode([hashed])


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ({"exclude": ["custmer"]}, "'custmer' is no field"),
        ({"exclude": ["id"]}, "can't do without"),
        ({"hashed": ["isClosed"], "key": KEY}, "isClosed can't be hashed"),
        ({"hashed": ["customer"]}, "key of at least 16"),
    ],
)
def test_slips_are_refused(arguments: dict[str, Any], complaint: str) -> None:
    with pytest.raises(LightspeedConfigurationError, match=complaint):
        Privacy(**arguments)
