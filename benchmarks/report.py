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
What it costs to read a shop, and what is lost, with this provider and with the usual alternatives. Everything runs on \
one machine: the shop is the [sandbox](testing.md), the S3 server a real one. Each figure comes from a command, and each \
alternative is one small file in `benchmarks/contenders/`.
"""

_DAY = """\
Each warehouse is compared with the shop ticket by ticket.

- *Changes*: hourly `scan="recent"`, and a full scan at the last look, as `scan="auto"` does with `full_every` of 23 hours. \
At noon it does not know of changes in tickets older than 14 days: `complete_as_of` says so. *Rows to load*: those of the \
change files.
- *Window exports*: each hour the tickets created in it. Nothing that happens to a ticket later reaches the warehouse.
- *Full refresh* and *scd2* read the whole list at each look, and load all of it. The shop stands still while they read; \
where it does not, they miss tickets (see the exports below), and scd2 ends the validity of each ticket that it missed.
"""

_SCANS = """\
What [`LightspeedTicketChangesToS3Operator`](current-state.md) asks of a shop and of the machine, after the first run. \
*Comparing* is CPU for a full scan in which a few tickets have changed; *bytes* are what is kept of each ticket.
"""

_EXPORTS = """\
The same shop exported by this provider and by the usual alternatives: a bare loop of requests, dlt's `rest_api` \
source, the declarative source of the Airbyte CDK, a tap of the Singer SDK, and Airflow's own HttpOperator with a \
`pagination_function`. `make bench` runs them and writes this page; each is one small file in \
`benchmarks/contenders/`.

- Shop (the sandbox) and S3 server are real ones on the same machine. All write gzipped JSON Lines to S3, and begin the \
clock when they are loaded. In each round all take their turn, several side by side where a slow shop leaves \
them waiting most of the time; the figures are medians.
- *Missing*: tickets that lived all through the export and are not in the file. *Doubled*: tickets that are in it more \
than once. The worst round counts.
- *Calls*: the provider counts what there is, once and now and then again, which proves that nothing is missing. Where \
tickets are deleted meanwhile, its requests overlap, which costs a tenth more. The others save that, and lose tickets.
- *Memory* is the peak of the process; in brackets what of it came with the work.
- *Churning*: before each call one ticket is deleted, and before every other one is added and one changed.
- *Pages of 100*: the shop returns at most 100 tickets, although 250 were asked for. *A row left out*: the shop's lists \
lack one ticket, and its page is a row shorter; that ticket does not count as missing.
- The bare loop is a task's too: it runs where Airflow is loaded, as the provider and the HttpOperator do, and has S3 \
from Airflow's connection. The others run without Airflow, each in an environment of its own.
- The bare loop knows in which order the shop lists its tickets: it walks by `since_id` where the oldest come first, \
by page where the newest do. The provider does not know it. The others walk by page, the usual way with them where \
a list has no link to its next page.
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
            about += f" Better than the provider here: {losses}."
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
            "Tickets missing or doubled in an export of 100,000", "The shop changes meanwhile", wrong
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
        title = f"API calls a day to follow {results.day.tickets:,} tickets, hour by hour"
        about = f"A key usually has {_QUOTA:,} calls a day; wrong: tickets in the evening that are not as in the shop"
        drawn["calls"] = bars(title, about, followers)
    if slow := results.exports.get(_SLOW):
        seconds = [
            Bar(name, row.seconds, f"{row.seconds:.1f} s", name == OURS)
            for name, row in slow.rows.items()
            if row
        ]
        drawn["time"] = bars("Seconds for an export of 100,000 tickets", "Each call takes 100 ms", seconds)
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
    rest = "Of the full refreshes the looks at noon and in the evening were measured, and multiplied: all are alike."
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
        f"{day.tickets:,} tickets, {day.looks} looks at the shop, one each hour; {events} on that day. Five of six changes "
        "are in tickets of the last 14 days. The first load, in the night before, does not count.",
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
            f"{row.seconds:.2f}",
            f"{row.cpu:.2f}",
            f"{row.peak:.0f} (+{row.growth:.0f})",
            f"{row.calls:.0f}",
            row.missing,
            row.doubled,
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
