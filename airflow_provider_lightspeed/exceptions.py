"""All exceptions of the provider: what a call raises, what a task raises, and which end a retry or a resumption."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from contextlib import contextmanager

from airflow_provider_lightspeed._airflow import AirflowException, AirflowFailException
from airflow_provider_lightspeed.api.errors import (
    LightspeedAPIError,
    LightspeedAuthenticationError,
    LightspeedConfigurationError,
    LightspeedConnectionError,
    LightspeedError,
    LightspeedGatewayError,
    LightspeedIncompleteListError,
    LightspeedInvalidRequestError,
    LightspeedMalformedResponseError,
    LightspeedNotFoundError,
    LightspeedPermanentError,
    LightspeedQuotaExhaustedError,
    LightspeedRateLimitError,
    LightspeedRedirectError,
    LightspeedResponseTooLargeError,
    LightspeedServerError,
    LightspeedTooLateError,
    LightspeedUnknownLanguageError,
    LightspeedUnknownOutcomeError,
    LightspeedWrongTicketError,
)

__all__ = [
    "LightspeedAPIError",
    "LightspeedAuthenticationError",
    "LightspeedConfigurationError",
    "LightspeedConnectionError",
    "LightspeedError",
    "LightspeedGatewayError",
    "LightspeedIncompleteListError",
    "LightspeedInvalidRequestError",
    "LightspeedMalformedResponseError",
    "LightspeedNotFoundError",
    "LightspeedPermanentError",
    "LightspeedQuotaExhaustedError",
    "LightspeedRateLimitError",
    "LightspeedRedirectError",
    "LightspeedResponseTooLargeError",
    "LightspeedServerError",
    "LightspeedStagingLostError",
    "LightspeedStaleChangesError",
    "LightspeedStorageError",
    "LightspeedTaskFailed",
    "LightspeedTicketsFailed",
    "LightspeedTooLateError",
    "LightspeedUnknownLanguageError",
    "LightspeedUnknownOutcomeError",
    "LightspeedWrongTicketError",
    "fail_without_retry",
]


class LightspeedTaskFailed(AirflowFailException):
    """The task fails without a retry, since another try would fail too. The message says what to correct."""


class LightspeedTicketsFailed(AirflowException):
    """Some tickets could not be changed; the others were. Let Airflow retry: it changes only the rest.

    :param failed: the reason for each ticket id.
    """

    def __init__(self, message: str, failed: Mapping[str, str]) -> None:
        super().__init__(message)
        self.failed = dict(failed)


class LightspeedStorageError(AirflowException):
    """S3 failed. The message says what is kept. Let Airflow retry."""


class LightspeedStaleChangesError(AirflowException):
    """A log of changes is too old, or its parts do not match. Run the sync task, then check again."""


class LightspeedStagingLostError(LightspeedStorageError):
    """The staged parts of an export are gone, for example by a lifecycle rule. The next try starts over."""


#: After these, a try that resumed an earlier one would fail alike: the next one starts over.
NOT_RESUMABLE = (
    LightspeedConfigurationError,
    LightspeedIncompleteListError,
    LightspeedStagingLostError,
    LightspeedTaskFailed,
)


@contextmanager
def fail_without_retry() -> Generator[None]:
    """Turn wrong credentials and wrong arguments into a failure that Airflow does not retry.

    Usable as a decorator on ``execute`` and ``poke``. Retrying wrong credentials could get the key blocked.

    :raises LightspeedTaskFailed: from a :class:`LightspeedPermanentError`.
    """
    try:
        yield
    except LightspeedPermanentError as error:
        raise LightspeedTaskFailed(str(error)) from None
