"""Where an export keeps what it has written so far, beside its target, until the object is whole."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from uuid import uuid4

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

_LEASE = "lease"
_DELETED_AT_ONCE = 1000


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
        self._key = key
        self._owner = owner
        self._all = f"{folder}{slash}_staging/{name}/"
        self._home = f"{self._all}{owner}-{export}/"
        self._options = options

    def hold(self, until: datetime) -> None:
        """Be alive until an instant. It is the first thing written, and so proves bucket and rights."""
        self._put(_LEASE, until.astimezone(UTC).isoformat().encode())

    def add(self, data: bytes) -> str:
        """Keep a piece and return its name. No name is used twice: a try that was given up may still be writing."""
        name = uuid4().hex[:12]
        self._put(name, data)
        return name

    def read(self, names: Iterable[str]) -> Iterator[bytes]:
        """Go through pieces, one in memory at a time."""
        for name in names:
            yield self._client.get_object(Bucket=self._bucket, Key=self._home + name)["Body"].read()

    def remove(self) -> None:
        """Remove the folder."""
        self._delete(self._list(self._home))

    def remove_dead(self, now: datetime) -> int:
        """Remove what dead exports of the same object have left; return how many things that were."""
        keys = [key for key in self._list(self._all) if not key.startswith(self._home)]
        alive = {
            key.removesuffix(_LEASE)
            for key in keys
            if key.endswith(f"/{_LEASE}") and not self._is_mine(key) and self._leased_until(key) > now
        }
        dead = [key for key in keys if key.rpartition("/")[0] + "/" not in alive]
        self._delete(dead)
        return len(dead)

    def _is_mine(self, key: str) -> bool:
        return bool(self._owner) and key.startswith(f"{self._all}{self._owner}-")

    def _leased_until(self, key: str) -> datetime:
        from botocore.exceptions import ClientError

        try:
            text = self._client.get_object(Bucket=self._bucket, Key=key)["Body"].read().decode()
        except ClientError:
            return datetime.max.replace(tzinfo=UTC)  # it ends just now, and cleans up by itself
        return datetime.fromisoformat(text)

    def _put(self, name: str, data: bytes) -> None:
        self._client.put_object(Bucket=self._bucket, Key=self._home + name, Body=data, **self._options)

    def _list(self, prefix: str) -> list[str]:
        pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=self._bucket, Prefix=prefix)
        return [item["Key"] for page in pages for item in page.get("Contents", [])]

    def _delete(self, keys: list[str]) -> None:
        for start in range(0, len(keys), _DELETED_AT_ONCE):
            objects = [{"Key": key} for key in keys[start : start + _DELETED_AT_ONCE]]
            self._client.delete_objects(
                Bucket=self._bucket,
                Delete={"Objects": objects, "Quiet": True},  # type: ignore[typeddict-item]
            )
