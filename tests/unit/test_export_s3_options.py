"""Encryption and ACL reach each object that an export writes, however it is written."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError
from moto import mock_aws

from airflow_provider_lightspeed._airflow import BaseOperator
from airflow_provider_lightspeed.api.errors import LightspeedConfigurationError
from airflow_provider_lightspeed.exceptions import LightspeedTaskFailed
from airflow_provider_lightspeed.hooks.lightspeed import LightspeedHook
from airflow_provider_lightspeed.s3 import target
from airflow_provider_lightspeed.s3.client import WriteOptions
from airflow_provider_lightspeed.s3.staging import Staging
from airflow_provider_lightspeed.s3.target import ExportTarget
from airflow_provider_lightspeed.transfers.ticket_changes_to_s3 import LightspeedTicketChangesToS3Operator
from airflow_provider_lightspeed.transfers.tickets_to_s3 import LightspeedTicketsToS3Operator

SIZES = pytest.mark.parametrize("size", [10, 6 * 1024 * 1024], ids=["one-put", "multipart"])


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.setattr(target, "_PART_SIZE", 5 * 1024 * 1024)
    with mock_aws():
        client = boto3.client("s3", "us-east-1", aws_access_key_id="test", aws_secret_access_key="test")
        client.create_bucket(Bucket="bucket")
        yield client


def _write(s3: Any, size: int, **options: Any) -> str:
    """Write an object as an export does, with a staged part; return the part's key."""
    write = WriteOptions(**options)
    staging = Staging(s3, "bucket", "a/k", "", "e", write.for_staging)
    staging.add(b"x" * size)
    (part,) = [item["Key"] for item in s3.list_objects_v2(Bucket="bucket")["Contents"]]
    made = ExportTarget(s3, "bucket", "a/k", replace=False, options=write.for_objects, metadata={})
    made.publish([b"x" * size], content_type="text/plain", metadata={"export": "e"})
    assert s3.head_object(Bucket="bucket", Key="a/k")["ContentLength"] == size
    return str(part)


@SIZES
@pytest.mark.parametrize(
    ("arguments", "encryption", "key"),
    [
        ({"encrypt": True}, "AES256", None),
        ({"kms_key_id": "key-1"}, "aws:kms", "key-1"),
        ({"kms_key_id": "key-1", "encrypt": True}, "aws:kms", "key-1"),
    ],
)
def test_encryption_is_the_objects_and_the_parts(
    s3: Any, size: int, arguments: dict[str, Any], encryption: str, key: str | None
) -> None:
    part = _write(s3, size, **arguments)
    for name in ("a/k", part):
        head = s3.head_object(Bucket="bucket", Key=name)
        assert head["ServerSideEncryption"] == encryption
        assert head.get("SSEKMSKeyId") == key


@SIZES
@pytest.mark.parametrize(
    ("policy", "of_part"), [("public-read", "private"), ("bucket-owner-full-control",) * 2]
)
def test_a_staged_part_is_open_to_no_one_but_the_buckets_owner(
    s3: Any, size: int, policy: str, of_part: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = {}
    for name in ("put_object", "create_multipart_upload"):
        call = getattr(s3, name)

        def watched(*, call: Any = call, **arguments: Any) -> Any:
            asked[arguments["Key"]] = arguments.get("ACL", "private")
            return call(**arguments)

        monkeypatch.setattr(s3, name, watched)
    part = _write(s3, size, acl_policy=policy)
    assert asked == {part: of_part, "a/k": policy}


_EVERYONE = "http://acs.amazonaws.com/groups/global/AllUsers"


@SIZES
@pytest.mark.parametrize(
    ("policy", "is_public"), [("public-read", True), ("bucket-owner-full-control", False)]
)
def test_what_is_granted(s3: Any, size: int, policy: str, *, is_public: bool) -> None:
    part = _write(s3, size, acl_policy=policy)

    def readers(key: str) -> set[str]:
        grants = s3.get_object_acl(Bucket="bucket", Key=key)["Grants"]
        return {grant["Grantee"].get("URI", "owner") for grant in grants}

    assert readers("a/k") == ({"owner", _EVERYONE} if is_public else {"owner"})
    assert readers(part) == {"owner"}


def test_a_key_that_renders_to_nothing_names_no_object() -> None:
    operator = LightspeedTicketsToS3Operator(task_id="export", s3_bucket="bucket", s3_key="None")
    with pytest.raises(LightspeedTaskFailed, match="s3_key is empty after rendering"):
        operator.execute({})


@pytest.mark.parametrize(
    "option", ["kms_key_id", "acl_policy", "hash_secret_variable", "since_id", "customer_email"]
)
@pytest.mark.parametrize("rendered", ["", "None", None])
def test_an_option_that_renders_to_nothing_is_not_left_out(option: str, rendered: str | None) -> None:
    assert option in LightspeedTicketsToS3Operator.template_fields
    operator = LightspeedTicketsToS3Operator(
        task_id="export", s3_key="s3://bucket/k", **{option: "{{ var.value.get('x') }}"}
    )
    setattr(operator, option, rendered)
    with pytest.raises(
        LightspeedTaskFailed,
        match=f"{option} is empty after rendering .*: leave it out if you do not need it",
    ):
        operator.execute({})


@pytest.mark.parametrize(
    ("operator", "place"),
    [
        (LightspeedTicketsToS3Operator, {"s3_key": "s3://bucket/k"}),
        (LightspeedTicketChangesToS3Operator, {"s3_prefix": "s3://bucket/p"}),
    ],
)
def test_a_missing_hash_key_is_asked_for_where_the_task_reads_it(
    operator: type[BaseOperator], place: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(
        "AIRFLOW_CONN_LIGHTSPEED_DEFAULT", '{"conn_type": "lightspeed", "login": "k", "password": "s"}'
    )
    monkeypatch.setattr(LightspeedHook, "get_hash_secret", lambda *_: "")
    task = operator(task_id="task", hash_fields=["customer"], hash_secret_variable="ours", **place)
    with pytest.raises(
        LightspeedTaskFailed, match=r"Set the Airflow Variable 'ours' \(hash_secret_variable\)$"
    ):
        task.execute({})


class Picky:
    """A client of a store that refuses, or ignores, some arguments of writes."""

    def __init__(self, inner: Any, refuses: Callable[[dict[str, Any]], bool], ignores: str = "") -> None:
        self._inner = inner
        self._refuses = refuses
        self._ignores = ignores

    def __getattr__(self, name: str) -> Any:
        call = getattr(self._inner, name)
        if name not in {"put_object", "create_multipart_upload", "complete_multipart_upload"}:
            return call

        def picky(**arguments: Any) -> Any:
            if name != "complete_multipart_upload" and self._refuses(arguments):
                response: Any = {
                    "Error": {"Code": "AccessDenied"},
                    "ResponseMetadata": {"HTTPStatusCode": 403},
                }
                raise ClientError(response, name)
            arguments.pop(self._ignores, None)
            return call(**arguments)

        return picky


def is_right(client: Any, **options: Any) -> None:
    """Ask, as an export does before its first call to the shop; nothing may be left."""
    replace = options.pop("replace", True)
    write = WriteOptions(**options)
    made = ExportTarget(client, "bucket", "k", replace=replace, options=write.for_objects, metadata={})
    try:
        made.check_writable("_staging/k/probe")
    finally:
        assert not client.list_objects_v2(Bucket="bucket").get("Contents")
        assert not client.list_multipart_uploads(Bucket="bucket").get("Uploads")


@pytest.mark.parametrize(
    ("needed", "remedy", "options"),
    [
        ({"ServerSideEncryption": "AES256"}, "set `encrypt=True`", {"encrypt": True}),
        ({"ServerSideEncryption": "aws:kms"}, "set `kms_key_id`", {"kms_key_id": "key-1"}),
        (
            {"ACL": "bucket-owner-full-control"},
            "set `acl_policy=",
            {"acl_policy": "bucket-owner-full-control"},
        ),
        (
            {"ACL": "bucket-owner-full-control", "ServerSideEncryption": "aws:kms"},
            "set `kms_key_id` and `acl_policy=",
            {"acl_policy": "bucket-owner-full-control", "kms_key_id": "key-1"},
        ),
    ],
)
def test_what_a_bucket_asks_for_is_named(
    s3: Any, needed: dict[str, str], remedy: str, options: dict[str, Any]
) -> None:
    client = Picky(s3, lambda arguments: not needed.items() <= arguments.items())
    with pytest.raises(LightspeedConfigurationError, match=remedy):
        is_right(client)
    is_right(client, **options)


def test_a_store_that_ignores_the_condition_is_found_out(s3: Any) -> None:
    client = Picky(s3, lambda _: False, ignores="IfNoneMatch")
    with pytest.raises(LightspeedConfigurationError, match=r"ignores conditional writes.*Set `replace=True`"):
        is_right(client, replace=False)
    is_right(client, replace=True)


def test_who_may_do_nothing_is_told_to_check_the_rights(s3: Any) -> None:
    with pytest.raises(ClientError, match="AccessDenied"):
        is_right(Picky(s3, lambda _: True))


def _publish(
    s3: Any, size: int = 1, *, mapped_task: str = "t", map_index: int = 0, source: str = "one"
) -> None:
    metadata = {"mapped-task": mapped_task, "map-index": str(map_index), "source": source}
    made = ExportTarget(s3, "bucket", "a/k", replace=True, options={}, metadata=metadata)
    made.publish([b"x" * size], content_type="text/plain", metadata={"export": str(map_index), "job": source})


@SIZES
def test_a_mapped_instance_does_not_replace_what_another_has_written(s3: Any, size: int) -> None:
    _publish(s3, source="one")
    with pytest.raises(
        LightspeedTaskFailed, match=r"export of instance 0 .* Instance 1 would replace it.*map_index"
    ):
        _publish(s3, size, map_index=1, source="two")
    assert s3.head_object(Bucket="bucket", Key="a/k")["Metadata"]["source"] == "one"
    assert "Uploads" not in s3.list_multipart_uploads(Bucket="bucket")
    other = {"mapped-task": "t", "map-index": "1", "source": "two"}
    made = ExportTarget(s3, "bucket", "a/k", replace=True, options={}, metadata=other)
    with pytest.raises(LightspeedTaskFailed, match="Instance 1 would replace it"):
        made.find_published("job", "export")


@pytest.mark.parametrize(
    "later",
    [
        pytest.param({"source": "two"}, id="the same instance"),
        pytest.param({"map_index": 1, "source": "one"}, id="the list of instances was put in another order"),
        pytest.param(
            {"map_index": 1, "source": "two", "mapped_task": "another run"}, id="another run or task"
        ),
    ],
)
def test_any_other_task_replaces_it(s3: Any, later: dict[str, Any]) -> None:
    _publish(s3)
    _publish(s3, **later)
    s3.put_object(Bucket="bucket", Key="a/k", Body=b"of another program")
    _publish(s3, map_index=1, source="two")
