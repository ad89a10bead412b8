"""Where an export or a scan keeps what it has read so far, until its object is complete."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import msgspec

from airflow_provider_lightspeed.exceptions import LightspeedStagingLostError
from airflow_provider_lightspeed.s3.client import require_s3, require_size

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

_AT_ONCE = 8


class Chunk(msgspec.Struct, frozen=True):
    """A staged part of the file."""

    name: str
    size: int


class Staging:
    """The staged parts of one export, in ``<first folder of the key>/_staging/<rest of the key>/<owner>/<export>/``.

    Query engines skip names that begin with an underscore, and one lifecycle rule reaches all staging below a folder.

    :param owner: of the export, the same in each try of a task instance; empty if there is none.
    :param export: the export's own id.
    :param options: boto's arguments for each write.
    """

    def __init__(
        self, client: S3Client, bucket: str, key: str, owner: str, export: str, options: dict[str, Any]
    ) -> None:
        first, slash, rest = key.partition("/") if "/" in key else ("", "", key)
        self._client = client
        self._bucket = bucket
        #: Where rows go that can't be read; a reader of the export does not look there.
        self.rejected_key = f"{first}{slash}_rejected/{rest}.jsonl"
        self._of_owner = f"{first}{slash}_staging/{rest}/{owner or export}/"
        self.folder = f"{self._of_owner}{export}/"
        self._options = options

    @property
    def rejected_uri(self) -> str:
        """Address of the object with rows that can't be read."""
        return f"s3://{self._bucket}/{self.rejected_key}"

    def new_key(self) -> str:
        """Return a key that is not used yet: a try that Airflow has given up may still be writing."""
        return self.folder + uuid4().hex[:12]

    def add(self, data: bytes | bytearray) -> Chunk:
        """Write a part."""
        key = self.new_key()
        require_s3(self._client.put_object(Bucket=self._bucket, Key=key, Body=bytes(data), **self._options))
        return Chunk(key.removeprefix(self.folder), len(data))

    def write_rejected(self, data: bytes) -> None:
        """Write, or replace, the object with rows that can't be read."""
        require_s3(
            self._client.put_object(
                Bucket=self._bucket,
                Key=self.rejected_key,
                Body=data,
                ContentType="application/x-ndjson",
                **self._options,
            )
        )

    def remove_rejected(self) -> None:
        """Remove that object, if it is there."""
        # On a versioned bucket, deleting what is not there leaves a marker each time.
        self._delete([key for key in self._list(self.rejected_key) if key == self.rejected_key])

    def has(self, chunks: Iterable[Chunk]) -> bool:
        """Return whether all these parts are there."""
        needed = {self.folder + chunk.name for chunk in chunks}
        return not needed or needed.issubset(self._list(self.folder))

    def read(self, chunks: Iterable[Chunk]) -> Iterator[bytes]:
        """Yield the parts, one in memory at a time.

        :raises LightspeedStagingLostError: if one is gone.
        :raises ResponseParserError: if one comes back in another size.
        """
        for chunk in chunks:
            key = self.folder + chunk.name
            try:
                data = self._client.get_object(Bucket=self._bucket, Key=key)["Body"].read()
            except self._client.exceptions.NoSuchKey:
                raise LightspeedStagingLostError(
                    f"s3://{self._bucket}/{key} is gone: a lifecycle rule or a person has removed it. No object was written; "
                    "the next try starts over"
                ) from None
            yield require_size(data, chunk.size)

    def remove(self) -> None:
        """Remove the parts."""
        self._delete(self._list(self.folder))

    def remove_earlier(self) -> None:
        """Remove what earlier tries with the same owner have left of other exports."""
        self._delete([key for key in self._list(self._of_owner) if not key.startswith(self.folder)])

    def _delete(self, keys: list[str]) -> None:
        # One by one: some stores have no DeleteObjects, or want another checksum with it than boto sends.
        with ThreadPoolExecutor(_AT_ONCE, "staging") as pool:
            list(pool.map(lambda key: self._client.delete_object(Bucket=self._bucket, Key=key), keys))

    def _list(self, prefix: str) -> list[str]:
        pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=self._bucket, Prefix=prefix)
        return [item["Key"] for page in pages for item in page.get("Contents", [])]
