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
from airflow.providers.common.compat.sdk import BaseOperator

from airflow_provider_lightspeed.api.errors import LightspeedConfigurationError, LightspeedQuotaExhausted
from airflow_provider_lightspeed.arguments import (
    given,
    parse_instant,
    parse_ticket_filter,
    refuse_unrendered,
)
from airflow_provider_lightspeed.bulk.stop import Stop
from airflow_provider_lightspeed.checkpoint import Checkpoint, defer_until
from airflow_provider_lightspeed.exceptions import (
    LightspeedTaskFailed,
    LightspeedTicketsFailed,
    fail_without_retry,
)
from airflow_provider_lightspeed.hooks.lightspeed import LightspeedHook
from airflow_provider_lightspeed.s3.client import S3Objects, parse_s3_uri

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_lightspeed.api.client import LightspeedClient
    from airflow_provider_lightspeed.bulk.actions import Action
    from airflow_provider_lightspeed.bulk.job import Job
    from airflow_provider_lightspeed.bulk.plan import Criteria, Plan
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
        self._given = given(self, "ticket_ids", *_CRITERIA)
        self._receipt_given = given(self, "receipt_s3_key")

    @abstractmethod
    def _action(self) -> Action:
        """Return what is to be done to each ticket."""

    @fail_without_retry()
    def execute(self, context: Context) -> dict[str, Any]:
        """Plan and carry out, or go on where an earlier try ended."""
        from airflow_provider_lightspeed.bulk.job import Job

        self._check_arguments()
        targets = self._targets()
        meant = self._meant(targets)
        client = self._connect()
        shop = client.settings.shop
        job = self._earlier(self._checkpoint(context).load(), shop) or Job(meant=meant, shop=shop)
        if job.meant != meant:
            self.log.info("Other tickets are meant than in an earlier try: planning anew")
            job = job.begin_anew(meant)
        if targets is not None and not job.planned:
            job.plan = job.plan | targets
        job.forget_failures()
        return self._go_on(context, job, client)

    @fail_without_retry()
    def resume(
        self,
        context: Context,
        event: Any = None,  # ruff: ignore[unused-method-argument] - Airflow passes it
        state: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        """Go on after a deferral."""
        client = self._connect()
        job = self._earlier(state or self._checkpoint(context).load(), client.settings.shop)
        return self.execute(context) if job is None else self._go_on(context, job, client)

    def _earlier(self, state: Mapping[str, Any] | None, shop: str) -> Job | None:
        """Take up what an earlier try has done, if it was done in this shop."""
        from airflow_provider_lightspeed.bulk.job import Job

        job = Job.unpack(state)
        if job is not None and job.shop != shop:
            self.log.warning("The connection led to another shop in an earlier try: planning anew")
            return None
        return job

    def _connect(self) -> LightspeedClient:
        client = LightspeedHook(self.lightspeed_conn_id).get_conn()
        client.sleep = self._stop.sleep
        return client

    def on_kill(self) -> None:
        """Ask the job to stop; it does so within seconds, and writes its receipt."""
        self._stop.request()

    @cached_property
    def _stop(self) -> Stop:
        return Stop()

    def _go_on(self, context: Context, job: Job, client: LightspeedClient) -> dict[str, Any]:
        checkpoint = self._checkpoint(context)
        earlier_calls = job.calls

        def keep() -> None:
            job.calls = earlier_calls + client.calls
            checkpoint.save(job.pack())

        try:
            if not job.planned:
                self._plan(client, job, keep)
            if job.left:
                self._carry_out(client, job, keep)
            self._write_receipt(job)
            self._complain(job)
        except LightspeedQuotaExhausted as wait:
            keep()
            self._report(job, client)
            self.log.info("Going on at %s: %s", wait.until, wait)
            defer_until(self, wait.until, "resume", None if checkpoint.is_kept else job.pack())
        except BaseException as error:
            keep()
            # When a task fails, Airflow has no result to push, and it matters the most then.
            if "ti" in context:
                context["ti"].xcom_push(key="return_value", value=self._outcome(job))
            self._write_receipt(job)
            if isinstance(error, LightspeedTaskFailed):
                checkpoint.clear()
            raise
        keep()
        self._report(job, client)
        checkpoint.clear()
        return self._outcome(job)

    def _plan(self, client: LightspeedClient, job: Job, keep: Callable[[], None]) -> None:
        from airflow_provider_lightspeed.bulk.choosing import make_plan
        from airflow_provider_lightspeed.bulk.looks import survey
        from airflow_provider_lightspeed.bulk.plan import refuse_too_large_share, refuse_too_many

        allowed = _MAX_TICKETS if self.max_tickets is None else self.max_tickets
        if self._by_ids:
            refuse_too_many(len(job.left), allowed)
            if not self.only_plan:
                survey(client, job)
        else:
            make_plan(client, job, self._criteria(), self._action(), max_share=self.max_share, save=keep)
            planned = len(job.left)
            self.log.info("The criteria choose %d of %d open tickets seen", planned, job.open_tickets)
            refuse_too_many(planned, allowed)
            if self.max_share < 1.0:
                refuse_too_large_share(planned, job.open_tickets, self.max_share)
            if self.only_plan:
                job.pretend()
        job.planned = True
        keep()
        # Also proves that the receipt can be written, before anything is changed.
        self._write_receipt(job)

    def _carry_out(self, client: LightspeedClient, job: Job, keep: Callable[[], None]) -> None:
        from airflow_provider_lightspeed.bulk.run import Run

        if self.only_plan:
            self.log.info("Looking at %d tickets; none is changed", len(job.left))
        run = Run(
            client,
            job,
            self._action(),
            if_changed=self.if_changed,
            dry_run=self.only_plan,
            save=keep,
            stop=self._stop,
        )
        run()

    @property
    def _by_ids(self) -> bool:
        return "ticket_ids" in self._given

    def _targets(self) -> Plan | None:
        """Read the tickets that are named; None where they are chosen by criteria."""
        if not self._by_ids:
            return None
        from airflow_provider_lightspeed.bulk.targets import read_targets

        return read_targets(self.ticket_ids, S3Objects(self.aws_conn_id).read)

    def _meant(self, targets: Plan | None) -> str:
        """Stand for which tickets are meant: a task that was changed and then cleared must not go on with its plan."""
        criteria = None if self._by_ids else replace(self._criteria(), where=None)
        where = getattr(self.where, "__qualname__", type(self.where).__name__)
        return hashlib.sha256(repr((targets, criteria, where)).encode()).hexdigest()

    def _criteria(self) -> Criteria:
        from airflow_provider_lightspeed.bulk.plan import Criteria

        return Criteria(
            created_before=parse_instant("created_before", self.created_before),
            updated_before=parse_instant("updated_before", self.updated_before),
            only_answered=self.only_answered,
            include_todo=self.include_todo,
            email=parse_ticket_filter(email=self.customer_email).email,
            language=self.language,
            where=self.where,
        )

    def _check_arguments(self) -> None:
        refuse_unrendered(self, (*self._given, *self._receipt_given))
        if not self._given:
            raise LightspeedConfigurationError(
                f"which tickets? Give ticket_ids, or at least one of {', '.join(_CRITERIA)}: nothing given does not "
                "mean every ticket"
            )
        if self._by_ids:
            if len(self._given) > 1:
                raise LightspeedConfigurationError(
                    f"either ticket_ids or criteria, not both: {', '.join(self._given)}"
                )
        else:
            self._criteria()
        for name, allowed in (("if_changed", {"skip", "close", "fail"}), ("on_failure", {"fail", "warn"})):
            if getattr(self, name) not in allowed:
                raise LightspeedConfigurationError(
                    f"{name} must be one of {', '.join(sorted(allowed))}, got {getattr(self, name)!r}"
                )
        if not 0.0 < self.max_share <= 1.0:
            raise LightspeedConfigurationError(
                f"max_share must be above 0 and at most 1, got {self.max_share}"
            )
        if self.receipt_s3_key:
            parse_s3_uri(self.receipt_s3_key)

    def _checkpoint(self, context: Context) -> Checkpoint:
        # What was done to tickets is of no use once something else is to be done to them.
        done = hashlib.sha256(repr((self.task_type, self._action(), self.only_plan)).encode()).hexdigest()
        return Checkpoint(context, f"lightspeed_bulk_{done[:12]}")

    def _outcome(self, job: Job) -> dict[str, Any]:
        outcome = job.outcome(self.changed_key, dry_run=self.only_plan)
        return outcome | ({"receipt": self.receipt_s3_key} if self.receipt_s3_key and job.planned else {})

    def _write_receipt(self, job: Job) -> None:
        if self.receipt_s3_key and job.planned:
            lines = list(job.receipt(self.changed_key, dry_run=self.only_plan))
            S3Objects(self.aws_conn_id).write(self.receipt_s3_key, msgspec.json.Encoder().encode_lines(lines))

    def _report(self, job: Job, client: LightspeedClient) -> None:
        told = job.told(self.changed_key, dry_run=self.only_plan)
        self.log.info("%s; %s", told, client.quota or "no call was needed")

    def _complain(self, job: Job) -> None:
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
