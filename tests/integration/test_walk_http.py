"""Walks over real HTTP, in a shop that others change and whose answers fail: compared with the shop's truth."""

from __future__ import annotations

import asyncio
from collections.abc import Generator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from math import ceil
from typing import Any

import pytest

from airflow_provider_lightspeed.api import retry
from airflow_provider_lightspeed.api.client import AsyncLightspeedClient, ClientSettings, LightspeedClient
from airflow_provider_lightspeed.api.tickets import TicketFilter
from airflow_provider_lightspeed.sandbox import NO_LIMITS, Churn, Fault, Sandbox, ShopConfig

END = datetime(2026, 4, 10, tzinfo=UTC)
ORDERS = ["oldest", "newest", "unordered", "last_change", "last_change_asc"]
ZONES = [
    "UTC",
    "America/New_York",
    "+14:00",
    *(pytest.param(zone, marks=pytest.mark.in_all) for zone in ("Europe/Amsterdam", "-12:00")),
]
FAULTS = (
    Fault("503", probability=0.03, times=0),
    Fault("drop", probability=0.02, times=0),
    Fault("broken-json", probability=0.02, times=0),
    Fault("error-200", probability=0.02, times=0),
)


def config(**options: Any) -> ShopConfig:
    fixed = {"tickets": 1_100, "end": END, "days": 30.0, "limits": NO_LIMITS, "burst_limit": 0}
    return ShopConfig(**{**fixed, **options})


def settings_of(shop: Sandbox, **options: Any) -> ClientSettings:
    return ClientSettings(base_url=shop.url, key=shop.key, secret=shop.secret, calls_per_second=0, **options)


@contextmanager
def client_of(shop: Sandbox, **options: Any) -> Generator[LightspeedClient, None, None]:
    client = LightspeedClient(settings_of(shop, **options))
    try:
        yield client
    finally:
        client.close()


@pytest.fixture(autouse=True)
def no_back_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """Try again at once."""
    monkeypatch.setattr(retry, "backoff", lambda tries, chance: 0.0)


def matching(shop: Sandbox, wanted: TicketFilter) -> set[int]:
    return {number for number, ticket in shop.shop.tickets().items() if wanted.matches(ticket)}  # type: ignore[arg-type]


def assert_complete(read: list[int], before: set[int], shop: Sandbox, wanted: TicketFilter) -> None:
    assert len(read) == len(set(read))
    after = matching(shop, wanted)
    assert before & after <= set(read), f"lost: {sorted((before & after) - set(read))}"
    deleted = {number for number, ticket in shop.shop.deleted().items() if wanted.matches(ticket)}  # type: ignore[arg-type]
    assert set(read) <= before | after | deleted


def read_all(kind: str, shop: Sandbox, wanted: TicketFilter) -> list[int]:
    if kind == "sync":
        with client_of(shop) as client:
            return [ticket["id"] for ticket in client.iter_tickets(wanted)]

    async def walk() -> list[int]:
        async with AsyncLightspeedClient(settings_of(shop)) as client:
            return [ticket["id"] async for ticket in client.iter_tickets(wanted)]

    return asyncio.run(walk())


@pytest.mark.parametrize("kind", ["sync", "async"])
@pytest.mark.parametrize("zone", ZONES)
@pytest.mark.parametrize("order", ORDERS)
def test_complete_while_others_change_the_shop_and_answers_fail(order: str, zone: str, kind: str) -> None:
    # Each order and zone meets both meanings of each bound: one with each client.
    inclusive = (kind == "sync") is (zone in {"UTC", "+14:00"})
    shop_config = config(
        order=order,
        filter_timezone=zone,
        answer_timezone="Europe/Amsterdam",
        id_step=3,
        min_inclusive=not inclusive,
        max_inclusive=inclusive,
        since_id_inclusive=inclusive,
        churn=Churn(inserts=0.5, changes=0.5, deletes=0.5),
        faults=FAULTS,
    )
    # Around the change of clocks on 29 March.
    window = TicketFilter(created_from=END - timedelta(days=20), created_to=END - timedelta(days=5))
    wanted = TicketFilter() if zone == "UTC" else window
    with Sandbox(shop_config) as shop:
        before = matching(shop, wanted)
        assert_complete(read_all(kind, shop, wanted), before, shop, wanted)
        assert shop.shop.deleted()
        assert any(call.fault for call in shop.calls)


@pytest.mark.parametrize("order", ORDERS)
def test_resumed_after_each_page(order: str) -> None:
    churn = Churn(inserts=0.5, changes=0.5, deletes=0.5)
    with Sandbox(config(order=order, churn=churn)) as shop, client_of(shop) as client:
        wanted = TicketFilter(created_to=END)
        before = matching(shop, wanted)
        read: list[int] = []
        cursor, ended, resumed = None, False, 0
        while not ended:
            ended = True
            for page in client.iter_pages(wanted, cursor):
                read += [ticket["id"] for ticket in page.tickets]
                if page.cursor is not None and resumed < 5:
                    cursor, ended, resumed = page.cursor, False, resumed + 1
                    break
        assert resumed > 2
        assert_complete(read, before, shop, wanted)


@pytest.mark.parametrize("order", ORDERS)
def test_more_tickets_in_one_second_than_on_a_page(order: str) -> None:
    with Sandbox(config(order=order, per_second=400, tickets=800)) as shop, client_of(shop) as client:
        read = [ticket["id"] for ticket in client.iter_tickets(TicketFilter())]
        assert sorted(read) == shop.shop.ids()


@pytest.mark.parametrize(
    ("order", "window", "zone", "named", "factor", "more"),
    [
        ("oldest", False, "UTC", False, 1.0, 2),
        ("newest", False, "UTC", False, 1.08, 6),
        ("newest", True, "Europe/Amsterdam", False, 1.08, 6),
        ("newest", True, "America/New_York", True, 1.08, 6),
        ("newest", True, "America/New_York", False, 1.08, 16),
        ("newest", True, "+14:00", False, 1.08, 16),
        ("unordered", False, "UTC", False, 3.0, 6),
        ("last_change", False, "UTC", False, 3.0, 6),
        ("last_change_asc", False, "UTC", False, 3.0, 6),
    ],
)
def test_calls(order: str, window: bool, zone: str, named: bool, factor: float, more: int) -> None:
    shop_config = config(order=order, filter_timezone=zone, answer_timezone="Europe/Amsterdam", tickets=4_000)
    wanted = TicketFilter()
    if window:
        wanted = TicketFilter(created_from=END - timedelta(days=25), created_to=END - timedelta(days=3))
    with Sandbox(shop_config) as shop, client_of(shop, filter_timezone=zone if named else None) as client:
        truth = matching(shop, wanted)
        read = [ticket["id"] for ticket in client.iter_tickets(wanted)]
        assert sorted(read) == sorted(truth)
        assert shop.count_calls() <= factor * ceil(len(truth) / 250) + more
        assert client.calls == shop.count_calls()


@pytest.mark.parametrize("order", ORDERS)
def test_the_async_client_makes_the_same_calls(order: str) -> None:
    with Sandbox(config(order=order)) as shop:
        wanted = TicketFilter(created_to=END)
        read = read_all("async", shop, wanted)
        calls = [(call.path, call.query) for call in shop.calls]
        shop.reset()
        assert read == read_all("sync", shop, wanted)
        assert calls == [(call.path, call.query) for call in shop.calls]
