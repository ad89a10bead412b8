"""A bulk change as a value: the plan, the result of each ticket so far, and both as summary, XCom and receipt."""

from __future__ import annotations

import base64
import zlib
from collections.abc import Iterator, Mapping
from contextlib import suppress
from datetime import UTC
from enum import StrEnum
from typing import Any

import msgspec

from airflow_provider_lightspeed.api.paging import Cursor
from airflow_provider_lightspeed.api.responses import NOT_JSON
from airflow_provider_lightspeed.api.tickets import Ticket, changed_at
from airflow_provider_lightspeed.api.wording import counted

#: So many windows of the quota in a row may pass without progress, before tickets are read in another way.
_STALLS = 2


#: The last change of each ticket when it was planned, by id, in the order of work. See `version_of`;
#: None where only the id is known.
Plan = dict[int, str | None]


class Status(StrEnum):
    """What became of a planned ticket."""

    DONE = "done"
    ALREADY = "already"
    MISSING = "missing"
    CHANGED = "changed"
    FAILED = "failed"


class Result(msgspec.Struct, frozen=True, array_like=True):
    """What became of one ticket.

    :param change: its last change, as far as it was seen (see :func:`version_of`).
    :param reason: why it failed.
    """

    status: Status
    change: str | None = None
    reason: str = ""


class Job(msgspec.Struct, kw_only=True):
    """The state of a bulk change; all of it fits into a checkpoint.

    :param request_hash: hash of what the task asks for; another request needs another plan.
    :param action_hash: hash of what is done to the tickets; the results of another action mean something else.
    :param options_hash: hash of the arguments that are no templates; with other ones, a deferred task plans again.
    :param shop: hash of the shop; a job is of no use in another one.
    :param plan: the planned tickets.
    :param planned: whether the plan is complete: it is fixed from then on.
    :param open_tickets: how many open tickets were seen while planning.
    :param malformed: the tickets that could not be read while planning; None for one without a readable id.
    :param results: what became of tickets so far.
    :param in_flight: tickets that may have got the change though no response says so, with what they were like before
        (see :meth:`~.actions.Action.fingerprint`).
    :param by_page: whether the tickets are read in pages of the list rather than one by one; None until that is decided.
    :param cursor: where the walk over the list (to plan, then to read again) resumes.
    :param expected: about how many tickets the list has that is read; 0: that can't be counted; None: not known.
    :param stalls: how many windows of the quota in a row passed without progress.
    :param calls: API calls so far.
    :param receipt_digest: identifies the receipt that was written last.
    :param ended: in which generation of the task (see :func:`~airflow_provider_lightspeed._checkpoint.task_generation`)
        it ended; empty until then. A task that is cleared makes a new plan.
    :param is_refused: whether it ended because tickets had changed: the task failed, and its record counts.
    """

    request_hash: str = ""
    # Jobs that earlier versions have saved lack the next two.
    action_hash: str = ""
    options_hash: str = ""
    shop: str = ""
    plan: Plan = {}
    planned: bool = False
    open_tickets: int = 0
    malformed: list[int | None] = []
    results: dict[int, Result] = {}
    in_flight: dict[int, str] = {}
    by_page: bool | None = None
    cursor: Cursor | None = None
    expected: int | None = None
    stalls: int = 0
    calls: int = 0
    ended: str = ""
    is_refused: bool = False
    receipt_digest: str = ""

    @property
    def remaining(self) -> list[int]:
        """Ids of the tickets of which nothing has become yet."""
        return [ticket_id for ticket_id in self.plan if ticket_id not in self.results]

    @property
    def is_stuck(self) -> bool:
        """Whether a walk over the list makes no progress within a window of the quota."""
        return self.stalls >= _STALLS

    @property
    def progress(self) -> tuple[object, ...]:
        """A value that changes whenever the job makes progress."""
        versions_unknown = sum(change is None for change in self.plan.values())
        return self.planned, self.by_page, self.cursor, len(self.results), versions_unknown

    def begin_try(self) -> None:
        """Forget failures, so that they are retried, and decide again how tickets are read."""
        self.results = {
            key: value for key, value in self.results.items() if value.status is not Status.FAILED
        }
        self.by_page = None
        self.stalls = min(self.stalls, _STALLS)

    def ids_with(self, status: Status) -> list[int]:
        """Ids of the tickets with a status, in the order of the plan."""
        return [
            ticket_id
            for ticket_id in self.plan
            if (result := self.results.get(ticket_id)) is not None and result.status is status
        ]

    def failed(self) -> dict[str, str]:
        """Return the reason for each ticket that failed; ids as text, as JSON has them."""
        return {str(ticket_id): self.results[ticket_id].reason for ticket_id in self.ids_with(Status.FAILED)}

    def changed(self) -> list[int]:
        """Ids of the tickets that were left alone, since they have changed after they were planned."""
        return self.ids_with(Status.CHANGED)

    def mark_all_done(self) -> None:
        """Take all that is planned for done."""
        self.results = {ticket_id: Result(Status.DONE, change) for ticket_id, change in self.plan.items()}

    def replan(self, new: Job) -> Job:
        """Return a new job with the record of this one: what it did or may have done can still be undone."""
        done = self.ids_with(Status.DONE)
        return msgspec.structs.replace(
            new,
            plan={ticket_id: self.plan[ticket_id] for ticket_id in done},
            results={ticket_id: self.results[ticket_id] for ticket_id in done},
            in_flight={key: before for key, before in self.in_flight.items() if key not in done},
            calls=self.calls,
        )

    def is_all_missing(self) -> bool:
        """Return whether none of the tickets is in the shop."""
        return bool(self.plan) and len(self.ids_with(Status.MISSING)) == len(self.plan)

    def summary(self, changed_key: str, *, dry_run: bool) -> str:
        """Return how far it is, in a line."""
        counts = {status: len(self.ids_with(status)) for status in Status}
        verb = f"Would have {changed_key}" if dry_run else changed_key.capitalize()
        already = "up to date" if changed_key == "updated" else changed_key
        remaining = f"{len(self.remaining)} remain; " if self.remaining else ""
        return (
            f"{verb} {counts[Status.DONE]:,} of {counted(len(self.plan), 'ticket')} "
            f"({counts[Status.ALREADY]} already {already}, {counts[Status.MISSING]} missing, "
            f"{counts[Status.CHANGED]} changed since planning, {counts[Status.FAILED]} failed); "
            f"{remaining}{counted(self.calls, 'API call')}"
        )

    def result(self, changed_key: str, *, dry_run: bool) -> dict[str, Any]:
        """Return the result of a task.

        :param changed_key: under which name the changed tickets are reported.
        """
        return {
            changed_key: self.ids_with(Status.DONE),
            "already": self.ids_with(Status.ALREADY),
            "missing": self.ids_with(Status.MISSING),
            "changed": self.ids_with(Status.CHANGED),
            "failed": self.failed(),
            "dry_run": dry_run,
            "calls": self.calls,
            "shop": self.shop,
        }

    def receipt(self, changed_key: str, *, dry_run: bool) -> Iterator[dict[str, Any]]:
        """Yield one line for each ticket: ``id``, ``shop``, ``updatedAt`` as last seen, ``outcome``, ``reason`` of a failure.

        Besides the outcomes that a task returns there are ``planned`` (of a dry run), ``pending`` (nothing was done
        yet) and ``unknown`` (stopped while its call was on its way). ``maybe_changed`` marks the tickets of which no
        response says whether they were changed.
        """
        for ticket_id, planned_change in self.plan.items():
            result = self.results.get(ticket_id)
            in_flight = ticket_id in self.in_flight
            line: dict[str, Any] = {"id": ticket_id, "shop": self.shop}
            if result is None:
                line |= {"updatedAt": planned_change, "outcome": "unknown" if in_flight else "pending"}
            else:
                word = {Status.DONE: "planned" if dry_run else changed_key}.get(
                    result.status, str(result.status)
                )
                change = planned_change if result.change is None else result.change
                line |= {"updatedAt": change, "outcome": word}
            # If it was changed, then after it was planned: its version is not known.
            line |= {"updatedAt": None, "maybe_changed": True} if in_flight else {}
            yield line | ({"reason": result.reason} if result and result.reason else {})
        for ticket_id in sorted(self.in_flight.keys() - self.plan.keys()):
            # Sent by an earlier try, whose plan was another one.
            yield {
                "id": ticket_id,
                "shop": self.shop,
                "updatedAt": None,
                "outcome": "unknown",
                "maybe_changed": True,
            }

    def to_checkpoint(self) -> dict[str, Any]:
        """Return it as plain JSON values for a checkpoint."""
        # Twelve thousand tickets take a tenth of their space, and a state store holds little.
        return {"zlib": base64.b64encode(zlib.compress(msgspec.json.encode(self))).decode()}

    @classmethod
    def from_checkpoint(cls, saved: Mapping[str, Any] | None) -> Job | None:
        """Read what :meth:`to_checkpoint` has returned; None for nothing, or for what another version has written."""
        try:
            packed = zlib.decompress(base64.b64decode(saved["zlib"])) if saved else None
            return msgspec.json.decode(packed, type=cls) if packed else None
        except (*NOT_JSON, KeyError, TypeError, ValueError, zlib.error):
            return None


def version_of(ticket: Ticket) -> str:
    """Return a ticket's ``updatedAt`` as a text of which two compare, in UTC; empty if it was never changed.

    What can't be read as an instant is kept as it is: it shows at least that it has become another.
    """
    instant = changed_at(ticket)
    if instant is not None:
        with suppress(OverflowError):
            return instant.astimezone(UTC).isoformat()
    return "" if was_never_changed(ticket) else str(ticket.get("updatedAt"))


def was_never_changed(ticket: Ticket) -> bool:
    """Return whether a ticket's ``updatedAt`` is one of the API's words for nothing."""
    # By identity: 0 == False, and a number is no way to say nothing.
    change = ticket.get("updatedAt")
    return change is None or change is False or change == ""
