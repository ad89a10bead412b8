"""Exports while S3 is killed, refuses, loses its bucket or an answer."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from airflow.providers.amazon.aws.hooks.s3 import S3Hook
from botocore.exceptions import EndpointConnectionError, ReadTimeoutError

from airflow_provider_lightspeed.api.errors import LightspeedServerError
from airflow_provider_lightspeed.exceptions import LightspeedStorageError, LightspeedTaskFailed
from airflow_provider_lightspeed.s3 import target as s3_target
from airflow_provider_lightspeed.s3.staging import Staging
from airflow_provider_lightspeed.sandbox import Sandbox
from airflow_provider_lightspeed.transfers import export as export_module
from demo.s3_server import S3Server
from tests.integration.exporting import export, keys, new_task, read

TARGET = {"s3_bucket": "exports", "s3_key": "a/t.jsonl"}


@dataclass
class Watched:
    """An S3 client that has something done before or after certain calls."""

    inner: Any
    before: Callable[[str, dict[str, Any]], None] = lambda _name, _arguments: None
    after: Callable[[str, dict[str, Any]], None] = lambda _name, _arguments: None

    def __getattr__(self, name: str) -> Any:
        value = getattr(self.inner, name)
        if not callable(value) or name == "exceptions":
            return value

        def watched(**arguments: Any) -> Any:
            self.before(name, arguments)
            answer = value(**arguments)
            self.after(name, arguments)
            return answer

        return watched if not name.startswith("get_paginator") else value


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """One that may be killed."""
    with S3Server(tmp_path_factory.mktemp("frail")) as server:
        server.wait_until_ready()
        yield server


@pytest.fixture(autouse=True)
def bucket(server: S3Server, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A new bucket, and more than a part's worth of tickets on three pages."""
    monkeypatch.setenv("AIRFLOW_CONN_AWS_DEFAULT", server.airflow_connection())
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "2")  # boto's patience, which is not what is tested
    monkeypatch.setattr(export_module, "_CALLS_AT_RISK", 1)
    monkeypatch.setattr(s3_target, "_PART_SIZE", 5 * 1024 * 1024)
    server.client().create_bucket(Bucket="exports")
    sandbox.add_tickets(6, subject="x" * 2_000_000)
    yield
    empty(server)


def empty(server: S3Server) -> None:
    client = server.client()
    for item in client.list_objects_v2(Bucket="exports").get("Contents", []):
        client.delete_object(Bucket="exports", Key=item["Key"])
    client.delete_bucket(Bucket="exports")


def watch(monkeypatch: pytest.MonkeyPatch, **what: Callable[[str, dict[str, Any]], None]) -> None:
    connect = S3Hook.get_conn
    monkeypatch.setattr(S3Hook, "get_conn", lambda hook: Watched(connect(hook), **what))


def at(call: str, number: int, action: Callable[[], None]) -> Callable[[str, dict[str, Any]], None]:
    """Act at the n-th call with this name."""
    count = 0

    def act(name: str, _: dict[str, Any]) -> None:
        nonlocal count
        count += name == call
        if name == call and count == number:
            action()

    return act


def assert_goes_on(server: S3Server, sandbox: Sandbox, task: Any) -> None:
    """Run the next try: it makes few calls, and ends right with nothing left behind."""
    sandbox.reset_calls()
    result = export(task, **TARGET)
    assert sandbox.count_calls() <= 3
    assert_right(server, sandbox, result)


def assert_right(server: S3Server, sandbox: Sandbox, result: dict[str, Any]) -> None:
    rows = read(server, "exports", "a/t.jsonl")
    assert {row["id"]: row for row in rows} == sandbox.shop.tickets()
    assert len(rows) == result["tickets"] == 606
    assert keys(server, "exports") == ["a/t.jsonl"]


@pytest.mark.parametrize(
    ("call", "number"), [("upload_part", 2), ("complete_multipart_upload", 2), ("put_object", 4)]
)
def test_the_server_is_killed(
    server: S3Server, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, call: str, number: int
) -> None:
    task = new_task()
    with monkeypatch.context() as patch:
        watch(patch, before=at(call, number, server.kill))
        claim = (
            "Whether the object is there is unknown .*; the next try checks this first"
            if call == "complete_multipart_upload"
            else r"No part of them is visible there; progress is kept \(\d+ tickets\)"
        )
        with pytest.raises(
            LightspeedStorageError, match=rf"S3 failed .*s3://exports/a/t.jsonl: .*{claim}"
        ) as raised:
            export(task, **TARGET)
        # One traceback: boto's would repeat the message.
        assert raised.value.__suppress_context__
        assert raised.value.__cause__ is None
    server.start()
    server.wait_until_ready()
    assert not [key for key in all_keys(server) if not key.startswith("a/_staging/")]
    assert_goes_on(server, sandbox, task)


def all_keys(server: S3Server) -> list[str]:
    return [item["Key"] for item in server.client().list_objects_v2(Bucket="exports").get("Contents", [])]


def test_the_server_is_killed_as_it_has_published(
    server: S3Server, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = new_task()
    with monkeypatch.context() as patch:
        watch(patch, after=at("complete_multipart_upload", 1, server.kill))
        with pytest.raises(
            LightspeedStorageError,
            match=r"failed to remove staged parts.* is complete; the next try fetches nothing",
        ):
            export(task, **TARGET)
    server.start()
    server.wait_until_ready()
    sandbox.reset_calls()
    assert_right(server, sandbox, export(task, **TARGET))
    assert not sandbox.calls


def test_the_server_is_down_from_the_start(server: S3Server, sandbox: Sandbox) -> None:
    server.kill()
    try:
        with pytest.raises(
            LightspeedStorageError,
            match=r"S3 failed to write s3://exports/a/t.jsonl: .* No ticket was fetched",
        ):
            export(new_task(), **TARGET)
    finally:
        server.start()
        server.wait_until_ready()
    assert not sandbox.calls


def test_the_secret_is_changed_on_the_way(
    server: S3Server, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = server.secret_key

    def change(to: str) -> None:
        server.kill()
        server.secret_key = to
        server.start()
        server.wait_until_ready()

    task = new_task()
    with monkeypatch.context() as patch:
        watch(patch, before=at("put_object", 4, lambda: change("another-secret")))
        with pytest.raises(LightspeedStorageError, match="SignatureDoesNotMatch") as caught:
            export(task, **TARGET)
    assert secret not in str(caught.value)
    sandbox.reset_calls()
    with pytest.raises(LightspeedTaskFailed, match=r"S3 refuses .* No ticket was fetched"):
        export(task, **TARGET)
    assert not sandbox.calls
    change(secret)
    assert_goes_on(server, sandbox, task)


def test_who_may_only_read_is_told_so_before_the_first_call(
    server: S3Server, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader = {**json.loads(server.airflow_connection()), "login": server.reader_access_key}
    monkeypatch.setenv("AIRFLOW_CONN_AWS_DEFAULT", json.dumps(reader))
    with pytest.raises(LightspeedTaskFailed, match=r"S3 refuses .*AccessDenied.* rights"):
        export(new_task(), **TARGET)
    assert not sandbox.calls
    assert not keys(server, "exports")


@pytest.mark.parametrize(("call", "number"), [("put_object", 4), ("upload_part", 2)])
def test_the_bucket_vanishes(
    server: S3Server, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, call: str, number: int
) -> None:
    task = new_task()
    with monkeypatch.context() as patch:
        watch(patch, before=at(call, number, lambda: empty(server)))
        with pytest.raises(LightspeedStorageError, match="exports"):
            export(task, **TARGET)
    sandbox.reset_calls()
    with pytest.raises(
        LightspeedTaskFailed,
        match=r"S3 refuses to write s3://exports/.* there is no such bucket: create it, or correct the name. No ticket was fetched",
    ):
        export(task, **TARGET)
    assert not sandbox.calls
    server.client().create_bucket(Bucket="exports")
    assert_right(server, sandbox, export(task, **TARGET))


@pytest.mark.parametrize("call", ["put_object", "complete_multipart_upload"])
@pytest.mark.parametrize("replace", [True, False])
def test_the_answer_to_the_last_write_is_lost_and_boto_sends_it_again(
    server: S3Server, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, call: str, replace: bool
) -> None:
    if call == "put_object":
        monkeypatch.setattr(s3_target, "_PART_SIZE", 50 * 1024 * 1024)

    def send_first(name: str, arguments: dict[str, Any]) -> None:
        if name == call and arguments["Key"] == TARGET["s3_key"]:
            getattr(server.client(), name)(**arguments)

    watch(monkeypatch, before=send_first)
    assert_right(server, sandbox, export(new_task(), **TARGET, replace=replace))


@pytest.mark.parametrize("call", ["put_object", "complete_multipart_upload"])
def test_the_last_write_is_done_and_its_answer_never_comes(
    server: S3Server, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    if call == "put_object":
        monkeypatch.setattr(s3_target, "_PART_SIZE", 50 * 1024 * 1024)

    def lose(name: str, arguments: dict[str, Any]) -> None:
        if name == call and arguments["Key"] == TARGET["s3_key"]:
            raise ReadTimeoutError(endpoint_url=server.endpoint)

    watch(monkeypatch, after=lose)
    assert_right(server, sandbox, export(new_task(), **TARGET))


def test_an_error_while_cleaning_up_does_not_replace_the_first_one(
    server: S3Server, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: export_module.Export) -> int:
        raise LightspeedServerError(status=500, message="no", method="GET", path="tickets.json")

    def fail_too(_: Staging) -> None:
        raise EndpointConnectionError(endpoint_url=server.endpoint)

    monkeypatch.setattr(export_module.Export, "run", fail)
    monkeypatch.setattr(Staging, "remove", fail_too)
    with pytest.raises(LightspeedServerError):
        export({}, **TARGET)
