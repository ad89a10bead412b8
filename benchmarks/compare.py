"""The same shop exported by this provider and by the usual alternatives, side by side.

    make bench                                  # the default scenarios, ten minutes or so
    make bench ARGS="--full"                    # up to a million tickets, with latency too; more than an hour
    make bench ARGS="--full --go-on"            # what was never measured
    make bench ARGS="--full --latency 0"        # only the scenarios without
    make bench ARGS="--tickets 10000 --rounds 1 --only bare_loop lightspeed_provider --output /dev/stdout"

Shop and S3 server are real ones on this machine; each contender (`benchmarks/contenders/`) is a process of its own,
those that are no part of this project in an environment of their own below `.bench/`. What a contender imports is
loaded before its clock starts. In each round all contenders take their turn, so that the ratios hold on a busy
machine too. Afterwards what lies in the bucket is compared with the shop: a ticket that lived all through the export
and is not there is missing; one that is there more than once is doubled.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import subprocess  # ruff: ignore[suspicious-subprocess-import] - runs the contenders apart
import sys
import tempfile
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from statistics import median
from typing import Any
from uuid import uuid4

import msgspec

from airflow_provider_lightspeed.sandbox import NO_LIMITS, Churn, Sandbox, ShopConfig
from benchmarks import chores
from benchmarks.report import OURS, PAGE, environment, table, write_page
from benchmarks.results import RESULTS, Chore, Measured, Results, Row, load, save
from demo.processes import end_in_order_on_signals
from demo.s3_server import S3Server

ROOT = Path(__file__).parent.parent
BUCKET = "benchmark"
CONTENDERS = {
    "lightspeed_provider": None,
    "bare_loop": None,
    "dlt_rest_api": "dlt",
    "airbyte_declarative": "airbyte",
    "singer_tap": "singer",
    "http_operator": None,
}
"""Each with the environment it needs; None is the project's own."""

#: Before each call one ticket is deleted, and before every other one is added and one changed.
CHURN = Churn(inserts=0.5, changes=0.5, deletes=1.0)
_GIVE_UP_AFTER = 3_600
_FIRST_ID = 2546


@dataclass(frozen=True)
class Scenario:
    """A shop to export."""

    tickets: int
    order: str = "newest"
    latency: float = 0.0
    churning: bool = False
    page_limit: int = 250
    leaves_one_out: bool = False
    """Its lists lack one ticket, whose page is a row shorter."""

    def __str__(self) -> str:
        return (
            f"{self.tickets:,} tickets, {self.order} first, {self.latency * 1000:.0f} ms, "
            f"{'churning' if self.churning else 'quiet'}"
            f"{f', pages of {self.page_limit}' if self.page_limit != 250 else ''}"
            f"{', a row left out' if self.leaves_one_out else ''}"
        )

    @property
    def rounds(self) -> int:
        return 1 if self.tickets >= 1_000_000 or self.latency else 3

    @property
    def side_by_side(self) -> int:
        """How many contenders run at once: a slow shop leaves them waiting, the longer the list the longer."""
        if not self.latency or self.tickets < 100_000:
            return 1
        return 3 if self.tickets < 1_000_000 else len(CONTENDERS)

    def shop(self) -> Sandbox:
        return Sandbox(
            ShopConfig(
                tickets=self.tickets,
                order=self.order,  # type: ignore[arg-type]  # one of two literals
                latency=self.latency,
                churn=CHURN if self.churning else Churn(),
                page_limit=self.page_limit,
                left_out=(_FIRST_ID + self.tickets // 2,) if self.leaves_one_out else (),
                first_id=_FIRST_ID,
                limits=NO_LIMITS,
                burst_limit=0,
            )
        )


def _dishonest(tickets: int) -> list[Scenario]:
    return [Scenario(tickets, page_limit=100), Scenario(tickets, leaves_one_out=True)]


DEFAULT = [
    Scenario(10_000, latency=0.1),
    Scenario(10_000, churning=True),
    Scenario(10_000, "oldest", churning=True),
    *_dishonest(10_000),
    Scenario(100_000),
    Scenario(100_000, "oldest"),
    Scenario(100_000, churning=True),
]


def _newest_first(tickets: int) -> list[Scenario]:
    return [
        Scenario(tickets, latency=latency, churning=churning)
        for latency in (0.0, 0.1)
        for churning in (False, True)
    ]


FULL = [
    *_newest_first(10_000),
    *_newest_first(100_000),
    *_dishonest(10_000),
    *(Scenario(100_000, "oldest", churning=churning) for churning in (False, True)),
    *_newest_first(1_000_000),
]


class _Record(msgspec.Struct):
    id: int


class _Line(msgspec.Struct):
    """A ticket, or the message of a Singer tap that wraps one."""

    id: int | None = None
    record: _Record | None = None


def exported(s3: Any, prefix: str) -> list[int]:
    """Return the id of each ticket below a prefix, as often as it is there."""
    decode = msgspec.json.Decoder(_Line).decode
    ids = []
    for item in s3.list_objects_v2(Bucket=BUCKET, Prefix=f"{prefix}/").get("Contents", []):
        if "/tickets" not in item["Key"].removeprefix(prefix):
            continue
        with gzip.open(s3.get_object(Bucket=BUCKET, Key=item["Key"])["Body"]) as lines:
            for line in lines:
                content = decode(line)
                if (found := content.record.id if content.record else content.id) is not None:
                    ids.append(found)
    return ids


def run(contender: str, scenario: Scenario, s3: S3Server, home: Path) -> Row | None:
    """Let a contender export a new shop; None where it ends with an error."""
    prefix = f"{contender}-{uuid4().hex}"
    with scenario.shop() as shop:
        before = set(shop.shop.ids()) - set(shop.backend.config.left_out)
        told = {
            "shop": shop.url,
            "key": shop.key,
            "secret": shop.secret,
            "order": scenario.order,
            "s3": s3.endpoint,
            "access-key": s3.access_key,
            "secret-key": s3.secret_key,
            "bucket": BUCKET,
            "prefix": prefix,
        }
        command = [str(python(CONTENDERS[contender])), f"benchmarks/contenders/{contender}.py"]
        command += [word for name, value in told.items() for word in (f"--{name}", value)]
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW")}
        try:
            done = subprocess.run(
                command,
                cwd=ROOT,
                env={**inherited, "AIRFLOW_HOME": str(home), "NO_PROXY": "*"},
                capture_output=True,
                text=True,
                timeout=_GIVE_UP_AFTER,
                check=False,
            )
        except subprocess.TimeoutExpired:
            print(f"{contender} is given up after {_GIVE_UP_AFTER} s", file=sys.stderr)
            return None
        lived = before & set(shop.shop.ids())
        calls = shop.count_calls()
    if done.returncode:
        print(f"{contender} has failed:\n{done.stderr[-3000:]}", file=sys.stderr)
        return None
    ids = exported(s3.client(), prefix)
    measured = json.loads(done.stdout.splitlines()[-1])
    return Row(**measured, calls=calls, missing=len(lived - set(ids)), doubled=len(ids) - len(set(ids)))


def python(environment: str | None) -> Path:
    """Return the Python of an environment, which is made at the first call."""
    if environment is None:
        return Path(sys.executable)
    home = ROOT / ".bench" / environment
    pins = ROOT / "benchmarks" / "requirements" / f"{environment}.txt"
    ready = home / ".ready"
    if not ready.exists() or ready.stat().st_mtime < pins.stat().st_mtime:
        print(f"setting up {home} …", flush=True)
        uv = Path(sys.executable).with_name("uv")
        subprocess.run(
            [uv, "venv", "--quiet", "--allow-existing", "--python", sys.executable, home], check=True
        )
        subprocess.run([uv, "pip", "install", "--quiet", "--python", home, "-r", pins], check=True)
        ready.touch()
    return home / "bin" / "python"


def middle(rows: list[Row]) -> Row:
    """Return the median of each figure, but the worst of what must not be."""
    worst = {"missing", "doubled"}
    return Row(**{
        name: (max if name in worst else median)(getattr(row, name) for row in rows)
        for name in Row.__struct_fields__
    })


def compare(
    scenarios: list[Scenario], contenders: list[str], rounds: int | None
) -> Generator[tuple[Scenario, Measured]]:
    """Let all contenders export all scenarios, one scenario after another."""
    for needed in {CONTENDERS[name] for name in contenders}:
        python(needed)
    with tempfile.TemporaryDirectory() as directory, S3Server(Path(directory)) as s3:
        s3.wait_until_ready()
        s3.client().create_bucket(Bucket=BUCKET)
        home = Path(directory) / "airflow"
        for contender in contenders:  # the disk's cache, and what tools write at their first start
            run(contender, Scenario(300), s3, home)
        for scenario in scenarios:
            print(f"\n{scenario}", flush=True)
            times, load, found = rounds or scenario.rounds, os.getloadavg()[0], []

            def measure(name: str, scenario: Scenario = scenario) -> Row | None:
                row = run(name, scenario, s3, home)
                print(f"  {name:22}{row or 'failed'}", flush=True)
                return row

            with ThreadPoolExecutor(scenario.side_by_side) as pool:
                for _ in range(times):
                    found.append(list(pool.map(measure, contenders)))
            rows = {
                name: middle([row for row in of_name if row]) if all(of_name) else None
                for name, of_name in zip(contenders, zip(*found, strict=True), strict=True)
            }
            yield (
                scenario,
                Measured(rows=rows, rounds=times, date=f"{datetime.now(UTC):%Y-%m-%d}", load=load),
            )


def chore_texts(imports: list[str]) -> list[Chore]:
    """Measure what is not an export."""
    print("\nclosing 300 tickets", flush=True)
    closed = chores.close_tickets(300)
    bare_seconds, _ = closed["bare_loop"]
    print("200 watchers", flush=True)
    calls = chores.watch(200, 10)
    print("imports", flush=True)
    seconds = {
        name: chores.import_seconds(python(needed), statement)
        for name, (needed, statement) in chores.IMPORTS.items()
        if name in {*imports, "Airflow's SDK alone"}
    }
    return [
        Chore(
            "Closing 300 tickets",
            "At 100 ms a call; the shop allows 20 calls a second, which makes 15 s the least. The provider makes eight "
            "calls at once and reads each ticket first; the bare loop makes one call after another, and reads none.\n\n"
            + table(
                ["", "× bare loop", "s", "calls"],
                [[name, f"{s / bare_seconds:.2f}", f"{s:.1f}", n] for name, (s, n) in closed.items()],
            ),
        ),
        Chore(
            "200 watchers of one shop, 10 intervals",
            f"{calls} calls by 200 deferred sensors in one triggerer, since they share their polls; a poll for each would "
            "be 2,000. All of them reported the next new ticket.",
        ),
        Chore(
            "What a DAG file waits for",
            "Seconds for the import in a new Python. The provider's and the HttpOperator's include Airflow's SDK, which a "
            "DAG file loads anyway; the others are as their programs import them, without Airflow.\n\n"
            + table(["", "s"], [[name, f"{found:.2f}"] for name, found in seconds.items()]),
        ),
    ]


def versions() -> dict[str, str]:
    """Return the versions of the contenders."""
    pins = {
        name: line.partition("==")[2].split()[0]
        for file in (ROOT / "benchmarks" / "requirements").glob("*.txt")
        for line in file.read_text(encoding="utf-8").splitlines()
        if (name := line.partition("==")[0]) in {"dlt", "dlt[s3]", "airbyte-cdk", "singer-sdk"}
    }
    ours = ("airflow-provider-lightspeed", "apache-airflow", "apache-airflow-providers-http", "requests")
    return {**{name: metadata.version(name) for name in ours}, **pins}


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--full", action="store_true", help="all sizes, orders, latencies")
    parser.add_argument("--tickets", type=int, help="scenarios of this size only")
    parser.add_argument("--latency", type=float, help="scenarios with this latency only, in seconds")
    parser.add_argument("--rounds", type=int, help="of each scenario (default: 3; 1 where it takes long)")
    parser.add_argument(
        "--go-on", action="store_true", help=f"measure only what {RESULTS.name} does not hold yet"
    )
    parser.add_argument("--only", nargs="+", choices=CONTENDERS, default=list(CONTENDERS))
    parser.add_argument("--output", type=Path, default=PAGE)
    options = parser.parse_args()
    end_in_order_on_signals()
    scenarios = FULL if options.full else DEFAULT
    if options.tickets:
        scenarios = [Scenario(options.tickets, churning=churning) for churning in (False, True)]
        scenarios += _dishonest(options.tickets)
    if options.latency is not None:
        scenarios = [scenario for scenario in scenarios if scenario.latency == options.latency]
    is_kept = options.output == PAGE
    results = load() if is_kept else Results()
    to_do = [scenario for scenario in scenarios if not options.go_on or str(scenario) not in results.exports]
    for scenario, measured in compare(to_do, options.only, options.rounds):
        results.exports[str(scenario)] = measured
        if is_kept:
            save(results)
    with tempfile.TemporaryDirectory() as home:
        os.environ.update(AIRFLOW_HOME=home, AIRFLOW__LOGGING__LOGGING_LEVEL="ERROR")
        results.chores = chore_texts(options.only)
    results.where = environment(versions())
    names = dict.fromkeys(str(scenario) for scenario in FULL + DEFAULT + scenarios)
    results.exports = {name: results.exports[name] for name in names if name in results.exports}
    if is_kept:
        save(results)
    write_page(results, options.output)
    ours = [results.exports[str(scenario)].rows.get(OURS) for scenario in scenarios]
    return 0 if all(row and not row.missing and not row.doubled for row in ours) else 1


if __name__ == "__main__":
    sys.exit(main())
