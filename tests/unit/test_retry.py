"""The verdicts on failures, in pure code."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_lightspeed.api import errors, retry
from airflow_provider_lightspeed.api.retry import POLICY, Decision, Failure, backoff, classify, is_transient

ANSWER: dict[str, Any] = {"message": "no", "method": "GET", "path": "/tickets.json"}


def test_every_failure_of_every_method_has_a_decision() -> None:
    assert set(POLICY) == {"GET", "PUT", "DELETE", "POST"}
    for decisions in POLICY.values():
        assert set(decisions) == set(Failure)
    assert not {Decision.UNKNOWN} & set(POLICY["GET"].values())


def test_a_creation_is_sent_again_only_where_it_surely_did_not_happen() -> None:
    again = {
        failure for failure, decision in POLICY["POST"].items() if decision in {Decision.RETRY, Decision.WAIT}
    }
    assert again == {Failure.NOT_CONNECTED, Failure.RATE_LIMITED}


def test_a_creation_fails_for_good_only_where_it_surely_did_not_happen() -> None:
    surely = {failure for failure, decision in POLICY["POST"].items() if decision is not Decision.UNKNOWN}
    assert surely == {
        Failure.NOT_CONNECTED,
        Failure.UNTRUSTED,
        Failure.RATE_LIMITED,
        Failure.REFUSED,
        Failure.NOT_FOUND_FOR_NOW,
    }


@pytest.mark.parametrize(
    ("kind", "explained", "failure"),
    [
        (errors.LightspeedAuthenticationError, True, Failure.REFUSED),
        (errors.LightspeedAuthenticationError, False, Failure.REFUSED),
        (errors.LightspeedGatewayError, False, Failure.GATEWAY),
        (errors.LightspeedRedirectError, False, Failure.REDIRECTED),
        (errors.LightspeedInvalidRequestError, True, Failure.REFUSED),
    ],
)
def test_only_the_api_itself_refuses_a_call_for_good(
    kind: type[errors.LightspeedAPIError], explained: bool, failure: Failure
) -> None:
    status = 401 if kind is errors.LightspeedAuthenticationError else 400
    assert classify(kind(status=status, explained=explained, **ANSWER)) is failure


def test_a_proxy_that_wants_a_password_has_passed_nothing_on() -> None:
    error = errors.LightspeedInvalidRequestError(status=407, explained=False, **ANSWER)
    assert classify(error) is Failure.REFUSED


def test_classify_knows_every_error() -> None:
    assert classify(errors.LightspeedWrongTicketError("", requested=7, received=8)) is Failure.WRONG_TICKET
    assert classify(errors.LightspeedConnectionError("", retryable=False)) is Failure.TOO_LARGE
    assert classify(errors.LightspeedConnectionError("", retryable=False, sent=False)) is Failure.UNTRUSTED
    assert classify(errors.LightspeedError("anything")) is Failure.REFUSED


@pytest.mark.parametrize(
    ("status", "failure"),
    [
        (400, Failure.REFUSED),
        (408, Failure.SERVER),
        (409, Failure.REFUSED),
        (429, Failure.RATE_LIMITED),
        (499, Failure.REFUSED),
        (500, Failure.SERVER),
        (503, Failure.SERVER),
    ],
)
def test_classify_by_status(status: int, failure: Failure) -> None:
    error = errors.LightspeedAPIError(status=status, message="", method="GET", path="/")
    assert classify(error) is failure


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (errors.LightspeedConnectionError("dropped"), True),
        (errors.LightspeedConnectionError("bad certificate", retryable=False), False),
        (errors.LightspeedMalformedResponseError("maintenance page"), True),
        (errors.LightspeedServerError(status=503, **ANSWER), True),
        (errors.LightspeedRateLimitError(status=429, **ANSWER), True),
        (errors.LightspeedQuotaExhaustedError("used up", until=datetime(2026, 1, 1, tzinfo=UTC)), True),
        (errors.LightspeedAuthenticationError(status=401, **ANSWER), False),
        (errors.LightspeedNotFoundError(status=404, **ANSWER), False),
        (errors.LightspeedConfigurationError("no key"), False),
        (errors.LightspeedIncompleteListError("moving", seen=3), False),
    ],
)
def test_what_may_pass(error: errors.LightspeedError, expected: bool) -> None:
    assert is_transient(error) is expected


def test_backoff_doubles_up_to_its_cap() -> None:
    assert [backoff(tries, 1.0) for tries in range(1, 9)] == [0.5, 1, 2, 4, 8, 16, 30, 30]


@given(st.integers(1, 2_000), st.floats(0, 1))
def test_backoff_has_full_jitter_and_a_cap(tries: int, chance: float) -> None:
    tries = min(tries, 1_000)
    assert 0 <= backoff(tries, chance) <= min(retry.MAX_BACKOFF, 0.5 * 2 ** (tries - 1))
    assert backoff(tries, 0.0) == 0
