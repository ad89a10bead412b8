"""Receipts as the input of other tasks: a result acts on its own receipt only."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Generator
from datetime import UTC, datetime
from typing import Any

import pytest

from airflow_provider_lightspeed.exceptions import LightspeedTaskFailed, LightspeedTicketsFailed
from airflow_provider_lightspeed.operators.tickets import (
    CloseTicketsOperator,
    DeleteTicketsOperator,
    UpdateTicketsOperator,
)
from airflow_provider_lightspeed.s3.objects import S3Objects
from airflow_provider_lightspeed.sandbox import NO_LIMITS, Fault, Sandbox, ShopConfig
from tests.integration.bulk_runs import Store, Xcom, run

_PLAN = "s3://bucket/plan.jsonl"
_ALL: dict[str, Any] = {"created_before": "2100-01-01T00:00:00+00:00", "max_share": 1.0, "max_tickets": 9}


@pytest.fixture
def shop(monkeypatch: pytest.MonkeyPatch) -> Generator[Sandbox]:
    config = ShopConfig(tickets=0, end=datetime(2026, 6, 1, tzinfo=UTC), limits=NO_LIMITS, burst_limit=0)
    with Sandbox(config) as sandbox:
        extra = {"max_wait": 0}
        connection = {**json.loads(sandbox.airflow_connection()), "extra": extra}
        monkeypatch.setenv("AIRFLOW_CONN_LIGHTSPEED_DEFAULT", json.dumps(connection))
        yield sandbox


@pytest.fixture
def objects(monkeypatch: pytest.MonkeyPatch) -> dict[str, bytes]:
    made: dict[str, bytes] = {}
    monkeypatch.setattr(S3Objects, "write", lambda _, uri, data: made.update({uri: data}))
    monkeypatch.setattr(S3Objects, "check_writable", lambda *_: None)
    monkeypatch.setattr(S3Objects, "read", lambda _, uri: made[uri])
    return made


def passed_on(result: Any) -> Any:
    return json.loads(json.dumps(result))


def names_its_receipt(result: Any, objects: dict[str, bytes]) -> bool:
    return bool(result["receipt_sha256"] == hashlib.sha256(objects[result["receipt"]]).hexdigest()[:16])


# Results without a receipt


def test_a_plan_of_a_deletion_needs_no_receipt(shop: Sandbox) -> None:
    ids = shop.add_tickets(3)
    plan = run(DeleteTicketsOperator(task_id="plan", ticket_ids=ids[:2], dry_run=True))
    deleted = run(DeleteTicketsOperator(task_id="delete", ticket_ids=passed_on(plan)))
    assert deleted["deleted"] == ids[:2]
    assert shop.shop.ids() == ids[2:]
    # What was deleted is nothing to act on.
    with pytest.raises(LightspeedTaskFailed, match="ticket_ids"):
        run(CloseTicketsOperator(task_id="close", ticket_ids=passed_on(deleted)))


# A result and its own receipt


@pytest.mark.parametrize("form", [lambda result: result, lambda result: [result], str, json.dumps])
def test_a_deletion_deletes_what_its_plan_names(shop: Sandbox, objects: dict[str, bytes], form: Any) -> None:
    first, second = shop.add_tickets(3), shop.add_tickets(4)
    plans = [
        passed_on(
            run(DeleteTicketsOperator(task_id="plan", ticket_ids=ids, dry_run=True, receipt_s3_key=_PLAN))
        )
        for ids in (first, second)
    ]
    with pytest.raises(LightspeedTaskFailed, match=rf"{_PLAN} is not the receipt of this result.*run_id"):
        run(DeleteTicketsOperator(task_id="delete", ticket_ids=form(plans[0])))
    assert shop.shop.ids() == first + second
    assert run(DeleteTicketsOperator(task_id="delete", ticket_ids=form(plans[1])))["deleted"] == second
    assert shop.shop.ids() == first


@pytest.mark.parametrize("later", ["more tickets", "newer versions"])
def test_an_approval_is_not_one_of_a_later_plan(shop: Sandbox, objects: dict[str, bytes], later: str) -> None:
    ids = shop.add_tickets(3, createdAt="2026-01-01T00:00:00+00:00", isClosed=False)
    plan: dict[str, Any] = {"task_id": "plan", "dry_run": True, "receipt_s3_key": _PLAN, **_ALL}
    approved = passed_on(run(CloseTicketsOperator(**plan)))
    assert approved["closed"] == ids
    if later == "more tickets":
        shop.add_tickets(2, isClosed=False)
    else:
        shop.update_ticket(ids[0], memo="the customer called")
    run(CloseTicketsOperator(**plan))
    with pytest.raises(LightspeedTaskFailed, match="No ticket was changed"):
        run(CloseTicketsOperator(task_id="close", ticket_ids=approved))
    assert not any(ticket["isClosed"] for ticket in shop.shop.tickets().values())


def test_a_result_of_an_earlier_version_is_read(shop: Sandbox, objects: dict[str, bytes]) -> None:
    ids = shop.add_tickets(3, isClosed=False)
    plan = run(CloseTicketsOperator(task_id="plan", ticket_ids=ids, dry_run=True, receipt_s3_key=_PLAN))
    del plan["receipt_sha256"]
    assert run(CloseTicketsOperator(task_id="close", ticket_ids=plan))["closed"] == ids


@pytest.mark.parametrize("store", [True, False])
def test_each_result_names_the_receipt_as_it_was_written_last(
    shop: Sandbox, objects: dict[str, bytes], store: bool
) -> None:
    ids = shop.add_tickets(5, isClosed=False)
    xcom, kept = Xcom(), Store() if store else None
    operator = CloseTicketsOperator(task_id="close", ticket_ids=ids, receipt_s3_key=_PLAN)
    # A deferral, then a ticket that fails.
    shop.inject(Fault("429", method="PUT", path=str(ids[1]), retry_after="1"))
    shop.inject(Fault("500", method="PUT", path=str(ids[3]), times=0))
    with pytest.raises(LightspeedTicketsFailed):
        run(operator, kept, xcom)
    failed = xcom.pushed["return_value"]
    assert list(failed["failed"]) == [str(ids[3])]
    assert names_its_receipt(failed, objects)
    shop.reset()
    # The retry writes another one.
    done = run(operator, kept, xcom)
    assert names_its_receipt(done, objects)
    assert not names_its_receipt(failed, objects)
    with pytest.raises(LightspeedTaskFailed, match="not the receipt of this result"):
        run(UpdateTicketsOperator(task_id="undo", ticket_ids=failed, is_closed=False))
    if store:
        undo = UpdateTicketsOperator(task_id="undo", ticket_ids=passed_on(done), is_closed=False)
        assert run(undo)["updated"] == ids


@pytest.mark.parametrize("ids", [[], None])
def test_a_plan_of_nothing_has_a_receipt_too(
    shop: Sandbox, objects: dict[str, bytes], ids: list[int] | None
) -> None:
    chosen: dict[str, Any] = _ALL if ids is None else {"ticket_ids": ids}
    plan = run(CloseTicketsOperator(task_id="plan", dry_run=True, receipt_s3_key=_PLAN, **chosen))
    assert names_its_receipt(plan, objects)
    assert run(CloseTicketsOperator(task_id="close", ticket_ids=passed_on(plan)))["closed"] == []


# A receipt and its own input


@pytest.mark.parametrize("dry_run", [True, False])
@pytest.mark.parametrize(
    "form",
    [
        lambda plan: plan["receipt"],
        lambda plan: plan,
        str,
        lambda plan: [{"ticket_ids": [1]}, plan],
        lambda plan: {"uri": plan["receipt"], "tickets": 3},
    ],
)
def test_a_receipt_does_not_replace_its_own_input(
    shop: Sandbox, objects: dict[str, bytes], form: Any, dry_run: bool
) -> None:
    ids = shop.add_tickets(3, isClosed=False)
    plan = run(CloseTicketsOperator(task_id="plan", ticket_ids=ids, dry_run=True, receipt_s3_key=_PLAN))
    before = objects.copy()
    shop.reset_calls()
    arguments: dict[str, Any] = {"task_id": "close", "ticket_ids": form(passed_on(plan)), "dry_run": dry_run}
    with pytest.raises(LightspeedTaskFailed, match=rf"the receipt would replace {_PLAN}.*another key"):
        run(CloseTicketsOperator(**arguments, receipt_s3_key=_PLAN))
    assert not shop.calls
    assert objects == before
