"""A bulk change from its plan to its receipt. The operators load this when they run."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, Protocol

import msgspec

from airflow_provider_lightspeed._checkpoint import digest
from airflow_provider_lightspeed.api.client import LightspeedClient
from airflow_provider_lightspeed.api.errors import LightspeedConfigurationError, LightspeedQuotaExhaustedError
from airflow_provider_lightspeed.api.wording import counted
from airflow_provider_lightspeed.bulk.actions import Action, Delete, Update
from airflow_provider_lightspeed.bulk.functions import describe
from airflow_provider_lightspeed.bulk.job import Job, Plan
from airflow_provider_lightspeed.bulk.plan import (
    Criteria,
    make_plan,
    refuse_too_large_share,
    refuse_too_many,
)
from airflow_provider_lightspeed.bulk.refresh import record_last_changes
from airflow_provider_lightspeed.bulk.run import IfChanged, Run
from airflow_provider_lightspeed.bulk.targets import DIGEST_KEY, read_targets, receipt_digest
from airflow_provider_lightspeed.cancellation import CancelToken

__all__ = ["BulkChange", "Criteria"]

log = logging.getLogger(__name__)

#: A ticket is read, then changed.
_FEWEST_CALLS = 2
#: A job that gets nowhere in so many windows of the quota in a row fails: other programs may use them up for hours.
_MAX_STALLS = 100


class Files(Protocol):
    """Small objects in S3, by their ``s3://`` address."""

    def read(self, uri: str) -> bytes:
        """Return an object."""

    def write(self, uri: str, data: bytes) -> None:
        """Write an object, instead of what is there."""

    def check_writable(self, uri: str) -> None:
        """Prove that an object can be written, without writing it."""


@dataclass(frozen=True, kw_only=True)
class BulkChange:
    """What a task does to which tickets, and within which limits.

    :param changed_key: under which name the changed tickets are reported.
    :param properties: what each ticket is to get, by the API's names; None deletes it.
    :param ticket_ids: which tickets, as the user names them; None lets the criteria choose.
    :param max_tickets: refuse a larger plan.
    :param max_share: refuse a plan by criteria that takes a larger part of the open tickets.
    :param receipt_uri: where the receipt goes; None for no receipt.
    """

    changed_key: Literal["updated", "closed", "deleted"]
    properties: Mapping[str, bool | str] | None
    ticket_ids: Any
    criteria: Criteria
    max_tickets: int
    max_share: float
    if_changed: IfChanged
    dry_run: bool
    receipt_uri: str | None
    files: Files
    cancel: CancelToken

    @property
    def action(self) -> Action:
        """What is done to each ticket."""
        return Delete() if self.properties is None else Update(self.properties)

    @property
    def action_hash(self) -> str:
        """Hash of the action: results of another action cannot be resumed."""
        return digest(self.changed_key, self.properties, self.dry_run)

    @property
    def options_hash(self) -> str:
        """Hash of the arguments that are no templates: a template may render to another value after each deferral."""
        criteria = self.criteria
        chosen = criteria.only_answered, criteria.include_todo, describe(criteria.where)
        return digest(chosen, self.max_tickets, self.max_share, self.if_changed)

    def start(self, saved: Mapping[str, Any] | None, shop: str, generation: str = "") -> Job:
        """Return the job of a new try: that of an earlier try, if it is about the same tickets.

        :param saved: what an earlier try has kept.
        :param shop: a hash of the shop that the connection leads to.
        :param generation: of the task, until it is cleared. A job that ended in it has nothing left to do.
        """
        targets = None if self.ticket_ids is None else read_targets(self.ticket_ids, self._read, shop)
        new = Job(
            request_hash=self._request_hash(targets),
            action_hash=self.action_hash,
            options_hash=self.options_hash,
            shop=shop,
        )
        job = self.resume(saved, shop) or new
        was_cleared = bool(job.ended) and job.ended != generation
        if was_cleared and not job.is_refused:
            job = new
        elif was_cleared:
            log.info("The task was cleared after tickets had changed: planning from scratch")
            job = job.replan(new)
        elif job.request_hash != new.request_hash:
            log.info("The arguments have changed since an earlier try: planning from scratch")
            job = job.replan(new)
        elif job.ended:
            log.info("An earlier try did all of this before it was stopped: returning its result")
            return job
        if targets is not None and not job.planned:
            job.plan = job.plan | targets
        job.begin_try()
        return job

    def resume(self, saved: Mapping[str, Any] | None, shop: str) -> Job | None:
        """Return the job that was kept, if it did the same in this shop."""
        job = Job.from_checkpoint(saved)
        if job is not None and job.shop != shop:
            log.warning("The connection led to another shop in an earlier try: planning from scratch")
            return None
        if job is not None and job.action_hash not in {"", self.action_hash}:
            log.warning("The task did something else in an earlier try: planning from scratch")
            return None
        return job

    def _read(self, uri: str) -> bytes:
        """Return an object with targets.

        :raises LightspeedConfigurationError: if the receipt would replace it: a retry could not read its targets again.
        """
        if uri == self.receipt_uri:
            raise LightspeedConfigurationError(
                f"the receipt would replace {uri}, which ticket_ids are read from. No ticket was changed in this try. "
                "Give the receipt another key in receipt_s3_key"
            )
        return self.files.read(uri)

    def check_receipt(self) -> None:
        """Prove that the receipt can be written, before any call to the shop.

        :raises LightspeedConfigurationError: if the store refuses it, naming the argument to set.
        """
        if self.receipt_uri:
            self.files.check_writable(self.receipt_uri)

    def run(
        self, client: LightspeedClient, job: Job, save: Callable[[], None]
    ) -> LightspeedQuotaExhaustedError | None:
        """Plan, and change what remains.

        :param save: keeps the job.
        :return: until when the quota is used up, if tickets remain.
        :raises LightspeedConfigurationError: if the plan is refused, or the quota is too small for any progress.
        """
        before = job.progress
        try:
            if not job.planned:
                self._plan(client, job, save)
            if job.remaining:
                self._apply(client, job, save)
        except LightspeedQuotaExhaustedError as error:
            job.stalls = job.stalls + 1 if job.progress == before else 0
            self._refuse_standstill(client, job)
            return error
        job.stalls = 0
        return None

    def _plan(self, client: LightspeedClient, job: Job, save: Callable[[], None]) -> None:
        if self.ticket_ids is None:
            make_plan(client, job, self.criteria, self.action, max_share=self.max_share, save=save)
            planned = len(job.remaining)
            log.info(
                "The criteria (%s) choose %s of %s read",
                self.criteria,
                f"{planned:,}",
                counted(job.open_tickets, "open ticket"),
            )
            refuse_too_many(planned, self.max_tickets)
            # A ticket does not say whose it is: with an address, only this customer's are seen.
            if self.criteria.email is None:
                refuse_too_large_share(planned, job.open_tickets, self.max_share)
            if self.dry_run:
                job.mark_all_done()
        else:
            refuse_too_many(len(job.remaining), self.max_tickets)
            if not self.dry_run:
                record_last_changes(client, job)
        job.planned = True
        save()
        # The store may refuse it by now; nothing is changed then.
        self.write_receipt(job)

    def _apply(self, client: LightspeedClient, job: Job, save: Callable[[], None]) -> None:
        if self.dry_run:
            log.info("Dry run: reading %s, changing none", counted(len(job.remaining), "ticket"))
        Run(
            client,
            job,
            self.action,
            if_changed=self.if_changed,
            dry_run=self.dry_run,
            save=save,
            cancel=self.cancel,
        ).run()

    def _refuse_standstill(self, client: LightspeedClient, job: Job) -> None:
        """Refuse to wait for windows of the quota that do not help.

        :raises LightspeedConfigurationError: saying why.
        """
        remain = (
            f"{counted(len(job.remaining), 'ticket')} left" if job.planned else "the plan is not complete"
        )
        remedy = "Ask for a larger quota, or lower quota_reserve; what was done is kept"
        if client.calls_per_window < _FEWEST_CALLS and not self.dry_run:
            raise LightspeedConfigurationError(
                f"the quota is too small: a ticket is read and then changed, which takes {_FEWEST_CALLS} API calls, and "
                f"a window allows {client.calls_per_window:.0f} ({client.quota}); {remain}. {remedy}"
            )
        if job.stalls >= _MAX_STALLS:
            raise LightspeedConfigurationError(
                f"the job made no progress in {job.stalls} windows of the quota in a row ({client.quota}); {remain}. {remedy}"
            )

    def write_receipt(self, job: Job) -> None:
        """Write the plan, and what became of each ticket."""
        if self.receipt_uri and job.planned:
            lines = list(job.receipt(self.changed_key, dry_run=self.dry_run))
            data = msgspec.json.Encoder().encode_lines(lines)
            # Before the write: if it fails, no older receipt at this address counts as this job's.
            job.receipt_digest = receipt_digest(data)
            self.files.write(self.receipt_uri, data)

    def result(self, job: Job) -> dict[str, Any]:
        """Return the result of the task."""
        result = job.result(self.changed_key, dry_run=self.dry_run)
        if self.ticket_ids is None:
            result["criteria"] = str(self.criteria)
        if self.receipt_uri and job.planned:
            result |= {"receipt": self.receipt_uri, DIGEST_KEY: job.receipt_digest}
        return result

    def summary(self, job: Job) -> str:
        """Return how far the job is, in a line."""
        return job.summary(self.changed_key, dry_run=self.dry_run)

    def failures(self, job: Job) -> dict[str, str]:
        """Return why which tickets fail the task."""
        changed = job.changed() if self.if_changed == "fail" else []
        return job.failed() | {str(ticket_id): "changed since planning" for ticket_id in changed}

    def _request_hash(self, targets: Plan | None) -> str:
        """Hash which tickets are requested: a task that was changed and then cleared must not resume its old plan."""
        criteria = None if targets is not None else replace(self.criteria, where=None)
        return digest(targets, criteria, self.options_hash)
