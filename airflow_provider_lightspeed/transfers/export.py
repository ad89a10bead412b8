"""An export from the first page to the object, with a point every few pages from which it can go on."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from airflow_provider_lightspeed.api import tickets as api
from airflow_provider_lightspeed.api.client import LightspeedClient
from airflow_provider_lightspeed.api.errors import LightspeedQuotaExhausted
from airflow_provider_lightspeed.api.paging import Page
from airflow_provider_lightspeed.api.tickets import PAGE_SIZE, TicketFilter
from airflow_provider_lightspeed.formats import Format
from airflow_provider_lightspeed.privacy import Privacy
from airflow_provider_lightspeed.transfers.conversations import with_messages
from airflow_provider_lightspeed.transfers.s3_object import S3Object
from airflow_provider_lightspeed.transfers.staging import Staging

log = logging.getLogger(__name__)

#: A killed export asks again for no more than twice this.
_CALLS_AT_RISK = 20
_BYTES_AT_RISK = 16 * 1024 * 1024
_PROGRESS_EVERY = 10.0
#: How long an export is taken for alive after its last sign of life.
_ALIVE = timedelta(hours=2)
#: Tickets that a page, cut short by the quota, had already given; a few pages' worth, should the list have shifted.
_REMEMBERED = 4 * PAGE_SIZE


class Progress(msgspec.Struct):
    """What an export has done so far: plain JSON, some kilobytes.

    :ivar export: id of the export, also in the object's metadata.
    :ivar job: what is exported where and how; progress of another job is of no use.
    :ivar cursor: where the walk goes on; None: at its beginning.
    :ivar written: tickets that are written but come again, for the walk stopped within their page.
    :ivar pieces: names of what is staged.
    :ivar upload: id of the multipart upload that may be open.
    """

    export: str
    job: str
    cursor: dict[str, Any] | None = None
    written: list[int] = msgspec.field(default_factory=list)
    pieces: list[str] = msgspec.field(default_factory=list)
    tickets: int = 0
    min_id: int | None = None
    max_id: int | None = None
    calls: int = 0
    without_messages: int = 0
    upload: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return it as plain JSON values."""
        plain: dict[str, Any] = msgspec.to_builtins(self)
        return plain

    @classmethod
    def from_json(cls, state: dict[str, Any] | None) -> Progress | None:
        """Read it; None for nothing, or for what another version has written."""
        try:
            return None if state is None else msgspec.convert(state, cls)
        except msgspec.ValidationError:
            return None


class Export:
    """Carries an export out.

    :param fetch: the messages of a ticket id, if they are wanted.
    :param keep: saves progress for the next try.
    :param skip_if_empty: whether no object is written where no ticket matches.
    :raises LightspeedQuotaExhausted: (from `run`) when the quota needs longer than the client waits. `progress` is
        saved and can go on, unless `can_go_on` is false: then only from what was kept last.
    """

    def __init__(
        self,
        client: LightspeedClient,
        wanted: TicketFilter,
        *,
        file_format: Format,
        privacy: Privacy,
        fetch: Callable[[int], Iterable[Any]] | None,
        target: S3Object,
        staging: Staging,
        progress: Progress,
        keep: Callable[[dict[str, Any]], None],
        skip_if_empty: bool = False,
    ) -> None:
        self.progress = progress
        self.can_go_on = True
        self._client = client
        self._wanted = wanted
        self._format = file_format
        self._privacy = privacy
        self._fetch = fetch
        self._target = target
        self._staging = staging
        self._keep = keep
        self._skip_if_empty = skip_if_empty
        self._kept = progress.to_json()
        self._buffer = bytearray()
        self._calls_before = progress.calls - client.calls
        self._calls_kept = client.calls
        self._reported = self._started = time.monotonic()
        self._held_until = datetime.min.replace(tzinfo=UTC)

    def run(self) -> int:
        """Fetch what is left, publish the object and return its size."""
        self._hold()
        try:
            for page in self._client.iter_pages(self._wanted, self.progress.cursor):
                self._take(page)
        except LightspeedQuotaExhausted:
            if self.can_go_on:
                self._save()
            raise
        finally:
            self.progress.calls = self._calls_before + self._client.calls
        return 0 if self._skip_if_empty and not self.progress.tickets else self._publish()

    def _take(self, page: Page) -> None:
        known = set(self.progress.written)
        tickets: list[dict[str, Any]] = [dict(row) for row in page.tickets if row["id"] not in known]
        exhausted = None
        if self._fetch:
            tickets, missing, exhausted = with_messages(tickets, self._fetch)
            self.progress.without_messages += missing
        self._write(tickets)
        if exhausted:
            self.progress.written = [*self.progress.written, *(row["id"] for row in tickets)][-_REMEMBERED:]
            raise exhausted
        self.progress.cursor = page.cursor
        self.can_go_on = page.cursor is not None
        at_risk = self._client.calls - self._calls_kept
        if self.can_go_on and (at_risk >= _CALLS_AT_RISK or len(self._buffer) >= _BYTES_AT_RISK):
            self._save()
        elif len(self._buffer) >= _BYTES_AT_RISK:
            self._stage()
        self._report(page)

    def _write(self, tickets: list[dict[str, Any]]) -> None:
        if not tickets:
            return
        ids = [ticket["id"] for ticket in tickets]
        progress = self.progress
        progress.tickets += len(ids)
        progress.min_id = min(ids) if progress.min_id is None else min(progress.min_id, *ids)
        progress.max_id = max(ids) if progress.max_id is None else max(progress.max_id, *ids)
        self._buffer += self._format.encode([self._privacy.apply(ticket) for ticket in tickets])

    def _stage(self) -> None:
        if self._buffer:
            self.progress.pieces.append(self._staging.add(bytes(self._buffer)))
            self._buffer.clear()

    def _save(self) -> None:
        self._hold()
        self._stage()
        self._calls_kept = self._client.calls
        self.progress.calls = self._calls_before + self._client.calls
        self._kept = self.progress.to_json()
        self._keep(self._kept)

    def hold(self, until: datetime) -> None:
        """Be taken for alive until some time after an instant."""
        self._held_until = until + _ALIVE
        self._staging.hold(self._held_until)

    def _hold(self) -> None:
        now = datetime.now(UTC)
        if self._held_until - now < _ALIVE / 2:
            self.hold(now)

    def _publish(self) -> int:
        progress = self.progress
        counts = {"tickets": progress.tickets, "min-id": progress.min_id, "max-id": progress.max_id}
        metadata = {name: str(value) for name, value in counts.items() if value is not None}

        def note(upload: str) -> None:
            self._keep({**self._kept, "upload": upload})

        return self._target.publish(
            self._format.finish(self._chunks()),
            content_type=self._format.content_type,
            metadata={**metadata, "export": progress.export, "calls": str(progress.calls)},
            on_upload=note,
        )

    def _chunks(self) -> Iterator[bytes]:
        yield from self._staging.read(self.progress.pieces)
        yield bytes(self._buffer)

    def _report(self, page: Page) -> None:
        now = time.monotonic()
        if page.seen == PAGE_SIZE and len(page.tickets) == PAGE_SIZE and not self._dated:
            total = int(self._client.call(api.count_tickets(since_id=self._wanted.since_id)))
            calls = -(-total // PAGE_SIZE) + (total if self._fetch else 0)
            self._client.announce(calls, f"Exporting {total} tickets")
        if now - self._reported >= _PROGRESS_EVERY:
            self._reported = now
            log.info(
                "%d tickets so far, %d calls; %s",
                self.progress.tickets,
                self._client.calls,
                self._client.quota,
            )

    @property
    def _dated(self) -> bool:
        return bool(self._wanted.created_from or self._wanted.created_to or self._wanted.email)
