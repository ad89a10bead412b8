"""The page and the plots of what was measured."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.plots import Bar, bars
from benchmarks.results import Day, Results, Row, Scans, Wrong

PAGE = Path(__file__).parents[1] / "docs" / "benchmarks.md"
_PLOTS = "images/benchmarks"

OURS, BARE = "lightspeed_provider", "bare_loop"
_FOLLOWING = "this provider, changes"

_CHURNING = "100,000 tickets, newest first, 0 ms, churning"
_SLOW = "100,000 tickets, newest first, 100 ms, quiet"
#: Calls that a key has in a day.
_QUOTA = 12_000

_ALT = {
    "missing": "Tickets missing or doubled in an export, by tool",
    "calls": "API calls a day to follow a shop, by tool",
    "time": "Seconds for an export, by tool",
}

_SUMMARY = """\
This page compares the provider with the usual alternatives: time, API calls, and tickets that are lost. Everything runs \
on one machine, with the [local shop](testing.md) and a real S3 server. Each figure comes from a command that you can \
run. Each alternative is one small file in `benchmarks/contenders/`.
"""

_DAY = """\
Each warehouse is compared with the shop, ticket by ticket.

- *Changes*: a `scan="recent"` each hour, and a full scan at the end, as `scan="auto"` does with `full_every` of 23 hours. \
At noon, changes of tickets older than 14 days are still missing; `complete_as_of` says so. *Rows to load* are those of \
the change files.
- *Window exports*: each hour, the tickets created in that hour. Later changes of a ticket do not reach the warehouse.
- *Full refresh* and *scd2* read and load the complete list each hour. In this test the shop does not change while they \
read. When it does, they miss tickets (see the exports below), and scd2 marks each missed ticket as ended.
"""

_SCANS = """\
The cost of [`LightspeedTicketChangesToS3Operator`](current-state.md) after its first run. *Comparing* is the CPU time of a \
full scan in which a few tickets have changed. *Bytes* is the size of its cache for each ticket.
"""

_EXPORTS = """\
All tools export the same shop: this provider, a bare loop of requests, dlt's `rest_api` \
source, the declarative source of the Airbyte CDK, a tap of the Singer SDK, and Airflow's own HttpOperator with a \
`pagination_function`. `make bench` runs them and writes this page.

- All tools write gzipped JSON Lines to S3. The clock starts when the tool is loaded. In each round every tool runs once; \
with a slow shop, several run at the same time, since they mostly wait. The figures are medians.
- *Missing*: tickets that existed all through the export and are not in the file. *Doubled*: tickets that are in it more \
than once. The worst round counts.
- *Calls*: the provider proves that nothing is missing, which takes a few calls more. If tickets are deleted meanwhile, \
its requests overlap, which costs a tenth more. The others save these calls, and lose tickets.
- *MiB* is the peak memory of the process; in brackets, the part that came with the export itself.
- *Churning*: before each call one ticket is deleted; before every other call one is added and one changed.
- *Pages of 100*: the shop returns at most 100 tickets for `limit=250`. *A row left out*: the shop's lists \
lack one ticket, and its page is one row shorter; that ticket does not count as missing.
- The provider, the bare loop and the HttpOperator run inside Airflow and use its S3 connection. The others run without \
Airflow, each in its own environment.
- The bare loop knows in which order the shop lists tickets: it reads by `since_id` if the oldest come first, by page \
otherwise. The provider does not know it. The others read by page.
- The date under a table is the day of its measurement. Tables of 2026-11-25 show an earlier version of the provider, \
which needed fewer calls to prove a list that comes newest first.
"""


def environment(versions: Mapping[str, str]) -> str:
    """Return where and with what it was measured."""
    model = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
            if line.startswith("model name")
        ),
        platform.machine(),
    )
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    told = ", ".join(f"{name} {version}" for name, version in versions.items())
    return (
        f"Measured on {os.cpu_count()} cores ({model}), {memory:.0f} GiB, Python {platform.python_version()}, "
        f"{platform.system()}. {told}."
    )


def write_page(results: Results, output: Path = PAGE) -> None:
    """Write the page; its plots too, unless it goes elsewhere."""
    output.write_text(page(results), encoding="utf-8")
    if output == PAGE:
        for name, svg in plots(results).items():
            (PAGE.parent / _PLOTS).mkdir(exist_ok=True)
            (PAGE.parent / _PLOTS / f"{name}.svg").write_text(svg, encoding="utf-8")


def page(results: Results) -> str:
    """Return the page."""
    drawn = plots(results)
    parts = ["# Benchmarks", _SUMMARY]
    parts += [f"![{_ALT[name]}]({_PLOTS}/{name}.svg)" for name in drawn]
    if results.day is not None:
        parts += ["## A day in the life of a warehouse", *_day(results.day)]
    if results.scans:
        parts += ["## Scans for changes", *_scans(results.scans)]
    parts += ["## Exports", _EXPORTS, results.where]
    for scenario, measured in results.exports.items():
        times = "one round" if measured.rounds == 1 else f"{measured.rounds} rounds"
        about = f"{measured.date}, {times}; load before the start {measured.load:.1f}."
        if losses := _losses(measured.rows):
            about += f" Better than the provider: {losses}."
        parts += [f"### {scenario}", _table(measured.rows), about]
    for chore in results.chores:
        parts += [f"## {chore.title}", chore.text]
    return "\n\n".join(part.strip() for part in parts) + "\n"


def plots(results: Results) -> dict[str, str]:
    """Return the plots by name, of what was measured."""
    drawn = {}
    if churning := results.exports.get(_CHURNING):
        wrong = [
            Bar(
                name,
                row.missing + row.doubled,
                f"{row.missing:,} missing, {row.doubled:,} doubled",
                name == OURS,
            )
            for name, row in churning.rows.items()
            if row
        ]
        drawn["missing"] = bars(
            "Tickets missing or doubled in an export of 100,000",
            f"The shop changes while it is read. Lower is better. {churning.date}, make bench",
            wrong,
        )
    if results.day is not None:
        followers = [
            Bar(
                name,
                one.calls,
                f"{one.calls:,} calls, {_wrongs(one.in_the_evening)} wrong",
                name == _FOLLOWING,
            )
            for name, one in results.day.followers.items()
        ]
        title = f"API calls a day to follow {results.day.tickets:,} tickets"
        about = (
            f"A run each hour. A key usually has {_QUOTA:,} calls a day. Wrong: tickets in the warehouse that differ from "
            f"the shop in the evening. {results.day.date}, python -m benchmarks.day"
        )
        drawn["calls"] = bars(title, about, followers)
    if slow := results.exports.get(_SLOW):
        seconds = [
            Bar(name, row.seconds, f"{row.seconds:.1f} s", name == OURS)
            for name, row in slow.rows.items()
            if row
        ]
        drawn["time"] = bars(
            "Seconds for an export of 100,000 tickets",
            f"Each call takes 100 ms. Lower is better. {slow.date}, make bench",
            seconds,
        )
    return drawn


def _day(day: Day) -> list[str]:
    events = ", ".join(f"{number:,} {name}" for name, number in day.events.items())
    lines = [
        [
            f"**{name}**" if name == _FOLLOWING else name,
            f"{one.calls:,}",
            f"{one.calls / _QUOTA:.0%}",
            f"{one.bytes / 1e6:,.0f}",
            f"{one.rows:,}",
            _wrong(one.at_noon),
            _wrong(one.in_the_evening),
        ]
        for name, one in day.followers.items()
    ]
    rest = "The full refreshes were measured at noon and in the evening, and multiplied: all cost the same."
    note = f" {rest}" if any(one.looked < day.looks for one in day.followers.values()) else ""
    heads = [
        "",
        "calls",
        "of the quota",
        "MB from the shop",
        "rows to load",
        "wrong at noon",
        "wrong in the evening",
    ]
    return [
        f"{day.tickets:,} tickets, {day.looks} runs, one each hour; {events} on that day. Five of six changes "
        "are in tickets of the last 14 days. The first load, in the night before, is not included.",
        table(heads, lines),
        f"{day.date}, `python -m benchmarks.day`.{note} {_DAY}",
    ]


def _scans(scans: Sequence[Scans]) -> list[str]:
    heads = [
        "tickets",
        "order",
        "calls, full",
        "calls, 14 days",
        "s, full",
        "s, reading alone",
        "s, comparing",
        "bytes a ticket",
    ]
    lines = [
        [
            f"{one.tickets:,}",
            one.order,
            f"{one.full_calls:,}",
            one.recent_calls,
            f"{one.full_seconds:.2f}",
            f"{one.reading_seconds:.2f}",
            f"{one.comparing_seconds:.2f}",
            f"{one.bytes_per_ticket:.1f}",
        ]
        for one in scans
    ]
    dates = ", ".join(sorted({one.date for one in scans}))
    return [_SCANS, table(heads, lines), f"{dates}, `python -m benchmarks.changes`."]


def _wrong(wrong: Wrong) -> str:
    counts = {"stale": wrong.stale, "missing": wrong.missing, "deleted in the shop": wrong.ghosts}
    return ", ".join(f"{number:,} {what}" for what, number in counts.items() if number) or "0"


def _wrongs(wrong: Wrong) -> str:
    return f"{wrong.stale + wrong.missing + wrong.ghosts:,}"


def table(heads: Sequence[str], lines: Sequence[Sequence[object]]) -> str:
    """Return a table; all but the first column to the right."""
    ruler = ["---", *["---:"] * (len(heads) - 1)]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in (heads, ruler, *lines))


def _table(rows: Mapping[str, Row | None]) -> str:
    bare = rows.get(BARE)
    lines: list[list[object]] = []
    for name, row in rows.items():
        if row is None:
            lines.append([name, *["failed"] * 7])
            continue
        ratio = f"{row.seconds / bare.seconds:.2f}" if bare else "–"
        lines.append([
            f"**{name}**" if name == OURS else name,
            ratio,
            f"{row.seconds:,.2f}",
            f"{row.cpu:.2f}",
            f"{row.peak:,.0f} (+{row.growth:,.0f})",
            f"{row.calls:,.0f}",
            f"{row.missing:,}",
            f"{row.doubled:,}",
        ])
    return table(["", "× bare loop", "s", "s CPU", "MiB", "calls", "missing", "doubled"], lines)


def _losses(rows: Mapping[str, Row | None]) -> str:
    ours = rows.get(OURS)
    if ours is None:
        return ""
    told = []
    for name, row in rows.items():
        if row is None:
            continue
        better = [
            label
            for label, ahead in (
                ("time", row.seconds < ours.seconds),
                ("CPU", row.cpu < ours.cpu),
                ("memory", row.peak < ours.peak),
                ("memory for the work", row.growth < ours.growth),
                ("calls", row.calls < ours.calls),
            )
            if ahead
        ]
        if better:
            told.append(f"{name} in {', '.join(better)}")
    return "; ".join(told)
