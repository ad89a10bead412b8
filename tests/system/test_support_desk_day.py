"""The composed example DAG on real Airflow, held against the shop's own truth."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from demo.checks import CHECKS
from demo.support_desk import Day, spend_day
from demo.world import World


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


def test_the_shop_refused_no_call(day: Day) -> None:
    assert [call for call in day.calls if call.status >= 400] == []


def test_tasks_report_the_calls_that_the_shop_has_counted(day: Day) -> None:
    puts = [call for call in day.calls if call.method == "PUT"]
    closing, exporting = day.result("close_stale_tickets"), day.result("export_tickets")
    assert len(puts) == len(closing["closed"]) + len(day.asked)
    assert closing["calls"] + exporting["calls"] < len(day.calls)
