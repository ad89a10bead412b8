"""Addresses of objects, and which errors of S3 another try may help with."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from airflow.providers.amazon.aws.hooks.s3 import S3Hook
from botocore.awsrequest import AWSResponse
from botocore.exceptions import ClientError, EndpointConnectionError, NoCredentialsError

from airflow_provider_lightspeed.api.errors import LightspeedConfigurationError
from airflow_provider_lightspeed.exceptions import LightspeedStorageError
from airflow_provider_lightspeed.s3.client import connect, is_aws, parse_s3_uri, s3_errors
from airflow_provider_lightspeed.s3.objects import S3Objects


class _Failing:
    """A client whose calls all end alike."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    def __getattr__(self, _: str) -> Callable[..., Any]:
        def call(**_: Any) -> Any:
            raise self._error

        return call


def _refused(status: int | None, code: str) -> Exception:
    metadata = {} if status is None else {"HTTPStatusCode": status}
    response: Any = {"Error": {"Code": code}, "ResponseMetadata": metadata}
    return ClientError(response, "AnyOperation")


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        *((_refused(status, "Final"), LightspeedConfigurationError) for status in (301, 401, 403, 404)),
        (_refused(400, "InvalidArgument"), LightspeedConfigurationError),
        (_refused(400, "RequestTimeout"), LightspeedStorageError),
        (_refused(403, "RequestTimeTooSkewed"), LightspeedStorageError),
        (_refused(400, "ExpiredToken"), LightspeedStorageError),
        (_refused(429, "SlowDown"), LightspeedStorageError),
        (_refused(503, "SlowDown"), LightspeedStorageError),
        (_refused(None, "Unknown"), LightspeedStorageError),
        (EndpointConnectionError(endpoint_url="http://s3"), LightspeedStorageError),
    ],
)
def test_only_what_stays_so_is_final(error: Exception, expected: type[Exception]) -> None:
    files = S3Objects("aws_default")
    files._client = _Failing(error)
    with pytest.raises(expected, match="read s3://bucket/key"):
        files.read("s3://bucket/key")
    with pytest.raises(expected, match="write s3://bucket/key"):
        files.write("s3://bucket/key", b"")
    with pytest.raises(expected, match=r"write s3://bucket/key.*No API call was made"):
        files.check_writable("s3://bucket/key")


@pytest.mark.parametrize(
    ("uri", "bucket", "key"),
    [
        ("s3://bucket/a/key.jsonl", "bucket", "a/key.jsonl"),
        ("S3://bucket/key", "bucket", "key"),
        ("s3://bucket/key#1?x", "bucket", "key#1?x"),
        *(
            (f"s3://{arn}/a/key", arn, "a/key")
            for arn in (
                "arn:aws:s3:eu-west-1:123456789012:accesspoint/tickets",
                "arn:aws:s3:eu-west-1:123456789012:accesspoint:tickets",
                "arn:aws-cn:s3::123456789012:accesspoint/tickets.mrap",
                "arn:aws:s3-outposts:eu-west-1:123456789012:outpost/op-1/accesspoint/tickets",
            )
        ),
    ],
)
def test_addresses(uri: str, bucket: str, key: str) -> None:
    assert parse_s3_uri(uri) == (bucket, key)


@pytest.mark.parametrize(
    "uri", ["s3://bucket", "s3://bucket/", "s3:///key", "a/key.jsonl", "https://bucket/key", ""]
)
def test_no_addresses(uri: str) -> None:
    with pytest.raises(LightspeedConfigurationError, match="must be like s3://bucket/key"):
        parse_s3_uri(uri)


@pytest.mark.parametrize(
    "uri",
    [
        "s3:// bucket/key",
        "s3://bucket /key",
        "s3://bucket/ key",
        "s3://bucket/key ",
        "s3://bucket/key\n",
        "s3://bucket/a\nb",
        "s3://bucket/a\tb",
        " s3://bucket/key",
        "s3://bucket/a/",
        "s3://bucket//a",
        "s3://bucket/a//b",
    ],
)
def test_a_key_that_would_be_shifted_is_refused(uri: str) -> None:
    with pytest.raises(LightspeedConfigurationError):
        parse_s3_uri(uri)


def test_an_unreachable_store_is_one_traceback_with_a_remedy() -> None:
    with (
        pytest.raises(LightspeedStorageError) as raised,
        s3_errors("write s3://b/k", "No ticket was fetched"),
    ):
        raise EndpointConnectionError(endpoint_url="http://127.0.0.1:9/b/k")
    assert str(raised.value) == (
        'S3 failed to write s3://b/k: Could not connect to the endpoint URL: "http://127.0.0.1:9/b/k". Check the network '
        "of the worker, and `endpoint_url` of the AWS connection. No ticket was fetched"
    )
    # Airflow logs the traceback of a cause, too: a hundred lines of boto that say the same.
    assert raised.value.__suppress_context__
    assert raised.value.__cause__ is None


def test_missing_credentials_name_where_to_put_them() -> None:
    with (
        pytest.raises(LightspeedStorageError) as raised,
        s3_errors("write s3://b/k", "No ticket was fetched"),
    ):
        raise NoCredentialsError
    assert str(raised.value) == (
        "S3 failed to write s3://b/k: Unable to locate credentials. Create the AWS connection (`aws_conn_id`), or give "
        "the worker an IAM role. No ticket was fetched"
    )


@pytest.mark.parametrize("aws_conn_id", ["", None])
def test_without_a_connection_the_worker_s_own_credentials_are_used(
    monkeypatch: pytest.MonkeyPatch, aws_conn_id: str | None
) -> None:
    # The Amazon provider says this of an empty id, so os.environ.get("AWS_CONN_ID", "") is common in DAGs.
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_DEFAULT_REGION"):
        monkeypatch.setenv(name, "eu-west-1")
    assert is_aws(connect(aws_conn_id))


@pytest.mark.parametrize("aws_conn_id", ["None", " ", " None\n"])
def test_an_id_that_rendered_to_no_connection_is_refused(aws_conn_id: str) -> None:
    with pytest.raises(LightspeedConfigurationError, match="aws_conn_id is empty after rendering"):
        connect(aws_conn_id)


def test_a_refused_role_is_a_plain_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: S3Hook) -> None:
        response: Any = {"Error": {"Code": "AccessDenied"}, "ResponseMetadata": {"HTTPStatusCode": 403}}
        raise ClientError(response, "AssumeRole")

    monkeypatch.setattr(S3Hook, "get_conn", refuse)
    with pytest.raises(LightspeedConfigurationError, match=r"read s3://b/k \(AccessDenied at AssumeRole\)"):
        S3Objects("aws_default").read("s3://b/k")


@pytest.mark.parametrize(
    ("endpoint", "expected"),
    [
        (None, True),
        ("https://bucket.vpce-1.s3.eu-west-1.vpce.amazonaws.com", True),
        ("https://storage.googleapis.com", False),
        ("http://127.0.0.1:8333", False),
    ],
)
def test_checksums_that_stores_refuse_are_sent_to_aws_alone(
    monkeypatch: pytest.MonkeyPatch, endpoint: str | None, expected: bool
) -> None:
    extra = {"region_name": "eu-west-1"} | ({"endpoint_url": endpoint} if endpoint else {})
    connection = {"conn_type": "aws", "login": "key", "password": "secret", "extra": extra}
    monkeypatch.setenv("AIRFLOW_CONN_A_STORE", json.dumps(connection))
    client = connect("a_store")
    sent: dict[str, Any] = {}

    def take(request: Any, **_: Any) -> AWSResponse:
        sent.update(request.headers)
        response = AWSResponse(request.url, 200, {}, None)
        response._content = b""
        return response

    client.meta.events.register("before-send.s3.PutObject", take)
    client.put_object(Bucket="bucket", Key="key", Body=b"x")
    assert ("x-amz-sdk-checksum-algorithm" in sent) == expected == is_aws(client)
    assert "Authorization" in sent


@pytest.mark.parametrize(
    "key",
    [
        "None.jsonl",
        "date=None/t.jsonl",
        "date=/t.jsonl",
        "t/date=",
        "shop_None/t",
        "a/None/b",
        "closed/x-None.gz",
        "day=.csv",
    ],
)
def test_a_key_with_a_part_that_rendered_to_nothing_is_refused(key: str) -> None:
    with pytest.raises(LightspeedConfigurationError, match="a part without a value"):
        parse_s3_uri(f"s3://bucket/{key}")


@pytest.mark.parametrize(
    "key",
    ["MappedArgument(_input=DictOfListsExpandInput(value={'a': [1]}), _key='a').jsonl", "{{ 'a' }}.jsonl"],
)
def test_a_key_that_is_not_rendered_is_refused(key: str) -> None:
    with pytest.raises(
        LightspeedConfigurationError, match=r"write \{\{ ti\.task\.lightspeed_conn_id \}\} in place"
    ):
        parse_s3_uri(f"s3://bucket/{key}")


@pytest.mark.parametrize(
    "key", ["Nonesuch/t", "none/t", "date=2026-01-31/t", "a=b=c/t", "LeNone/t", "YWJj==/t", "=/t"]
)
def test_a_key_with_values_is_not(key: str) -> None:
    assert parse_s3_uri(f"s3://bucket/{key}") == ("bucket", key)
