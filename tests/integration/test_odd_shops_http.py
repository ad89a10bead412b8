"""Shops whose answers are odd where live ones have been seen to be: nothing is lost, and nothing fails."""

from __future__ import annotations

import csv
import gzip
import io
import json
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from typing import Any, get_args

import pytest

from airflow_provider_lightspeed.hooks.lightspeed import LightspeedHook
from airflow_provider_lightspeed.operators.tickets import (
    CloseTicketsOperator,
    DeleteTicketsOperator,
    UpdateTicketsOperator,
)
from airflow_provider_lightspeed.sandbox import NO_LIMITS, Fault, Order, Sandbox, ShopConfig
from chaos.calls import repeated_writes
from demo.s3_server import S3Server
from tests.integration.bulk_runs import run
from tests.integration.exporting import export, new_task, read

ORDERS = get_args(Order)


def open_shop(monkeypatch: pytest.MonkeyPatch, **options: Any) -> Sandbox:
    plain = {"tickets": 700, "end": datetime(2026, 6, 1, tzinfo=UTC), "days": 60, "limits": NO_LIMITS}
    sandbox = Sandbox(ShopConfig(**{**plain, "burst_limit": 0, "oddities": True, **options}))
    sandbox.start()
    connection = {**json.loads(sandbox.airflow_connection()), "extra": {"calls_per_second": 0}}
    monkeypatch.setenv("AIRFLOW_CONN_LIGHTSPEED_DEFAULT", json.dumps(connection))
    monkeypatch.setattr("airflow_provider_lightspeed.api.retry.FIRST_BACKOFF", 0.01)
    return sandbox


@pytest.fixture(params=ORDERS)
def odd(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Sandbox]:
    """A shop with oddities, whose PUTs touch a ticket even where they change nothing."""
    sandbox = open_shop(monkeypatch, order=request.param, same_touches_tickets=True)
    yield sandbox
    sandbox.close()


def test_a_walk_brings_each_ticket_as_it_is(odd: Sandbox) -> None:
    hook = LightspeedHook()
    tickets = list(hook.iter_tickets())
    assert len(tickets) == 700
    assert {ticket["id"]: ticket for ticket in tickets} == odd.shop.tickets()
    assert hook.count_tickets() == 700


@pytest.mark.parametrize("ending", ["jsonl.gz", "csv.gz", "parquet"])
@pytest.mark.parametrize("odd", ["newest", "unordered"], indirect=True)
@pytest.mark.usefixtures("aws")
def test_an_export_has_all(odd: Sandbox, s3_server: S3Server, s3_bucket: str, ending: str) -> None:
    key = f"tickets.{ending}"
    result = export(new_task(), s3_bucket=s3_bucket, s3_key=key)
    assert result["tickets"] == 700
    truth = odd.shop.tickets()
    if ending == "jsonl.gz":
        assert {row["id"]: row for row in read(s3_server, s3_bucket, key)} == truth
        return
    rows: dict[int, Any]
    if ending == "parquet":
        rows = {row["id"]: row for row in read(s3_server, s3_bucket, key)}
    else:
        body = s3_server.client().get_object(Bucket=s3_bucket, Key=key)["Body"].read()
        rows = {int(row["id"]): row for row in csv.DictReader(io.StringIO(gzip.decompress(body).decode()))}
    assert rows.keys() == truth.keys()
    for number, row in rows.items():
        ticket = truth[number]
        assert (row["subject"] or "") == (ticket["subject"] or "")
        assert bool(row["updated_at"]) == bool(ticket["updatedAt"])
        language, customer = ticket["language"] or {}, (ticket["customer"] or {}).get("resource", {})
        assert str(row["language_id"] or "") == str(language.get("id") or "")
        assert (row["language_code"] or "") == (language.get("code") or "")
        assert str(row["customer_id"] or "") == str(customer.get("id") or "")


def test_stale_tickets_are_closed_though_answers_are_lost(odd: Sandbox) -> None:
    before = odd.shop.tickets()
    odd.inject(*(Fault(kind, method="PUT", times=5, applied=True) for kind in ("drop", "empty-200", "503")))
    outcome = run(CloseTicketsOperator(task_id="close", only_answered=True, max_share=1.0))
    expected = {n for n, t in before.items() if t["isAnswered"] and not t["isClosed"] and not t["isTodo"]}
    assert set(outcome["closed"]) == expected
    assert all(odd.shop.ticket(number)["isClosed"] for number in expected)
    assert repeated_writes(odd.calls) == 0
    again = run(CloseTicketsOperator(task_id="close", ticket_ids=sorted(expected)))
    assert set(again["already"]) == expected
    assert repeated_writes(odd.calls) == 0


@pytest.mark.parametrize("odd", ["newest"], indirect=True)
def test_odd_tickets_are_updated_and_deleted(odd: Sandbox) -> None:
    ids = odd.shop.ids()[:300]
    emptied = UpdateTicketsOperator(task_id="empty", ticket_ids=ids, memo="")
    had_one = {number for number in ids if odd.shop.ticket(number)["memo"]}
    assert set(run(emptied)["updated"]) == had_one
    named = UpdateTicketsOperator(task_id="name", ticket_ids=ids, subject="Seen", memo="seen")
    assert set(run(named)["updated"]) == set(ids)
    assert {odd.shop.ticket(number)["memo"] for number in ids} == {"seen"}
    assert set(run(DeleteTicketsOperator(task_id="delete", ticket_ids=ids))["deleted"]) == set(ids)


def test_a_write_that_the_shop_ignores_is_told_as_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    ignored = ("doNotifyAnswered", "subject")
    with closing(open_shop(monkeypatch, tickets=5, ignored_properties=ignored)) as shop:
        ids = shop.add_tickets(2, isTodo=False, doNotifyAnswered=False)
        change = {"is_todo": True, "do_notify_answered": True, "subject": "as the shop likes it"}
        update = UpdateTicketsOperator(task_id="update", ticket_ids=ids, on_failure="warn", **change)
        outcome = run(update)
        assert outcome["updated"] == []
        assert set(outcome["failed"]) == {str(number) for number in ids}
        assert all(
            reason.endswith("did not change doNotifyAnswered") for reason in outcome["failed"].values()
        )
        # What it makes of a text is its own affair.
        assert run(UpdateTicketsOperator(task_id="text", ticket_ids=ids, subject="x"))["updated"] == ids
