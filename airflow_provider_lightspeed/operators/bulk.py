"""What all bulk changes share: arguments, plan, receipt, checkpoint, deferral, outcome."""

from __future__ import annotations

import hashlib
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import msgspec

from airflow_provider_lightspeed._airflow import BaseOperator
from airflow_provider_lightspeed._arguments import (
    parse_flag,
    parse_instant,
    parse_ticket_filter,
    passed_names,
    record_passed,
    require_rendered,
)
from airflow_provider_lightspeed._checkpoint import Checkpoint, defer_until
from airflow_provider_lightspeed.api.errors import LightspeedConfigurationError, LightspeedQuotaExhaustedError
from airflow_provider_lightspeed.bulk.cancellation import CancelToken
from airflow_provider_lightspeed.exceptions import (
    LightspeedTaskFailed,
    LightspeedTicketsFailed,
    fail_without_retry,
)
from airflow_provider_lightspeed.hooks.lightspeed import LightspeedHook
from airflow_provider_lightspeed.s3.client import S3Objects, parse_s3_uri

if TYPE_CHECKING:
    from airflow_provider_lightspeed._airflow import Context
    from airflow_provider_lightspeed.api.client import LightspeedClient
    from airflow_provider_lightspeed.bulk.actions import Action
    from airflow_provider_lightspeed.bulk.job import Job, Plan
    from airflow_provider_lightspeed.bulk.plan import Criteria
    from airflow_provider_lightspeed.bulk.run import IfChanged

# What carries a change out is loaded where that begins: DAG files are parsed every few seconds.

_SHOWN = 5
_MAX_TICKETS = 1000
_CRITERIA = (
    "created_before",
    "updated_before",
    "only_answered",
    "customer_email",
    "language",
    "where",
)


class BulkTicketsOperator(BaseOperator):
    """Do one thing to many tickets. See :class:`~.tickets.UpdateTicketsOperator` for the arguments."""

    template_fields: Sequence[str] = (
        "ticket_ids",
        "created_before",
        "updated_before",
        "customer_email",
        "language",
        "receipt_s3_key",
        "lightspeed_conn_id",
        "aws_conn_id",
    )
    ui_color = "#e3f0f9"

    #: Under which name the changed tickets are reported.
    changed_key: ClassVar[str] = "updated"

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
        max_tickets: int | None = _MAX_TICKETS,
        max_share: float = 0.5,
        if_changed: IfChanged = "skip",
        on_failure: Literal["fail", "warn"] = "fail",
        dry_run: bool = False,
        receipt_s3_key: str | None = None,
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
        self.lightspeed_conn_id = lightspeed_conn_id
        self.aws_conn_id = aws_conn_id

    @abstractmethod
    def _action(self) -> Action:
        """Return what is to be done to each ticket."""

    @fail_without_retry()
    def execute(self, context: Context) -> dict[str, Any]:
        """Plan and carry out, or go on where an earlier try ended."""
        from airflow_provider_lightspeed.bulk.job import Job

        self._check_arguments()
        targets = self._targets()
        request_hash = self._request_hash(targets)
        client = self._connect()
        shop = client.settings.shop
        job = self._load_job(self._checkpoint(context).load(), shop) or Job(
            request_hash=request_hash, shop=shop
        )
        if job.request_hash != request_hash:
            self.log.info("Other tickets are meant than in an earlier try: planning anew")
            job = job.replan(request_hash)
        if targets is not None and not job.planned:
            job.plan = job.plan | targets
        job.forget_failures()
        return self._go_on(context, job, client)

    @fail_without_retry()
    def execute_complete(
        self,
        context: Context,
        event: Any = None,  # ruff: ignore[unused-method-argument] - Airflow passes it
        state: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        """Go on after a deferral."""
        client = self._connect()
        job = self._load_job(state or self._checkpoint(context).load(), client.settings.shop)
        return self.execute(context) if job is None else self._go_on(context, job, client)

    def _load_job(self, state: Mapping[str, Any] | None, shop: str) -> Job | None:
        """Take up what an earlier try has done, if it was done in this shop."""
        from airflow_provider_lightspeed.bulk.job import Job

        job = Job.from_checkpoint(state)
        if job is not None and job.shop != shop:
            self.log.warning("The connection led to another shop in an earlier try: planning anew")
            return None
        return job

    def _connect(self) -> LightspeedClient:
        client = LightspeedHook(self.lightspeed_conn_id).get_conn()
        client.sleep = self._cancel.sleep
        return client

    def on_kill(self) -> None:
        """Ask the job to stop; it does so within seconds, and writes its receipt."""
        self._cancel.request()

    @cached_property
    def _cancel(self) -> CancelToken:
        return CancelToken()

    def _go_on(self, context: Context, job: Job, client: LightspeedClient) -> dict[str, Any]:
        checkpoint = self._checkpoint(context)
        earlier_calls = job.calls

        def keep() -> None:
            job.calls = earlier_calls + client.calls
            checkpoint.save(job.to_checkpoint())

        try:
            if not job.planned:
                self._plan(client, job, keep)
            if job.remaining:
                self._apply(client, job, keep)
            self._write_receipt(job)
            self._raise_for_failures(job)
        except LightspeedQuotaExhaustedError as wait:
            keep()
            self._log_summary(job, client)
            self.log.info("Going on at %s: %s", wait.until, wait)
            defer_until(
                self,
                wait.until,
                "execute_complete",
                None if checkpoint.is_persistent else job.to_checkpoint(),
            )
        except BaseException as error:
            keep()
            # When a task fails, Airflow has no result to push, and it matters the most then.
            if "ti" in context:
                context["ti"].xcom_push(key="return_value", value=self._result(job))
            self._write_receipt(job)
            if isinstance(error, LightspeedTaskFailed):
                checkpoint.clear()
            raise
        keep()
        self._log_summary(job, client)
        checkpoint.clear()
        return self._result(job)

    def _plan(self, client: LightspeedClient, job: Job, keep: Callable[[], None]) -> None:
        from airflow_provider_lightspeed.bulk.plan import make_plan, refuse_too_large_share, refuse_too_many
        from airflow_provider_lightspeed.bulk.refresh import record_last_changes

        allowed = _MAX_TICKETS if self.max_tickets is None else self.max_tickets
        if self._by_ids:
            refuse_too_many(len(job.remaining), allowed)
            if not self.only_plan:
                record_last_changes(client, job)
        else:
            make_plan(client, job, self._criteria(), self._action(), max_share=self.max_share, save=keep)
            planned = len(job.remaining)
            self.log.info(
                "The criteria (%s) choose %d of %d open tickets read",
                self._criteria(),
                planned,
                job.open_tickets,
            )
            refuse_too_many(planned, allowed)
            if self.max_share < 1.0:
                refuse_too_large_share(planned, job.open_tickets, self.max_share)
            if self.only_plan:
                job.mark_all_done()
        job.planned = True
        keep()
        # Also proves that the receipt can be written, before anything is changed.
        self._write_receipt(job)

    def _apply(self, client: LightspeedClient, job: Job, keep: Callable[[], None]) -> None:
        from airflow_provider_lightspeed.bulk.run import Run

        if self.only_plan:
            self.log.info("Looking at %d tickets; none is changed", len(job.remaining))
        run = Run(
            client,
            job,
            self._action(),
            if_changed=self.if_changed,
            dry_run=self.only_plan,
            save=keep,
            cancel=self._cancel,
        )
        run.run()

    @property
    def _by_ids(self) -> bool:
        return bool(passed_names(self, "ticket_ids"))

    def _targets(self) -> Plan | None:
        """Read the tickets that are named; None where they are chosen by criteria."""
        if not self._by_ids:
            return None
        from airflow_provider_lightspeed.bulk.targets import read_targets

        return read_targets(self.ticket_ids, S3Objects(self.aws_conn_id).read)

    def _request_hash(self, targets: Plan | None) -> str:
        """Stand for which tickets are requested: a task that was changed and then cleared must not go on with its plan."""
        criteria = None if self._by_ids else replace(self._criteria(), where=None)
        where = self._criteria().where_name
        return hashlib.sha256(repr((targets, criteria, where)).encode()).hexdigest()

    def _criteria(self) -> Criteria:
        from airflow_provider_lightspeed.bulk.plan import Criteria

        return Criteria(
            created_before=parse_instant("created_before", self.created_before),
            updated_before=parse_instant("updated_before", self.updated_before),
            only_answered=parse_flag("only_answered", self.only_answered),
            include_todo=parse_flag("include_todo", self.include_todo),
            email=parse_ticket_filter(email=self.customer_email).email,
            language=self.language,
            where=self.where,
        )

    def _check_arguments(self) -> None:
        require_rendered(
            self, "ticket_ids", *_CRITERIA, "include_todo", "receipt_s3_key", "lightspeed_conn_id"
        )
        parse_flag("dry_run", self.only_plan)
        criteria = self._criteria()
        if not self._by_ids and not criteria.is_narrow:
            raise LightspeedConfigurationError(
                f"which tickets? Give ticket_ids, or at least one of {', '.join(_CRITERIA)}: nothing given does not "
                "mean every ticket"
            )
        if self._by_ids and criteria.is_narrow:
            raise LightspeedConfigurationError(f"either ticket_ids or criteria, not both: {criteria}")
        for name, allowed in (
            ("if_changed", {"skip", "overwrite", "fail"}),
            ("on_failure", {"fail", "warn"}),
        ):
            if getattr(self, name) not in allowed:
                raise LightspeedConfigurationError(
                    f"{name} must be one of {', '.join(sorted(allowed))}, got {getattr(self, name)!r}"
                )
        if not (isinstance(self.max_share, int | float) and 0.0 < self.max_share <= 1.0):
            raise LightspeedConfigurationError(
                f"max_share must be above 0 and at most 1, got {self.max_share!r}"
            )
        if self.max_tickets is not None and (
            not isinstance(self.max_tickets, int) or isinstance(self.max_tickets, bool)
        ):
            raise LightspeedConfigurationError(
                f"max_tickets must be a whole number, got {self.max_tickets!r}"
            )
        if self.receipt_s3_key:
            parse_s3_uri(self.receipt_s3_key)

    def _checkpoint(self, context: Context) -> Checkpoint:
        # What was done to tickets is of no use once something else is to be done to them.
        done = hashlib.sha256(repr((self.task_type, self._action(), self.only_plan)).encode()).hexdigest()
        return Checkpoint(context, f"lightspeed_bulk_{done[:12]}")

    def _result(self, job: Job) -> dict[str, Any]:
        outcome = job.result(self.changed_key, dry_run=self.only_plan)
        return outcome | ({"receipt": self.receipt_s3_key} if self.receipt_s3_key and job.planned else {})

    def _write_receipt(self, job: Job) -> None:
        if self.receipt_s3_key and job.planned:
            lines = list(job.receipt(self.changed_key, dry_run=self.only_plan))
            S3Objects(self.aws_conn_id).write(self.receipt_s3_key, msgspec.json.Encoder().encode_lines(lines))

    def _log_summary(self, job: Job, client: LightspeedClient) -> None:
        told = job.summary(self.changed_key, dry_run=self.only_plan)
        self.log.info("%s; %s", told, client.quota or "no call was needed")

    def _raise_for_failures(self, job: Job) -> None:
        """Say which tickets failed.

        :raises LightspeedTicketsFailed: if another try may help.
        :raises LightspeedTaskFailed: if all that is wrong is that tickets have changed. A try with the same plan
            would find the same; with another plan, it would change what nobody has looked at.
        """
        failed = job.failed()
        may_help = bool(failed)
        if self.if_changed == "fail":
            failed |= {str(ticket_id): "changed since the plan" for ticket_id in job.changed()}
        if not failed:
            return
        shown = "; ".join(f"{ticket_id}: {reason}" for ticket_id, reason in list(failed.items())[:_SHOWN])
        more = "; …" if len(failed) > _SHOWN else ""
        message = f"{len(failed)} of {len(job.plan)} tickets failed: {shown}{more}"
        if self.on_failure == "warn":
            self.log.warning(message)
            return
        raise LightspeedTicketsFailed(message, failed) if may_help else LightspeedTaskFailed(message)
