"""The object of an export: visible completely or not at all."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, cast

from airflow_provider_lightspeed.api.errors import LightspeedConfigurationError
from airflow_provider_lightspeed.exceptions import LightspeedStorageError, LightspeedTaskFailed
from airflow_provider_lightspeed.s3.client import error_code, require_s3, require_size, s3_exceptions
from airflow_provider_lightspeed.s3.preflight import find_remedy, naming_the_argument

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import CompletedPartTypeDef

# The least that S3 takes, since a part is held in memory.
_PART_SIZE = 5 * 1024 * 1024
#: The most that S3 takes: they make 48 GiB.
_MOST_PARTS = 10_000

#: Codes for a conditional write to a key that is taken, or is being written right now.
_TAKEN = frozenset({"412", "PreconditionFailed", "ConditionalRequestConflict"})


#: User metadata of an object that a mapped task wrote: which task and run. With it come ``map-index`` and ``source``.
MAPPED_TASK = "mapped-task"


class ExportTarget:
    """The object that an export writes.

    :param replace: whether an existing object may be replaced. If not, S3 itself refuses the second of two
        writers (conditional write), so that no race is lost.
    :param options: boto's arguments for the object (encryption, ACL).
    :param metadata: user metadata of the object.
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

    def existing(self) -> dict[str, str] | None:
        """Return the user metadata of the existing object, with its size; None if there is none."""
        from botocore.exceptions import ClientError

        try:
            return self._head()
        except ClientError as error:
            # Without the right to list, S3 answers 403 for what is not there. And a HEAD does not say why: the write
            # itself decides, and its error does.
            if error_code(error) in {"400", "403"}:
                return None
            raise

    def find_published(self, job: str, export: str) -> dict[str, str] | None:
        """Return the metadata of the object if an earlier try published it just before it was killed.

        :param job: what is exported where and how.
        :param export: id of the export that the checkpoint names. The task may have been cleared since.
        :raises LightspeedTaskFailed: if the key is taken by anything else.
        """
        existing = self.existing()
        self._refuse_other_instance(existing)
        if existing and existing.get("job") == job:
            generation = self._metadata.get("generation")
            if existing.get("export") == export or (generation and existing.get("generation") == generation):
                return existing
        if existing and self._condition:
            raise self._taken()
        return None

    def check_writable(self, key: str) -> None:
        """Prove that the store takes the writes of an export, with the arguments that they will have.

        :param key: of a small object that is written, read and removed.
        :raises LightspeedConfigurationError: if it does not, naming the argument to set.
        """

        def trial(options: dict[str, Any], condition: dict[str, Any]) -> None:
            self._probe(f"{key}-again", options, condition)

        with naming_the_argument(
            f"write {self.uri}",
            lambda: find_remedy(trial, self._options, self._condition),
            "No ticket was fetched",
        ):
            self._probe(key, self._options, self._condition)

    def _probe(self, key: str, options: dict[str, Any], condition: dict[str, Any]) -> None:
        from botocore.exceptions import ClientError

        where: dict[str, Any] = {"Bucket": self._where["Bucket"], "Key": key}
        upload = _Upload(self._client, where, options)
        try:
            upload.send(bytearray(b"probe"))
            self._client.put_object(**where, **options, **condition, Body=b"probe")
            require_size(self._client.get_object(**where)["Body"].read(), len(b"probe"))
            try:
                upload.complete(condition)
            except ClientError as error:
                if not condition or error_code(error) not in _TAKEN:
                    raise
            else:
                if condition:
                    raise LightspeedConfigurationError(
                        f"{self.uri} can't be protected from a second writer: the store ignores conditional writes "
                        "(If-None-Match). Set `replace=True`. No ticket was fetched"
                    )
        except BaseException:
            upload.abort()
            with suppress(*s3_exceptions()):
                self._client.delete_object(**where)
            raise
        upload.abort()
        self._client.delete_object(**where)

    def publish(
        self,
        chunks: Iterable[bytes],
        *,
        content_type: str,
        metadata: dict[str, str],
        opened: Callable[[str], None] = lambda _: None,
    ) -> int:
        """Write the object; return its size.

        :param metadata: further user metadata; its ``export`` tells this writer's object from any other's.
        :param opened: is called with the id of a multipart upload, for a later try to abort it.
        :raises LightspeedTaskFailed: if the key is taken.
        """
        settings: dict[str, Any] = {
            "ContentType": content_type,
            "Metadata": self._metadata | metadata,
            **self._options,
        }
        buffer = bytearray()
        size = 0
        upload = _Upload(self._client, self._where, settings, opened)
        try:
            for chunk in chunks:
                size += len(chunk)
                rest = memoryview(chunk)
                while len(buffer) + len(rest) > _PART_SIZE:
                    room = _PART_SIZE - len(buffer)
                    buffer += rest[:room]
                    rest = rest[room:]
                    upload.send(buffer)
                    buffer = bytearray()
                buffer += rest
            if upload.id:
                upload.send(buffer)
            if MAPPED_TASK in self._metadata and not self._condition:
                self._refuse_other_instance(self.existing())
            with self._last_write(metadata["export"]):
                if upload.id:
                    upload.complete(self._condition)
                else:
                    require_s3(
                        self._client.put_object(
                            **self._where, **settings, **self._condition, Body=_body(buffer)
                        )
                    )
        except BaseException:
            upload.abort()
            raise
        return size

    @contextmanager
    def _last_write(self, export: str) -> Generator[None]:
        """Look whether the object is there if the write that makes it visible fails.

        It may be done though its response is lost, or boto may have sent it twice.
        """
        try:
            yield
        except s3_exceptions() as error:
            try:
                existing = self._head()
            except s3_exceptions() as unknown:
                raise LightspeedStorageError(
                    f"S3 failed to write {self.uri}: {error}. Whether the object is there is unknown ({unknown}); the next "
                    "try checks this first"
                ) from None
            if existing and existing.get("export") == export:
                return
            if self._condition and existing:
                raise self._taken() from None
            raise

    def abort(self, upload: str) -> None:
        """Abort a multipart upload of an earlier try, if it is still open."""
        _Upload(self._client, self._where, {}, upload=upload).abort()

    def _refuse_other_instance(self, existing: dict[str, str] | None) -> None:
        """Keep what another instance of this mapped task has written in this run: mostly another shop's tickets.

        The same tickets may be written again: the list of instances may have changed before the run was cleared.

        :raises LightspeedTaskFailed: naming both instances.
        """
        mine, other = self._metadata, existing or {}
        is_sibling = mine.get(MAPPED_TASK) and mine[MAPPED_TASK] == other.get(MAPPED_TASK)
        if is_sibling and mine["map-index"] != other["map-index"] and mine["source"] != other["source"]:
            raise LightspeedTaskFailed(
                f"{self.uri} has the export of instance {other['map-index']} of this mapped task, with another shop or "
                f"filter. Instance {mine['map-index']} would replace it. Give each instance its own key: put "
                "{{ task.lightspeed_conn_id }} or {{ ti.map_index }} in s3_key. If the list of instances has changed since, "
                "delete the object"
            )

    def _taken(self) -> LightspeedTaskFailed:
        return LightspeedTaskFailed(
            f"{self.uri} exists already, and stays as it is. Set replace=True to replace it"
        )

    def _head(self) -> dict[str, str] | None:
        from botocore.exceptions import ClientError

        try:
            head = self._client.head_object(**self._where)
        except ClientError as error:
            if error_code(error) == "404":
                return None
            raise
        require_s3(head)
        return {**head.get("Metadata", {}), "bytes": str(head["ContentLength"])}


class _Upload:
    """A multipart upload, opened with its first part."""

    def __init__(
        self,
        client: S3Client,
        where: dict[str, Any],
        settings: dict[str, Any],
        opened: Callable[[str], None] = lambda _: None,
        *,
        upload: str = "",
    ) -> None:
        self.id = upload
        self._client = client
        self._where = where
        self._settings = settings
        self._opened = opened
        self._parts: list[CompletedPartTypeDef] = []

    def send(self, data: bytearray) -> None:
        if not self.id:
            opened = self._client.create_multipart_upload(**self._where, **self._settings)
            self.id = require_s3(opened, "UploadId")
            self._opened(self.id)
        number = len(self._parts) + 1
        if number > _MOST_PARTS:
            raise LightspeedTaskFailed(
                f"the object would have more than {_MOST_PARTS:,} parts of {_PART_SIZE // 1024**2} MiB, the most that S3 "
                "takes: export a part of the tickets at a time, or compress"
            )
        sent = self._client.upload_part(**self._where, UploadId=self.id, PartNumber=number, Body=_body(data))
        self._parts.append({"PartNumber": number, "ETag": require_s3(sent)})

    def complete(self, condition: dict[str, Any]) -> None:
        done = self._client.complete_multipart_upload(
            **self._where, **condition, UploadId=self.id, MultipartUpload={"Parts": self._parts}
        )
        require_s3(done)

    def abort(self) -> None:
        """Abort it if it is open. An error does not matter: another one may be on its way."""
        if self.id:
            with suppress(*s3_exceptions()):
                self._client.abort_multipart_upload(**self._where, UploadId=self.id)


def _body(data: bytearray) -> bytes:
    # botocore takes it as it is, though its types do not say so; a copy would be 5 MiB more.
    return cast("bytes", data)
