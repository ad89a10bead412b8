"""The sensor in Airflow's odd corners: nested operators, default_args, native templates."""

from __future__ import annotations

import tracemalloc
from collections.abc import Generator
from datetime import UTC, datetime
from typing import Any

import pytest

from airflow_provider_lightspeed._airflow import DAG, TaskDeferred
from airflow_provider_lightspeed.api.client import LightspeedClient
from airflow_provider_lightspeed.api.tickets import Request
from airflow_provider_lightspeed.exceptions import LightspeedTaskFailed
from airflow_provider_lightspeed.sandbox import Sandbox
from airflow_provider_lightspeed.sensors.tickets import NewTicketSensor
from tests.integration.sensor_runs import sensor_context

_START = datetime(2026, 1, 1, tzinfo=UTC)


def test_no_operator_is_nested(sandbox: Sandbox, capfd: pytest.CaptureFixture[str]) -> None:
    sensor = NewTicketSensor(
        task_id="wait",
        since_id=max(sandbox.shop.ids()),
        deferrable=True,
        poke_interval=0.01,
        allow_nested_operators=False,
    )
    with pytest.raises(TaskDeferred):
        sensor.execute({}, NewTicketSensor__sentinel=_sentinel())  # as Airflow calls it
    new = sandbox.add_tickets(1)
    event = {"status": "poll", "deadline": datetime.now(UTC).timestamp() + 9}
    result = sensor.resume_execution("execute_complete", {"event": event}, {})
    assert result["ticket_ids"] == new
    assert "cannot be called outside" not in "".join(capfd.readouterr())


def _sentinel() -> object:
    try:
        from airflow.sdk.bases.operator import ExecutorSafeguard
    except ImportError:
        from airflow.models import baseoperator

        return baseoperator._sentinel
    return ExecutorSafeguard.sentinel_value


@pytest.mark.parametrize(
    ("default_args", "options", "limit"),
    [
        ({}, {}, 1),
        ({"max_active_tis_per_dag": 4}, {}, 4),
        ({"max_active_tis_per_dag": 4}, {"max_active_tis_per_dag": 2}, 2),
        ({}, {"since_id": 5}, None),
    ],
)
def test_default_args_are_heeded(
    default_args: dict[str, Any], options: dict[str, Any], limit: int | None
) -> None:
    with DAG("dag", start_date=_START, schedule=None, default_args=default_args):
        assert NewTicketSensor(task_id="wait", **options).max_active_tis_per_dag == limit


def test_native_values_of_templates(sandbox: Sandbox) -> None:
    new = sandbox.add_tickets(1)
    sensor = NewTicketSensor(task_id="wait", since_id="{{ params.id }}")
    sensor.since_id = new[0] - 1  # as a native template makes it
    assert sensor.poke({}).xcom_value["ticket_ids"] == new


@pytest.mark.usefixtures("variables")
def test_native_texts_of_templates(sandbox: Sandbox) -> None:
    sensor = NewTicketSensor(task_id="wait", state_name="{{ params.b }}")
    sensor.state_name = 2026  # type: ignore[assignment] # as a native template makes it
    assert not sensor.poke(sensor_context("first"))
    assert sandbox.calls
    sensor = NewTicketSensor(task_id="wait", customer_email="{{ params.a }}")
    sensor.customer_email = 12345  # type: ignore[assignment]
    with pytest.raises(LightspeedTaskFailed, match="must be one address"):
        sensor.poke(sensor_context("first"))


def test_memory_holds_no_tickets(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    number = 20_000

    def answer(request: Request[Any]) -> list[Any]:
        """Return the tickets above an id, oldest first, and those changed last are not the newest."""
        asked = request.query
        start = int(asked.get("since_id", 0)) + 1
        return [
            {
                "id": i,
                "createdAt": "2026-01-01T00:00:00+00:00",
                "updatedAt": f"2026-01-02T00:00:0{-i % 10}+00:00",
                "memo": f"{i:2000}",
            }
            for i in range(start, min(start + int(asked["limit"]), number + 1))
        ]

    def run(_: LightspeedClient, question: Generator[Request[Any], Any, Any]) -> Any:
        request = next(question)
        try:
            while True:
                request = question.send(answer(request))
        except StopIteration as end:
            return end.value

    monkeypatch.setattr(LightspeedClient, "run", run)
    sensor = NewTicketSensor(task_id="wait", since_id=0)
    tracemalloc.start()
    result = sensor.poke({}).xcom_value
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(result["ticket_ids"]) == 10_000
    assert peak < 600 * number  # each ticket takes more than 2,000 bytes
    assert not sandbox.calls
