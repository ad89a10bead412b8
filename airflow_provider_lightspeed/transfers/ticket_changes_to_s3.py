"""Every change of a shop's tickets, and the tickets as they are now, to S3."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from functools import partial
from math import inf
from typing import TYPE_CHECKING, Any, Literal

from airflow_provider_lightspeed._airflow import (
    Asset,
    BaseOperator,
    conf,
)
from airflow_provider_lightspeed._arguments import is_unrendered, parse_flag, record_passed, require_rendered
from airflow_provider_lightspeed._checkpoint import Checkpoint, defer_until, digest, task_generation, task_key
from airflow_provider_lightspeed.api.errors import LightspeedConfigurationError, LightspeedQuotaExhaustedError
from airflow_provider_lightspeed.api.wording import counted
from airflow_provider_lightspeed.assets import is_ticket_changes_asset
from airflow_provider_lightspeed.exceptions import (
    NOT_RESUMABLE,
    LightspeedStaleChangesError,
    fail_without_retry,
)
from airflow_provider_lightspeed.hooks.lightspeed import LightspeedHook
from airflow_provider_lightspeed.transfers.stoppable import StopsAtNextCall

if TYPE_CHECKING:
    from airflow_provider_lightspeed._airflow import Context
    from airflow_provider_lightspeed.changes.log import ChangeLog
    from airflow_provider_lightspeed.changes.options import Options
    from airflow_provider_lightspeed.changes.scan import Scan
    from airflow_provider_lightspeed.changes.store import Store
    from airflow_provider_lightspeed.formats import Layout
    from airflow_provider_lightspeed.formats.columns import Columns
    from airflow_provider_lightspeed.s3.staging import Staging
    from airflow_provider_lightspeed.transfers.redaction import Redaction

# The code that runs a scan is loaded when the task runs: DAG files are parsed every few seconds.

#: None or an empty text must not stand for their absence: fields would leave the shop, or more would be deleted.
_OPTIONS = (
    "s3_bucket",
    "exclude_fields",
    "hash_fields",
    "hash_secret_variable",
    "encrypt",
    "kms_key_id",
    "acl_policy",
)
_SCANS = ("auto", "recent", "full")


class LightspeedTicketChangesToS3Operator(StopsAtNextCall, BaseOperator):
    """Keep the tickets of a shop in S3 as they are now, and a log of every change.

    Below the prefix are ``changes/``, a numbered file for each run that found changes (inserts, updates and deletes);
    ``current/``, one object with all tickets as they are now; and ``status.json``. A change file is committed by one
    conditional write and never changes. A delete is proven by a complete list.

    Every change before ``complete_as_of`` is there, and of recent tickets every change before ``recent_as_of``. After a
    crash the next try resumes (Airflow 3.3; older versions start over). Run one DAG for a prefix, with
    ``max_active_runs=1``; two at once are safe, but cost calls twice.

    Returns ``{"seq", "uri", "inserted", "updated", "deleted", "unlisted", "tickets", "scan", "complete_as_of",
    "recent_as_of", "calls"}``; ``seq`` and ``uri`` name the last change file, and the counts are 0 when nothing changed.
    With ``on_malformed="quarantine"`` also ``"rejected"``.

    :param s3_prefix: folder in the bucket, or its full ``s3://`` address (templated). It holds one shop.
    :param s3_bucket: bucket, unless ``s3_prefix`` has it (templated).
    :param scan: ``full`` reads all tickets; ``recent`` those created in the last ``recent``, which takes few calls;
        ``auto`` a full scan when the last one is older than ``full_every``, else a recent one (templated).
    :param recent: age up to which a recent scan reads tickets.
    :param full_every: age of the last full scan after which ``auto`` makes the next one.
    :param file_format: ``parquet``, or ``jsonl`` (gzip) (templated).
    :param include_messages: ``"changed"`` adds the conversation of each ticket that is new or changed, with one call
        more for each. Those of the first run have none.
    :param max_deleted: part of the scanned tickets that may be deleted, together with those since the last full scan; 25
        are always allowed. Above it the task fails and commits nothing.
    :param confirm_deleted: how many missing tickets are requested one by one before they count as deleted. Tickets that
        the list hides are requested again in later scans, as many as are left, chosen at random.
    :param accept_deleted: allow this number of deleted tickets in this run, instead of ``max_deleted``; the error names
        the number (templated).
    :param max_updated: part of the scanned tickets that may be changed; 25 are always allowed.
    :param on_malformed: what a malformed ticket does: ``fail`` fails the task and names the ticket; ``quarantine`` keeps
        its last good row, writes it to ``_rejected/`` in the prefix's first folder and counts it as ``rejected``.
    :param compact: age from which change files are deleted, at least a day; old ones keep customers' texts. The last one
        and ``current`` stay. None keeps all.
    :param exclude_fields: as for an export; not ``createdAt``, which recent scans need (templated).
    :param hash_fields: as for an export (templated).
    :param hash_secret_variable: as for an export (templated).
    :param encrypt: S3 encrypts the objects with its own key.
    :param kms_key_id: KMS key with which S3 encrypts the objects (templated).
    :param acl_policy: canned ACL of the objects (templated).
    :param deferrable: free the worker slot if the quota is used up for longer than the connection's ``max_wait``
        (default: ``[operators] default_deferrable``). Otherwise the task waits in its slot.
    :param lightspeed_conn_id: connection to the shop (templated).
    :param aws_conn_id: connection to S3 (templated). It needs the rights to put, get, list and delete below the prefix's
        first folder.
    :raises LightspeedTaskFailed: (no retry) if an argument is wrong, the prefix holds another shop or layout, the store
        has no conditional writes, or more tickets changed than allowed. Nothing is committed then.
    :raises LightspeedError: (retried) for temporary failures.
    """

    template_fields: Sequence[str] = (
        "lightspeed_conn_id",  # first: templates of the others may name it (in a mapped group, it is no text before)
        "s3_prefix",
        "s3_bucket",
        "scan",
        "file_format",
        "accept_deleted",
        "exclude_fields",
        "hash_fields",
        "hash_secret_variable",
        "kms_key_id",
        "acl_policy",
        "aws_conn_id",
    )
    ui_color = "#f9e3e3"

    @record_passed
    def __init__(
        self,
        *,
        s3_prefix: str,
        s3_bucket: str | None = None,
        scan: Literal["auto", "recent", "full"] = "auto",
        recent: timedelta = timedelta(days=14),
        full_every: timedelta = timedelta(hours=23),
        file_format: Literal["parquet", "jsonl"] = "parquet",
        include_messages: Literal[False, "changed"] = False,
        max_deleted: float = 0.01,
        confirm_deleted: int = 25,
        accept_deleted: int | str | None = None,
        max_updated: float = 0.5,
        on_malformed: Literal["fail", "quarantine"] = "fail",
        compact: timedelta | None = None,
        exclude_fields: Sequence[str] = (),
        hash_fields: Sequence[str] = (),
        hash_secret_variable: str | None = None,
        encrypt: bool = False,
        kms_key_id: str | None = None,
        acl_policy: str | None = None,
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        lightspeed_conn_id: str = LightspeedHook.default_conn_name,
        aws_conn_id: str | None = "aws_default",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.s3_prefix = s3_prefix
        self.s3_bucket = s3_bucket
        self.scan = scan
        self.recent = recent
        self.full_every = full_every
        self.file_format = file_format
        self.include_messages = include_messages
        self.max_deleted = max_deleted
        self.confirm_deleted = confirm_deleted
        self.accept_deleted = accept_deleted
        self.max_updated = max_updated
        self.on_malformed = on_malformed
        self.compact = compact
        self.exclude_fields = exclude_fields
        self.hash_fields = hash_fields
        self.hash_secret_variable = hash_secret_variable
        self.encrypt = encrypt
        self.kms_key_id = kms_key_id
        self.acl_policy = acl_policy
        self.deferrable = deferrable
        self.lightspeed_conn_id = lightspeed_conn_id
        self.aws_conn_id = aws_conn_id

    def execute(self, context: Context) -> dict[str, Any]:
        """Scan the shop, from where the last try of this task has stopped."""
        return self._run(context, Checkpoint(context).load())

    def execute_complete(
        self,
        context: Context,
        event: Any = None,  # ruff: ignore[unused-method-argument] - Airflow passes it
        state: dict[str, Any] | None = None,
    ) -> dict[str, Any]:
        """Resume after a deferral. ``dag.test()`` of Airflow 3.3.2 drops the state: the checkpoint has it too."""
        return self._run(context, state or Checkpoint(context).load())

    @fail_without_retry()
    def _run(self, context: Context, state: dict[str, Any] | None) -> dict[str, Any]:
        from airflow_provider_lightspeed.changes.reader import parse_prefix
        from airflow_provider_lightspeed.changes.store import Store
        from airflow_provider_lightspeed.formats.columns import Columns
        from airflow_provider_lightspeed.s3.client import connect, s3_errors
        from airflow_provider_lightspeed.s3.staging import Staging

        started = time.monotonic()
        self._check_options()
        bucket, prefix = parse_prefix(self.s3_prefix, self.s3_bucket)
        hook = self._hook(None)
        redaction = self._redaction(hook)
        columns = Columns(self._layout(redaction))
        options = self._scan_options(context, hook, redaction)
        write = self._write_options()
        with s3_errors(f"use s3://{bucket}/{prefix}/"):
            client = connect(self.aws_conn_id)
            log = self._open(Store(client, bucket, prefix, write.for_objects), columns)

            def parts(name: str) -> Staging:
                return Staging(client, bucket, f"{prefix}/changes", options.run, name, write.for_staging)

            make = partial(self._make_scan, log, options, redaction, columns, parts)
            result = self._scan(context, state, make)
            if self.on_malformed == "fail":
                del result["rejected"]
            self._log_result(result, log, time.monotonic() - started)
            self._update_assets(context, log, options.run, result)
        return result

    def _log_result(self, result: dict[str, Any], log: ChangeLog, seconds: float) -> None:
        any_change = result["inserted"] or result["updated"] or result["deleted"]
        self.log.info(
            "%s scan: %s inserted, %s updated, %s deleted; %s in %s (%s %d); %s in %.1f s",
            result["scan"].capitalize(), *(f"{result[name]:,}" for name in ("inserted", "updated", "deleted")),
            counted(result["tickets"], "ticket"), log.address,
            "change file" if any_change else "nothing new since change file", result["seq"],
            counted(result["calls"], "API call"), seconds,
        )  # fmt: skip

    def _update_assets(self, context: Context, log: ChangeLog, run: str, result: dict[str, Any]) -> None:
        from airflow_provider_lightspeed.changes.announce import announce

        outlets = [outlet for outlet in self.outlets if is_ticket_changes_asset(outlet)]
        events: Any = context.get("outlet_events")
        if outlets and events is not None and (note := announce(log, run)) is not None:
            for outlet in outlets:
                events[outlet].add(Asset(uri=outlet.name), extra=result)
            note()

    def _scan(
        self,
        context: Context,
        state: dict[str, Any] | None,
        make_scan: Callable[[LightspeedHook, Callable[[dict[str, Any]], None]], Scan],
    ) -> dict[str, Any]:
        """Scan, and defer or wait in the worker slot while the quota is used up."""
        from airflow_provider_lightspeed.changes.progress import Progress

        checkpoint = Checkpoint(context)
        saved = state

        def save(progress: dict[str, Any]) -> None:
            nonlocal saved
            saved = progress
            checkpoint.save(progress)

        max_wait = None if self.deferrable else inf
        while True:
            scan = make_scan(self._hook(max_wait), save)
            try:
                result = scan.run(Progress.from_json(saved)).to_json()
            except LightspeedQuotaExhaustedError as error:
                if scan.can_resume:
                    method = self.execute_complete.__name__
                    defer_until(self, error.until, method, saved, reason=error.reason)
                # The list can't be resumed where it is, so it must not be interrupted.
                max_wait = inf
            except NOT_RESUMABLE:
                checkpoint.clear()
                with suppress(Exception):
                    scan.remove_parts()
                raise
            else:
                checkpoint.clear()
                return result

    def _make_scan(
        self,
        log: ChangeLog,
        options: Options,
        redaction: Redaction,
        columns: Columns,
        parts: Callable[[str], Staging],
        hook: LightspeedHook,
        save: Callable[[dict[str, Any]], None],
    ) -> Scan:
        from airflow_provider_lightspeed.changes.scan import Scan
        from airflow_provider_lightspeed.quarantine import Quarantine
        from airflow_provider_lightspeed.transfers.messages import with_messages

        def row(ticket: Mapping[str, Any]) -> dict[str, Any]:
            return columns.row(redaction.apply(dict(ticket)))

        def add_messages(tickets: list[Any]) -> tuple[list[Any], LightspeedQuotaExhaustedError | None]:
            done, _, exhausted = with_messages(tickets, hook.iter_ticket_messages)
            return done, exhausted

        shop = hook.get_conn()
        raw_key = redaction.digest_key(shop.settings.secret)
        return Scan(
            log,
            shop,
            options,
            row=row,
            parts=parts,
            save=save,
            with_messages=add_messages if self.include_messages else None,
            quarantine=Quarantine(raw_key) if self.on_malformed == "quarantine" else None,
            raw_key=raw_key,
        )

    def _open(self, store: Store, columns: Columns) -> ChangeLog:
        from airflow_provider_lightspeed.changes.files import FORMATS
        from airflow_provider_lightspeed.changes.log import ChangeLog

        try:
            return ChangeLog(store, FORMATS[self.file_format](columns))
        except ModuleNotFoundError as error:
            raise LightspeedConfigurationError(
                "file_format 'parquet' needs pyarrow: pip install 'airflow-provider-lightspeed[parquet]', or use "
                "file_format='jsonl'"
            ) from error

    def _scan_options(self, context: Context, hook: LightspeedHook, redaction: Redaction) -> Options:
        from airflow_provider_lightspeed.changes.compare import Limits
        from airflow_provider_lightspeed.changes.options import Options
        from airflow_provider_lightspeed.changes.records import Identity

        settings = hook.get_conn().settings
        excluded, hashed, hash_key = redaction.name
        return Options(
            identity=Identity(
                shop=settings.shop,
                language=settings.language,
                file_format=self.file_format,
                fields=digest(excluded, hashed, self.include_messages),
                hash_key=hash_key[:16],
            ),
            scan=self.scan,
            recent=self.recent,
            full_every=self.full_every,
            limits=Limits(self.max_deleted, self.max_updated, self._accepted()),
            confirm_deleted=self.confirm_deleted,
            compact=self.compact,
            run=task_key(context),
            generation=task_generation(self, context),
        )

    def _accepted(self) -> int | None:
        if is_unrendered(self.accept_deleted):
            return None
        text = str(self.accept_deleted).strip()
        if not text.isdecimal():
            raise LightspeedConfigurationError(
                f"accept_deleted must be the number that the error named, got {self.accept_deleted!r}"
            )
        return int(text)

    def _redaction(self, hook: LightspeedHook) -> Redaction:
        from airflow_provider_lightspeed.transfers.redaction import MESSAGES_ASKED_FOR, Redaction

        needed = [("createdAt", "exclude_fields: recent scans need createdAt, so it can't be left out")]
        if self.include_messages:
            needed.append(MESSAGES_ASKED_FOR)
        key = hook.get_hash_secret(self.hash_secret_variable) if self.hash_fields else ""
        return Redaction(
            self.exclude_fields, self.hash_fields, key, key_variable=self.hash_secret_variable, needed=needed
        )

    def _layout(self, redaction: Redaction) -> Layout:
        from airflow_provider_lightspeed.formats import Layout

        return Layout(
            file_format=self.file_format,
            flatten=True,
            include_messages=bool(self.include_messages),
            exclude=redaction.exclude,
            text=redaction.text_columns,
        )

    def _write_options(self) -> Any:
        from airflow_provider_lightspeed.s3.client import WriteOptions

        return WriteOptions(self.encrypt, self.kms_key_id, self.acl_policy)

    def _check_options(self) -> None:
        require_rendered(self, "s3_prefix", "lightspeed_conn_id", "scan", "file_format")
        require_rendered(self, *_OPTIONS, hint="leave it out if you do not need it")
        parse_flag("encrypt", self.encrypt)
        parse_flag("deferrable", self.deferrable)
        for name, value, choices in (
            ("scan", self.scan, _SCANS),
            ("file_format", self.file_format, ("parquet", "jsonl")),
            ("include_messages", self.include_messages, (False, "changed")),
            ("on_malformed", self.on_malformed, ("fail", "quarantine")),
        ):
            if value not in choices:
                known = " or ".join(map(repr, choices))
                raise LightspeedConfigurationError(f"{name} must be {known}, got {value!r}")
        for name in ("recent", "full_every"):
            age = getattr(self, name)
            if not isinstance(age, timedelta) or age <= timedelta(0):
                raise LightspeedConfigurationError(f"{name} must be a timedelta above 0, got {age!r}")
        if self.compact is not None and (
            not isinstance(self.compact, timedelta) or self.compact < timedelta(days=1)
        ):
            raise LightspeedConfigurationError(
                f"compact must be a timedelta of at least a day, got {self.compact!r}: runs that are under way need "
                "the files of the last hours"
            )
        for name in ("max_deleted", "max_updated"):
            share = getattr(self, name)
            if isinstance(share, bool) or not isinstance(share, (int, float)) or not 0 <= share <= 1:
                raise LightspeedConfigurationError(f"{name} must be a share from 0 to 1, got {share!r}")
        if (
            isinstance(self.confirm_deleted, bool)
            or not isinstance(self.confirm_deleted, int)
            or self.confirm_deleted < 0
        ):
            raise LightspeedConfigurationError(
                f"confirm_deleted must be a number of tickets, got {self.confirm_deleted!r}"
            )


class CheckTicketChangesOperator(BaseOperator):
    """Fail if a change log is too old, or its parts do not match. Use it to get an alert.

    It reads ``status.json``, compares it with the end of the log and ``current``, and counts the shop's tickets with one
    API call. A count that differs is a warning with numbers: tickets come and go while it runs.

    Returns ``{"seq", "tickets", "shop_tickets", "complete_as_of", "recent_as_of"}``.

    :param s3_prefix: where ``LightspeedTicketChangesToS3Operator`` writes (templated).
    :param s3_bucket: bucket, unless ``s3_prefix`` has it (templated).
    :param max_age: how old ``complete_as_of`` may be.
    :param lightspeed_conn_id: connection to the shop (templated).
    :param aws_conn_id: connection to S3 (templated).
    :raises LightspeedStaleChangesError: (retried: a run may be under way) with all that is wrong.
    """

    template_fields: Sequence[str] = ("lightspeed_conn_id", "s3_prefix", "s3_bucket", "aws_conn_id")
    ui_color = "#f9e3e3"

    @record_passed
    def __init__(
        self,
        *,
        s3_prefix: str,
        s3_bucket: str | None = None,
        max_age: timedelta = timedelta(hours=26),
        lightspeed_conn_id: str = LightspeedHook.default_conn_name,
        aws_conn_id: str | None = "aws_default",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.s3_prefix = s3_prefix
        self.s3_bucket = s3_bucket
        self.max_age = max_age
        self.lightspeed_conn_id = lightspeed_conn_id
        self.aws_conn_id = aws_conn_id

    @fail_without_retry()
    def execute(self, context: Context) -> dict[str, Any]:  # ruff: ignore[unused-method-argument] - Airflow passes it
        """Check the log, and count the shop's tickets."""
        from airflow_provider_lightspeed.changes.check import problems
        from airflow_provider_lightspeed.changes.reader import open_log, parse_prefix
        from airflow_provider_lightspeed.s3.client import connect, s3_errors

        require_rendered(self, "s3_prefix", "s3_bucket", "lightspeed_conn_id")
        if not isinstance(self.max_age, timedelta):
            raise LightspeedConfigurationError(f"max_age must be a timedelta, got {self.max_age!r}")
        bucket, prefix = parse_prefix(self.s3_prefix, self.s3_bucket)
        with s3_errors(f"read s3://{bucket}/{prefix}/"):
            log = open_log(connect(self.aws_conn_id), f"s3://{bucket}/{prefix}/")
            status, head, current = log.ends()
        found = problems(status, head, current, self.max_age, datetime.now(UTC))
        if found or status is None:
            raise LightspeedStaleChangesError(f"s3://{bucket}/{prefix}/: {'; '.join(found)}")
        count = LightspeedHook(self.lightspeed_conn_id).count_tickets()
        expected = status.tickets
        if count != expected:
            self.log.warning(
                "The shop counts %s, and s3://%s/%s/ has %s as of %s (%+d); it may count tickets that came or "
                "went since, or that its list hides",
                counted(count, "ticket"), bucket, prefix, f"{expected:,}", status.recent_as_of, count - expected,
            )  # fmt: skip
        result = {
            "seq": status.seq,
            "tickets": status.tickets,
            "shop_tickets": count,
            "complete_as_of": status.complete_as_of.isoformat() if status.complete_as_of else None,
            "recent_as_of": status.recent_as_of.isoformat() if status.recent_as_of else None,
        }
        self.log.info(
            "The changes, current and status.json agree up to change file %d: %s, complete as of %s",
            status.seq, counted(expected, "ticket"), result["complete_as_of"],
        )  # fmt: skip
        return result
