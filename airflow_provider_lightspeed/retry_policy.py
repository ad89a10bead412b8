"""When Airflow tries a failed task again: ``retry_policy=LightspeedRetryPolicy()``. Needs Airflow 3.3."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

try:
    from airflow.sdk import RetryDecision, RetryPolicy
except ImportError as error:
    raise ImportError(
        "LightspeedRetryPolicy needs Airflow 3.3 or newer, which brought retry policies. On older versions wrong "
        "credentials and wrong arguments are not retried either; set retry_delay for the rest."
    ) from error

from airflow_provider_lightspeed.api.errors import (
    LightspeedInvalidRequestError,
    LightspeedPermanentError,
    LightspeedQuotaExhaustedError,
    LightspeedUnknownOutcomeError,
)

if TYPE_CHECKING:
    from airflow_provider_lightspeed._airflow import Context

# Another try would end the same way, or write a second time.
_FINAL = (
    LightspeedPermanentError,
    LightspeedInvalidRequestError,
    LightspeedUnknownOutcomeError,
)
# Clocks differ: a try that starts a moment early would fail for the same quota.
_MARGIN = timedelta(seconds=1)


class LightspeedRetryPolicy(RetryPolicy):
    """Decide, by the error, whether and when Airflow retries a task.

    For the provider's operators and for your own ``@task`` functions that use ``LightspeedHook``.

    - Wrong credentials, a wrong connection, a request that the shop refuses: fail at once.
    - A write whose outcome is unknown: fail at once, since another try could reach the customer twice.
    - The quota is used up: try again when it is back, and not before.
    - Anything else: as the task's ``retries`` and ``retry_delay`` say.

    The task's ``retries`` remain the upper limit.
    """

    def evaluate(
        self,
        exception: BaseException,
        try_number: int,  # ruff: ignore[unused-method-argument] - Airflow's signature
        max_tries: int,  # ruff: ignore[unused-method-argument]
        context: Context | None = None,  # ruff: ignore[unused-method-argument]
    ) -> RetryDecision:
        """Decide on one failure.

        :param exception: what the task raised.
        :param try_number: not used, as the arguments after it.
        """
        if isinstance(exception, _FINAL):
            return RetryDecision.fail(reason=str(exception))
        if isinstance(exception, LightspeedQuotaExhaustedError):
            delay = max(exception.until - datetime.now(UTC), timedelta(0)) + _MARGIN
            return RetryDecision.retry(delay=delay, reason=str(exception))
        return RetryDecision.default()
