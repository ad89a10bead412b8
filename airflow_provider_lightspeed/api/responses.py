"""An HTTP response becomes data, or the exception that says what it was."""

from __future__ import annotations

import re
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from operator import itemgetter
from typing import Any, TypeVar

import msgspec

from airflow_provider_lightspeed.api.errors import (
    LightspeedAPIError,
    LightspeedAuthenticationError,
    LightspeedGatewayError,
    LightspeedInvalidRequestError,
    LightspeedMalformedResponseError,
    LightspeedNotFoundError,
    LightspeedRateLimitError,
    LightspeedRedirectError,
    LightspeedResponseTooLargeError,
    LightspeedServerError,
    LightspeedUnknownLanguageError,
    LightspeedWrongTicketError,
)
from airflow_provider_lightspeed.api.tickets import RejectedTicket, Request
from airflow_provider_lightspeed.api.values import (
    MAX_ID,
    parse_count,
    parse_id,
    parse_instant,
    parse_switch,
    span_of_instants,
)

T = TypeVar("T")

_MESSAGE_LENGTH = 200
_GZIP = 16 + zlib.MAX_WBITS
_CHUNK = 1024 * 1024
#: What the decoder raises for what is no JSON, no UTF-8, or nested without end.
NOT_JSON = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
#: Most bytes that a response may have, unpacked. A page of 250 tickets has about 0.1 MiB.
MAX_BODY = 16 * 1024 * 1024
#: What an ``error`` key may hold where there is none: PHP's and JSON's ways to say null.
_NO_ERROR = (None, False, "")

_OF_ONE = {"ticket", "ticketMessage"}
_ALWAYS_THERE = {"tickets.json", "tickets/count.json"}
_MALFORMED_TICKET = "Correct it in the shop. An export can leave it out, with on_malformed='quarantine'"
_NOT_THE_API = "The shop is in maintenance, or a proxy answers for it: let Airflow retry later"

_SWITCHES = ("isAnswered", "isClosed", "isTodo", "doNotifyAnswered")
_ID = itemgetter("id")
_CREATED_AT = itemgetter("createdAt")
_SWITCH_GETTERS = tuple(itemgetter(name) for name in _SWITCHES)

#: For the search of a malformed row: control characters, and what follows a backslash in a text.
_CONTROLS = bytes(range(32))
_ESCAPE = re.compile(rb"\\(?:(u)[0-9a-fA-F]{4}|.)", re.DOTALL)


@dataclass(frozen=True)
class Response:
    """What came back over the wire.

    :param headers: names in lower case.
    :param body: as it came; it may be compressed.
    :param host: who sent it, for error messages.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes | bytearray = field(repr=False)
    host: str = "the shop"


class _RowId(msgspec.Struct):
    """Reads a row's id, whatever its other properties are."""

    id: msgspec.Raw = msgspec.Raw(b"null")


def parse_response(request: Request[T], response: Response, max_body: int = MAX_BODY) -> T:
    """Read the data that a call asked for.

    :param max_body: most bytes that the body may unpack to.
    :return: the object or list under the request's envelope, with the API's own property names. Ids are numbers,
        switches are booleans or None.
    :raises LightspeedAPIError: (one of its subclasses) if the shop refused, be it by status or by an
        ``error`` key in a success (undocumented: the vendor's own client treats that as a failure).
    :raises LightspeedWrongTicketError: if the response is about another ticket than the request.
    :raises LightspeedMalformedResponseError: if the body is not what was asked for. It is never taken
        for the end of a list.
    """
    data: Any = _parse(request, response, max_body)
    return data  # type: ignore[no-any-return]  # the type is the endpoint's promise, which `_parse` checks


def _parse(request: Request[Any], response: Response, max_body: int) -> Any:
    if not 200 <= response.status < 300:
        raise _error_for(request, response, response.status, _error_object(response, max_body))
    if response.status == 204 and request.method in {"DELETE", "PUT"}:
        return None
    body = _unpack(request, response, max_body)
    try:
        data = msgspec.json.decode(body)
    except NOT_JSON as error:
        return _parse_row_by_row(request, response, body, error)
    _check_envelope(request, response, data)
    if request.envelope is None:
        return None
    content = data[request.envelope]
    if request.envelope == "count":
        count = parse_count(content)
        if count is None:
            raise _malformed(request, response, "holds a count that is not a number")
        return count
    if not request.is_list:
        return _check_object(request, response, content)
    if not isinstance(content, list):
        raise _malformed(request, response, f"holds no list under {request.envelope!r}")
    if _is_as_usual(request, content):
        return content
    rows = [_read_row(request, row) for row in content]
    if not any(isinstance(row, RejectedTicket) for row in rows):
        return rows
    raw = _split(body, str(request.envelope))
    return _accept(
        request,
        response,
        [
            RejectedTicket(row.id, bytes(raw[index]), row.reason) if isinstance(row, RejectedTicket) else row
            for index, row in enumerate(rows)
        ],
    )


def _check_envelope(request: Request[Any], response: Response, data: Any) -> None:
    if not isinstance(data, dict):
        raise _malformed(request, response, "is not an object")
    if data.get("error") not in _NO_ERROR:
        raise _error_for(request, response, _embedded_status(data["error"]), data["error"])
    if request.envelope is not None and request.envelope not in data:
        raise _malformed(request, response, f"has no key {request.envelope!r}")


def _check_object(request: Request[Any], response: Response, content: Any) -> dict[str, Any]:
    row = _read_row(request, content)
    if isinstance(row, RejectedTicket):
        raise _malformed(request, response, f"holds {_name(request, row.id)}, {row.reason}")
    if request.expected_id is not None and row["id"] != request.expected_id:
        raise LightspeedWrongTicketError(
            f"{request.method} /{request.path} is about ticket {request.expected_id}, but the response is about ticket "
            f"{row['id']}. The shop may have merged the two, or a cache is in between. Ticket {request.expected_id} "
            "counts as failed; look at both in the shop",
            requested=request.expected_id,
            received=row["id"],
        )
    return row


def _is_as_usual(request: Request[Any], rows: list[Any]) -> bool:
    """Say whether all rows are as the vendor's page shows them, so that none has to be read by itself. Must be fast."""
    try:
        ids = [*map(_ID, rows)]
        if not ({*map(type, ids)} <= {int} and min(ids, default=1) > 0 and max(ids, default=1) <= MAX_ID):
            return False
        if request.envelope != "tickets":
            return True
        if request.keep_malformed and span_of_instants(map(_CREATED_AT, rows)) is None:
            return False
        return all({*map(type, map(getter, rows))} <= {bool} for getter in _SWITCH_GETTERS)
    except (KeyError, TypeError, ValueError, IndexError):
        return False


def _read_row(request: Request[Any], row: Any) -> dict[str, Any] | RejectedTicket:
    """Return an object with its id and its switches in their usual form; its bytes are left out of a rejected one."""
    if not isinstance(row, dict):
        return RejectedTicket(None, b"", "which is not an object")
    number = parse_id(row.get("id"))
    if number is None:
        return RejectedTicket(None, b"", "whose id is not a positive number")
    row["id"] = number
    if request.envelope not in {"ticket", "tickets"}:
        return row
    for name in _SWITCHES:
        if name in row:
            try:
                row[name] = parse_switch(row[name])
            except ValueError as error:
                return RejectedTicket(number, b"", f"whose {name} is {error}")
    if request.keep_malformed and parse_instant(row.get("createdAt")) is None:
        return RejectedTicket(number, b"", "whose createdAt is not an ISO 8601 instant with an offset")
    return row


def _accept(request: Request[Any], response: Response, rows: Sequence[Any]) -> Sequence[Any]:
    rejected = next((row for row in rows if isinstance(row, RejectedTicket)), None)
    if rejected is None or request.keep_malformed:
        return rows
    # Without the error of the decoder: its traceback would only repeat this message.
    raise _malformed(
        request, response, f"holds {_name(request, rejected.id)}, {rejected.reason}", hint=_MALFORMED_TICKET
    ) from None


def _name(request: Request[Any], number: int | None) -> str:
    kind = "message" if request.envelope in {"ticketMessage", "ticketMessages"} else "ticket"
    return f"{kind} {number}" if number is not None else f"a {kind}"


def _parse_row_by_row(
    request: Request[Any], response: Response, body: bytes | bytearray, error: Exception
) -> Sequence[Any]:
    """Read a list of which at least one row can't be decoded."""
    try:
        raw = _split(body, str(request.envelope)) if request.is_list else []
    except NOT_JSON:
        raw = []
    if request.envelope in _OF_ONE and _has_envelope(request, body):
        row = f"{_name(request, request.expected_id)}, whose bytes are {_why_unreadable(error)}"
        raise _malformed(request, response, f"holds {row}", hint=_MALFORMED_TICKET) from None
    if not raw:
        kind = "is empty" if not body.strip() else f"is not JSON ({error})"
        if body.strip() and "html" in response.headers.get("content-type", ""):
            kind = "is a web page, not the API's JSON"
        raise _malformed(request, response, kind, hint=_NOT_THE_API) from None
    return _accept(request, response, [_decode_row(request, row) for row in raw])


def _decode_row(request: Request[Any], raw: bytes) -> dict[str, Any] | RejectedTicket:
    try:
        row = _read_row(request, msgspec.json.decode(raw))
    except NOT_JSON as error:
        return RejectedTicket(_find_id(raw), raw, f"whose bytes are {_why_unreadable(error)}")
    return RejectedTicket(row.id, raw, row.reason) if isinstance(row, RejectedTicket) else row


def _why_unreadable(error: Exception) -> str:
    return "not UTF-8" if isinstance(error, UnicodeDecodeError) else "not valid JSON"


def _has_envelope(request: Request[Any], body: bytes | bytearray) -> bool:
    """Return whether this is the API's object, though something inside it can't be decoded."""
    try:
        return request.envelope in msgspec.json.decode(_made_legible(body), type=dict[str, msgspec.Raw])
    except NOT_JSON:
        return False


def _find_id(raw: bytes) -> int | None:
    try:
        return parse_id(msgspec.json.decode(msgspec.json.decode(_made_legible(raw), type=_RowId).id))
    except NOT_JSON:
        return None


def _split(body: bytes | bytearray, envelope: str) -> list[bytes]:
    """Cut the rows out of a list of which some may be malformed inside.

    :raises msgspec.DecodeError: if the body is no object with a list.
    """
    legible = _made_legible(body)
    members = msgspec.json.decode(legible, type=dict[str, msgspec.Raw])
    if "error" in members and msgspec.json.decode(members["error"]) not in _NO_ERROR:
        raise msgspec.DecodeError("it holds an error")
    if envelope not in members:
        raise msgspec.DecodeError(f"it has no key {envelope!r}")
    content = bytes(members[envelope])
    position, rows = legible.index(content), []
    for row in map(bytes, msgspec.json.decode(content, type=list[msgspec.Raw])):
        position = legible.index(row, position)
        rows.append(bytes(body[position : position + len(row)]))
        position += len(row)
    return rows


def _made_legible(body: bytes | bytearray) -> bytes:
    """Replace the escapes and control characters over which the decoder stumbles, byte by byte, so that places stay."""
    spaced = bytes(body).translate(bytes.maketrans(_CONTROLS, b" " * len(_CONTROLS)))
    return _ESCAPE.sub(lambda escape: rb"\ufffd" if escape[1] else rb"\\", spaced)


def _unpack(request: Request[Any], response: Response, max_body: int) -> bytes | bytearray:
    encoding = response.headers.get("content-encoding", "").strip().lower()
    if encoding in {"", "identity"}:
        return response.body
    if encoding not in {"gzip", "x-gzip"}:
        raise _malformed(request, response, f"is compressed by {encoding[:20]!r}, which was not asked for")
    unpacker = zlib.decompressobj(_GZIP)
    body = bytearray()
    packed: bytes | bytearray = response.body
    try:
        while packed and not unpacker.eof:
            body += unpacker.decompress(packed, _CHUNK)
            packed = unpacker.unconsumed_tail
            if len(body) > max_body:
                raise too_large(max_body)
    except zlib.error as error:
        raise _malformed(request, response, f"is not gzip ({error})") from None
    if not unpacker.eof:
        raise _malformed(request, response, "is cut off")
    return body


def too_large(max_body: int) -> LightspeedResponseTooLargeError:
    """Build the error for a body over the limit."""
    return LightspeedResponseTooLargeError(f"the response is larger than {max_body} bytes")


def _error_object(response: Response, max_body: int) -> Any:
    """Return what the API says of a refusal; None if the body is none of the API's."""
    try:
        data = msgspec.json.decode(_unpack(Request("GET", ""), response, max_body))
    except (*NOT_JSON, LightspeedMalformedResponseError, LightspeedResponseTooLargeError):
        data = None
    if isinstance(data, dict) and data.get("error") not in _NO_ERROR:
        return data["error"]
    return None


def _embedded_status(error: Any) -> int:
    code = error.get("code") if isinstance(error, dict) else None
    if isinstance(code, str) and code.isascii() and code.isdigit():
        code = int(code[:3])
    return code if isinstance(code, int) and 400 <= code < 600 else 500


def _malformed(
    request: Request[Any], response: Response, what: str, *, hint: str = ""
) -> LightspeedMalformedResponseError:
    kind = response.headers.get("content-type", "no content type")
    return LightspeedMalformedResponseError(
        f"{request.method} /{request.path} was answered {response.status}, but the body "
        f"({len(response.body)} bytes, {kind}) {what}",
        hint=hint,
    )


def _error_text(error: Any) -> str:
    text = error.get("message") if isinstance(error, dict) else error
    return " ".join(text.split())[:_MESSAGE_LENGTH] if isinstance(text, str) else ""


def _error_for(request: Request[Any], response: Response, status: int, error: Any) -> LightspeedAPIError:
    """Build the exception for an error status.

    :param error: what the API's ``error`` key held; None if the body is none of the API's.
    """
    # Gateways answer with pages, or with objects whose ``error`` is a text.
    explained = isinstance(error, dict)
    details: dict[str, Any] = {
        "status": status,
        "message": _error_text(error) or ("(no message)" if error else "no message from the API."),
        "method": request.method,
        "path": f"/{request.path}",
        "explained": explained,
    }
    if status < 400:
        hint = "The provider follows no redirect, since that would send the credentials to another host: check the connection's host."
        return LightspeedRedirectError(**details, hint=hint)
    if status == 401:
        hint = f"Check the API key and secret of the connection, and its cluster: {response.host} does not know them."
        return LightspeedAuthenticationError(**details, hint=hint)
    if status == 403 and explained:
        hint = "The API key has no right to this: add it in the shop's back office."
        return LightspeedAuthenticationError(**details, hint=hint)
    if status == 404 and "language" in details["message"].lower():
        hint = "Set the connection's language to one that is active in the shop."
        return LightspeedUnknownLanguageError(**details, hint=hint)
    if status == 404:
        # The list of all tickets is always there.
        gone = explained and request.path not in _ALWAYS_THERE
        hint = "It was deleted, or its id or the connection is wrong: check both." if gone else ""
        return LightspeedNotFoundError(**details, gone=gone, hint=hint)
    if status == 407:
        hint = (
            "The proxy wants a user and a password: put them into the address in HTTP_PROXY or HTTPS_PROXY."
        )
        return LightspeedInvalidRequestError(**details, hint=hint)
    if status == 429:
        return LightspeedRateLimitError(**details)
    if status >= 500:
        return LightspeedServerError(**details)
    if not explained:
        hint = "A firewall or proxy in front of the API refused the call: ask its administrator to allow this machine."
        return LightspeedGatewayError(**details, hint=hint)
    return LightspeedInvalidRequestError(**details)
