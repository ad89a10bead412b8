"""What all bulk changes share: arguments, checkpoint, deferral, result."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from airflow_provider_lightspeed._airflow import BaseOperator
from airflow_provider_lightspeed._arguments import (
    parse_choice,
    parse_flag,
    parse_instant,
    parse_number,
    parse_text,
    parse_ticket_filter,
    passed_names,
    record_passed,
    require_rendered,
)
from airflow_provider_lightspeed._checkpoint import Checkpoint, defer_until, task_generation
from airflow_provider_lightspeed.api.errors import LightspeedConfigurationError
from airflow_provider_lightspeed.api.wording import counted, first_few
from airflow_provider_lightspeed.cancellation import CancelToken
from airflow_provider_lightspeed.exceptions import (
    LightspeedTaskFailed,
    LightspeedTicketsFailed,
    fail_without_retry,
)
from airflow_provider_lightspeed.hooks.lightspeed import LightspeedHook
from airflow_provider_lightspeed.s3.client import WriteOptions, parse_s3_uri
from airflow_provider_lightspeed.s3.objects import S3Objects

if TYPE_CHECKING:
    from airflow_provider_lightspeed._airflow import Context
    from airflow_provider_lightspeed.api.client import LightspeedClient
    from airflow_provider_lightspeed.bulk.change import BulkChange
    from airflow_provider_lightspeed.bulk.job import Job
    from airflow_provider_lightspeed.bulk.run import IfChanged

_MAX_TICKETS = 1000
_CRITERIA = (
    "created_before",
    "updated_before",
    "only_answered",
    "customer_email",
    "language",
    "where",
)
_RECEIPT = ("receipt_s3_key", "encrypt", "kms_key_id", "acl_policy")


class BulkTicketsOperator(BaseOperator):
    """Do one thing to many tickets. See :class:`~.tickets.UpdateTicketsOperator` for the arguments."""

    template_fields: Sequence[str] = (
        "lightspeed_conn_id",  # first: templates of the others may name it (in a mapped group, it is no text before)
        "ticket_ids",
        "created_before",
        "updated_before",
        "customer_email",
        "language",
        "receipt_s3_key",
        "kms_key_id",
        "acl_policy",
        "aws_conn_id",
    )
    ui_color = "#e3f0f9"

    #: Under which name the changed tickets are reported.
    changed_key: ClassVar[Literal["updated", "closed", "deleted"]] = "updated"

    @record_passed
    def __init__(
        self,
        *,
        ticket_ids: Any = None,
        created_before: datetime | str | None = None,
        updated_before: datetime | str | None = None,
        only_answered: bool = False,
        include_todo: bool = False,
        customer_email: str | None = None,
        language: str | None = None,
        where: Callable[[dict[str, Any]], bool] | None = None,
        max_tickets: int | None = None,
        max_share: float = 0.5,
        if_changed: IfChanged = "skip",
        on_failure: Literal["fail", "warn"] = "fail",
        dry_run: bool = False,
        receipt_s3_key: str | None = None,
        encrypt: bool = False,
        kms_key_id: str | None = None,
        acl_policy: str | None = None,
        lightspeed_conn_id: str = LightspeedHook.default_conn_name,
        aws_conn_id: str | None = "aws_default",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.ticket_ids = ticket_ids
        self.created_before = created_before
        self.updated_before = updated_before
        self.only_answered = only_answered
        self.include_todo = include_todo
        self.customer_email = customer_email
        self.language = language
        self.where = where
        self.max_tickets = max_tickets
        self.max_share = max_share
        self.if_changed = if_changed
        self.on_failure = on_failure
        # Operators have a method dry_run(), for `airflow tasks test --dry-run`.
        self.only_plan = dry_run
        self.receipt_s3_key = receipt_s3_key
        self.encrypt = encrypt
        self.kms_key_id = kms_key_id
        self.acl_policy = acl_policy
        self.lightspeed_conn_id = lightspeed_conn_id
        self.aws_conn_id = aws_conn_id

    @abstractmethod
    def _properties(self) -> Mapping[str, bool | str] | None:
        """Return what each ticket is to get, by the API's names; None deletes it."""

    @fail_without_retry()
    def execute(self, context: Context) -> dict[str, Any]:
        """Plan and change, or resume where an earlier try ended."""
        change, client = self._change(), self._connect()
        checkpoint = self._checkpoint(context, change)
        if not checkpoint.is_persistent:
            self._warn_of_replaced_receipt(context)
        job = change.start(checkpoint.load(), client.settings.shop, task_generation(self, context))
        return self._run(context, change, job, client, checkpoint, is_new_try=True)

    @fail_without_retry()
    def execute_complete(
        self,
        context: Context,
        event: Any = None,  # ruff: ignore[unused-method-argument] - Airflow passes it
        state: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        """Resume after a deferral."""
        change, client = self._change(), self._connect()
        checkpoint = self._checkpoint(context, change)
        saved = state or checkpoint.load()
        job = change.resume(saved, client.settings.shop)
        if job is not None and job.options_hash == change.options_hash:
            return self._run(context, change, job, client, checkpoint)
        job = change.start(saved, client.settings.shop, task_generation(self, context))
        return self._run(context, change, job, client, checkpoint, is_new_try=True)

    def on_kill(self) -> None:
        """Ask the job to stop; it does so within seconds, and writes its receipt."""
        self._cancel.request()

    @cached_property
    def _cancel(self) -> CancelToken:
        return CancelToken()

    def _connect(self) -> LightspeedClient:
        client = LightspeedHook(self.lightspeed_conn_id).get_conn()
        client.sleep = self._cancel.sleep
        return client

    def _run(
        self,
        context: Context,
        change: BulkChange,
        job: Job,
        client: LightspeedClient,
        checkpoint: Checkpoint,
        *,
        is_new_try: bool = False,
    ) -> dict[str, Any]:
        earlier_calls = job.calls

        def save() -> None:
            job.calls = earlier_calls + client.calls
            checkpoint.save(job.to_checkpoint())

        try:
            if is_new_try:
                change.check_receipt()
            wait = change.run(client, job, save)
            save()
            change.write_receipt(job)
            if client.quota:
                self.log.info("API quota: %s", client.quota)
            self.log.info("%s", change.summary(job))
            if job.is_all_missing():
                self.log.warning(
                    "None of %s is in this shop: check ticket_ids and lightspeed_conn_id",
                    counted(len(job.plan), "ticket"),
                )
            if wait is None:
                self._raise_for_failures(change, job)
                # Airflow may fail to store the result: then the next try returns it.
                job.ended = task_generation(self, context)
                save()
        except BaseException as error:
            job.calls = earlier_calls + client.calls
            if isinstance(error, LightspeedTaskFailed):
                job.ended, job.is_refused = task_generation(self, context), True
            self._keep_what_was_done(context, change, job, checkpoint)
            raise
        if wait is not None:
            state = None if checkpoint.is_persistent else job.to_checkpoint()
            defer_until(self, wait.until, self.execute_complete.__name__, state, reason=wait.reason)
        return change.result(job)

    def _keep_what_was_done(
        self, context: Context, change: BulkChange, job: Job, checkpoint: Checkpoint
    ) -> None:
        """Write receipt, XCom and checkpoint. An error in one is logged, and does not stop the others."""

        def write_receipt() -> None:
            change.write_receipt(job)

        def push_result() -> None:
            # When a task fails, Airflow has no result to push, and it matters the most then.
            if "ti" in context:
                context["ti"].xcom_push(key="return_value", value=change.result(job))

        def save_checkpoint() -> None:
            checkpoint.save(job.to_checkpoint())

        for step in (write_receipt, push_result, save_checkpoint):
            try:
                step()
            except BaseException as trouble:  # ruff: ignore[blind-except] - the first error is the one to raise
                self.log.warning(
                    "After the error, %s failed too: %s: %s", step.__name__, type(trouble).__name__, trouble
                )

    def _raise_for_failures(self, change: BulkChange, job: Job) -> None:
        """Report which tickets failed.

        :raises LightspeedTicketsFailed: if another try may help.
        :raises LightspeedTaskFailed: if all that is wrong is that tickets have changed. A try with the same plan
            would find the same.
        """
        failed = change.failures(job)
        if not failed:
            return
        shown = first_few([f"{ticket_id}: {reason}" for ticket_id, reason in failed.items()], separator="; ")
        message = f"{len(failed):,} of {counted(len(job.plan), 'ticket')} failed: {shown}"
        if self.on_failure == "warn":
            self.log.warning(message)
            return
        raise LightspeedTicketsFailed(message, failed) if job.failed() else LightspeedTaskFailed(message)

    def _warn_of_replaced_receipt(self, context: Context) -> None:
        try_number = getattr(context.get("ti"), "try_number", None) or 1
        if self.receipt_s3_key and try_number > 1:
            self.log.warning(
                "Try %d knows nothing of earlier tries: this version of Airflow keeps no task state. Its receipt replaces "
                "one at the same address, and lists tickets that an earlier try changed as 'already'. To keep each "
                "receipt, put {{ ti.try_number }} in receipt_s3_key",
                try_number,
            )

    def _checkpoint(self, context: Context, change: BulkChange) -> Checkpoint:
        # What was planned and done counts until the job has ended, also after a clear.
        return Checkpoint(context, f"lightspeed_bulk_{change.action_hash}", outlives_clear=True)

    def _change(self) -> BulkChange:
        """Read the arguments.

        :raises LightspeedConfigurationError: if one of them cannot be right.
        """
        # Loaded when it runs: DAG files are parsed every few seconds.
        from airflow_provider_lightspeed.bulk.change import BulkChange, Criteria

        require_rendered(
            self, "ticket_ids", *_CRITERIA, "include_todo", "max_tickets", *_RECEIPT, "lightspeed_conn_id"
        )
        criteria = Criteria(
            created_before=parse_instant("created_before", self.created_before),
            updated_before=parse_instant("updated_before", self.updated_before),
            only_answered=parse_flag("only_answered", self.only_answered),
            include_todo=parse_flag("include_todo", self.include_todo),
            email=parse_ticket_filter(email=self.customer_email).email,
            language=self.language,
            where=self.where,
        )
        by_ids = bool(passed_names(self, "ticket_ids"))
        if not by_ids and not criteria.is_narrow:
            raise LightspeedConfigurationError(
                f"no tickets are chosen: give ticket_ids, or at least one of {', '.join(_CRITERIA)}. Without them, the "
                "task would change every ticket"
            )
        if by_ids and criteria.is_narrow:
            raise LightspeedConfigurationError(
                f"give ticket_ids or criteria, not both; the criteria are {criteria}"
            )
        if self.receipt_s3_key is not None:
            self.receipt_s3_key = parse_text("receipt_s3_key", self.receipt_s3_key)
            parse_s3_uri(self.receipt_s3_key)
        if not (isinstance(self.max_share, int | float) and 0.0 < self.max_share <= 1.0):
            raise LightspeedConfigurationError(
                f"max_share must be above 0 and at most 1, got {self.max_share!r}"
            )
        parse_choice("on_failure", self.on_failure, "fail", "warn")
        return BulkChange(
            changed_key=self.changed_key,
            properties=self._properties(),
            ticket_ids=self.ticket_ids if by_ids else None,
            criteria=criteria,
            max_tickets=self._parse_max_tickets(by_ids=by_ids),
            max_share=self.max_share,
            if_changed=parse_choice("if_changed", self.if_changed, "skip", "overwrite", "fail"),
            dry_run=parse_flag("dry_run", self.only_plan),
            receipt_uri=self.receipt_s3_key,
            files=S3Objects(
                self.aws_conn_id,
                WriteOptions(parse_flag("encrypt", self.encrypt), self.kms_key_id, self.acl_policy),
            ),
            cancel=self._cancel,
        )

    def _parse_max_tickets(self, *, by_ids: bool) -> int:
        if self.max_tickets is None:
            if self.customer_email is not None:
                raise LightspeedConfigurationError(
                    "customer_email needs max_tickets, the most tickets that the task may change"
                )
            if self.changed_key == "deleted" and not by_ids:
                raise LightspeedConfigurationError(
                    "to delete by criteria, set max_tickets, the most tickets that the task may delete"
                )
            return _MAX_TICKETS
        return parse_number("max_tickets", self.max_tickets)
