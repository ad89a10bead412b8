"""Exports from a shop over HTTP to a real S3 server."""

from __future__ import annotations

import gzip
import json
import logging
import os
import re
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from datetime import UTC, datetime, timedelta
from typing import Any
from unittest.mock import ANY

import pendulum
import pytest
from botocore.client import BaseClient

from airflow_provider_lightspeed._airflow import AirflowSkipException
from airflow_provider_lightspeed.api import progress_clock
from airflow_provider_lightspeed.api.errors import LightspeedServerError
from airflow_provider_lightspeed.exceptions import LightspeedTaskFailed
from airflow_provider_lightspeed.s3 import target as s3_target
from airflow_provider_lightspeed.sandbox import NO_LIMITS, Fault, Order, Sandbox, ShopConfig
from airflow_provider_lightspeed.transfers.tickets_to_s3 import LightspeedTicketsToS3Operator
from demo.s3_server import S3Server
from tests.drawing import drawn
from tests.integration.exporting import export, keys, read

pytestmark = pytest.mark.usefixtures("aws")


def _read(server: S3Server, bucket: str, key: str) -> bytes:
    return server.client().get_object(Bucket=bucket, Key=key)["Body"].read()


def test_everything_gzipped(sandbox: Sandbox, s3_server: S3Server, s3_bucket: str) -> None:
    result = export({}, s3_key=f"s3://{s3_bucket}/tickets.jsonl.gz")
    data = _read(s3_server, s3_bucket, "tickets.jsonl.gz")
    tickets = read(s3_server, s3_bucket, "tickets.jsonl.gz")
    assert {ticket["id"]: ticket for ticket in tickets} == sandbox.shop.tickets()
    assert len(tickets) == 600
    ids = sandbox.shop.ids()
    assert result == {
        "uri": f"s3://{s3_bucket}/tickets.jsonl.gz",
        "tickets": 600,
        "min_id": min(ids),
        "max_id": max(ids),
        "bytes": len(data),
        "calls": len(sandbox.calls),
        "shop": ANY,
    }
    assert keys(s3_server, s3_bucket) == ["tickets.jsonl.gz"]
    export({}, s3_key=f"s3://{s3_bucket}/again.jsonl.gz")
    assert _read(s3_server, s3_bucket, "again.jsonl.gz") == data


@pytest.mark.usefixtures("sandbox")
@pytest.mark.parametrize("hours", [-1, 1])
def test_a_window_that_is_not_over_is_told(s3_bucket: str, log: Callable[[], str], hours: int) -> None:
    end = datetime.now(UTC) + timedelta(hours=hours)
    export({}, s3_bucket=s3_bucket, s3_key="t.jsonl", created_to=end)
    assert ("The window is not over" in log()) == (hours > 0)


def test_the_log_has_the_filters_but_no_address_of_a_customer(
    sandbox: Sandbox,
    s3_bucket: str,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
) -> None:
    caplog.set_level(logging.INFO)
    with pytest.raises(
        AirflowSkipException, match=r"no ticket matches \(since_id=1, customer_email=\*\*\*\)"
    ):
        export(
            {},
            s3_bucket=s3_bucket,
            s3_key="t.jsonl",
            since_id=1,
            customer_email="kim@example.com",
            skip_if_empty=True,
        )
    log = caplog.text + capsys.readouterr().out
    assert "Exporting tickets (since_id=1, customer_email=***)" in log
    assert "kim@example.com" not in log


@pytest.mark.parametrize("order", ["newest", "oldest"])
@pytest.mark.parametrize("window", [{}, {"created_from": "2026-04-10T00:00:00Z"}])
def test_it_says_how_long_it_takes_and_how_far_it_is(
    s3_server: S3Server,
    s3_bucket: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    order: Order,
    window: dict[str, str],
) -> None:
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(progress_clock, "_EVERY", 0.0)
    end = datetime(2026, 6, 1, tzinfo=UTC)
    with Sandbox(ShopConfig(tickets=1000, end=end, days=60, limits=NO_LIMITS, order=order)) as shop:
        monkeypatch.setenv("AIRFLOW_CONN_LIGHTSPEED_DEFAULT", shop.airflow_connection())
        made = export({}, s3_bucket=s3_bucket, s3_key="tickets.jsonl", **window)["calls"]
        # A walk from the newest ticket counts by itself.
        counts = [call for call in shop.calls if call.path.endswith("/count.json")]
        assert len(counts) == 1
    announced = re.search(
        r"Exporting about ([\d,]+) tickets takes about (\d+) API calls, less than 10 s", caplog.text
    )
    assert announced
    # Pages, what proves the list complete, and what detects the zone of a window.
    assert int(announced[2]) - 2 <= made <= int(announced[2]) + 1
    assert 800 < int(announced[1].replace(",", "")) <= 1000
    assert re.search(
        rf"Read [\d,]+ tickets of about {announced[1]}, less than 10 s to go; \d+ API calls; ", caplog.text
    )


def test_a_window_in_many_parts(
    sandbox: Sandbox, s3_server: S3Server, s3_bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(s3_target, "_PART_SIZE", 5 * 1024 * 1024)
    sandbox.add_tickets(6, subject="x" * 2_000_000)
    sandbox.add_tickets(1, subject="last")
    export({}, s3_bucket=s3_bucket, s3_key="a/b.jsonl", since_id=max(sandbox.shop.ids()) - 7)
    rows = read(s3_server, s3_bucket, "a/b.jsonl")
    assert {row["id"] for row in rows} == set(sandbox.shop.ids()[-7:])


def test_a_window_of_pendulum_datetimes(sandbox: Sandbox, s3_server: S3Server, s3_bucket: str) -> None:
    # What a native template makes of data_interval_start.
    window = {
        "created_from": pendulum.datetime(2026, 4, 10, tz="Europe/Amsterdam"),
        "created_to": pendulum.datetime(2026, 4, 20),
    }
    result = export({}, s3_bucket=s3_bucket, s3_key="window.jsonl", **window)
    tickets = sandbox.shop.tickets().values()
    created = [datetime.fromisoformat(str(ticket["createdAt"])) for ticket in tickets]
    inside = [instant for instant in created if window["created_from"] <= instant < window["created_to"]]
    assert result["tickets"] == len(inside) > 0


@pytest.mark.parametrize("key", ["empty.jsonl", "empty.jsonl.gz"])
def test_an_empty_window_is_a_valid_file(
    sandbox: Sandbox, s3_server: S3Server, s3_bucket: str, key: str
) -> None:
    window = {"created_from": "2020-01-01T00:00:00Z", "created_to": "2020-01-02T00:00:00Z"}
    result = export({}, s3_bucket=s3_bucket, s3_key=key, **window)
    assert (result["tickets"], result["min_id"], result["max_id"]) == (0, None, None)
    data = _read(s3_server, s3_bucket, key)
    assert (gzip.decompress(data) if key.endswith(".gz") else data) == b""


def test_a_shop_that_fails_midway_leaves_nothing(
    sandbox: Sandbox, s3_server: S3Server, s3_bucket: str
) -> None:
    sandbox.inject(Fault("500", path="tickets.json", after=2, times=0))
    with pytest.raises(LightspeedServerError):
        export({}, s3_bucket=s3_bucket, s3_key="tickets.jsonl.gz")
    assert keys(s3_server, s3_bucket) == []


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ({"created_from": "2026-01-01T00:00:00"}, "zone"),
        ({"created_from": "", "created_to": ""}, "CronDataIntervalTimetable"),
        ({"created_from": "None"}, "CronDataIntervalTimetable"),
        ({"created_from": "2026-01-02T00:00:00Z", "created_to": "2026-01-01T00:00:00Z"}, "reversed"),
        ({"created_from": "2026-01-02T00:00:00Z", "created_to": "2026-01-02T00:00:00Z"}, "empty"),
        ({"since_id": "x"}, "since_id"),
        ({"s3_bucket": None}, "bucket"),
        ({"s3_bucket": "no-such-bucket"}, "s3://no-such-bucket/.*: there is no such bucket"),
        ({"s3_key": "s3://elsewhere/tickets.jsonl"}, "s3_bucket"),
    ],
)
def test_bad_input(
    sandbox: Sandbox, s3_server: S3Server, s3_bucket: str, arguments: dict[str, Any], complaint: str
) -> None:
    with pytest.raises(LightspeedTaskFailed, match=complaint):
        export({}, **{"s3_bucket": s3_bucket, "s3_key": "tickets.jsonl", **arguments})
    assert not sandbox.calls
    assert keys(s3_server, s3_bucket) == []


def test_a_native_template_that_renders_to_none(sandbox: Sandbox, s3_bucket: str) -> None:
    operator = LightspeedTicketsToS3Operator(
        task_id="export", s3_bucket=s3_bucket, s3_key="k", created_from="{{ data_interval_start }}"
    )
    operator.created_from = None
    with pytest.raises(LightspeedTaskFailed, match="created_from is empty after rendering"):
        operator.execute({})
    assert not sandbox.calls


def test_wrong_secrets(
    sandbox: Sandbox, s3_server: S3Server, s3_bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrong = {**json.loads(sandbox.airflow_connection()), "password": "wrong-secret"}
    monkeypatch.setenv("AIRFLOW_CONN_WRONG", json.dumps(wrong))
    with pytest.raises(LightspeedTaskFailed, match="401") as caught:
        export({}, s3_bucket=s3_bucket, s3_key="k", lightspeed_conn_id="wrong")
    assert "wrong-secret" not in str(caught.value)
    wrong = {**json.loads(s3_server.airflow_connection()), "password": "wrong-secret"}
    monkeypatch.setenv("AIRFLOW_CONN_WRONG_AWS", json.dumps(wrong))
    with pytest.raises(LightspeedTaskFailed, match="S3 refuses"):
        export({}, s3_bucket=s3_bucket, s3_key="k", aws_conn_id="wrong_aws")
    assert keys(s3_server, s3_bucket) == []


def test_an_object_is_not_replaced_unless_asked(
    sandbox: Sandbox, s3_server: S3Server, s3_bucket: str
) -> None:
    target = {"s3_bucket": s3_bucket, "s3_key": "tickets.jsonl"}
    export({}, **target)
    before = _read(s3_server, s3_bucket, "tickets.jsonl")
    sandbox.reset_calls()
    with pytest.raises(LightspeedTaskFailed, match="exists already"):
        export({}, **target)
    assert not sandbox.calls
    sandbox.add_tickets(1)
    export({}, **target, replace=True)
    assert _read(s3_server, s3_bucket, "tickets.jsonl") != before


@pytest.fixture
def one_upload_ends_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have a multipart upload end in one step, as S3 has it.

    SeaweedFS (4.48) looks whether the key is free, and then completes: of 150 races of three conditional uploads, all in
    the same millisecond, 88 had more than one winner. A conditional PUT has one always.
    """
    call, lock = BaseClient._make_api_call, threading.Lock()

    def in_turn(client: BaseClient, operation: str, arguments: Any) -> Any:
        with lock if operation == "CompleteMultipartUpload" else nullcontext():
            return call(client, operation, arguments)

    monkeypatch.setattr(BaseClient, "_make_api_call", in_turn)


#: How often runs race each other; LIGHTSPEED_TEST_RACES=50 for a long proof.
RACES = int(os.environ.get("LIGHTSPEED_TEST_RACES", drawn(2, 3)))


@pytest.mark.airflow(since="3.0")  # 2.11 lets no thread but the first run an operator
@pytest.mark.usefixtures("one_upload_ends_at_a_time")
@pytest.mark.parametrize("size", ["one write", "many parts"])
def test_of_exports_at_once_one_wins(
    sandbox: Sandbox, s3_server: S3Server, s3_bucket: str, monkeypatch: pytest.MonkeyPatch, size: str
) -> None:
    if size == "many parts":
        monkeypatch.setattr(s3_target, "_PART_SIZE", 5 * 1024 * 1024)
        sandbox.add_tickets(6, subject="x" * 2_000_000)

    def attempt(_: int) -> str:
        try:
            return str(export({}, s3_bucket=s3_bucket, s3_key="race.jsonl")["uri"])
        except LightspeedTaskFailed as error:
            return str(error)

    for _ in range(RACES):
        with ThreadPoolExecutor(3) as pool:
            told = list(pool.map(attempt, range(3)))
        assert told.count(f"s3://{s3_bucket}/race.jsonl") == 1
        assert sum("exists already" in text for text in told) == 2
        assert keys(s3_server, s3_bucket) == ["race.jsonl"]
        assert {row["id"] for row in read(s3_server, s3_bucket, "race.jsonl")} == set(sandbox.shop.ids())
        s3_server.client().delete_object(Bucket=s3_bucket, Key="race.jsonl")


@pytest.mark.airflow(since="3.0")
def test_exports_at_once_that_replace_leave_the_whole_object_of_one(
    sandbox: Sandbox, s3_server: S3Server, s3_bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(s3_target, "_PART_SIZE", 5 * 1024 * 1024)
    # Each of its own tickets, so that a mixture would show; each in three parts.
    middle = max(sandbox.shop.ids())
    sandbox.add_tickets(6, subject="x" * 2_000_000)
    ids = sandbox.shop.ids()

    def attempt(since_id: int) -> int:
        result = export({}, s3_bucket=s3_bucket, s3_key="race.jsonl", since_id=since_id, replace=True)
        return int(result["tickets"])

    for _ in range(RACES):
        with ThreadPoolExecutor(3) as pool:
            assert list(pool.map(attempt, [0, middle, middle + 1])) == [606, 6, 5]
        rows = read(s3_server, s3_bucket, "race.jsonl")
        assert sorted(row["id"] for row in rows) in [ids, ids[-6:], ids[-5:]]
        assert keys(s3_server, s3_bucket) == ["race.jsonl"]
