"""An HTTP response becomes data, or the exception that says what it was."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from airflow_provider_lightspeed.api import pieces
from airflow_provider_lightspeed.api.errors import (
    LightspeedAPIError,
    LightspeedAuthenticationError,
    LightspeedConnectionError,
    LightspeedInvalidRequestError,
    LightspeedMalformedResponseError,
    LightspeedNotFoundError,
    LightspeedRateLimitError,
    LightspeedRedirectError,
    LightspeedServerError,
    LightspeedUnknownLanguageError,
)
from airflow_provider_lightspeed.api.tickets import Request

_MESSAGE_LENGTH = 200
_GZIP = 16 + zlib.MAX_WBITS
#: What the decoder raises for what is no JSON, no UTF-8, or nested without end.
NOT_JSON = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
_LARGEST_ID = 2**63 - 1
#: Most bytes that an response may have, unpacked.
MAX_BODY = 64 * 1024 * 1024
#: What an ``error`` key may hold where there is none: PHP's and JSON's ways to say null.
_NO_ERROR = (None, False, "")

_ALWAYS_THERE = {"tickets.json", "tickets/count.json"}

_HINTS = {
    401: "Check the API key and secret of the connection.",
    403: "The API key has no right to this; see the key's permissions in the shop's back office.",
}


@dataclass(frozen=True)
class Response:
    """What came back over the wire.

    :param headers: names in lower case.
    :param body: as it came; it may be compressed. To copy a large one would hold an event loop up.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes | bytearray = field(repr=False)


def parse_response(request: Request, response: Response, max_body: int = MAX_BODY) -> Any:
    """Read the data that a call asked for.

    :param max_body: most bytes that the body may unpack to.
    :return: the object or list under the request's envelope, with the API's own property names.
    :raises LightspeedAPIError: (one of its subclasses) if the shop refused, be it by status or by an
        ``error`` key in a success (undocumented: the vendor's own client treats that as a failure).
    :raises LightspeedMalformedResponseError: if the body is not what was asked for. It is never taken
        for the end of a list.
    """
    if not 200 <= response.status < 300:
        raise _error_for(request, response.status, _error_object(response, max_body))
    if request.envelope is None and response.status == 204:
        return None
    data = _decode(request, response, max_body)
    if not isinstance(data, dict):
        raise _malformed(request, response, "is not an object")
    if data.get("error") not in _NO_ERROR:
        raise _error_for(request, _embedded_status(data["error"]), data["error"])
    if request.envelope is None:
        return None
    if request.envelope not in data:
        raise _malformed(request, response, f"has no key {request.envelope!r}")
    content = data[request.envelope]
    if request.envelope == "count":
        if isinstance(content, bool) or not isinstance(content, int) or content < 0:
            raise _malformed(request, response, "holds a count that is not a number")
        return content
    if request.is_list:
        if not isinstance(content, list):
            raise _malformed(request, response, f"holds no list under {request.envelope!r}")
        _check_objects(request, response, content)
        return content
    _check_objects(request, response, [content])
    return content


def _decode(request: Request, response: Response, max_body: int) -> Any:
    body = _unpack(request, response, max_body)
    try:
        return pieces.decode(body)
    except NOT_JSON as error:
        kind = "is empty" if not body.strip() else f"is not JSON ({error})"
        raise _malformed(request, response, kind) from None


def _unpack(request: Request, response: Response, max_body: int) -> bytes | bytearray:
    encoding = response.headers.get("content-encoding", "").strip().lower()
    if encoding in {"", "identity"}:
        return response.body
    if encoding not in {"gzip", "x-gzip"}:
        raise _malformed(request, response, f"is compressed by {encoding[:20]!r}, which was not asked for")
    unpacker = zlib.decompressobj(_GZIP)
    body = bytearray()
    packed: bytes | bytearray = response.body
    try:
        # Piece by piece, so that no large copy is made that holds an event loop up.
        while packed and not unpacker.eof:
            body += unpacker.decompress(packed, pieces.AT_ONCE)
            packed = unpacker.unconsumed_tail
            if len(body) > max_body:
                raise too_large(max_body)
    except zlib.error as error:
        raise _malformed(request, response, f"is not gzip ({error})") from None
    if not unpacker.eof:
        raise _malformed(request, response, "is cut off")
    return body


def too_large(max_body: int) -> LightspeedConnectionError:
    """Build the error for a body over the limit."""
    return LightspeedConnectionError(f"the response is larger than {max_body} bytes", retryable=False)


def _error_object(response: Response, max_body: int) -> Any:
    """Return what the API says of a error; else a note on what came in its place."""
    try:
        data = msgspec.json.decode(_unpack(Request("GET", ""), response, max_body))
    except (*NOT_JSON, LightspeedMalformedResponseError, LightspeedConnectionError):
        data = None
    if isinstance(data, dict) and data.get("error") not in _NO_ERROR:
        return data["error"]
    return None


def _embedded_status(error: Any) -> int:
    code = error.get("code") if isinstance(error, dict) else None
    if isinstance(code, str) and code.isascii() and code.isdigit():
        code = int(code[:3])
    return code if isinstance(code, int) and 400 <= code < 600 else 500


def _check_objects(request: Request, response: Response, items: list[Any]) -> None:
    for item in items:
        # type, not isinstance: JSON has no subclasses, and true is no number.
        if type(item) is not dict:
            raise _malformed(request, response, "holds something that is not an object")
        identity = item.get("id")
        if type(identity) is not int or not 0 < identity <= _LARGEST_ID:
            raise _malformed(request, response, "holds an object whose id is not a positive number")


def _malformed(request: Request, response: Response, what: str) -> LightspeedMalformedResponseError:
    kind = response.headers.get("content-type", "no content type")
    return LightspeedMalformedResponseError(
        f"{request.method} /{request.path} was answered {response.status}, but the body "
        f"({len(response.body)} bytes, {kind}) {what}"
    )


def _error_text(error: Any) -> str:
    text = error.get("message") if isinstance(error, dict) else error
    return " ".join(text.split())[:_MESSAGE_LENGTH] if isinstance(text, str) else ""


def _error_for(request: Request, status: int, error: Any) -> LightspeedAPIError:
    """Build the exception for an error status.

    :param error: what the API's ``error`` key held; None where the body was none of the API's.
    """
    message = _error_text(error) or (
        "(no message)" if error else "(not the API's own error: a page of a proxy?)"
    )
    kind: type[LightspeedAPIError]
    hint = _HINTS.get(status, "")
    if status < 400:
        kind = LightspeedRedirectError
        hint = "Redirects are refused, since they would carry the credentials elsewhere: check the host."
    elif status in {401, 403}:
        kind = LightspeedAuthenticationError
    elif status == 404:
        kind = LightspeedNotFoundError
        if "language" in message.lower():
            kind = LightspeedUnknownLanguageError
            hint = "Set the connection's language to one that the shop has."
    elif status == 429:
        kind = LightspeedRateLimitError
    elif status >= 500:
        kind = LightspeedServerError
    else:
        kind = LightspeedInvalidRequestError
    raised = kind(status=status, message=message, method=request.method, path=f"/{request.path}", hint=hint)
    if isinstance(raised, LightspeedNotFoundError) and not isinstance(raised, LightspeedUnknownLanguageError):
        # The list of all tickets is always there, and gateways know nothing of a ticket: they response with pages,
        # or with objects whose ``error`` is a text.
        raised.gone = isinstance(error, dict) and request.path not in _ALWAYS_THERE
    return raised
