"""What users and templates write is read as meant, or refused in words that help."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pendulum
import pytest

from airflow_provider_lightspeed._arguments import (
    parse_instant,
    parse_number,
    parse_text,
    parse_ticket_filter,
    parse_ticket_ids,
    record_passed,
    require_rendered,
)
from airflow_provider_lightspeed.api.errors import LightspeedConfigurationError

NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    "value",
    [
        "2026-01-31T12:00:00+00:00",
        "2026-01-31 12:00:00+00:00",
        "2026-01-31T12:00:00Z",
        "2026-01-31T14:00:00+02:00",
        NOON,
        pendulum.datetime(2026, 1, 31, 13, tz="Europe/Amsterdam"),
    ],
)
def test_instants(value: Any) -> None:
    assert parse_instant("created_from", value) == NOON


@pytest.mark.parametrize(
    ("value", "complaint"),
    [
        # As it was given: a reader looks for it in the DAG.
        ("2026-01-31T12:00:00", "zone, got '2026-01-31T12:00:00'; add"),
        ("2026-01-31 12:00", "zone, got '2026-01-31 12:00'; add"),
        ("2026-01-31", "zone, got '2026-01-31'; add"),
        (datetime(2026, 1, 31), "zone, got 2026-01-31 00:00:00; add"),  # ruff: ignore[call-datetime-without-tzinfo] - the case that is tested
        ("", "CronDataIntervalTimetable"),
        ("None", "CronDataIntervalTimetable"),
        ("yesterday", "ISO 8601 .*, got 'yesterday'$"),
        (" now ", "ISO 8601 .*, got ' now '$"),
    ],
)
def test_no_instants(value: Any, complaint: str) -> None:
    with pytest.raises(LightspeedConfigurationError, match=f"created_from .*{complaint}"):
        parse_instant("created_from", value)


@pytest.mark.parametrize("to", ["2026-01-31T12:00:00Z", "2026-01-31T11:59:59Z"])
def test_an_empty_or_reversed_window(to: str) -> None:
    with pytest.raises(LightspeedConfigurationError, match="empty or reversed"):
        parse_ticket_filter(created_from=NOON, created_to=to)


@pytest.mark.parametrize("since_id", ["", "None", "abc", "-1", -1, 1.5, True])
def test_no_since_id(since_id: Any) -> None:
    with pytest.raises(LightspeedConfigurationError, match="since_id"):
        parse_ticket_filter(since_id=since_id)


@pytest.mark.parametrize(
    "email",
    [
        "null",
        "nan",
        "undefined",
        "*",
        "%",
        "a@",
        "@b.nl",
        "a@b@c",
        "a@b.nl,c@d.nl",
        "a@b.nl; c@d.nl",
        "a b@c.nl",
    ],
)
def test_what_is_no_address_of_one_customer_chooses_no_tickets(email: str) -> None:
    with pytest.raises(LightspeedConfigurationError, match="must be one address") as caught:
        parse_ticket_filter(email=email)
    assert email not in str(caught.value) or email in {"*", "%", "a@", "@b.nl"}


@pytest.mark.parametrize("email", ["a@b", "o'neil+x@example.co.uk", "jörg@bücher.example"])
def test_the_address_of_a_customer(email: str) -> None:
    assert parse_ticket_filter(email=email).email == email


@pytest.mark.parametrize(
    ("value", "ids"),
    [
        ([3, 1, 3, 2], [3, 1, 2]),
        (("3", 1, "1"), [3, 1]),
        ("3,1, 2", [3, 1, 2]),
        ("[3, 1]", [3, 1]),
        ("['3', '1']", [3, 1]),
        ({"ticket_ids": [3, 1], "count": 2}, [3, 1]),
        ("{'ticket_ids': [3, 1], 'count': None}", [3, 1]),
        ('{"ticket_ids": [3], "max_id": null}', [3]),
        (iter([3, 1]), [3, 1]),
        (3, [3]),
        ("3", [3]),
        ([], []),
        ("[]", []),
        ({"ticket_ids": []}, []),
    ],
)
def test_ticket_ids(value: Any, ids: list[int]) -> None:
    assert parse_ticket_ids(value) == ids


@pytest.mark.parametrize(
    "value",
    [
        None,
        "",
        "None",
        "abc",
        "1,,2",
        "[1",
        [1, None],
        [1, "x"],
        [0],
        [-1],
        [1.0],
        [True],
        True,
        {"ids": [1]},
        ["1/../2"],
        {"ticket_ids": "1"},
        b"123",
        bytearray(b"123"),
        memoryview(b"123"),
        [b"123"],
        {"ticket_ids": b"123"},
    ],
)
def test_no_ticket_ids(value: Any) -> None:
    with pytest.raises(LightspeedConfigurationError):
        parse_ticket_ids(value)


class _Word(str):
    """A text that prints as something else."""

    def __str__(self) -> str:
        return "<a word>"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (" Late\n", " Late\n"),
        ("", ""),
        (_Word("Late"), "Late"),
        (1001, "1001"),
        (-0.5, "-0.5"),
        (True, "True"),
    ],
)
def test_texts(value: Any, text: str) -> None:
    read = parse_text("message", value)
    assert (type(read), read) == (str, text)


@pytest.mark.parametrize(
    "value",
    [
        ["Dear Ada"],
        ("Dear Ada",),
        {"text": "Dear Ada"},
        b"Dear Ada",
        range(3),
        object(),
        None,
        1 + 2j,
        float("nan"),
        float("inf"),
    ],
)
def test_no_texts(value: Any) -> None:
    with pytest.raises(LightspeedConfigurationError, match=r"^message must be a text, got ") as caught:
        parse_text("message", value)
    assert "Ada" not in str(caught.value)


class _Operator:
    _BaseOperator__from_mapped = False

    @record_passed
    def __init__(self, *, message: Any, memo: Any = "", email: Any = None) -> None:
        self.message, self.memo, self.email = message, memo, email


def test_none_is_no_value_of_an_argument_that_is_required_or_has_another_default() -> None:
    names = ("message", "memo", "email")
    require_rendered(_Operator(message="m", email=None), *names)
    for wrong in ({"message": None}, {"message": "m", "memo": None}, {"message": "m", "email": "None"}):
        with pytest.raises(LightspeedConfigurationError, match=f"{list(wrong)[-1]} is empty after rendering"):
            require_rendered(_Operator(**wrong), *names)


def test_none_is_a_missing_value_in_a_mapped_task(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_Operator, "_BaseOperator__from_mapped", True)
    with pytest.raises(LightspeedConfigurationError, match="email is empty after rendering"):
        require_rendered(_Operator(message="m", email=None), "email")


class _Int64:
    """A whole number that is no int, as NumPy and pandas have them."""

    def __index__(self) -> int:
        return 7


@pytest.mark.parametrize("value", [7, _Int64()])
def test_whole_numbers(value: Any) -> None:
    number = parse_number("max_tickets", value)
    assert (number, type(number)) == (7, int)


@pytest.mark.parametrize("value", ["7", 7.0, True, None, [7]])
def test_no_whole_numbers(value: Any) -> None:
    with pytest.raises(LightspeedConfigurationError, match="max_tickets must be a whole number, got"):
        parse_number("max_tickets", value)
