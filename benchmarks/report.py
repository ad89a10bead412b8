"""The page that `make bench` writes."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

OURS, BARE = "lightspeed_provider", "bare_loop"

_INTRODUCTION = """\
# Benchmarks

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


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One contender in one scenario."""

    seconds: float
    cpu: float
    """Seconds."""
    peak: float
    """Memory of the process, MiB."""
    growth: float
    """What of it came with the work."""
    calls: float
    missing: int
    doubled: int

    def __str__(self) -> str:
        return (
            f"{self.seconds:8.2f} s {self.cpu:8.2f} s CPU {self.peak:7.0f} MiB (+{self.growth:.0f}) "
            f"{self.calls:6.0f} calls, {self.missing} missing, {self.doubled} doubled"
        )


class Measured(msgspec.Struct, frozen=True, kw_only=True):
    """All contenders in one scenario."""

    rows: dict[str, Row | None]
    """By contender; None where it has failed."""
    rounds: int
    date: str
    load: float
    """Of the machine, before the first round."""


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


def page(where: str, exports: Mapping[str, Measured], chores: Sequence[tuple[str, str]]) -> str:
    """Return the page.

    :param exports: by scenario.
    :param chores: title and text of what is not an export.
    """
    parts = [_INTRODUCTION, where, "## Exports"]
    for scenario, measured in exports.items():
        times = "one round" if measured.rounds == 1 else f"{measured.rounds} rounds"
        told = f"{measured.date}, {times}; load before the start {measured.load:.1f}."
        if losses := _losses(measured.rows):
            told += f" Better than the provider here: {losses}."
        parts += [f"### {scenario}", _table(measured.rows), told]
    for title, text in chores:
        parts += [f"## {title}", text]
    return "\n\n".join(part.strip() for part in parts) + "\n"


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
