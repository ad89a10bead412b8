"""One try of an export task."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from math import inf
from typing import TYPE_CHECKING, Any

import msgspec

from airflow_provider_lightspeed._checkpoint import Checkpoint
from airflow_provider_lightspeed.api.errors import LightspeedQuotaExhaustedError
from airflow_provider_lightspeed.api.tickets import TicketFilter
from airflow_provider_lightspeed.exceptions import NOT_RESUMABLE, LightspeedStorageError
from airflow_provider_lightspeed.formats import Format
from airflow_provider_lightspeed.quarantine import Quarantine
from airflow_provider_lightspeed.s3.client import WriteOptions, connect, s3_errors, s3_exceptions
from airflow_provider_lightspeed.s3.link import console_address
from airflow_provider_lightspeed.s3.staging import Staging
from airflow_provider_lightspeed.s3.target import MAPPED_TASK, ExportTarget
from airflow_provider_lightspeed.transfers.export import Export
from airflow_provider_lightspeed.transfers.progress import Progress, SavedProgress
from airflow_provider_lightspeed.transfers.redaction import Redaction

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

    from airflow_provider_lightspeed.hooks.lightspeed import LightspeedHook

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ExportJob:
    """What is exported, where and how.

    :param shop: stands for the shop.
    :param skip_if_empty: whether no object is written if no ticket matches.
    :param quarantine: whether malformed tickets are written aside.
    """

    shop: str
    bucket: str
    key: str
    tickets: TicketFilter
    file_format: Format
    redaction: Redaction
    include_messages: bool
    skip_if_empty: bool
    replace: bool
    quarantine: bool
    options: WriteOptions

    @property
    def uri(self) -> str:
        """The address of the object."""
        return f"s3://{self.bucket}/{self.key}"

    @property
    def hash(self) -> str:
        """Stands for what ends up in the object: the progress of another job is of no use for this one."""
        layout = asdict(self.file_format.layout) | {
            "exclude": sorted(self.redaction.exclude),
            "text": sorted(self.redaction.text_columns),
        }
        values = [
            self.quarantine,
            self.shop,
            self.bucket,
            self.key,
            asdict(self.tickets),
            layout,
            self.redaction.name,
        ]
        return hashlib.sha256(msgspec.json.encode(values)).hexdigest()

    @property
    def source(self) -> str:
        """Stands for the shop and the filters."""
        return hashlib.sha256(msgspec.json.encode([self.shop, asdict(self.tickets)])).hexdigest()[:16]

    @property
    def filters(self) -> str:
        """The filters, by the names of the arguments, for logs: without the customer's address."""
        shown = asdict(self.tickets)
        shown["customer_email"] = None if shown.pop("email") is None else "***"
        return (
            ", ".join(f"{name}={value}" for name, value in shown.items() if value is not None) or "no filter"
        )


class ExportAttempt:
    """One try: finds what earlier tries left, exports, and removes the staged parts.

    :param hook: returns a hook whose client waits so many seconds for quota; None: as the connection says.
    :param owner: of the export: the task instance, the same in each try; empty if there is none.
    :param generation: of the owner: its tries until it succeeds or is cleared.
    :param instance: of a mapped task: a name for task and run, and the map index.
    :ivar progress: what the export has done so far.
    :ivar console_address: of the object in the AWS console, empty for another store.
    """

    progress: Progress
    console_address: str

    def __init__(
        self,
        job: ExportJob,
        checkpoint: Checkpoint,
        *,
        hook: Callable[[float | None], LightspeedHook],
        aws_conn_id: str | None,
        owner: str,
        generation: str,
        instance: tuple[str, int] | None = None,
    ) -> None:
        self._job = job
        self._checkpoint = checkpoint
        self._hook = hook
        self._aws_conn_id = aws_conn_id
        self._owner = owner
        self._generation = generation
        self._instance = instance

    def run(self, state: dict[str, Any] | None, *, max_wait: float | None) -> int:
        """Export, and return the size of the object.

        :param state: what an earlier try has saved.
        :param max_wait: seconds to wait for quota; None: as the connection says.
        :raises LightspeedQuotaExhaustedError: when the quota needs longer. `resumable_state` is for the next try.
        """
        uri = self._job.uri
        with s3_errors(f"write {uri}", "No ticket was fetched"):
            size = self._prepare(state)
        if size is None:
            already = f"; {self.progress.tickets:,} are written already" if self.progress.tickets else ""
            log.info("Exporting tickets (%s) to %s%s", self._job.filters, uri, already)
            size = self._export(max_wait)
        with s3_errors("remove staged parts", f"{uri} is complete; the next try fetches nothing"):
            if not self.progress.rejected and (self.progress.tickets or not self._job.skip_if_empty):
                # Those there are of an object that this one has replaced.
                self._staging.remove_rejected()
            self._staging.remove()
        self._checkpoint.clear()
        return size

    @property
    def resumable_state(self) -> dict[str, Any]:
        """What was saved last."""
        return self._saved.state

    def _prepare(self, state: dict[str, Any] | None) -> int | None:
        """Resume or start, and prove that S3 can be written.

        :return: the size of the object, if an earlier try has published it.
        """
        client = connect(self._aws_conn_id)
        self.console_address = console_address(client, self._job.bucket, self._job.key)
        job, metadata = self._job, {"generation": self._generation} if self._generation else {}
        if self._instance:
            mapped_task, map_index = self._instance
            metadata |= {MAPPED_TASK: mapped_task, "map-index": str(map_index), "source": job.source}
        self._target = ExportTarget(
            client, job.bucket, job.key,
            replace=job.replace, options=job.options.for_objects, metadata=metadata,
        )  # fmt: skip
        self.progress = self._earlier(state)
        self._staging = self._stage_for(client, self.progress)
        existing = self._target.find_published(job.hash, self.progress.export)
        if self.progress.upload:
            self._target.abort(self.progress.upload)
            self.progress.upload = ""
        if existing is not None:
            log.info("An earlier try published %s just before it ended", job.uri)
            self.progress = Progress.of_object(existing)
            self._staging.remove_earlier()
            return int(existing["bytes"])
        if not self._staging.has(self.progress.staged):
            log.warning(
                "The staged parts of an earlier try are gone: a lifecycle rule or a person has removed them. Starting over"
            )
            self.progress = Progress.start(job.hash)
            self._staging = self._stage_for(client, self.progress)
        self._target.check_writable(self._staging.new_key())
        if job.options.for_staging != job.options.for_objects:
            self._staging.add(b"")
        self._staging.remove_earlier()
        self._saved = SavedProgress(self._checkpoint, self.progress)
        return None

    def _earlier(self, state: dict[str, Any] | None) -> Progress:
        """Return the progress of an earlier try, if it did the same job; else a start, with the upload to abort."""
        earlier = Progress.from_json(state)
        if earlier and earlier.job == self._job.hash:
            return earlier
        if earlier:
            log.info("An earlier try exported something else; starting over")
        abandoned = earlier or Progress.from_json(self._checkpoint.load_abandoned())
        progress = Progress.start(self._job.hash)
        progress.upload = abandoned.upload if abandoned else ""
        return progress

    def _stage_for(self, client: S3Client, progress: Progress) -> Staging:
        job = self._job
        return Staging(client, job.bucket, job.key, self._owner, progress.export, job.options.for_staging)

    def _export(self, max_wait: float | None) -> int:
        try:
            return self._read_list(max_wait)
        except LightspeedQuotaExhaustedError:
            raise
        except s3_exceptions() as error:
            self._stop()
            raise LightspeedStorageError(
                f"S3 failed while tickets were written to {self._job.uri}: {error}. No part of them is visible there; "
                f"{self._saved.summary}"
            ) from None
        except BaseException as error:
            self._stop(start_over=isinstance(error, NOT_RESUMABLE))
            raise

    def _read_list(self, max_wait: float | None) -> int:
        while True:
            hook, redaction = self._hook(max_wait), self._job.redaction
            shop = hook.get_conn()
            key = redaction.digest_key(shop.settings.secret)
            export = Export(
                shop,
                self._job.tickets,
                file_format=self._job.file_format,
                redaction=redaction,
                fetch=hook.iter_ticket_messages if self._job.include_messages else None,
                target=self._target,
                staging=self._staging,
                progress=self.progress,
                saved=self._saved,
                skip_if_empty=self._job.skip_if_empty,
                quarantine=Quarantine(key) if self._job.quarantine else None,
            )
            try:
                size = export.run()
            except LightspeedQuotaExhaustedError as error:
                if export.can_resume:
                    self._saved.note_quota(error.until)
                    raise
                # The list can't be resumed where it is, so this try must not be interrupted. Its next client knows
                # nothing of the quota: the shop would refuse the first call.
                log.info(
                    "%s. This list can't be resumed there: the task waits in its worker slot until %s UTC",
                    error.reason,
                    f"{error.until.astimezone(UTC):%Y-%m-%d %H:%M:%S}",
                )
                hook.get_conn().sleep(max(0.0, (error.until - datetime.now(UTC)).total_seconds()))
                calls, max_wait = self.progress.calls, inf
                self.progress = Progress.from_json(self._saved.state) or self.progress
                self.progress.calls = calls
            else:
                log.info("API quota: %s", hook.get_conn().quota or "unknown")
                return size

    def _stop(self, *, start_over: bool = False) -> None:
        """Log what the next try finds, and remove what it has no use for. Never raises: an error is on its way."""
        with suppress(Exception):
            if start_over:
                self._saved.reset()
            log.info("Stopped: %s", self._saved.summary)
            if not self._saved.is_useful:
                self._staging.remove()
