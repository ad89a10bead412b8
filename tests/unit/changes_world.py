"""A shop and a store in memory, for tests of the log of changes: both can be disturbed at each call."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from math import inf
from threading import Lock
from types import SimpleNamespace
from typing import Any

from botocore.exceptions import ClientError, EndpointConnectionError
from botocore.response import StreamingBody

from airflow_provider_lightspeed.api.errors import LightspeedMalformedResponseError, LightspeedNotFoundError
from airflow_provider_lightspeed.api.paging import Cursor, Page
from airflow_provider_lightspeed.api.paging.cursors import OldestFirstCursor, ReaderState
from airflow_provider_lightspeed.api.paging.timezone import FilterZone
from airflow_provider_lightspeed.api.tickets import RejectedTicket, Request, TicketFilter
from airflow_provider_lightspeed.changes.files import FORMATS
from airflow_provider_lightspeed.changes.log import ChangeLog
from airflow_provider_lightspeed.changes.options import Options
from airflow_provider_lightspeed.changes.progress import Progress
from airflow_provider_lightspeed.changes.records import Identity
from airflow_provider_lightspeed.changes.scan import Result, Scan
from airflow_provider_lightspeed.changes.store import Store
from airflow_provider_lightspeed.formats import Layout
from airflow_provider_lightspeed.formats.columns import Columns
from airflow_provider_lightspeed.quarantine import Quarantine
from airflow_provider_lightspeed.s3.client import WriteOptions
from airflow_provider_lightspeed.s3.staging import Staging

START = datetime(2026, 1, 1, tzinfo=UTC)
PAGE = 3


class Killed(BaseException):
    """The process ended here."""


@dataclass
class S3InMemory:
    """As much of boto3's client as is used, with S3's conditional writes. It checks what must hold of each write.

    :ivar disturb: called before and after each request, with its name; may raise.
    :ivar judge: called with the name and arguments of each request; raises what the store refuses.
    """

    objects: dict[str, tuple[bytes, dict[str, str]]] = field(default_factory=dict)
    disturb: Callable[[str], None] = lambda _: None
    conditions: frozenset[str] = frozenset({"IfNoneMatch", "IfMatch"})
    judge: Callable[[str, dict[str, Any]], None] = lambda *_: None
    requests: list[tuple[str, str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.exceptions = SimpleNamespace(NoSuchKey=_NoSuchKeyError)
        self.deleting = Lock()

    def put_object(self, **given: Any) -> Any:
        key, body, metadata = given["Key"], given["Body"], given.get("Metadata")
        self._before("put", given)
        data = body if isinstance(body, (bytes, bytearray)) else body.read()
        there = self.objects.get(key)
        if "IfNoneMatch" in given and "IfNoneMatch" in self.conditions and there is not None:
            raise s3_error("PreconditionFailed", 412)
        if "IfMatch" in given and "IfMatch" in self.conditions:
            if there is None:
                raise s3_error("NoSuchKey", 404)
            if given["IfMatch"] != _etag(there[0]):
                raise s3_error("PreconditionFailed", 412)
        check_write(key, metadata, {name: found[1].get("seq") for name, found in self.objects.items()})
        self.objects[key] = (bytes(data), dict(metadata or {}))
        self.disturb(f"after put {key}")
        return {"ETag": _etag(data)}

    def get_object(self, **given: Any) -> Any:
        key = given["Key"]
        self._before("get", given)
        if key not in self.objects:
            raise s3_error("NoSuchKey", 404, _NoSuchKeyError)
        data, metadata = self.objects[key]
        body = StreamingBody(io.BytesIO(data), len(data))
        return {"Body": body, "ETag": _etag(data), "Metadata": metadata}

    def head_object(self, **given: Any) -> Any:
        key = given["Key"]
        self._before("head", given)
        if key not in self.objects:
            raise s3_error("404", 404)
        data, metadata = self.objects[key]
        return {"Metadata": metadata, "ContentLength": len(data), "ETag": _etag(data)}

    def delete_object(self, **given: Any) -> None:
        self._before("delete", given)
        with self.deleting:  # several parts are deleted at once, by threads
            check_delete(given["Key"], {name: found[1].get("seq") for name, found in self.objects.items()})
            self.objects.pop(given["Key"], None)

    def delete_objects(self, **given: Any) -> Any:
        for item in given["Delete"]["Objects"]:
            self.delete_object(Key=item["Key"])
        return {}

    def get_paginator(self, _: str) -> Any:
        return self

    def paginate(self, **given: Any) -> Iterator[Any]:
        self._before("list", {"Key": given["Prefix"]})
        after = given.get("StartAfter", "")
        keys = sorted(key for key in self.objects if key.startswith(given["Prefix"]) and key > after)
        yield {"Contents": [{"Key": key} for key in keys]}

    def _before(self, request: str, given: dict[str, Any]) -> None:
        self.requests.append((request, given["Key"]))
        self.judge(request, given)
        self.disturb(f"before {request} {given['Key']}")


def check_write(key: str, metadata: dict[str, str] | None, there: Mapping[str, str | None]) -> None:
    """Assert what must hold of each write that a store accepts.

    :param there: what the store has, with the numbers of the change files up to which it goes.
    """
    if f"{PREFIX}/changes/" in key:
        assert key not in there, f"a committed file was replaced: {key}"
        seq = int((metadata or {})["seq"])
        suffix = key[key.index(".") :]
        assert seq == 1 or any(name.endswith(f"/{seq - 1:020}{suffix}") for name in there)
    elif metadata and "seq" in metadata and there.get(key):
        assert int(metadata["seq"]) >= int(there[key] or 0), f"{key} went back"


def check_delete(key: str, there: Mapping[str, str | None]) -> None:
    """Assert that what is deleted below the prefix is the oldest change file, and not needed any more."""
    if not key.startswith(f"{PREFIX}/") or key.endswith("conditions-again"):
        return
    files = sorted(name for name, seq in there.items() if f"{PREFIX}/changes/" in name and seq)
    assert key == files[0] != files[-1]
    reached = next(seq for name, seq in there.items() if f"{PREFIX}/current/" in name)
    assert int(there[key] or 0) < int(reached or 0)


class _NoSuchKeyError(ClientError):
    pass


def s3_error(code: str, status: int, kind: type[ClientError] = ClientError) -> ClientError:
    response: Any = {"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": status}}
    return kind(response, "Request")


def lost_response() -> EndpointConnectionError:
    return EndpointConnectionError(endpoint_url="http://s3")


def _etag(data: bytes) -> str:
    return f'"{hashlib.md5(data, usedforsecurity=False).hexdigest()}"'


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
        "messages": {
            "resource": {"id": False, "url": f"tickets/{ticket_id}/messages", "link": "https://shop"}
        },
        **properties,
    }


@dataclass
class Shop:
    """Tickets by id, with all that they ever were. It is also the client of its own tickets.

    :ivar disturb: called before each call, with its name.
    :ivar history: of each ticket, when it became what; None is deleted.
    :ivar hidden: tickets that the list leaves out.
    :ivar announced: which estimates the scan has logged, with their calls.
    :ivar malformed: tickets whose rows can't be read, with the ids that can.
    """

    tickets: dict[int, dict[str, Any]] = field(default_factory=dict)
    history: dict[int, list[tuple[datetime, str | None]]] = field(default_factory=dict)
    hidden: set[int] = field(default_factory=set)
    was_hidden: set[int] = field(default_factory=set)
    malformed: dict[int, int | None] = field(default_factory=dict)
    disturb: Callable[[str], None] = lambda _: None
    calls: int = 0
    asked: list[str] = field(default_factory=list)
    announced: list[tuple[str, int]] = field(default_factory=list)
    quota: None = None
    calls_left: float = inf
    seconds: int = 0
    next_id: int = 101
    proves_gone: bool = True
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

    def iter_pages(
        self, tickets: TicketFilter, cursor: Cursor | None = None, *, keep_malformed: bool = False
    ) -> Iterator[Page]:
        last = tickets.since_id or 0
        if cursor is not None:
            assert isinstance(cursor, OldestFirstCursor)
            last = cursor.last
        seen = cursor.reader.seen if cursor else 0
        while True:
            self.calls += 1
            self.asked.append("list")
            self.disturb("list")
            listed = sorted(one for one in self.tickets if one > last and one not in self.hidden)[:PAGE]
            if not listed:
                return
            last = listed[-1]
            page: Any = [self.change(self.tickets[one]) for one in listed if one not in self.malformed]
            rejected = [
                RejectedTicket(self.malformed[one], f"raw {one}".encode(), "whose memo is bad")
                for one in listed
                if one in self.malformed
            ]
            assert keep_malformed or not rejected
            seen += len(listed)
            reader = ReaderState(FilterZone(), seen=seen, longest=PAGE, boundary=last)
            position = OldestFirstCursor(reader, last, inclusive=False)
            yield Page(page, position, reader.seen, counted=None, boundary=last, rejected=rejected)

    def estimate(self, calls: int, *, sequential: int = 0) -> timedelta:
        return timedelta(seconds=calls)

    def log_estimate(self, calls: int, job: str, *, sequential: int | None = None) -> None:
        self.announced.append((job, calls))

    def call(self, request: Request, *, max_wait: float | None = None) -> Any:
        self.calls += 1
        self.asked.append(request.path)
        if request.path == "tickets/count.json":
            return len(self.tickets)
        self.disturb("get")
        ticket_id = int(request.path.removeprefix("tickets/").removesuffix(".json"))
        if ticket_id not in self.tickets:
            details = {"status": 404, "message": "gone", "method": "GET", "path": request.path}
            raise LightspeedNotFoundError(gone=self.proves_gone, **details)
        if ticket_id in self.malformed:
            raise LightspeedMalformedResponseError("it can't be read")
        return self.change(self.tickets[ticket_id])


IDENTITY = Identity("shop", "nl", "jsonl", "fields", "")
PREFIX = "lightspeed/shop_nl"


@dataclass
class World:
    """A shop, a store, and scans of the one into the other."""

    file_format: str = "jsonl"
    shop: Shop = field(default_factory=Shop)
    s3: Any = field(default_factory=S3InMemory)
    write: WriteOptions = field(default_factory=WriteOptions)

    def __post_init__(self) -> None:
        self.columns = Columns(Layout(file_format=self.file_format, flatten=True))
        self.form = FORMATS[self.file_format](self.columns)
        self.log = ChangeLog(Store(self.s3, "bucket", PREFIX, self.write.for_objects), self.form)

    def scan(
        self,
        progress: dict[str, Any] | None = None,
        save: Callable[[dict[str, Any]], None] = lambda _: None,
        *,
        quarantine: bool = False,
        **options: Any,
    ) -> Result:
        made = Scan(
            self.log,
            self.shop,
            Options(**{"identity": IDENTITY, "recent": timedelta(seconds=40), **options}),
            row=self.columns.row,
            parts=lambda name: Staging(
                self.s3, "bucket", f"{PREFIX}/changes", options.get("run", ""), name, self.write.for_staging
            ),
            save=save,
            quarantine=Quarantine() if quarantine else None,
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
