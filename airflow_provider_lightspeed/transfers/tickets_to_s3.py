"""Tickets of a shop to one object in S3."""

from __future__ import annotations

import gzip
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from datetime import datetime
from itertools import islice
from typing import TYPE_CHECKING, Any, TypeVar, cast
from urllib.parse import urlsplit

from airflow.providers.common.compat.sdk import BaseOperator

from airflow_provider_lightspeed.api.errors import LightspeedConfigurationError
from airflow_provider_lightspeed.arguments import parse_instant, parse_ticket_filter
from airflow_provider_lightspeed.exceptions import fail_without_retry
from airflow_provider_lightspeed.formats import Layout, make_format
from airflow_provider_lightspeed.hooks.lightspeed import LightspeedHook
from airflow_provider_lightspeed.transfers.s3_object import S3ObjectWriter

if TYPE_CHECKING:
    from io import RawIOBase

    from airflow.providers.common.compat.sdk import Context

_BATCH = 250
_PROGRESS_EVERY = 10.0
# Level 6 takes three times as long for a tenth less.
_GZIP_LEVEL = 1

T = TypeVar("T")


class LightspeedTicketsToS3Operator(BaseOperator):
    """Write the tickets of a shop to one S3 object, as JSON Lines.

    The object holds every ticket that matches and exists all through the export, exactly once, or there is no
    object and the task fails. Tickets are streamed: memory does not grow with the shop.

    Returns ``{"uri", "tickets", "min_id", "max_id", "bytes", "calls"}``.

    :param s3_key: key of the object, or its full ``s3://`` address (templated). If it ends in ``.gz``, the object
        is gzipped; the same tickets give the same bytes.
    :param s3_bucket: bucket of the object, unless ``s3_key`` has it (templated).
    :param created_from: only tickets created at or after this instant, with a zone (templated).
    :param created_to: only tickets created before this instant, with a zone (templated).
    :param since_id: only tickets with a greater id (templated).
    :param customer_email: only tickets of the customer with this e-mail address (templated). It is not named
        ``email``, since that is Airflow's own: whom to tell of a failure.
    :param replace: whether an object that is there may be replaced. If not, the task fails, and of two runs at
        once only one wins.
    :param lightspeed_conn_id: connection to the shop (templated).
    :param aws_conn_id: connection to S3 (templated).
    :raises LightspeedTaskFailed: (no retry) if the window is empty or reversed or lacks its zone, the bucket is
        missing, the key is taken, or the credentials are wrong. Nothing is written then.
    :raises LightspeedError: (retried) for what may pass.
    """

    template_fields: Sequence[str] = (
        "s3_bucket",
        "s3_key",
        "created_from",
        "created_to",
        "since_id",
        "customer_email",
        "lightspeed_conn_id",
        "aws_conn_id",
    )
    ui_color = "#f9e3e3"

    def __init__(
        self,
        *,
        s3_key: str,
        s3_bucket: str | None = None,
        created_from: datetime | str | None = None,
        created_to: datetime | str | None = None,
        since_id: int | str | None = None,
        customer_email: str | None = None,
        replace: bool = False,
        lightspeed_conn_id: str = LightspeedHook.default_conn_name,
        aws_conn_id: str | None = "aws_default",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.s3_key = s3_key
        self.s3_bucket = s3_bucket
        self.created_from = created_from
        self.created_to = created_to
        self.since_id = since_id
        self.customer_email = customer_email
        self.replace = replace
        self.lightspeed_conn_id = lightspeed_conn_id
        self.aws_conn_id = aws_conn_id
        # A native template may render to None, which must not turn a window into "everything".
        self._filters_given = [
            name
            for name in ("created_from", "created_to", "since_id", "customer_email")
            if getattr(self, name) is not None
        ]

    @fail_without_retry()
    def execute(self, context: Context) -> dict[str, Any]:  # ruff: ignore[unused-method-argument] - Airflow passes it
        """Export the tickets."""
        filters = self._filters()
        bucket, key = _locate(self.s3_bucket, self.s3_key)
        hook = LightspeedHook(self.lightspeed_conn_id)
        client = hook.get_conn()
        self.log.info(
            "Exporting the tickets of %s with %s to s3://%s/%s",
            client.settings.base_url,
            _told(filters),
            bucket,
            key,
        )

        started = time.monotonic()
        tally = _Tally()
        with ExitStack() as stack:
            s3_object = stack.enter_context(
                S3ObjectWriter(self._s3_client(), bucket, key, replace=self.replace)
            )
            sink: S3ObjectWriter | gzip.GzipFile = s3_object
            if key.endswith(".gz"):
                # No name and no time in the header, so that the same tickets give the same bytes.
                sink = stack.enter_context(
                    gzip.GzipFile("", "wb", _GZIP_LEVEL, cast("RawIOBase", s3_object), mtime=0)
                )
            lines = make_format(Layout())
            reported = started
            for batch in _batches(hook.iter_tickets(**filters), _BATCH):
                sink.write(lines.encode(list(map(dict, batch))))
                tally.add([ticket["id"] for ticket in batch])
                if time.monotonic() - reported >= _PROGRESS_EVERY:
                    reported = time.monotonic()
                    self.log.info(
                        "%d tickets so far, %d calls; %s", tally.tickets, client.calls, client.quota
                    )
        self.log.info(
            "%s holds %d tickets in %d bytes; %d calls in %.1f s; %s",
            s3_object.uri,
            tally.tickets,
            s3_object.size,
            client.calls,
            time.monotonic() - started,
            client.quota,
        )
        return {
            "uri": s3_object.uri,
            "tickets": tally.tickets,
            "min_id": tally.min_id,
            "max_id": tally.max_id,
            "bytes": s3_object.size,
            "calls": client.calls,
        }

    def _filters(self) -> dict[str, Any]:
        """Read the filters, so that all that is wrong with them comes up before anything is sent."""
        for name in self._filters_given:
            if getattr(self, name) is None:
                # Raises the error that a window of text gets.
                parse_instant(name, "None")
        parsed = parse_ticket_filter(
            since_id=self.since_id,
            created_from=self.created_from,
            created_to=self.created_to,
            email=self.customer_email,
        )
        return {
            "since_id": parsed.since_id,
            "created_from": parsed.created_from,
            "created_to": parsed.created_to,
            "email": parsed.email,
        }

    def _s3_client(self) -> Any:
        from airflow.providers.amazon.aws.hooks.s3 import S3Hook

        return S3Hook(aws_conn_id=self.aws_conn_id).get_conn()


class _Tally:
    """What was written so far."""

    def __init__(self) -> None:
        self.tickets = 0
        self.min_id: int | None = None
        self.max_id: int | None = None

    def add(self, ids: list[int]) -> None:
        self.tickets += len(ids)
        self.min_id = min(ids) if self.min_id is None else min(self.min_id, *ids)
        self.max_id = max(ids) if self.max_id is None else max(self.max_id, *ids)


def _locate(bucket: str | None, key: str) -> tuple[str, str]:
    address = urlsplit(key, allow_fragments=False)
    if address.scheme == "s3":
        if bucket:
            raise LightspeedConfigurationError(f"s3_key {key!r} names its bucket: leave s3_bucket out")
        bucket, key = address.netloc, key.removeprefix(f"{key[:2]}://{address.netloc}").removeprefix("/")
    if not bucket or not key:
        raise LightspeedConfigurationError(
            f"the target needs a bucket and a key: s3_bucket {bucket!r}, s3_key {key!r}"
        )
    return bucket, key


def _told(filters: dict[str, Any]) -> str:
    told = [f"{name} {value}" for name, value in filters.items() if value is not None]
    return ", ".join(told) or "no filter"


def _batches(items: Iterable[T], size: int) -> Iterator[list[T]]:
    iterator = iter(items)
    while batch := list(islice(iterator, size)):
        yield batch
