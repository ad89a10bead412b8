"""Lists of dishonest shops, over real HTTP: complete, each ticket once, or an error that says so. Never green and wrong."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, fields
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from airflow_provider_lightspeed.api import retry
from airflow_provider_lightspeed.api.client import ClientSettings, LightspeedClient
from airflow_provider_lightspeed.api.errors import (
    LightspeedGatewayError,
    LightspeedWrongTicketError,
)
from airflow_provider_lightspeed.api.tickets import TicketFilter, get_ticket
from airflow_provider_lightspeed.sandbox import NO_LIMITS, Fault, Sandbox, ShopConfig
from airflow_provider_lightspeed.sandbox.backend import ShopBackend
from airflow_provider_lightspeed.sandbox.distortions import Distortions

END = datetime(2026, 3, 1, tzinfo=UTC)
FIRST, SIZE = 2546, 620
ORDERS = ["oldest", "newest", "unordered"]
OPTIONS: dict[str, dict[str, Any]] = {
    **{f"pages of {limit}": {"page_limit": limit} for limit in (20, 50, 100, 200)},
    "a row left out": {"left_out": (FIRST + 300,)},
    "rows left out": {"left_out_every": 90},
    "hidden": {"hidden": (FIRST + 3, FIRST + 400)},
    "rows twice": {"repeated_every": 70},
    "capped count": {"count_cap": 300},
    "late count": {"count_lag": 3},
    "replica": {"replica_lag": 3},
    "aliases": {"aliases": {FIRST: FIRST + 1}},
    "deep pages refused": {"page_depth": 300},
    "deep pages empty": {"page_depth": 300, "beyond_depth": "empty"},
    "switches as text": {"switches": "text"},
    "switches as numbers": {"switches": "number"},
    "short pages, rows left out and twice, a wrong count": {
        "page_limit": 100,
        "left_out_every": 90,
        "repeated_every": 70,
        "count_lag": 3,
        "count_cap": 300,
    },
    "short pages, of which deep ones are refused": {"page_limit": 100, "page_depth": 300},
}
FAULTS = {
    "an empty list": [Fault("empty-list")],
    "an empty list later": [Fault("empty-list", after=2)],
    "an empty list at the end": [Fault("empty-list", after=4)],
    "a firewall's pages": [Fault("html-403", times=2), Fault("html-403", after=3)],
    "an interim response before each": [Fault("103", times=0)],
}


@dataclass
class Clock:
    """Goes on by so many seconds whenever it is read."""

    now: float
    step: float = 0.0

    def __call__(self) -> float:
        self.now += self.step
        return self.now


@dataclass
class Shops:
    """One shop for each order, behind one server."""

    sandbox: Sandbox
    clock: Clock

    def open(self, order: str, options: dict[str, Any]) -> ShopBackend:
        backend = self.sandbox.backends[ORDERS.index(order)]
        honest = Distortions()
        backend.configure(**{field.name: getattr(honest, field.name) for field in fields(Distortions)})
        backend.configure(**options)
        self.sandbox.reset()
        self.clock.now = END.timestamp()
        return backend

    def client(self, backend: ShopBackend) -> LightspeedClient:
        key, secret = backend.config.key, backend.config.secret
        return LightspeedClient(
            ClientSettings(base_url=self.sandbox.url, key=key, secret=secret, calls_per_second=0)
        )


@pytest.fixture(scope="module")
def server() -> Iterator[Shops]:
    clock = Clock(END.timestamp())
    plain: dict[str, Any] = {"tickets": SIZE, "end": END, "days": 30.0, "limits": NO_LIMITS, "burst_limit": 0}
    configs = [ShopConfig(**plain, order=order, key=f"{order:0>32}") for order in ORDERS]
    with Sandbox(*configs, clock=clock) as sandbox:
        yield Shops(sandbox, clock)


@pytest.fixture
def shops(server: Shops, monkeypatch: pytest.MonkeyPatch) -> Iterator[Shops]:
    monkeypatch.setattr(retry, "backoff", lambda tries, chance: 0.0)
    yield server
    server.clock.step = 0.0


def read(shops: Shops, backend: ShopBackend) -> dict[int, Any]:
    """Read the list, each ticket once."""
    with closing(shops.client(backend)) as client:
        tickets = list(client.iter_tickets(TicketFilter()))
    assert len({ticket["id"] for ticket in tickets}) == len(tickets)
    return {ticket["id"]: ticket for ticket in tickets}


def shown(backend: ShopBackend) -> dict[int, Any]:
    """Return the tickets that the shop shows in lists, sooner or later."""
    options = backend.config
    return {
        number: ticket
        for number, ticket in backend.shop.tickets().items()
        if not options.is_left_out(number) and number not in options.hidden
    }


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("case", OPTIONS)
def test_a_list_is_complete(shops: Shops, case: str, order: str) -> None:
    backend = shops.open(order, OPTIONS[case])
    assert read(shops, backend) == shown(backend)


@pytest.mark.parametrize("order", ORDERS)
def test_tickets_may_become_visible_while_the_list_is_read(shops: Shops, order: str) -> None:
    hours = 6
    backend = shops.open(order, {"late_every": 2, "late_seconds": hours * 3_600.0})
    shops.clock.step = 60.0
    there = shown(backend)
    since = (END - timedelta(hours=hours)).isoformat()
    late = {number for number, ticket in there.items() if number % 2 == 0 and ticket["createdAt"] > since}
    assert late
    found = read(shops, backend)
    assert found.keys() >= there.keys() - late
    assert found.items() <= there.items()


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("case", FAULTS)
def test_a_list_is_complete_though_calls_fail(shops: Shops, case: str, order: str) -> None:
    backend = shops.open(order, {})
    backend.inject(*FAULTS[case])
    assert read(shops, backend) == backend.shop.tickets()


@pytest.mark.parametrize("order", ORDERS)
def test_a_firewall_that_stays_is_named(shops: Shops, order: str) -> None:
    backend = shops.open(order, {})
    backend.inject(Fault("html-403", after=2, times=0))
    with pytest.raises(
        LightspeedGatewayError, match="A firewall or proxy in front of the API refused the call"
    ):
        read(shops, backend)


def test_a_ticket_in_place_of_another_is_named(shops: Shops) -> None:
    backend = shops.open("newest", OPTIONS["aliases"])
    with closing(shops.client(backend)) as client, pytest.raises(LightspeedWrongTicketError) as raised:
        client.call(get_ticket(FIRST))
    assert (raised.value.requested, raised.value.received) == (FIRST, FIRST + 1)
