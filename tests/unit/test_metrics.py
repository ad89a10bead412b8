"""What a deployment sees of the client in its metrics."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from airflow_provider_lightspeed.hooks.lightspeed import LightspeedHook
from airflow_provider_lightspeed.sandbox import Sandbox, ShopConfig


class Backend:
    """A metrics backend that remembers, in the place of StatsD."""

    def __init__(self) -> None:
        self.seen: dict[tuple[str, str], float] = {}

    def incr(self, stat: str, count: int = 1, *, tags: dict[str, Any] | None = None) -> None:
        key = (stat, (tags or {}).get("conn_id", ""))
        self.seen[key] = self.seen.get(key, 0) + count

    def gauge(self, stat: str, value: float, *, tags: dict[str, Any] | None = None) -> None:
        self.seen[stat, (tags or {}).get("conn_id", "")] = value


@pytest.fixture
def backend(monkeypatch: pytest.MonkeyPatch) -> Iterator[Backend]:
    backend = Backend()
    try:
        from airflow.sdk.observability.stats import initialize
    except ImportError:  # before 3.3 there is one backend for all of Airflow, which would need all methods
        monkeypatch.setattr("airflow_provider_lightspeed.hooks.metrics.Stats", backend)
        yield backend
        return
    initialize(factory=lambda: backend, export_legacy_names=False)  # type: ignore[arg-type, return-value]  # a stand-in with the two methods used
    yield backend
    from airflow.sdk._shared.observability.metrics.base_stats_logger import NoStatsLogger

    initialize(factory=NoStatsLogger, export_legacy_names=False)


def test_calls_and_quota_are_tagged_by_connection(backend: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    with Sandbox(ShopConfig(tickets=1)) as sandbox:
        connection = json.loads(sandbox.airflow_connection())
        monkeypatch.setenv("AIRFLOW_CONN_SHOP", json.dumps(connection))
        hook = LightspeedHook("shop")
        hook.count_tickets()
        hook.count_tickets()
    assert backend.seen["lightspeed.calls", "shop"] == 2
    assert backend.seen["lightspeed.quota_left.5_minutes", "shop"] == 298
    assert backend.seen["lightspeed.quota_left.1_day", "shop"] == 11_998
