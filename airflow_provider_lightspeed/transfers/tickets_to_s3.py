"""Tickets of a shop to one object in S3."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime
from math import inf
from typing import TYPE_CHECKING, Any, Literal

from airflow_provider_lightspeed._airflow import (
    AirflowSkipException,
    BaseOperator,
    conf,
)
from airflow_provider_lightspeed._arguments import (
    NO_DATA_INTERVAL,
    parse_choice,
    parse_flag,
    parse_ticket_filter,
    record_passed,
    require_rendered,
)
from airflow_provider_lightspeed._checkpoint import (
    Checkpoint,
    defer_until,
    mapped_instance,
    task_generation,
    task_key,
)
from airflow_provider_lightspeed.api.errors import LightspeedConfigurationError, LightspeedQuotaExhaustedError
from airflow_provider_lightspeed.api.wording import counted
from airflow_provider_lightspeed.exceptions import fail_without_retry
from airflow_provider_lightspeed.hooks.lightspeed import LightspeedHook
from airflow_provider_lightspeed.s3.client import full_address, parse_s3_uri
from airflow_provider_lightspeed.s3.link import S3ObjectLink
from airflow_provider_lightspeed.transfers.stoppable import StopsAtNextCall

if TYPE_CHECKING:
    from airflow.providers.openlineage.extractors import OperatorLineage

    from airflow_provider_lightspeed._airflow import Context
    from airflow_provider_lightspeed.formats import Format
    from airflow_provider_lightspeed.transfers.attempt import ExportJob
    from airflow_provider_lightspeed.transfers.lineage import Exported
    from airflow_provider_lightspeed.transfers.progress import Progress
    from airflow_provider_lightspeed.transfers.redaction import Redaction

# The modules that run an export are loaded when it starts: DAG files are parsed every few seconds.

#: None or an empty text must not stand for their absence: more tickets, or fields, would leave the shop.
_OPTIONS = (
    "since_id",
    "customer_email",
    "s3_bucket",
    "exclude_fields",
    "hash_fields",
    "hash_secret_variable",
    "encrypt",
    "kms_key_id",
    "acl_policy",
)
_SWITCHES = (
    "flatten",
    "escape_formulas",
    "csv_bom",
    "replace",
    "skip_if_empty",
    "include_messages",
    "encrypt",
    "deferrable",
)


class LightspeedTicketsToS3Operator(StopsAtNextCall, BaseOperator):
    """Write the tickets of a shop to one S3 object.

    The object holds every matching ticket that exists all through the export, exactly once. If this cannot be proven,
    the task fails and writes no object. Memory does not grow with the shop. After a crash, the next try resumes
    (Airflow 3.3; older versions start over).

    Returns ``{"uri", "tickets", "min_id", "max_id", "bytes", "calls", "shop"}``; ``shop`` is a hash that identifies the shop.
    The same is in the events of the task's asset outlets and, except ``bytes`` and ``shop``, in the object's user
    metadata.

    :param s3_key: key of the object, or its full ``s3://`` address (templated).
    :param s3_bucket: bucket of the object, unless ``s3_key`` has it (templated).
    :param created_from: only tickets created at or after this instant, with a zone (templated).
    :param created_to: only tickets created before this instant, with a zone (templated). A shop may show a ticket some
        time after it was created: one that comes after the export is in no object.
    :param since_id: only tickets with a greater id (templated).
    :param customer_email: only tickets of the customer with this e-mail address (templated). Not
        ``email``: that is Airflow's own argument, the address that it notifies of a failure.
    :param file_format: ``jsonl``, ``csv`` or ``parquet`` (default: by the key's ending, otherwise ``jsonl``; templated).
    :param compression: ``gzip``, ``zstd`` or ``none`` (default: by the key's ending, ``.gz`` or ``.zst``; templated).
        Parquet compresses inside the file, with ``zstd`` by default.
    :param flatten: write columns with types instead of the API's own objects. CSV and Parquet always do.
    :param escape_formulas: write an apostrophe before text in CSV that a spreadsheet would run as a formula (default).
        Lines that start with ``-`` or ``+`` get one too; turn it off for a warehouse.
    :param csv_bom: whether CSV starts with a byte order mark, so that Excel reads it as UTF-8 (default: no).
    :param replace: replace an existing object. Otherwise the task fails if there is one; of two runs at the same time,
        one wins.
    :param skip_if_empty: skip the task and write no object if no ticket matches.
    :param on_malformed: what a malformed ticket does. ``fail`` (default) fails the task and names the ticket.
        ``quarantine`` leaves it out, counts it as ``rejected``, and writes it to ``_rejected/`` below the first folder of
        the key.
    :param include_messages: add the conversation of each ticket, with one call more for each.
    :param exclude_fields: fields to leave out; ``messages.message`` is the text of each message (templated).
    :param hash_fields: fields to replace by a keyed SHA-256, so that equal values stay joinable:
        ``customer``, ``subject``, ``memo``, ``messages.message`` or ``extra.NAME`` (templated).
    :param hash_secret_variable: Airflow Variable with the key for ``hash_fields``; if not given, the connection's
        extra ``hash_secret``, or else the Variable ``lightspeed_hash_secret`` (templated).
    :param encrypt: S3 encrypts the object with its own key.
    :param kms_key_id: KMS key with which S3 encrypts the object (templated).
    :param acl_policy: canned ACL of the object (templated).
    :param deferrable: free the worker slot if the quota is used up for longer than the connection's ``max_wait``
        (default: ``[operators] default_deferrable``). Otherwise the task waits in its slot.
    :param lightspeed_conn_id: connection to the shop (templated).
    :param aws_conn_id: connection to S3 (templated). It needs the rights to put, get, list and delete below the
        key's folder.
    :raises LightspeedTaskFailed: (no retry) if the window is empty, reversed or without a zone, the bucket is missing,
        the object exists, or the credentials are wrong. Nothing is written then.
    :raises LightspeedError: (retried) for temporary failures.
    """

    template_fields: Sequence[str] = (
        "lightspeed_conn_id",  # first: templates of the others may name it (in a mapped group, it is no text before)
        "s3_bucket",
        "s3_key",
        "created_from",
        "created_to",
        "since_id",
        "customer_email",
        "file_format",
        "compression",
        "exclude_fields",
        "hash_fields",
        "hash_secret_variable",
        "kms_key_id",
        "acl_policy",
        "aws_conn_id",
    )
    ui_color = "#f9e3e3"
    operator_extra_links = (S3ObjectLink(),)

    @record_passed
    def __init__(
        self,
        *,
        s3_key: str,
        s3_bucket: str | None = None,
        created_from: datetime | str | None = None,
        created_to: datetime | str | None = None,
        since_id: int | str | None = None,
        customer_email: str | None = None,
        file_format: str | None = None,
        compression: str | None = None,
        flatten: bool = False,
        escape_formulas: bool = True,
        csv_bom: bool = False,
        replace: bool = False,
        skip_if_empty: bool = False,
        on_malformed: Literal["fail", "quarantine"] = "fail",
        include_messages: bool = False,
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
        self.s3_key = s3_key
        self.s3_bucket = s3_bucket
        self.created_from = created_from
        self.created_to = created_to
        self.since_id = since_id
        self.customer_email = customer_email
        self.file_format = file_format
        self.compression = compression
        self.flatten = flatten
        self.escape_formulas = escape_formulas
        self.csv_bom = csv_bom
        self.replace = replace
        self.skip_if_empty = skip_if_empty
        self.on_malformed = on_malformed
        self.include_messages = include_messages
        self.exclude_fields = exclude_fields
        self.hash_fields = hash_fields
        self.hash_secret_variable = hash_secret_variable
        self.encrypt = encrypt
        self.kms_key_id = kms_key_id
        self.acl_policy = acl_policy
        self.deferrable = deferrable
        self.lightspeed_conn_id = lightspeed_conn_id
        self.aws_conn_id = aws_conn_id
        self._exported: Exported | None = None

    def execute(self, context: Context) -> dict[str, Any]:
        """Export the tickets, from where the last try of this task has stopped."""
        return self._run(context, Checkpoint(context).load())

    def execute_complete(
        self,
        context: Context,
        event: Any = None,  # ruff: ignore[unused-method-argument] - Airflow passes it
        state: dict[str, Any] | None = None,
    ) -> dict[str, Any]:
        """Resume after a deferral. ``dag.test()`` of Airflow 3.3.2 drops the state: the checkpoint has it too."""
        return self._run(context, state or Checkpoint(context).load())

    def get_openlineage_facets_on_complete(self, _: Any) -> OperatorLineage[Any, Any] | None:
        """Report to OpenLineage, if it is installed, that the object holds the shop's tickets."""
        return self._exported.lineage() if self._exported else None

    @fail_without_retry()
    def _run(self, context: Context, state: dict[str, Any] | None) -> dict[str, Any]:
        from airflow_provider_lightspeed.transfers.attempt import ExportAttempt
        from airflow_provider_lightspeed.transfers.lineage import Exported
        from airflow_provider_lightspeed.transfers.progress import RESTART_MARGIN

        started = time.monotonic()
        # Airflow looks for it after each try, and logs an error if it is not there.
        self._push_link(context, "")
        self._check_options()
        hook = self._hook(None)
        job = self._job(hook)
        if (end := job.tickets.created_to) is not None and end > datetime.now(UTC):
            self.log.warning(
                "The window is not over: it ends at %s. Tickets that come later are not in the object", end
            )
        attempt = ExportAttempt(
            job,
            Checkpoint(context),
            hook=self._hook,
            aws_conn_id=self.aws_conn_id,
            owner=task_key(context),
            generation=task_generation(self, context),
            instance=mapped_instance(context),
        )
        try:
            size = attempt.run(state, max_wait=None if self.deferrable else inf)
        except LightspeedQuotaExhaustedError as error:
            defer_until(
                self,
                error.until - RESTART_MARGIN,
                self.execute_complete.__name__,
                attempt.resumable_state,
                reason=error.reason,
            )
        progress = attempt.progress
        if self.skip_if_empty and not progress.tickets and not progress.rejected:
            raise AirflowSkipException(f"no ticket matches ({job.filters}); {job.uri} was not written")
        self.log.info(
            "Exported %s (%s) to %s in %.1f s with %s",
            counted(progress.tickets, "ticket"), counted(size, "byte"), job.uri, time.monotonic() - started,
            counted(progress.calls, "API call"),
        )  # fmt: skip
        if attempt.console_address:
            self._push_link(context, attempt.console_address)
        result = self._result(context, job, progress, size)
        self._exported = Exported(
            hook.get_conn().settings.base_url, hook.lightspeed_conn_id, job.file_format.fields(), result
        )
        return result

    @staticmethod
    def _push_link(context: Context, address: str) -> None:
        if "ti" in context:
            context["ti"].xcom_push(key=S3ObjectLink.key, value=address)

    def _result(self, context: Context, job: ExportJob, progress: Progress, size: int) -> dict[str, Any]:
        """Return what is there now, and add it to the events of the asset outlets."""
        if progress.without_messages:
            self.log.warning(
                "Wrote %s without messages: deleted in the shop during the export",
                counted(progress.without_messages, "ticket"),
            )
        result = {
            "uri": job.uri,
            "tickets": progress.tickets,
            "min_id": progress.min_id,
            "max_id": progress.max_id,
            "bytes": size,
            "calls": progress.calls,
            "shop": job.shop,
        }
        if self.on_malformed == "quarantine":
            result["rejected"] = progress.rejected
        events: Any = context.get("outlet_events")
        for outlet in self.outlets if events is not None else ():
            # Lineage entities (File, Table, …) have no events.
            with suppress(TypeError):
                events[outlet].extra.update(result)
        return result

    def _job(self, hook: LightspeedHook) -> ExportJob:
        """Read the arguments, so that an error in them is found before anything is sent."""
        from airflow_provider_lightspeed.s3.client import WriteOptions
        from airflow_provider_lightspeed.transfers.attempt import ExportJob

        bucket, key = self._target()
        redaction = self._redaction(hook)
        return ExportJob(
            shop=hook.get_conn().settings.shop,
            bucket=bucket,
            key=key,
            tickets=parse_ticket_filter(
                since_id=self.since_id,
                created_from=self.created_from,
                created_to=self.created_to,
                email=self.customer_email,
            ),
            file_format=self._format(key, redaction),
            redaction=redaction,
            include_messages=self.include_messages,
            skip_if_empty=self.skip_if_empty,
            replace=self.replace,
            quarantine=self.on_malformed == "quarantine",
            options=WriteOptions(self.encrypt, self.kms_key_id, self.acl_policy),
        )

    def _target(self) -> tuple[str, str]:
        """Return bucket and key of the object."""
        return parse_s3_uri(full_address("s3_key", self.s3_key, self.s3_bucket))

    def _redaction(self, hook: LightspeedHook) -> Redaction:
        from airflow_provider_lightspeed.transfers.redaction import MESSAGES_ASKED_FOR, Redaction

        return Redaction(
            self.exclude_fields,
            self.hash_fields,
            hook.get_hash_secret(self.hash_secret_variable) if self.hash_fields else "",
            key_variable=self.hash_secret_variable,
            needed=[MESSAGES_ASKED_FOR] if self.include_messages else (),
        )

    def _format(self, key: str, redaction: Redaction) -> Format:
        from airflow_provider_lightspeed.formats import FormatError, Layout, choose, make_format

        try:
            file_format, compression = choose(key, self.file_format, self.compression)
            return make_format(
                Layout(
                    file_format=file_format,
                    compression=compression,
                    flatten=self.flatten,
                    include_messages=self.include_messages,
                    exclude=redaction.exclude,
                    text=redaction.text_columns,
                    escape_formulas=self.escape_formulas,
                    csv_bom=self.csv_bom,
                )
            )
        except (FormatError, ModuleNotFoundError) as error:
            raise LightspeedConfigurationError(str(error)) from None

    def _check_options(self) -> None:
        require_rendered(self, "s3_key", "lightspeed_conn_id")
        require_rendered(self, "created_from", "created_to", hint=NO_DATA_INTERVAL)
        require_rendered(self, *_OPTIONS, hint="leave it out if you do not need it")
        self._target()
        for name in _SWITCHES:
            parse_flag(name, getattr(self, name))
        parse_choice("on_malformed", self.on_malformed, "fail", "quarantine")
