"""Exports with each ticket's conversation."""

from __future__ import annotations

import itertools
import json
import logging
import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from airflow_provider_lightspeed.api import retry
from airflow_provider_lightspeed.api.errors import LightspeedIncompleteListError, LightspeedNotFoundError
from airflow_provider_lightspeed.hooks.lightspeed import LightspeedHook
from airflow_provider_lightspeed.sandbox import NO_LIMITS, Sandbox, ShopConfig
from demo.s3_server import S3Server
from tests.integration.exporting import export, keys, new_task, read
from tests.integration.gateways import PAGE, gateway

pytestmark = pytest.mark.usefixtures("aws")


@pytest.fixture
def shop(monkeypatch: pytest.MonkeyPatch) -> Iterator[Sandbox]:
    """A shop of two pages, without limits."""
    config = ShopConfig(
        tickets=260, end=datetime(2026, 6, 1, tzinfo=UTC), days=60, limits=NO_LIMITS, burst_limit=0
    )
    with Sandbox(config) as shop:
        connect(monkeypatch, shop)
        yield shop


def connect(monkeypatch: pytest.MonkeyPatch, shop: Sandbox, calls_per_second: int = 0, url: str = "") -> None:
    extra = {"calls_per_second": calls_per_second}
    connection = {**json.loads(shop.airflow_connection()), "host": url or shop.url, "extra": extra}
    monkeypatch.setenv("AIRFLOW_CONN_LIGHTSPEED_DEFAULT", json.dumps(connection))


def message_calls(shop: Sandbox) -> list[int]:
    """Return the tickets whose messages were asked for."""
    return [int(call.path.split("/")[-2]) for call in shop.calls if call.path.endswith("/messages.json")]


def assert_right(shop: Sandbox, rows: list[dict[str, Any]]) -> None:
    assert {row["id"] for row in rows} == set(shop.shop.ids())
    assert len(rows) == len(shop.shop.ids())
    for row in rows:
        told = [(message["id"], message["message"]) for message in row["messages"]]
        assert told == [(message.id, message.text) for message in shop.shop.messages(row["id"])]


def test_in_the_order_of_the_tickets_and_counted_in_the_plan(
    shop: Sandbox, s3_server: S3Server, s3_bucket: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    target = {"s3_bucket": s3_bucket, "s3_key": "t.jsonl"}
    export({}, **target)
    plain = read(s3_server, s3_bucket, "t.jsonl")
    shop.reset_calls()
    result = export({}, **target, replace=True, include_messages=True)
    rows = read(s3_server, s3_bucket, "t.jsonl")
    assert_right(shop, rows)
    assert [row["id"] for row in rows] == [row["id"] for row in plain]
    assert result["calls"] == shop.count_calls()
    assert sorted(message_calls(shop)) == shop.shop.ids()
    estimates = re.findall(r"Exporting about 260 tickets takes about (\d+) API calls", caplog.text)
    assert 0 <= int(estimates[-1]) - result["calls"] <= 2


def test_a_page_of_a_gateway_is_no_deleted_ticket(
    shop: Sandbox, s3_server: S3Server, s3_bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retry, "FIRST_BACKOFF", 0.002)
    spoilt = f"/tickets/{shop.shop.ids()[7]}/messages.json"
    with gateway(shop, lambda _, path: PAGE if spoilt in path else None) as url:
        connect(monkeypatch, shop, url=url)
        with pytest.raises(LightspeedNotFoundError, match="no message from the API"):
            export({}, s3_bucket=s3_bucket, s3_key="t.jsonl", include_messages=True)
    assert "t.jsonl" not in keys(s3_server, s3_bucket)


def test_eight_at_once_within_the_limit_of_calls_a_second(
    monkeypatch: pytest.MonkeyPatch, s3_server: S3Server, s3_bucket: str
) -> None:
    # The shop refuses the twenty-first call in any second; so slow, one call at a time would make five in each.
    config = ShopConfig(tickets=60, end=datetime(2026, 6, 1, tzinfo=UTC), limits=NO_LIMITS, latency=0.2)
    with Sandbox(config) as shop:
        connect(monkeypatch, shop, calls_per_second=20)
        export({}, s3_bucket=s3_bucket, s3_key="t.jsonl", include_messages=True)
        assert_right(shop, read(s3_server, s3_bucket, "t.jsonl"))
        assert {call.status for call in shop.calls} == {200}
        began = [call.monotonic for call in shop.calls]
        under_way = [sum(start <= moment < start + 0.2 for start in began) for moment in began]
        assert 1 < max(under_way) <= 8


def test_a_ticket_that_is_deleted_meanwhile(
    shop: Sandbox,
    s3_server: S3Server,
    s3_bucket: str,
    monkeypatch: pytest.MonkeyPatch,
    log: Callable[[], str],
) -> None:
    fetch = LightspeedHook.iter_ticket_messages
    gone: list[int] = []

    def fetch_after_others(hook: LightspeedHook, ticket_id: int) -> Any:
        if len(gone) < 2 and ticket_id % 10 == 0:
            gone.append(ticket_id)
            shop.delete_ticket(ticket_id)
        return fetch(hook, ticket_id)

    monkeypatch.setattr(LightspeedHook, "iter_ticket_messages", fetch_after_others)
    result = export({}, s3_bucket=s3_bucket, s3_key="t.jsonl", include_messages=True)
    rows = read(s3_server, s3_bucket, "t.jsonl")
    assert result["tickets"] == len(rows) == 260
    assert {row["id"]: row["messages"] for row in rows if row["id"] in gone} == {
        number: [] for number in gone
    }
    assert_right(shop, [row for row in rows if row["id"] not in gone])
    assert "Wrote 2 tickets without messages: deleted in the shop" in log()


@pytest.mark.parametrize("at", [50, 255])
def test_a_retry_goes_on_in_the_middle_of_a_page(
    shop: Sandbox, s3_server: S3Server, s3_bucket: str, monkeypatch: pytest.MonkeyPatch, at: int
) -> None:
    task = new_task()
    target = {"s3_bucket": s3_bucket, "s3_key": "t.jsonl", "include_messages": True}
    with monkeypatch.context() as patch:
        fetch, fetched = LightspeedHook.iter_ticket_messages, itertools.count(1)

        def fetch_until(hook: LightspeedHook, ticket_id: int) -> Any:
            if next(fetched) >= at:
                raise OSError("no memory left on this worker")
            return fetch(hook, ticket_id)

        patch.setattr(LightspeedHook, "iter_ticket_messages", fetch_until)
        with pytest.raises(OSError, match="worker"):
            export(task, **target)
    before = message_calls(shop)
    result = export(task, **target)
    again = message_calls(shop)[len(before) :]
    assert len(set(before) & set(again)) <= 32
    assert shop.count_calls() <= 260 + 3 + 32 + 5
    assert_right(shop, read(s3_server, s3_bucket, "t.jsonl"))
    assert result["tickets"] == 260
    assert keys(s3_server, s3_bucket) == ["t.jsonl"]


def test_a_list_that_moves_on_while_the_worker_is_away(
    shop: Sandbox, s3_server: S3Server, s3_bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Many new tickets shift what was read in part onto the next page: it is not read twice."""
    task = new_task()
    target = {"s3_bucket": s3_bucket, "s3_key": "t.jsonl", "include_messages": True}
    with monkeypatch.context() as patch:
        fetch, fetched = LightspeedHook.iter_ticket_messages, itertools.count(1)

        def fetch_until(hook: LightspeedHook, ticket_id: int) -> Any:
            if next(fetched) >= 100:
                raise OSError("no memory left on this worker")
            return fetch(hook, ticket_id)

        patch.setattr(LightspeedHook, "iter_ticket_messages", fetch_until)
        with pytest.raises(OSError, match="worker"):
            export(task, **target)
    existed = set(shop.shop.ids())
    shop.add_tickets(300)
    export(task, **target)
    rows = read(s3_server, s3_bucket, "t.jsonl")
    ids = [row["id"] for row in rows]
    assert len(ids) == len(set(ids))
    assert existed <= set(ids)
    assert keys(s3_server, s3_bucket) == ["t.jsonl"]


def test_a_conversation_that_its_list_cuts_fails_the_export_and_leaves_the_object_alone(
    monkeypatch: pytest.MonkeyPatch, s3_server: S3Server, s3_bucket: str
) -> None:
    config = ShopConfig(
        tickets=40,
        end=datetime(2026, 6, 1, tzinfo=UTC),
        limits=NO_LIMITS,
        burst_limit=0,
        message_page_size=50,
        messages_ignore_page=True,
    )
    target: dict[str, Any] = {
        "s3_bucket": s3_bucket,
        "s3_key": "t.jsonl",
        "include_messages": True,
        "replace": True,
    }
    with Sandbox(config) as shop:
        connect(monkeypatch, shop)
        long = shop.shop.ids()[3]
        while len(shop.shop.messages(long)) < 50:
            shop.add_message(long, "I live in Elm Street")
        export({}, **target)
        assert_right(shop, before := read(s3_server, s3_bucket, "t.jsonl"))
        shop.add_message(long, "I live in Elm Street")
        with pytest.raises(
            LightspeedIncompleteListError, match=rf"ticket {long} .*50 messages read, 51 expected"
        ):
            export({}, **target)
        assert read(s3_server, s3_bucket, "t.jsonl") == before
