"""Bodies and properties of writes: JSON and forms say the same."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_lightspeed.sandbox.bodies import read_properties
from airflow_provider_lightspeed.sandbox.properties import read_staff_ticket, read_ticket
from airflow_provider_lightspeed.sandbox.wire import ApiError, Request

FORM = "application/x-www-form-urlencoded"


def write(body: bytes, content_type: str = "application/json") -> Request:
    return Request(method="POST", path="/tickets.json", body=body, content_type=content_type)


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "subject": st.text(st.characters(exclude_categories=["Cs"])),
            "memo": st.text(st.characters(exclude_categories=["Cs"])),
            "isClosed": st.booleans(),
            "isAnswered": st.booleans(),
            "isTodo": st.booleans(),
            "doNotifyAnswered": st.booleans(),
            "customer": st.integers(1, 10**9),
        },
    ).filter(bool)
)
def test_a_form_and_json_set_the_same(properties: dict[str, Any]) -> None:
    as_json = write(msgspec.json.encode({"ticket": properties}))
    texts = {
        name: str(value).lower() if isinstance(value, bool) else value for name, value in properties.items()
    }
    as_form = write(urlencode({f"ticket[{name}]": value for name, value in texts.items()}).encode(), FORM)

    fields = read_ticket(read_properties(as_json, "ticket"))
    assert fields == read_ticket(read_properties(as_form, "ticket"))
    assert list(fields.values()) == list(properties.values())


@pytest.mark.parametrize("customer", [7, "7", "customers/7"])
def test_a_customer_is_an_id_or_a_link(customer: object) -> None:
    assert read_ticket({"customer": customer}) == {"customer": 7}


@pytest.mark.parametrize("customer", [None, False, ""])
def test_no_customer_has_many_forms(customer: object) -> None:
    assert read_ticket({"customer": customer}) == {"customer": None}


def test_what_a_client_may_not_set_is_left_out() -> None:
    assert read_ticket({"id": 1, "createdAt": "2026-01-01", "colour": "red", "isTodo": "true"}) == {
        "is_todo": True
    }


@pytest.mark.parametrize(
    "properties",
    [
        {"isClosed": "yes"},
        {"isClosed": None},
        {"isClosed": [True]},
        {"subject": 5},
        {"memo": None},
        {"customer": "customers/anna"},
        {"customer": -1},
        {"customer": True},
        {"customer": [1]},
    ],
)
def test_a_value_of_the_wrong_kind_is_named(properties: dict[str, object]) -> None:
    (name,) = properties
    with pytest.raises(ValueError, match=name):
        read_ticket(properties)


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (b"", "application/json"),
        (b"{", "application/json"),
        (b"[]", "application/json"),
        (b'{"ticket": 5}', "application/json"),
        (b'{"tickets": {}}', "application/json"),
        (b"", FORM),
        (b"subject=Hello", FORM),
        (b"message[subject]=Hello", FORM),
    ],
)
def test_a_body_without_its_object_is_a_bad_request(body: bytes, content_type: str) -> None:
    with pytest.raises(ApiError) as caught:
        read_properties(write(body, content_type), "ticket")
    assert caught.value.status == 400


def test_staff_sets_more_and_may_not_mistype() -> None:
    fields = read_staff_ticket({"createdAt": "2026-01-01T00:00:00+01:00", "language": "nl", "isTodo": True})
    assert fields == {"created_at": 1_767_222_000, "language": "nl", "is_todo": True}
    for wrong in ({"is_closed": True}, {"language": "xx"}, {"createdAt": "2026-01-01T00:00:00"}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            read_staff_ticket(wrong)
