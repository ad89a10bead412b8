"""Objects below one prefix in S3, written only where a condition holds."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any

from airflow_provider_lightspeed.s3.client import require_s3
from airflow_provider_lightspeed.s3.preflight import find_remedy

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

#: Objects up to this size stay in memory while they are read.
_IN_MEMORY = 8 * 1024 * 1024
_CHUNK = 1024 * 1024
#: Statuses of S3 and similar stores if a condition does not hold, or another write is under way.
_CONDITION_STATUSES = {409, 412}
#: Statuses of stores without conditional writes.
_UNKNOWN_STATUSES = {400, 405, 501}


class ConditionFailed(Exception):  # ruff: ignore[error-suffix-on-exception-name] - a finding: another writer was first
    """The condition of a write does not hold."""


class ConditionsUnknown(Exception):  # ruff: ignore[error-suffix-on-exception-name] - a finding
    """The store has no conditional writes."""


@dataclass(frozen=True)
class Found:
    """An object that is there.

    :param etag: names this version of it.
    :param metadata: user metadata.
    """

    etag: str
    metadata: dict[str, str]


@dataclass(frozen=True)
class Stored(Found):
    """An object, read.

    :param body: its bytes; closed by whoever reads them.
    """

    body: IO[bytes]


class Store:
    """Objects below a prefix.

    :param prefix: without a slash at its end.
    :param options: S3 arguments for each object (encryption, ACL).
    """

    def __init__(self, client: S3Client, bucket: str, prefix: str, options: dict[str, Any]) -> None:
        self._client = client
        self._bucket = bucket
        self._prefix = f"{prefix}/" if prefix else ""
        self._options = options

    def uri(self, name: str) -> str:
        """Return the address of an object."""
        return f"s3://{self._bucket}/{self._prefix}{name}"

    def find(self, name: str) -> Found | None:
        """Return what an object is, without its bytes; None if there is none."""
        from botocore.exceptions import ClientError

        try:
            found = self._client.head_object(Bucket=self._bucket, Key=self._prefix + name)
        except ClientError as error:
            # Without the right to list, S3 answers 403 for what is not there.
            if _status(error) in {403, 404}:
                return None
            raise
        return Found(require_s3(found), found.get("Metadata", {}))

    def get(self, name: str) -> Stored | None:
        """Return an object; None if there is none."""
        from botocore.exceptions import ClientError

        try:
            found = self._client.get_object(Bucket=self._bucket, Key=self._prefix + name)
        except ClientError as error:
            code = error.response.get("Error", {}).get("Code", "")
            # Without the right to list, S3 answers AccessDenied for what is not there.
            if code in {"NoSuchKey", "AccessDenied"} or (_status(error) == 404 and code != "NoSuchBucket"):
                return None
            raise
        etag = require_s3(found)
        body: IO[bytes] = tempfile.SpooledTemporaryFile(_IN_MEMORY)  # ruff: ignore[open-file-with-context-handler] - the reader closes it
        for chunk in found["Body"].iter_chunks(_CHUNK):
            body.write(chunk)
        body.seek(0)
        return Stored(etag, found.get("Metadata", {}), body)

    def put(
        self,
        name: str,
        body: bytes | IO[bytes],
        *,
        expect: str | None,
        metadata: dict[str, str] | None = None,
        content_type: str = "application/octet-stream",
    ) -> None:
        """Write an object in one request, if it is as expected.

        :param expect: etag of the object to replace; None if there must be none.
        :raises ConditionFailed: if it is not as expected.
        :raises ConditionsUnknown: if the store has no conditional writes.
        """
        from botocore.exceptions import ClientError

        condition: Any = {"IfNoneMatch": "*"} if expect is None else {"IfMatch": expect}
        try:
            written = self._client.put_object(
                Bucket=self._bucket,
                Key=self._prefix + name,
                Body=body,
                Metadata=metadata or {},
                ContentType=content_type,
                **condition,
                **self._options,
            )
        except ClientError as error:
            status = _status(error)
            code = error.response.get("Error", {}).get("Code", "")
            # 404: the object to replace is gone.
            if status in _CONDITION_STATUSES or (status == 404 and expect and code != "NoSuchBucket"):
                raise ConditionFailed(name) from error
            if status in _UNKNOWN_STATUSES and code in {
                "NotImplemented",
                "InvalidArgument",
                "InvalidRequest",
            }:
                raise ConditionsUnknown(str(error)) from error
            raise
        require_s3(written)

    def remedy(self, name: str) -> str:
        """Return which argument to set, if the store takes conditional writes with others; else an empty text.

        :param name: of an object that is written and deleted.
        """

        def trial(options: dict[str, Any], condition: dict[str, Any]) -> None:
            where: dict[str, Any] = {"Bucket": self._bucket, "Key": self._prefix + name}
            self._client.put_object(**where, Body=b"", **options, **condition)
            self._client.delete_object(**where)

        return find_remedy(trial, self._options, {"IfNoneMatch": "*"}, conditional=True)

    def names(self, folder: str, after: str = "") -> Iterator[str]:
        """Go through the names in a folder, in order.

        :param after: only names behind this one.
        """
        pages = self._client.get_paginator("list_objects_v2").paginate(
            Bucket=self._bucket,
            Prefix=self._prefix + folder,
            StartAfter=self._prefix + after if after else "",
        )
        for page in pages:
            for item in page.get("Contents", []):
                yield item["Key"].removeprefix(self._prefix)

    def delete(self, name: str) -> None:
        """Delete an object."""
        self._client.delete_object(Bucket=self._bucket, Key=self._prefix + name)


def _status(error: Any) -> int:
    number: int = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    return number
