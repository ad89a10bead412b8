"""What must hold after a world has ended, whatever happened in it."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from airflow_provider_lightspeed.sandbox import Call, Sandbox
from chaos.calls import asked_again, made_again
from chaos.rows import Row, row_of
from chaos.worlds import World

Tickets = Mapping[int, Mapping[str, Any]]

#: So many calls a bulk change has under way at most.
_AT_ONCE = 8
#: What an export that was ended asks for again at most, and one that was deferred.
_REPEATED_BY_A_TRY, _REPEATED_AFTER_A_DEFERRAL = 40, 6

_EXCEPTION = re.compile(r"\bLightspeed\w+(?:Error|Failed|Exhausted)\b")


@dataclass(frozen=True)
class Snapshot:
    """A shop's tickets at one moment."""

    live: Tickets
    deleted: Tickets


class BrokenPromiseError(Exception):
    """A green run that lied, or a red one that left something behind."""


def keep(is_kept: bool, promise: str) -> None:
    """Go on if a promise is kept.

    :raises BrokenPromiseError: otherwise.
    """
    if not is_kept:
        raise BrokenPromiseError(promise)


def is_green(world: World, task: str, state: str, logs: Sequence[str]) -> None:
    """It ends well: its retries outlast all that breaks. But where others never let a list be, it may say just that."""
    if state == "success":
        return
    last = _EXCEPTION.findall(logs[-1]) if logs else []
    keep(
        world.may_be_too_restless and task != "watch" and "LightspeedIncompleteListError" in last,
        f"{task} is {state} after {len(logs)} tries, the last with {sorted(set(last)) or 'no error of the provider'}",
    )


def export_is_complete(
    world: World, shop: Sandbox, exported: Sequence[Row], before: Tickets, after: Snapshot
) -> None:
    """Each ticket of the window that lived all through the export is there, none is twice, none is made up.

    And those that nobody has changed are there as they are.
    """

    def in_window(tickets: Tickets) -> set[int]:
        return {
            number
            for number, ticket in tickets.items()
            if world.created_from <= datetime.fromisoformat(ticket["createdAt"]) < world.created_to
        }

    found = {row["id"] for row in exported}
    keep(len(found) == len(exported), f"{len(exported) - len(found)} tickets are in the export twice")
    missing = in_window(before) & in_window(after.live) - found
    keep(not missing, f"the export lacks {_some(missing)}")
    strange = found - in_window({**after.deleted, **before, **after.live})
    keep(not strange, f"the export has tickets of another window: {_some(strange)}")
    for row in exported:
        number = row["id"]
        if number in before and not shop.shop.history(number):
            expected = row_of(before[number], world.ending)
            keep(row == expected, f"the export has {row}, and the shop {expected}")


def only_its_targets_are_closed(
    world: World, shop: Sandbox, before: Tickets, result: Mapping[str, Any]
) -> None:
    """What it says is so; each ticket is changed at most once, and none that was not meant."""
    settled = [*result["closed"], *result["already"], *result["missing"], *result["changed"]]
    settled += [int(number) for number in result["failed"]]
    keep(len(settled) == len(set(settled)), "a ticket has two outcomes")
    touched = only_stale_are_closed(world, shop, before)
    unsure = {int(number) for number in result["failed"]} | set(result["missing"])
    keep(
        touched - unsure == set(result["closed"]) - unsure, f"closed are {_some(touched)}, told was {result}"
    )
    live = set(shop.shop.ids())
    expected = {
        number
        for number, ticket in before.items()
        if number in live
        and str(number) not in result["failed"]
        and not shop.shop.history(number)
        and datetime.fromisoformat(ticket["createdAt"]) < world.close_before
        and ticket["isAnswered"]
        and not ticket["isClosed"]
        and not ticket["isTodo"]
    }
    keep(not expected, f"stale and open to the end, and nobody touched them: {_some(expected)}")


def only_stale_are_closed(world: World, shop: Sandbox, before: Tickets) -> set[int]:
    """Return the tickets that were changed: each once, only closed, and all of them stale."""
    touched = set()
    for number in {*before, *shop.shop.ids()}:
        by_us = [change for change in shop.shop.history(number) if change.by == shop.key]
        keep(len(by_us) <= 1, f"ticket {number} was changed {len(by_us)} times")
        for change in by_us:
            keep(change.after == {"isClosed": True}, f"ticket {number} was changed: {change.after}")
            created = datetime.fromisoformat(before[number]["createdAt"]) if number in before else None
            keep(
                created is not None and created < world.close_before, f"ticket {number} was not to be closed"
            )
            touched.add(number)
    return touched


def none_is_written_again(calls: Sequence[Call], cuts: int) -> None:
    """One call closes a ticket: only after one that has failed there is another, and for what was under way at a cut.

    :param cuts: how often its worker was killed, by us or by Airflow, or the shop went away.
    """
    again = made_again(calls)
    keep(again <= _AT_ONCE * cuts, f"{again} tickets were written again, with {cuts} cuts")


def goes_on_where_it_was(world: World, calls: Sequence[Call], logs: Sequence[str], cuts: int) -> int:
    """Count the lists that an export has asked for again; where they are in order, another try repeats little."""
    repeated = asked_again(calls)
    deferrals = sum(log.count("The worker is free until then") for log in logs)
    allowed = _REPEATED_BY_A_TRY * (len(logs) - 1) + _REPEATED_AFTER_A_DEFERRAL * deferrals + cuts
    keep(
        not world.is_in_order or repeated <= allowed,
        f"{repeated} lists were asked for again, in {len(logs)} tries with {deferrals} deferrals and {cuts} cuts",
    )
    return repeated


def lets_go_of_its_worker(logs: Sequence[str]) -> None:
    """A task that has to wait for its quota for long does not do so on its worker."""
    keep(
        any("Going on at " in log for log in logs), "close had to wait for its quota, and was never deferred"
    )


def watch_is_complete(since_id: int, before: Tickets, after: Snapshot, result: Mapping[str, Any]) -> None:
    """It hands over what is new, all of it up to where it has looked, once."""
    ids = result["ticket_ids"]
    keep(ids == sorted(set(ids)) and len(ids) == result["count"] >= 3, f"the sensor hands over {result}")
    keep(all(number > since_id and number not in before for number in ids), f"these are not new: {result}")
    new = {number for number in after.live if since_id < number <= result["max_id"]}
    keep(new <= set(ids), f"the sensor has passed over {_some(new - set(ids))}")


def quota_is_kept(shop: Sandbox, starts: int) -> None:
    """Nobody runs into the limit who could have known: each process asks once before it has heard of it."""
    refused = [call for call in shop.calls if call.status == 429 and call.fault is None]
    keep(len(refused) <= starts, f"{len(refused)} calls were refused, and only {starts} processes began")


def logs_are_discreet(logs: Iterable[str], secret: str, texts: Collection[str]) -> None:
    """No log holds the secret, or anything that a customer wrote."""
    for log in logs:
        keep(secret not in log, "a log holds the secret")
        told = sum(text in log for text in texts)
        keep(not told, f"a log holds {told} subjects of tickets")


def _some(numbers: Collection[int]) -> str:
    shown = ", ".join(map(str, sorted(numbers)[:10]))
    return f"{len(numbers)} tickets ({shown}{', …' if len(numbers) > 10 else ''})"
