"""What is not an export: closing tickets, watching a shop, being imported by a DAG file."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess  # ruff: ignore[suspicious-subprocess-import] - imports in new processes
import time
from pathlib import Path
from statistics import median

import requests

from airflow_provider_lightspeed.sandbox import NO_LIMITS, Sandbox, ShopConfig

IMPORTS = {
    "Airflow's SDK alone": (None, "import airflow.sdk"),
    "lightspeed_provider": (
        None,
        "from airflow_provider_lightspeed.transfers.tickets_to_s3 import LightspeedTicketsToS3Operator",
    ),
    "http_operator": (None, "from airflow.providers.http.operators.http import HttpOperator"),
    "bare_loop": (None, "import boto3, msgspec, requests"),
    "dlt_rest_api": ("dlt", "from dlt.sources.rest_api import rest_api_source"),
    "airbyte_declarative": (
        "airbyte",
        "import airbyte_cdk.sources.declarative.concurrent_declarative_source",
    ),
    "singer_tap": ("singer", "import singer_sdk"),
}


def close_tickets(tickets: int) -> dict[str, tuple[float, int]]:
    """Return seconds and calls of closing tickets, at 100 ms a call and 20 calls a second."""
    from airflow_provider_lightspeed.operators.tickets import CloseTicketsOperator

    def ours(shop: Sandbox, ids: list[int]) -> None:
        os.environ["AIRFLOW_CONN_LIGHTSPEED_DEFAULT"] = shop.airflow_connection()
        CloseTicketsOperator(task_id="close", ticket_ids=ids, max_tickets=tickets, max_share=1.0).execute({})

    def bare(shop: Sandbox, ids: list[int]) -> None:
        session = requests.Session()
        session.auth = (shop.key, shop.secret)
        for number in ids:
            body = {"ticket": {"isClosed": True}}
            session.put(f"{shop.url}/en/tickets/{number}.json", json=body, timeout=30).raise_for_status()

    found = {}
    for name, close in (("lightspeed_provider", ours), ("bare_loop", bare)):
        with Sandbox(ShopConfig(tickets=3 * tickets, latency=0.1, limits=NO_LIMITS)) as shop:
            ids = shop.add_tickets(tickets, isClosed=False)
            begun = time.perf_counter()
            close(shop, ids)
            found[name] = (time.perf_counter() - begun, shop.count_calls())
            assert all(shop.shop.ticket(number)["isClosed"] for number in ids)
    return found


def watch(watchers: int, intervals: int, seconds: float = 1.0) -> int:
    """Return the calls of a triggerer in which so many deferred sensors wait for new tickets of one shop."""
    from airflow_provider_lightspeed.new_tickets import Cursor
    from airflow_provider_lightspeed.triggers.tickets import NewTicketTrigger

    async def wait(since_id: int) -> None:
        trigger = NewTicketTrigger(
            lightspeed_conn_id="lightspeed_default",
            cursor=Cursor(since_id),
            customer_email=None,
            min_tickets=1,
            poke_interval=seconds,
            first_poll_at=time.time(),
            deadline=time.time() + 3_600,
        )
        async for _ in trigger.run():
            return

    async def story(shop: Sandbox) -> int:
        since_id = shop.shop.ids()[-1]
        waiting = [asyncio.create_task(wait(since_id)) for _ in range(watchers)]
        await asyncio.sleep(3 * seconds)
        shop.reset_calls()
        await asyncio.sleep(intervals * seconds)
        calls = shop.count_calls()
        shop.add_tickets(1)
        await asyncio.wait_for(asyncio.gather(*waiting), 60)
        return calls

    with Sandbox(ShopConfig(tickets=1_000, limits=NO_LIMITS)) as shop:
        os.environ["AIRFLOW_CONN_LIGHTSPEED_DEFAULT"] = shop.airflow_connection()
        return asyncio.run(story(shop))


def import_seconds(python: Path, statement: str, runs: int = 5) -> float:
    """Return how long a new Python takes to import something."""
    program = (
        f"import time, json; begun = time.perf_counter(); {statement}; print(time.perf_counter() - begun)"
    )

    def once() -> float:
        done = subprocess.run(
            [python, "-W", "ignore", "-c", program], check=True, capture_output=True, text=True
        )
        return float(json.loads(done.stdout.splitlines()[-1]))

    once()  # writes bytecode
    return median(once() for _ in range(runs))
