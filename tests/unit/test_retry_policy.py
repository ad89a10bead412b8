"""Whether and when a failed task is tried again."""

from __future__ import annotations

import importlib
from datetime import UTC, datetime, timedelta

import pytest

from airflow_provider_lightspeed.api.errors import (
    LightspeedAuthenticationError,
    LightspeedConfigurationError,
    LightspeedConnectionError,
    LightspeedInvalidRequestError,
    LightspeedQuotaExhaustedError,
    LightspeedServerError,
    LightspeedUnknownOutcomeError,
)

_ANSWER = {"status": 0, "message": "no", "method": "GET", "path": "/en/tickets.json"}


@pytest.mark.airflow(since="3.3")
@pytest.mark.parametrize(
    ("error", "action"),
    [
        (LightspeedAuthenticationError(**_ANSWER), "fail"),
        (LightspeedConfigurationError("no such zone"), "fail"),
        (LightspeedInvalidRequestError(**_ANSWER), "fail"),
        (LightspeedUnknownOutcomeError("the answer was lost"), "fail"),
        (LightspeedServerError(**_ANSWER), "default"),
        (LightspeedConnectionError("timed out"), "default"),
        (ValueError("of the user's own"), "default"),
    ],
)
def test_what_is_decided(error: Exception, action: str) -> None:
    from airflow_provider_lightspeed.retry_policy import LightspeedRetryPolicy

    decision = LightspeedRetryPolicy().evaluate(error, 1, 3)
    assert decision.action.value == action
    assert decision.reason == (str(error) if action == "fail" else None)


@pytest.mark.airflow(since="3.3")
@pytest.mark.parametrize("seconds", [-5, 0, 40, 80_000])
def test_the_next_try_is_when_the_quota_is_back(seconds: int) -> None:
    from airflow_provider_lightspeed.retry_policy import LightspeedRetryPolicy

    until = datetime.now(UTC) + timedelta(seconds=seconds)
    decision = LightspeedRetryPolicy().evaluate(LightspeedQuotaExhaustedError("used up", until=until), 1, 3)
    assert decision.action.value == "retry"
    assert decision.retry_delay is not None
    assert until < datetime.now(UTC) + decision.retry_delay
    assert decision.retry_delay <= timedelta(seconds=max(seconds, 0) + 1)


@pytest.mark.airflow(before="3.3")
def test_older_versions_say_what_is_needed() -> None:
    with pytest.raises(ImportError, match=r"needs Airflow 3\.3 or newer"):
        importlib.import_module("airflow_provider_lightspeed.retry_policy")
