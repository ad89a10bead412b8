"""One S3 object, written as a stream and visible whole or not at all."""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING, Self

from airflow_provider_lightspeed.exceptions import LightspeedTaskFailed

if TYPE_CHECKING:
    from botocore.exceptions import ClientError
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import CompletedPartTypeDef

# Ten thousand parts, the most that S3 takes, make 78 GiB.
_PART_SIZE = 8 * 1024 * 1024


class S3ObjectWriter:
    """A sink for bytes that becomes one object at the end of the ``with`` block.

    The upload is opened first: that proves the bucket and the right to write before any work is done.
    When the block raises, neither an object nor an open upload is left.

    :param replace: whether an object that is there may be replaced. If not, the shop of objects itself refuses
        the second of two writers (conditional write), so that no race is lost.
    :raises LightspeedTaskFailed: if there is no such bucket, no right to write, or the key is taken.
    """

    def __init__(
        self, client: S3Client, bucket: str, key: str, *, replace: bool, content_type: str = ""
    ) -> None:
        self.uri = f"s3://{bucket}/{key}"
        self.size = 0
        self._client = client
        self._bucket = bucket
        self._key = key
        self._replace = replace
        self._content_type = content_type or "application/octet-stream"
        self._buffer = bytearray()
        self._parts: list[CompletedPartTypeDef] = []
        self._upload_id = ""

    def __enter__(self) -> Self:
        from botocore.exceptions import ClientError

        if not self._replace and self._exists():
            raise self._taken()
        try:
            self._upload_id = self._client.create_multipart_upload(
                Bucket=self._bucket, Key=self._key, ContentType=self._content_type
            )["UploadId"]
        except ClientError as error:
            raise self._refused(error) from error
        return self

    def write(self, data: bytes) -> int:
        """Take bytes, and send them as soon as they make a part."""
        self._buffer += data
        self.size += len(data)
        while len(self._buffer) >= _PART_SIZE:
            self._send(bytes(self._buffer[:_PART_SIZE]))
            del self._buffer[:_PART_SIZE]
        return len(data)

    def flush(self) -> None:
        """Do nothing: what is too small for a part cannot be sent yet."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            self._abort()
            return
        try:
            self._publish()
        except BaseException:
            self._abort()
            raise

    def _send(self, part: bytes) -> None:
        number = len(self._parts) + 1
        answer = self._client.upload_part(
            Bucket=self._bucket, Key=self._key, UploadId=self._upload_id, PartNumber=number, Body=part
        )
        self._parts.append({"PartNumber": number, "ETag": answer["ETag"]})

    def _publish(self) -> None:
        from botocore.exceptions import ClientError

        if self._buffer or not self._parts:
            self._send(bytes(self._buffer))
        condition = {} if self._replace else {"IfNoneMatch": "*"}
        try:
            self._client.complete_multipart_upload(
                Bucket=self._bucket,
                Key=self._key,
                UploadId=self._upload_id,
                MultipartUpload={"Parts": self._parts},
                **condition,  # type: ignore[arg-type]
            )
        except ClientError as error:
            if _status(error) in {409, 412}:
                raise self._taken() from error
            raise

    def _abort(self) -> None:
        self._client.abort_multipart_upload(Bucket=self._bucket, Key=self._key, UploadId=self._upload_id)

    def _exists(self) -> bool:
        from botocore.exceptions import ClientError

        try:
            self._client.head_object(Bucket=self._bucket, Key=self._key)
        except ClientError as error:
            # Without the right to list, S3 answers 403 for what is not there. The write itself decides.
            if _status(error) in {403, 404}:
                return False
            raise
        return True

    def _taken(self) -> LightspeedTaskFailed:
        return LightspeedTaskFailed(f"{self.uri} exists already; set replace=True to replace it")

    def _refused(self, error: ClientError) -> Exception:
        code = error.response.get("Error", {}).get("Code", "")
        if code == "NoSuchBucket" or _status(error) == 404:
            return LightspeedTaskFailed(f"there is no S3 bucket {self._bucket!r}; no ticket was fetched")
        if _status(error) in {401, 403}:
            return LightspeedTaskFailed(
                f"S3 refuses to write {self.uri} ({code}); check the AWS connection's credentials and rights"
            )
        return error


def _status(error: ClientError) -> int:
    return error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
