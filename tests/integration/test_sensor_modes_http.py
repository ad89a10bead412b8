"""Poke, reschedule and deferrable mode end in the same way, whatever happens, against a shop over HTTP."""

from __future__ import annotations

import asyncio
import json
import re
import threading
import time
from collections.abc import Callable
from contextlib import nullcontext
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any
from unittest.mock import ANY

import pytest

from airflow_provider_lightspeed._airflow import (
    AirflowException,
    AirflowSensorTimeout,
    AirflowSkipException,
    TaskDeferred,
)
from airflow_provider_lightspeed.exceptions import LightspeedTaskFailed
from airflow_provider_lightspeed.sandbox import Fault, Sandbox, email_of
from airflow_provider_lightspeed.sensors.tickets import NewTicketSensor

try:
    from airflow.sdk.exceptions import AirflowRescheduleException
except ImportError:
    from airflow.exceptions import AirflowRescheduleException

_MODES: dict[str, dict[str, Any]] = {
    "poke": {"mode": "poke"},
    "reschedule": {"mode": "reschedule"},
    "deferrable": {"deferrable": True},
}


@pytest.fixture(
    params=[
        "poke",
        # Airflow 2 looks up in its database since when a task is rescheduled.
        pytest.param("reschedule", marks=pytest.mark.airflow(since="3.0")),
        "deferrable",
    ]
)
def mode(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    # No pauses within a call, so that the test is quick; the waiting between looks is what it is about.
    monkeypatch.setattr("airflow_provider_lightspeed.api.retry.MAX_ATTEMPTS", 1)
    return str(request.param)


class _Run:
    """A sensor's run, as worker, scheduler and triggerer do it together."""

    def __init__(self, mode: str, **options: Any) -> None:
        self.shapes = {"task_id": "wait", "poke_interval": 0.05, "timeout": 3_600, **_MODES[mode], **options}
        began = datetime.now(UTC)
        self.context: Any = {"ti": SimpleNamespace(get_first_reschedule_date=lambda _: began)}

    def end(self) -> Any:
        """Return the result, or raise what the task would end with."""
        event: Any = None
        while True:
            # As a worker does: a new one each time.
            sensor = NewTicketSensor(**self.shapes)
            try:
                if event is None:
                    return sensor.execute(self.context)
                return self._resume(sensor, event)
            except AirflowRescheduleException as again:
                time.sleep(max(0.0, (again.reschedule_date - datetime.now(UTC)).total_seconds()))
            except TaskDeferred as deferred:
                trigger = type(deferred.trigger)(**json.loads(json.dumps(deferred.trigger.serialize()[1])))
                event = asyncio.run(anext(aiter(trigger.run()))).payload

    def _resume(self, sensor: NewTicketSensor, event: Any) -> Any:
        return sensor.resume_execution("execute_complete", {"event": event}, self.context)


@pytest.fixture
def last(sandbox: Sandbox) -> int:
    return max(sandbox.shop.ids())


def test_tickets_that_come_while_it_waits(sandbox: Sandbox, mode: str, last: int) -> None:
    new: list[int] = []

    def arrive() -> None:
        for count in (1, 3):
            time.sleep(0.3)
            new.extend(sandbox.add_tickets(count))

    arriving = threading.Thread(target=arrive)
    arriving.start()
    result = _Run(mode, since_id=last, min_tickets=3).end()
    arriving.join()
    assert result == {"ticket_ids": new, "count": 4, "since_id": last, "max_id": new[-1], "shop": ANY}


def test_the_reasons_to_wait_come_one_after_another(sandbox: Sandbox, mode: str, last: int) -> None:
    sandbox.inject(
        Fault("drop"), Fault("503", times=2), Fault("html-200"), Fault("broken-json"), Fault("429")
    )
    new = sandbox.add_tickets(2)
    assert _Run(mode, since_id=last).end()["ticket_ids"] == new


@pytest.mark.parametrize("deferrable", [True, False])
def test_a_deferral_logs_when_the_next_poll_is(
    sandbox: Sandbox, last: int, deferrable: bool, log: Callable[[], str]
) -> None:
    sensor = NewTicketSensor(
        task_id="wait", since_id=last, deferrable=deferrable, poke_interval=90, timeout=3_600
    )
    with pytest.raises(TaskDeferred) if deferrable else nullcontext():
        sensor.poke({})
    line = r"Next poll in 90 s; the sensor waits until \d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC"
    assert len(re.findall(line, log())) == deferrable


@pytest.mark.parametrize("option", ["", "soft_fail", "silent_fail"])
def test_the_time_is_up(sandbox: Sandbox, mode: str, last: int, option: str) -> None:
    wanted = AirflowSkipException if option == "soft_fail" else AirflowSensorTimeout
    with pytest.raises(wanted):
        _Run(mode, since_id=last, timeout=0.5, **({option: True} if option else {})).end()
    assert sandbox.calls


@pytest.mark.parametrize("option", ["", "soft_fail", "silent_fail"])
def test_wrong_credentials(
    sandbox: Sandbox, mode: str, last: int, option: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrong = {**json.loads(sandbox.airflow_connection()), "password": "wrong-secret"}
    monkeypatch.setenv("AIRFLOW_CONN_LIGHTSPEED_DEFAULT", json.dumps(wrong))
    wanted = AirflowSkipException if option == "soft_fail" else LightspeedTaskFailed
    with pytest.raises(wanted):
        _Run(mode, since_id=last, **({option: True} if option else {})).end()
    assert len(sandbox.calls) == 1


@pytest.mark.parametrize("option", ["", "soft_fail"])
def test_a_mistake_in_the_users_function(sandbox: Sandbox, mode: str, last: int, option: str) -> None:
    def where(_: Any) -> bool:
        raise RuntimeError("a mistake")

    sandbox.add_tickets(1)
    with pytest.raises(RuntimeError):
        _Run(mode, since_id=last, where=where, **({option: True} if option else {})).end()


@pytest.mark.parametrize("error", [AirflowException, RuntimeError])
@pytest.mark.parametrize("option", ["", "soft_fail", "never_fail"])
def test_a_mistake_after_waiting(
    sandbox: Sandbox, mode: str, last: int, option: str, error: type[Exception]
) -> None:
    def where(_: Any) -> bool:
        raise error("a mistake")

    arriving = threading.Timer(0.3, sandbox.add_tickets, args=[1])
    arriving.start()
    with pytest.raises(AirflowException if option == "never_fail" else error) as raised:
        _Run(mode, since_id=last, where=where, **({option: True} if option else {})).end()
    arriving.join()
    assert isinstance(raised.value, AirflowSkipException) == (option == "never_fail")


def test_a_mistake_that_passes_is_passed_over_by_silent_fail(sandbox: Sandbox, mode: str, last: int) -> None:
    fails = iter([True, True, False])

    def where(_: Any) -> bool:
        if next(fails, False):
            raise RuntimeError("a mistake in the user's function")
        return True

    new = sandbox.add_tickets(1)
    assert _Run(mode, since_id=last, where=where, silent_fail=True).end()["ticket_ids"] == new


def test_only_tickets_that_count(sandbox: Sandbox, mode: str, last: int) -> None:
    no, yes = sandbox.add_tickets(1, isTodo=False) + sandbox.add_tickets(1, isTodo=True)
    result = _Run(mode, since_id=last, where=lambda ticket: ticket["isTodo"]).end()
    assert result == {"ticket_ids": [yes], "count": 1, "since_id": last, "max_id": yes, "shop": ANY}
    assert no < yes


def test_only_one_customers_tickets(sandbox: Sandbox, mode: str, last: int) -> None:
    def customer(ticket_id: int) -> int:
        number: int = sandbox.shop.ticket(ticket_id)["customer"]["resource"]["id"]
        return number

    new = sandbox.add_tickets(20)
    theirs = [ticket_id for ticket_id in new if customer(ticket_id) == customer(new[-1])]
    found = _Run(mode, since_id=last, customer_email=email_of(customer(new[-1]))).end()
    assert found["ticket_ids"] == theirs
