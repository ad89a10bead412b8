"""Exports that stop half-way, and those that go on."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from itertools import count
from typing import Any

import pytest

from airflow_provider_lightspeed._airflow import AirflowSkipException, TaskDeferred
from airflow_provider_lightspeed.cancellation import Cancelled, CancelToken
from airflow_provider_lightspeed.exceptions import LightspeedStagingLostError
from airflow_provider_lightspeed.s3 import target as s3_target
from airflow_provider_lightspeed.s3.staging import Staging
from airflow_provider_lightspeed.sandbox import NO_LIMITS, Sandbox, ShopConfig
from airflow_provider_lightspeed.transfers import export as export_module
from airflow_provider_lightspeed.transfers.progress import RESTART_MARGIN
from airflow_provider_lightspeed.transfers.tickets_to_s3 import LightspeedTicketsToS3Operator
from demo.s3_server import S3Server
from tests.integration.bulk_runs import DEFERRED
from tests.integration.exporting import Instance, export, keys, new_task, read

pytestmark = pytest.mark.usefixtures("aws")


def fail_at(page: int) -> Callable[..., None]:
    """Return a method that breaks at its n-th call."""
    calls = count(1)

    def method(*_: Any) -> None:
        if next(calls) == page:
            raise OSError("no memory left on this worker")

    return method


def _connect(monkeypatch: pytest.MonkeyPatch, shop: Sandbox) -> None:
    """Name a shop in Airflow, whose quota is not waited for."""
    connection = json.loads(shop.airflow_connection())
    connection["extra"] = {"max_wait": 0.1, "calls_per_second": 0}
    monkeypatch.setenv("AIRFLOW_CONN_LIGHTSPEED_DEFAULT", json.dumps(connection))


@pytest.mark.parametrize("key", ["a/tickets.jsonl.gz", "a/tickets.parquet"])
@pytest.mark.parametrize("order", ["newest", "oldest"])
def test_a_retry_goes_on(
    sandbox: Sandbox,
    s3_server: S3Server,
    s3_bucket: str,
    monkeypatch: pytest.MonkeyPatch,
    key: str,
    order: str,
) -> None:
    monkeypatch.setattr(export_module, "_CALLS_AT_RISK", 3)
    config = ShopConfig(
        tickets=4000,
        end=datetime(2026, 6, 1, tzinfo=UTC),
        days=60,
        limits=NO_LIMITS,
        burst_limit=0,
        order=order,
    )
    with Sandbox(config) as shop:
        monkeypatch.setenv("AIRFLOW_CONN_LIGHTSPEED_DEFAULT", shop.airflow_connection())
        context = new_task()
        target = {"s3_bucket": s3_bucket, "s3_key": key}
        undisturbed = export({}, **target, replace=True)["calls"]
        s3_server.client().delete_object(Bucket=s3_bucket, Key=key)
        shop.reset_calls()
        with monkeypatch.context() as patch:
            patch.setattr(export_module.Export, "_report", fail_at(9))
            with pytest.raises(OSError, match="worker"):
                export(context, **target)
        staged = keys(s3_server, s3_bucket)
        assert all(name.startswith("a/_staging/") for name in staged)
        assert len(staged) > 1
        with_errors = len(shop.calls)
        result = export(context, **target)
        assert len(shop.calls) - with_errors <= undisturbed - 9 + 6
        assert result["calls"] >= undisturbed - 1  # the count for the estimate
        assert {row["id"] for row in read(s3_server, s3_bucket, key)} == set(shop.shop.ids())
        assert result["tickets"] == 4000 == len(read(s3_server, s3_bucket, key))
        assert keys(s3_server, s3_bucket) == [key]
        assert not context["task_state_store"]


@pytest.mark.parametrize("order", ["unordered", pytest.param("last_change", marks=pytest.mark.in_all)])
def test_a_retry_goes_on_with_the_survey_of_a_list_in_no_order(
    s3_server: S3Server, s3_bucket: str, monkeypatch: pytest.MonkeyPatch, order: str
) -> None:
    config = ShopConfig(
        tickets=12_000,
        end=datetime(2026, 6, 1, tzinfo=UTC),
        days=60,
        limits=NO_LIMITS,
        burst_limit=0,
        order=order,
    )
    with Sandbox(config) as shop:
        connection = json.loads(shop.airflow_connection())
        connection["extra"] = {"allow_http": True, "calls_per_second": 0}
        monkeypatch.setenv("AIRFLOW_CONN_LIGHTSPEED_DEFAULT", json.dumps(connection))
        context = new_task()
        target = {"s3_bucket": s3_bucket, "s3_key": "t.jsonl.gz"}
        undisturbed = export({}, **target)["calls"]
        s3_server.client().delete_object(Bucket=s3_bucket, Key="t.jsonl.gz")
        shop.reset_calls()
        with monkeypatch.context() as patch:
            patch.setattr(export_module.Export, "_report", fail_at(9))
            with pytest.raises(OSError, match="worker"):
                export(context, **target)
        assert len(shop.calls) >= 40, "the survey was under way"
        assert export(context, **target)["tickets"] == 12_000
        assert len(shop.calls) <= undisturbed + 40
        assert {row["id"] for row in read(s3_server, s3_bucket, "t.jsonl.gz")} == set(shop.shop.ids())
        assert keys(s3_server, s3_bucket) == ["t.jsonl.gz"]


def test_a_try_that_cannot_be_interrupted_waits_for_the_quota(
    s3_server: S3Server, s3_bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export_module.Export, "can_resume", False)
    config = ShopConfig(
        tickets=3_000, limits=(10, 10**6, 10**6), window_seconds=(6.0, 3_600.0, 86_400.0), burst_limit=0
    )
    with Sandbox(config) as shop:
        connection = json.loads(shop.airflow_connection())
        connection["extra"] = {"allow_http": True, "max_wait": 0, "calls_per_second": 0}
        monkeypatch.setenv("AIRFLOW_CONN_LIGHTSPEED_DEFAULT", json.dumps(connection))
        result = export(new_task(), s3_bucket=s3_bucket, s3_key="t.jsonl.gz", deferrable=True)
        assert result["tickets"] == 3_000
        assert {call.status for call in shop.calls} == {200}


def test_an_object_published_by_a_try_that_was_killed_is_recognised(
    sandbox: Sandbox, s3_server: S3Server, s3_bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export_module, "_CALLS_AT_RISK", 1)
    context = new_task()
    target = {"s3_bucket": s3_bucket, "s3_key": "t.jsonl.gz"}

    class Killed(BaseException):
        pass

    publish = s3_target.ExportTarget.publish

    def publish_and_die(*args: Any, **kwargs: Any) -> int:
        publish(*args, **kwargs)
        raise Killed

    monkeypatch.setattr(s3_target.ExportTarget, "publish", publish_and_die)
    with pytest.raises(Killed):
        export(context, **target)
    monkeypatch.setattr(s3_target.ExportTarget, "publish", publish)
    sandbox.reset_calls()
    result = export(context, **target)
    assert result["tickets"] == 600
    assert not sandbox.calls
    assert keys(s3_server, s3_bucket) == ["t.jsonl.gz"]
    context["ti"].max_tries += 1
    with pytest.raises(Exception, match="exists already"):  # cleared: it starts afresh
        export(context, **target)


def test_a_task_that_is_asked_to_end_stops_at_the_next_call_and_is_resumed(
    sandbox: Sandbox, s3_server: S3Server, s3_bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    context, target = new_task(), {"s3_bucket": s3_bucket, "s3_key": "t.jsonl.gz"}
    operator = LightspeedTicketsToS3Operator(task_id="export", **target)
    calls_then = []

    def kill(*_: Any) -> None:
        operator.on_kill()
        calls_then.append(len(sandbox.calls))

    with monkeypatch.context() as patch:
        patch.setattr(export_module.Export, "_report", kill)
        with pytest.raises(Cancelled):
            operator.execute(context)
    assert calls_then == [len(sandbox.calls)]
    assert context["task_state_store"]["lightspeed_checkpoint"]["tickets"] == 250
    assert export(context, **target)["tickets"] == 600
    assert keys(s3_server, s3_bucket) == ["t.jsonl.gz"]


def killed_half_way(monkeypatch: pytest.MonkeyPatch, context: Any, **target: Any) -> None:
    """Run a try that saves after each call, and breaks at its second page."""
    monkeypatch.setattr(export_module, "_CALLS_AT_RISK", 1)
    with monkeypatch.context() as patch:
        patch.setattr(export_module.Export, "_report", fail_at(2))
        with pytest.raises(OSError, match="worker"):
            export(context, **target)


def test_what_was_staged_is_gone(
    sandbox: Sandbox,
    s3_server: S3Server,
    s3_bucket: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    context, target = new_task(), {"s3_bucket": s3_bucket, "s3_key": "t.jsonl.gz"}
    killed_half_way(monkeypatch, context, **target)
    staged = keys(s3_server, s3_bucket)
    assert staged
    for name in staged:
        s3_server.client().delete_object(Bucket=s3_bucket, Key=name)
    sandbox.reset_calls()
    assert export(context, **target)["tickets"] == 600 == len(read(s3_server, s3_bucket, "t.jsonl.gz"))
    assert keys(s3_server, s3_bucket) == ["t.jsonl.gz"]
    pages = [call for call in sandbox.calls if call.path.endswith("/tickets.json")]
    assert len(pages) == 5  # three pages, the first one again, and what is older than the last ticket


def test_what_was_exported_of_one_shop_is_nothing_to_another(
    s3_server: S3Server, s3_bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All shops of a cluster have one address. A connection may have led to the wrong one."""
    first = ShopConfig(tickets=600, limits=NO_LIMITS, burst_limit=0)
    second = ShopConfig(key="other" * 6, tickets=600, first_id=9000, limits=NO_LIMITS, burst_limit=0)
    context, target = new_task(), {"s3_bucket": s3_bucket, "s3_key": "t.jsonl"}
    with Sandbox(first, second) as sandbox:
        monkeypatch.setenv("AIRFLOW_CONN_LIGHTSPEED_DEFAULT", sandbox.airflow_connection())
        killed_half_way(monkeypatch, context, **target)
        monkeypatch.setenv("AIRFLOW_CONN_LIGHTSPEED_DEFAULT", sandbox.airflow_connection(sandbox.backends[1]))
        assert export(context, **target)["tickets"] == 600
        rows = read(s3_server, s3_bucket, "t.jsonl")
        assert [row["id"] for row in rows] == sandbox.backends[1].shop.ids()[::-1]
        assert keys(s3_server, s3_bucket) == ["t.jsonl"]


def test_what_is_staged_goes_while_it_runs(
    sandbox: Sandbox, s3_server: S3Server, s3_bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export_module, "_CALLS_AT_RISK", 1)
    context, target = new_task(), {"s3_bucket": s3_bucket, "s3_key": "t.jsonl.gz"}
    with monkeypatch.context() as patch:
        read_piece = Staging.read

        def read_nothing(staging: Staging, names: list[str]) -> Iterator[bytes]:
            staging.remove()
            return read_piece(staging, names)

        patch.setattr(Staging, "read", read_nothing)
        with pytest.raises(LightspeedStagingLostError, match="the next try starts over"):
            export(context, **target)
    assert not keys(s3_server, s3_bucket)
    assert export(context, **target)["tickets"] == 600 == len(read(s3_server, s3_bucket, "t.jsonl.gz"))


@pytest.mark.parametrize("then", ["retried", "cleared", "changed"])
def test_an_upload_that_a_killed_try_left_open_is_aborted_by_the_next(
    sandbox: Sandbox, s3_server: S3Server, s3_bucket: str, monkeypatch: pytest.MonkeyPatch, then: str
) -> None:
    class Killed(BaseException):
        pass

    def send_and_die(upload: s3_target._Upload, data: bytearray) -> None:
        send(upload, data)
        if upload._where["Key"] == "t.jsonl":
            raise Killed

    send = s3_target._Upload.send

    monkeypatch.setattr(s3_target, "_PART_SIZE", 1000)
    context, client = new_task(), s3_server.client()
    target: dict[str, Any] = {"s3_bucket": s3_bucket, "s3_key": "t.jsonl"}
    foreign = client.create_multipart_upload(Bucket=s3_bucket, Key="t.jsonl")
    with monkeypatch.context() as patch:
        patch.setattr(s3_target._Upload, "send", send_and_die)
        patch.setattr(s3_target._Upload, "abort", lambda _: None)
        with pytest.raises(Killed):
            export(context, **target)
    uploads = client.list_multipart_uploads(Bucket=s3_bucket, Prefix="t.jsonl")["Uploads"]
    assert len(uploads) == 2
    monkeypatch.setattr(s3_target, "_PART_SIZE", 5 * 1024 * 1024)
    if then == "cleared":
        context["ti"] = Instance(max_tries=9)
    if then == "changed":
        target["exclude_fields"] = ["memo"]
    assert export(context, **target)["tickets"] == 600
    uploads = client.list_multipart_uploads(Bucket=s3_bucket, Prefix="t.jsonl")["Uploads"]
    assert [upload["UploadId"] for upload in uploads] == [foreign["UploadId"]]
    for upload in client.list_multipart_uploads(Bucket=s3_bucket)["Uploads"]:
        client.abort_multipart_upload(Bucket=s3_bucket, Key=upload["Key"], UploadId=upload["UploadId"])


def test_a_failed_task_that_is_cleared_starts_over(
    sandbox: Sandbox, s3_server: S3Server, s3_bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export_module, "_CALLS_AT_RISK", 1)
    context, target = new_task(), {"s3_bucket": s3_bucket, "s3_key": "a/t.jsonl"}
    killed_half_way(monkeypatch, context, **target)
    assert any("/_staging/" in key for key in keys(s3_server, s3_bucket))
    for ticket_id in sandbox.shop.ids():
        sandbox.update_ticket(ticket_id, subject="anonymised")
    context["ti"] = Instance(max_tries=9)
    export(context, **target)
    assert {row["subject"] for row in read(s3_server, s3_bucket, "a/t.jsonl")} == {"anonymised"}
    assert keys(s3_server, s3_bucket) == ["a/t.jsonl"]
    assert not context["task_state_store"]


def test_a_killed_try_on_an_airflow_without_a_store_is_recognised_too(
    sandbox: Sandbox, s3_server: S3Server, s3_bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    context, target = {"ti": Instance()}, {"s3_bucket": s3_bucket, "s3_key": "t.jsonl.gz"}
    with monkeypatch.context() as patch:
        patch.setattr(Staging, "remove", fail_at(1))
        with pytest.raises(OSError, match="worker"):
            export(context, **target)
    sandbox.reset_calls()
    assert export(context, **target)["tickets"] == 600
    assert not sandbox.calls
    assert keys(s3_server, s3_bucket) == ["t.jsonl.gz"]


def test_only_what_earlier_tries_of_the_same_task_instance_left_is_removed(
    sandbox: Sandbox, s3_server: S3Server, s3_bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On an Airflow without a store, where the next try starts over."""
    target = {"s3_bucket": s3_bucket, "s3_key": "a/b/t.jsonl.gz"}
    first, second = {"ti": Instance()}, {"ti": Instance(run_id="another")}
    monkeypatch.setattr(Staging, "remove", lambda _: None)  # killed before it could
    for context in (first, second):
        killed_half_way(monkeypatch, context, **target)
    left = keys(s3_server, s3_bucket)
    assert all(key.startswith("a/_staging/b/t.jsonl.gz/") for key in left)
    owners = {key.split("/")[4] for key in left}
    assert len(owners) == 2
    monkeypatch.undo()
    monkeypatch.setenv("AIRFLOW_CONN_LIGHTSPEED_DEFAULT", sandbox.airflow_connection())
    monkeypatch.setenv("AIRFLOW_CONN_AWS_DEFAULT", s3_server.airflow_connection())
    export(first, **target)
    still_left = keys(s3_server, s3_bucket)
    assert {key.split("/")[4] for key in still_left if "_staging" in key} < owners
    assert len(still_left) == len(left) // 2 + 1


def run_over_deferrals(operator: LightspeedTicketsToS3Operator) -> tuple[dict[str, Any], int]:
    """Do what Airflow does with a task that defers; return its result and how often it did."""
    context: Any = {"ti": Instance()}
    try:
        return operator.execute(context), 0
    except TaskDeferred as first:
        deferred = first
    for deferrals in range(1, 12):
        time.sleep(max(0.0, (deferred.trigger.moment - datetime.now(UTC)).total_seconds()))
        try:
            return operator.execute_complete(
                context, None, **json.loads(json.dumps(deferred.kwargs))
            ), deferrals
        except TaskDeferred as again:
            deferred = again
    raise AssertionError("it defers forever")


def test_a_walk_that_needs_more_calls_than_a_window_has_ends_too(
    s3_server: S3Server, s3_bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lists in no order are first surveyed as a whole, here in more calls than a window has."""
    config = ShopConfig(
        tickets=1500,
        end=datetime(2026, 6, 1, tzinfo=UTC),
        days=60,
        # One call less than the survey takes.
        limits=(7, *NO_LIMITS[1:]),
        window_seconds=(6.0, 3600.0, 86400.0),
        burst_limit=0,
        order="unordered",
    )
    with Sandbox(config) as shop:
        connection = json.loads(shop.airflow_connection())
        connection["extra"] = {"allow_http": True, "max_wait": 0.1, "calls_per_second": 0}
        monkeypatch.setenv("AIRFLOW_CONN_LIGHTSPEED_DEFAULT", json.dumps(connection))
        operator = LightspeedTicketsToS3Operator(
            task_id="export", s3_bucket=s3_bucket, s3_key="t.jsonl.gz", deferrable=True
        )
        run_over_deferrals(operator)
        assert {row["id"] for row in read(s3_server, s3_bucket, "t.jsonl.gz")} == set(shop.shop.ids())
        assert keys(s3_server, s3_bucket) == ["t.jsonl.gz"]
        assert shop.count_calls() < 40


def test_a_task_that_resumes_early_waits_for_the_quota(
    s3_server: S3Server, s3_bucket: str, monkeypatch: pytest.MonkeyPatch, log: Callable[[], str]
) -> None:
    """A task takes some seconds to start, so the trigger fires before the quota is back. Here it starts at once."""
    config = ShopConfig(
        tickets=1500, limits=(4, *NO_LIMITS[1:]), window_seconds=(3600.0, 7200.0, 86400.0), burst_limit=0
    )
    slept: list[tuple[float, int]] = []
    with Sandbox(config) as shop:
        monkeypatch.setattr(
            CancelToken, "sleep", lambda _, seconds: slept.append((seconds, shop.count_calls()))
        )
        _connect(monkeypatch, shop)
        operator = LightspeedTicketsToS3Operator(
            task_id="export", s3_bucket=s3_bucket, s3_key="t.jsonl.gz", deferrable=True
        )
        context: Any = new_task()
        with pytest.raises(TaskDeferred) as first:
            operator.execute(context)
        assert DEFERRED.search(log())
        assert slept == []
        shop.reset()
        with pytest.raises(TaskDeferred):
            operator.execute_complete(context, None, **first.value.kwargs)
        assert slept == [(RESTART_MARGIN.total_seconds(), 0)]
        assert {call.status for call in shop.calls} == {200}


def test_calls_of_a_walk_that_had_to_begin_again_are_told_too(
    s3_server: S3Server, s3_bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = ShopConfig(
        tickets=1500, limits=(4, *NO_LIMITS[1:]), window_seconds=(3.0, 3600.0, 86400.0), burst_limit=0
    )
    monkeypatch.setattr(export_module, "_FEW_CALLS", -1)  # as if it could never be taken up
    with Sandbox(config) as shop:
        _connect(monkeypatch, shop)
        result = export(new_task(), s3_bucket=s3_bucket, s3_key="t.jsonl", deferrable=True)
        assert result["tickets"] == 1500
        assert result["calls"] == shop.count_calls()


def test_a_deferral_whose_arguments_are_lost_resumes_from_the_checkpoint(
    s3_server: S3Server, s3_bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in ``dag.test()`` of Airflow 3.3.2."""
    config = ShopConfig(
        tickets=1500, limits=(4, *NO_LIMITS[1:]), window_seconds=(8.0, 3600.0, 86400.0), burst_limit=0
    )
    with Sandbox(config) as shop:
        _connect(monkeypatch, shop)
        operator = LightspeedTicketsToS3Operator(
            task_id="export", s3_bucket=s3_bucket, s3_key="t.jsonl.gz", deferrable=True
        )
        context: Any = new_task()
        run, deferrals, result = operator.execute, 0, None
        while result is None:
            try:
                result = run(context)
            except TaskDeferred as deferred:
                deferrals += 1
                time.sleep(max(0.0, (deferred.trigger.moment - datetime.now(UTC)).total_seconds()))
                run = operator.execute_complete
        assert deferrals >= 1
        assert result["tickets"] == 1500 == len(read(s3_server, s3_bucket, "t.jsonl.gz"))
        assert shop.count_calls() <= 12


@pytest.mark.parametrize("include_messages", [False, True])
def test_deferral(
    s3_server: S3Server, s3_bucket: str, monkeypatch: pytest.MonkeyPatch, include_messages: bool
) -> None:
    tickets = 60 if include_messages else 9000
    config = ShopConfig(
        tickets=tickets,
        end=datetime(2026, 6, 1, tzinfo=UTC),
        days=60,
        # So few calls in so long a window that a slow machine uses one up too.
        limits=(20 if include_messages else 10, *NO_LIMITS[1:]),
        window_seconds=(4.0, 3600.0, 86400.0),
        burst_limit=0,
        order="newest",
    )
    with Sandbox(config) as shop:
        connection = json.loads(shop.airflow_connection())
        connection["extra"] = {"allow_http": True, "max_wait": 0.1, "calls_per_second": 0}
        monkeypatch.setenv("AIRFLOW_CONN_LIGHTSPEED_DEFAULT", json.dumps(connection))
        operator = LightspeedTicketsToS3Operator(
            task_id="export",
            s3_bucket=s3_bucket,
            s3_key="t.jsonl.gz",
            deferrable=True,
            include_messages=include_messages,
        )
        result, deferrals = run_over_deferrals(operator)
        assert deferrals >= 1
        rows = read(s3_server, s3_bucket, "t.jsonl.gz")
        assert len(rows) == result["tickets"] == tickets
        assert {row["id"] for row in rows} == set(shop.shop.ids())
        if include_messages:
            assert all(isinstance(row["messages"], list) for row in rows)
            assert any(row["messages"] for row in rows)
        assert keys(s3_server, s3_bucket) == ["t.jsonl.gz"]


def test_an_empty_window_can_skip(sandbox: Sandbox, s3_server: S3Server, s3_bucket: str) -> None:
    context = new_task()
    with pytest.raises(AirflowSkipException):
        export(
            context, s3_bucket=s3_bucket, s3_key="t.csv", skip_if_empty=True, since_id=max(sandbox.shop.ids())
        )
    assert keys(s3_server, s3_bucket) == []
    # Airflow looks for the link of each task that has ended, and logs an error where there is none.
    assert context["ti"].pushed == {"s3_object_link": ""}


def test_fields_are_dropped_and_hashed(
    sandbox: Sandbox, s3_server: S3Server, s3_bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW_VAR_LIGHTSPEED_HASH_SECRET", "a-key-of-some-length")
    fields = {"exclude_fields": ["memo"], "hash_fields": ["customer_id"]}
    export({}, s3_bucket=s3_bucket, s3_key="t.parquet", **fields)
    rows = read(s3_server, s3_bucket, "t.parquet")
    assert "memo" not in rows[0]
    assert {len(row["customer_id"]) for row in rows if row["customer_id"]} == {64}
