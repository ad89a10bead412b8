"""Whether a failed call may be tried again, and how long to wait before: one table for all methods.

docs/failures.md tells the same to operators; its table is what the tests over HTTP run.
"""

from __future__ import annotations

from enum import Enum

from airflow_provider_lightspeed.api.errors import (
    LightspeedAPIError,
    LightspeedConnectionError,
    LightspeedError,
    LightspeedMalformedResponseError,
    LightspeedNotFoundError,
    LightspeedQuotaExhaustedError,
    LightspeedUnknownLanguageError,
)

#: Tries for one call, the first included.
MAX_ATTEMPTS = 6
#: Refusals by 429 that one call puts up with; a wait for a known reset comes before each.
MAX_RATE_LIMITED = 10
#: No further try is made once a call has failed for so many seconds; waits for the quota don't count.
MAX_ELAPSED = 600.0
#: A failed call (not a 429) waits no longer than this for its next try, whatever ``Retry-After`` says: all tries are
#: to fit into the time above.
MAX_RETRY_AFTER = 60.0
#: Wait at least so long after a 429 that does not say how long: the limit of calls a second.
MIN_RATE_LIMIT_DELAY = 1.0
#: Exponential back-off with full jitter, in seconds.
FIRST_BACKOFF = 0.5
MAX_BACKOFF = 30.0


class Failure(Enum):
    """What went wrong, as far as the next step depends on it."""

    NOT_CONNECTED = "no connection was made"
    UNTRUSTED = "the certificate does not verify, or the address is no address"
    TOO_LARGE = "the answer is larger than any that makes sense"
    DROPPED = "the connection broke, or the answer did not come in time"
    MALFORMED = "a success whose body is cut off, empty, HTML, broken JSON, or lacks its key"
    RATE_LIMITED = "429"
    SERVER = "5xx or 408, or a success with an error object that names none or such a code"
    NOT_FOUND_FOR_NOW = "404 where it can't be the truth: see LightspeedNotFoundError.gone"
    REFUSED = "3xx, 400, 401, 403, 404, 405, 409, 422 and any other"


class Decision(Enum):
    """What the client does about it."""

    RETRY = "tries again, with back-off"
    WAIT = "waits as the answer says, then tries again"
    RAISE = "fails at once"
    UNKNOWN = "fails with LightspeedUnknownOutcomeError: it may have happened"


_ALWAYS = {
    Failure.NOT_CONNECTED: Decision.RETRY,
    Failure.UNTRUSTED: Decision.RAISE,
    Failure.RATE_LIMITED: Decision.WAIT,
    Failure.REFUSED: Decision.RAISE,
}
_PASSING = (Failure.DROPPED, Failure.MALFORMED, Failure.SERVER)
_REPEATABLE = {
    **_ALWAYS,
    **dict.fromkeys(_PASSING, Decision.RETRY),
    Failure.TOO_LARGE: Decision.RAISE,
    Failure.NOT_FOUND_FOR_NOW: Decision.RETRY,
}
_ONCE_ONLY = {
    **_ALWAYS,
    **dict.fromkeys(_PASSING, Decision.UNKNOWN),
    Failure.TOO_LARGE: Decision.UNKNOWN,
    Failure.NOT_FOUND_FOR_NOW: Decision.RAISE,
}

#: GET, PUT and DELETE may be repeated; a POST only where it surely did not happen.
POLICY = {"GET": _REPEATABLE, "PUT": _REPEATABLE, "DELETE": _REPEATABLE, "POST": _ONCE_ONLY}


def classify(error: LightspeedError) -> Failure:
    """Say what kind of failure an error is."""
    if isinstance(error, LightspeedConnectionError):
        if not error.retryable:
            return Failure.TOO_LARGE if error.sent else Failure.UNTRUSTED
        return Failure.DROPPED if error.sent else Failure.NOT_CONNECTED
    if isinstance(error, LightspeedMalformedResponseError):
        return Failure.MALFORMED
    if isinstance(error, LightspeedAPIError) and not isinstance(error, LightspeedUnknownLanguageError):
        if error.status == 429:
            return Failure.RATE_LIMITED
        if error.status >= 500 or error.status == 408:
            return Failure.SERVER
        if isinstance(error, LightspeedNotFoundError) and not error.gone:
            return Failure.NOT_FOUND_FOR_NOW
    return Failure.REFUSED


def is_transient(error: LightspeedError) -> bool:
    """Say whether the same may go well later: the shop is away, or the quota is used up."""
    if isinstance(error, LightspeedQuotaExhaustedError):
        return True
    return POLICY["GET"][classify(error)] in {Decision.RETRY, Decision.WAIT}


def backoff(tries: int, chance: float) -> float:
    """How long to wait after so many failed tries.

    :param chance: a random number from 0 to 1 (full jitter).
    """
    return min(MAX_BACKOFF, FIRST_BACKOFF * 2.0 ** (tries - 1)) * chance
