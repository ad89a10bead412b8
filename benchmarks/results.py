"""What was measured, kept beside the code in `benchmarks/results.json`: each command replaces its own part."""

from __future__ import annotations

from pathlib import Path

import msgspec

RESULTS = Path(__file__).with_name("results.json")


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


class Chore(msgspec.Struct, frozen=True):
    """What is not an export."""

    title: str
    text: str


class Wrong(msgspec.Struct, frozen=True, kw_only=True):
    """How far a warehouse is from the shop, in tickets."""

    stale: int
    missing: int
    ghosts: int
    """Deleted in the shop, and still there."""


class Followed(msgspec.Struct, frozen=True, kw_only=True):
    """A day of one follower."""

    calls: int
    bytes: int
    """Of the shop's responses."""
    rows: int
    """To be loaded."""
    looked: int
    """The looks that were measured. If these are fewer than those of a day, the figures above are multiplied."""
    at_noon: Wrong
    in_the_evening: Wrong


class Day(msgspec.Struct, frozen=True, kw_only=True):
    """A day in the life of a warehouse."""

    tickets: int
    looks: int
    events: dict[str, int]
    date: str
    followers: dict[str, Followed]


class Scans(msgspec.Struct, frozen=True, kw_only=True):
    """What scans for changes cost, in one shop."""

    tickets: int
    order: str
    date: str
    full_calls: int
    full_seconds: float
    reading_seconds: float
    """Of the list alone."""
    recent_calls: int
    comparing_seconds: float
    bytes_per_ticket: float
    """Of what is known of the tickets."""


class Results(msgspec.Struct, kw_only=True):
    """Everything that docs/benchmarks.md shows."""

    where: str = ""
    """The machine and the versions of the last run of the exports."""
    exports: dict[str, Measured] = msgspec.field(default_factory=dict)
    chores: list[Chore] = msgspec.field(default_factory=list)
    day: Day | None = None
    scans: list[Scans] = msgspec.field(default_factory=list)


def load() -> Results:
    """Return what was measured so far."""
    return msgspec.json.decode(RESULTS.read_bytes(), type=Results) if RESULTS.exists() else Results()


def save(results: Results) -> None:
    """Keep what was measured."""
    RESULTS.write_bytes(msgspec.json.format(msgspec.json.encode(results)) + b"\n")
