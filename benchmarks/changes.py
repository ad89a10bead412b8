"""What scans for changes cost: calls and seconds of a full and a recent scan, of comparing, and memory for a ticket.

    .venv/bin/python -m benchmarks.changes                             # 10,000 and 100,000 tickets, newest first
    .venv/bin/python -m benchmarks.changes --tickets 1000000 --order oldest --output /dev/stdout

Shop and S3 server are real ones on this machine, without latency. After the first run some tickets change and some are
deleted; what is measured comes then.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec

from airflow_provider_lightspeed.sandbox import NO_LIMITS, Sandbox, ShopConfig
from benchmarks.report import write_page
from benchmarks.results import Scans, load, save
from demo.processes import end_in_order_on_signals
from demo.s3_server import S3Server

BUCKET, PREFIX = "benchmark", "shop"
_CHANGED, _DELETED = 40, 3
_A_YEAR, _A_YEARS_TICKETS = 365.0, 100_000


def measure(tickets: int, order: str) -> Scans:
    """Scan a shop three times, and compare once more what was read."""
    from airflow_provider_lightspeed.changes.compare import Comparison
    from airflow_provider_lightspeed.changes.reader import open_log
    from airflow_provider_lightspeed.formats import Layout
    from airflow_provider_lightspeed.formats.columns import Columns
    from airflow_provider_lightspeed.hooks.lightspeed import LightspeedHook
    from airflow_provider_lightspeed.transfers.ticket_changes_to_s3 import LightspeedTicketChangesToS3Operator

    days = _A_YEAR * max(1.0, tickets / _A_YEARS_TICKETS)
    config = ShopConfig(tickets=tickets, order=order, days=days, limits=NO_LIMITS, burst_limit=0)  # type: ignore[arg-type]  # argparse checks it
    with tempfile.TemporaryDirectory() as directory, S3Server(Path(directory)) as s3, Sandbox(config) as shop:
        s3.wait_until_ready()
        s3.client().create_bucket(Bucket=BUCKET)
        connection = json.loads(shop.airflow_connection()) | {"extra": {"calls_per_second": 0}}
        os.environ["AIRFLOW_CONN_LIGHTSPEED_DEFAULT"] = json.dumps(connection)
        os.environ["AIRFLOW_CONN_AWS_DEFAULT"] = s3.airflow_connection()

        def scan(run_id: str, kind: Any) -> tuple[int, float]:
            task = LightspeedTicketChangesToS3Operator(
                task_id="sync", s3_bucket=BUCKET, s3_prefix=PREFIX, scan=kind
            )
            run = SimpleNamespace(dag_id="day", task_id="sync", run_id=run_id, map_index=-1, max_tries=0)
            context: Any = {"ti": run}
            began = time.perf_counter()
            result = task.execute(context)
            print(f"{tickets:,} {order}: {result}", file=sys.stderr, flush=True)
            return result["calls"], time.perf_counter() - began

        scan("first", "full")
        ids = shop.shop.ids()
        for number in ids[-_CHANGED - _DELETED : -_DELETED]:
            shop.update_ticket(number, memo="Changed")
        for number in ids[-_DELETED:]:
            shop.delete_ticket(number)
        began = time.perf_counter()
        read = list(LightspeedHook().iter_tickets())
        reading = time.perf_counter() - began
        known = open_log(s3.client(), f"s3://{BUCKET}/{PREFIX}").open().known
        comparison = Comparison(known, 0, Columns(Layout(flatten=True)).row)
        began = time.process_time()
        for ticket in read:
            comparison.see(ticket)
        comparison.absent()
        comparing = time.process_time() - began
        full_calls, full_seconds = scan("second", "full")
        recent_calls, _ = scan("third", "recent")
        kept = BytesIO()
        known.write(kept)
        return Scans(
            tickets=tickets,
            order=order,
            date=f"{datetime.now(UTC):%Y-%m-%d}",
            full_calls=full_calls,
            full_seconds=full_seconds,
            reading_seconds=reading,
            recent_calls=recent_calls,
            comparing_seconds=comparing,
            bytes_per_ticket=kept.tell() / len(known),
        )


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tickets", type=int, nargs="+", default=[10_000, 100_000])
    parser.add_argument("--order", choices=("newest", "oldest", "unordered"), default="newest")
    parser.add_argument(
        "--output", type=Path, help="print the figures as JSON into this file, and leave the page"
    )
    options = parser.parse_args()
    end_in_order_on_signals()
    with tempfile.TemporaryDirectory() as home:
        os.environ.update(AIRFLOW_HOME=home, AIRFLOW__LOGGING__LOGGING_LEVEL="ERROR")
        scans = [measure(tickets, options.order) for tickets in options.tickets]
    if options.output:
        options.output.write_bytes(msgspec.json.format(msgspec.json.encode(scans)) + b"\n")
        return 0
    results = load()
    new = {(one.tickets, one.order) for one in scans}
    kept = [one for one in results.scans if (one.tickets, one.order) not in new]
    results.scans = sorted([*kept, *scans], key=lambda one: (one.order, one.tickets))
    save(results)
    write_page(results)
    return 0


if __name__ == "__main__":
    sys.exit(main())
