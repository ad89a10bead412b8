"""Exports that stop half-way, and those that go on."""

from __future__ import annotations

import gzip
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from io import BytesIO
from itertools import count
from typing import Any

import pyarrow.parquet as pq
import pytest
from airflow.providers.common.compat.sdk import AirflowSkipException, TaskDeferred

from airflow_provider_lightspeed.sandbox import NO_LIMITS, Sandbox, ShopConfig
from airflow_provider_lightspeed.transfers import export as export_module
from airflow_provider_lightspeed.transfers import s3_object
from airflow_provider_lightspeed.transfers.tickets_to_s3 import LightspeedTicketsToS3Operator
from demo.s3_server import S3Server

pytestmark = pytest.mark.usefixtures("aws")


class Store(dict[str, Any]):
    """Airflow's task state store."""

    def set(self, key: str, value: Any) -> None:
        self[key] = json.loads(json.dumps(value))

    def delete(self, key: str) -> None:
        self.pop(key, None)


@dataclass
class Instance:
    """As much of a task instance as is looked at."""

    run_id: str = "run"
    dag_id: str = "dag"
    task_id: str = "export"
    map_index: int = -1


def export(context: Any, **arguments: Any) -> dict[str, Any]:
    result: dict[str, Any] = LightspeedTicketsToS3Operator(task_id="export", **arguments).execute(context)
    return result


def keys(server: S3Server, bucket: str) -> list[str]:
    client = server.client()
    assert not client.list_multipart_uploads(Bucket=bucket).get("Uploads")
    return [item["Key"] for item in client.list_objects_v2(Bucket=bucket).get("Contents", [])]


def read(server: S3Server, bucket: str, key: str) -> list[dict[str, Any]]:
    data = server.client().get_object(Bucket=bucket, Key=key)["Body"].read()
    if key.endswith(".parquet"):
        rows: list[dict[str, Any]] = pq.read_table(BytesIO(data)).to_pylist()
        return rows
    return [json.loads(line) for line in gzip.decompress(data).splitlines()]


def fail_at(page: int) -> Callable[..., None]:
    """Return a method that breaks at its n-th call."""
    calls = count(1)

    def method(*_: Any) -> None:
        if next(calls) == page:
            raise OSError("no memory left on this worker")

    return method


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
        context = {"task_state_store": Store(), "ti": Instance()}
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


def test_an_object_published_by_a_try_that_was_killed_is_recognised(
    sandbox: Sandbox, s3_server: S3Server, s3_bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export_module, "_CALLS_AT_RISK", 1)
    context = {"task_state_store": Store(), "ti": Instance()}
    target = {"s3_bucket": s3_bucket, "s3_key": "t.jsonl.gz"}

    class Killed(BaseException):
        pass

    publish = s3_object.S3Object.publish

    def publish_and_die(*args: Any, **kwargs: Any) -> int:
        publish(*args, **kwargs)
        raise Killed

    monkeypatch.setattr(s3_object.S3Object, "publish", publish_and_die)
    with pytest.raises(Killed):
        export(context, **target)
    monkeypatch.setattr(s3_object.S3Object, "publish", publish)
    sandbox.reset_calls()
    result = export(context, **target)
    assert result["tickets"] == 600
    assert not sandbox.calls
    assert keys(s3_server, s3_bucket) == ["t.jsonl.gz"]
    with pytest.raises(Exception, match="exists already"):  # cleared: it starts afresh
        export(context, **target)


def test_leftovers_of_dead_runs_are_removed(sandbox: Sandbox, s3_server: S3Server, s3_bucket: str) -> None:
    client = s3_server.client()
    alive = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    past = (datetime.now(UTC) - timedelta(hours=1)).isoformat()
    for name, lease in (("x-alive", alive), ("x-dead", past)):
        client.put_object(Bucket=s3_bucket, Key=f"_staging/t.jsonl.gz/{name}/lease", Body=lease.encode())
        client.put_object(Bucket=s3_bucket, Key=f"_staging/t.jsonl.gz/{name}/piece", Body=b"x")
    client.put_object(Bucket=s3_bucket, Key="_staging/t.jsonl.gz/x-none/piece", Body=b"x")
    export({}, s3_bucket=s3_bucket, s3_key="t.jsonl.gz")
    left = [f"_staging/t.jsonl.gz/x-alive/{name}" for name in ("lease", "piece")]
    assert keys(s3_server, s3_bucket) == [*left, "t.jsonl.gz"]


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
        context = {"ti": Instance()}
        operator = LightspeedTicketsToS3Operator(
            task_id="export",
            s3_bucket=s3_bucket,
            s3_key="t.jsonl.gz",
            deferrable=True,
            include_messages=include_messages,
        )
        deferrals = 0
        call: Any = lambda: operator.execute(context)  # ruff: ignore[lambda-assignment]
        while True:
            try:
                result = call()
                break
            except TaskDeferred as deferred:
                deferrals += 1
                until = deferred.trigger.moment
                time.sleep(max(0.0, (until - datetime.now(UTC)).total_seconds()))
                kwargs = json.loads(json.dumps(deferred.kwargs))
                call = lambda kwargs=kwargs: operator.go_on(context, None, **kwargs)  # ruff: ignore[lambda-assignment]
        assert deferrals >= 1
        rows = read(s3_server, s3_bucket, "t.jsonl.gz")
        assert len(rows) == result["tickets"] == tickets
        assert {row["id"] for row in rows} == set(shop.shop.ids())
        if include_messages:
            assert all(isinstance(row["messages"], list) for row in rows)
            assert any(row["messages"] for row in rows)
        assert keys(s3_server, s3_bucket) == ["t.jsonl.gz"]


def test_an_empty_window_can_skip(sandbox: Sandbox, s3_server: S3Server, s3_bucket: str) -> None:
    with pytest.raises(AirflowSkipException):
        export({}, s3_bucket=s3_bucket, s3_key="t.csv", skip_if_empty=True, since_id=max(sandbox.shop.ids()))
    assert keys(s3_server, s3_bucket) == []


def test_fields_are_dropped_and_hashed(
    sandbox: Sandbox, s3_server: S3Server, s3_bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW_VAR_LIGHTSPEED_HASH_KEY", "a-key-of-some-length")
    fields = {"exclude_fields": ["memo"], "hash_fields": ["customer_id"]}
    export({}, s3_bucket=s3_bucket, s3_key="t.parquet", **fields)
    rows = read(s3_server, s3_bucket, "t.parquet")
    assert "memo" not in rows[0]
    assert {len(row["customer_id"]) for row in rows if row["customer_id"]} == {64}
