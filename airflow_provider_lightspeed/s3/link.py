"""A link from the task page to the object in the AWS console."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from airflow_provider_lightspeed._airflow import BaseOperatorLink, XCom
from airflow_provider_lightspeed.s3.client import is_aws

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

_CONSOLES = {
    "aws": "console.aws.amazon.com",
    "aws-cn": "console.amazonaws.cn",
    "aws-us-gov": "console.amazonaws-us-gov.com",
}


class S3ObjectLink(BaseOperatorLink):
    """The object that a task wrote. There is none for another store than AWS."""

    name = "S3 object"
    #: The link's place in XCom.
    key = "s3_object_link"

    def get_link(self, operator: Any, *, ti_key: Any) -> str:  # ruff: ignore[unused-method-argument] - Airflow passes it
        """Return the address that the task has left in XCom."""
        address = XCom.get_value(key=self.key, ti_key=ti_key)
        return address if isinstance(address, str) else ""


def console_address(client: S3Client, bucket: str, key: str) -> str:
    """Return the address of an object in the AWS console; empty if the console does not show it."""
    host = _CONSOLES.get(client.meta.partition)
    if host is None or not is_aws(client) or bucket.startswith("arn:"):
        return ""
    region = client.meta.region_name
    return f"https://{region}.{host}/s3/object/{quote(bucket)}?region={region}&prefix={quote(key, safe='')}"
