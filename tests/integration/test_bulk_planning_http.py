"""Plans from criteria: how they get on within small quotas, over deaths and deferrals, and when they are made from scratch."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import pytest

from airflow_provider_lightspeed.api import progress_clock, retry
from airflow_provider_lightspeed.api.errors import LightspeedIncompleteListError
from airflow_provider_lightspeed.api.paging.cursors import OldestFirstCursor, ReaderState
from airflow_provider_lightspeed.api.paging.timezone import FilterZone
from airflow_provider_lightspeed.bulk.actions import Update
from airflow_provider_lightspeed.bulk.change import BulkChange
from airflow_provider_lightspeed.bulk.job import Job
from airflow_provider_lightspeed.bulk.plan import Criteria, make_plan
from airflow_provider_lightspeed.bulk.refresh import record_last_changes
from airflow_provider_lightspeed.exceptions import LightspeedTaskFailed, LightspeedTicketsFailed
from airflow_provider_lightspeed.hooks.lightspeed import LightspeedHook
from airflow_provider_lightspeed.operators.tickets import CloseTicketsOperator
from airflow_provider_lightspeed.sandbox import NO_LIMITS, Fault, Sandbox, ShopConfig, email_of
from tests.integration.bulk_runs import Store, Xcom, lines, run

END = datetime(2026, 6, 1, tzinfo=UTC)


def open_ids(sandbox: Sandbox, chosen: Callable[[Any], bool] = lambda ticket: True) -> list[int]:
    return [n for n, t in sandbox.shop.tickets().items() if not t["isClosed"] and chosen(t)]


@contextmanager
def shop(monkeypatch: pytest.MonkeyPatch, *, max_wait: float = 0, **config: Any) -> Generator[Sandbox]:
    """Be a shop whose quota no task sleeps for: it defers each time."""
    with Sandbox(ShopConfig(end=END, days=60, burst_limit=0, **config)) as sandbox:
        extra = {"max_wait": max_wait, "calls_per_second": 0}
        connection = {**json.loads(sandbox.airflow_connection()), "extra": extra}
        monkeypatch.setenv("AIRFLOW_CONN_LIGHTSPEED_DEFAULT", json.dumps(connection))
        yield sandbox


def small(calls: int) -> dict[str, Any]:
    return {"limits": (calls, 10**6, 10**6), "window_seconds": (1.0, 3600.0, 86400.0)}


def plan(**arguments: Any) -> CloseTicketsOperator:
    given = {
        "where": lambda ticket: ticket["id"] % 97 == 0,
        "max_share": 1.0,
        "include_todo": True,
        "dry_run": True,
    }
    return CloseTicketsOperator(task_id="close", **(given | arguments))


def test_a_long_plan_goes_on_after_each_deferral(monkeypatch: pytest.MonkeyPatch) -> None:
    with shop(monkeypatch, tickets=40_000, order="newest", **small(40)) as sandbox:
        outcome = run(plan(), Store())
        assert outcome["closed"] == open_ids(sandbox, lambda t: t["id"] % 97 == 0)
        # 160 pages that overlap, and some calls to learn the order and to see the end.
        most = int(1.08 * 160) + 6
        assert sum(call.status == 200 for call in sandbox.calls) <= most
        # On a busy machine a window of a second is soon over, and the shop may refuse a call at each of four deferrals.
        assert outcome["calls"] <= most + 4


@pytest.mark.parametrize("order", ["newest", "oldest"])
def test_a_plan_logs_how_long_it_takes_and_how_far_it_is(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, order: str
) -> None:
    caplog.set_level("INFO")
    monkeypatch.setattr(progress_clock, "_EVERY", 0.0)
    with shop(monkeypatch, tickets=1_000, order=order, limits=NO_LIMITS) as sandbox:
        run(plan())
        # With the newest ticket first, reading the list counts it anyway.
        assert len([call for call in sandbox.calls if call.path.endswith("/count.json")]) == 1
    (announced,) = re.findall(
        r"Reading about 1,000 tickets for the plan takes about (\d+) API calls, less than 10 s", caplog.text
    )
    assert int(announced) - 3 <= len(sandbox.calls) <= int(announced) + 3
    read = re.findall(r"Read ([\d,]+) tickets of about 1,000, .+ to go; \d+ API calls; ", caplog.text)
    assert len(read) >= 3
    assert read[-1] == "1,000"


@pytest.mark.parametrize("kind", ["html-403", "broken-json"])
def test_a_plan_does_not_fail_for_want_of_an_estimate(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, kind: Any
) -> None:
    caplog.set_level("INFO")
    monkeypatch.setattr(retry, "MAX_ATTEMPTS", 1)
    with shop(monkeypatch, tickets=1_000, order="oldest", limits=NO_LIMITS) as sandbox:
        sandbox.inject(Fault(kind, path=r"/count\.json", times=0))
        chosen = run(plan())["closed"]
        assert chosen == open_ids(sandbox, lambda t: t["id"] % 97 == 0)
    assert "so it is read without an estimate: " in caplog.text
    assert "Reading about" not in caplog.text


@pytest.mark.parametrize(("order", "calls"), [("oldest", 3), ("unordered", 7)])
def test_the_last_calls_of_a_window_are_not_used_for_an_estimate(
    monkeypatch: pytest.MonkeyPatch, order: str, calls: int
) -> None:
    limits: Any = {"limits": (calls, 10**6, 10**6), "window_seconds": (30.0, 3600.0, 86400.0)}
    with shop(monkeypatch, tickets=300, order=order, **limits) as sandbox:
        plan().execute({})  # is not deferred
        assert len(sandbox.calls) == calls


def test_a_plan_for_a_customer_logs_how_far_it_is(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    monkeypatch.setattr(progress_clock, "_EVERY", 0.0)
    with shop(monkeypatch, tickets=1, limits=NO_LIMITS) as sandbox:
        sandbox.add_tickets(600, customer=77)
        run(plan(customer_email=email_of(77), max_tickets=1_000))
    # The shop's count does not read an address.
    assert "Reading about" not in caplog.text
    assert re.search(r"Read 60[01] tickets; \d+ API calls; ", caplog.text)


def test_reading_the_last_changes_counts_the_calls_before_a_deferral_too(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    monkeypatch.setattr(progress_clock, "_EVERY", 0.0)
    with shop(monkeypatch, tickets=2_000, order="oldest", limits=NO_LIMITS) as sandbox:
        ids = sandbox.shop.ids()
        job = Job(request_hash="", action_hash="", options_hash="", shop="", calls=50)
        job.plan = dict.fromkeys(ids)
        record_last_changes(LightspeedHook().get_conn(), job)
        assert None not in job.plan.values()
        # One call has counted the list before its first page.
        shown = re.findall(r"Read [\d,]+ tickets of about 2,000, .+ to go; (\d+) API calls; ", caplog.text)
        assert [int(calls) for calls in shown][:2] == [52, 53]


def test_reading_the_last_changes_of_many_ids_is_logged(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    monkeypatch.setattr(progress_clock, "_EVERY", 0.0)
    with shop(monkeypatch, tickets=1_000, limits=NO_LIMITS) as sandbox:
        by_ids = CloseTicketsOperator(task_id="close", ticket_ids=sandbox.shop.ids()[-300:], max_tickets=300)
        run(by_ids)
    assert re.search(
        r"Reading about 300 tickets to record their last changes takes about \d API calls, less than 10 s",
        caplog.text,
    )
    assert re.search(r"Read 300 tickets of about 300, .+ to go; \d API calls; ", caplog.text)


def test_a_killed_plan_goes_on_where_it_was_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    with shop(monkeypatch, tickets=20_000, order="oldest", limits=NO_LIMITS) as sandbox:
        store = Store()
        last = sandbox.shop.ids()[15_000]

        def dies(ticket: dict[str, Any]) -> bool:
            if ticket["id"] > last and not store.dead:
                store.dead = True
                raise KeyboardInterrupt
            return bool(ticket["id"] % 97 == 0)

        with pytest.raises(KeyboardInterrupt):
            run(plan(where=dies), store)
        store.dead, last = False, sandbox.shop.ids()[-1]
        sandbox.reset_calls()
        outcome = run(plan(where=dies), store)
        assert outcome["closed"] == open_ids(sandbox, lambda t: t["id"] % 97 == 0)
        assert len(sandbox.calls) <= 80 - 15_000 // 250 + 25


@pytest.mark.parametrize("order", ["unordered", "last_change"])
def test_a_list_that_one_quota_does_not_suffice_to_survey(
    monkeypatch: pytest.MonkeyPatch, order: str
) -> None:
    with shop(monkeypatch, tickets=3_000, order=order, **small(8)) as sandbox:
        expected = open_ids(sandbox, lambda t: t["id"] % 97 == 0)
        assert run(plan(dry_run=False))["closed"] == expected != []
        assert not open_ids(sandbox, lambda t: t["id"] % 97 == 0)


def test_a_walk_that_cannot_be_resumed_is_begun_anew(sandbox: Sandbox) -> None:
    client = LightspeedHook().get_conn()
    reader = ReaderState(FilterZone(), seen=9, longest=250, boundary=2600)
    job = Job(cursor=OldestFirstCursor(reader, last=2600, inclusive=False))

    def once_more() -> None:
        make_plan(
            client, job, Criteria(only_answered=True), Update({"isClosed": True}), max_share=1.0, save=int
        )

    with pytest.raises(LightspeedIncompleteListError):
        once_more()
    once_more()
    assert list(job.plan) == open_ids(sandbox, lambda t: t["isAnswered"] and not t["isTodo"])


def test_a_function_that_fails_does_not_spoil_the_count(sandbox: Sandbox) -> None:
    store = Store()
    broken = [True]

    def chosen(ticket: dict[str, Any]) -> bool:
        if broken and ticket["id"] == 2600:
            broken.clear()
            raise ZeroDivisionError
        return bool(ticket["id"] % 2)

    with pytest.raises(ZeroDivisionError):
        run(plan(where=chosen), store)
    is_open = len(open_ids(sandbox))
    with pytest.raises(LightspeedTaskFailed, match=rf"of {is_open} open tickets"):
        run(plan(where=chosen, max_share=0.01), store)


# When a plan holds, and when it is made from scratch


def test_the_plan_is_fixed_over_tries(sandbox: Sandbox) -> None:
    ids = sandbox.add_tickets(3, isClosed=False, isTodo=False, subject="old")
    sandbox.inject(Fault("500", method="PUT", path=str(ids[1]), times=0))
    store = Store()

    def close() -> dict[str, Any]:
        return run(plan(where=_is_old, dry_run=False), store)

    with pytest.raises(LightspeedTicketsFailed):
        close()
    sandbox.reset()
    sandbox.add_tickets(1, isClosed=False, isTodo=False, subject="old")
    assert close()["closed"] == ids


def _is_old(ticket: dict[str, Any]) -> bool:
    return bool(ticket["subject"] == "old")


def test_other_criteria_make_another_plan_and_nothing_done_is_forgotten(
    sandbox: Sandbox, s3_bucket: str, aws: None
) -> None:
    ids = sandbox.add_tickets(4, isClosed=False, isTodo=False, isAnswered=False, subject="old")
    sandbox.update_ticket(ids[3], isAnswered=True)
    sandbox.inject(*(Fault("500", method="PUT", path=str(number), times=0) for number in ids[1:]))
    store, receipt = Store(), f"s3://{s3_bucket}/closed.jsonl"
    arguments = {"where": _is_old, "dry_run": False, "receipt_s3_key": receipt}
    with pytest.raises(LightspeedTicketsFailed):
        run(plan(**arguments), store)
    sandbox.reset()
    # A person sees what it is about to do, changes the DAG, and clears the task.
    assert run(plan(**arguments, only_answered=True), store)["closed"] == [ids[0], ids[3]]
    # The shop answered two PUTs with an error: perhaps it closed these tickets.
    assert [(line["id"], line["outcome"]) for line in lines(receipt)] == [
        (ids[0], "closed"),
        (ids[3], "closed"),
        (ids[1], "unknown"),
        (ids[2], "unknown"),
    ]
    assert [sandbox.shop.ticket(number)["isClosed"] for number in ids] == [True, False, False, True]


def test_another_receipt_at_the_same_address_is_another_plan(
    sandbox: Sandbox, s3_bucket: str, aws: None
) -> None:
    ids = sandbox.add_tickets(4, isClosed=False)
    approved = f"s3://{s3_bucket}/plan.jsonl"
    store = Store()
    sandbox.inject(Fault("500", method="PUT", times=0))

    def close() -> dict[str, Any]:
        return run(CloseTicketsOperator(task_id="close", ticket_ids=approved), store)

    run(CloseTicketsOperator(task_id="plan", ticket_ids=ids[:3], dry_run=True, receipt_s3_key=approved))
    with pytest.raises(LightspeedTicketsFailed):
        close()
    sandbox.reset()
    run(CloseTicketsOperator(task_id="plan", ticket_ids=ids[2:], dry_run=True, receipt_s3_key=approved))
    assert close()["closed"] == ids[2:]
    assert not sandbox.shop.ticket(ids[0])["isClosed"]


def test_after_changed_tickets_have_failed_it_a_cleared_task_plans_anew(sandbox: Sandbox) -> None:
    ids = sandbox.add_tickets(2, isClosed=False, isTodo=False, subject="old")
    store, ti = Store(), Xcom()
    planned = BulkChange._apply

    def people_change_them_first(change: Any, client: Any, job: Job, keep: Callable[[], None]) -> None:
        time.sleep(1.1)  # the shop's clock has seconds
        for number in ids:
            sandbox.update_ticket(number, memo="Wait!")
        planned(change, client, job, keep)

    operator = plan(where=_is_old, dry_run=False, if_changed="fail")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(BulkChange, "_apply", people_change_them_first)
        with pytest.raises(LightspeedTaskFailed, match=r"2 of 2 tickets failed: .*changed since planning"):
            run(operator, store, ti)
    assert ti.pushed["return_value"]["changed"] == ids
    with pytest.raises(LightspeedTaskFailed, match="2 of 2 tickets failed"):
        run(operator, store, ti)
    assert run(operator, store, Xcom(max_tries=3))["closed"] == ids


# Each window of the quota makes progress


def test_far_apart_ids_with_a_large_reserve(monkeypatch: pytest.MonkeyPatch) -> None:
    with shop(monkeypatch, tickets=400, id_step=50, order="oldest", **small(30)) as sandbox:
        connection = json.loads(sandbox.airflow_connection())
        extra = {"max_wait": 0, "quota_reserve": 0.9}  # leaves three calls a window
        monkeypatch.setenv("AIRFLOW_CONN_LIGHTSPEED_DEFAULT", json.dumps(connection | {"extra": extra}))
        ids = sandbox.shop.ids()[::80]
        for number in ids:
            sandbox.update_ticket(number, isClosed=False)
        outcome = run(CloseTicketsOperator(task_id="close", ticket_ids=ids), Store())
        assert outcome["closed"] == ids
        assert sandbox.count_calls(method="PUT") == 5
        # The list is counted once, each ticket is read, and again where its change had to wait for the next window.
        assert len(sandbox.calls) <= 1 + 3 * len(ids)


def test_one_call_a_window_fails_and_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    windows: dict[str, Any] = {"limits": (10, 10**6, 10**6), "window_seconds": (86400.0, 86400.0, 86400.0)}
    with shop(monkeypatch, tickets=40, **windows) as sandbox:
        connection = json.loads(sandbox.airflow_connection())
        extra = {"max_wait": 0, "quota_reserve": 0.9}
        monkeypatch.setenv("AIRFLOW_CONN_LIGHTSPEED_DEFAULT", json.dumps(connection | {"extra": extra}))
        ids = sandbox.shop.ids()[:3]
        for number in ids:
            sandbox.update_ticket(number, isClosed=False)
        with pytest.raises(
            LightspeedTaskFailed, match=r"takes 2 API calls, and a window allows 1 .*3 tickets left"
        ):
            run(CloseTicketsOperator(task_id="close", ticket_ids=ids))
        assert len(sandbox.calls) == 1
