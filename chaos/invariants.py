"""What must hold after a scenario has ended, whatever happened in it."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from airflow_provider_lightspeed.sandbox import Call, Sandbox
from chaos.calls import repeated_reads, repeated_writes
from chaos.rows import Row, row_of
from chaos.scenarios import Scenario

Tickets = Mapping[int, Mapping[str, Any]]

#: A bulk change has at most this many calls in flight.
_AT_ONCE = 8
#: An export repeats at most this many calls after it was killed, and after it was deferred.
_REPEATED_BY_A_TRY, _REPEATED_AFTER_A_DEFERRAL = 40, 6

#: What Airflow logs.
_DEFERRED = "Pausing task as DEFERRED"
_EXCEPTION = re.compile(r"\bLightspeed\w+(?:Error|Failed|Exhausted)\b")


@dataclass(frozen=True)
class Snapshot:
    """A shop's tickets at one moment."""

    live: Tickets
    deleted: Tickets


class BrokenInvariantError(Exception):
    """A green run with wrong results, or a red one that left something behind."""


def require(holds: bool, otherwise: str) -> None:
    """Check an invariant.

    :raises BrokenInvariantError: it does not hold.
    """
    if not holds:
        raise BrokenInvariantError(otherwise)


def is_green(scenario: Scenario, task: str, state: str, logs: Sequence[str]) -> None:
    """The task succeeds: its retries outlast all faults. It may fail only where a list never stands still, and says so."""
    if state == "success":
        return
    last = _EXCEPTION.findall(logs[-1]) if logs else []
    require(
        scenario.may_be_too_restless and task != "watch" and "LightspeedIncompleteListError" in last,
        f"{task} is {state} after {len(logs)} tries, the last with {sorted(set(last)) or 'no error of the provider'}",
    )


def export_is_complete(
    scenario: Scenario, shop: Sandbox, exported: Sequence[Row], before: Tickets, after: Snapshot
) -> None:
    """Each ticket of the window that existed throughout the export is there once, and no other is.

    Tickets without changes are there unchanged.
    """

    def in_window(tickets: Tickets) -> set[int]:
        return {
            number
            for number, ticket in tickets.items()
            if scenario.created_from <= datetime.fromisoformat(ticket["createdAt"]) < scenario.created_to
        }

    options = scenario.shop
    found = {row["id"] for row in exported}
    require(len(found) == len(exported), f"{len(exported) - len(found)} tickets are in the export twice")
    missing = {
        number
        for number in in_window(before) & in_window(after.live) - found
        if not options.is_left_out(number)
    }
    require(not missing, f"the export lacks {_some(missing)}")
    strange = found - in_window({**after.deleted, **before, **after.live})
    require(not strange, f"the export has tickets of another window: {_some(strange)}")
    for row in exported:
        number = row["id"]
        if number in before and not shop.shop.history(number):
            expected = row_of(before[number], options, scenario.ending)
            require(row == expected, f"the export has {row}, and the shop {expected}")


def only_its_targets_are_closed(
    scenario: Scenario, shop: Sandbox, before: Tickets, result: Mapping[str, Any]
) -> None:
    """The result is true; each ticket is changed at most once, and only targets are changed."""
    settled = [*result["closed"], *result["already"], *result["missing"], *result["changed"]]
    settled += [int(number) for number in result["failed"]]
    require(len(settled) == len(set(settled)), "a ticket has two outcomes")
    touched = only_stale_are_closed(scenario, shop, before)
    unsure = {int(number) for number in result["failed"]} | set(result["missing"])
    require(
        touched - unsure == set(result["closed"]) - unsure,
        f"closed are {_some(touched)}, the result is {result}",
    )
    live = set(shop.shop.ids())
    expected = {
        number
        for number, ticket in before.items()
        if number in live
        and not scenario.shop.is_left_out(number)
        and str(number) not in result["failed"]
        and not shop.shop.history(number)
        and datetime.fromisoformat(ticket["createdAt"]) < scenario.close_before
        and ticket["isAnswered"]
        and not ticket["isClosed"]
        and not ticket["isTodo"]
    }
    require(not expected, f"still open although stale and unchanged: {_some(expected)}")


def only_stale_are_closed(scenario: Scenario, shop: Sandbox, before: Tickets) -> set[int]:
    """Return the tickets that were changed: each once, only closed, and all of them stale."""
    touched = set()
    for number in {*before, *shop.shop.ids()}:
        by_us = [change for change in shop.shop.history(number) if change.by == shop.key]
        require(len(by_us) <= 1, f"ticket {number} was changed {len(by_us)} times")
        for change in by_us:
            require(change.after == {"isClosed": True}, f"ticket {number} was changed: {change.after}")
            created = datetime.fromisoformat(before[number]["createdAt"]) if number in before else None
            require(
                created is not None and created < scenario.close_before,
                f"ticket {number} was not to be closed",
            )
            touched.add(number)
    return touched


def none_is_written_twice(calls: Sequence[Call], cuts: int) -> None:
    """One call closes a ticket: another follows only if it failed, or was in flight at a cut.

    :param cuts: how often its worker was killed, by chaos or by Airflow, or the shop went away.
    """
    again = repeated_writes(calls)
    require(again <= _AT_ONCE * cuts, f"{again} tickets were written again, with {cuts} cuts")


def resumes_where_it_stopped(
    scenario: Scenario, calls: Sequence[Call], logs: Sequence[str], cuts: int
) -> int:
    """Count the lists that an export requested again; if they are in order, another try repeats little."""
    repeated = repeated_reads(calls)
    deferrals = sum(log.count(_DEFERRED) for log in logs)
    allowed = _REPEATED_BY_A_TRY * (len(logs) - 1) + _REPEATED_AFTER_A_DEFERRAL * deferrals + cuts
    require(
        not scenario.is_in_order or repeated <= allowed,
        f"{repeated} lists were requested again, in {len(logs)} tries with {deferrals} deferrals and {cuts} cuts",
    )
    return repeated


def frees_its_worker(logs: Sequence[str]) -> None:
    """A task that waits long for its quota frees its worker slot."""
    require(any(_DEFERRED in log for log in logs), "close had to wait for its quota, and was never deferred")


def watch_is_complete(
    scenario: Scenario, since_id: int, before: Tickets, after: Snapshot, result: Mapping[str, Any]
) -> None:
    """The sensor delivers each new ticket up to its cursor once."""
    ids = result["ticket_ids"]
    require(ids == sorted(set(ids)) and len(ids) == result["count"] >= 3, f"the sensor delivers {result}")
    require(all(number > since_id and number not in before for number in ids), f"these are not new: {result}")
    new = {
        number
        for number in after.live
        if since_id < number <= result["max_id"] and not scenario.shop.is_left_out(number)
    }
    require(new <= set(ids), f"the sensor has skipped {_some(new - set(ids))}")


def quota_is_kept(shop: Sandbox, starts: int) -> None:
    """A process runs into the limit at most once: before its first response shows the quota."""
    refused = [call for call in shop.calls if call.status == 429 and call.fault is None]
    require(len(refused) <= starts, f"{len(refused)} calls were refused, and only {starts} processes started")


def logs_are_discreet(logs: Iterable[str], secret: str, texts: Collection[str]) -> None:
    """No log holds the secret, or anything that a customer wrote."""
    for log in logs:
        require(secret not in log, "a log holds the secret")
        found = sum(text in log for text in texts)
        require(not found, f"a log holds {found} subjects of tickets")


def _some(numbers: Collection[int]) -> str:
    shown = ", ".join(map(str, sorted(numbers)[:10]))
    return f"{len(numbers)} tickets ({shown}{', …' if len(numbers) > 10 else ''})"
