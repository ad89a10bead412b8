"""First exports to stores and buckets that differ from AWS: each works, or fails once, and says what to set."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from airflow_provider_lightspeed.exceptions import LightspeedTaskFailed
from airflow_provider_lightspeed.operators.bulk import BulkTicketsOperator
from airflow_provider_lightspeed.operators.tickets import (
    CloseTicketsOperator,
    DeleteTicketsOperator,
    UpdateTicketsOperator,
)
from airflow_provider_lightspeed.sandbox import Sandbox
from airflow_provider_lightspeed.transfers import export as export_module
from demo.s3_server import S3Server
from tests.integration.exporting import export, keys, new_task, read
from tests.integration.gateways import Onward, proxy

Rule = Callable[[str, str, Mapping[str, str]], tuple[int, bytes] | None]


def refusal(status: int, code: str) -> tuple[int, bytes]:
    return status, f"<Error><Code>{code}</Code><Message>no</Message></Error>".encode()


def makes_an_object(method: str, path: str) -> bool:
    return (method == "PUT" and "partNumber" not in path) or (method == "POST" and "uploads" in path)


def no_conditional_writes(_method: str, _path: str, headers: Mapping[str, str]) -> tuple[int, bytes] | None:
    return refusal(501, "NotImplemented") if "If-None-Match" in headers else None


def acls_disabled(_method: str, _path: str, headers: Mapping[str, str]) -> tuple[int, bytes] | None:
    return refusal(400, "AccessControlListNotSupported") if "x-amz-acl" in headers else None


def asks_for_an_acl(method: str, path: str, headers: Mapping[str, str]) -> tuple[int, bytes] | None:
    is_right = headers.get("x-amz-acl") == "bucket-owner-full-control" or not makes_an_object(method, path)
    return None if is_right else refusal(403, "AccessDenied")


def asks_for_kms(method: str, path: str, headers: Mapping[str, str]) -> tuple[int, bytes] | None:
    is_right = headers.get("x-amz-server-side-encryption") == "aws:kms" or not makes_an_object(method, path)
    return None if is_right else refusal(403, "AccessDenied")


def no_delete_objects(method: str, path: str, _: Mapping[str, str]) -> tuple[int, bytes] | None:
    return refusal(501, "NotImplemented") if method == "POST" and path.endswith("?delete") else None


def no_writing(method: str, path: str, _: Mapping[str, str]) -> tuple[int, bytes] | None:
    return refusal(403, "AccessDenied") if makes_an_object(method, path) else None


def no_deleting(method: str, path: str, _: Mapping[str, str]) -> tuple[int, bytes] | None:
    return refusal(403, "AccessDenied") if method == "DELETE" and "uploadId" not in path else None


def signed_again(server: S3Server, path_of: Callable[[str], str] = str) -> Onward:
    """Pass calls on to another path, and without headers of encryption, which SeaweedFS has none of."""

    def sign(
        method: str, path: str, headers: Mapping[str, str], body: bytes
    ) -> tuple[str, Mapping[str, str]]:
        signed = {"authorization", "x-amz-date", "x-amz-content-sha256", "host"}
        kept = {
            name: value
            for name, value in headers.items()
            if name.lower() not in signed and not name.lower().startswith("x-amz-server-side-encryption")
        }
        path = path_of(path)
        request = AWSRequest(method, server.endpoint + path, data=body, headers=kept)
        S3SigV4Auth(Credentials(server.access_key, server.secret_key), "s3", server.region).add_auth(request)
        return path, dict(request.headers.items())

    return sign


@pytest.fixture
def through(s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Return what leads ``aws_default`` through a proxy."""

    def lead(address: str) -> None:
        connection = json.loads(s3_server.airflow_connection())
        extra = connection["extra"]
        extra = json.loads(extra) if isinstance(extra, str) else extra
        connection["extra"] = {**extra, "endpoint_url": address}
        monkeypatch.setenv("AIRFLOW_CONN_AWS_DEFAULT", json.dumps(connection))

    return lead


#: A rule of a store, arguments that it refuses, what the error says, and the arguments that mend it.
REFUSED: list[tuple[Rule, dict[str, Any], str, dict[str, Any] | None]] = [
    (
        acls_disabled,
        {"acl_policy": "private"},
        "AccessControlListNotSupported.*leave `acl_policy` out",
        {},
    ),
    (
        asks_for_an_acl,
        {},
        "AccessDenied.*set `acl_policy='bucket-owner-full-control'`",
        {"acl_policy": "bucket-owner-full-control"},
    ),
    (no_deleting, {}, r"AccessDenied at DeleteObject\): check the credentials and rights", None),
]


@pytest.mark.parametrize(
    ("rule", "arguments", "says", "remedy"),
    [
        (no_conditional_writes, {}, r"NotImplemented at PutObject.*set `replace=True`", {"replace": True}),
        *REFUSED,
        (asks_for_kms, {}, "AccessDenied.*set `kms_key_id`", {"kms_key_id": "key-1"}),
    ],
)
def test_what_the_store_refuses_fails_once_and_says_what_to_set(
    sandbox: Sandbox,
    s3_server: S3Server,
    s3_bucket: str,
    through: Callable[[str], None],
    monkeypatch: pytest.MonkeyPatch,
    rule: Rule,
    arguments: dict[str, Any],
    says: str,
    remedy: dict[str, Any] | None,
) -> None:
    monkeypatch.setattr(export_module, "_CALLS_AT_RISK", 1)  # so that parts are staged
    target = {"s3_bucket": s3_bucket, "s3_key": "a/t.jsonl.gz"}
    with proxy(s3_server.endpoint, rule, signed_again(s3_server)) as address:
        through(address)
        with pytest.raises(LightspeedTaskFailed, match=f"{says}.*No ticket was fetched"):
            export(new_task(), **target, **arguments)
        assert not sandbox.calls
        if remedy is None:
            return
        assert keys(s3_server, s3_bucket) == []
        assert export(new_task(), **target, **remedy)["tickets"] == 600
    assert len(read(s3_server, s3_bucket, "a/t.jsonl.gz")) == 600
    assert keys(s3_server, s3_bucket) == ["a/t.jsonl.gz"]


def test_a_store_without_delete_objects(
    sandbox: Sandbox,
    s3_server: S3Server,
    s3_bucket: str,
    through: Callable[[str], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(export_module, "_CALLS_AT_RISK", 1)
    with proxy(s3_server.endpoint, no_delete_objects) as address:
        through(address)
        assert export(new_task(), s3_bucket=s3_bucket, s3_key="a/t.jsonl")["tickets"] == 600
    assert keys(s3_server, s3_bucket) == ["a/t.jsonl"]


#: Bulk changes of a few tickets, by their ids and by criteria.
BULK_CHANGES: list[Callable[[Sandbox], BulkTicketsOperator]] = [
    lambda shop: UpdateTicketsOperator(task_id="bulk", ticket_ids=shop.shop.ids()[:3], memo="seen"),
    lambda _: CloseTicketsOperator(task_id="bulk", created_before="2026-04-08T00:00:00+00:00", dry_run=True),
    lambda _: DeleteTicketsOperator(
        task_id="bulk", created_before="2026-04-08T00:00:00+00:00", max_tickets=600
    ),
]


@pytest.mark.parametrize("make", BULK_CHANGES, ids=["update", "dry-run-close", "delete"])
@pytest.mark.parametrize(
    ("rule", "arguments", "says", "remedy"),
    [
        *REFUSED[:2],
        (asks_for_kms, {}, "AccessDenied.*set `kms_key_id`", {"kms_key_id": "key-1"}),
        (
            asks_for_an_acl,
            {"encrypt": True},
            "AccessDenied.*set `acl_policy='bucket-owner-full-control'`",
            {"acl_policy": "bucket-owner-full-control", "encrypt": True},
        ),
        (no_writing, {}, r"AccessDenied at PutObject\): check the credentials and rights", None),
    ],
)
def test_a_refused_receipt_fails_once_before_the_first_call(
    sandbox: Sandbox,
    s3_server: S3Server,
    s3_bucket: str,
    through: Callable[[str], None],
    rule: Rule,
    arguments: dict[str, Any],
    says: str,
    remedy: dict[str, Any] | None,
    make: Callable[[Sandbox], BulkTicketsOperator],
) -> None:
    receipt = f"s3://{s3_bucket}/receipts/r.jsonl"

    def run(arguments: dict[str, Any]) -> dict[str, Any]:
        operator = make(sandbox)
        for name, value in {"receipt_s3_key": receipt, **arguments}.items():
            setattr(operator, name, value)
        return operator.execute({})

    s3_server.client().put_object(Bucket=s3_bucket, Key="receipts/r.jsonl", Body=b"of an earlier run")
    with proxy(s3_server.endpoint, rule, signed_again(s3_server)) as address:
        through(address)
        with pytest.raises(LightspeedTaskFailed, match=f"to write {receipt} .*{says}.*No API call was made"):
            run(arguments)
        assert not sandbox.calls
        assert s3_server.client().get_object(Bucket=s3_bucket, Key="receipts/r.jsonl")["Body"].read() == (
            b"of an earlier run"
        )
        if remedy is not None:
            run(remedy)
            assert sandbox.calls
    assert keys(s3_server, s3_bucket) == ["receipts/r.jsonl"]


def test_a_receipt_needs_no_condition_and_no_delete(
    sandbox: Sandbox, s3_server: S3Server, s3_bucket: str, through: Callable[[str], None]
) -> None:
    some = sandbox.shop.ids()[:3]
    for rule, left in (
        (no_conditional_writes, []),
        (no_delete_objects, []),
        (acls_disabled, []),
        (no_deleting, ["receipts/_staging/probe.jsonl"]),
    ):
        with proxy(s3_server.endpoint, rule) as address:
            through(address)
            operator = UpdateTicketsOperator(
                task_id="mark",
                ticket_ids=some,
                memo=rule.__name__,
                receipt_s3_key=f"s3://{s3_bucket}/receipts/r.jsonl",
            )
            assert operator.execute({})["updated"] == some
        assert keys(s3_server, s3_bucket) == [*left, "receipts/r.jsonl"]


def test_an_access_point_comes_back(
    sandbox: Sandbox, s3_server: S3Server, s3_bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """boto makes a host of the ARN; a proxy between leads it to the bucket."""
    hosts = set()

    def path_of(address: str) -> str:
        host, _, path = address.removeprefix("http://").partition("/")
        hosts.add(host)
        return f"/{s3_bucket}/{path}"

    with proxy(s3_server.endpoint, lambda *_: None, signed_again(s3_server, path_of)) as address:
        connection = json.loads(s3_server.airflow_connection())
        connection["extra"] |= {
            "endpoint_url": "http://s3.example.test",
            "region_name": "eu-west-1",
            "config_kwargs": {"proxies": {"http": address}},
        }
        monkeypatch.setenv("AIRFLOW_CONN_AWS_DEFAULT", json.dumps(connection))
        point = "arn:aws:s3:eu-west-1:123456789012:accesspoint/tickets"
        result = export(new_task(), s3_bucket=point, s3_key="a/t.jsonl.gz")
        mark = UpdateTicketsOperator(
            task_id="mark",
            ticket_ids=result,
            memo="seen",
            dry_run=True,
            receipt_s3_key=f"s3://{point}/receipts/r.jsonl",
        )
        assert len(mark.execute({})["updated"]) == 600
    assert hosts == {"tickets-123456789012.s3.example.test"}
    assert keys(s3_server, s3_bucket) == ["a/t.jsonl.gz", "receipts/r.jsonl"]


@pytest.mark.parametrize("key", [" a/t.jsonl", "a/t.jsonl\n", "a/t.jsonl/", "a//t.jsonl", "/a/t.jsonl"])
@pytest.mark.usefixtures("aws")
def test_a_key_with_blanks_is_refused_and_not_shifted(
    sandbox: Sandbox, s3_server: S3Server, s3_bucket: str, key: str
) -> None:
    for target in {"s3_bucket": s3_bucket, "s3_key": key}, {"s3_key": f"s3://{s3_bucket}/{key}"}:
        with pytest.raises(LightspeedTaskFailed, match=r"has blanks around|has an empty folder"):
            export({}, **target)
    with pytest.raises(LightspeedTaskFailed, match="has blanks around"):
        export({}, s3_bucket=f"{s3_bucket} ", s3_key="t.jsonl")
    assert not sandbox.calls
    assert keys(s3_server, s3_bucket) == []
