"""What must hold after a scenario has ended, whatever happened in it."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from math import ceil
from typing import Any

from airflow_provider_lightspeed.sandbox import Call, Sandbox
from airflow_provider_lightspeed.sandbox.distortions import is_multiple
from chaos.calls import repeated_reads, repeated_writes
from chaos.lake import Lake, State, replay, state_of, states_since
from chaos.rows import Row, row_of
from chaos.scenarios import Scenario

Tickets = Mapping[int, Mapping[str, Any]]

#: A bulk change has at most this many calls in flight.
_AT_ONCE = 8
#: An export repeats at most this many calls after it was killed, and after it was deferred.
_REPEATED_BY_A_TRY, _REPEATED_AFTER_A_DEFERRAL = 40, 6
#: If a shop ends a list at some depth, its pages are read this many times more before it is read by date.
_REPEATED_TO_A_DEPTH = 2
#: Part of a page that is new: pages overlap.
_LEAST_NEW = 0.75

#: What Airflow logs.
_DEFERRED = "Pausing task as DEFERRED"
# The quota was used up after several calls, and before the first ticket was written.
_STARTED_OVER = "This list can't be resumed there"
_TWO_TRIES_AT_ONCE = "Server indicated the task shouldn't be running anymore"
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
    scenario: Scenario, shop: Sandbox, before: Tickets, result: Mapping[str, Any], logs: Sequence[str]
) -> None:
    """The result is true; each ticket is changed at most once, and only targets are changed.

    Airflow 3.3.2 may start another try while the last one still runs: a ticket that the last one closes then is
    closed already for the other.
    """
    settled = [*result["closed"], *result["already"], *result["missing"], *result["changed"]]
    settled += [int(number) for number in result["failed"]]
    require(len(settled) == len(set(settled)), "a ticket has two outcomes")
    touched = only_stale_are_closed(scenario, shop, before)
    unsure = {int(number) for number in result["failed"]} | set(result["missing"])
    if any(_TWO_TRIES_AT_ONCE in log for log in logs):
        unsure |= set(result["already"])
    differ = (touched ^ set(result["closed"])) - unsure
    require(not differ, f"closed or not, but for the result it is not so: {_some(differ)}; {result}")
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
    restarts = sum(log.count(_STARTED_OVER) for log in logs)
    to_a_depth = ceil((scenario.shop.page_depth or 0) / (_LEAST_NEW * scenario.shop.page_limit))
    allowed = _REPEATED_BY_A_TRY * (len(logs) - 1 + restarts) + _REPEATED_AFTER_A_DEFERRAL * deferrals + cuts
    allowed += _REPEATED_TO_A_DEPTH * to_a_depth
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
        if since_id < number <= result["max_id"]
        and not scenario.shop.is_left_out(number)
        # Without a look-back, those that become visible after a higher id are missed.
        and not is_multiple(number, scenario.shop.late_every)
    }
    require(new <= set(ids), f"the sensor has skipped {_some(new - set(ids))}")


def log_grows(files: Mapping[str, Collection[str]], reached: Sequence[int]) -> None:
    """No change file changes after its commit, and ``current`` never goes back.

    :param files: the etags that each change file had.
    :param reached: up to which change file ``current`` went, each time that it was seen.
    """
    changed = [name for name, etags in files.items() if len(etags) > 1]
    require(not changed, f"committed and changed: {changed}")
    require(list(reached) == sorted(reached), f"current went back: {reached}")


def log_is_sound(scenario: Scenario, lake: Lake) -> None:
    """The change files have no gap, and each change follows from those before it."""
    numbers = sorted(lake.files)
    require(numbers == list(range(1, len(numbers) + 1)), f"the change files are {numbers}")
    live: dict[int, Row] = {}
    ended = datetime.min.replace(tzinfo=UTC)
    for seq in numbers:
        rows = lake.files[seq]
        repeated = [number for number, times in Counter(row["id"] for row in rows).items() if times > 1]
        require(not repeated, f"change file {seq} has two rows of {_some(repeated)}")
        for row in rows:
            number = row["id"]
            require(row["_seq"] == seq, f"change file {seq} has a row of {row['_seq']}")
            require(row["_changed_by"] >= ended, f"change file {seq} ended before the one before it")
            require((row["op"] == "I") == (number not in live), f"ticket {number}: {row['op']} in {seq}")
            before = live.pop(number, row)
            if row["op"] != "D":
                live[number] = row
            # A copy of the shop that lags may show what a ticket was.
            require(
                bool(scenario.shop.replica_lag) or _version(row) >= _version(before),
                f"ticket {number} in change file {seq} is older than before",
            )
        ended = max((row["_changed_by"] for row in rows), default=ended)


def lake_follows_its_log(lake: Lake) -> None:
    """``current`` and ``status.json`` are what the log comes to, and nothing else is left."""
    rows = {row["id"]: row for row in lake.current}
    require(len(rows) == len(lake.current), f"{len(lake.current) - len(rows)} tickets are in current twice")
    log = replay(lake.files)
    differ = {number for number in {*log, *rows} if log.get(number) != rows.get(number)}
    require(not differ, f"current is not what the log comes to: {_some(differ)}")
    head = max(lake.files, default=0)
    ends = (lake.reached, lake.status["seq"], lake.status["tickets"])
    require(ends == (head, head, len(rows)), f"the log ends at {head}; current and status.json: {ends}")
    require(not lake.others, f"left behind: {lake.others[:10]}")


def lake_is_the_shop(scenario: Scenario, shop: Sandbox, lake: Lake) -> None:
    """Each ticket is as the shop had it when the log was complete, or since.

    A ticket without later changes is as the shop has it now.
    """
    options = scenario.shop
    live, deleted = shop.shop.tickets(), shop.shop.deleted()
    rows = {row["id"]: state_of(row) for row in lake.current}
    strange = rows.keys() - live.keys() - deleted.keys()
    require(not strange, f"the shop has never had {_some(strange)}")
    for number, last in {**deleted, **live}.items():
        since = lake.complete_as_of(number)
        if options.replica_lag:
            since = datetime.min.replace(tzinfo=UTC)
        elif is_multiple(number, options.late_every):
            since -= timedelta(seconds=options.late_seconds)
        allowed = states_since(last, number in live, shop.shop.history(number), since)
        if options.is_left_out(number):
            allowed.append(None)
        found: State = rows.get(number)
        require(found in allowed, f"ticket {number} is {found}, and since {since} the shop had {allowed}")


def none_is_buried_alive(shop: Sandbox, lake: Lake) -> None:
    """A ticket that the log calls deleted is deleted. In these shops no ticket comes back."""
    live = set(shop.shop.ids())
    wrong = {row["id"] for rows in lake.files.values() for row in rows if row["op"] == "D"} & live
    require(not wrong, f"deleted in the log, and in the shop: {_some(wrong)}")


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


def _version(row: Row) -> datetime:
    version: datetime = row["updated_at"] or row["created_at"]
    return version


def _some(numbers: Collection[int]) -> str:
    shown = ", ".join(map(str, sorted(numbers)[:10]))
    return f"{len(numbers)} tickets ({shown}{', …' if len(numbers) > 10 else ''})"
