"""First exports to stores and buckets that differ from AWS: each works, or fails once, and says what to set."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from airflow_provider_lightspeed.exceptions import LightspeedTaskFailed
from airflow_provider_lightspeed.operators.tickets import UpdateTicketsOperator
from airflow_provider_lightspeed.sandbox import Sandbox
from airflow_provider_lightspeed.transfers import export as export_module
from demo.s3_server import S3Server
from tests.integration.exporting import export, keys, new_task, read
from tests.integration.gateways import proxy

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


def no_deleting(method: str, path: str, _: Mapping[str, str]) -> tuple[int, bytes] | None:
    return refusal(403, "AccessDenied") if method == "DELETE" and "uploadId" not in path else None


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
    with proxy(s3_server.endpoint, rule) as address:
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


@pytest.mark.parametrize(
    ("rule", "arguments", "says"),
    [
        (no_conditional_writes, {}, None),
        (no_delete_objects, {}, None),
        (acls_disabled, {}, None),
        (acls_disabled, {"acl_policy": "private"}, "ACLs are disabled on the bucket: leave `acl_policy` out"),
        (
            asks_for_an_acl,
            {},
            "AccessDenied at PutObject.*may also ask for `acl_policy`, `encrypt` or `kms_key_id`",
        ),
        (asks_for_an_acl, {"acl_policy": "bucket-owner-full-control"}, None),
        (
            asks_for_kms,
            {},
            "AccessDenied at PutObject.*may also ask for `acl_policy`, `encrypt` or `kms_key_id`",
        ),
    ],
)
def test_a_receipt_is_written_or_nothing_is_changed(
    sandbox: Sandbox,
    s3_server: S3Server,
    s3_bucket: str,
    through: Callable[[str], None],
    rule: Rule,
    arguments: dict[str, Any],
    says: str | None,
) -> None:
    some = sandbox.shop.ids()[:3]
    receipt = f"s3://{s3_bucket}/receipts/r.jsonl"
    with proxy(s3_server.endpoint, rule) as address:
        through(address)
        operator = UpdateTicketsOperator(
            task_id="mark", ticket_ids=some, memo="seen", receipt_s3_key=receipt, **arguments
        )
        if says is None:
            assert operator.execute({})["updated"] == some
            assert keys(s3_server, s3_bucket) == ["receipts/r.jsonl"]
            return
        with pytest.raises(LightspeedTaskFailed, match=says):
            operator.execute({})
    assert not [call for call in sandbox.calls if call.method != "GET"]
    assert keys(s3_server, s3_bucket) == []


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
