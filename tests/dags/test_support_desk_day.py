"""The composed example DAG on real Airflow, held against the shop's own truth."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from airflow_provider_lightspeed.sandbox import Call
from demo.checks import CHECKS
from demo.support_desk import Day, spend_day
from demo.world import World

pytestmark = pytest.mark.in_all


@pytest.fixture(scope="module")
def day(here: World) -> Day:
    return spend_day(here)


@pytest.mark.parametrize("wrongs_in", CHECKS.values(), ids=lambda check: check.__name__)
def test_the_day_keeps_what_the_demo_promises(day: Day, wrongs_in: Callable[[Day], Iterator[str]]) -> None:
    assert list(wrongs_in(day)) == []


def test_all_tasks_have_run(day: Day) -> None:
    assert {task_id: task.state for task_id, task in day.outcome.tasks.items()} == dict.fromkeys(
        (
            "export_tickets",
            "find_stale_tickets",
            "close_stale_tickets",
            "wait_for_new_tickets",
            "put_on_todo_list",
        ),
        "success",
    )


def test_each_ticket_is_written_once(day: Day) -> None:
    # A call may be refused: tasks that follow each other within a second do not know of each other's calls.
    written = [
        int(call.path.split("/")[-1].removesuffix(".json")) for call in day.calls if _has_written(call)
    ]
    assert sorted(written) == sorted(day.result("close_stale_tickets")["closed"] + day.asked)


def _has_written(call: Call) -> bool:
    return call.method != "GET" and call.status < 400
