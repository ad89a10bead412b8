"""Small objects in S3, read and written whole."""

from __future__ import annotations

from typing import Any

from airflow_provider_lightspeed.api.errors import LightspeedConfigurationError
from airflow_provider_lightspeed.arguments import split_s3_address


class S3Files:
    """Objects by their ``s3://`` address.

    :param aws_conn_id: connection to S3.
    """

    def __init__(self, aws_conn_id: str | None) -> None:
        self._aws_conn_id = aws_conn_id
        self._made: Any = None

    def read(self, uri: str) -> bytes:
        """Return an object.

        :raises LightspeedConfigurationError: if there is none, or it may not be read.
        """
        from botocore.exceptions import ClientError

        bucket, key = locate(uri)
        try:
            data: bytes = self._client.get_object(Bucket=bucket, Key=key)["Body"].read()
        except ClientError as error:
            raise _refusal("read", uri, error) from error
        return data

    def write(self, uri: str, data: bytes) -> None:
        """Write an object, in place of what is there.

        :raises LightspeedConfigurationError: if it may not be written.
        """
        from botocore.exceptions import ClientError

        bucket, key = locate(uri)
        try:
            self._client.put_object(Bucket=bucket, Key=key, Body=data, ContentType="application/x-ndjson")
        except ClientError as error:
            raise _refusal("write", uri, error) from error

    @property
    def _client(self) -> Any:
        if self._made is None:
            # boto3 is loaded when it is needed, not with the DAG file.
            from airflow.providers.amazon.aws.hooks.s3 import S3Hook

            self._made = S3Hook(aws_conn_id=self._aws_conn_id).get_conn()
        return self._made


def locate(uri: str) -> tuple[str, str]:
    """Take an address apart into bucket and key.

    :raises LightspeedConfigurationError: if it is none.
    """
    bucket, key = split_s3_address(uri) or ("", "")
    if not bucket or not key:
        raise LightspeedConfigurationError(f"an address such as s3://bucket/key is needed, got {uri!r}")
    return bucket, key


def _refusal(verb: str, uri: str, error: Any) -> Exception:
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    if status >= 500:
        return error  # type: ignore[no-any-return]
    code = error.response.get("Error", {}).get("Code", status)
    return LightspeedConfigurationError(f"S3 does not let us {verb} {uri} ({code})")
