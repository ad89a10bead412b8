"""A shop and a store in memory, for tests of the log of changes: both can be disturbed at each call."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from botocore.exceptions import ClientError, EndpointConnectionError
from botocore.response import StreamingBody

from airflow_provider_lightspeed.api.errors import LightspeedNotFoundError
from airflow_provider_lightspeed.api.paging import Page
from airflow_provider_lightspeed.api.tickets import Request, TicketFilter
from airflow_provider_lightspeed.changes.files import FORMATS
from airflow_provider_lightspeed.changes.log import ChangeLog, Identity
from airflow_provider_lightspeed.changes.scan import Options, Progress, Result, Scan
from airflow_provider_lightspeed.changes.store import Store
from airflow_provider_lightspeed.formats import Layout
from airflow_provider_lightspeed.formats.columns import Columns
from airflow_provider_lightspeed.transfers.staging import Staging

START = datetime(2026, 1, 1, tzinfo=UTC)
PAGE = 3


class Killed(BaseException):
    """The process ended here."""


@dataclass
class S3InMemory:
    """As much of boto3's client as is used, with S3's conditional writes. It checks what must hold of each write.

    :ivar disturb: called before and after each request, with its name; may raise.
    """

    objects: dict[str, tuple[bytes, dict[str, str]]] = field(default_factory=dict)
    disturb: Callable[[str], None] = lambda _: None
    conditions: frozenset[str] = frozenset({"IfNoneMatch", "IfMatch"})
    requests: list[tuple[str, str]] = field(default_factory=list)

    class exceptions:  # ruff: ignore[invalid-class-name] - boto3's own name
        class NoSuchKey(ClientError):
            pass

    def put_object(self, *, Bucket: str, Key: str, Body: Any, Metadata: Any = None, **options: Any) -> Any:
        self._before("put", Key)
        data = Body if isinstance(Body, (bytes, bytearray)) else Body.read()
        there = self.objects.get(Key)
        for name in ("IfNoneMatch", "IfMatch"):
            if name in options and name not in self.conditions:
                options.pop(name)
        if "IfNoneMatch" in options and there is not None:
            raise _error("PreconditionFailed", 412)
        if "IfMatch" in options:
            if there is None:
                raise _error("NoSuchKey", 404)
            if options["IfMatch"] != _etag(there[0]):
                raise _error("PreconditionFailed", 412)
        if "/changes/" in Key:
            assert there is None, f"a committed file was replaced: {Key}"
            seq = int(Metadata["seq"])
            assert seq == 1 or any(name.endswith(f"/{seq - 1:020}{Key[-len(_suffix(Key)):]}") for name in self.objects)
        elif there is not None and Metadata and "seq" in Metadata:
            assert int(Metadata["seq"]) >= int(there[1]["seq"]), f"{Key} went back"
        self.objects[Key] = (bytes(data), dict(Metadata or {}))
        self.disturb(f"after put {Key}")
        return {"ETag": _etag(data)}

    def get_object(self, *, Bucket: str, Key: str) -> Any:
        self._before("get", Key)
        if Key not in self.objects:
            raise self.exceptions.NoSuchKey(*_error("NoSuchKey", 404).args_of)
        data, metadata = self.objects[Key]
        body = StreamingBody(io.BytesIO(data), len(data))
        return {"Body": body, "ETag": _etag(data), "Metadata": metadata}

    def head_object(self, *, Bucket: str, Key: str) -> Any:
        self._before("head", Key)
        if Key not in self.objects:
            raise _error("404", 404)
        data, metadata = self.objects[Key]
        return {"Metadata": metadata, "ContentLength": len(data), "ETag": _etag(data)}

    def delete_object(self, *, Bucket: str, Key: str) -> None:
        self._before("delete", Key)
        assert "/changes/" not in Key
        self.objects.pop(Key, None)

    def delete_objects(self, *, Bucket: str, Delete: Any) -> Any:
        for item in Delete["Objects"]:
            self.delete_object(Bucket=Bucket, Key=item["Key"])
        return {}

    def get_paginator(self, name: str) -> Any:
        return self

    def paginate(self, *, Bucket: str, Prefix: str, StartAfter: str = "") -> Iterator[Any]:
        self._before("list", Prefix)
        keys = sorted(key for key in self.objects if key.startswith(Prefix) and key > StartAfter)
        yield {"Contents": [{"Key": key} for key in keys]}

    def _before(self, request: str, key: str) -> None:
        self.requests.append((request, key))
        self.disturb(f"before {request} {key}")


class _S3Error(ClientError):
    args_of: tuple[Any, str]


def _error(code: str, status: int) -> _S3Error:
    response = {"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": status}}
    error = _S3Error(response, "Request")  # type: ignore[arg-type]  # no more of it is looked at
    error.args_of = (response, "Request")
    return error


def lost_response() -> EndpointConnectionError:
    return EndpointConnectionError(endpoint_url="http://s3")


def _etag(data: bytes) -> str:
    return f'"{hashlib.md5(data, usedforsecurity=False).hexdigest()}"'


def _suffix(key: str) -> str:
    return ".jsonl.gz" if key.endswith(".gz") else ".parquet"


def ticket(ticket_id: int, created: datetime, subject: str, **properties: Any) -> dict[str, Any]:
    return {
        "id": ticket_id,
        "createdAt": created.isoformat(),
        "updatedAt": created.isoformat(),
        "isAnswered": False,
        "isClosed": False,
        "isTodo": False,
        "subject": subject,
        "memo": "",
        "doNotifyAnswered": False,
        "language": {"id": 1, "code": "nl", "locale": "nl_NL", "title": "Nederlands"},
        "customer": {"resource": {"id": 7, "url": "customers/7", "link": "https://shop/customers/7"}},
        "messages": {"resource": {"id": False, "url": f"tickets/{ticket_id}/messages", "link": "https://shop"}},
        **properties,
    }


@dataclass
class Shop:
    """Tickets by id, with all that they ever were. It is also the client of its own tickets.

    :ivar disturb: called before each call, with its name.
    :ivar history: of each ticket, when it became what; None is deleted.
    :ivar hidden: tickets that the list leaves out.
    """

    tickets: dict[int, dict[str, Any]] = field(default_factory=dict)
    history: dict[int, list[tuple[datetime, str | None]]] = field(default_factory=dict)
    hidden: set[int] = field(default_factory=set)
    was_hidden: set[int] = field(default_factory=set)
    disturb: Callable[[str], None] = lambda _: None
    calls: int = 0
    asked: list[str] = field(default_factory=list)
    seconds: int = 0
    next_id: int = 101
    change: Callable[[dict[str, Any]], dict[str, Any]] = lambda one: one

    def now(self) -> datetime:
        return START + timedelta(seconds=self.seconds)

    def tick(self) -> None:
        self.seconds += 1

    def create(self) -> int:
        ticket_id, self.next_id = self.next_id, self.next_id + 1
        self.put(ticket_id)
        return ticket_id

    def put(self, ticket_id: int) -> None:
        self.tick()
        there = self.tickets.get(ticket_id)
        created = datetime.fromisoformat(there["createdAt"]) if there else self.now()
        subject = f"at {self.seconds}"
        self.tickets[ticket_id] = ticket(ticket_id, created, subject)
        self.history.setdefault(ticket_id, []).append((self.now(), subject))

    def delete(self, ticket_id: int) -> None:
        self.tick()
        if self.tickets.pop(ticket_id, None) is not None:
            self.history[ticket_id].append((self.now(), None))

    def hide(self, ticket_id: int) -> None:
        self.hidden.add(ticket_id)
        self.was_hidden.add(ticket_id)

    def values_since(self, ticket_id: int, instant: datetime | None) -> set[str | None]:
        """Return what a ticket was at an instant, and all that it became since."""
        values: list[str | None] = [None]
        for at, value in self.history.get(ticket_id, ()):
            if instant is not None and at <= instant:
                values = []
            values.append(value)
        return set(values)

    def iter_pages(self, tickets: TicketFilter, cursor: Any = None) -> Iterator[Page]:
        last = cursor["last"] if cursor else tickets.since_id or 0
        while True:
            self.calls += 1
            self.asked.append("list")
            self.disturb("list")
            listed = sorted(one for one in self.tickets if one > last and one not in self.hidden)[:PAGE]
            if not listed:
                return
            last = listed[-1]
            page: Any = [self.change(self.tickets[one]) for one in listed]
            yield Page(page, {"last": last}, self.calls, None)

    def call(self, request: Request) -> Any:
        self.calls += 1
        self.asked.append(request.path)
        self.disturb("get")
        ticket_id = int(request.path.removeprefix("tickets/").removesuffix(".json"))
        if ticket_id not in self.tickets:
            raise LightspeedNotFoundError(status=404, message="gone", method="GET", path=request.path)
        return self.change(self.tickets[ticket_id])


IDENTITY = Identity("shop", "nl", "jsonl", "fields", "")
PREFIX = "lightspeed/shop_nl"


@dataclass
class World:
    """A shop, a store, and scans of the one into the other."""

    file_format: str = "jsonl"
    shop: Shop = field(default_factory=Shop)
    s3: S3InMemory = field(default_factory=S3InMemory)

    def __post_init__(self) -> None:
        self.columns = Columns(Layout(file_format=self.file_format, flatten=True))
        self.form = FORMATS[self.file_format](self.columns)
        client: Any = self.s3
        self.log = ChangeLog(Store(client, "bucket", PREFIX, {}), self.form)

    def scan(
        self,
        progress: dict[str, Any] | None = None,
        save: Callable[[dict[str, Any]], None] = lambda _: None,
        **options: Any,
    ) -> Result:
        client: Any = self.s3
        made = Scan(
            self.log,
            self.shop,
            Options(**{"identity": IDENTITY, "recent": timedelta(seconds=40), **options}),
            row=self.columns.row,
            parts=lambda name: Staging(client, "bucket", f"{PREFIX}/changes.parts", "", name, {}),
            save=save,
            now=self.shop.now,
        )
        return made.run(Progress.from_json(progress))

    def files(self) -> list[list[dict[str, Any]]]:
        """Return the rows of each change file, in order."""
        names = sorted(name for name in self.s3.objects if f"{PREFIX}/changes/" in name)
        return [list(self.form.read(io.BytesIO(self.s3.objects[name][0]))) for name in names]

    def current(self) -> tuple[int, dict[int, dict[str, Any]]]:
        """Return the rows of ``current`` by id, and the change file up to which it goes."""
        data, metadata = self.s3.objects[f"{PREFIX}/{self.log.current_name}"]
        return int(metadata["seq"]), {row["id"]: row for row in self.form.read(io.BytesIO(data))}


def replay(rows: Iterator[dict[str, Any]]) -> dict[int, dict[str, Any]]:
    """Apply rows in any order, with repeats, as a warehouse does that keeps tombstones."""
    latest: dict[int, dict[str, Any]] = {}
    for row in rows:
        if row["id"] not in latest or row["_seq"] > latest[row["id"]]["_seq"]:
            latest[row["id"]] = row
    return {
        ticket_id: {name: value for name, value in row.items() if name != "op"}
        for ticket_id, row in latest.items()
        if row["op"] != "D"
    }
