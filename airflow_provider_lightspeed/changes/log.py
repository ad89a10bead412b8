"""The log of changes: numbered files, each committed by one conditional write, and what is derived from them."""

from __future__ import annotations

import logging
import re
import tempfile
from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from datetime import datetime
from typing import IO, Any

import msgspec

from airflow_provider_lightspeed.api.errors import LightspeedConfigurationError
from airflow_provider_lightspeed.changes.compare import Known, entry_of
from airflow_provider_lightspeed.changes.coverage import Coverage, latest
from airflow_provider_lightspeed.changes.files import ChangeFormat, Row
from airflow_provider_lightspeed.changes.records import Commit, Identity, Status
from airflow_provider_lightspeed.changes.store import (
    ConditionFailed,
    ConditionsUnknown,
    Found,
    Store,
    Stored,
)
from airflow_provider_lightspeed.exceptions import LightspeedStorageError, LightspeedTaskFailed
from airflow_provider_lightspeed.s3.client import s3_exceptions
from airflow_provider_lightspeed.s3.preflight import naming_the_argument

log = logging.getLogger(__name__)

_FILES_IN_BLOCK = 1000
_ATTEMPTS = 5
_KEY = re.compile(r"changes/block=([0-9]{17})/([0-9]{20})(\.parquet|\.jsonl\.gz)")
_STATUS, _STATE, _PROBE = "status.json", "_state/known", "_state/conditions"


class LightspeedChangesLostError(LightspeedTaskFailed):
    """Change files are missing, so later changes cannot be read in order. Retention may have removed them.

    Load ``current`` again, and continue after the ``seq`` in its metadata.
    """


@dataclass
class Opened:
    """A log as a scan finds it.

    :ivar head: the last change file; None if there is none.
    :ivar known: all tickets as they are after it.
    :ivar coverage: up to when it has every change.
    :ivar identity: what the prefix holds; None if it holds nothing.
    """

    head: Commit | None
    known: Known
    coverage: Coverage
    identity: Identity | None
    deleted_since_full: int
    status: Status | None

    @property
    def seq(self) -> int:
        """Return the number of the last change file; 0 if there is none."""
        return self.head.seq if self.head else 0

    def moved_to(self, head: Commit) -> Opened:
        """Return it as it is after another commit, with which `known` was brought up."""
        return replace(self, head=head, coverage=head.coverage, deleted_since_full=head.deleted_since_full)


class ChangeLog:
    """The log below one prefix.

    The files are the truth. ``current``, ``status.json`` and ``_state`` follow from them; each carries the number of the
    file up to which it goes, is replaced as a whole, and never goes back.
    """

    def __init__(self, store: Store, form: ChangeFormat) -> None:
        self._store = store
        self._form = form

    @property
    def address(self) -> str:
        """Return the address of the prefix."""
        return self._store.uri("")

    @property
    def current_name(self) -> str:
        """Return the name of the object with all tickets as they are now."""
        return f"current/tickets{self._form.suffix}"

    def exists(self) -> bool:
        """Return whether a run has finished here in this format."""
        return self._store.find(self.current_name) is not None

    def name(self, seq: int) -> str:
        """Return the name of a change file."""
        return f"changes/block={seq // _FILES_IN_BLOCK:017}/{seq:020}{self._form.suffix}"

    def uri(self, seq: int) -> str:
        """Return the address of a change file."""
        return self._store.uri(self.name(seq))

    def check_writable(self) -> None:
        """Prove that the store takes the writes of a log, and only where a condition holds, before any call to the shop.

        :raises LightspeedConfigurationError: if it refuses them for an argument, which is named.
        :raises LightspeedTaskFailed: if it knows no conditions.
        """

        def remedy() -> str:
            return self._store.remedy(f"{_PROBE}-again")

        with naming_the_argument(f"write below {self.address}", remedy, "No ticket was fetched"):
            self._check_conditions()
            for _ in range(_ATTEMPTS):
                if self._store.get(_PROBE) is not None:
                    return
                with suppress(ConditionFailed):  # a write of another run was under way, and came to nothing
                    self._store.put(_PROBE, b"", expect=None)
            raise LightspeedConfigurationError(
                f"{self._store.uri(_PROBE)} was written and can't be read: give the AWS connection the right to get "
                "objects. No ticket was fetched"
            )

    def _check_conditions(self) -> None:
        held: list[str] = []
        try:
            for expect in (None, '"00000000000000000000000000000000"'):
                try:
                    self._store.put(_PROBE, b"", expect=expect)
                except ConditionFailed:
                    continue
                if expect is None:
                    try:
                        self._store.put(_PROBE, b"", expect=None)
                    except ConditionFailed:
                        continue
                held.append("If-None-Match" if expect is None else "If-Match")
            why = f"it ignores {' and '.join(held)}"
        except ConditionsUnknown as error:
            if (cause := error.__cause__) and self._store.remedy(f"{_PROBE}-again"):
                raise cause from None  # an argument is what it does not know
            held, why = ["all"], str(error)
        if held:
            raise LightspeedTaskFailed(
                f"the store of {self.address} has no conditional writes ({why}). Without them, two runs at "
                "once would overwrite each other's changes. No ticket was fetched. Use S3, or a store that has them"
            )

    def open(self) -> Opened:
        """Find the end of the log, and what is known after it.

        :raises LightspeedTaskFailed: if the prefix holds what this log does not know.
        """
        before = _seq_of(self._store.find(self.current_name))
        try:
            return self._open()
        except LightspeedChangesLostError:
            # Retention may have removed files meanwhile, once another run had brought `current` further.
            if _seq_of(self._store.find(self.current_name)) <= before:
                raise
            return self._open()

    def _open(self) -> Opened:
        status = self.read_status()
        known, reached = self._read_known()
        current = _seq_of(self._store.find(self.current_name))
        head = self._head(max(status.seq if status else 0, reached, current))
        self._check_beyond(head)
        seq = head.seq if head else 0
        if reached < seq and not self.has(reached + 1):
            # Retention has removed what comes after it; `current` goes further.
            known, reached = self._read_current()
        for number in range(reached + 1, seq + 1):
            apply(known, self.rows(number))
        if current < seq and not self.has(current + 1):
            raise self.lost(current + 1)
        coverage = head.coverage if head else ()
        if status and status.seq == seq:
            coverage = latest(coverage, status.coverage)
        elif status and status.seq > seq:
            raise self.lost(status.seq)
        latest_word = status if status and status.seq == seq else head
        return Opened(
            head, known, coverage,
            identity=latest_word.identity if latest_word else None,
            deleted_since_full=latest_word.deleted_since_full if latest_word else 0,
            status=status,
        )  # fmt: skip

    def ends(self) -> tuple[Status | None, int, int]:
        """Return the status, the number of the last change file, and that up to which ``current`` goes."""
        status = self.read_status()
        current = _seq_of(self._store.find(self.current_name))
        head = self._head(max(status.seq if status else 0, current))
        return status, head.seq if head else 0, current

    def has(self, seq: int) -> bool:
        """Return whether a change file is there."""
        return self._store.find(self.name(seq)) is not None

    def commits(self, after: int) -> Iterator[Commit]:
        """Go through the change files after one, to the end of the log."""
        while (found := self._store.find(self.name(after + 1))) is not None:
            after += 1
            yield self._commit(found, after)

    def rows(self, seq: int) -> Iterator[Row]:
        """Go through the rows of a change file.

        :raises LightspeedChangesLostError: if it is gone.
        """
        with self._fetch(seq) as body:
            yield from self._form.read(body)

    def last_rows(self, ticket_ids: Collection[int], seq: int) -> dict[int, Row]:
        """Return the rows of some tickets as they are after a change file."""
        found: dict[int, Row] = {}
        current = self._store.get(self.current_name)
        reached = _seq_of(current)
        if current is not None:
            with current.body as body:
                found = {row["id"]: row for row in self._form.select(body, ticket_ids)}
        for number in range(reached + 1, seq + 1):
            with self._fetch(number) as body:
                found |= {row["id"]: row for row in self._form.select(body, ticket_ids)}
        return found

    def append(self, commit: Commit, rows: Iterator[Row]) -> bool:
        """Commit a change file; return False if a file with this number is there and may be another one.

        After a lost response it may be this one, or that of a slow try of the same scan: only the file says what it has.
        """
        name = self.name(commit.seq)
        if commit.seq > 1 and not self.has(commit.seq - 1):
            # So this number may have been used, too.
            raise LightspeedStorageError(
                f"{self.uri(commit.seq - 1)} is gone: other runs have committed since this scan began, and retention "
                "has removed their files. Nothing was committed; the next try starts over"
            )
        with tempfile.TemporaryFile() as file:
            self._form.write(rows, file)
            for attempt in range(_ATTEMPTS):
                file.seek(0)
                try:
                    self._store.put(
                        name, file, expect=None,
                        metadata=commit.to_metadata(), content_type=self._form.content_type,
                    )  # fmt: skip
                except ConditionFailed:
                    if self._store.find(name) is None and attempt + 1 < _ATTEMPTS:
                        continue  # another write was under way, and came to nothing
                    return False
                except s3_exceptions():
                    # The response may be lost, and the file there.
                    if self._store.find(name) is None:
                        raise
                    return False
                return True
        return False

    def compact(self, before: datetime, seq: int) -> int:
        """Delete change files, the oldest first; return how many.

        A killed try has deleted the oldest ones only, so no gap is left. Objects that are no change files stay.

        :param before: only those whose scan ended before this instant.
        :param seq: only those before this change file, up to which ``current`` and ``status.json`` go.
        """
        deleted = 0
        for name in self._store.names("changes/"):
            found = _KEY.fullmatch(name)
            number = int(found[2]) if found else 0
            if name != self.name(number):
                log.warning("Skipped an object that is no change file: %s", self._store.uri(name))
                continue
            there = self._store.find(name) if number < seq else None
            if there is None or self._commit(there, number).ended >= before:
                break
            self._store.delete(name)
            deleted += 1
        return deleted

    def write_current(self, seq: int) -> None:
        """Bring ``current`` up to a change file, unless it is there already."""
        for _ in range(_ATTEMPTS):
            there = self._store.find(self.current_name)
            if there is not None and _seq_of(there) >= seq:
                return
            before = self._store.get(self.current_name)
            reached = _seq_of(before)
            if before is not None and reached >= seq:
                before.body.close()
                return  # another run was faster, between the two requests
            with ExitStack() as stack:
                old = stack.enter_context(before.body) if before else None
                files = [stack.enter_context(self._fetch(number)) for number in range(reached + 1, seq + 1)]
                out = stack.enter_context(tempfile.TemporaryFile())
                self._form.merge(old, files, out)
                out.seek(0)
                try:
                    self._store.put(
                        self.current_name, out, expect=before.etag if before else None,
                        metadata={"seq": str(seq)}, content_type=self._form.content_type,
                    )  # fmt: skip
                except ConditionFailed:
                    continue  # another run was first: see how far it came
                return
        raise LightspeedStorageError(
            f"{self._store.uri(self.current_name)} could not be updated to change file {seq}: other runs keep replacing "
            "it. The change file is committed; the next run updates the object"
        )

    def write_state(self, known: Known, seq: int) -> None:
        """Keep what is known, so that the next scan need not read ``current``. It is no loss if it is not kept."""
        before = self._store.find(_STATE)
        if _seq_of(before) > seq:
            return
        with tempfile.TemporaryFile() as out:
            known.write(out, seq=seq)
            out.seek(0)
            try:
                self._store.put(
                    _STATE, out, expect=before.etag if before else None, metadata={"seq": str(seq)}
                )
            except ConditionFailed:
                log.info("Another run saved its state of the tickets first; this one was not saved")

    def read_status(self) -> Status | None:
        """Return ``status.json``; None if there is none, or it cannot be read."""
        stored = self._store.get(_STATUS)
        return None if stored is None else _status_of(stored)

    def write_status(self, change: Callable[[Status | None], Status | None]) -> None:
        """Change ``status.json``.

        :param change: makes the new one of the one that is there; None leaves it.
        """
        for _ in range(_ATTEMPTS):
            stored = self._store.get(_STATUS)
            status = change(_status_of(stored) if stored else None)
            if status is None:
                return
            try:
                self._store.put(
                    _STATUS, msgspec.json.format(msgspec.json.encode(status)),
                    expect=stored.etag if stored else None,
                    metadata={"seq": str(status.seq)}, content_type="application/json",
                )  # fmt: skip
            except ConditionFailed:
                continue
            return
        raise LightspeedStorageError(
            f"{self._store.uri(_STATUS)} could not be written: other runs keep replacing it. The next run writes it"
        )

    def _head(self, hint: int) -> Commit | None:
        head = None
        if hint:
            found = self._store.find(self.name(hint))
            if found is None:
                raise self.lost(hint)
            head = self._commit(found, hint)
        for commit in self.commits(hint):
            head = commit
        return head

    def _commit(self, found: Found, seq: int) -> Commit:
        commit = Commit.from_metadata(found.metadata)
        if commit is None or commit.seq != seq:
            raise LightspeedTaskFailed(
                f"{self.uri(seq)} was not written by this provider, or not as this version does. Take another prefix"
            )
        return commit

    def _check_beyond(self, head: Commit | None) -> None:
        """Refuse a prefix with files that are no part of the log."""
        from botocore.exceptions import ClientError

        seq = head.seq if head else 0
        try:
            beyond = next(iter(self._store.names("changes/", self.name(seq) if head else "")), None)
            others = [name for name in self._store.names("current/") if name != self.current_name]
        except ClientError as error:
            log.info("Skipped the check for foreign files, since the prefix can't be listed: %s", error)
            return
        if others:
            raise LightspeedTaskFailed(
                f"{self._store.uri(others[0])} is no part of the log of changes. Move it away, use another "
                "prefix, or set the file_format of this one"
            )
        if beyond is None or self._store.find(self.name(seq + 1)) is not None:
            return  # nothing, or another run has committed just now
        if (found := _KEY.fullmatch(beyond)) and found[3] == self._form.suffix and int(found[2]) > seq:
            raise self.lost(seq + 1)
        raise LightspeedTaskFailed(
            f"{self._store.uri(beyond)} is no part of the log of changes. Move it away, use another prefix, or set the "
            "file_format of this one"
        )

    def lost(self, seq: int) -> LightspeedChangesLostError:
        """Build the error for a change file that is gone."""
        return LightspeedChangesLostError(
            f"{self.uri(seq)} is missing, and later files or status.json show that it was there. Bring it back (from "
            "a version of the bucket, or a copy). If file_format was changed, undo that, or use another prefix. A reader starts "
            "over from current"
        )

    def _fetch(self, seq: int) -> IO[bytes]:
        stored = self._store.get(self.name(seq))
        if stored is None:
            raise self.lost(seq)
        return stored.body

    def _read_known(self) -> tuple[Known, int]:
        """Return the known tickets after some change file, and its number: from the saved state, or from ``current``."""
        kept = self._store.get(_STATE)
        if kept is not None:
            with kept.body as body:
                read = Known.read(body)
            if read is not None:
                return read[0], read[1]["seq"]
        return self._read_current()

    def _read_current(self) -> tuple[Known, int]:
        known = Known()
        current = self._store.get(self.current_name)
        if current is None:
            return known, 0
        log.info("Reading the known tickets from %s", self._store.uri(self.current_name))
        with current.body as body:
            known.put(map(entry_of, self._form.read(body)))
        return known, _seq_of(current)


def apply(known: Known, rows: Iterator[Row]) -> list[int]:
    """Bring what is known up to a change file; return the ids in it."""
    gone: list[int] = []
    ids: list[int] = []

    def kept() -> Iterator[Any]:
        for row in rows:
            ids.append(row["id"])
            if row["op"] == "D":
                gone.append(row["id"])
            else:
                yield entry_of(row)

    known.put(kept())
    known.remove(gone)
    return ids


def _seq_of(found: Found | None) -> int:
    text = found.metadata.get("seq", "0") if found else "0"
    return int(text) if text.isdigit() else 0


def _status_of(stored: Stored) -> Status | None:
    with stored.body as body:
        try:
            return msgspec.json.decode(body.read(), type=Status)
        except msgspec.MsgspecError:
            return None
