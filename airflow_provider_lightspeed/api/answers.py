"""An HTTP answer becomes data, or the exception that says what it was."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from airflow_provider_lightspeed.api.errors import (
    LightspeedAPIError,
    LightspeedAuthenticationError,
    LightspeedInvalidRequestError,
    LightspeedMalformedAnswerError,
    LightspeedNotFoundError,
    LightspeedRateLimitError,
    LightspeedRedirectError,
    LightspeedServerError,
)
from airflow_provider_lightspeed.api.tickets import Request

_MESSAGE_LENGTH = 200

_HINTS = {
    401: "Check the API key and secret of the connection.",
    403: "The API key has no right to this; see the key's permissions in the shop's back office.",
}


@dataclass(frozen=True)
class Answer:
    """What came back over the wire.

    :param headers: names in lower case.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes


def read_answer(request: Request, answer: Answer) -> Any:
    """Read the data that a call asked for.

    :return: the object or list under the request's envelope, with the API's own property names.
    :raises LightspeedAPIError: (one of its subclasses) if the shop refused, be it by status or by an
        ``error`` key in a success (undocumented: the vendor's own client treats that as a failure).
    :raises LightspeedMalformedAnswerError: if the body is not what was asked for. It is never taken
        for the end of a list.
    """
    if not 200 <= answer.status < 300:
        raise _refusal(request, answer.status, _vendor_message(answer.body))
    if request.envelope is None:
        _raise_embedded_error(request, _decoded_or_none(answer.body))
        return None
    data = _decode(request, answer)
    _raise_embedded_error(request, data)
    if not isinstance(data, dict) or request.envelope not in data:
        raise _malformed(request, answer, f"has no key {request.envelope!r}")
    content = data[request.envelope]
    if request.envelope == "count":
        if isinstance(content, bool) or not isinstance(content, int) or content < 0:
            raise _malformed(request, answer, "holds a count that is not a number")
        return content
    if request.is_list:
        if not isinstance(content, list):
            raise _malformed(request, answer, f"holds no list under {request.envelope!r}")
        for item in content:
            _check_object(request, answer, item)
        return content
    if request.envelope != "accountRatelimit":
        _check_object(request, answer, content)
    return content


def _decode(request: Request, answer: Answer) -> Any:
    try:
        return msgspec.json.decode(answer.body)
    except msgspec.DecodeError as error:
        kind = "is empty" if not answer.body.strip() else f"is not JSON ({error})"
        raise _malformed(request, answer, kind) from None


def _decoded_or_none(body: bytes) -> Any:
    try:
        return msgspec.json.decode(body)
    except msgspec.DecodeError:
        return None


def _check_object(request: Request, answer: Answer, item: Any) -> None:
    if not isinstance(item, dict):
        raise _malformed(request, answer, "holds something that is not an object")
    identity = item.get("id")
    if isinstance(identity, bool) or not isinstance(identity, int):
        raise _malformed(request, answer, "holds an object whose id is not a number")


def _malformed(request: Request, answer: Answer, what: str) -> LightspeedMalformedAnswerError:
    kind = answer.headers.get("content-type", "no content type")
    return LightspeedMalformedAnswerError(
        f"{request.method} {request.path} was answered {answer.status}, but the body "
        f"({len(answer.body)} bytes, {kind}) {what}"
    )


def _raise_embedded_error(request: Request, data: Any) -> None:
    if isinstance(data, dict) and data.get("error"):
        error = data["error"]
        code = error.get("code") if isinstance(error, dict) else None
        status = code if isinstance(code, int) and 400 <= code < 600 else 500
        raise _refusal(request, status, _error_text(error) or "an error without a message")


def _vendor_message(body: bytes) -> str:
    data = _decoded_or_none(body)
    if isinstance(data, dict) and "error" in data:
        return _error_text(data["error"]) or "no message"
    if body.lstrip()[:1] == b"<":
        return "(an HTML page: maintenance, or a proxy in between)"
    return "(no readable message)"


def _error_text(error: Any) -> str:
    text = error.get("message") if isinstance(error, dict) else error
    return " ".join(text.split())[:_MESSAGE_LENGTH] if isinstance(text, str) else ""


def _refusal(request: Request, status: int, message: str) -> LightspeedAPIError:
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
            hint = "Set the connection's language to one that the shop has."
    elif status == 429:
        kind = LightspeedRateLimitError
    elif status >= 500:
        kind = LightspeedServerError
    else:
        kind = LightspeedInvalidRequestError
    return kind(status=status, message=message, method=request.method, path=f"/{request.path}", hint=hint)
