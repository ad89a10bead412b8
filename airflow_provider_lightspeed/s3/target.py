"""One S3 object, visible whole or not at all."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, cast

from airflow_provider_lightspeed.exceptions import LightspeedTaskFailed

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import CompletedPartTypeDef

log = logging.getLogger(__name__)

# The least that S3 takes, since a part is held in memory. Ten thousand, the most that S3 takes, make 48 GiB.
_PART_SIZE = 5 * 1024 * 1024


class S3Object:
    """The target of an export.

    :param replace: whether an object that is there may be replaced. If not, S3 itself refuses the second of two
        writers (conditional write), so that no race is lost.
    :param options: S3 arguments for the object (encryption, ACL).
    :param metadata: user metadata that each object published gets.
    """

    def __init__(
        self,
        client: S3Client,
        bucket: str,
        key: str,
        *,
        replace: bool,
        options: dict[str, Any],
        metadata: dict[str, str],
    ) -> None:
        self.uri = f"s3://{bucket}/{key}"
        self._client = client
        self._where: dict[str, Any] = {"Bucket": bucket, "Key": key}
        self._condition: dict[str, Any] = {} if replace else {"IfNoneMatch": "*"}
        self._options = options
        self._metadata = metadata

    def metadata(self) -> dict[str, str] | None:
        """Return the user metadata of the object that is there, with its size; None if there is none."""
        from botocore.exceptions import ClientError

        try:
            head = self._client.head_object(**self._where)
        except ClientError as error:
            # Without the right to list, S3 answers 403 for what is not there. The write itself decides.
            if status(error) in {403, 404}:
                return None
            raise
        return {**head.get("Metadata", {}), "bytes": str(head["ContentLength"])}

    def publish(self, chunks: Iterable[bytes], *, content_type: str, metadata: dict[str, str]) -> int:
        """Write the object; return its size. When this raises, no object is there, whole or in part.

        :param metadata: further user metadata; its ``export`` tells this writer's object from any other's.
        :raises LightspeedTaskFailed: if the key is taken.
        """
        from botocore.exceptions import ClientError

        settings: dict[str, Any] = {
            "ContentType": content_type,
            "Metadata": self._metadata | metadata,
            **self._options,
        }
        try:
            return self._write(iter(chunks), settings)
        except ClientError as error:
            # Also 409: another conditional write ends just now.
            if status(error) not in {404, 409, 412}:
                raise
            there = self.metadata()
            if there and there.get("export") == metadata["export"]:
                # The answer to the write was lost, and boto has sent it again.
                return int(there["bytes"])
            if self._condition and (there or status(error) == 412):
                raise self.taken() from error
            raise

    def open_uploads(self) -> list[str]:
        """Return the ids of multipart uploads to the key that are under way, or were when their writer was killed."""
        from botocore.exceptions import ClientError

        bucket, key = self._where["Bucket"], self._where["Key"]
        pages = self._client.get_paginator("list_multipart_uploads").paginate(Bucket=bucket, Prefix=key)
        try:
            return [
                upload["UploadId"]
                for page in pages
                for upload in page.get("Uploads", [])
                if upload["Key"] == key
            ]
        except ClientError as error:
            log.info("Multipart uploads that killed runs may have left are not looked for: %s", error)
            return []

    def abort(self, upload: str) -> None:
        """Abort a multipart upload."""
        from botocore.exceptions import BotoCoreError, ClientError

        # It may be gone. If S3 is down, the next run finds it.
        with suppress(BotoCoreError, ClientError):
            self._client.abort_multipart_upload(**self._where, UploadId=upload)

    def taken(self) -> LightspeedTaskFailed:
        """Build the error for a key that has an object."""
        return LightspeedTaskFailed(f"{self.uri} exists already; set replace=True to replace it")

    def _write(self, chunks: Iterable[bytes], settings: dict[str, Any]) -> int:
        buffer = bytearray()
        size = 0
        parts: list[CompletedPartTypeDef] = []
        upload = ""

        def send(data: bytearray) -> None:
            nonlocal upload
            if not upload:
                upload = self._client.create_multipart_upload(**self._where, **settings)["UploadId"]
            number = len(parts) + 1
            answer = self._client.upload_part(
                **self._where, UploadId=upload, PartNumber=number, Body=_body(data)
            )
            parts.append({"PartNumber": number, "ETag": answer["ETag"]})

        try:
            for chunk in chunks:
                size += len(chunk)
                rest = memoryview(chunk)
                while len(buffer) + len(rest) > _PART_SIZE:
                    room = _PART_SIZE - len(buffer)
                    buffer += rest[:room]
                    rest = rest[room:]
                    send(buffer)
                    buffer = bytearray()
                buffer += rest
            if not upload:
                self._client.put_object(**self._where, **settings, **self._condition, Body=_body(buffer))
                return size
            send(buffer)
            self._client.complete_multipart_upload(
                **self._where, **self._condition, UploadId=upload, MultipartUpload={"Parts": parts}
            )
        except BaseException:
            if upload:
                self.abort(upload)
            raise
        return size


def _body(data: bytearray) -> bytes:
    # botocore takes it as it is, though its types do not say so; a copy would be 5 MiB more.
    return cast("bytes", data)


def status(error: Any) -> int:
    """Return the HTTP status of botocore's ``ClientError``."""
    number: int = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    return number
