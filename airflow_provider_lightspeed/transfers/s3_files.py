"""Small objects in S3, read and written whole."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

from airflow_provider_lightspeed._arguments import split_s3_address
from airflow_provider_lightspeed.api.errors import LightspeedConfigurationError
from airflow_provider_lightspeed.exceptions import LightspeedStorageError

#: Statuses that another try would get too: the bucket is in another region, no rights, nothing there.
_FINAL = {301, 401, 403, 404}


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
        :raises LightspeedStorageError: if S3 fails otherwise.
        """
        bucket, key = locate(uri)
        with _told(f"read {uri}"):
            data: bytes = self._client.get_object(Bucket=bucket, Key=key)["Body"].read()
        return data

    def write(self, uri: str, data: bytes) -> None:
        """Write an object, in place of what is there.

        :raises LightspeedConfigurationError: if there is no such bucket, or it may not be written.
        :raises LightspeedStorageError: if S3 fails otherwise.
        """
        bucket, key = locate(uri)
        with _told(f"write {uri}"):
            self._client.put_object(Bucket=bucket, Key=key, Body=data, ContentType="application/x-ndjson")

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


@contextmanager
def _told(what: str) -> Generator[None]:
    """Say what S3 has not done, and whether another try may help."""
    from botocore.exceptions import BotoCoreError, ClientError

    from airflow_provider_lightspeed.transfers.s3_object import status

    try:
        yield
    except ClientError as error:
        code = error.response.get("Error", {}).get("Code", status(error))
        if status(error) in _FINAL:
            raise LightspeedConfigurationError(f"S3 does not let us {what} ({code})") from error
        raise LightspeedStorageError(f"S3 failed to {what} ({code})") from error
    except BotoCoreError as error:
        raise LightspeedStorageError(f"S3 failed to {what}: {error}") from error
