"""A tap of the Singer SDK, its messages to a file that is then uploaded."""

from __future__ import annotations

import contextlib
import gzip
import io
import logging
import tempfile
from typing import Any

from job import PAGE, Job, at_work
from singer_sdk import RESTStream, Tap  # type: ignore[import-not-found]  # it lives in an environment of its own
from singer_sdk.authenticators import BasicAuthenticator  # type: ignore[import-not-found]
from singer_sdk.pagination import BasePageNumberPaginator  # type: ignore[import-not-found]

job = Job.from_command_line()
s3 = job.s3_client()
logging.disable(logging.INFO)


class Pages(BasePageNumberPaginator):  # type: ignore[misc]  # of an environment of its own
    def has_more(self, response: Any) -> bool:
        return len(response.json()["tickets"]) == PAGE


class Tickets(RESTStream):  # type: ignore[misc]  # as above
    name = "tickets"
    path = "/tickets.json"
    primary_keys = ("id",)
    url_base = f"{job.shop}/en"
    records_jsonpath = "$.tickets[*]"
    schema = {  # ruff: ignore[mutable-class-default] - as the SDK has it
        "type": "object",
        "properties": {
            "id": {"type": "integer"},
            **{name: {"type": "string"} for name in ("createdAt", "updatedAt", "subject", "memo")},
            **{
                name: {"type": "boolean"} for name in ("isAnswered", "isClosed", "isTodo", "doNotifyAnswered")
            },
            "language": {"type": ["object", "boolean"], "additionalProperties": True},
            "customer": {"type": ["object", "boolean"], "additionalProperties": True},
            "messages": {"type": ["object", "boolean"], "additionalProperties": True},
        },
    }

    @property
    def authenticator(self) -> Any:
        return BasicAuthenticator(username=job.key, password=job.secret)

    def get_new_paginator(self) -> Any:
        return Pages(1)

    def get_url_params(self, context: Any, next_page_token: Any) -> dict[str, Any]:  # ruff: ignore[unused-method-argument] - the SDK passes it
        return {"limit": PAGE, "page": next_page_token}


class ShopTap(Tap):  # type: ignore[misc]  # as above
    name = "tap-shop"
    config_jsonschema = {"type": "object", "properties": {}}  # ruff: ignore[mutable-class-default] - as the SDK has it

    def discover_streams(self) -> list[Any]:
        return [Tickets(self)]


with at_work(), tempfile.NamedTemporaryFile(suffix=".gz") as file:
    with (
        gzip.open(file, "wb", 1) as packed,
        io.TextIOWrapper(packed, encoding="utf-8") as text,
        contextlib.redirect_stdout(text),
    ):
        ShopTap(config={}).sync_all()
    file.flush()
    s3.upload_file(file.name, job.bucket, job.target)
