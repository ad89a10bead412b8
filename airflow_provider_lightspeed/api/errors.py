"""Errors of a shop: one class for each case that a caller may handle differently."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from airflow_provider_lightspeed.api.wording import counted


class LightspeedError(Exception):
    """Base class of all errors about a shop. Catch it to handle any of them."""

    #: What the reader of the log can do, where the message does not say it. The client adds it when it gives up.
    hint: str = ""


class LightspeedPermanentError(LightspeedError):
    """Base class of errors that a retry cannot help. Correct the connection or the argument that the message names."""


class LightspeedConfigurationError(LightspeedPermanentError, ValueError):
    """An argument or a connection field is wrong. Nothing was done, and operators fail without a retry.

    Correct the field that the message names; the message lists the values that it takes.
    """


class LightspeedConnectionError(LightspeedError):
    """No response came: the connection was refused, dropped or timed out.

    If retries do not help, check cluster, proxy, firewall and certificate authorities, on the worker and on the
    triggerer.

    :param sent: whether the request may have reached the shop.
    :param retryable: False if the next attempt would fail too (a certificate that does not verify).
    """

    hint = "Check the host and cluster of the connection, and proxy (HTTPS_PROXY, NO_PROXY) and firewall of this machine"

    def __init__(self, message: str, *, sent: bool = True, retryable: bool = True) -> None:
        super().__init__(message)
        self.sent = sent
        self.retryable = retryable


class LightspeedResponseTooLargeError(LightspeedConnectionError):
    """The response is larger than 16 MiB, so the client stopped reading it.

    The client reads lists in smaller pages first, down to less than ten tickets. So these are too large: shorten
    their texts in the shop.
    """

    def __init__(self, message: str) -> None:
        super().__init__(message, sent=True, retryable=False)


class LightspeedMalformedResponseError(LightspeedError):
    """A response is not what the API documents: HTML, cut-off JSON, a list without its key.

    The client tried the call several times. If the error stays and the message names a ticket, correct that ticket in
    the shop, or export with ``on_malformed="quarantine"``.

    :param hint: what the reader of the log can do.
    """

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


class LightspeedWrongTicketError(LightspeedMalformedResponseError):
    """The response is about another ticket than the request, for example after a merge of tickets, or from a cache.

    The requested ticket counts as failed, and the other one is left alone. Compare both in the shop.

    :param requested: id of the requested ticket.
    :param received: id of the ticket in the response.
    """

    def __init__(self, message: str, *, requested: int, received: int) -> None:
        super().__init__(message)
        self.requested = requested
        self.received = received


class LightspeedAPIError(LightspeedError):
    """Base class of errors with an HTTP status. The message has the shop's own words, and what to do.

    :param status: HTTP status, or the ``code`` of an ``error`` object that came with a success status.
    :param message: the vendor's own words, shortened.
    :param method: HTTP method of the call.
    :param path: path of the call, without host and query.
    :param hint: what the reader of the log can do.
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
    """401, or 403 from the API: the key, the secret or its rights are wrong. The client does not retry it.

    Compare key, secret and cluster of the connection with the shop's back office; a valid key on the wrong cluster
    looks like a wrong one. After a 403, give the key the right to read, or to change, tickets.
    """


class LightspeedGatewayError(LightspeedAPIError):
    """4xx that does not come from the API: a firewall, proxy or CDN refuses the call, also after retries.

    Ask its administrator to allow the addresses of workers and triggerer.
    """


class LightspeedNotFoundError(LightspeedAPIError):
    """404: there is no such ticket. It was deleted, or the id is wrong, or belongs to another shop: check it there.

    :param gone: False if this cannot be true: for a list or a count of all tickets, or without the
        API's own error object (a page of a proxy). The other parameters are those of `LightspeedAPIError`.
    """

    def __init__(self, *, gone: bool = True, **details: Any) -> None:
        super().__init__(**details)
        self.gone = gone


class LightspeedUnknownLanguageError(LightspeedNotFoundError, LightspeedConfigurationError):
    """404: the connection's language is not active in the shop. The ticket may exist.

    Set the connection's ``language`` to one that is active in the shop.
    """

    def __init__(self, **details: Any) -> None:
        super().__init__(**details, gone=False)


class LightspeedInvalidRequestError(LightspeedAPIError):
    """Any other 4xx from the API: the shop refuses the request. The client does not retry it.

    The message has the shop's reason. Correct the argument that it names, such as a text that is too long.
    """


class LightspeedRedirectError(LightspeedAPIError):
    """3xx: the provider follows no redirect, since that would send the credentials to another host.

    Check the connection's host and cluster.
    """


class LightspeedRateLimitError(LightspeedAPIError):
    """429, also after 10 waits: other programs use the same key at the same time.

    Give the task a key of its own, or lower ``calls_per_second`` in the connections of all that share it.
    """


class LightspeedServerError(LightspeedAPIError):
    """5xx, also after retries: the shop is down or overloaded. Let Airflow retry later."""

    hint = "The shop is down or overloaded: let Airflow retry later"


class LightspeedQuotaExhaustedError(LightspeedError):
    """The quota is used up for longer than ``max_wait``.

    Set ``deferrable=True`` on exports: they resume when the quota is back. Otherwise set a higher ``max_wait`` in the
    connection, or Airflow retries.

    :param until: the instant (with a zone) at which calls are possible again.
    :param sent: whether the shop may have run an earlier attempt of the same call.
    :param reason: why no call is possible, without the time and the advice of the message; default: the message.
    """

    def __init__(self, message: str, *, until: datetime, sent: bool = False, reason: str = "") -> None:
        super().__init__(message)
        self.until = until
        self.sent = sent
        self.reason = reason or message


class LightspeedTooLateError(LightspeedError):
    """A call was not sent, or not sent again, because its time limit had passed. Let Airflow retry.

    :param sent: whether the shop may have run an earlier attempt of it.
    """

    def __init__(self, message: str, *, sent: bool = False) -> None:
        super().__init__(message)
        self.sent = sent


class LightspeedIncompleteListError(LightspeedError):
    """A list cannot be proven complete: the shop's responses contradict each other. Nothing was published.

    Let Airflow retry. If the error stays, run the probe and attach its report to an issue.

    :param seen: how many tickets (or messages of one) were read.
    :param expected: how many the shop said there are, if it said so.
    :param of: what the list holds, in the singular.
    """

    def __init__(self, message: str, *, seen: int, expected: int | None = None, of: str = "ticket") -> None:
        expectation = "" if expected is None else f", {expected:,} expected"
        super().__init__(f"{message} ({counted(seen, of)} read{expectation})")
        self.seen = seen
        self.expected = expected


class LightspeedUnknownOutcomeError(LightspeedError):
    """The response to a POST was lost: the new ticket or message may or may not exist.

    The provider does not send it again, since a second ticket or message would reach a customer. Check the shop
    before you run the task again.
    """
