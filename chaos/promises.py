"""What must hold after a world has ended, whatever happened in it."""

from __future__ import annotations

import csv
import gzip
import io
import json
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any

from airflow_provider_lightspeed.sandbox import Sandbox
from chaos.worlds import World

Tickets = Mapping[int, Mapping[str, Any]]


class BrokenPromiseError(Exception):
    """A green run that lied, or a red one that left something behind."""


def keep(is_kept: bool, promise: str) -> None:
    """Go on if a promise is kept.

    :raises BrokenPromiseError: otherwise.
    """
    if not is_kept:
        raise BrokenPromiseError(promise)


def read_ids(body: bytes, ending: str) -> list[int]:
    """Return the ids in an export, in its order."""
    if ending == "parquet":
        import pyarrow.parquet

        return list(map(int, pyarrow.parquet.read_table(io.BytesIO(body))["id"].to_pylist()))
    text = (gzip.decompress(body) if ending.endswith(".gz") else body).decode()
    if ending.startswith("csv"):
        return [int(row["id"]) for row in csv.DictReader(io.StringIO(text))]
    return [json.loads(line)["id"] for line in text.splitlines()]


def export_is_complete(
    world: World, exported: Sequence[int], before: Tickets, after: Tickets, deleted: Tickets
) -> None:
    """Each ticket of the window that lived all through the export is there, none is twice, none is made up."""

    def in_window(tickets: Tickets) -> set[int]:
        return {
            number
            for number, ticket in tickets.items()
            if world.created_from <= datetime.fromisoformat(ticket["createdAt"]) < world.created_to
        }

    found = set(exported)
    keep(len(found) == len(exported), f"{len(exported) - len(found)} tickets are in the export twice")
    missing = in_window(before) & in_window(after) - found
    keep(not missing, f"the export lacks {_some(missing)}")
    strange = found - in_window({**deleted, **before, **after})
    keep(not strange, f"the export has tickets of another window: {_some(strange)}")


def only_its_targets_are_closed(
    world: World, shop: Sandbox, before: Tickets, result: Mapping[str, Any]
) -> None:
    """What it says is so; each ticket is written at most once, and none that was not meant."""
    settled = [*result["closed"], *result["already"], *result["missing"], *result["changed"]]
    settled += [int(number) for number in result["failed"]]
    keep(len(settled) == len(set(settled)), "a ticket has two outcomes")
    touched = only_once(world, shop, before)
    unsure = {int(number) for number in result["failed"]} | set(result["missing"])
    keep(
        touched - unsure == set(result["closed"]) - unsure, f"closed are {_some(touched)}, told was {result}"
    )
    expected = {
        number
        for number, ticket in before.items()
        if number in shop.shop.ids()
        and not shop.shop.history(number)
        and datetime.fromisoformat(ticket["createdAt"]) < world.close_before
        and ticket["isAnswered"]
        and not ticket["isClosed"]
        and not ticket["isTodo"]
    }
    keep(not expected, f"stale and open to the end, and nobody touched them: {_some(expected)}")


def only_once(world: World, shop: Sandbox, before: Tickets) -> set[int]:
    """Return the tickets that were written: each once, only closed, and all of them stale."""
    touched = set()
    for number in {*before, *shop.shop.ids()}:
        by_us = [change for change in shop.shop.history(number) if change.by == shop.key]
        keep(len(by_us) <= 1, f"ticket {number} was written {len(by_us)} times")
        for change in by_us:
            keep(change.after == {"isClosed": True}, f"ticket {number} was changed: {change.after}")
            created = datetime.fromisoformat(before[number]["createdAt"]) if number in before else None
            keep(
                created is not None and created < world.close_before, f"ticket {number} was not to be closed"
            )
            touched.add(number)
    return touched


def watch_is_complete(since_id: int, before: Tickets, after: Tickets, result: Mapping[str, Any]) -> None:
    """It hands over what is new, all of it up to where it has looked, once."""
    ids = result["ticket_ids"]
    keep(ids == sorted(set(ids)) and len(ids) == result["count"] >= 3, f"the sensor hands over {result}")
    keep(all(number > since_id and number not in before for number in ids), f"these are not new: {result}")
    new = {number for number in after if since_id < number <= result["max_id"]}
    keep(new <= set(ids), f"the sensor has passed over {_some(new - set(ids))}")


def quota_is_kept(shop: Sandbox, starts: int) -> None:
    """Nobody runs into the limit who could have known: each process asks once before it has heard of it."""
    refused = [call for call in shop.calls if call.status == 429 and call.fault is None]
    keep(len(refused) <= starts, f"{len(refused)} calls were refused, and only {starts} processes began")


def _some(numbers: Collection[int]) -> str:
    shown = ", ".join(map(str, sorted(numbers)[:10]))
    return f"{len(numbers)} tickets ({shown}{', …' if len(numbers) > 10 else ''})"
