"""Addresses of objects, and which errors of S3 another try may help with."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from botocore.exceptions import ClientError, EndpointConnectionError

from airflow_provider_lightspeed.api.errors import LightspeedConfigurationError
from airflow_provider_lightspeed.exceptions import LightspeedStorageError
from airflow_provider_lightspeed.s3.client import S3Objects, parse_s3_uri


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
    files._made = _Failing(error)
    with pytest.raises(expected, match="read s3://bucket/key"):
        files.read("s3://bucket/key")
    with pytest.raises(expected, match="write s3://bucket/key"):
        files.write("s3://bucket/key", b"")


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
    with pytest.raises(LightspeedConfigurationError, match="an address such as s3://bucket/key"):
        parse_s3_uri(uri)
