"""State between tries, and deferral."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from types import SimpleNamespace
from typing import Any

import pytest

from airflow_provider_lightspeed._airflow import BaseOperator, TaskDeferred
from airflow_provider_lightspeed._checkpoint import Checkpoint, SendGuard, defer_until


class Store(dict[str, Any]):
    """Airflow's store, as far as it is used."""

    def set(self, key: str, value: Any) -> None:
        self[key] = value

    def delete(self, key: str) -> None:
        self.pop(key, None)


def test_the_next_try_finds_what_was_saved_last() -> None:
    context = {"task_state_store": Store()}
    assert Checkpoint(context).load() is None
    Checkpoint(context).save({"page": 1})
    Checkpoint(context).save({"page": 2})
    assert Checkpoint(context).load() == {"page": 2}
    Checkpoint(context).clear()
    Checkpoint(context).clear()
    assert Checkpoint(context).load() is None


@dataclass
class Instance:
    max_tries: int = 2


@dataclass
class Run:
    start_date: datetime = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    "cleared",
    [{"ti": Instance(max_tries=3)}, {"dag_run": Run(datetime(2026, 1, 2, tzinfo=UTC))}],
    ids=["task", "run"],
)
def test_a_task_that_failed_for_good_and_is_cleared_starts_over(cleared: dict[str, Any]) -> None:
    context: dict[str, Any] = {"task_state_store": Store(), "ti": Instance(), "dag_run": Run()}
    Checkpoint(context).save({"page": 1})
    assert Checkpoint(context).load() == {"page": 1}
    assert Checkpoint(context).load_abandoned() is None
    assert Checkpoint(context | cleared).load() is None
    assert Checkpoint(context | cleared).load_abandoned() == {"page": 1}
    Checkpoint(context | cleared).save({"page": 2})
    assert Checkpoint(context | cleared).load() == {"page": 2}


def test_a_checkpoint_of_an_early_version_may_be_from_before_a_clear() -> None:
    context = {"task_state_store": Store(lightspeed_checkpoint={"page": 1})}
    assert Checkpoint(context).load() is None
    assert Checkpoint(context).load_abandoned() == {"page": 1}


def test_what_another_version_has_sent_is_not_sent_again() -> None:
    # As it is in the store: if the worker dies and the provider is updated, the next try must know it.
    sent = {"newest": 7, "life": [2, Run.start_date.isoformat()]}
    context: Any = {"task_state_store": Store(lightspeed_sent=sent), "ti": Instance(), "dag_run": Run()}
    assert SendGuard(context).earlier() == {"newest": 7}
    with SendGuard(context).sending(newest=7):
        assert context["task_state_store"] == {"lightspeed_sent": sent}


def test_a_plan_outlives_a_clear() -> None:
    context: dict[str, Any] = {"task_state_store": Store(), "ti": Instance()}
    Checkpoint(context, outlives_clear=True).save({"page": 1})
    cleared = context | {"ti": Instance(max_tries=3)}
    assert Checkpoint(cleared, outlives_clear=True).load() == {"page": 1}


def test_without_a_store_nothing_is_kept() -> None:
    checkpoint = Checkpoint({})
    checkpoint.save({"page": 1})
    checkpoint.clear()
    assert not checkpoint.is_persistent
    assert checkpoint.load() is None


def test_a_deferral_carries_instant_method_and_state() -> None:
    until = datetime(2026, 1, 1, 12, tzinfo=UTC)
    with pytest.raises(TaskDeferred) as deferred:
        defer_until(BaseOperator(task_id="t"), until, "execute_complete", {"page": 1}, reason="no quota")
    assert deferred.value.method_name == "execute_complete"
    assert deferred.value.kwargs == {"state": {"page": 1}}
    assert deferred.value.trigger.moment == until


@pytest.mark.parametrize(("seconds", "shown"), [(250, "250"), (-3, "0")])
def test_a_deferral_is_logged_with_instant_wait_and_reason(
    seconds: int,
    shown: str,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    caplog.set_level(logging.INFO)
    now = datetime(2026, 11, 26, 14, 55, 50, 123456, tzinfo=UTC)
    monkeypatch.setattr(
        "airflow_provider_lightspeed._checkpoint.datetime", SimpleNamespace(now=lambda _: now)
    )
    until = (now + timedelta(seconds=seconds)).astimezone(timezone(timedelta(hours=2)))
    with pytest.raises(TaskDeferred):
        defer_until(BaseOperator(task_id="t"), until, "execute_complete", reason="no quota")
    instant = f"2026-11-26 {'15:00:00' if seconds > 0 else '14:55:47'}"
    line = f"Deferred until {instant} UTC (in {shown} s): no quota. The worker slot is free until then"
    # Airflow 3 gives operators a log of their own, which goes to the terminal.
    assert line in caplog.text + capfd.readouterr().out
