"""Carry a plan out: eight calls at once, each ticket changed at most once.

What can be had, and what not. A call that changes a ticket is sent only if it was seen no more than `_FRESH` seconds
ago as it was planned. The API has no conditional write: a change by somebody else in the moment between that look and our call
cannot be excluded. What such a race cannot do is to overwrite: only the properties that are meant are written.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from functools import partial
from typing import Any, Literal

from airflow_provider_lightspeed.api.client import LightspeedClient
from airflow_provider_lightspeed.api.errors import (
    LightspeedError,
    LightspeedQuotaExhaustedError,
    LightspeedTooLateError,
)
from airflow_provider_lightspeed.api.rate_limit import humanize
from airflow_provider_lightspeed.api.tickets import Ticket, get_ticket
from airflow_provider_lightspeed.bulk.actions import Action
from airflow_provider_lightspeed.bulk.job import Job, Result, Status
from airflow_provider_lightspeed.bulk.looks import Look, is_gone, looks, meets_all
from airflow_provider_lightspeed.bulk.plan import stamp
from airflow_provider_lightspeed.bulk.stop import Stop

log = logging.getLogger(__name__)

IfChanged = Literal["skip", "close", "fail"]

_AT_ONCE = 8
#: Seconds after which a ticket is looked at again before it is changed.
_FRESH = 30.0
_PROGRESS_EVERY = 10.0
#: Seconds that calls on their way get to end once the job is to stop: Airflow kills a task after five.
_GRACE = 2.0


class Run:
    """One try to carry a job out.

    :param if_changed: what to do with a ticket that changed after it was planned: ``close`` changes it all the
        same; else it is left alone.
    :param dry_run: look, and change nothing.
    :param save: keeps the job; called before each batch of changes.
    :param stop: asks the run to stop.
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
        stop: Stop | None = None,
    ) -> None:
        self._client = client
        self._job = job
        self._action = action
        self._if_changed = if_changed
        self._dry_run = dry_run
        self._save = save
        self._stop = stop or Stop()
        self._reported = time.monotonic()
        # What may have been changed though no answer says so, by this try or an earlier one.
        self._maybe_done = set(job.in_hand)

    def __call__(self) -> None:
        """Change what is left of the plan.

        :raises Stopped: if it was asked to stop.
        :raises LightspeedError: for what would meet every ticket (credentials, quota); what was done is in the job.
        """
        job = self._job
        left = len(job.left)
        if left and not self._dry_run:
            self._client.log_estimate(left, f"Changing {left} tickets")
        pool = ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="lightspeed-bulk")
        try:
            for look in looks(self._client, job, self._each_in(pool)):
                due = self._judge(look)
                if due and not self._dry_run:
                    job.in_hand = self._unsure() | set(due)
                    self._save()
                    self._each_in(pool)(partial(self._change, look), due)
                job.cursor = look.cursor
        finally:
            # A call that still waits for its answer must not hold a stopped task up.
            pool.shutdown(wait=False, cancel_futures=True)
            job.in_hand = self._unsure()

    def _unsure(self) -> set[int]:
        results = self._job.results
        return {
            ticket_id
            for ticket_id in self._maybe_done
            if (result := results.get(ticket_id)) is None or result.status is Status.FAILED
        }

    def _judge(self, look: Look) -> list[int]:
        """Settle all that needs no call; return the ids of the rest."""
        results = self._job.results
        for ticket_id in look.missing:
            results[ticket_id] = self._absent(ticket_id)
        for ticket_id, reason in look.failed.items():
            results[ticket_id] = Result(Status.FAILED, reason=reason)
        due = []
        for ticket_id, ticket in look.tickets.items():
            if self._job.plan[ticket_id] is None:
                # Of a bare id, nobody knows when it was chosen: it is planned as it was seen first.
                self._job.plan[ticket_id] = stamp(ticket)
            settled = self._settle(ticket)
            if settled is None and self._dry_run:
                settled = Result(Status.DONE, stamp(ticket))
            if settled is None:
                due.append(ticket_id)
            else:
                results[ticket_id] = settled
        return due

    def _settle(self, ticket: Ticket) -> Result | None:
        planned = self._job.plan[ticket["id"]]
        change = stamp(ticket)
        if self._action.request(ticket) is None:
            ours = ticket["id"] in self._maybe_done
            return Result(Status.DONE if ours else Status.ALREADY, change)
        if planned is not None and change != planned and self._if_changed != "close":
            return Result(Status.CHANGED, change)
        return None

    def _absent(self, ticket_id: int) -> Result:
        ours = self._action.ends_in_absence and ticket_id in self._maybe_done
        return Result(Status.DONE if ours else Status.MISSING)

    def _change(self, look: Look, ticket_id: int) -> None:
        try:
            self._job.results[ticket_id] = self._changed(ticket_id, look)
        except LightspeedError as error:
            if meets_all(error):
                raise
            if is_gone(error):
                self._job.results[ticket_id] = self._absent(ticket_id)
                return
            log.warning("Ticket %d failed: %s", ticket_id, error)
            self._job.results[ticket_id] = Result(Status.FAILED, reason=str(error))

    def _changed(self, ticket_id: int, look: Look) -> Result:
        ticket, seen_at = look.tickets[ticket_id], look.at
        while True:
            self._stop.check()
            try:
                answer = self._write(ticket, seen_at + _FRESH)
            except LightspeedTooLateError:
                seen_at = time.monotonic()
                ticket = self._client.call(get_ticket(ticket_id))
                if (settled := self._settle(ticket)) is not None:
                    return settled
            else:
                if ignored := self._action.ignored(answer):
                    reason = f"the shop has answered with success, but left {', '.join(ignored)} as it was"
                    return Result(Status.FAILED, reason=reason)
                return Result(Status.DONE, stamp(answer) if answer else None)

    def _write(self, ticket: Ticket, send_before: float) -> Any:
        request, ticket_id = self._action.request(ticket), ticket["id"]
        if request is None:
            raise ValueError(f"ticket {ticket_id} is as wanted already")
        was_sure = ticket_id not in self._maybe_done
        self._maybe_done.add(ticket_id)
        try:
            return self._client.call(request, send_before=send_before)
        except (LightspeedTooLateError, LightspeedQuotaExhaustedError) as error:
            if was_sure and not error.sent:
                self._maybe_done.discard(ticket_id)
            raise

    def _each_in(self, pool: ThreadPoolExecutor) -> Callable[[Callable[[int], None], list[int]], None]:
        def each(function: Callable[[int], None], ids: list[int]) -> None:
            if ids and self._client.calls == 0:
                # Wrong credentials must not be tried eight times at once.
                function(ids[0])
                ids = ids[1:]
            pending = {pool.submit(function, ticket_id) for ticket_id in ids}
            while pending:
                done, pending = wait(pending, timeout=0.2, return_when=FIRST_EXCEPTION)
                if self._stop.requested or any(future.exception() for future in done):
                    for future in pending:
                        future.cancel()
                    ended, _ = wait(pending, timeout=_GRACE if self._stop.requested else None)
                    self._stop.check()
                    done |= {future for future in ended if not future.cancelled()}
                for future in done:
                    future.result()
                self._tell()

        return each

    def _tell(self) -> None:
        if time.monotonic() - self._reported < _PROGRESS_EVERY:
            return
        self._reported = time.monotonic()
        left = len(self._job.left)
        log.info(
            "%d of %d tickets settled; the rest takes about %s; %s",
            len(self._job.plan) - left,
            len(self._job.plan),
            humanize(self._client.estimate(left)),
            self._client.quota,
        )
