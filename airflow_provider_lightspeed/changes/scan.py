"""One scan of a shop into the log: read, compare, confirm what is gone, commit, update current and status. No operator here."""

from __future__ import annotations

import logging
from array import array
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import chain
from random import Random
from typing import Any, Protocol
from uuid import uuid4

import msgspec

from airflow_provider_lightspeed.api import list_progress
from airflow_provider_lightspeed.api.errors import (
    LightspeedConfigurationError,
    LightspeedIncompleteListError,
    LightspeedMalformedResponseError,
    LightspeedNotFoundError,
    LightspeedQuotaExhaustedError,
)
from airflow_provider_lightspeed.api.paging import Cursor, Page
from airflow_provider_lightspeed.api.progress_clock import ProgressClock
from airflow_provider_lightspeed.api.tickets import RejectedTicket, TicketFilter, get_ticket
from airflow_provider_lightspeed.api.wording import counted, days, first_few, humanize
from airflow_provider_lightspeed.changes.compare import Comparison, Entry, Known, entry_of
from airflow_provider_lightspeed.changes.coverage import (
    Coverage,
    as_of,
    complete_as_of,
    covered_by,
    latest,
    recent_as_of,
)
from airflow_provider_lightspeed.changes.files import Row
from airflow_provider_lightspeed.changes.log import ChangeLog, Opened, apply
from airflow_provider_lightspeed.changes.options import Options, choose_scan
from airflow_provider_lightspeed.changes.progress import Progress
from airflow_provider_lightspeed.changes.records import Commit, Refused, Status, check_identity, instants
from airflow_provider_lightspeed.exceptions import LightspeedStorageError, LightspeedTaskFailed
from airflow_provider_lightspeed.quarantine import Quarantine
from airflow_provider_lightspeed.s3.client import s3_errors
from airflow_provider_lightspeed.s3.staging import Staging

log = logging.getLogger(__name__)

#: Attempts to commit while other runs commit too.
_ATTEMPTS = 5
#: Ids of hidden tickets in a log line.
_SHOWN = 10
#: What takes less time than this is not announced.
_LONG = timedelta(seconds=10)
#: A killed scan asks again for no more than this, and what is under way.
_CALLS_AT_RISK = 30
_ROWS_AT_RISK = 20_000
#: Known tickets that are asked for to tell a rotated key from another shop.
_EVIDENCE = 20
#: Conversations fetched between two points from which a scan can resume.
_BATCH = 32
#: So many calls may be made again after a deferral.
_FEW_CALLS = 5
_KEPT_OF_GONE = (
    "id",
    "created_at",
    "updated_at",
    "is_answered",
    "is_closed",
    "is_todo",
    "do_notify_answered",
)


class LightspeedTooManyChangesError(LightspeedTaskFailed):
    """More tickets are deleted or changed than ``max_deleted`` or ``max_updated`` allows. Nothing was committed.

    Check the shop. If the change is real, run once with the argument that the message names.
    """


class Client(list_progress.Client, Protocol):
    """What a scan needs of the shop's client."""

    def iter_pages(
        self, tickets: TicketFilter, cursor: Cursor | None = None, *, keep_malformed: bool = False
    ) -> Iterator[Page]:
        """Read the list, page by page."""


@dataclass(frozen=True)
class Result:
    """What a scan has found, as the task returns it.

    :ivar seq: the last change file, and `uri` its address.
    :ivar tickets: how many the shop has.
    :ivar rejected: malformed tickets, of which the last good row stays.
    """

    seq: int
    uri: str | None
    inserted: int
    updated: int
    deleted: int
    unlisted: int
    tickets: int
    scan: str
    complete_as_of: datetime | None
    recent_as_of: datetime | None
    calls: int
    rejected: int = 0

    def to_json(self) -> dict[str, Any]:
        """Return it as plain JSON values."""
        plain: dict[str, Any] = msgspec.to_builtins(self)
        return plain


class Scan:
    """A scan, from opening the log to the last thing that follows from its commit.

    :ivar progress: what it has done so far.
    :param row: the columns of a ticket, as they are written.
    :param parts: where what is read is kept, by the scan's id.
    :param save: saves progress for the next try.
    :param with_messages: puts the conversations into tickets; returns those that it did before the quota was exhausted,
        and that error.
    :param quarantine: takes malformed tickets; without one they are an error.
    :param raw_key: key of the fingerprints of responses, if `row` drops or hashes something.
    :param now: the time; replaced in tests.
    """

    progress: Progress

    def __init__(
        self,
        change_log: ChangeLog,
        client: Client,
        options: Options,
        *,
        row: Callable[[Mapping[str, Any]], Row],
        parts: Callable[[str], Staging],
        save: Callable[[dict[str, Any]], None] = lambda _: None,
        with_messages: Callable[[list[Any]], tuple[list[Any], LightspeedQuotaExhaustedError | None]]
        | None = None,
        quarantine: Quarantine | None = None,
        raw_key: bytes = b"",
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._log = change_log
        self._client = client
        self._options = options
        self._row = row
        self._make_parts = parts
        self._save_progress = save
        self._with_messages = with_messages
        self._quarantine = quarantine
        self._raw_key = raw_key
        self._rejected_saved = 0
        self._now = now
        self._calls_before = 0
        self._calls_at_start = client.calls
        self._calls_saved = self._calls_moved = client.calls
        self._seen = array("q")
        self._begun = False
        self._rows: list[tuple[Row, int]] = []  # with raw fingerprints

    def run(self, progress: Progress | None) -> Result:
        """Scan the shop, or resume an earlier try, and return what was found.

        :raises LightspeedQuotaExhaustedError: if the quota needs longer than the client waits. Progress is saved.
        :raises LightspeedTaskFailed: if it may not be committed.
        """
        with s3_errors(f"write below {self._log.address}", "No ticket was fetched"):
            self._log.check_writable()
        opened = self._log.open()
        if progress is not None and not self._fits(progress, opened):
            log.info("The progress of an earlier try no longer fits the log or the arguments; starting over")
            progress = None
        if (own := self._own_commit(opened, progress)) is not None and opened.head is not None:
            log.info("An earlier try had committed %s before it ended", self._log.uri(own.seq))
            result = self._finish(own, opened.head, opened.coverage, opened.known)
            self._make_parts(own.observation).remove()
            return result
        self.progress = progress or self._begin(opened)
        self._begun = True
        if progress is None:
            with s3_errors("stage what is read", "No ticket was fetched"):
                # Parts are written with other arguments than the log, and removing them is a right of its own.
                self._parts.add(b"")
                self._parts.remove()
                self._parts.remove_earlier()
        self._check_shop(opened)
        self._calls_before = self.progress.calls
        result = self._scan(opened)
        self._parts.remove()
        return result

    @property
    def can_resume(self) -> bool:
        """Return whether stopping now loses little; else the list would be read from its beginning again."""
        is_read = not self._begun or self.progress.ended is not None
        return is_read or self._client.calls - self._calls_moved <= _FEW_CALLS

    def remove_parts(self) -> None:
        """Remove what was staged, if anything was."""
        if self._begun:
            self._parts.remove()

    # Which scan, and whether it is the same shop.

    def _fits(self, progress: Progress, opened: Opened) -> bool:
        if progress.identity != self._options.identity or progress.base > opened.seq:
            return False
        # What other runs have committed since is still there: retention removes the oldest files first.
        return progress.base == opened.seq or self._log.has(progress.base + 1)

    def _own_commit(self, opened: Opened, progress: Progress | None) -> Commit | None:
        head, options = opened.head, self._options
        if progress is not None:
            commits = self._log.commits(progress.base)
            return next((commit for commit in commits if commit.observation == progress.observation), None)
        # Without a task instance, both are empty.
        if not options.run or not options.generation or head is None:
            return None
        return head if (head.run, head.generation) == (options.run, options.generation) else None

    def _check_shop(self, opened: Opened) -> None:
        there, ours = opened.identity, self._options.identity
        if there is None:
            return
        check_identity(there, ours)
        if there.shop == ours.shop:
            return
        known = opened.known.sample(_EVIDENCE)
        same = sum(self._is_there(entry) for entry in known)
        if 2 * same < len(known):
            raise LightspeedConfigurationError(
                f"the prefix holds another shop: of {counted(len(known), 'ticket')} in it, this connection's shop has {same}. "
                "Take another prefix for each shop"
            )
        log.info(
            "The API key has changed, but the shop has %d of %s: continuing",
            same,
            counted(len(known), "known ticket"),
        )

    def _is_there(self, entry: Entry) -> bool:
        try:
            ticket = self._client.call(get_ticket(entry.id))
        except LightspeedNotFoundError as error:
            if not error.gone:
                raise
            return False
        return entry_of(self._row(ticket)).created == entry.created

    def _begin(self, opened: Opened) -> Progress:
        now = self._now()
        refused = opened.status.refused if opened.status else None
        scan = choose_scan(self._options, opened.coverage, refused, now)
        after_id = opened.known.highest_created_before(now - self._options.recent) if scan == "recent" else 0
        return Progress(
            observation=uuid4().hex,
            identity=self._options.identity,
            scan="recent" if after_id else "full",
            after_id=after_id,
            started=now,
            base=opened.seq,
            coverage=opened.coverage,
        )

    # Reading and comparing.

    def _scan(self, opened: Opened) -> Result:
        progress = self.progress
        log.info(
            "%s scan: reading %s (%s)",
            progress.scan.capitalize(),
            f"the tickets after id {progress.after_id}" if progress.after_id else "all tickets",
            counted(len(opened.known), "known ticket"),
        )
        comparison = Comparison(opened.known, progress.after_id, self._row, self._raw_key)
        self._replay(comparison)
        if progress.ended is None:
            self._read(comparison, opened.known.above(progress.after_id))
        # What other runs had committed before this try: what is known has it already.
        others = [commit for commit in self._log.commits(progress.base) if commit.seq <= opened.seq]
        touched = {row["id"] for one in others for row in self._log.rows(one.seq)}
        self._confirm(opened, comparison, touched)
        self._settle(comparison)
        self._write_rejected()
        return self._commit(opened, comparison.found, others, touched)

    def _replay(self, comparison: Comparison) -> None:
        for data in self._parts.read(self.progress.parts):
            part = msgspec.msgpack.decode(data)
            comparison.replay(_ids(part["seen"]), (entry_of(row, raw) for row, raw in part["rows"]))
            if self._quarantine is not None:
                self._quarantine.decode(part["rejected"])
        comparison.end_replay()
        self._rejected_saved = len(self._quarantine or ())

    def _settle(self, comparison: Comparison) -> None:
        shown = len(comparison.found)
        comparison.found.sort()
        if len(comparison.found) != shown:
            raise LightspeedIncompleteListError("the list showed a new ticket twice", seen=shown)

    def _read(self, comparison: Comparison, known: int) -> None:
        progress = self.progress
        wanted = TicketFilter(since_id=progress.after_id or None)
        # Only the first scan has to ask how many tickets there are.
        reading = list_progress.ListProgress(
            self._client,
            wanted,
            "Reading about {} tickets",
            calls=self._calls,
            expected=progress.expected,
            known=known,
        )
        try:
            keep = self._quarantine is not None
            for page in self._client.iter_pages(wanted, progress.cursor, keep_malformed=keep):
                self._take(page, comparison)
                reading.report(page, page.seen)
                progress.expected = reading.expected
        except LightspeedQuotaExhaustedError:
            self._save()
            raise
        progress.ended = self._now()
        self._save_in_time()

    def _take(self, page: Page, comparison: Comparison) -> None:
        self._see(page.tickets, comparison)
        self._reject(page.rejected, comparison)
        if page.cursor is not None:
            self.progress.cursor = page.cursor
            self._calls_moved = self._client.calls
        self._save_in_time()

    def _see(self, tickets: list[Any], comparison: Comparison) -> None:
        changed = []
        for ticket in tickets:
            if (row := comparison.see(ticket)) is None:
                self._seen.append(ticket["id"])
            else:
                changed.append((ticket, row, comparison.found.raw[-1]))
        self._keep(changed)

    def _reject(self, tickets: list[RejectedTicket], comparison: Comparison) -> None:
        """Keep malformed tickets aside: they are there, and their last good rows stay."""
        if self._quarantine is None:
            return
        self._quarantine.add(tickets)
        for ticket in tickets:
            if ticket.id is None:
                self.progress.unnamed = True
            else:
                comparison.mark_present(ticket.id)
                self._seen.append(ticket.id)

    def _write_rejected(self) -> None:
        if self._quarantine:
            self._parts.write_rejected(self._quarantine.encode())
            log.warning(
                "Wrote %s to %s; the last good row of each stays in current: %s",
                counted(len(self._quarantine), "malformed ticket"),
                self._parts.rejected_uri, self._quarantine.summary,
            )  # fmt: skip

    def _keep(self, changed: list[tuple[Any, Row, int]]) -> None:
        if self._with_messages is None or not self.progress.coverage:
            self._rows += [(row, raw) for _, row, raw in changed]
            return
        for start in range(0, len(changed), _BATCH):
            batch = changed[start : start + _BATCH]
            done, exhausted = self._with_messages([ticket for ticket, _, _ in batch])
            found = {ticket["id"]: (row, raw) for ticket, row, raw in batch}
            for ticket in done:
                row, raw = found[ticket["id"]]
                self._rows.append(({**row, "messages": self._row(ticket)["messages"]}, raw))
            if exhausted is not None:
                raise exhausted
            self._save_in_time()

    def _save_in_time(self) -> None:
        is_full = len(self._rows) >= _ROWS_AT_RISK
        if is_full or self._client.calls - self._calls_saved >= _CALLS_AT_RISK:
            self._save()

    def _save(self) -> None:
        rejected = len(self._quarantine or ())
        if self._rows or self._seen or rejected > self._rejected_saved:
            lines = self._quarantine.encode() if self._quarantine is not None else b""
            data = msgspec.msgpack.encode({
                "seen": self._seen.tobytes(),
                "rows": self._rows,
                "rejected": lines if rejected > self._rejected_saved else b"",
            })
            self._rejected_saved = rejected
            self.progress.parts.append(self._parts.add(data))
            self._rows, self._seen = [], array("q")
        self.progress.calls = self._calls
        self._calls_saved = self._client.calls
        self._save_progress(self.progress.to_json())

    # What is gone.

    def _confirm(self, opened: Opened, comparison: Comparison, touched: set[int]) -> None:
        """Tell the tickets that are gone from those that the list hides, and refuse too many of either."""
        progress, known, limits = self.progress, opened.known, self._options.limits
        absent = [ticket_id for ticket_id in comparison.absent() if ticket_id not in touched]
        new = [ticket_id for ticket_id in absent if not known.is_unlisted(ticket_id)]
        # Those that the list has hidden before come last, and never count as gone unless the shop says so. If there are
        # more than the scan requests, chance decides, so that each is requested in time; tries of a scan choose alike.
        hidden = [ticket_id for ticket_id in absent if known.is_unlisted(ticket_id)]
        Random(f"{progress.started}").shuffle(hidden)  # ruff: ignore[suspicious-non-cryptographic-random-usage] - no secret
        absent = [*new, *hidden]
        scope = known.above(progress.after_id)
        updated = sum(ticket_id in known for ticket_id in comparison.found.ids if ticket_id not in touched)
        if why := limits.too_many_deleted(len(new), opened.deleted_since_full, scope):
            self._refuse(len(new), f"{why}. If they were deleted, set accept_deleted={len(new)} for one run")
        if why := limits.too_many_updated(updated, scope):
            again = f'max_updated=1 and scan="{progress.scan}"'
            self._refuse(len(new), f"{why}. If that is right, set {again} for one run")
        self._ask_for(absent[: self._options.confirm_deleted], comparison)
        if progress.unlisted or progress.unnamed:
            # The list hides tickets, or shows some without an id: being gone from it proves nothing for the rest either.
            self._ask_for(new, comparison)
        answered = {*progress.gone, *progress.unlisted}
        requested = len(progress.unlisted)
        for ticket_id in absent:
            if ticket_id not in answered:
                (progress.unlisted if known.is_unlisted(ticket_id) else progress.gone).append(ticket_id)
        if progress.unlisted:
            shown = first_few([*map(str, sorted(progress.unlisted))], _SHOWN)
            log.warning(
                "The shop's list hides %s (%d requested in this scan). Kept in the log: %s",
                counted(len(progress.unlisted), "known ticket"), requested, shown,
            )  # fmt: skip
        known.set_unlisted(progress.unlisted)
        progress.ended = self._now()

    def _ask_for(self, ticket_ids: list[int], comparison: Comparison) -> None:
        """Request tickets one by one; what the shop shows of them counts as if the list had shown it."""
        answered = {*self.progress.gone, *self.progress.unlisted}
        ticket_ids = [ticket_id for ticket_id in ticket_ids if ticket_id not in answered]
        clock = ProgressClock()
        if self._client.estimate(len(ticket_ids), sequential=len(ticket_ids)) >= _LONG:
            self._client.log_estimate(
                len(ticket_ids), f"Requesting {counted(len(ticket_ids), 'missing ticket')} one by one"
            )
        for done, ticket_id in enumerate(ticket_ids):
            if clock.due():
                left = len(ticket_ids) - done
                to_go = humanize(self._client.estimate(left, sequential=left))
                log.info(
                    "Requested %s of %s, %s to go; %s",
                    f"{done:,}", counted(len(ticket_ids), "missing ticket"), to_go,
                    self._client.quota or "quota unknown",
                )  # fmt: skip
            try:
                ticket = self._client.call(get_ticket(ticket_id))
            except LightspeedNotFoundError as error:
                if not error.gone:
                    raise
                self.progress.gone.append(ticket_id)
            except LightspeedQuotaExhaustedError:
                self._save()
                raise
            except LightspeedMalformedResponseError:
                if self._quarantine is None:
                    raise
                self.progress.unlisted.append(ticket_id)  # it is no 404, so it stays
            else:
                self._see([ticket], comparison)
                self.progress.unlisted.append(ticket_id)

    def _refuse(self, gone: int, why: str) -> None:
        refused = Refused(self.progress.scan, self.progress.started, gone, why)
        self._log.write_status(lambda status: status and msgspec.structs.replace(status, refused=refused))
        raise LightspeedTooManyChangesError(f"{why}. Nothing was committed, and the log is as it was")

    # Committing.

    def _commit(self, opened: Opened, found: Known, others: list[Commit], touched: set[int]) -> Result:
        """Commit what is left beside what other runs have committed since the scan began.

        :param opened: the end of the log, which moves on with what other runs commit meanwhile.
        :param others: what other runs have committed, and `touched` the tickets in it.
        """
        progress, known = self.progress, opened.known
        for _ in range(_ATTEMPTS):
            entries = [found[index] for index in range(len(found)) if found.ids[index] not in touched]
            gone = [
                ticket_id for ticket_id in progress.gone if ticket_id not in touched and ticket_id in known
            ]
            commit = self._make_commit(opened, entries, gone, others)
            if not entries and not gone:
                nothing = msgspec.structs.replace(commit, seq=opened.seq)
                return self._finish(nothing, nothing, latest(opened.coverage, commit.coverage), known)
            if self._log.append(commit, self._rows_of(commit, known, touched, gone)):
                known.put(entries)
                known.remove(gone)
                return self._finish(commit, commit, commit.coverage, known)
            own = None
            for other in self._log.commits(opened.seq):
                touched.update(apply(known, self._log.rows(other.seq)))
                others.append(other)
                opened = opened.moved_to(other)
                own = other if other.observation == progress.observation else own
            if own is not None and opened.head is not None:
                # This write, or that of a slow try of this scan. What this try saw beyond it comes with the next scan.
                return self._finish(own, opened.head, opened.coverage, known)
        raise LightspeedStorageError(
            f"other runs have committed {len(others)} change files since this scan began, each before it could. Run "
            "one DAG run at a time for a prefix (max_active_runs=1). The next try resumes"
        )

    def _make_commit(
        self, opened: Opened, entries: list[Entry], gone: list[int], others: list[Commit]
    ) -> Commit:
        progress, head, known = self.progress, opened.head, opened.known
        inserted = sum(entry.id not in known for entry in entries)
        ended = progress.ended or self._now()
        started = min([progress.started, *(other.started for other in others)])
        return Commit(
            seq=opened.seq + 1,
            observation=progress.observation,
            run=self._options.run,
            generation=self._options.generation,
            scan=progress.scan,
            started=progress.started,
            ended=max(ended, head.ended) if head else ended,
            inserted=inserted,
            updated=len(entries) - inserted,
            deleted=len(gone),
            unlisted=len(progress.unlisted),
            tickets=len(known) + inserted - len(gone),
            calls=self._calls,
            deleted_since_full=opened.deleted_since_full + len(gone) if progress.after_id else 0,
            coverage=covered_by(opened.coverage, progress.after_id, started),
            identity=self._options.identity,
            rejected=len(self._quarantine or ()),
        )

    def _rows_of(self, commit: Commit, known: Known, touched: set[int], gone: list[int]) -> Iterator[Row]:
        def change(op: str, row: Row) -> Row:
            return {
                "op": op,
                "_seq": commit.seq,
                "_changed_after": as_of(self.progress.coverage, row["id"]),
                "_changed_by": commit.ended,
                **row,
            }

        staged = (msgspec.msgpack.decode(data)["rows"] for data in self._parts.read(self.progress.parts))
        for rows in chain(staged, [self._rows]):
            for row, _ in rows:
                if row["id"] not in touched:
                    yield change("U" if row["id"] in known else "I", row)
        last = self._log.last_rows(gone, commit.seq - 1) if gone else {}
        for ticket_id in gone:
            row = last.get(ticket_id, {"id": ticket_id})
            yield change("D", {name: row.get(name) for name in _KEPT_OF_GONE if name in row})

    def _finish(self, made: Commit, head: Commit, coverage: Coverage, known: Known) -> Result:
        """Bring up what follows from the log, and return what a scan has found.

        :param made: what the scan found.
        :param head: the end of the log, and its `coverage`; what is `known` is as it is then.
        """
        self._log.write_current(head.seq)
        self._log.write_state(known, head.seq)

        def status(before: Status | None) -> Status | None:
            if before is not None and before.seq > head.seq:
                return None
            is_same = before is not None and before.seq == head.seq
            settles = before and before.refused and made.scan in {"full", before.refused.scan}
            return Status(
                seq=head.seq,
                uri=self._uri(head.seq),
                tickets=len(known),
                scan=made.scan,
                scanned_at=made.started,
                unlisted=made.unlisted,
                deleted_since_full=head.deleted_since_full,
                identity=self._options.identity,
                refused=before.refused if before and not settles else None,
                announced=before.announced if before else None,
                rejected=made.rejected,
                **instants(latest(before.coverage, coverage) if before and is_same else coverage),
            )

        self._log.write_status(status)
        if self._options.compact is not None:
            deleted = self._log.compact(self._now() - self._options.compact, head.seq)
            if deleted:
                log.info(
                    "Deleted %s older than %s (compact)",
                    counted(deleted, "change file"), days(self._options.compact),
                )  # fmt: skip
        return Result(
            seq=made.seq,
            uri=self._uri(made.seq),
            inserted=made.inserted,
            updated=made.updated,
            deleted=made.deleted,
            unlisted=made.unlisted,
            tickets=made.tickets,
            scan=made.scan,
            complete_as_of=complete_as_of(coverage),
            recent_as_of=recent_as_of(coverage),
            calls=made.calls,
            rejected=made.rejected,
        )

    def _uri(self, seq: int) -> str | None:
        return self._log.uri(seq) if seq else None

    @property
    def _calls(self) -> int:
        return self._calls_before + self._client.calls - self._calls_at_start

    @property
    def _parts(self) -> Staging:
        return self._make_parts(self.progress.observation)


def _ids(data: bytes) -> array[int]:
    ids = array("q")
    ids.frombytes(data)
    return ids
