"""Where the sensor continues, over runs of every kind: it delivers each new ticket exactly once."""

from __future__ import annotations

import asyncio
import random
import threading
import time
from contextlib import suppress
from typing import Any
from unittest.mock import ANY

import pytest

from airflow_provider_lightspeed._airflow import AirflowException, AirflowSensorTimeout, TaskDeferred
from airflow_provider_lightspeed.api.client import LightspeedClient
from airflow_provider_lightspeed.sandbox import Sandbox
from airflow_provider_lightspeed.sensors.tickets import NewTicketSensor
from tests.integration.sensor_runs import Variables, sensor_context

pytestmark = pytest.mark.usefixtures("variables")


def _sensor(**options: Any) -> NewTicketSensor:
    return NewTicketSensor(**{"task_id": "wait", "poke_interval": 0.02, "timeout": 0.1, **options})


def _defer(sensor: NewTicketSensor, context: Any, event: Any = None) -> Any:
    with pytest.raises(TaskDeferred) as deferred:
        sensor.execute(context) if event is None else sensor.execute_complete(context, event)
    return deferred.value.trigger


def _event(trigger: Any) -> Any:
    async def first() -> Any:
        return (await anext(aiter(trigger.run()))).payload

    return asyncio.run(first())


def _run(context: Any, **options: Any) -> Any:
    """Run a sensor to its end, in the triggerer where it wants to; None if no ticket came."""
    sensor, event = _sensor(**options), None
    while True:
        try:
            return sensor.execute(context) if event is None else sensor.execute_complete(context, event)
        except TaskDeferred as deferred:
            event, sensor = _event(deferred.trigger), _sensor(**options)
        except AirflowSensorTimeout:
            return None


@pytest.mark.parametrize("deferrable", [False, True])
def test_each_ticket_once_over_fifty_runs(sandbox: Sandbox, deferrable: bool) -> None:
    arrived: list[int] = []

    def arrive() -> None:
        chance = random.Random()
        for _ in range(40):
            time.sleep(chance.uniform(0, 0.15))
            # One, or a burst within one second.
            arrived.extend(sandbox.add_tickets(chance.choice([1, 1, 2, 7])))

    _run(sensor_context("first"), deferrable=deferrable)
    arriving = threading.Thread(target=arrive)
    arriving.start()
    delivered: list[int] = []
    runs = 0
    while arriving.is_alive() or runs < 50 or len(delivered) < len(arrived):
        result = _run(sensor_context(runs), deferrable=deferrable)
        delivered += result["ticket_ids"] if result else []
        runs += 1
    assert delivered == arrived


@pytest.mark.parametrize("deferrable", [False, True])
def test_a_cleared_run_hands_over_the_same_again(sandbox: Sandbox, deferrable: bool) -> None:
    _run(sensor_context("first"), deferrable=deferrable)
    results = []
    for number in range(3):
        sandbox.add_tickets(2)
        results.append(_run(sensor_context(number), deferrable=deferrable))
    late = sandbox.add_tickets(1)
    assert [_run(sensor_context(number), deferrable=deferrable) for number in range(3)] == results
    # Clearing has not moved what comes next.
    result = _run(sensor_context("next"), deferrable=deferrable)
    assert result["ticket_ids"] == late


def test_a_cleared_run_asks_no_function_again(sandbox: Sandbox) -> None:
    def is_todo(ticket: Any) -> bool:
        return bool(ticket["isTodo"])

    _run(sensor_context("first"), where=is_todo)
    (yes,) = sandbox.add_tickets(1, isTodo=True)
    (no,) = sandbox.add_tickets(1, isTodo=False)
    result = _run(sensor_context("run"), where=is_todo)
    assert result == {"ticket_ids": [yes], "count": 1, "since_id": yes - 1, "max_id": no, "shop": ANY}
    sandbox.update_ticket(yes, isTodo=False)
    sandbox.update_ticket(no, isTodo=True)
    assert _run(sensor_context("run"), where=is_todo) == result
    assert _run(sensor_context("next"), where=is_todo) is None


def test_the_very_first_run_may_start_with_the_earliest(sandbox: Sandbox) -> None:
    result = _run(sensor_context("first"), start="earliest")
    assert result["ticket_ids"] == sorted(sandbox.shop.ids())
    assert _run(sensor_context("second"), start="earliest") is None


def test_runs_that_overlap_do_not_share_a_ticket(sandbox: Sandbox) -> None:
    one, two = _sensor(deferrable=True, timeout=3_600), _sensor(deferrable=True, timeout=3_600)
    waiting = [_defer(one, sensor_context(1)), _defer(two, sensor_context(2))]
    first = sandbox.add_tickets(1)
    events = [_event(trigger) for trigger in waiting]
    assert one.execute_complete(sensor_context(1), events[0])["ticket_ids"] == first
    trigger = _defer(two, sensor_context(2), events[1])
    second = sandbox.add_tickets(1)
    assert two.execute_complete(sensor_context(2), _event(trigger))["ticket_ids"] == second


@pytest.mark.parametrize("deferrable", [False, True])
def test_a_run_that_was_overtaken_while_it_looked(sandbox: Sandbox, deferrable: bool) -> None:
    other: list[Any] = []

    def overtaken(_: Any) -> bool:
        if not other:
            other.append(_run(sensor_context("other")))
        return True

    _run(sensor_context("first"))
    first = sandbox.add_tickets(2)
    assert _run(sensor_context("slow"), where=overtaken, deferrable=deferrable) is None
    assert [result["ticket_ids"] for result in other] == [first]
    second = sandbox.add_tickets(1)
    assert _run(sensor_context("slow"), where=overtaken, deferrable=deferrable)["ticket_ids"] == second


def test_a_try_that_was_believed_dead_hands_over_what_the_next_one_did(sandbox: Sandbox) -> None:
    next_try: list[Any] = []

    def overtaken(_: Any) -> bool:
        if not next_try:
            sandbox.add_tickets(1)
            next_try.append(_run(sensor_context("run")))
        return True

    _run(sensor_context("first"))
    sandbox.add_tickets(1)
    assert _run(sensor_context("run"), where=overtaken, timeout=3_600) == next_try[0]
    assert next_try[0]["count"] == 2
    assert _run(sensor_context("next")) is None


def test_two_first_runs_begin_at_the_same_ticket(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    run = LightspeedClient.run
    arrived: list[int] = []

    def overtaken(client: LightspeedClient, query: Any) -> Any:
        monkeypatch.setattr(LightspeedClient, "run", run)
        assert _run(sensor_context("other")) is None
        arrived.extend(sandbox.add_tickets(1))
        return run(client, query)

    monkeypatch.setattr(LightspeedClient, "run", overtaken)
    assert _run(sensor_context("slow"))["ticket_ids"] == arrived


@pytest.mark.parametrize("map_index", [-1, 0])
@pytest.mark.parametrize("start", ["latest", "earliest"])
@pytest.mark.parametrize("failing_reads", range(1, 10))
def test_variables_that_cannot_be_read_for_a_moment(
    sandbox: Sandbox, variables: Variables, map_index: int, start: str, failing_reads: int
) -> None:
    def run(number: int) -> Any:
        return _run(sensor_context(number, map_index), start=start)

    run(0)
    sandbox.add_tickets(2)
    run(1)
    new, state = sandbox.add_tickets(3), dict(variables.texts)
    variables.failing_reads, result = failing_reads, None
    while result is None:
        with suppress(AirflowException):  # it is retried
            result = run(2)
    assert result["ticket_ids"] == new
    assert variables.texts.keys() == state.keys()


@pytest.mark.parametrize("failing_writes", [1, 2, 3])
def test_a_state_that_is_not_written_delivers_nothing(
    sandbox: Sandbox, variables: Variables, failing_writes: int
) -> None:
    _run(sensor_context("first"))
    new = sandbox.add_tickets(2)
    variables.failing_writes = failing_writes
    for _ in range(failing_writes):
        with pytest.raises(AirflowException, match="could not store"):
            _run(sensor_context("second"))
    assert _run(sensor_context("second"))["ticket_ids"] == new
    assert _run(sensor_context("third")) is None


@pytest.mark.parametrize("has_state", [False, True])
@pytest.mark.parametrize("rejected", [1, 130])
def test_rejected_tickets_do_not_wake_a_deferred_sensor(
    sandbox: Sandbox, has_state: bool, rejected: int
) -> None:
    options: dict[str, Any] = {"deferrable": True, "timeout": 600, "where": lambda ticket: ticket["isTodo"]}
    if has_state:
        _defer(_sensor(**options), sensor_context("run"))
    else:
        options["since_id"] = max(sandbox.shop.ids())
    sandbox.add_tickets(rejected)
    trigger = _defer(_sensor(**options), sensor_context("run"))

    async def sleeps_over_ten_polls() -> None:
        event = asyncio.ensure_future(anext(aiter(trigger.run())))
        sandbox.reset_calls()
        while len(sandbox.calls) < 30 and not event.done():
            await asyncio.sleep(0.01)
        assert not event.done()
        event.cancel()

    asyncio.run(sleeps_over_ten_polls())


def test_deleting_the_variable_starts_anew(sandbox: Sandbox, variables: Variables) -> None:
    _run(sensor_context("first"))
    sandbox.add_tickets(2)
    variables.texts.clear()
    assert _run(sensor_context("again")) is None
