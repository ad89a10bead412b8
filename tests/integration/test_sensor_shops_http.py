"""A cursor belongs to a shop: mapped sensors, rotated keys, other shops, states that are not ours."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from airflow_provider_lightspeed._airflow import AirflowSensorTimeout
from airflow_provider_lightspeed.exceptions import LightspeedTaskFailed
from airflow_provider_lightspeed.sandbox import NO_LIMITS, Sandbox, ShopConfig, email_of
from airflow_provider_lightspeed.sensors.tickets import NewTicketSensor
from tests.integration.sensor_runs import Variables, sensor_context

_STATE = "lightspeed_new_tickets.dag.wait"


def _run(run: object, map_index: int = -1, max_tries: int = 0, **options: Any) -> list[int]:
    sensor = NewTicketSensor(**{"task_id": "wait", "poke_interval": 0.01, "timeout": 0.01, **options})
    try:
        result: dict[str, Any] = sensor.execute(sensor_context(run, map_index, max_tries))
    except AirflowSensorTimeout:
        return []
    return list(result["ticket_ids"])


@pytest.fixture
def shops(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Sandbox]]:
    """Two shops of one cluster, with the connections ``one`` and ``two``."""
    config: dict[str, Any] = {
        "tickets": 20,
        "limits": NO_LIMITS,
        "burst_limit": 0,
        "end": datetime(2026, 6, 1, tzinfo=UTC),
    }
    with (
        Sandbox(ShopConfig(**config, key="1" * 32)) as one,
        Sandbox(ShopConfig(**config, key="2" * 32, seed=2, first_id=9_000, days=30)) as two,
    ):
        monkeypatch.setenv("AIRFLOW_CONN_ONE", one.airflow_connection())
        monkeypatch.setenv("AIRFLOW_CONN_TWO", two.airflow_connection())
        yield {"one": one, "two": two}


def _rotate(shop: Sandbox, monkeypatch: pytest.MonkeyPatch, connection: str) -> None:
    """Replace the key: another shop by its hash, the same by its tickets."""
    monkeypatch.setattr("airflow_provider_lightspeed.api.settings.ClientSettings.shop", "another key")
    monkeypatch.setenv(connection, shop.airflow_connection())


def test_the_cursor_belongs_to_the_shop_not_to_the_position(
    shops: dict[str, Sandbox], variables: Variables
) -> None:
    for index, name in enumerate(["one", "two"]):
        assert _run("first", index, lightspeed_conn_id=name) == []
    new = {name: shop.add_tickets(2) for name, shop in shops.items()}
    # The list of shops is another one now.
    for index, name in enumerate(["two", "one"]):
        assert _run("second", index, lightspeed_conn_id=name) == new[name]
    assert sorted(variables.texts) == [f"{_STATE}.one", f"{_STATE}.two"]
    assert not any("1" * 32 in text or "2" * 32 in text for text in variables.texts.values())


def test_each_customer_has_a_cursor(shops: dict[str, Sandbox], variables: Variables) -> None:
    customers = {shops["one"].shop.ticket(i)["customer"]["resource"]["id"] for i in shops["one"].shop.ids()}
    for index, customer in enumerate(sorted(customers)[:2]):
        _run("first", index, lightspeed_conn_id="one", customer_email=email_of(customer))
    assert len(variables.texts) == 2
    assert "@" not in str(variables.texts)


def test_two_mapped_instances_may_not_share_a_state(shops: dict[str, Sandbox], variables: Variables) -> None:
    _run("first", 0, lightspeed_conn_id="one")
    with pytest.raises(LightspeedTaskFailed, match=rf"0 and 1 .*{_STATE}\.one.*state_name"):
        _run("first", 1, lightspeed_conn_id="one")
    assert _run("first", 1, lightspeed_conn_id="one", state_name="other") == []
    new = shops["one"].add_tickets(1)
    assert _run("second", 0, lightspeed_conn_id="one") == new
    with pytest.raises(LightspeedTaskFailed, match="share one state"):
        _run("second", 1, lightspeed_conn_id="one")
    assert _run("second", 1, lightspeed_conn_id="one", state_name="other") == new
    # In another run, or after the run was cleared, the shop may be in another place.
    assert _run("third", 1, lightspeed_conn_id="one") == []
    assert _run("second", 5, max_tries=1, lightspeed_conn_id="one") == new


@pytest.mark.usefixtures("variables")
def test_a_rotated_key_continues(shops: dict[str, Sandbox], monkeypatch: pytest.MonkeyPatch) -> None:
    _run("first", lightspeed_conn_id="one")
    new = shops["one"].add_tickets(2)
    assert _run("second", lightspeed_conn_id="one") == new
    new = shops["one"].add_tickets(2)
    _rotate(shops["one"], monkeypatch, "AIRFLOW_CONN_ONE")
    assert _run("third", lightspeed_conn_id="one") == new
    shops["one"].reset_calls()
    assert _run("fourth", lightspeed_conn_id="one") == []
    assert shops["one"].count_calls(path_prefix="/en/tickets/") == 0  # it is recognised once


@pytest.mark.usefixtures("variables")
def test_a_rotated_key_continues_though_the_newest_tickets_are_deleted(
    shops: dict[str, Sandbox], monkeypatch: pytest.MonkeyPatch
) -> None:
    _run("first", lightspeed_conn_id="one")
    new = shops["one"].add_tickets(5)
    assert _run("second", lightspeed_conn_id="one") == new
    for ticket_id in new[1:]:
        shops["one"].delete_ticket(ticket_id)
    _rotate(shops["one"], monkeypatch, "AIRFLOW_CONN_ONE")
    new = shops["one"].add_tickets(1)
    assert _run("third", lightspeed_conn_id="one") == new


def test_a_rotated_key_continues_though_the_newest_ticket_is_malformed(
    shops: dict[str, Sandbox], monkeypatch: pytest.MonkeyPatch, variables: Variables
) -> None:
    monkeypatch.setattr("airflow_provider_lightspeed.api.retry.MAX_ATTEMPTS", 1)
    _run("first", lightspeed_conn_id="one")
    done = shops["one"].add_tickets(3)
    assert _run("second", lightspeed_conn_id="one") == done
    state = dict(variables.texts)
    _rotate(shops["one"], monkeypatch, "AIRFLOW_CONN_ONE")
    new = shops["one"].add_tickets(1)
    # If none is readable, it is not known of which shop they are.
    shops["one"].configure(unreadable=dict.fromkeys(shops["one"].shop.ids(), "surrogate"))
    assert _run("third", lightspeed_conn_id="one") == []
    assert variables.texts == state
    shops["one"].configure(unreadable={done[-1]: "surrogate"})
    assert _run("third", lightspeed_conn_id="one") == new


@pytest.mark.usefixtures("variables")
@pytest.mark.parametrize("start", ["latest", "earliest"])
def test_another_shop_is_noticed(
    shops: dict[str, Sandbox],
    monkeypatch: pytest.MonkeyPatch,
    log: Callable[[], str],
    start: str,
) -> None:
    _run("first", lightspeed_conn_id="two", start="latest")
    new = shops["two"].add_tickets(1)
    assert _run("second", lightspeed_conn_id="two", start=start) == new
    monkeypatch.setenv("AIRFLOW_CONN_TWO", shops["one"].airflow_connection())
    shops["one"].add_tickets(1)
    log()
    found = _run("third", lightspeed_conn_id="two", start=start)
    logged = log()
    assert "leads to another shop than before" in logged
    assert f"{_STATE}.two" in logged
    assert found == (sorted(shops["one"].shop.ids()) if start == "earliest" else [])
    # What a run has delivered of the other shop is not returned for this one.
    new = shops["one"].add_tickets(1)
    assert _run("second", lightspeed_conn_id="two", start=start) == new


@pytest.mark.parametrize("map_index", [-1, 0])
def test_cursors_of_early_versions_are_taken_over(
    shops: dict[str, Sandbox], variables: Variables, map_index: int
) -> None:
    old = _STATE if map_index < 0 else f"{_STATE}.{map_index}"
    first, second, third = shops["one"].add_tickets(3)
    state = {"since_id": second, "runs": {"run_a": [first - 1, first], "run_b": [first, second, [second]]}}
    variables.texts[old] = json.dumps(state)
    assert _run("c", map_index, lightspeed_conn_id="one") == [third]
    assert _run("a", map_index, lightspeed_conn_id="one") == [first]
    assert _run("b", map_index, lightspeed_conn_id="one") == [second]
    # Gone, so that no other shop in this position takes it over.
    assert list(variables.texts) == [f"{_STATE}.one"]


@pytest.mark.parametrize("name", [f"{_STATE}.one", _STATE])
def test_a_key_that_is_rotated_soon_after_a_cursor_was_taken_over(
    shops: dict[str, Sandbox], variables: Variables, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    variables.texts[name] = json.dumps({"since_id": max(shops["one"].shop.ids())})
    assert _run("first", lightspeed_conn_id="one") == []
    new = shops["one"].add_tickets(2)
    _rotate(shops["one"], monkeypatch, "AIRFLOW_CONN_ONE")
    assert _run("second", lightspeed_conn_id="one") == new


@pytest.mark.parametrize(
    "text",
    [
        "a text",
        "4711",
        "[]",
        '{"since_id": "x"}',
        '{"since_id": -1}',
        '{"cursor": {}}',
        '{"runs": {"run_a": [1]}}',
    ],
)
@pytest.mark.parametrize("name", [f"{_STATE}.one", _STATE])
def test_a_state_that_is_unreadable_is_named(
    shops: dict[str, Sandbox], variables: Variables, text: str, name: str
) -> None:
    variables.texts[name] = text
    with pytest.raises(LightspeedTaskFailed, match=rf"'{name}'.*[Dd]elete"):
        _run("first", lightspeed_conn_id="one")
    assert variables.texts == {name: text}
    assert not shops["one"].calls


def test_users_may_go_back(shops: dict[str, Sandbox], variables: Variables) -> None:
    variables.texts[f"{_STATE}.one"] = json.dumps({"since_id": max(shops["one"].shop.ids()) - 2})
    assert _run("first", lightspeed_conn_id="one") == sorted(shops["one"].shop.ids())[-2:]
