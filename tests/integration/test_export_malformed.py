"""Shops with tickets that can't be read, and shops that answer once with an empty list."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from airflow_provider_lightspeed._airflow import AirflowSkipException
from airflow_provider_lightspeed.api.errors import (
    LightspeedIncompleteListError,
    LightspeedMalformedResponseError,
)
from airflow_provider_lightspeed.exceptions import LightspeedStorageError, LightspeedTaskFailed
from airflow_provider_lightspeed.s3.staging import Staging
from airflow_provider_lightspeed.sandbox import NO_LIMITS, Sandbox, ShopConfig
from airflow_provider_lightspeed.transfers import export as export_module
from demo.s3_server import S3Server
from tests.integration.exporting import Instance, export, keys, new_task, read
from tests.integration.gateways import proxy

pytestmark = pytest.mark.usefixtures("aws")

BAD = {2600: "surrogate", 2700: "bytes", 2800: "no-date", 2900: "zero-date"}
TARGET = {"s3_key": "a/b/t.jsonl.gz"}


@pytest.fixture
def shop(monkeypatch: pytest.MonkeyPatch) -> Iterator[Sandbox]:
    config = ShopConfig(
        tickets=600,
        first_id=2500,
        end=datetime(2026, 6, 1, tzinfo=UTC),
        days=60,
        limits=NO_LIMITS,
        burst_limit=0,
        id_step=1,
        unreadable=BAD,
    )
    with Sandbox(config) as shop:
        assert set(BAD) <= set(shop.shop.ids())
        monkeypatch.setenv("AIRFLOW_CONN_LIGHTSPEED_DEFAULT", shop.airflow_connection())
        yield shop


def rejected(server: S3Server, bucket: str) -> dict[int, dict[str, Any]]:
    data = server.client().get_object(Bucket=bucket, Key="a/_rejected/b/t.jsonl.gz.jsonl")["Body"].read()
    lines = [json.loads(line) for line in data.splitlines()]
    assert len({line["id"] for line in lines}) == len(lines)
    return {line["id"]: line for line in lines}


def test_they_fail_the_export_unless_asked_for(shop: Sandbox, s3_server: S3Server, s3_bucket: str) -> None:
    with pytest.raises(LightspeedMalformedResponseError, match=r"ticket 2[6789]00"):
        export(new_task(), s3_bucket=s3_bucket, **TARGET)
    assert "a/b/t.jsonl.gz" not in keys(s3_server, s3_bucket)
    with pytest.raises(LightspeedTaskFailed, match="on_malformed must be one of fail, quarantine"):
        export(new_task(), s3_bucket=s3_bucket, **TARGET, on_malformed="skip")


@pytest.mark.parametrize("killed", [False, True])
def test_they_are_written_aside_and_counted(
    shop: Sandbox,
    s3_server: S3Server,
    s3_bucket: str,
    monkeypatch: pytest.MonkeyPatch,
    killed: bool,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(export_module, "_CALLS_AT_RISK", 1)
    context = new_task()
    arguments: dict[str, Any] = {"s3_bucket": s3_bucket, **TARGET, "on_malformed": "quarantine"}
    if killed:
        calls = iter((False, True))

        def break_at_the_second(*_: Any) -> None:
            if next(calls):
                raise OSError("no memory left on this worker")

        with monkeypatch.context() as patch:
            patch.setattr(export_module.Export, "_report", break_at_the_second)
            with pytest.raises(OSError, match="worker"):
                export(context, **arguments)
    result = export(context, **arguments)
    assert (result["tickets"], result["rejected"]) == (596, 4)
    assert {row["id"] for row in read(s3_server, s3_bucket, "a/b/t.jsonl.gz")} == set(shop.shop.ids()) - set(
        BAD
    )
    lines = rejected(s3_server, s3_bucket)
    assert lines.keys() == BAD.keys()
    assert b"caf\xe9" in base64.b64decode(lines[2700]["raw_base64"])
    assert "createdAt" in lines[2800]["reason"]
    assert keys(s3_server, s3_bucket) == ["a/_rejected/b/t.jsonl.gz.jsonl", "a/b/t.jsonl.gz"]
    head = s3_server.client().head_object(Bucket=s3_bucket, Key="a/b/t.jsonl.gz")
    assert head["Metadata"]["rejected"] == "4"
    assert "Wrote 4 malformed tickets to s3://" in caplog.text
    # The names of bucket and parts are hexadecimal.
    assert not re.search(r"(?<![0-9a-f-])caf", caplog.text)


@pytest.mark.parametrize("on_malformed", ["quarantine", "fail"])
@pytest.mark.parametrize("killed", [False, True])
def test_their_bytes_go_when_a_run_without_them_replaces_the_object(
    shop: Sandbox,
    s3_server: S3Server,
    s3_bucket: str,
    monkeypatch: pytest.MonkeyPatch,
    on_malformed: str,
    killed: bool,
) -> None:
    arguments: dict[str, Any] = {"s3_bucket": s3_bucket, **TARGET, "replace": True}
    export(new_task(), **arguments, on_malformed="quarantine")
    for key in ("a/_rejected/b/t.jsonl.gz.jsonl.other", "a/_rejected/b/other.jsonl"):
        s3_server.client().put_object(Bucket=s3_bucket, Key=key, Body=b"of another export")
    for ticket_id in BAD:
        shop.delete_ticket(ticket_id)
    arguments["on_malformed"] = on_malformed
    # Nothing replaces the object here, so what belongs to it stays.
    with pytest.raises(AirflowSkipException):
        export(new_task(), **arguments, skip_if_empty=True, since_id=10**9)
    assert len(rejected(s3_server, s3_bucket)) == 4
    context = {**new_task(), "ti": Instance("another run")}
    if killed:

        def kill(_: Staging) -> None:
            raise OSError("no memory left on this worker")

        with monkeypatch.context() as patch:
            patch.setattr(Staging, "remove_rejected", kill)
            with pytest.raises(OSError, match="worker"):
                export(context, **arguments)
        shop.reset_calls()
    assert export(context, **arguments)["tickets"] == 596
    assert not (killed and shop.calls)
    assert keys(s3_server, s3_bucket) == [
        "a/_rejected/b/other.jsonl",
        "a/_rejected/b/t.jsonl.gz.jsonl.other",
        "a/b/t.jsonl.gz",
    ]


def test_a_list_of_malformed_tickets_is_not_empty(shop: Sandbox, s3_server: S3Server, s3_bucket: str) -> None:
    options: dict[str, Any] = {"skip_if_empty": True, "replace": True, "on_malformed": "quarantine", **TARGET}
    assert export(new_task(), s3_bucket=s3_bucket, **options)["tickets"] == 600 - len(BAD)
    shop.configure(unreadable=dict.fromkeys(shop.shop.ids(), "no-date"))
    result = export({"ti": Instance("another run")}, s3_bucket=s3_bucket, **options)
    assert (result["tickets"], result["rejected"]) == (0, 600)
    assert read(s3_server, s3_bucket, TARGET["s3_key"]) == []
    assert len(rejected(s3_server, s3_bucket)) == 600


def test_rejected_tickets_that_are_not_written_publish_nothing(
    shop: Sandbox, s3_server: S3Server, s3_bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def sign_in(method: str, path: str, _: Any) -> Any:
        return (200, b"<html>Please sign in</html>") if method == "PUT" and "_rejected" in path else None

    connection = json.loads(s3_server.airflow_connection())
    with proxy(s3_server.endpoint, sign_in) as address:
        connection["extra"]["endpoint_url"] = address
        monkeypatch.setenv("AIRFLOW_CONN_AWS_DEFAULT", json.dumps(connection))
        with pytest.raises(LightspeedStorageError, match="no response of S3"):
            export(new_task(), s3_bucket=s3_bucket, on_malformed="quarantine", **TARGET)
    assert TARGET["s3_key"] not in keys(s3_server, s3_bucket)


def test_where_fields_are_to_stay_in_the_shop_so_do_the_bytes(
    shop: Sandbox, s3_server: S3Server, s3_bucket: str
) -> None:
    arguments: dict[str, Any] = {**TARGET, "on_malformed": "quarantine", "replace": True}
    export({}, s3_bucket=s3_bucket, **arguments)
    known = {base64.b64decode(line["raw_base64"]) for line in rejected(s3_server, s3_bucket).values()}
    guesses = {hashlib.sha256(raw).hexdigest()[:16] for raw in known} | {
        hashlib.blake2b(raw, digest_size=8).hexdigest() for raw in known
    }
    export({}, s3_bucket=s3_bucket, **arguments, exclude_fields=["subject"])
    for line in rejected(s3_server, s3_bucket).values():
        assert line.keys() == {"id", "reason", "row"}
        assert line["row"] not in guesses


@pytest.mark.parametrize("empty_for", [1, 100])
def test_one_empty_answer_replaces_nothing(
    sandbox: Sandbox, s3_server: S3Server, s3_bucket: str, monkeypatch: pytest.MonkeyPatch, empty_for: int
) -> None:
    target = {"s3_bucket": s3_bucket, "s3_key": "a/t.jsonl"}
    export({}, **target)
    lists = 0

    def fail_over(_method: str, path: str, _: Any) -> tuple[int, bytes] | None:
        nonlocal lists
        if "/tickets.json" not in path:
            return None
        lists += 1
        return (200, b'{"tickets":[]}') if lists <= empty_for else None

    connection = json.loads(sandbox.airflow_connection())
    with proxy(sandbox.url, fail_over) as address:
        monkeypatch.setenv("AIRFLOW_CONN_LIGHTSPEED_DEFAULT", json.dumps({**connection, "host": address}))
        if empty_for == 1:
            try:
                result = export(new_task(), **target, replace=True)
            except LightspeedIncompleteListError:
                result = {"tickets": 600}
            assert result["tickets"] == 600 == len(read(s3_server, s3_bucket, "a/t.jsonl"))
        else:
            # The shop counts 600, and that is the whole of it.
            with pytest.raises(LightspeedIncompleteListError, match="600 expected"):
                export(new_task(), **target, replace=True)
            assert len(read(s3_server, s3_bucket, "a/t.jsonl")) == 600
            # Of a part of it, two empty responses are believed.
            lists = 0
            assert export(new_task(), **target, replace=True, since_id=1)["tickets"] == 0
            assert lists >= 2
            assert read(s3_server, s3_bucket, "a/t.jsonl") == []
