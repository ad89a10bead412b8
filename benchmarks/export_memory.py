"""How much memory an export to S3 needs, in each format, and a scan for changes; and whether that grows with the shop.

    .venv/bin/python -m benchmarks.export_memory [--tickets 100000 1000000]
        [--endings jsonl.gz csv.gz parquet changes] [--order newest]

Shop and S3 server are real ones on this machine. Each export is a process of its own; what counts is the peak of its
resident memory over what it has before it starts to work, when all is loaded that any task with S3 loads. What only
one format needs (pyarrow) counts in full. A scan for changes comes after a first one, and finds some.

It ends with an error where a limit is passed, or where the largest shop takes more than the smallest.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess  # ruff: ignore[suspicious-subprocess-import] - runs the exports apart
import sys
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

from benchmarks.contenders.job import at_work
from benchmarks.shop import serve
from demo.processes import end_in_order_on_signals
from demo.s3_server import S3Server

BUCKET = "benchmark"
#: MiB, by the key's ending.
MOST = {"jsonl.gz": 60, "csv.gz": 60, "parquet": 120, "changes": 180}
#: MiB that come and go by chance, and with the first part of a multipart upload, which small objects do without.
_CHANCE = 24
_CHANGED = 40


def export(key: str) -> None:
    """Export in this process, and print what came of it."""
    import requests  # ruff: ignore[unused-import]
    from airflow.providers.amazon.aws.hooks.s3 import S3Hook

    from airflow_provider_lightspeed.transfers.tickets_to_s3 import LightspeedTicketsToS3Operator

    S3Hook("aws_default").get_conn()
    operator = LightspeedTicketsToS3Operator(task_id="export", s3_bucket=BUCKET, s3_key=key)
    with at_work():
        operator.execute({})


def scan_for_changes(*, first: bool) -> None:
    """Scan the whole shop in this process, for the first time, or after some tickets have changed."""
    from types import SimpleNamespace

    import requests  # ruff: ignore[unused-import]
    from airflow.providers.amazon.aws.hooks.s3 import S3Hook

    from airflow_provider_lightspeed.hooks.lightspeed import LightspeedHook
    from airflow_provider_lightspeed.transfers.ticket_changes_to_s3 import LightspeedTicketChangesToS3Operator

    S3Hook("aws_default").get_conn()
    if not first:
        hook = LightspeedHook()
        for ticket in [*islice(hook.iter_tickets(), _CHANGED)]:
            hook.update_ticket(ticket["id"], {"subject": "Changed"})
    operator = LightspeedTicketChangesToS3Operator(
        task_id="sync", s3_bucket=BUCKET, s3_prefix="changes", scan="full"
    )
    run_id = "first" if first else "second"
    run = SimpleNamespace(dag_id="day", task_id="sync", run_id=run_id, map_index=-1, max_tries=0)
    context: Any = {"ti": run}
    with at_work():
        result = operator.execute(context)
    assert first or result["updated"] == _CHANGED


@contextmanager
def exporting(tickets: int, order: str, directory: Path) -> Generator[dict[str, str]]:
    """Run a shop and an S3 server; return the environment in which a process can export."""
    with S3Server(directory) as s3, serve(order, tickets) as shop:
        s3.wait_until_ready()
        s3.client().create_bucket(Bucket=BUCKET)
        connection = {
            "conn_type": "lightspeed",
            "host": shop["address"],
            "login": shop["key"],
            "password": shop["secret"],
            "extra": {"calls_per_second": 0},
        }
        yield {
            **{name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW")},
            "AIRFLOW_HOME": str(directory / "airflow"),
            "AIRFLOW_CONN_LIGHTSPEED_DEFAULT": json.dumps(connection),
            "AIRFLOW_CONN_AWS_DEFAULT": s3.airflow_connection(),
        }


def measured(tickets: int, order: str, endings: list[str]) -> dict[str, float]:
    """Export a shop in each format; return the growth of each."""
    growth = {}
    with (
        tempfile.TemporaryDirectory() as directory,
        exporting(tickets, order, Path(directory)) as environment,
    ):
        for ending in endings:
            command = [sys.executable, "-m", "benchmarks.export_memory", "--export"]
            if ending == "changes":
                subprocess.run([*command, "first"], check=True, stdout=subprocess.DEVNULL, env=environment)
            done = subprocess.run(
                [*command, ending], check=True, stdout=subprocess.PIPE, text=True, env=environment
            )
            found = json.loads(done.stdout.splitlines()[-1])
            print(
                f"{tickets:9} tickets to {ending:9}{found['growth']:6.1f} MiB (at most {MOST[ending]}), "
                f"{found['seconds']:.1f} s",
                flush=True,
            )
            growth[ending] = found["growth"]
    return growth


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tickets", type=int, nargs="+", default=[100_000, 1_000_000])
    parser.add_argument("--order", choices=["oldest", "newest"], default="newest", help="of the shop's lists")
    parser.add_argument("--endings", nargs="+", choices=MOST, default=list(MOST))
    parser.add_argument("--export", help=argparse.SUPPRESS)
    options = parser.parse_args()
    end_in_order_on_signals()
    if options.export in {"first", "changes"}:
        scan_for_changes(first=options.export == "first")
        return 0
    if options.export:
        export(f"tickets.{options.export}")
        return 0
    found = [measured(tickets, options.order, options.endings) for tickets in options.tickets]
    within = all(growth[ending] < MOST[ending] for growth in found for ending in growth)
    flat = all(found[-1][ending] <= found[0][ending] + _CHANCE for ending in options.endings)
    return 0 if within and flat else 1


if __name__ == "__main__":
    sys.exit(main())
