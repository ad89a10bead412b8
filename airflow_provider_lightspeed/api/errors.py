"""What can go wrong with a shop, one class for each thing that a caller would treat differently."""

from __future__ import annotations

from datetime import datetime
from typing import Any


class LightspeedError(Exception):
    """Anything this provider raises about a shop."""


class LightspeedPermanentError(LightspeedError):
    """Another attempt fails alike: the connection or an argument has to be changed first."""


class LightspeedConfigurationError(LightspeedPermanentError, ValueError):
    """An argument or a connection field is wrong. Nothing was done.

    Trying again does not help. The message names the field, and the values that it takes.
    """


class LightspeedConnectionError(LightspeedError):
    """No response came: refused, dropped, timed out.

    If retries do not help, check proxy, firewall and certificate authorities, on the worker and on the triggerer.

    :param sent: whether the request may have reached the shop.
    :param retryable: False where the next try would fail alike (a certificate that does not verify).
    """

    def __init__(self, message: str, *, sent: bool = True, retryable: bool = True) -> None:
        super().__init__(message)
        self.sent = sent
        self.retryable = retryable


class LightspeedResponseTooLargeError(LightspeedConnectionError):
    """The response has more bytes than ``max_body``, so that the rest of it was not read.

    Lists are read in smaller pages before this is raised. Look at the ticket in the shop: one text of it is very long.
    """

    def __init__(self, message: str) -> None:
        super().__init__(message, sent=True, retryable=False)


class LightspeedMalformedResponseError(LightspeedError):
    """A response came that is not what the API promises: HTML, cut-off JSON, a list without its key.

    It is retried. If it stays and the message names a ticket, correct that ticket in the shop, or export with
    ``on_malformed="quarantine"``.
    """


class LightspeedWrongTicketError(LightspeedMalformedResponseError):
    """The response is about another ticket than the request, as after a merge of tickets or from a cache.

    The ticket that was asked for counts as failed, and the other one is left alone. Look at both in the shop.

    :param requested: id of the ticket that was asked for, or written to.
    :param received: id of the ticket in the response.
    """

    def __init__(self, message: str, *, requested: int, received: int) -> None:
        super().__init__(message)
        self.requested = requested
        self.received = received


class LightspeedAPIError(LightspeedError):
    """The shop refused the call.

    :param status: HTTP status, or the ``code`` of an ``error`` object that came with a success status.
    :param message: the vendor's own words, shortened.
    :param method: HTTP method of the call.
    :param path: path of the call, without host and query.
    :param hint: what the reader of the log can do about it.
    :param explained: whether the API's own error object came with it. Without one, a proxy, a firewall or a CDN may
        have answered instead of the API.
    """

    def __init__(
        self, *, status: int, message: str, method: str, path: str, hint: str = "", explained: bool = True
    ) -> None:
        text = f"{method} {path} was answered {status}: {message}"
        super().__init__(f"{text} {hint}".rstrip())
        self.status = status
        self.message = message
        self.method = method
        self.path = path
        self.explained = explained


class LightspeedAuthenticationError(LightspeedAPIError, LightspeedPermanentError):
    """401, or 403 with the API's own error object: the key, the secret or their rights are wrong. Never retried.

    Compare key, secret and cluster of the connection with the shop's back office; a valid key on the wrong cluster
    looks like a wrong one. After a 403, give the key the right to read, or to change, tickets.
    """


class LightspeedGatewayError(LightspeedAPIError):
    """4xx without the API's own error object, again and again: a firewall, proxy or CDN refuses the call.

    Ask who runs it to let the workers' addresses through.
    """


class LightspeedNotFoundError(LightspeedAPIError):
    """404: there is no such ticket.

    :param gone: False if that can't be the truth: for a list or a count of all tickets, or without the
        API's own error object (a page of a proxy). The other parameters are those of `LightspeedAPIError`.
    """

    def __init__(self, *, gone: bool = True, **details: Any) -> None:
        super().__init__(**details)
        self.gone = gone


class LightspeedUnknownLanguageError(LightspeedNotFoundError, LightspeedConfigurationError):
    """404: the connection's language is not one of the shop's. It says nothing of a ticket.

    Set the connection's ``language`` to one that is active in the shop.
    """

    def __init__(self, **details: Any) -> None:
        super().__init__(**details, gone=False)


class LightspeedInvalidRequestError(LightspeedAPIError):
    """Any other 4xx with the API's own error object: the shop refused what was asked. Never retried."""


class LightspeedRedirectError(LightspeedAPIError):
    """3xx: the credentials are not sent elsewhere, so a redirect is an error. Check the connection's host."""


class LightspeedRateLimitError(LightspeedAPIError):
    """429, again and again: other programs use the same key at the same time.

    Give the task a key of its own, or lower ``calls_per_second`` in the connections of all that share it.
    """


class LightspeedServerError(LightspeedAPIError):
    """5xx, again and again: the shop is down or overloaded. Airflow's retry tries again."""


class LightspeedQuotaExhaustedError(LightspeedError):
    """The quota is used up for longer than the caller wants to sleep.

    Operators with ``deferrable=True`` resume by themselves then. Without it, give the task fewer tickets, a higher
    ``max_wait`` in the connection, or Airflow retries.

    :param until: the instant (with a zone) at which calls are possible again.
    :param sent: whether the shop may have run an earlier attempt of the same call.
    """

    def __init__(self, message: str, *, until: datetime, sent: bool = False) -> None:
        super().__init__(message)
        self.until = until
        self.sent = sent


class LightspeedTooLateError(LightspeedError):
    """A call was not sent (again), since the time in which its caller wanted it sent had passed.

    :param sent: whether the shop may have run an earlier attempt of it.
    """

    def __init__(self, message: str, *, sent: bool = False) -> None:
        super().__init__(message)
        self.sent = sent


class LightspeedIncompleteListError(LightspeedError):
    """It could not be established that a list was read completely.

    The shop's responses contradict each other; nothing was published. If a retry does not help, run the probe.

    :param seen: how many tickets (or messages of one) were read.
    :param expected: how many the shop said there are, if it said so.
    :param of: what the list holds.
    """

    def __init__(self, message: str, *, seen: int, expected: int | None = None, of: str = "tickets") -> None:
        expectation = "" if expected is None else f", {expected} expected"
        super().__init__(f"{message} ({seen} {of} read{expectation})")
        self.seen = seen
        self.expected = expected


class LightspeedUnknownOutcomeError(LightspeedError):
    """A POST was sent and its response was lost, or is no proof: what it should create may or may not exist now.

    It is not repeated, since the API has no idempotency key and a second ticket or message would
    reach a customer. Look in the shop before you run the task again.
    """
