"""Where an export keeps what it has written so far, beside its target, until the object is whole."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import msgspec

from airflow_provider_lightspeed.exceptions import LightspeedStagingLostError, LightspeedStorageError

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

_LEASE = "lease"
_DELETED_AT_ONCE = 1000


class Piece(msgspec.Struct, frozen=True):
    """Bytes of a file, staged.

    :ivar size: how many they are. What lies behind them in the staged object is not in the file.
    """

    name: str
    size: int


@dataclass(frozen=True)
class Others:
    """What other exports of the same object have staged.

    :param alive: whether one of them is to be taken for alive.
    :param dead: keys that nobody will read any more.
    """

    alive: bool
    dead: list[str]


class Staging:
    """A folder of one export: ``_staging/<object>/<owner>-<export>/``.

    Query engines pass over names that begin with an underscore. A *lease* in the folder says until when the export
    is to be taken for alive; other runs leave it alone so long, and remove it after.

    :param owner: of the export: another try with the same owner proves that the export is dead.
    :param export: the export's own id.
    :param options: S3 arguments for what is written (encryption).
    """

    def __init__(
        self, client: S3Client, bucket: str, key: str, owner: str, export: str, options: dict[str, Any]
    ) -> None:
        folder, slash, name = key.rpartition("/")
        self._client = client
        self._bucket = bucket
        self._all = f"{folder}{slash}_staging/{name}/"
        self._mine = f"{self._all}{owner}-" if owner else ""
        self._home = f"{self._all}{owner}-{export}/"
        self._options = options

    def hold(self, until: datetime) -> None:
        """Be alive until an instant. It is the first thing written, and so proves bucket and rights."""
        self._put(_LEASE, until.astimezone(UTC).isoformat().encode())

    def add(self, data: bytes | bytearray, behind: bytes = b"") -> Piece:
        """Keep a piece, and something behind it. No name is used twice: a try that was given up may still be writing."""
        name = uuid4().hex[:12]
        self._put(name, bytes(data) + behind)
        return Piece(name, len(data))

    def has(self, pieces: Iterable[Piece]) -> bool:
        """Say whether all these pieces are there."""
        wanted = {self._home + piece.name for piece in pieces}
        return not wanted or wanted.issubset(self._list(self._home))

    def read(self, pieces: Iterable[Piece]) -> Iterator[bytes]:
        """Go through pieces, one in memory at a time.

        :raises LightspeedStagingLostError: if one is gone.
        """
        for piece in pieces:
            yield self._read(piece)[: piece.size]

    def read_behind(self, piece: Piece) -> bytes:
        """Return what lies behind a piece.

        :raises LightspeedStagingLostError: if it is gone.
        """
        return self._read(piece)[piece.size :]

    def _read(self, piece: Piece) -> bytes:
        key = self._home + piece.name
        try:
            return self._client.get_object(Bucket=self._bucket, Key=key)["Body"].read()
        except self._client.exceptions.NoSuchKey as error:
            raise LightspeedStagingLostError(
                f"s3://{self._bucket}/{key} is gone: somebody has emptied the staging folder, or a lifecycle rule of "
                "the bucket has. No object was written, and what was staged is of no use any more; the next try "
                "starts again"
            ) from error

    def remove(self) -> None:
        """Remove the folder."""
        self.delete(self._list(self._home))

    def exports_of_owner(self) -> set[str]:
        """Return the ids of the owner's exports of which something is there."""
        keys = self._list(self._mine) if self._mine else []
        return {key.removeprefix(self._mine).partition("/")[0] for key in keys}

    def others(self, now: datetime) -> Others:
        """Look at what other exports of the same object have staged."""
        keys = [key for key in self._list(self._all) if not key.startswith(self._home)]
        alive = {
            key.removesuffix(_LEASE)
            for key in keys
            if key.endswith(f"/{_LEASE}") and not self._is_mine(key) and self._leased_until(key) > now
        }
        return Others(bool(alive), [key for key in keys if key.rpartition("/")[0] + "/" not in alive])

    def delete(self, keys: list[str]) -> None:
        """Delete objects by their keys."""
        for start in range(0, len(keys), _DELETED_AT_ONCE):
            objects = [{"Key": key} for key in keys[start : start + _DELETED_AT_ONCE]]
            answer = self._client.delete_objects(
                Bucket=self._bucket,
                Delete={"Objects": objects, "Quiet": True},  # type: ignore[typeddict-item]
            )
            # S3 answers 200 for what it has not deleted too. What is left would look like an export not yet done.
            for refusal in answer.get("Errors", []):
                raise LightspeedStorageError(
                    f"S3 did not delete s3://{self._bucket}/{refusal['Key']} ({refusal['Code']}): what is staged must "
                    "go when it is used no more. Check the AWS connection's rights to delete"
                )

    def _is_mine(self, key: str) -> bool:
        return bool(self._mine) and key.startswith(self._mine)

    def _leased_until(self, key: str) -> datetime:
        from botocore.exceptions import ClientError

        try:
            text = self._client.get_object(Bucket=self._bucket, Key=key)["Body"].read()
        except ClientError:
            return datetime.max.replace(tzinfo=UTC)  # it ends just now, and cleans up by itself
        try:
            return datetime.fromisoformat(text.decode()).astimezone(UTC)
        except ValueError:
            return datetime.max.replace(tzinfo=UTC)  # another version's, perhaps: not for us to remove

    def _put(self, name: str, data: bytes) -> None:
        self._client.put_object(Bucket=self._bucket, Key=self._home + name, Body=data, **self._options)

    def _list(self, prefix: str) -> list[str]:
        pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=self._bucket, Prefix=prefix)
        return [item["Key"] for page in pages for item in page.get("Contents", [])]
