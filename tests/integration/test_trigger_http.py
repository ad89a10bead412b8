"""The deferrable sensor and its trigger, against a shop over HTTP."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from typing import Any
from unittest.mock import ANY

import pytest
from airflow.triggers.base import BaseTrigger

from airflow_provider_lightspeed._airflow import (
    AirflowSensorTimeout,
    AirflowSkipException,
    TaskDeferred,
)
from airflow_provider_lightspeed.exceptions import LightspeedTaskFailed
from airflow_provider_lightspeed.new_tickets import PollEvent
from airflow_provider_lightspeed.sandbox import Fault, Sandbox
from airflow_provider_lightspeed.sensors.tickets import NewTicketSensor
from airflow_provider_lightspeed.triggers.tickets import NewTicketTrigger

_SECRET = "not-the-secret-of-the-sandbox"


def _sensor(**arguments: Any) -> NewTicketSensor:
    options = {"task_id": "wait", "deferrable": True, "poke_interval": 0.05, "timeout": 3_600}
    return NewTicketSensor(**{**options, **arguments})


def _defer(sensor: NewTicketSensor, event: Any = None) -> BaseTrigger:
    with pytest.raises(TaskDeferred) as deferred:
        sensor.execute({}) if event is None else sensor.execute_complete({}, event)
    assert deferred.value.method_name == "execute_complete"
    path, arguments = deferred.value.trigger.serialize()
    assert path == "airflow_provider_lightspeed.triggers.tickets.NewTicketTrigger"
    # As it comes to the triggerer, after a restart too.
    return NewTicketTrigger(**json.loads(json.dumps(arguments)))


def _end(sensor: NewTicketSensor) -> None:
    try:
        sensor.execute({})
    except TaskDeferred as deferred:  # not on a machine so busy that the time is up after the first poll
        sensor.execute_complete({}, _event(deferred.trigger))


def _event(trigger: BaseTrigger) -> Any:
    async def first() -> Any:
        return (await anext(aiter(trigger.run()))).payload

    return asyncio.run(first())


async def _event_after(trigger: BaseTrigger, sandbox: Sandbox, action: Any) -> Any:
    """Wait for two polls, then act and wait for the event."""
    waiting = asyncio.ensure_future(anext(aiter(trigger.run())))
    await _polls(sandbox, 2)
    assert not waiting.done()
    await asyncio.to_thread(action)
    return (await waiting).payload


async def _polls(sandbox: Sandbox, number: int) -> None:
    # A poll is one call, or two if it shows anything.
    calls = len(sandbox.calls)
    while len(sandbox.calls) < calls + 2 * number:
        await asyncio.sleep(0.01)


def test_what_is_there_already_needs_no_trigger(sandbox: Sandbox) -> None:
    last = max(sandbox.shop.ids())
    new = sandbox.add_tickets(2)
    assert _sensor(since_id=last).execute({})["ticket_ids"] == new
    assert len(sandbox.calls) == 2  # news is proven complete


def test_it_waits_in_the_triggerer(sandbox: Sandbox) -> None:
    last = max(sandbox.shop.ids())
    sensor = _sensor(since_id=last, min_tickets=3)
    trigger = _defer(sensor)
    sandbox.add_tickets(2)
    new: list[int] = []
    started = time.monotonic()
    event = asyncio.run(_event_after(trigger, sandbox, lambda: new.extend(sandbox.add_tickets(2))))
    most = (time.monotonic() - started) / 0.05 + 2
    assert len(sandbox.calls) - 1 <= 2 * most
    assert sensor.execute_complete({}, event) == {
        "ticket_ids": [new[0] - 2, new[0] - 1, *new],
        "count": 4,
        "since_id": last,
        "max_id": new[-1],
        "shop": ANY,
    }


def test_many_sensors_share_one_look_and_each_has_its_own_cursor(sandbox: Sandbox) -> None:
    cursors = sorted(sandbox.shop.ids())[-30:]

    async def wait(trigger: BaseTrigger) -> Any:
        return (await anext(aiter(trigger.run()))).payload

    async def story() -> None:
        # Each has some tickets already, the last none, and waits for two more, the last for one …
        wanted = [*range(31, 2, -1), 1]
        sensors = [_sensor(since_id=i, min_tickets=n) for i, n in zip(cursors, wanted, strict=True)]
        triggers = [_defer(sensor) for sensor in sensors]
        calls = len(sandbox.calls)
        waiting = [asyncio.ensure_future(wait(trigger)) for trigger in triggers]
        started = time.monotonic()
        await _polls(sandbox, 5)
        assert not any(task.done() for task in waiting)
        most = (time.monotonic() - started) / 0.05 + 2
        assert len(sandbox.calls) - calls <= 2 * most  # for all of them together
        # … so the first new ticket is enough for none but the last.
        new = sandbox.add_tickets(1)
        event = await waiting.pop()
        assert sensors.pop().execute_complete({}, event)["ticket_ids"] == new
        await _polls(sandbox, 3)
        assert not any(task.done() for task in waiting)
        new += sandbox.add_tickets(1)
        for sensor, event, cursor in zip(sensors, await asyncio.gather(*waiting), cursors, strict=False):
            assert sensor.execute_complete({}, event)["ticket_ids"] == [
                ticket_id for ticket_id in sorted(sandbox.shop.ids()) if ticket_id > cursor
            ]

    asyncio.run(story())


def test_a_ticket_that_is_deleted_in_between_is_waited_for_again(sandbox: Sandbox) -> None:
    sensor = _sensor(since_id=max(sandbox.shop.ids()))
    trigger = _defer(sensor)
    (gone,) = sandbox.add_tickets(1)
    event = _event(trigger)
    sandbox.delete_ticket(gone)
    trigger = _defer(sensor, event)
    assert trigger.deadline == event["deadline"]
    new = sandbox.add_tickets(1)
    assert sensor.execute_complete({}, _event(trigger))["ticket_ids"] == new


def test_where_is_asked_again_only_when_something_has_changed(sandbox: Sandbox) -> None:
    asked: list[int] = []

    def is_todo(ticket: Any) -> bool:
        asked.append(ticket["id"])
        return bool(ticket["isTodo"])

    sensor = _sensor(since_id=max(sandbox.shop.ids()), where=is_todo)
    first, second = sandbox.add_tickets(2, isTodo=False)
    trigger = _defer(sensor)
    assert asked == [first, second] or asked == [second, first]
    # The same tickets, one of them changed: poke mode would find that too.
    event = asyncio.run(_event_after(trigger, sandbox, lambda: sandbox.update_ticket(first, isTodo=True)))
    result = sensor.execute_complete({}, event)
    assert result["ticket_ids"] == [first]
    assert result["max_id"] == second
    assert len(asked) == 4


def test_a_key_that_is_rotated_while_it_waits(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    sensor = _sensor(since_id=max(sandbox.shop.ids()))
    trigger = _defer(sensor)

    def rotate() -> None:
        monkeypatch.setattr("airflow_provider_lightspeed.api.settings.ClientSettings.shop", "another key")
        sandbox.add_tickets(1)

    event = asyncio.run(_event_after(trigger, sandbox, rotate))
    assert sensor.execute_complete({}, event)["count"] == 1


def test_wrong_credentials_end_it_at_once(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    sensor = _sensor(since_id=max(sandbox.shop.ids()), silent_fail=True)
    trigger = _defer(sensor)
    wrong = {**json.loads(sandbox.airflow_connection()), "password": _SECRET}
    monkeypatch.setenv("AIRFLOW_CONN_LIGHTSPEED_DEFAULT", json.dumps(wrong))
    calls = len(sandbox.calls)
    event = _event(trigger)
    assert len(sandbox.calls) == calls + 1
    with pytest.raises(LightspeedTaskFailed, match="401"):
        sensor.execute_complete({}, event)
    assert len(sandbox.calls) == calls + 1
    assert _SECRET not in caplog.text + json.dumps(event)


@pytest.mark.parametrize("fault", ["500", "drop", "html-200", "broken-json"])
@pytest.mark.parametrize("deferrable", [False, True])
def test_passing_faults_are_waited_out(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, fault: Any, deferrable: bool
) -> None:
    # No pauses within a call, so that the test is quick; the waiting between looks is what it is about.
    monkeypatch.setattr("airflow_provider_lightspeed.api.retry.MAX_ATTEMPTS", 1)
    sensor = _sensor(since_id=max(sandbox.shop.ids()), deferrable=deferrable)
    sandbox.inject(Fault(fault, times=3))
    new = sandbox.add_tickets(1)
    result = sensor.execute_complete({}, _event(_defer(sensor))) if deferrable else sensor.execute({})
    assert result["ticket_ids"] == new


@pytest.mark.parametrize("deferrable", [False, True])
def test_what_does_not_pass_fails_the_try_or_is_passed_over(sandbox: Sandbox, deferrable: bool) -> None:
    last = max(sandbox.shop.ids())
    new = sandbox.add_tickets(1)
    failures = iter([True, False])

    def where(_: Any) -> bool:
        if next(failures, False):
            raise RuntimeError("a mistake in the user's function")
        return True

    with pytest.raises(RuntimeError):
        _sensor(since_id=last, deferrable=deferrable, where=where).execute({})
    failures = iter([True, False])
    sensor = _sensor(since_id=last, deferrable=deferrable, where=where, silent_fail=True)
    result = sensor.execute_complete({}, _event(_defer(sensor))) if deferrable else sensor.execute({})
    assert result["ticket_ids"] == new


@pytest.mark.parametrize("deferrable", [False, True])
@pytest.mark.parametrize(
    ("options", "error"), [({}, AirflowSensorTimeout), ({"soft_fail": True}, AirflowSkipException)]
)
def test_the_time_is_up(sandbox: Sandbox, deferrable: bool, options: Any, error: Any) -> None:
    sensor = _sensor(since_id=max(sandbox.shop.ids()), deferrable=deferrable, timeout=0.3, **options)
    started = time.monotonic()
    with pytest.raises(error):
        _end(sensor)
    assert time.monotonic() - started >= 0.3


def test_the_reserve_is_left_alone(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    connection = json.loads(sandbox.airflow_connection())
    connection["extra"] = {"quota_reserve": 0.5, "max_wait": 0}
    monkeypatch.setenv("AIRFLOW_CONN_LIGHTSPEED_DEFAULT", json.dumps(connection))
    sensor = _sensor(since_id=max(sandbox.shop.ids()))
    trigger = _defer(sensor)
    sandbox.use_quota(600_000_000)
    calls = len(sandbox.calls)

    async def wait() -> Any:
        waiting = asyncio.ensure_future(anext(aiter(trigger.run())))
        while len(sandbox.calls) == calls:
            await asyncio.sleep(0.01)
        # Many intervals in which it does not poll.
        await asyncio.sleep(0.5)
        assert not waiting.done()
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)

    asyncio.run(wait())
    assert len(sandbox.calls) == calls + 1  # the one that showed what is left
    with pytest.raises(AirflowSensorTimeout):
        sensor.execute_complete({}, PollEvent(time.time() - 1).payload())


def test_the_time_was_up_before_the_triggerer_came_back(sandbox: Sandbox) -> None:
    sensor = _sensor(since_id=max(sandbox.shop.ids()))
    trigger = _defer(sensor)
    trigger.deadline = time.time() - 1
    calls = len(sandbox.calls)
    # The trigger has no time of its own, so it makes no call; the sensor makes its last.
    event = _event(trigger)
    assert len(sandbox.calls) == calls
    with pytest.raises(AirflowSensorTimeout):
        sensor.execute_complete({}, event)
    assert len(sandbox.calls) == calls + 1


def test_default_deferrable_is_read_from_the_configuration(sandbox: Sandbox) -> None:
    assert NewTicketSensor(task_id="wait").deferrable is False
    with pytest.raises(ValueError, match="same version"):
        _sensor(since_id=1).execute_complete({}, {"status": "success"})


@pytest.mark.airflow(since="3.0")
def test_assets_before_3_3_run_by_themselves_and_share_looks(sandbox: Sandbox) -> None:
    from airflow_provider_lightspeed.triggers.assets import NewTicketEventTrigger

    found: dict[str, list[int]] = {"one": [], "two": []}

    async def run(name: str) -> None:
        trigger = NewTicketEventTrigger(
            asset_name=name, lightspeed_conn_id="lightspeed_default", poll_interval=0.1, start="latest"
        )
        async for event in trigger.run():
            found[name].extend(event.payload["ticket_ids"])

    async def story() -> None:
        running = [asyncio.ensure_future(run(name)) for name in found]
        while len(sandbox.calls) < 6:
            await asyncio.sleep(0.01)
        new = sandbox.add_tickets(2)
        async with asyncio.timeout(120):
            while found != {"one": new, "two": new}:
                await asyncio.sleep(0.01)
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)

    asyncio.run(story())
    first, *_, last = sandbox.calls
    # Three to find out what is new, then a poll an interval, each of two calls while it looks back.
    assert len(sandbox.calls) <= 3 + 2 * (2 + (last.monotonic - first.monotonic) / 0.1)
