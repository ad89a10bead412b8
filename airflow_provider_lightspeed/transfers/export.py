"""An export from the first page to the object, resumable after every few pages."""

from __future__ import annotations

import gc
import logging
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, cast

from airflow_provider_lightspeed.api.client import LightspeedClient
from airflow_provider_lightspeed.api.errors import (
    LightspeedConfigurationError,
    LightspeedIncompleteListError,
    LightspeedQuotaExhaustedError,
)
from airflow_provider_lightspeed.api.list_progress import ListProgress
from airflow_provider_lightspeed.api.paging import Cursor, Page
from airflow_provider_lightspeed.api.tickets import PAGE_SIZE, TicketFilter
from airflow_provider_lightspeed.api.wording import counted
from airflow_provider_lightspeed.cancellation import Cancelled
from airflow_provider_lightspeed.formats import Format
from airflow_provider_lightspeed.quarantine import Quarantine
from airflow_provider_lightspeed.s3.staging import Staging
from airflow_provider_lightspeed.s3.target import ExportTarget
from airflow_provider_lightspeed.transfers.messages import AT_ONCE, with_messages
from airflow_provider_lightspeed.transfers.progress import RESTART_MARGIN, Progress, SavedProgress
from airflow_provider_lightspeed.transfers.redaction import Redaction

log = logging.getLogger(__name__)

#: A killed export asks again for no more than this, and what is under way.
_CALLS_AT_RISK = 30
#: Conversations fetched between two points from which an export can resume.
_BATCH = 32
_BYTES_AT_RISK = 16 * 1024 * 1024
#: So many calls may be made again after a deferral that came before anything was written.
_FEW_CALLS = 5
#: After so many windows of the quota in a row that did not help, the task waits for the rest on its worker.
_MAX_STALLS = 3
#: A page is read, and then the messages of a ticket.
_FEWEST_CALLS_WITH_MESSAGES = 2
#: Ids that a checkpoint holds at most, with room to spare in the 64 KiB at which Airflow warns.
_REMEMBERED = 16 * PAGE_SIZE


class Export:
    """Reads the list, encodes and stages the tickets, and publishes the object.

    :param fetch: the messages of a ticket id, if they are part of the export.
    :param saved: keeps progress for the next try.
    :param skip_if_empty: whether no object is written if no ticket matches.
    :param quarantine: takes malformed tickets; without one they are an error.
    :raises LightspeedQuotaExhaustedError: (from `run`) when the quota needs longer than the client waits. `progress` is
        saved and can be resumed, unless `can_resume` is false: then only from what was saved last.
    """

    def __init__(
        self,
        client: LightspeedClient,
        tickets: TicketFilter,
        *,
        file_format: Format,
        redaction: Redaction,
        fetch: Callable[[int], Iterable[Any]] | None,
        target: ExportTarget,
        staging: Staging,
        progress: Progress,
        saved: SavedProgress,
        skip_if_empty: bool = False,
        quarantine: Quarantine | None = None,
    ) -> None:
        self.progress = progress
        self._client = client
        self._tickets = tickets
        self._format = file_format
        self._redaction = redaction
        self._fetch = fetch
        self._target = target
        self._staging = staging
        self._saved = saved
        self._skip_if_empty = skip_if_empty
        self._quarantine = quarantine
        self._buffer = bytearray()
        self._tickets_staged = progress.tickets
        # Written before this try, and not yet seen again.
        self._to_skip = set(progress.seen_ids)
        # Shown by the list since its last cursor.
        self._since_cursor: list[int] = []
        self._calls_before = progress.calls - client.calls
        self._calls_saved = self._calls_moved = client.calls
        self._reading = ListProgress(
            client,
            tickets,
            "Exporting about {} tickets",
            calls=progress.calls,
            calls_per_ticket=1 if fetch else 0,
            at_once=AT_ONCE,
            expected=progress.expected,
        )

    @property
    def can_resume(self) -> bool:
        """Whether an interruption now loses little: otherwise each try would read the same part of the list again."""
        is_near = self._client.calls - self._calls_moved <= _FEW_CALLS
        return self._is_resumable and is_near and self.progress.stalls < _MAX_STALLS

    @property
    def _is_resumable(self) -> bool:
        return len(self._since_cursor) <= _REMEMBERED

    def run(self) -> int:
        """Fetch what is left, publish the object and return its size."""
        self._wait_for_quota()
        before = self._position
        self._format.resume(self.progress.format_state)
        if self._quarantine is not None and self.progress.quarantine:
            self._quarantine.decode(b"".join(self._staging.read([self.progress.quarantine])))
        try:
            with _loaded_is_kept():
                for page in self._pages(self.progress.cursor):
                    self._process_page(page)
            self._confirm_empty()
        except LightspeedQuotaExhaustedError:
            self._refuse_one_call()
            self.progress.stalls = self.progress.stalls + 1 if self._position == before else 0
            if self.can_resume:
                self._save()
            raise
        except Cancelled:
            if self._is_resumable:
                self._save()
            raise
        finally:
            self.progress.calls = self._calls_before + self._client.calls
        self._write_rejected()
        return 0 if self._skip_if_empty and self._is_empty else self._publish()

    @property
    def _is_empty(self) -> bool:
        return not self.progress.tickets and not self._quarantine

    @property
    def _position(self) -> tuple[int, Cursor | None]:
        return self.progress.tickets, self.progress.cursor

    def _refuse_one_call(self) -> None:
        if self._fetch and self._client.calls_per_window < _FEWEST_CALLS_WITH_MESSAGES:
            raise LightspeedConfigurationError(
                f"the quota is too small for messages: a page is read and then the messages of a ticket, which takes "
                f"{_FEWEST_CALLS_WITH_MESSAGES} API calls, and a window allows {self._client.calls_per_window:.0f} "
                f"({self._client.quota}); {counted(self.progress.tickets, 'ticket')} read so far. Ask for a larger quota, or lower "
                "quota_reserve"
            )

    def _pages(self, cursor: Cursor | None) -> Iterator[Page]:
        return self._client.iter_pages(self._tickets, cursor, keep_malformed=self._quarantine is not None)

    def _confirm_empty(self) -> None:
        """Read an empty list again before it replaces an object with tickets: a shop that fails over may answer so."""
        if not self._is_empty or self._skip_if_empty:
            return
        existing = self._target.existing()
        if existing is None or existing.get("tickets") == "0":
            return
        log.info("No ticket matches, but %s has some: reading the list again", self._target.uri)
        for page in self._pages(None):
            if page.tickets:
                raise LightspeedIncompleteListError(
                    f"the shop listed no ticket, and then some. {self._target.uri} stays as it is", seen=0
                )

    def _wait_for_quota(self) -> None:
        if self.progress.not_before is not None:
            left = self.progress.not_before - datetime.now(UTC)
            self._client.sleep(max(0.0, min(left, RESTART_MARGIN).total_seconds()))
            self.progress.not_before = None

    def _process_page(self, page: Page) -> None:
        if self._quarantine is not None:
            self._quarantine.add(page.rejected)
        fresh = [row for row in page.tickets if row["id"] not in self._to_skip]
        tickets = cast("list[dict[str, Any]]", fresh)
        if self._fetch:
            for start in range(0, len(tickets), _BATCH):
                self._write_with_messages(tickets[start : start + _BATCH], self._fetch)
                self._save_in_time()
        else:
            self._write(tickets)
        seen = {row["id"] for row in page.tickets} & self._to_skip
        self._to_skip -= seen
        self._since_cursor += seen
        if page.cursor is not None:
            self.progress.cursor = page.cursor
            self._since_cursor.clear()
            self._calls_moved = self._client.calls
        self._save_in_time()
        self._report(page)

    def _write_with_messages(
        self, tickets: list[dict[str, Any]], fetch: Callable[[int], Iterable[Any]]
    ) -> None:
        done, missing, exhausted = with_messages(tickets, fetch)
        self.progress.without_messages += missing
        self._write(done)
        if exhausted:
            raise exhausted

    def _write(self, tickets: list[dict[str, Any]]) -> None:
        if not tickets:
            return
        ids = [ticket["id"] for ticket in tickets]
        progress = self.progress
        progress.tickets += len(ids)
        progress.min_id = min(ids) if progress.min_id is None else min(progress.min_id, *ids)
        progress.max_id = max(ids) if progress.max_id is None else max(progress.max_id, *ids)
        self._buffer += self._format.encode([self._redaction.apply(ticket) for ticket in tickets])
        if self._is_resumable:
            self._since_cursor += ids
            self._calls_moved = self._client.calls

    def _save_in_time(self) -> None:
        is_full = len(self._buffer) >= _BYTES_AT_RISK
        if self._is_resumable and (is_full or self._client.calls - self._calls_saved >= _CALLS_AT_RISK):
            self._save()
        elif is_full:
            self._stage()

    def _save(self) -> None:
        self._stage()
        self._calls_saved = self._client.calls
        self.progress.calls = self._calls_before + self._client.calls
        self.progress.seen_ids = [*self._to_skip, *self._since_cursor]
        self._saved.save(self.progress)

    def _stage(self) -> None:
        progress = self.progress
        if self._quarantine is not None and len(self._quarantine) != progress.rejected:
            progress.quarantine = self._staging.add(self._quarantine.encode())
            progress.rejected = len(self._quarantine)
        if progress.tickets == self._tickets_staged:
            return
        self._buffer += self._format.flush()
        progress.chunks.append(self._staging.add(self._buffer))
        progress.format_state = self._format.state
        self._buffer.clear()
        self._tickets_staged = progress.tickets

    def _write_rejected(self) -> None:
        if self._quarantine:
            self.progress.rejected = len(self._quarantine)
            self._staging.write_rejected(self._quarantine.encode())
            log.warning(
                "Wrote %s to %s instead of the export: %s",
                counted(self.progress.rejected, "malformed ticket"),
                self._staging.rejected_uri, self._quarantine.summary,
            )  # fmt: skip

    def _publish(self) -> int:
        progress = self.progress
        counts = {
            "tickets": progress.tickets,
            "min-id": progress.min_id,
            "max-id": progress.max_id,
            "rejected": progress.rejected,
        }
        metadata = {name: str(value) for name, value in counts.items() if value is not None}
        return self._target.publish(
            self._format.finish(self._chunks()),
            content_type=self._format.content_type,
            metadata={
                **metadata,
                "calls": str(progress.calls),
                "export": progress.export,
                "job": progress.job,
            },
            opened=self._saved.note_upload,
        )

    def _chunks(self) -> Iterator[bytes]:
        yield from self._staging.read(self.progress.chunks)
        yield bytes(self._buffer)

    def _report(self, page: Page) -> None:
        self._reading.report(page, self.progress.tickets)
        self.progress.expected = self._reading.expected


@contextmanager
def _loaded_is_kept() -> Generator[None]:
    """Leave what is loaded out of garbage collection: Airflow is large, and tickets by the thousand make it run often."""
    if gc.get_freeze_count():
        yield  # another task's
        return
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()
