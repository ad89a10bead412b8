"""Each window of the quota gets a bulk change on, however few calls it allows: simulated, with a clock of its own."""

from __future__ import annotations

import json
import threading
from bisect import bisect_right
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from math import inf
from types import SimpleNamespace
from typing import Any

import pytest

from airflow_provider_lightspeed.api.errors import (
    LightspeedConfigurationError,
    LightspeedQuotaExhaustedError,
    LightspeedTooLateError,
)
from airflow_provider_lightspeed.api.paging.cursors import OldestFirstCursor, ReaderState
from airflow_provider_lightspeed.api.paging.timezone import FilterZone
from airflow_provider_lightspeed.bulk import refresh
from airflow_provider_lightspeed.bulk.change import BulkChange
from airflow_provider_lightspeed.bulk.job import Job, Status
from airflow_provider_lightspeed.bulk.plan import Criteria
from airflow_provider_lightspeed.cancellation import CancelToken

_WINDOW = 300.0
_EPOCH = datetime(2026, 1, 1, tzinfo=UTC)
_PAGE = 250
#: Windows that are spent on learning that a walk can't be resumed, and on the last few calls.
_SPARE = 6


class Shop:
    """Tickets, and a quota that comes back with each window.

    :param resumable: whether a walk over the list can be resumed where it was.
    """

    def __init__(self, ids: range, calls: int, *, reserve: float = 0.0, resumable: bool = True) -> None:
        self.tickets: dict[int, Any] = {
            key: {
                "id": key,
                "createdAt": "2025-01-01T00:00:00+00:00",
                "updatedAt": "2025-01-01T00:00:00+00:00",
                "isClosed": False,
            }
            for key in ids
        }
        self.allowed = calls - int(calls * reserve)
        self.resumable = resumable
        self.now = 0.0
        self.used: dict[int, int] = {}
        self.puts: list[int] = []
        self.calls = 0
        self.lock = threading.Lock()

    @property
    def left(self) -> int:
        return self.allowed - self.used.get(int(self.now // _WINDOW), 0)

    def answer(self, request: Any) -> Any:
        self.used[int(self.now // _WINDOW)] = self.used.get(int(self.now // _WINDOW), 0) + 1
        self.calls += 1
        self.now += 0.05
        assert self.calls < 100_000, "it never ends"
        if request.path.endswith("count.json"):
            return len(self.tickets)
        ticket = self.tickets[int(request.path.removesuffix(".json").rpartition("/")[2])]
        if request.method == "PUT":
            self.puts.append(ticket["id"])
            ticket |= request.body["ticket"] | {
                "updatedAt": (_EPOCH + timedelta(seconds=self.now)).isoformat()
            }
        return dict(ticket)


class Client:
    """What bulk changes know of a client, for one task on one worker."""

    def __init__(self, shop: Shop, max_wait: float) -> None:
        self.shop, self.max_wait = shop, max_wait
        self.calls = 0

    @property
    def quota(self) -> str | None:
        return f"{self.shop.left} of {self.shop.allowed} calls left" if self.calls else None

    @property
    def calls_left(self) -> float:
        return self.shop.left if self.calls else inf

    @property
    def calls_per_window(self) -> float:
        return self.shop.allowed if self.calls else inf

    def log_estimate(self, calls: int, job: str, *, sequential: int | None = None) -> None: ...

    def estimate(self, _: int, *, sequential: int = 0) -> timedelta:
        return timedelta(0)

    def call(self, request: Any, *, send_before: float = inf, max_wait: float | None = None) -> Any:
        with self.shop.lock:
            while self.shop.left <= 0:
                end = (self.shop.now // _WINDOW + 1) * _WINDOW
                if end - self.shop.now > (self.max_wait if max_wait is None else max_wait):
                    raise LightspeedQuotaExhaustedError("used up", until=_EPOCH + timedelta(seconds=end))
                self.shop.now = end
            if self.shop.now > send_before:
                raise LightspeedTooLateError("it had to wait for too long")
            self.calls += 1
            return self.shop.answer(request)

    def iter_pages(
        self, tickets: Any, cursor: Any = None, *, max_wait: float | None = None, keep_malformed: bool = False
    ) -> Iterator[Any]:
        assert keep_malformed  # one malformed ticket must not stop the others
        ids = sorted(key for key in self.shop.tickets if key > (tickets.since_id or 0))
        first = bisect_right(ids, cursor.last) if cursor else 0
        for start in range(first, len(ids) + 1, _PAGE):
            self.call(SimpleNamespace(method="GET", path="tickets/count.json"), max_wait=max_wait)
            page = [dict(self.shop.tickets[key]) for key in ids[start : start + _PAGE]]
            last = max(ids[: start + _PAGE], default=0)
            position = cursor_after(last) if self.shop.resumable else None
            yield SimpleNamespace(tickets=page, cursor=position, seen=last, counted=len(ids), rejected=[])


def cursor_after(last: int) -> OldestFirstCursor:
    """Resume a walk above a ticket."""
    reader = ReaderState(zone=FilterZone(), seen=0, longest=_PAGE, boundary=last)
    return OldestFirstCursor(reader, last, inclusive=False)


def change(**arguments: Any) -> BulkChange:
    return BulkChange(**{
        "changed_key": "closed",
        "properties": {"isClosed": True},
        "ticket_ids": None,
        "criteria": Criteria(),
        "max_tickets": 10_000,
        "max_share": 1.0,
        "if_changed": "skip",
        "dry_run": False,
        "receipt_uri": None,
        "files": SimpleNamespace(read=None, write=None),
        "cancel": CancelToken(),
        **arguments,
    })


def run(shop: Shop, job_of: BulkChange, *, max_wait: float, clock: Callable[[Shop], None]) -> tuple[Job, int]:
    """Run it over as many windows as it takes: return the job, and how many windows passed without any progress."""
    clock(shop)
    job, idle = job_of.start(None, "shop"), 0
    while True:
        client: Any = Client(shop, max_wait)
        before = job.progress
        wait = job_of.run(client, job, save=lambda: None)
        kept = Job.from_checkpoint(json.loads(json.dumps(job.to_checkpoint())))
        assert kept is not None
        if wait is None:
            return job, idle
        job, idle = kept, idle + (job.progress == before)
        shop.now = max(shop.now, (wait.until - _EPOCH).total_seconds())


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[Shop], None]:
    return lambda shop: monkeypatch.setattr(refresh, "monotonic", lambda: shop.now)


@pytest.mark.parametrize("max_wait", [60.0, inf])
@pytest.mark.parametrize("calls", [*range(2, 13), 17, 25, 30, 44, 60])
def test_ids_far_apart(clock: Callable[[Shop], None], calls: int, max_wait: float) -> None:
    shop = Shop(range(1_000, 451_000, 10_000), calls)
    ids = list(shop.tickets)
    shop.tickets |= {key: {"id": key, "isClosed": True} for key in range(500_000, 520_000)}
    job, idle = run(shop, change(ticket_ids=ids), max_wait=max_wait, clock=clock)
    assert job.ids_with(Status.DONE) == ids == sorted(shop.puts)
    assert not idle
    # A task that waits on its worker may lose a call of each window: what it has read gets too old meanwhile.
    assert shop.now / _WINDOW <= len(ids) / (calls // 2) * (2 if max_wait == inf else 1) + 2


@pytest.mark.parametrize(("calls", "reserve"), [(300, 0.9), (20, 0.9), (4, 0.5), (9, 0.75)])
def test_a_reserve(clock: Callable[[Shop], None], calls: int, reserve: float) -> None:
    shop = Shop(range(1_000, 451_000, 10_000), calls, reserve=reserve)
    ids = list(shop.tickets)
    shop.tickets |= {key: {"id": key, "isClosed": True} for key in range(500_000, 520_000)}
    job, idle = run(shop, change(ticket_ids=ids), max_wait=60, clock=clock)
    assert job.ids_with(Status.DONE) == ids
    assert not idle


@pytest.mark.parametrize("resumable", [True, False])
@pytest.mark.parametrize("calls", [*range(2, 9), 17, 60])
def test_criteria_and_ids_close_together(clock: Callable[[Shop], None], calls: int, resumable: bool) -> None:
    shop = Shop(range(1, 1_201), calls, resumable=resumable)
    criteria = Criteria(where=lambda ticket: ticket["id"] % 10 == 0)
    expected = [key for key in shop.tickets if key % 10 == 0]
    job, idle = run(shop, change(criteria=criteria), max_wait=60, clock=clock)
    assert job.ids_with(Status.DONE) == expected == sorted(shop.puts)
    assert idle <= (0 if resumable else _SPARE)


@pytest.mark.parametrize("calls", [2, 3, 7, 60])
def test_many_bare_ids(clock: Callable[[Shop], None], calls: int) -> None:
    shop = Shop(range(1, 1_201), calls)
    ids = list(shop.tickets)[:400]
    job, idle = run(shop, change(ticket_ids=ids), max_wait=60, clock=clock)
    assert job.ids_with(Status.DONE) == ids == sorted(shop.puts)
    assert not idle


def test_one_call_a_window_is_too_few(clock: Callable[[Shop], None]) -> None:
    for shop in (Shop(range(1, 10), 1), Shop(range(1, 10), 10, reserve=0.9)):
        with pytest.raises(
            LightspeedConfigurationError, match=r"takes 2 API calls, and a window allows 1 .*9 tickets"
        ):
            run(shop, change(ticket_ids=list(shop.tickets)), max_wait=60, clock=clock)
        assert shop.calls == 1
        # Nothing is changed in a dry run, and one call reads a ticket.
        job, _ = run(shop, change(ticket_ids=list(shop.tickets), dry_run=True), max_wait=60, clock=clock)
        assert len(job.ids_with(Status.DONE)) == 9


def test_a_job_that_gets_nowhere_fails(
    clock: Callable[[Shop], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    shop = Shop(range(1_000, 451_000, 10_000), 10)
    real = shop.answer

    def greedy(request: Any) -> Any:
        response = real(request)
        shop.used[int(shop.now // _WINDOW)] = 10  # another program on the key takes all that is left
        return response

    monkeypatch.setattr(shop, "answer", greedy)
    with pytest.raises(
        LightspeedConfigurationError, match=r"made no progress in 100 windows .*45 tickets left"
    ):
        run(shop, change(ticket_ids=list(shop.tickets)), max_wait=60, clock=clock)
    assert not shop.puts


@pytest.mark.parametrize("refused", [[2], [2, 3], [1, 2, 3]])
def test_changes_that_always_have_to_wait_fail(
    clock: Callable[[Shop], None], monkeypatch: pytest.MonkeyPatch, refused: list[int]
) -> None:
    shop = Shop(range(1, 4), 10_000)
    real = Client.call

    def call(client: Client, request: Any, **options: Any) -> Any:
        if request.method == "PUT" and request.path in {f"tickets/{key}.json" for key in refused}:
            shop.now += 60  # the shop refuses it for a minute each time
        return real(client, request, **options)

    monkeypatch.setattr(Client, "call", call)
    job, _ = run(shop, change(ticket_ids=[1, 2, 3]), max_wait=inf, clock=clock)
    assert job.ids_with(Status.FAILED) == refused
    assert job.ids_with(Status.DONE) == [key for key in (1, 2, 3) if key not in refused]
    assert all("had to wait for too long" in reason for reason in job.failed().values())
    # The first one fails after ten readings, each of the others after one.
    assert shop.calls < 40
