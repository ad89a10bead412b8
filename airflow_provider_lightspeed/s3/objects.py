"""Small objects by their ``s3://`` address, read and written in one request."""

from __future__ import annotations

import logging
from functools import cached_property
from typing import TYPE_CHECKING, Any

from airflow_provider_lightspeed.s3.client import (
    WriteOptions,
    connect,
    parse_s3_uri,
    require_s3,
    s3_errors,
    s3_exceptions,
)
from airflow_provider_lightspeed.s3.preflight import find_remedy, naming_the_argument

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

log = logging.getLogger(__name__)

_PLAIN = WriteOptions()
_NOTHING_DONE = "No API call was made"


class S3Objects:
    """Reads and writes objects.

    :param aws_conn_id: connection to S3.
    :param options: what each write carries.
    """

    def __init__(self, aws_conn_id: str | None, options: WriteOptions = _PLAIN) -> None:
        self._aws_conn_id = aws_conn_id
        self._options = options

    def read(self, uri: str) -> bytes:
        """Return an object.

        :raises LightspeedConfigurationError: if there is none, or it may not be read.
        :raises LightspeedStorageError: if S3 fails otherwise.
        """
        bucket, key = parse_s3_uri(uri)
        with s3_errors(f"read {uri}"):
            found = self._client.get_object(Bucket=bucket, Key=key)
            require_s3(found)
            return found["Body"].read()

    def write(self, uri: str, data: bytes) -> None:
        """Write an object of JSON Lines; it replaces an existing one.

        :raises LightspeedConfigurationError: if there is no such bucket, or it may not be written.
        :raises LightspeedStorageError: if S3 fails otherwise.
        """
        bucket, key = parse_s3_uri(uri)
        with s3_errors(f"write {uri}"):
            self._put(bucket, key, data, self._options.for_objects)

    def check_writable(self, uri: str) -> None:
        """Prove that an object can be written, with a small one in ``_staging/`` beside it, which is removed.

        An object that exists at this address stays as it is.

        :raises LightspeedConfigurationError: if the store refuses it, naming the argument to set.
        :raises LightspeedStorageError: if S3 fails otherwise.
        """
        bucket, key = parse_s3_uri(uri)
        folder, slash, _ = key.rpartition("/")
        # One name: without the right to delete, no more than one object stays.
        probe = f"{folder}{slash}_staging/probe.jsonl"
        options = self._options.for_objects

        def trial(options: dict[str, Any], _: dict[str, Any]) -> None:
            self._put(bucket, probe, b"", options)

        def remedy() -> str:
            found = find_remedy(trial, options, {})
            if found:
                self._remove(bucket, probe)
            return found

        action = f"write {uri}"
        with s3_errors(action, _NOTHING_DONE), naming_the_argument(action, remedy, _NOTHING_DONE):
            trial(options, {})
        self._remove(bucket, probe)

    def _put(self, bucket: str, key: str, data: bytes, options: dict[str, Any]) -> None:
        require_s3(
            self._client.put_object(
                Bucket=bucket, Key=key, Body=data, ContentType="application/x-ndjson", **options
            )
        )

    def _remove(self, bucket: str, key: str) -> None:
        try:
            self._client.delete_object(Bucket=bucket, Key=key)
        except s3_exceptions() as error:
            # What is written here needs no right to delete.
            log.info("s3://%s/%s stays there, it can't be deleted: %s", bucket, key, error)

    @cached_property
    def _client(self) -> S3Client:
        return connect(self._aws_conn_id)
