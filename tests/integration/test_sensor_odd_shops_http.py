"""New tickets of shops that respond oddly: each is delivered once, and a cursor never moves back."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from airflow_provider_lightspeed._airflow import AirflowSensorTimeout
from airflow_provider_lightspeed.api.errors import LightspeedIncompleteListError
from airflow_provider_lightspeed.sandbox import NO_LIMITS, Churn, Fault, Sandbox, ShopConfig
from airflow_provider_lightspeed.sensors.tickets import NewTicketSensor
from tests.integration.sensor_runs import Variables, sensor_context

pytestmark = pytest.mark.usefixtures("variables")


def _shop(monkeypatch: pytest.MonkeyPatch, **options: Any) -> Sandbox:
    shop = Sandbox(ShopConfig(**{"tickets": 30, "limits": NO_LIMITS, "burst_limit": 0, **options}))
    monkeypatch.setattr("airflow_provider_lightspeed.api.retry.MAX_ATTEMPTS", 1)
    return shop


def _run(run: object, **options: Any) -> list[int]:
    sensor = NewTicketSensor(**{"task_id": "wait", "poke_interval": 0.01, "timeout": 0, **options})
    try:
        result: dict[str, Any] = sensor.execute(sensor_context(run))
    except (AirflowSensorTimeout, LightspeedIncompleteListError):
        return []  # a list that moves too fast to be proven fails the try, and moves no cursor
    return list(result["ticket_ids"])


def test_tickets_that_become_visible_late(monkeypatch: pytest.MonkeyPatch) -> None:
    with _shop(monkeypatch, late_every=3, late_seconds=15.0) as shop:
        monkeypatch.setenv("AIRFLOW_CONN_LIGHTSPEED_DEFAULT", shop.airflow_connection())
        _run("first")
        new = shop.add_tickets(9)
        late = [ticket_id for ticket_id in new if ticket_id % 3 == 0]
        first = _run("second")
        assert first == [ticket_id for ticket_id in new if ticket_id not in late]
        deadline = time.monotonic() + 120
        found: list[int] = []
        while found != late and time.monotonic() < deadline:
            time.sleep(0.5)
            found += _run(f"run {time.monotonic()}")
        assert found == late
        # Cleared, each run returns its own again.
        assert _run("second") == first
        assert _run("last") == []


def test_what_a_poll_without_news_costs(monkeypatch: pytest.MonkeyPatch) -> None:
    with _shop(monkeypatch, tickets=600) as shop:
        monkeypatch.setenv("AIRFLOW_CONN_LIGHTSPEED_DEFAULT", shop.airflow_connection())

        def calls(run: str, **options: Any) -> int:
            shop.reset_calls()
            assert _run(run, **options) == []
            return len(shop.calls)

        _run("first")
        assert calls("no look-back") == 1
        shop.add_tickets(150)
        assert len(_run("second")) == 150
        assert calls("look-back") <= 2
        later = datetime.now(UTC) + timedelta(minutes=16)
        monkeypatch.setattr("airflow_provider_lightspeed.sensors.tickets.time.time", later.timestamp)
        assert calls("the last look-back") <= 2
        assert calls("closed") == 1
        assert calls("given", since_id=max(shop.shop.ids())) == 1


@pytest.mark.parametrize("order", ["newest", "oldest", "unordered"])
def test_tickets_that_where_rejects_cost_few_calls(monkeypatch: pytest.MonkeyPatch, order: Any) -> None:
    with _shop(monkeypatch, tickets=600, order=order) as shop:
        monkeypatch.setenv("AIRFLOW_CONN_LIGHTSPEED_DEFAULT", shop.airflow_connection())
        _run("first")
        shop.add_tickets(700)
        assert _run("second", where=lambda _: False) == []
        shop.reset_calls()
        assert _run("third", where=lambda _: False) == []
        assert shop.count_calls() <= 3
        # The newest of them are looked at again.
        last = shop.shop.ids()[-1]
        shop.update_ticket(last, isTodo=True)
        assert _run("fourth", where=lambda ticket: ticket["isTodo"] and ticket["id"] == last) == [last]


@pytest.mark.parametrize("flaw", ["surrogate", "bytes", "no-date", "zero-date"])
def test_a_malformed_ticket_is_new_too(monkeypatch: pytest.MonkeyPatch, flaw: Any) -> None:
    with _shop(monkeypatch, tickets=30) as shop:
        monkeypatch.setenv("AIRFLOW_CONN_LIGHTSPEED_DEFAULT", shop.airflow_connection())
        newest = max(shop.shop.ids())
        shop.configure(unreadable={newest: flaw, newest + 2: flaw})
        assert _run("first") == []
        new = shop.add_tickets(3)
        assert _run("second") == new
        assert _run("second") == new  # cleared
        assert _run("third") == []


def test_where_cannot_choose_a_malformed_ticket_until_it_is_corrected(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with _shop(monkeypatch, tickets=30) as shop:
        monkeypatch.setenv("AIRFLOW_CONN_LIGHTSPEED_DEFAULT", shop.airflow_connection())
        bad = max(shop.shop.ids()) + 2
        shop.configure(unreadable={bad: "surrogate"})
        assert _run("first") == []
        shop.add_tickets(3)
        assert _run("second", where=lambda ticket: ticket["id"] >= bad) == [bad + 1]
        assert _run("third", where=lambda ticket: ticket["id"] >= bad) == []
        shop.configure(unreadable={})
        assert _run("fourth", where=lambda ticket: ticket["id"] >= bad) == [bad]
        assert _run("fifth", where=lambda ticket: ticket["id"] >= bad) == []


def test_a_list_that_is_empty_by_mistake(monkeypatch: pytest.MonkeyPatch, variables: Variables) -> None:
    with _shop(monkeypatch, tickets=30) as shop:
        monkeypatch.setenv("AIRFLOW_CONN_LIGHTSPEED_DEFAULT", shop.airflow_connection())
        # At the first run it would make every ticket new.
        shop.inject(Fault("empty-list"))
        assert _run("first") == []
        new = shop.add_tickets(2)
        assert _run("second") == new
        state = dict(variables.texts)
        shop.inject(Fault("empty-list"))
        assert _run("third") == []
        assert variables.texts == state
        # A cleared run returns what it has returned.
        shop.inject(Fault("empty-list"))
        assert _run("second") == new


def test_a_shop_whose_lists_stay_empty_is_no_empty_shop(
    monkeypatch: pytest.MonkeyPatch, variables: Variables
) -> None:
    with _shop(monkeypatch, tickets=30) as shop:
        monkeypatch.setenv("AIRFLOW_CONN_LIGHTSPEED_DEFAULT", shop.airflow_connection())
        shop.inject(Fault("empty-list", times=0))
        assert _run("first") == []
        assert not variables.texts
        shop.reset()
        assert _run("first") == []
        new = shop.add_tickets(2)
        assert _run("second") == new


@pytest.mark.parametrize("order", ["newest", "oldest", "unordered"])
@pytest.mark.parametrize(
    "options",
    [
        {"replica_lag": 3, "late_every": 4, "late_seconds": 0.3},
        {"churn": Churn(inserts=0.3)},
        {"page_limit": 20, "left_out_every": 10_000, "repeated_every": 30},
    ],
)
def test_each_ticket_once(monkeypatch: pytest.MonkeyPatch, order: Any, options: dict[str, Any]) -> None:
    with _shop(monkeypatch, order=order, tickets=300, **options) as shop:
        monkeypatch.setenv("AIRFLOW_CONN_LIGHTSPEED_DEFAULT", shop.airflow_connection())
        delivered: list[int] = []
        for number in range(8):
            shop.add_tickets(3 * number)
            delivered += _run(number, start="earliest")
        expected, deadline = set(shop.shop.ids()), time.monotonic() + 120
        while not expected <= set(delivered) and time.monotonic() < deadline:
            delivered += _run(f"run {time.monotonic()}", start="earliest")
        assert expected <= set(delivered)
        assert len(delivered) == len(set(delivered))


def test_a_limit_leaves_the_rest_to_the_next_runs(
    monkeypatch: pytest.MonkeyPatch, log: Callable[[], str]
) -> None:
    with _shop(monkeypatch, tickets=700) as shop:
        monkeypatch.setenv("AIRFLOW_CONN_LIGHTSPEED_DEFAULT", shop.airflow_connection())
        ids = sorted(shop.shop.ids())
        found = [_run(number, start="earliest", max_tickets=300) for number in range(4)]
        assert found == [ids[:300], ids[300:600], ids[600:], []]
        logged = log()
        assert logged.count("(max_tickets)") == 2
        assert "LightspeedTicketsToS3Operator" in logged
        # Runs are remembered as they were.
        assert _run(1, start="earliest", max_tickets=300) == ids[300:600]


@pytest.mark.parametrize("options", [{"max_tickets": 0}, {"min_tickets": 5, "max_tickets": 4}])
def test_limits_that_cannot_be(sandbox: Sandbox, options: dict[str, Any]) -> None:
    from airflow_provider_lightspeed.exceptions import LightspeedTaskFailed

    with pytest.raises(LightspeedTaskFailed, match="max_tickets"):
        _run("first", **options)
    assert not sandbox.calls
