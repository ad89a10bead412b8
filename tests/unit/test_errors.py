"""What the exceptions carry for those who catch them."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from airflow_provider_lightspeed.api import errors


def test_an_exhausted_quota_says_when_calls_are_possible_again() -> None:
    until = datetime(2026, 3, 1, tzinfo=UTC)
    assert errors.LightspeedQuotaExhaustedError("used up", until=until).until == until


@pytest.mark.parametrize(
    ("expected", "told"), [(None, "(7 tickets read)"), (0, "(7 tickets read, 0 expected)")]
)
def test_an_incomplete_list_says_how_much_of_it_was_read(expected: int | None, told: str) -> None:
    error = errors.LightspeedIncompleteListError("no order", seen=7, expected=expected)
    assert str(error) == f"no order {told}"
    assert (error.seen, error.expected) == (7, expected)
    many = errors.LightspeedIncompleteListError("cut", seen=2328, expected=2400)
    assert str(many) == "cut (2,328 tickets read, 2,400 expected)"
    assert str(errors.LightspeedIncompleteListError("cut", seen=7, of="message")) == "cut (7 messages read)"


def test_a_refusal_says_what_was_asked_and_what_to_do() -> None:
    error = errors.LightspeedAPIError(status=401, message="No.", method="GET", path="/x.json", hint="Check.")
    assert str(error) == "GET /x.json was answered 401: No. Check."
    assert (error.status, error.message, error.method, error.path) == (401, "No.", "GET", "/x.json")
    assert str(errors.LightspeedAPIError(status=500, message="No.", method="PUT", path="/y")).endswith(
        "500: No."
    )


def test_a_connection_error_may_have_reached_the_shop_unless_it_says_otherwise() -> None:
    error = errors.LightspeedConnectionError("dropped")
    assert (error.sent, error.retryable) == (True, True)
