"""Compares the shop's own data with the DAG's results and the object in S3."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime

import msgspec

from demo.support_desk import Day, Ticket, Tickets


def wrong_in_export(day: Day) -> Iterator[str]:
    """Yield each way in which the object is not the window's tickets, each once, as the shop has them."""
    start, end = day.outcome.data_interval_start, day.outcome.data_interval_end
    if start is None or end is None:
        yield "the run has no data interval"
        return
    truth = created_between(day.before, start, end)
    lines = day.exported_lines()
    exported: Tickets = {ticket["id"]: ticket for ticket in map(msgspec.json.decode, lines)}
    if not truth:
        yield "the window is empty, so nothing is proven"
    if len(lines) != len(exported):
        yield f"{len(lines) - len(exported)} tickets are in the object more than once"
    if missing := truth.keys() - exported.keys():
        yield f"tickets missing in the object: {sorted(missing)}"
    if strangers := exported.keys() - truth.keys():
        yield f"tickets from outside the window: {sorted(strangers)}"
    if different := [
        number for number in truth.keys() & exported.keys() if truth[number] != exported[number]
    ]:
        yield f"tickets that differ from the shop's: {sorted(different)}"
    report = day.result("export_tickets")
    if report["tickets"] != len(truth) or report["bytes"] != len(day.exported):
        yield f"the task reports {report['tickets']} tickets and {report['bytes']} bytes"
    if (report["min_id"], report["max_id"]) != (min(truth, default=None), max(truth, default=None)):
        yield f"the task reports ids from {report['min_id']} to {report['max_id']}"


def wrong_in_closing(day: Day) -> Iterator[str]:
    """Yield each change besides closing the requested tickets, and each wrong result."""
    report = day.result("close_stale_tickets")
    closed = set(report["closed"])
    if not closed:
        yield "no ticket was closed, so nothing is proven"
    if closed != set(day.result("find_stale_tickets")):
        yield "the closed tickets are not those that were found to be stale"
    if report["already"] or report["missing"] or report["failed"]:
        yield f"not all tickets could be closed: {report}"
    if gone := day.before.keys() - day.after.keys():
        yield f"tickets are gone: {sorted(gone)}"
    changes = changed_tickets(day.before, day.after)
    changed = changes.keys()
    if unreported := changed - closed:
        yield f"tickets changed that are not reported: {sorted(unreported)}"
    if untouched := closed - changed:
        yield f"tickets reported as closed that are unchanged: {sorted(untouched)}"
    for number in sorted(changed & closed):
        if changes[number] != {"isClosed": True}:
            yield f"ticket {number} was changed beyond closing: {changes[number]}"


def wrong_in_waiting(day: Day) -> Iterator[str]:
    """Yield each difference between the sensor's tickets and those that customers opened."""
    saw = day.result("wait_for_new_tickets")
    if not day.asked:
        yield "no ticket came in while the sensor waited, so nothing is proven"
    if saw["ticket_ids"] != day.asked or saw["count"] != len(day.asked) or saw["max_id"] != max(day.asked):
        yield f"the sensor saw {saw}, and the new tickets are {day.asked}"
    new = _new(day)
    if sorted(new) != sorted(day.asked):
        yield f"new in the shop are {sorted(new)}, and customers opened {sorted(day.asked)}"
    if forgotten := [number for number, ticket in new.items() if not ticket["isTodo"]]:
        yield f"new tickets that are not on the to-do list: {forgotten}"


CHECKS: dict[str, Callable[[Day], Iterator[str]]] = {
    "The S3 object holds each ticket of the window once, equal to the shop's": wrong_in_export,
    "Closing closed the stale tickets, and changed nothing else in any ticket": wrong_in_closing,
    "The sensor saw exactly the tickets that came in while it waited": wrong_in_waiting,
}
"""What must hold after the day, and the check for it."""


def created_between(tickets: Tickets, start: datetime, end: datetime) -> Tickets:
    """Return the tickets created in a window; its end is not part of it."""
    return {
        number: ticket
        for number, ticket in tickets.items()
        if start <= datetime.fromisoformat(ticket["createdAt"]) < end
    }


def changed_tickets(before: Tickets, after: Tickets) -> dict[int, Ticket]:
    """Return what has changed in tickets that were there before, by id."""
    both = sorted(before.keys() & after.keys())
    return {
        number: _changes(before[number], after[number]) for number in both if before[number] != after[number]
    }


def _new(day: Day) -> Tickets:
    return {number: ticket for number, ticket in day.after.items() if number not in day.before}


def _changes(before: Ticket, after: Ticket) -> Ticket:
    # The shop itself stamps a changed ticket with the time.
    return {name: value for name, value in after.items() if before.get(name) != value and name != "updatedAt"}
