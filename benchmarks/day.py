"""One day in the life of a warehouse: what it costs to follow a shop, and how far from the shop it is in the evening.

    .venv/bin/python -m benchmarks.day                     # 100,000 tickets, 24 looks; some minutes
    .venv/bin/python -m benchmarks.day --every-look        # full refreshes too at each look; half an hour or so
    .venv/bin/python -m benchmarks.day --tickets 2000 --looks 4 --output /dev/stdout

Each follower (`benchmarks/contenders/day_….py`) loads the shop in the night, which does not count. Then customers open
tickets, and the staff answers, closes and deletes some; after each such hour, each follower looks at the shop once.
The shop stands still meanwhile: what happens to lists that move is measured by `benchmarks.compare`. Hours take
seconds here. At noon and in the evening each warehouse is compared with the shop. A full refresh does the same at each
look, so it looks only then, and its figures are multiplied.
"""

from __future__ import annotations

import argparse
import gzip
import io
import json
import os
import random
import subprocess  # ruff: ignore[suspicious-subprocess-import] - runs the followers apart
import sys
import tempfile
import time
from collections.abc import Generator, Iterable, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from airflow_provider_lightspeed.sandbox import NO_LIMITS, Sandbox, ShopConfig
from benchmarks.compare import BUCKET, ROOT, python
from benchmarks.report import write_page
from benchmarks.results import Day, Followed, Wrong, load, save
from demo.processes import end_in_order_on_signals
from demo.s3_server import S3Server

_COLUMNS = ("id", "is_answered", "is_closed", "is_todo", "subject", "memo")
_PROPERTIES = ("id", "isAnswered", "isClosed", "isTodo", "subject", "memo")
#: What a recent scan reads, and where most of the staff's work is.
_RECENT_DAYS, _YEAR = 14, 365
_RECENT_SHARE = 5 / 6

Tickets = dict[int, tuple[Any, ...]]
"""By id, the columns that are compared."""


@dataclass(frozen=True)
class Follower:
    """A way to keep a warehouse current.

    :ivar program: in `benchmarks/contenders/`, run with `mode` in an `environment` of its own, or in the project's.
    :ivar keeps: where the warehouse is: in objects below the prefix, or on this machine.
    :ivar refreshes: whether each look reads and loads everything.
    """

    program: str
    environment: str | None = None
    mode: str = ""
    keeps: str = "jsonl"
    refreshes: bool = False


FOLLOWERS = {
    "this provider, changes": Follower("day_changes", keeps="parquet"),
    "this provider, window exports": Follower("day_windows"),
    "dlt, full refresh": Follower("day_dlt", "dlt", "replace", keeps="file", refreshes=True),
    "dlt, scd2": Follower("day_dlt", "dlt", "scd2", keeps="file", refreshes=True),
    "airbyte, full refresh": Follower("day_airbyte", "airbyte", refreshes=True),
}


@dataclass(frozen=True)
class Shape:
    """How large a shop is, and what happens there in a day."""

    tickets: int = 100_000
    looks: int = 24

    @property
    def events(self) -> dict[str, int]:
        """Return how many tickets are new, changed and deleted."""
        return {
            name: max(2, number * self.tickets // 100_000)
            for name, number in (("new", 300), ("changed", 900), ("deleted", 20))
        }


class Staff:
    """What customers and staff do to a shop, the same for the same shop."""

    def __init__(self, shop: Sandbox, shape: Shape) -> None:
        self._shop = shop
        self._looks = shape.looks
        chance = random.Random(1)  # ruff: ignore[suspicious-non-cryptographic-random-usage] - the same day each time
        ids = shop.shop.ids()
        recent = max(1, len(ids) * _RECENT_DAYS // _YEAR)
        events = shape.events
        changed, deleted = events["changed"], events["deleted"]
        of_recent, of_old = round(changed * _RECENT_SHARE), changed - round(changed * _RECENT_SHARE)
        new = chance.sample(ids[-recent:], of_recent + deleted // 2)
        old = chance.sample(ids[:-recent], of_old + deleted - deleted // 2)
        self._changed = new[:of_recent] + old[:of_old]
        self._deleted = new[of_recent:] + old[of_old:]
        for chosen in (self._changed, self._deleted):
            chance.shuffle(chosen)
        self._new = [None] * events["new"]

    def work(self, hour: int) -> None:
        """Do what happens in an hour, counted from 1."""
        self._shop.add_tickets(len(self._due(self._new, hour)))
        for place, number in enumerate(self._due(self._changed, hour)):
            is_closed = self._shop.shop.ticket(number)["isClosed"]
            done = {"isClosed": not is_closed} if place % 3 == 0 else {"memo": f"Answered in hour {hour}"}
            self._shop.update_ticket(number, **done)
        for number in self._due(self._deleted, hour):
            self._shop.delete_ticket(number)

    def _due(self, all_day: list[Any], hour: int) -> list[Any]:
        return all_day[len(all_day) * (hour - 1) // self._looks : len(all_day) * hour // self._looks]


class Meter:
    """Counts the bodies that a shop sends, in bytes."""

    def __init__(self, shop: Sandbox) -> None:
        self.bytes = 0
        answer = shop._gateway.answer

        def counted(*request: Any) -> Any:
            reply, delay = answer(*request)
            self.bytes += len(reply.body)
            return reply, delay

        shop._gateway.answer = counted  # type: ignore[method-assign, assignment]


class Process:
    """A follower at work: a process that looks at the shop on demand."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self._read_report()

    def look(self, **look: Any) -> int:
        """Let it look; return how many rows were to be loaded."""
        assert self._process.stdin
        self._process.stdin.write(json.dumps(look) + "\n")
        self._process.stdin.flush()
        return self._read_report()

    def _read_report(self) -> int:
        assert self._process.stdout
        for line in self._process.stdout:
            if line.startswith('{"rows"'):
                rows: int = json.loads(line)["rows"]
                return rows
        raise RuntimeError("a follower has ended")


@contextmanager
def following(follower: Follower, command: list[str], home: Path) -> Generator[Process]:
    """Start a follower; it ends with the block."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW")}
    program = [str(python(follower.environment)), f"benchmarks/contenders/{follower.program}.py", *command]
    with subprocess.Popen(
        program,
        cwd=ROOT,
        env={**inherited, "AIRFLOW_HOME": str(home), "NO_PROXY": "*"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield Process(process)
        finally:
            process.terminate()


def compare(truth: Tickets, found: Tickets) -> Wrong:
    """Return how far a warehouse is from the shop."""
    return Wrong(
        stale=sum(found[number] != truth[number] for number in truth.keys() & found.keys()),
        missing=len(truth.keys() - found.keys()),
        ghosts=len(found.keys() - truth.keys()),
    )


def as_of_shop(shop: Sandbox) -> Tickets:
    """Return the shop's own tickets."""
    return _tickets(shop.shop.tickets().values(), _PROPERTIES)


def as_of_bucket(s3: Any, prefix: str, keeps: str) -> Tickets:
    """Return the tickets in a bucket: the last one where there are several."""
    found: Tickets = {}
    folder = f"{prefix}/current/" if keeps == "parquet" else f"{prefix}/"
    for item in s3.list_objects_v2(Bucket=BUCKET, Prefix=folder).get("Contents", []):
        body = s3.get_object(Bucket=BUCKET, Key=item["Key"])["Body"].read()
        if keeps == "parquet":
            import pyarrow.parquet

            rows = pyarrow.parquet.read_table(io.BytesIO(body), columns=list(_COLUMNS)).to_pylist()
            found |= _tickets(rows, _COLUMNS)
        else:
            found |= _tickets(map(msgspec.json.decode, gzip.decompress(body).splitlines()), _PROPERTIES)
    return found


def as_of_file(file: Path) -> Tickets:
    """Return the tickets that a follower has written down."""
    rows = (dict(zip(_COLUMNS, json.loads(line), strict=True)) for line in file.read_text().splitlines())
    return _tickets(rows, _COLUMNS)


def _tickets(rows: Iterable[Mapping[str, Any]], names: tuple[str, ...]) -> Tickets:
    return {row["id"]: tuple(row[name] or None for name in names[1:]) for row in rows}


def spend(shape: Shape, names: list[str], *, every_look: bool = False) -> Day:
    """Let the day pass.

    :param every_look: full refreshes look each time, too.
    """
    config = ShopConfig(tickets=shape.tickets, days=_YEAR, limits=NO_LIMITS, burst_limit=0)
    calls, sizes, rows, looked = (dict.fromkeys(names, 0) for _ in range(4))
    wrong: dict[str, list[Wrong]] = {name: [] for name in names}
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        s3 = stack.enter_context(S3Server(directory))
        shop = stack.enter_context(Sandbox(config))
        s3.wait_until_ready()
        s3.client().create_bucket(Bucket=BUCKET)
        meter, staff = Meter(shop), Staff(shop, shape)
        told = {
            "shop": shop.url,
            "key": shop.key,
            "secret": shop.secret,
            "order": "newest",
            "s3": s3.endpoint,
        }
        told |= {"access-key": s3.access_key, "secret-key": s3.secret_key, "bucket": BUCKET}
        processes = {}
        for name in names:
            of_it = told | {"prefix": f"day/{names.index(name)}", "mode": FOLLOWERS[name].mode}
            command = [word for option, value in of_it.items() for word in (f"--{option}", value)]
            processes[name] = stack.enter_context(
                following(FOLLOWERS[name], command, directory / f"airflow-{names.index(name)}")
            )
        since = ""
        for number in range(shape.looks + 1):
            if number:
                staff.work(number)
            # A ticket's time has whole seconds: what comes later is from the next one.
            time.sleep(1.0 - time.time() % 1.0)
            until = datetime.now(UTC).replace(microsecond=0).isoformat()
            is_compared = number in {shape.looks // 2, shape.looks}
            for name, process in processes.items():
                if FOLLOWERS[name].refreshes and number and not (is_compared or every_look):
                    continue
                looked[name] += bool(number)
                shop.reset_calls()
                meter.bytes, began = 0, time.monotonic()
                state = directory / "state.jsonl"
                loaded = process.look(
                    number=number, since=since, until=until, is_full=number in {0, shape.looks},
                    state=str(state) if is_compared else "",
                )  # fmt: skip
                print(
                    f"look {number:2}  {name:36}{shop.count_calls():6} calls {meter.bytes:12,} bytes {loaded:8,} rows "
                    f"{time.monotonic() - began:6.1f} s", file=sys.stderr, flush=True,
                )  # fmt: skip
                if number:
                    calls[name] += shop.count_calls()
                    sizes[name] += meter.bytes
                    rows[name] += loaded
                if is_compared and number:
                    keeps = FOLLOWERS[name].keeps
                    found = (
                        as_of_file(state)
                        if keeps == "file"
                        else as_of_bucket(s3.client(), f"day/{names.index(name)}", keeps)
                    )
                    wrong[name].append(compare(as_of_shop(shop), found))
            since = until
    return Day(
        tickets=shape.tickets,
        looks=shape.looks,
        events=shape.events,
        date=f"{datetime.now(UTC):%Y-%m-%d}",
        followers={
            name: Followed(
                calls=calls[name] * shape.looks // looked[name],
                bytes=sizes[name] * shape.looks // looked[name],
                rows=rows[name] * shape.looks // looked[name],
                looked=looked[name],
                at_noon=wrong[name][0],
                in_the_evening=wrong[name][-1],
            )
            for name in names
        },
    )


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tickets", type=int, default=Shape.tickets)
    parser.add_argument("--looks", type=int, default=Shape.looks)
    parser.add_argument("--every-look", action="store_true", help="full refreshes look each time, too")
    parser.add_argument("--only", nargs="+", choices=FOLLOWERS, default=list(FOLLOWERS))
    parser.add_argument(
        "--output", type=Path, help="print the figures as JSON into this file, and leave the page"
    )
    options = parser.parse_args()
    end_in_order_on_signals()
    for name in options.only:
        python(FOLLOWERS[name].environment)
    day = spend(Shape(options.tickets, options.looks), options.only, every_look=options.every_look)
    if options.output:
        options.output.write_bytes(msgspec.json.format(msgspec.json.encode(day)) + b"\n")
    else:
        results = load()
        results.day = day
        save(results)
        write_page(results)
    ours = day.followers.get("this provider, changes")
    return 0 if ours is None or ours.in_the_evening == Wrong(stale=0, missing=0, ghosts=0) else 1


if __name__ == "__main__":
    sys.exit(main())
