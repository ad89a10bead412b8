"""What leaves the shop."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable
from typing import Any

import pyarrow.parquet as pq
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from airflow_provider_lightspeed.api.errors import LightspeedConfigurationError
from airflow_provider_lightspeed.formats import FORMATS, Layout, make_format
from airflow_provider_lightspeed.formats.properties import MESSAGE as MESSAGE_SHAPE
from airflow_provider_lightspeed.formats.properties import TICKET as TICKET_SHAPE
from airflow_provider_lightspeed.formats.properties import Found, Shape, unknown
from airflow_provider_lightspeed.transfers.redaction import Redaction

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
MESSAGE: dict[str, Any] = {
    "id": 3,
    "createdAt": "2026-01-01T00:00:00+00:00",
    "updatedAt": None,
    "from": "customer",
    "message": "I live in Elm Street",
    "sender": {"email": "a@example.com"},
}
CONVERSATION = {**TICKET, "messages": [MESSAGE, {**MESSAGE, "id": 4, "from": "shop"}]}


def test_without_wishes_nothing_changes() -> None:
    assert Redaction().apply(TICKET) == TICKET


def test_fields_are_dropped_by_either_name() -> None:
    assert Redaction(["customer_id", "subject", "extra.phone"]).apply(TICKET).keys() == {
        "id",
        "createdAt",
        "memo",
        "age",
    }
    assert "age" not in Redaction(["extra"]).apply(TICKET)


def test_the_same_customer_stays_joinable_and_is_nowhere_to_be_read() -> None:
    redaction = Redaction(hashed=["customer_id", "subject", "memo", "extra.phone"], key=KEY)
    hashed = redaction.apply(TICKET)
    assert "4711" not in json.dumps(hashed)
    assert "0031" not in json.dumps(hashed)
    assert hashed["memo"] == ""
    assert hashed["customer"] == redaction.apply({**TICKET, "id": 2})["customer"]
    assert hashed["customer"] != Redaction(hashed=["customer"], key=KEY[::-1]).apply(TICKET)["customer"]
    assert redaction.apply({"id": 1, "customer": False}) == {"id": 1, "customer": False}
    made = make_format(Layout("csv", text=redaction.text_columns, exclude=redaction.exclude))
    assert hashed["customer"]["resource"]["id"].encode() in made.encode([hashed])


def test_what_was_said_is_dropped_and_that_it_was_said_stays() -> None:
    first, second = Redaction(["messages.message", "messages.extra"]).apply(CONVERSATION)["messages"]
    assert first == {name: MESSAGE[name] for name in ("id", "createdAt", "updatedAt", "from")}
    assert (second["id"], second["from"]) == (4, "shop")
    assert "messages" not in Redaction(["messages"]).apply(CONVERSATION)
    assert Redaction(["messages.message"]).apply(TICKET) == TICKET
    relation = {"messages": {"resource": {"id": False, "url": "tickets/1/messages", "link": "x"}}}
    assert Redaction(["messages.message"]).apply(TICKET | relation) == TICKET | relation


def test_the_same_text_has_the_same_hash_and_is_nowhere_to_be_read() -> None:
    redaction = Redaction(hashed=["messages.message", "messages.extra.sender"], key=KEY)
    first, second = redaction.apply(CONVERSATION)["messages"]
    assert first["message"] == second["message"] != redaction.apply({**TICKET, "subject": "x"})["subject"]
    assert "Elm Street" not in json.dumps(first)
    assert "example.com" not in json.dumps(first)
    assert first["createdAt"] == MESSAGE["createdAt"]


def test_what_the_vendor_may_add_one_day_stays_out_of_messages_too() -> None:
    (message, _) = Redaction(["extra"]).apply(CONVERSATION)["messages"]
    assert message == {name: value for name, value in MESSAGE.items() if name != "sender"}


@pytest.mark.parametrize("file_format", list(FORMATS))
def test_columns_of_messages(file_format: str) -> None:
    redaction = Redaction(["messages.message", "messages.updated_at"])
    made = make_format(
        Layout(
            file_format,
            flatten=True,
            include_messages=True,
            exclude=redaction.exclude,
            text=redaction.text_columns,
        )
    )
    data = b"".join(made.finish([made.encode([redaction.apply(CONVERSATION)])]))
    if file_format == "parquet":
        messages = pq.read_table(io.BytesIO(data)).column("messages").to_pylist()[0]
        assert (
            made.fields()["messages"]
            == "array<struct<id:bigint,created_at:timestamp,from:string,extra:string>>"
        )
    elif file_format == "csv":
        messages = json.loads(next(csv.DictReader(io.StringIO(data.decode())))["messages"])
    else:
        messages = json.loads(data)["messages"]
    assert [list(message) for message in messages] == [["id", "created_at", "from", "extra"]] * 2


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ({"exclude": ["messages.mesage"]}, "'messages.mesage' is not a field.*messages.message"),
        ({"exclude": ["messages.id"]}, "'messages.id' is not a field"),
        (
            {"hashed": ["messages"], "key": KEY},
            "'messages' can't be hashed. Fields that can: .*messages.message",
        ),
        ({"hashed": ["messages.from"], "key": KEY}, "'messages.from' can't be hashed"),
        # As the user wrote it, and with the fields that can be hashed alone.
        ({"hashed": ["created_at"], "key": KEY}, "'created_at' can't be hashed"),
        (
            {"hashed": ["custmer"], "key": KEY},
            "'custmer' is not a field. Fields that can be hashed: customer, subject, memo, messages.message, "
            "extra.NAME, messages.extra.NAME$",
        ),
        ({"exclude": ["custmer"]}, "'custmer' is not a field"),
        ({"exclude": ["id"]}, "tickets always keep it"),
        ({"hashed": ["isClosed"], "key": KEY}, "'isClosed' can't be hashed"),
        (
            {"hashed": ["customer"]},
            "needs a key, and none is set. Set it in the Lightspeed connection's extra hash_secret, .* or name another "
            "Variable with hash_secret_variable$",
        ),
        ({"hashed": ["customer"], "key": "short"}, "has 5 characters and needs 16.*extra hash_secret"),
        # The connection, and the Variable that is read without a name, would not count.
        (
            {"hashed": ["customer"], "key_variable": "ours"},
            r"needs a key, and none is set. Set the Airflow Variable 'ours' \(hash_secret_variable\)$",
        ),
        (
            {"hashed": ["customer"], "key": "short", "key_variable": "ours"},
            r"can be guessed. Set the Airflow Variable 'ours' \(hash_secret_variable\)$",
        ),
        (
            {"exclude": ["extra.customer.resource.embedded.email"]},
            "'extra.customer.resource.embedded.email' is not a field: only the complete property "
            "`extra.customer.resource.embedded` can be excluded or hashed",
        ),
        (
            {"hashed": ["extra.phone.home"], "key": KEY},
            "only the complete property `extra.phone` can be excluded or hashed",
        ),
        (
            {"exclude": ["messages.extra.sender.email"]},
            "only the complete property `messages.extra.sender` can be excluded or hashed",
        ),
        ({"exclude": ["extra.subject"]}, "'extra.subject' is not a field: use `subject`"),
        ({"exclude": ["extra.created_at"]}, "use `createdAt`"),
        ({"exclude": ["extra.customer.resource.id"]}, "use `customer`"),
        ({"exclude": ["extra.customer.resource.id.number"]}, "use `customer`"),
        ({"exclude": ["extra.language.code"]}, "use `language`"),
        ({"exclude": ["messages.extra.message"]}, "use `messages.message`"),
        ({"hashed": ["extra.memo"], "key": KEY}, "use `memo`"),
        # No advice that would be refused too.
        (
            {"hashed": ["extra.language.code"], "key": KEY},
            "'extra.language.code' is not a field. Fields that can",
        ),
        ({"exclude": ["extra.id"]}, "tickets always keep it"),
        ({"exclude": ["messages.extra.id"]}, "messages always keep it"),
        ({"exclude": ["extra."]}, "'extra.' is not a field. Fields"),
        ({"exclude": ["extra.customer."]}, "'extra.customer.' is not a field. Fields"),
        ({"exclude": ["extra..phone"]}, "'extra..phone' is not a field. Fields"),
    ],
)
def test_slips_are_refused(arguments: dict[str, Any], complaint: str) -> None:
    with pytest.raises(LightspeedConfigurationError, match=complaint):
        Redaction(**arguments)


EMBEDDED: dict[str, Any] = {
    **TICKET,
    "customer": {
        "resource": {
            "id": 4711,
            "url": "customers/4711",
            "link": "x",
            "embedded": {"email": "a@example.com"},
        },
        "vip": True,
    },
    "language": {"id": 1, "code": "nl", "dialect": "Flemish"},
    "messages": {"resource": {"id": False, "embedded": [{"id": 3, "message": "I live in Elm Street"}]}},
}


@pytest.mark.parametrize(
    "field",
    ["extra", "extra.customer", "extra.customer.resource", "extra.customer.resource.embedded", "customer"],
)
def test_an_embedded_customer_is_dropped(field: str) -> None:
    kept = Redaction([field]).apply(EMBEDDED)
    assert "a@example.com" not in json.dumps(kept)
    assert ("customer" in kept) == (field != "customer")
    assert kept.get("customer", EMBEDDED["customer"])["resource"]["id"] == 4711
    assert EMBEDDED["customer"]["resource"]["embedded"]["email"] == "a@example.com"


def test_only_the_named_property_of_an_embedded_object_is_dropped() -> None:
    kept = Redaction(["extra.customer.resource.embedded"]).apply(EMBEDDED)
    assert kept["customer"]["vip"] is True
    assert kept["language"] == EMBEDDED["language"]
    assert "dialect" not in Redaction(["extra"]).apply(EMBEDDED)["language"]


@pytest.mark.parametrize("field", ["customer", "extra.customer", "extra.customer.resource"])
def test_an_embedded_customer_is_hashed(field: str) -> None:
    hashed = Redaction(hashed=[field], key=KEY).apply(EMBEDDED)
    assert "a@example.com" not in json.dumps(hashed)
    assert hashed["language"] == EMBEDDED["language"]


_STEPS = st.sampled_from([
    "id",
    "subject",
    "message",
    "customer",
    "language",
    "messages",
    "resource",
    "code",
    "embedded",
    "phone",
])
_ITEMS: st.SearchStrategy[dict[str, Any]] = st.dictionaries(
    _STEPS,
    st.recursive(st.just("personal"), lambda inner: st.dictionaries(_STEPS, inner, min_size=1), max_leaves=8),
    min_size=1,
)


@st.composite
def _named(draw: st.DrawFn) -> tuple[dict[str, Any], list[str]]:
    """An object, and the path of one of its values."""
    item = draw(_ITEMS)
    steps: list[str] = []
    value: Any = item
    while isinstance(value, dict) and value and (not steps or draw(st.booleans())):
        steps.append(draw(st.sampled_from(sorted(value))))
        value = value[steps[-1]]
    return item, steps


def _at(item: Any, steps: Iterable[str]) -> Any:
    for step in steps:
        item = item.get(step) if isinstance(item, dict) else None
    return item


def _named_values(value: Any, shape: Shape | None) -> Found:
    """What a name stands for: the value, or what a known object has besides its own properties."""
    return unknown(value, shape) if shape and isinstance(value, dict) else [((), value)]


@pytest.mark.parametrize("hashed", [False, True])
@pytest.mark.parametrize("prefix", ["", "messages."])
@given(named=_named())
def test_no_accepted_name_lets_its_value_through(
    prefix: str, hashed: bool, named: tuple[dict[str, Any], list[str]]
) -> None:
    item, steps = named
    name = f"{prefix}extra.{'.'.join(steps)}"
    try:
        redaction = Redaction(hashed=[name], key=KEY) if hashed else Redaction([name])
    except LightspeedConfigurationError:
        assume(False)
    kept = redaction.apply({"messages": [item]})["messages"][0] if prefix else redaction.apply(item)
    shape = _at(MESSAGE_SHAPE if prefix else TICKET_SHAPE, steps)
    for path, value in _named_values(_at(item, steps), shape):
        assert _at(kept, [*steps, *path]) != value


@pytest.mark.parametrize(
    "arguments", [{"exclude": ["messages.message"]}, {"hashed": ["messages.message"], "key": KEY}]
)
def test_messages_inside_their_relation_do_not_carry_a_redacted_text_out(arguments: dict[str, Any]) -> None:
    assert "Elm Street" not in json.dumps(Redaction(**arguments).apply(EMBEDDED))


def test_digests_of_what_stays_in_the_shop_have_a_key() -> None:
    assert Redaction().digest_key("secret") == b""
    keys = {
        Redaction(exclude=["memo"]).digest_key("secret"),
        Redaction(exclude=["memo"]).digest_key("another secret"),
        Redaction(hashed=["memo"], key="k" * 16).digest_key("secret"),
        Redaction(hashed=["memo"], key="l" * 16).digest_key("secret"),
    }
    assert len(keys) == 4
    assert {len(key) for key in keys} == {32}
    assert Redaction(hashed=["memo"], key="k" * 16).digest_key("another secret") in keys


@pytest.mark.parametrize(
    "names", ["subject", "subject,memo", "[]", {"subject": 1}.values(), [None], ["subject", 1], 5, b"subject"]
)
@pytest.mark.parametrize("argument", ["exclude", "hashed"])
def test_fields_that_are_no_list_of_names(argument: str, names: Any) -> None:
    with pytest.raises(LightspeedConfigurationError, match="_fields must be a list of fields, such as"):
        Redaction(**{argument: names})
