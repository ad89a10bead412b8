"""Change the planned tickets: eight calls at once, each ticket changed at most once.

A change is sent only if the ticket was read no more than `_MAX_AGE` seconds ago, in its planned version. The API has no
conditional write, so a change by another program between that read and our call cannot be excluded. Such a race
overwrites nothing of theirs: a PUT holds only the requested properties.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from functools import partial
from math import ceil
from typing import Literal

from airflow_provider_lightspeed.api.client import LightspeedClient
from airflow_provider_lightspeed.api.errors import (
    LightspeedError,
    LightspeedQuotaExhaustedError,
    LightspeedTooLateError,
)
from airflow_provider_lightspeed.api.progress_clock import ProgressClock
from airflow_provider_lightspeed.api.tickets import Ticket, get_ticket
from airflow_provider_lightspeed.api.wording import counted, humanize
from airflow_provider_lightspeed.bulk.actions import Action
from airflow_provider_lightspeed.bulk.job import Job, Result, Status, version_of
from airflow_provider_lightspeed.bulk.refresh import (
    Snapshot,
    affects_all,
    calls_to_read,
    is_gone,
    reads_pages,
    snapshots,
)
from airflow_provider_lightspeed.cancellation import CancelToken

log = logging.getLogger(__name__)

IfChanged = Literal["skip", "overwrite", "fail"]

_AT_ONCE = 8
#: Seconds after which a ticket is read again before it is changed.
_MAX_AGE = 30.0
#: Seconds that calls in flight may take after a request to stop: Airflow kills a task after five.
_GRACE = 2.0


class Run:
    """One try to change what remains of a job.

    :param if_changed: what to do with a ticket that changed after it was planned: ``overwrite`` changes it all
        the same; else it is left alone.
    :param dry_run: read, and change nothing.
    :param save: keeps the job; called before each batch of changes.
    :param cancel: asks the run to stop.
    """

    def __init__(
        self,
        client: LightspeedClient,
        job: Job,
        action: Action,
        *,
        if_changed: IfChanged = "skip",
        dry_run: bool = False,
        save: Callable[[], None] = lambda: None,
        cancel: CancelToken | None = None,
    ) -> None:
        self._client = client
        self._job = job
        self._action = action
        self._if_changed = if_changed
        self._dry_run = dry_run
        self._save = save
        self._cancel = cancel or CancelToken()
        self._clock = ProgressClock()
        # What may have been changed though no response says so, by this try or an earlier one.
        self._unconfirmed = dict(job.in_flight)

    def run(self) -> None:
        """Change what remains of the plan.

        :raises Cancelled: if it was asked to stop.
        :raises LightspeedError: for what affects every ticket (credentials, quota); what was done is in the job.
        """
        job = self._job
        pool = ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="lightspeed-bulk")
        try:
            self._announce()
            for snapshot in snapshots(self._client, job, self._map(pool)):
                due = self._classify(snapshot)
                if due and not self._dry_run:
                    prints = {key: self._action.fingerprint(snapshot.tickets[key]) for key in due}
                    job.in_flight = prints | self._unsure()
                    self._save()
                    self._map(pool)(partial(self._change, snapshot), due)
                job.cursor = snapshot.cursor
                self._log_progress()
        finally:
            # A call that still waits for its response must not hold a stopped task up.
            pool.shutdown(wait=False, cancel_futures=True)
            job.in_flight = self._unsure()

    def _announce(self) -> None:
        if not (left := len(self._job.remaining)):
            return
        reads_pages(self._client, self._job)  # decides it
        job = "Reading them" if self._dry_run else f"Changing {counted(left, 'ticket')}"
        calls, sequential = self._calls_left()
        self._client.log_estimate(calls, job, sequential=sequential)

    def _calls_left(self) -> tuple[int, int]:
        """Return about how many calls what remains takes, and how many of those follow one another."""
        reads, changes = calls_to_read(self._job), 0 if self._dry_run else len(self._job.remaining)
        pages = reads if self._job.by_page else 0
        return reads + changes, pages + ceil((reads - pages + changes) / _AT_ONCE)

    def _unsure(self) -> dict[int, str]:
        results = self._job.results
        return {
            ticket_id: fingerprint
            for ticket_id, fingerprint in self._unconfirmed.copy().items()
            if (result := results.get(ticket_id)) is None or result.status is Status.FAILED
        }

    def _classify(self, snapshot: Snapshot) -> list[int]:
        """Record the results that need no further call; return the ids of the other tickets."""
        results = self._job.results
        for ticket_id in snapshot.missing:
            results[ticket_id] = self._missing_result(ticket_id)
        for ticket_id, reason in snapshot.failed.items():
            results[ticket_id] = Result(Status.FAILED, reason=reason)
        due = []
        for ticket_id, ticket in snapshot.tickets.items():
            if self._job.plan[ticket_id] is None:
                # Of a bare id, the plan does not know the version: it is planned as it was read first.
                self._job.plan[ticket_id] = version_of(ticket)
            settled = self._result_without_call(ticket_id, ticket)
            if settled is None and self._dry_run:
                settled = Result(Status.DONE, version_of(ticket))
            if settled is None:
                due.append(ticket_id)
            else:
                results[ticket_id] = settled
        return due

    def _result_without_call(self, ticket_id: int, ticket: Ticket) -> Result | None:
        planned = self._job.plan[ticket_id]
        change = version_of(ticket)
        before = self._unconfirmed.get(ticket_id)
        if self._action.request(ticket) is None:
            return Result(Status.ALREADY if before is None else Status.DONE, change)
        is_ours = before is not None and self._action.is_own_change(before, ticket)
        if planned is not None and change != planned and self._if_changed != "overwrite" and not is_ours:
            return Result(Status.CHANGED, change)
        return None

    def _missing_result(self, ticket_id: int) -> Result:
        ours = self._action.ends_in_absence and ticket_id in self._unconfirmed
        return Result(Status.DONE if ours else Status.MISSING)

    def _change(self, snapshot: Snapshot, ticket_id: int) -> None:
        """Change a ticket. If the call had to wait too long, the ticket gets no result, and is read again."""
        self._cancel.check()
        ticket = snapshot.tickets[ticket_id]
        try:
            answer = self._write(ticket_id, ticket, send_before=snapshot.read_at[ticket_id] + _MAX_AGE)
            if answer is None and not self._action.ends_in_absence:
                # Success without a ticket (204): its new version is read.
                answer = self._client.call(get_ticket(ticket_id))
            self._job.results[ticket_id] = self._result_of(answer)
        except LightspeedTooLateError:
            return
        except LightspeedError as error:
            if affects_all(error):
                raise
            if is_gone(error):
                self._job.results[ticket_id] = self._missing_result(ticket_id)
                return
            log.warning("Ticket %d failed: %s", ticket_id, error)
            self._job.results[ticket_id] = Result(Status.FAILED, reason=str(error))

    def _result_of(self, answer: Ticket | None) -> Result:
        if answer is None:
            return Result(Status.DONE)
        if ignored := self._action.ignored(answer):
            reason = f"the shop answered with success, but did not change {', '.join(ignored)}"
            return Result(Status.FAILED, reason=reason)
        return Result(Status.DONE, version_of(answer))

    def _write(self, ticket_id: int, ticket: Ticket, send_before: float) -> Ticket | None:
        request = self._action.request(ticket)
        if request is None:
            raise ValueError(f"ticket {ticket_id} needs no change")
        was_sure = ticket_id not in self._unconfirmed
        self._unconfirmed.setdefault(ticket_id, self._action.fingerprint(ticket))
        try:
            answer: Ticket | None = self._client.call(request, send_before=send_before)
        except (LightspeedTooLateError, LightspeedQuotaExhaustedError) as error:
            if was_sure and not error.sent:
                del self._unconfirmed[ticket_id]
            raise
        return answer

    def _map(self, pool: ThreadPoolExecutor) -> Callable[[Callable[[int], None], list[int]], None]:
        def each(function: Callable[[int], None], ids: list[int]) -> None:
            if ids and self._client.calls == 0:
                # Wrong credentials must not be tried eight times at once.
                function(ids[0])
                ids = ids[1:]
            pending = {pool.submit(function, ticket_id) for ticket_id in ids}
            while pending:
                done, pending = wait(pending, timeout=0.2, return_when=FIRST_EXCEPTION)
                if self._cancel.requested or any(future.exception() for future in done):
                    for future in pending:
                        future.cancel()
                    ended, _ = wait(pending, timeout=_GRACE if self._cancel.requested else None)
                    self._cancel.check()
                    done |= {future for future in ended if not future.cancelled()}
                for future in done:
                    future.result()
                self._log_progress()

        return each

    def _log_progress(self) -> None:
        if not self._clock.due() or not (left := len(self._job.remaining)):
            return
        calls, sequential = self._calls_left()
        log.info(
            "%s of %s done, %s to go; %s",
            f"{len(self._job.plan) - left:,}",
            counted(len(self._job.plan), "ticket"),
            humanize(self._client.estimate(calls, sequential=sequential)),
            self._client.quota or "quota unknown",
        )
