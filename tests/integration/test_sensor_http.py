"""The sensor with a given id, against a shop over HTTP."""

from __future__ import annotations

import json
from typing import Any
from unittest.mock import ANY

import pytest

from airflow_provider_lightspeed.exceptions import LightspeedTaskFailed
from airflow_provider_lightspeed.sandbox import NO_LIMITS, Order, Sandbox, ShopConfig
from airflow_provider_lightspeed.sensors.tickets import NewTicketSensor


def _poke(**arguments: Any) -> dict[str, Any] | None:
    answer = NewTicketSensor(task_id="wait", **arguments).poke({})
    assert answer.is_done is (answer.xcom_value is not None)
    return answer.xcom_value


@pytest.mark.parametrize("option", ["since_id", "customer_email"])
@pytest.mark.parametrize("rendered", ["", "None", None])
def test_what_renders_to_nothing_is_not_left_out(sandbox: Sandbox, option: str, rendered: str | None) -> None:
    sensor = NewTicketSensor(task_id="wait", **{option: "{{ params.x }}"})
    setattr(sensor, option, rendered)
    with pytest.raises(LightspeedTaskFailed, match=f"{option} is empty after rendering"):
        sensor.poke({})
    assert not sandbox.calls


@pytest.mark.parametrize("order", ["newest", "oldest", "unordered", "last_change"])
def test_new_tickets(monkeypatch: pytest.MonkeyPatch, order: Order) -> None:
    with Sandbox(ShopConfig(tickets=700, order=order, limits=NO_LIMITS, burst_limit=0)) as sandbox:
        monkeypatch.setenv("AIRFLOW_CONN_LIGHTSPEED_DEFAULT", sandbox.airflow_connection())
        last = max(sandbox.shop.ids())
        assert _poke(since_id=last) is None
        assert len(sandbox.calls) == 1
        new = sandbox.add_tickets(3)
        assert _poke(since_id=str(last)) == {
            "ticket_ids": new,
            "count": 3,
            "since_id": last,
            "max_id": new[-1],
            "shop": ANY,
        }
        assert _poke(since_id=last, min_tickets=4) is None
        found = _poke(since_id=0)
        assert found is not None
        assert found["ticket_ids"] == sorted(sandbox.shop.ids())


@pytest.mark.parametrize(
    "arguments",
    [
        {"since_id": "None"},
        {"since_id": "x"},
        {"since_id": 1, "customer_email": ""},
        {"since_id": 1, "customer_email": ["ada@example.com"]},
        {"since_id": 1, "state_name": ["shop"]},
        {"start": "now"},
    ],
)
def test_bad_input(sandbox: Sandbox, arguments: dict[str, Any]) -> None:
    with pytest.raises(LightspeedTaskFailed):
        _poke(**arguments)
    assert not sandbox.calls


def test_wrong_secret_fails_at_once_even_with_silent_fail(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrong = {**json.loads(sandbox.airflow_connection()), "password": "wrong-secret"}
    monkeypatch.setenv("AIRFLOW_CONN_LIGHTSPEED_DEFAULT", json.dumps(wrong))
    with pytest.raises(LightspeedTaskFailed, match="401"):
        NewTicketSensor(task_id="wait", since_id=1, silent_fail=True).execute({})
    assert len(sandbox.calls) == 1
