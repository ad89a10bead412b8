"""How long it takes to close many tickets, against what the limit of calls a second allows.

    .venv/bin/python -m benchmarks.bulk_close [--tickets 300] [--latency 0.1] [--per-second 20]

The figure to look at is the ratio: 1.00 would be one PUT a ticket at full speed, and no other call. It ends with an
error above 1.3.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
import time
from collections import Counter
from typing import Any

from airflow_provider_lightspeed.operators.tickets import CloseTicketsOperator
from airflow_provider_lightspeed.sandbox import NO_LIMITS, Sandbox, ShopConfig

ALLOWED = 1.3


def main(tickets: int, latency: float, per_second: int) -> int:
    """Measure with ids and with criteria, in a shop that has three times as many other tickets."""
    config = ShopConfig(tickets=3 * tickets, latency=latency, burst_limit=per_second, limits=NO_LIMITS)
    ratios = []
    for way in ("ids", "criteria"):
        with Sandbox(config) as shop:
            ids = shop.add_tickets(tickets, isClosed=False, isTodo=False, subject="benchmark")
            connection = {**json.loads(shop.airflow_connection()), "extra": {"calls_per_second": per_second}}
            os.environ["AIRFLOW_CONN_LIGHTSPEED_DEFAULT"] = json.dumps(connection)
            choice: dict[str, Any] = {"where": lambda ticket: ticket["subject"] == "benchmark"}
            operator = CloseTicketsOperator(
                task_id="close",
                max_tickets=tickets,
                max_share=1.0,
                **({"ticket_ids": ids} if way == "ids" else choice),
            )
            begun = time.monotonic()
            outcome = operator.execute({})
            took = time.monotonic() - begun
            assert sorted(outcome["closed"]) == ids
            ideal = tickets / per_second
            ratios.append(took / ideal)
            calls = Counter(f"{call.method} {call.status}" for call in shop.calls)
            print(
                f"by {way:8}  {tickets} closed in {took:.1f} s, {took / ideal:.2f} x the {ideal:.1f} s that "
                f"{per_second} calls a second allow; {dict(calls)}"
            )
    return 0 if max(ratios) <= ALLOWED else 1


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tickets", type=int, default=300)
    parser.add_argument("--latency", type=float, default=0.1)
    parser.add_argument("--per-second", type=int, default=20)
    options = parser.parse_args()
    logging.disable(logging.INFO)
    sys.exit(main(options.tickets, options.latency, options.per_second))
