"""Exports to stores that answer oddly: each is complete, or fails with what is wrong, and its next try goes on."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from airflow_provider_lightspeed.exceptions import LightspeedStorageError, LightspeedTaskFailed
from airflow_provider_lightspeed.operators.tickets import UpdateTicketsOperator
from airflow_provider_lightspeed.s3 import target as s3_target
from airflow_provider_lightspeed.sandbox import Sandbox
from airflow_provider_lightspeed.transfers import export as export_module
from demo.s3_server import S3Server
from tests.integration.exporting import export, keys, new_task, read
from tests.integration.gateways import proxy
from tests.integration.test_export_stores import signed_again

KEY = "a/t.jsonl"
HTML = b"<html><body><h1>Sign in to the network</h1></body></html>"
Answer = tuple[int, bytes]


def refusal(status: int, code: str) -> Answer:
    return status, f"<Error><Code>{code}</Code><Message>no</Message></Error>".encode()


def is_part(method: str, path: str) -> bool:
    return method == "PUT" and "partNumber" in path and "_staging" not in path


def is_last(method: str, path: str) -> bool:
    is_complete = method == "POST" and "uploadId" in path and "_staging" not in path
    return is_complete or (method == "PUT" and path.endswith(KEY))


def is_staged(method: str, path: str) -> bool:
    return method == "GET" and "_staging" in path and "list-type" not in path


def passes(*_: Any) -> None:
    """Change nothing."""


@pytest.fixture(autouse=True)
def large(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """More than a part's worth of tickets, staged after each page."""
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "2")  # boto's patience, which is not what is tested
    monkeypatch.setattr(export_module, "_CALLS_AT_RISK", 1)
    sandbox.add_tickets(3, subject="x" * 2_000_000)


Lead = Callable[..., None]


@pytest.fixture
def lead(s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> Lead:
    """Return what leads ``aws_default`` to an address, with other extras."""

    def lead(address: str, **extra: Any) -> None:
        connection = json.loads(s3_server.airflow_connection())
        connection["extra"] = {**connection["extra"], "endpoint_url": address, **extra}
        monkeypatch.setenv("AIRFLOW_CONN_AWS_DEFAULT", json.dumps(connection))

    return lead


def assert_right(
    server: S3Server, bucket: str, sandbox: Sandbox, result: dict[str, Any], key: str = KEY
) -> None:
    rows = read(server, bucket, key)
    assert {row["id"]: row for row in rows} == sandbox.shop.tickets()
    assert len(rows) == result["tickets"] == 603
    assert keys(server, bucket) == [key]


def assert_goes_on(server: S3Server, bucket: str, sandbox: Sandbox, task: Any, calls: int = 3) -> None:
    """Run the next try: it makes few calls, and ends right with nothing left behind."""
    sandbox.reset_calls()
    result = export(task, s3_bucket=bucket, s3_key=KEY)
    assert sandbox.count_calls() <= calls
    assert_right(server, bucket, sandbox, result)


@pytest.mark.parametrize("is_done", [True, False], ids=["done", "not-done"])
@pytest.mark.parametrize(
    "answer", [refusal(200, "InternalError"), (200, HTML), (200, b""), (200, b"hm"), (502, HTML)]
)
@pytest.mark.parametrize("part_size", [5, 50])
def test_the_last_write_is_answered_oddly(
    sandbox: Sandbox,
    s3_server: S3Server,
    s3_bucket: str,
    lead: Lead,
    answer: Answer,
    part_size: int,
    monkeypatch: pytest.MonkeyPatch,
    *,
    is_done: bool,
) -> None:
    monkeypatch.setattr(s3_target, "_PART_SIZE", part_size * 1024 * 1024)

    def odd(method: str, path: str, *_: Any) -> Answer | None:
        return answer if is_last(method, path) else None

    task = new_task()
    with proxy(s3_server.endpoint, passes if is_done else odd, instead=odd) as address:
        lead(address)
        if is_done:
            assert_right(s3_server, s3_bucket, sandbox, export(task, s3_bucket=s3_bucket, s3_key=KEY))
            return
        with pytest.raises(LightspeedStorageError, match=r"S3 failed .*No part of them is visible"):
            export(task, s3_bucket=s3_bucket, s3_key=KEY)
    lead(s3_server.endpoint)
    assert_goes_on(s3_server, s3_bucket, sandbox, task)


@pytest.mark.parametrize("conflict", [(409, "ConditionalRequestConflict"), (412, "PreconditionFailed")])
@pytest.mark.parametrize("part_size", [5, 50])
def test_a_conflict_that_leaves_no_object(
    sandbox: Sandbox,
    s3_server: S3Server,
    s3_bucket: str,
    lead: Lead,
    conflict: tuple[int, str],
    part_size: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """S3 answers so when another call comes at the same moment, for one a deletion: nothing is there then."""
    monkeypatch.setattr(s3_target, "_PART_SIZE", part_size * 1024 * 1024)

    def rule(method: str, path: str, _: Mapping[str, str]) -> Answer | None:
        return refusal(*conflict) if is_last(method, path) else None

    task = new_task()
    with proxy(s3_server.endpoint, rule) as address:
        lead(address)
        with pytest.raises(LightspeedStorageError, match=conflict[1]):
            export(task, s3_bucket=s3_bucket, s3_key=KEY)
    lead(s3_server.endpoint)
    assert_goes_on(s3_server, s3_bucket, sandbox, task)


def test_each_tenth_call_is_one_too_many(
    sandbox: Sandbox, s3_server: S3Server, s3_bucket: str, lead: Lead
) -> None:
    numbers = itertools.count(1)

    def rule(*_: Any) -> Answer | None:
        return None if next(numbers) % 10 else refusal(503, "SlowDown")

    with proxy(s3_server.endpoint, rule) as address:
        lead(address)
        result = export(new_task(), s3_bucket=s3_bucket, s3_key=KEY)
    assert next(numbers) > 20
    assert_right(s3_server, s3_bucket, sandbox, result)


def test_a_store_that_lists_one_object_a_page(
    sandbox: Sandbox, s3_server: S3Server, s3_bucket: str, lead: Lead
) -> None:
    """The next try finds all that is staged, and removes it all."""
    lists: list[str] = []

    def path_of(path: str) -> str:
        if "list-type=2" not in path:
            return path
        lists.append(path)
        return f"{path}&max-keys=1"

    task = new_task()
    with proxy(
        s3_server.endpoint, lambda *call: refusal(503, "SlowDown") if is_last(*call[:2]) else None
    ) as address:
        lead(address)
        with pytest.raises(LightspeedStorageError):
            export(task, s3_bucket=s3_bucket, s3_key=KEY)
    with proxy(s3_server.endpoint, passes, signed_again(s3_server, path_of)) as address:
        lead(address)
        assert_goes_on(s3_server, s3_bucket, sandbox, task)
    assert len(lists) > 6


def test_a_lifecycle_rule_aborts_the_upload(
    sandbox: Sandbox, s3_server: S3Server, s3_bucket: str, lead: Lead
) -> None:
    def rule(method: str, path: str, _: Mapping[str, str]) -> None:
        if is_part(method, path) and "partNumber=2" in path:
            client = s3_server.client()
            for upload in client.list_multipart_uploads(Bucket=s3_bucket)["Uploads"]:
                client.abort_multipart_upload(
                    Bucket=s3_bucket, Key=upload["Key"], UploadId=upload["UploadId"]
                )

    task = new_task()
    with proxy(s3_server.endpoint, rule) as address:
        lead(address)
        with pytest.raises(LightspeedStorageError, match="NoSuchUpload"):
            export(task, s3_bucket=s3_bucket, s3_key=KEY)
    lead(s3_server.endpoint)
    assert_goes_on(s3_server, s3_bucket, sandbox, task)


@pytest.mark.parametrize(("status", "code"), [(400, "ExpiredToken"), (403, "RequestTimeTooSkewed")])
@pytest.mark.parametrize("since", [is_part, is_last, None], ids=["part", "last", "first"])
def test_from_one_call_on_all_are_refused_for_what_passes(
    sandbox: Sandbox,
    s3_server: S3Server,
    s3_bucket: str,
    lead: Lead,
    status: int,
    code: str,
    since: Callable[[str, str], bool] | None,
) -> None:
    """Also where the first one is a HEAD, which does not say why."""
    begun: list[str] = []

    def rule(method: str, path: str, _: Mapping[str, str]) -> Answer | None:
        if not begun and since is not None and not since(method, path):
            return None
        begun.append(path)
        return (status, b"") if method == "HEAD" else refusal(status, code)

    task = new_task()
    with proxy(s3_server.endpoint, rule) as address:
        lead(address)
        with pytest.raises(LightspeedStorageError, match=code):
            export(task, s3_bucket=s3_bucket, s3_key=KEY)
        assert bool(sandbox.calls) == (since is not None)
    lead(s3_server.endpoint)
    assert_goes_on(s3_server, s3_bucket, sandbox, task, calls=3 if since else 9)


@pytest.mark.parametrize("data", [b"", HTML], ids=["empty", "page"])
def test_a_staged_part_that_comes_back_otherwise_is_no_part_of_the_object(
    sandbox: Sandbox, s3_server: S3Server, s3_bucket: str, lead: Lead, data: bytes
) -> None:
    numbers = itertools.count(1)

    def odd(method: str, path: str) -> Answer | None:
        # The first one is read before the first call to the shop.
        return (200, data) if is_staged(method, path) and next(numbers) == 2 else None

    task = new_task()
    with proxy(s3_server.endpoint, passes, instead=odd) as address:
        lead(address)
        with pytest.raises(LightspeedStorageError, match=rf"{len(data)} bytes of an object that has [\d,]+"):
            export(task, s3_bucket=s3_bucket, s3_key=KEY)
    lead(s3_server.endpoint)
    assert_goes_on(s3_server, s3_bucket, sandbox, task)


@pytest.mark.parametrize("page", [HTML, b"hm", b""], ids=["page", "text", "empty"])
@pytest.mark.parametrize("call", ["GET", "PUT", "POST", "HEAD"])
def test_a_page_of_a_gateway_is_no_response_of_s3(
    sandbox: Sandbox, s3_server: S3Server, s3_bucket: str, lead: Lead, call: str, page: bytes
) -> None:
    def rule(method: str, *_: Any) -> Answer | None:
        return (200, page) if method == call else None

    with proxy(s3_server.endpoint, rule) as address:
        lead(address)
        with pytest.raises(LightspeedStorageError, match=r"S3 failed to write .*No ticket was fetched"):
            export(new_task(), s3_bucket=s3_bucket, s3_key=KEY)
    assert not sandbox.calls


def test_a_receipt_that_does_not_come_back_is_no_empty_one(
    sandbox: Sandbox, s3_server: S3Server, lead: Lead
) -> None:
    with proxy(s3_server.endpoint, lambda *_: (200, b"")) as address:
        lead(address)
        mark = UpdateTicketsOperator(task_id="mark", ticket_ids="s3://bucket/r.jsonl", memo="seen")
        with pytest.raises(LightspeedStorageError, match="no response of S3"):
            mark.execute({})
    assert not sandbox.calls


@pytest.mark.parametrize(
    ("status", "code", "says"),
    [
        (301, "PermanentRedirect", "at another address"),
        (301, "", "at another address"),
        (302, "", "at another address"),
        (307, "TemporaryRedirect", "307"),
        (400, "AuthorizationHeaderMalformed", "another region"),
        (400, "IllegalLocationConstraintException", "another region"),
        (400, "KeyTooLongError", "too long"),
        (403, "AllAccessDisabled", "rights"),
    ],
)
def test_the_error_says_why_all_is_refused(
    sandbox: Sandbox, s3_server: S3Server, s3_bucket: str, lead: Lead, status: int, code: str, says: str
) -> None:
    """Also where boto asks for the region of the bucket, is sent away again, asks for the region, and so on."""

    def rule(method: str, *_: Any) -> Answer:
        if method == "HEAD":
            return status, b""
        return refusal(status, code) if code else (status, HTML)

    with proxy(s3_server.endpoint, rule) as address:
        lead(address)
        error = LightspeedStorageError if status == 307 else LightspeedTaskFailed
        with pytest.raises(error, match=rf"{says}.*No ticket was fetched"):
            export(new_task(), s3_bucket=s3_bucket, s3_key=KEY)
    assert not sandbox.calls


def test_the_region_that_a_store_names_is_taken(
    sandbox: Sandbox, s3_server: S3Server, s3_bucket: str, lead: Lead
) -> None:
    def rule(method: str, _: str, headers: Mapping[str, str]) -> Answer | None:
        if "/eu-west-1/s3/" in headers["Authorization"]:
            return None
        body = (
            b"<Error><Code>AuthorizationHeaderMalformed</Code><Message>no</Message>"
            b"<Region>eu-west-1</Region></Error>"
        )
        return 400, b"" if method == "HEAD" else body

    with proxy(s3_server.endpoint, rule) as address:
        lead(address)
        result = export(new_task(), s3_bucket=s3_bucket, s3_key=KEY)
    assert_right(s3_server, s3_bucket, sandbox, result)


@pytest.mark.parametrize(
    ("bucket", "says"),
    [
        ("my bucket", "Invalid bucket name"),
        ("Über", "Invalid bucket name"),
        ("a", "this is no valid bucket name"),
    ],
)
@pytest.mark.usefixtures("aws")
def test_no_bucket_has_such_a_name(sandbox: Sandbox, bucket: str, says: str) -> None:
    with pytest.raises(LightspeedTaskFailed, match=says):
        export(new_task(), s3_bucket=bucket, s3_key=KEY)
    assert not sandbox.calls


@pytest.mark.parametrize(
    "extra",
    [
        {"endpoint_url": "minio:9000"},
        {"region_name": "eu west 1"},
        {"profile_name": "no-such-profile"},
        {"config_kwargs": {"s3": {"addressing_style": "odd"}}},
        {"config_kwargs": {"no_such_setting": 1}},
    ],
)
def test_a_connection_that_leads_nowhere_fails_once(
    sandbox: Sandbox, s3_server: S3Server, lead: Lead, extra: Any
) -> None:
    lead(s3_server.endpoint, **extra)
    with pytest.raises(LightspeedTaskFailed, match=r"S3 can't write|aws_default' can't be used"):
        export(new_task(), s3_bucket="bucket", s3_key=KEY)
    assert not sandbox.calls


def test_a_store_that_asks_for_content_md5(
    sandbox: Sandbox, s3_server: S3Server, s3_bucket: str, lead: Lead
) -> None:
    """As stores do whose objects are locked; AWS takes the CRC32 that boto sends there."""

    def rule(method: str, _: str, headers: Mapping[str, str]) -> Answer | None:
        return refusal(400, "InvalidRequest") if method == "PUT" and "Content-MD5" not in headers else None

    with proxy(s3_server.endpoint, rule) as address:
        lead(address)
        result = export(new_task(), s3_bucket=s3_bucket, s3_key=KEY)
    assert_right(s3_server, s3_bucket, sandbox, result)


@pytest.mark.usefixtures("aws")
def test_more_parts_than_s3_takes(
    sandbox: Sandbox, s3_server: S3Server, s3_bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(s3_target, "_MOST_PARTS", 1)
    with pytest.raises(LightspeedTaskFailed, match="more than 1 parts of 5 MiB"):
        export(new_task(), s3_bucket=s3_bucket, s3_key=KEY)
    assert sandbox.calls
    assert keys(s3_server, s3_bucket) == []


@pytest.mark.parametrize(
    "key",
    [
        "ключ/цена 100%.jsonl",
        "a+b/c d+e.jsonl",
        "a%2Fb/%2e%2e/c%20d.jsonl",
        "é/e\u0301.jsonl",
        "a/?x=1&y=#z.jsonl",
        "a/(1) 'b'~*!.jsonl",
        "a/日本語😀.jsonl",
        "=a/,;:@$.jsonl",
    ],
)
@pytest.mark.usefixtures("aws")
def test_each_key_comes_back(sandbox: Sandbox, s3_server: S3Server, s3_bucket: str, key: str) -> None:
    result = export(new_task(), s3_key=f"s3://{s3_bucket}/{key}")
    assert_right(s3_server, s3_bucket, sandbox, result, key)
    with pytest.raises(LightspeedTaskFailed, match="exists already"):
        export({}, s3_bucket=s3_bucket, s3_key=key)
    mark = UpdateTicketsOperator(task_id="mark", ticket_ids=result, memo="seen", dry_run=True)
    assert len(mark.execute({})["updated"]) == 603
