"""The link from the task page to the object."""

from __future__ import annotations

from typing import Any

import boto3
import pytest

from airflow_provider_lightspeed.provider_info import get_provider_info
from airflow_provider_lightspeed.s3 import link
from airflow_provider_lightspeed.s3.link import S3ObjectLink, console_address
from airflow_provider_lightspeed.transfers.tickets_to_s3 import LightspeedTicketsToS3Operator


def _client(region: str, endpoint: str | None = None) -> Any:
    return boto3.client(
        "s3", region, endpoint_url=endpoint, aws_access_key_id="key", aws_secret_access_key="secret"
    )


def test_it_leads_to_the_console_of_the_region() -> None:
    assert (
        console_address(_client("eu-west-1"), "bucket", "a/date=2026-01-31/t & u.jsonl")
        == "https://eu-west-1.console.aws.amazon.com/s3/object/bucket?region=eu-west-1"
        "&prefix=a%2Fdate%3D2026-01-31%2Ft%20%26%20u.jsonl"
    )
    assert console_address(_client("cn-north-1"), "b", "k").startswith(
        "https://cn-north-1.console.amazonaws.cn/"
    )


@pytest.mark.parametrize(
    ("endpoint", "bucket"),
    [
        ("http://127.0.0.1:8333", "bucket"),
        ("https://storage.googleapis.com", "bucket"),
        (None, "arn:aws:s3:eu-west-1:123456789012:accesspoint/tickets"),
    ],
)
def test_where_the_console_shows_nothing_there_is_no_link(endpoint: str | None, bucket: str) -> None:
    assert console_address(_client("eu-west-1", endpoint), bucket, "k") == ""


@pytest.mark.parametrize(("kept", "expected"), [("https://console", "https://console"), (None, "")])
def test_it_is_what_the_task_left(monkeypatch: pytest.MonkeyPatch, kept: Any, expected: str) -> None:
    asked = []

    class Kept:
        @staticmethod
        def get_value(*, key: str, ti_key: object) -> Any:
            asked.append((key, ti_key))
            return kept

    monkeypatch.setattr(link, "XCom", Kept)
    operator = LightspeedTicketsToS3Operator(task_id="export", s3_key="s3://b/k")
    (found,) = operator.operator_extra_links
    assert isinstance(found, S3ObjectLink)
    assert found.get_link(operator, ti_key="the key") == expected
    assert asked == [(S3ObjectLink.key, "the key")]


def test_airflow_knows_it() -> None:
    (path,) = get_provider_info()["extra-links"]
    assert path == f"{S3ObjectLink.__module__}.{S3ObjectLink.__qualname__}"
