"""The lake that follows the shop: a log of changes in S3, read as anyone would who has the files."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import pyarrow.parquet as pq

from demo.airflow_home import OnChange
from demo.support_desk import Ticket, Tickets
from demo.world import BUCKET, World

DAG_ID = "example_lightspeed_ticket_changes"

PREFIX = "lightspeed/shop_nl/"
#: What the staff does after the support desk's day.
ANSWERED, DELETED = 3, 2
_COLUMNS = ("created_at", "updated_at", "is_answered", "is_closed", "is_todo", "subject", "memo")

Row = dict[str, Any]


@dataclass(frozen=True)
class Sync:
    """One run of the DAG.

    :ivar report: what its task returned.
    :ivar changes: rows of the change file that it committed.
    :ivar current: the tickets as they are now, in the lake.
    :ivar shop: the tickets as they are now, in the shop.
    """

    report: dict[str, Any]
    changes: list[Row]
    current: list[Row]
    shop: Tickets


@dataclass(frozen=True)
class Lake:
    """The lake before and after the support desk's day."""

    first: Sync
    second: Sync


def sync(world: World, on_change: OnChange = lambda _task_id, _state: None) -> Sync:
    """Let the lake follow the shop.

    :raises RuntimeError: the run has failed, or does not end.
    """
    # Otherwise the DAG reads the recent tickets, and all of them once a day.
    outcome = world.airflow.run_dag(DAG_ID, on_change, conf={"scan": "full"})
    world.airflow.require_success(outcome)
    report = outcome.tasks["sync_tickets"].result
    return Sync(
        report=report,
        changes=_read(world, str(report["uri"]).removeprefix(f"s3://{BUCKET}/")),
        current=_read(world, f"{PREFIX}current/tickets.parquet"),
        shop=world.shop.shop.tickets(),
    )


def staff_works(world: World, on_change: OnChange = lambda _task_id, _state: None) -> None:
    """Let the staff answer some tickets and delete others."""
    tickets = world.shop.shop.tickets()
    waiting = [number for number, ticket in tickets.items() if not (ticket["isAnswered"] or ticket["isTodo"])]
    for number in waiting[-ANSWERED:]:
        world.shop.add_message(number, "A new one is on its way to you.", author="shop")
    for number in [number for number, ticket in tickets.items() if ticket["isClosed"]][:DELETED]:
        world.shop.delete_ticket(number)
    on_change("staff", f"answers {ANSWERED} tickets and deletes {DELETED}")


def wrong_in_current(lake: Lake) -> Iterator[str]:
    """Yield each way in which the lake is not the shop."""
    shop = {number: _columns(ticket) for number, ticket in lake.second.shop.items()}
    rows = {row["id"]: tuple(row[name] for name in _COLUMNS) for row in lake.second.current}
    if len(rows) != len(lake.second.current):
        yield "a ticket is in the lake more than once"
    if missing := shop.keys() - rows.keys():
        yield f"tickets missing in the lake: {sorted(missing)}"
    if ghosts := rows.keys() - shop.keys():
        yield f"tickets that the shop has deleted: {sorted(ghosts)}"
    if stale := [number for number in shop.keys() & rows.keys() if shop[number] != rows[number]]:
        yield f"tickets that are not as in the shop: {sorted(stale)}"


def wrong_in_log(lake: Lake) -> Iterator[str]:
    """Yield each change that the log has and the shop had not, or the other way around."""
    before, after = lake.first.shop, lake.second.shop
    both = before.keys() & after.keys()
    happened = {
        "I": after.keys() - before.keys(),
        "U": {number for number in both if before[number] != after[number]},
        "D": before.keys() - after.keys(),
    }
    for op, numbers in happened.items():
        logged = {row["id"] for row in lake.second.changes if row["op"] == op}
        if not numbers:
            yield f"nothing of kind {op} happened, so nothing is proven"
        if logged != numbers:
            yield f"{op} in the log: {sorted(logged)}, in the shop: {sorted(numbers)}"


LAKE_CHECKS: dict[str, Callable[[Lake], Iterator[str]]] = {
    "The lake equals the shop: each ticket as it is now, and none that was deleted": wrong_in_current,
    "The log has each insert, update and delete of the day, and no other": wrong_in_log,
}
"""What must hold for the lake, and the check for it."""


def _columns(ticket: Ticket) -> tuple[Any, ...]:
    created, updated = (ticket[name] for name in ("createdAt", "updatedAt"))
    return (
        datetime.fromisoformat(created),
        datetime.fromisoformat(updated) if updated else None,
        *(ticket[name] for name in ("isAnswered", "isClosed", "isTodo", "subject", "memo")),
    )


def _read(world: World, key: str) -> list[Row]:
    body = world.s3.client().get_object(Bucket=BUCKET, Key=key)["Body"].read()
    rows: list[Row] = pq.read_table(io.BytesIO(body)).to_pylist()
    return rows
