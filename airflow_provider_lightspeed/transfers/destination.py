"""Where an export goes: what is there before it begins, and what is staged beside it until it ends."""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from airflow_provider_lightspeed.exceptions import LightspeedStorageError, LightspeedTaskFailed
from airflow_provider_lightspeed.transfers.lease import Lease
from airflow_provider_lightspeed.transfers.s3_object import S3Object, status
from airflow_provider_lightspeed.transfers.staging import Staging

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

log = logging.getLogger(__name__)


class Destination:
    """The target of one export, with its staging folder and its lease.

    :param owner: of the export, the same in each try.
    :param life: of the owner: its tries until it succeeds or is cleared.
    :param export: the export's own id.
    :param options: S3 arguments for the object (encryption, ACL).
    """

    def __init__(
        self,
        client: S3Client,
        bucket: str,
        key: str,
        *,
        owner: str,
        life: str,
        export: str,
        replace: bool,
        options: dict[str, Any],
    ) -> None:
        encryption = {name: value for name, value in options.items() if name != "ACL"}
        metadata = {"life": life} if life else {}
        self.target = S3Object(client, bucket, key, replace=replace, options=options, metadata=metadata)
        self.staging = Staging(client, bucket, key, owner, export, encryption)
        self.lease = Lease(self.staging.hold)
        self._export = export
        self._life = life
        self._bucket = bucket
        self._replace = replace

    def published(self, job: str) -> dict[str, str] | None:
        """Return the metadata of the object, if an earlier try has published it just before it was killed.

        :param job: what is exported where and how.
        :raises LightspeedTaskFailed: if the key is taken by anything else.
        """
        there = self.target.metadata()
        if there and there.get("job") == job:
            if self._life and there.get("life") == self._life:
                return there
            # A try that was killed may have been the last one, and the task cleared since. What a try has staged is
            # removed after its object is there: as long as anything is left, it has not succeeded.
            unfinished = {self._export} | self.staging.exports_of_owner()
            if there.get("export") in unfinished:
                return there
        if there and not self._replace:
            raise self.target.taken()
        return None

    def prepare(self) -> None:
        """Prove that S3 can be written, before any ticket is fetched."""
        self.lease.hold()

    def remove_dead(self) -> None:
        """Remove what dead runs have left, uploads of which nothing else is known included."""
        # In this order: who opens an upload holds a lease.
        uploads = self.target.open_uploads()
        others = self.staging.others(datetime.now(UTC))
        self.staging.delete(others.dead)
        if others.alive:
            uploads = []
        for upload in uploads:
            self.target.abort(upload)
        if others.dead or uploads:
            log.info(
                "Removed what dead runs had left for %s: %d staged things, %d uploads",
                self.target.uri, len(others.dead), len(uploads),
            )  # fmt: skip

    def clean_up(self) -> None:
        """Remove what is staged of an export that is done."""
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            self.staging.remove()
        except (BotoCoreError, ClientError) as error:
            raise LightspeedStorageError(
                f"{self.target.uri} is whole, but what was staged for it can't be removed: {error}. The next try "
                "does so, and fetches nothing again"
            ) from error

    def remove_staged(self) -> None:
        """Remove what is staged of an export that failed; where S3 does not let us, a later run does."""
        with suppress(LightspeedStorageError):
            self.clean_up()

    @contextmanager
    def before_any_call(self) -> Generator[None]:
        """Say in plain words why nothing can be written; no ticket was fetched yet."""
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            yield
        except ClientError as error:
            code = error.response.get("Error", {}).get("Code", "")
            if code == "NoSuchBucket" or status(error) == 404:
                raise LightspeedTaskFailed(
                    f"there is no S3 bucket {self._bucket!r}; no ticket was fetched"
                ) from error
            if status(error) in {401, 403}:
                raise LightspeedTaskFailed(
                    f"S3 refuses to let us write beside {self.target.uri} ({code}); check the AWS connection's "
                    "credentials and rights. No ticket was fetched"
                ) from error
            raise self._unwilling(error) from error
        except BotoCoreError as error:
            raise self._unwilling(error) from error

    def _unwilling(self, error: Exception) -> LightspeedStorageError:
        return LightspeedStorageError(
            f"S3 can't be used for {self.target.uri}: {error}. No ticket was fetched"
        )

    @contextmanager
    def while_exporting(self, kept: Callable[[], str]) -> Generator[None]:
        """Say what S3 has not done, and what it means.

        :param kept: says what the next try finds.
        """
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            yield
        except (BotoCoreError, ClientError) as error:
            raise LightspeedStorageError(
                f"S3 failed while tickets were being written to {self.target.uri}: {error}. No part of them is "
                f"visible there; {kept()}"
            ) from error
