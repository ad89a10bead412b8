"""What goes in and out of the shop over HTTP, as plain values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import msgspec

JSON = "application/json; charset=utf-8"
HTML = "text/html; charset=utf-8"


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """One request."""

    method: str
    path: str
    query: Mapping[str, str] = {}
    body: bytes = b""
    content_type: str = ""


class Reply(msgspec.Struct, frozen=True, kw_only=True):
    """One response, and whether the connection survives it."""

    status: int = 200
    body: bytes = b""
    content_type: str = JSON
    headers: Mapping[str, str] = {}
    connection: Literal["kept", "cut", "dropped"] = "kept"
    early_hints: bool = False
    """Whether an interim response, 103, precedes it."""


class ApiError(Exception):
    """What the API refuses, with the status and message it refuses it with."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


def error_reply(status: int, message: str, *, method: str, path: str) -> Reply:
    """Return a response in the API's form for errors."""
    error = {"code": status, "method": method, "request": path, "message": message}
    return Reply(status=status, body=msgspec.json.encode({"error": error}))
