"""Each window of the quota gets an export on, however few calls it allows: simulated, with a clock of its own."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from math import inf
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from airflow_provider_lightspeed._checkpoint import Checkpoint
from airflow_provider_lightspeed.api.errors import LightspeedConfigurationError, LightspeedQuotaExhaustedError
from airflow_provider_lightspeed.api.paging import Page, walk
from airflow_provider_lightspeed.api.tickets import TicketFilter
from airflow_provider_lightspeed.formats import Layout, make_format
from airflow_provider_lightspeed.s3.client import WriteOptions
from airflow_provider_lightspeed.s3.staging import Chunk
from airflow_provider_lightspeed.transfers import attempt as attempt_module
from airflow_provider_lightspeed.transfers import messages as messages_module
from airflow_provider_lightspeed.transfers.attempt import ExportAttempt, ExportJob
from airflow_provider_lightspeed.transfers.progress import Progress, SavedProgress
from airflow_provider_lightspeed.transfers.redaction import Redaction
from tests.unit.paging_world import World

_WINDOW = 300.0
_EPOCH = datetime(2026, 1, 1, tzinfo=UTC)
_END = int(_EPOCH.timestamp())


class Shop:
    """A world of tickets with a quota that comes back with each window."""

    def __init__(self, tickets: int, calls: int, *, order: str, changed: float, reserve: float = 0.0) -> None:
        self.world = World(order=order).fill(range(_END - tickets * 300, _END, 300), changed=changed)
        self.allowed = calls - int(calls * reserve)
        self.now, self.calls = 0.0, 0
        self.used: dict[int, int] = {}
        self.lock = threading.Lock()

    @property
    def left(self) -> int:
        return self.allowed - self.used.get(int(self.now // _WINDOW), 0)

    def use(self) -> None:
        window = int(self.now // _WINDOW)
        self.used[window] = self.used.get(window, 0) + 1
        self.calls += 1
        assert self.calls < 20_000, "it never ends"


class Client:
    """What exports know of a client, for one try on one worker."""

    def __init__(self, shop: Shop, max_wait: float) -> None:
        self.shop, self.max_wait = shop, max_wait
        self.calls, self.slept = 0, 0.0
        self.quota = None
        self.settings = SimpleNamespace(secret="secret")

    @property
    def calls_left(self) -> float:
        return self.shop.left if self.calls else inf

    @property
    def calls_per_window(self) -> float:
        return self.shop.allowed if self.calls else inf

    def sleep(self, seconds: float) -> None:
        self.slept += seconds
        self.shop.now += seconds

    def estimate(self, _: int, *, sequential: int = 0) -> timedelta:
        return timedelta(0)

    def log_estimate(self, calls: int, job: str, *, sequential: int | None = None) -> None: ...

    def call(self, request: Any, *, max_wait: float | None = None) -> Any:
        with self.shop.lock:
            self._turn()
            return self.shop.world.answer(request)

    def iter_pages(
        self, tickets: TicketFilter, cursor: Any = None, *, keep_malformed: bool = False
    ) -> Iterator[Page]:
        steps, reply = walk(tickets, None, cursor, keep_malformed=keep_malformed), None
        while True:
            try:
                step = steps.send(reply)
            except StopIteration:
                return
            if isinstance(step, Page):
                yield step
                reply = None
            else:
                reply = self.call(step)

    def iter_ticket_messages(self, ticket_id: int) -> Iterator[dict[str, Any]]:
        with self.shop.lock:
            self._turn()
        yield {"id": ticket_id, "message": "text"}

    def _turn(self) -> None:
        while self.shop.left <= 0:
            end = (self.shop.now // _WINDOW + 1) * _WINDOW
            if end - self.shop.now > self.max_wait:
                raise LightspeedQuotaExhaustedError("used up", until=_EPOCH + timedelta(seconds=end))
            self.sleep(end - self.shop.now)
        self.calls += 1
        self.shop.use()


class Parts:
    """Staged parts, kept over tries."""

    def __init__(self) -> None:
        self.kept: dict[str, bytes] = {}

    def add(self, data: bytes | bytearray) -> Chunk:
        chunk = Chunk(str(len(self.kept)), len(data))
        self.kept[chunk.name] = bytes(data)
        return chunk

    def read(self, chunks: Iterable[Chunk]) -> Iterator[bytes]:
        yield from (self.kept[chunk.name] for chunk in chunks)


class Target:
    """The object."""

    uri = "s3://bucket/tickets.jsonl"

    def __init__(self) -> None:
        self.data = b""

    def existing(self) -> None:
        return None

    def publish(self, chunks: Iterable[bytes], **_: Any) -> int:
        self.data = b"".join(chunks)
        return len(self.data)


def export(shop: Shop, monkeypatch: pytest.MonkeyPatch, *, messages: bool) -> tuple[list[int], int, float]:
    """Export over as many windows as it takes.

    :return: the ids in the object, windows passed without any progress, and seconds waited on a worker.
    """
    clock = SimpleNamespace(now=lambda _: _EPOCH + timedelta(seconds=shop.now))
    monkeypatch.setattr(attempt_module, "datetime", clock)
    target, parts = Target(), Parts()
    progress, idle, waited = Progress.start("job"), 0, 0.0
    while True:
        clients: list[Client] = []

        def hook(max_wait: float | None, clients: list[Client] = clients) -> Any:
            clients.append(client := Client(shop, 60.0 if max_wait is None else max_wait))
            return SimpleNamespace(get_conn=lambda: client, iter_ticket_messages=client.iter_ticket_messages)

        attempt = ExportAttempt(
            ExportJob(
                shop="shop",
                bucket="bucket",
                key="tickets.jsonl",
                tickets=TicketFilter(),
                file_format=make_format(Layout()),
                redaction=Redaction((), (), ""),
                include_messages=messages,
                skip_if_empty=False,
                replace=False,
                quarantine=False,
                options=WriteOptions(),
            ),
            Checkpoint({}),
            hook=hook,
            aws_conn_id=None,
            owner="",
            generation="",
        )
        anything: Any = attempt
        anything._target, anything._staging = target, parts
        attempt.progress, attempt._saved = progress, SavedProgress(Checkpoint({}), progress)
        before = (progress.tickets, progress.cursor)
        try:
            attempt._read_list(None)
        except LightspeedQuotaExhaustedError as error:
            shop.now = max(shop.now, (error.until - _EPOCH).total_seconds())
            saved = Progress.from_json(msgspec.json.decode(msgspec.json.encode(attempt.resumable_state)))
            assert saved is not None
            saved.not_before = None
            progress = saved
            idle += before == (progress.tickets, progress.cursor)
            continue
        finally:
            waited += sum(client.slept for client in clients)
        return [row["id"] for row in map(msgspec.json.decode, target.data.splitlines())], idle, waited


@pytest.mark.parametrize("order", ["oldest", "newest"])
@pytest.mark.parametrize("changed", [0.0, 0.3])
@pytest.mark.parametrize(
    "calls", [2, 4, 17, *(pytest.param(calls, marks=pytest.mark.in_all) for calls in (3, 5, 8, 60))]
)
def test_with_messages(monkeypatch: pytest.MonkeyPatch, calls: int, changed: float, order: str) -> None:
    shop = Shop(300, calls, order=order, changed=changed)
    ids, idle, waited = export(shop, monkeypatch, messages=True)
    assert sorted(ids) == sorted(shop.world.rows)
    # Three windows show that this list can't be resumed where it is: until a change shows its order, no page can.
    assert idle <= (0 if changed else 3)
    assert not (changed and waited)
    # One call of a window goes to the page of its tickets; without a cursor, all pages above it are read too.
    assert shop.now / _WINDOW <= (300 / (calls - 1) if changed else 300) + 20


@pytest.mark.parametrize("messages", [True, False])
@pytest.mark.parametrize(("calls", "reserve"), [(300, 0.9), (20, 0.9), (4, 0.5), (9, 0.75)])
def test_a_reserve(monkeypatch: pytest.MonkeyPatch, calls: int, reserve: float, messages: bool) -> None:
    shop = Shop(300, calls, order="newest", changed=0.3, reserve=reserve)
    ids, _, _ = export(shop, monkeypatch, messages=messages)
    assert sorted(ids) == sorted(shop.world.rows)


@pytest.mark.parametrize("order", ["oldest", "newest", "unordered", "last_change"])
@pytest.mark.parametrize("changed", [0.0, 0.3])
@pytest.mark.parametrize("calls", [1, 2, 3, 5, 17, 60])
def test_without_messages(monkeypatch: pytest.MonkeyPatch, calls: int, changed: float, order: str) -> None:
    shop = Shop(1_600, calls, order=order, changed=changed)
    ids, idle, _ = export(shop, monkeypatch, messages=False)
    assert sorted(ids) == sorted(shop.world.rows)
    assert idle <= 6


def test_one_call_a_window_is_too_few_for_messages(monkeypatch: pytest.MonkeyPatch) -> None:
    for calls, reserve in (1, 0.0), (10, 0.9):
        shop = Shop(20, calls, order="newest", changed=0.3, reserve=reserve)
        with pytest.raises(
            LightspeedConfigurationError,
            match=r"takes 2 API calls, and a window allows 1 .*0 tickets read so far",
        ):
            export(shop, monkeypatch, messages=True)
        assert shop.calls == 1


def test_what_a_window_has_brought_is_kept_whichever_ticket_took_its_calls() -> None:
    exhausted = LightspeedQuotaExhaustedError("the window is used up", until=_EPOCH, sent=False)

    def fetch(ticket_id: int) -> list[Any]:
        if ticket_id in {1, 3}:
            raise exhausted
        return [{"id": 10 * ticket_id}]

    done, missing, error = messages_module.with_messages([{"id": number} for number in range(1, 5)], fetch)
    assert done == [{"id": 2, "messages": [{"id": 20}]}, {"id": 4, "messages": [{"id": 40}]}]
    assert (missing, error) == (0, exhausted)
