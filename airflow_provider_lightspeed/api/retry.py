"""Whether a failed call may be tried again, and how long to wait before: one table for all methods.

docs/failures.md says the same for operators; the tests over HTTP run its table.
"""

from __future__ import annotations

from enum import Enum

from airflow_provider_lightspeed.api.errors import (
    LightspeedAPIError,
    LightspeedConnectionError,
    LightspeedError,
    LightspeedGatewayError,
    LightspeedMalformedResponseError,
    LightspeedNotFoundError,
    LightspeedQuotaExhaustedError,
    LightspeedRedirectError,
    LightspeedUnknownLanguageError,
    LightspeedWrongTicketError,
)

#: Attempts for one call, the first included.
MAX_ATTEMPTS = 6
#: So many 429 responses in a row fail a call; before each attempt it waits for the reset, if that is known.
MAX_RATE_LIMITED = 10
#: No further attempt is made once a call has failed for so many seconds; waits for the quota don't count.
MAX_ELAPSED = 600.0
#: A failed call (not a 429) waits no longer than this for its next attempt, whatever ``Retry-After`` says: all attempts
#: must fit into the time above.
MAX_RETRY_AFTER = 60.0
#: Wait at least so long after a 429 that does not say how long: the limit of calls a second.
MIN_RATE_LIMIT_DELAY = 1.0
#: Exponential back-off with full jitter, in seconds.
FIRST_BACKOFF = 0.5
MAX_BACKOFF = 30.0


class Failure(Enum):
    """What went wrong, as far as the next step depends on it."""

    NOT_CONNECTED = "no connection was made"
    UNTRUSTED = "the certificate does not verify, the address is no address, or the proxy wants a password"
    TOO_LARGE = "the response is larger than any that makes sense"
    DROPPED = "the connection broke, or the response did not come in time"
    MALFORMED = "a success whose body is cut off, empty, HTML, broken JSON, or lacks its key"
    WRONG_TICKET = "a success that is about another ticket than the request"
    RATE_LIMITED = "429"
    SERVER = "5xx or 408, or a success with an error object that names none or such a code"
    NOT_FOUND_FOR_NOW = "404 with the API's own error object for a list or a count, which always exist"
    GATEWAY = "4xx without the API's own error object, but for 401, 407, 408 and 429"
    REDIRECTED = "3xx"
    REFUSED = "401, 407 of a proxy, and any other 4xx with the API's own error object"


class Decision(Enum):
    """What the client does about it."""

    RETRY = "tries again, with back-off"
    WAIT = "waits as the response says, then tries again"
    RAISE = "fails at once"
    UNKNOWN = "fails with LightspeedUnknownOutcomeError: it may have happened"


_ALWAYS = {
    Failure.NOT_CONNECTED: Decision.RETRY,
    Failure.UNTRUSTED: Decision.RAISE,
    Failure.RATE_LIMITED: Decision.WAIT,
    Failure.REFUSED: Decision.RAISE,
}
_TRANSIENT = (Failure.DROPPED, Failure.MALFORMED, Failure.SERVER, Failure.GATEWAY)
_LASTING = (Failure.TOO_LARGE, Failure.WRONG_TICKET, Failure.REDIRECTED)
_REPEATABLE = {
    **_ALWAYS,
    **dict.fromkeys(_TRANSIENT, Decision.RETRY),
    **dict.fromkeys(_LASTING, Decision.RAISE),
    Failure.NOT_FOUND_FOR_NOW: Decision.RETRY,
}
_ONCE_ONLY = {
    **_ALWAYS,
    **dict.fromkeys((*_TRANSIENT, *_LASTING), Decision.UNKNOWN),
    Failure.NOT_FOUND_FOR_NOW: Decision.RAISE,
}

#: GET, PUT and DELETE may be repeated. A POST is repeated, or fails for good, only if that proves that it did not happen.
POLICY = {"GET": _REPEATABLE, "PUT": _REPEATABLE, "DELETE": _REPEATABLE, "POST": _ONCE_ONLY}


def classify(error: LightspeedError) -> Failure:
    """Say what kind of failure an error is."""
    if isinstance(error, LightspeedConnectionError):
        if not error.retryable:
            return Failure.TOO_LARGE if error.sent else Failure.UNTRUSTED
        return Failure.DROPPED if error.sent else Failure.NOT_CONNECTED
    if isinstance(error, LightspeedWrongTicketError):
        return Failure.WRONG_TICKET
    if isinstance(error, LightspeedMalformedResponseError):
        return Failure.MALFORMED
    if isinstance(error, LightspeedAPIError) and not isinstance(error, LightspeedUnknownLanguageError):
        if error.status == 429:
            return Failure.RATE_LIMITED
        if error.status >= 500 or error.status == 408:
            return Failure.SERVER
        if isinstance(error, LightspeedNotFoundError) and not error.gone:
            return Failure.NOT_FOUND_FOR_NOW if error.explained else Failure.GATEWAY
        if isinstance(error, LightspeedGatewayError):
            return Failure.GATEWAY
        if isinstance(error, LightspeedRedirectError):
            return Failure.REDIRECTED
    return Failure.REFUSED


def is_transient(error: LightspeedError) -> bool:
    """Return whether the same call may succeed later: the shop is down, or the quota is used up."""
    if isinstance(error, LightspeedQuotaExhaustedError):
        return True
    return POLICY["GET"][classify(error)] in {Decision.RETRY, Decision.WAIT}


def backoff(tries: int, chance: float) -> float:
    """How long to wait after so many failed tries.

    :param chance: a random number from 0 to 1 (full jitter).
    """
    return min(MAX_BACKOFF, FIRST_BACKOFF * 2.0 ** (tries - 1)) * chance
