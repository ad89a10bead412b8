"""How long a walk over the whole shop takes, and how much memory, beside the barest loop there is.

The sandbox runs in a process of its own on core 1, each walk in a new process on core 0; walks take turns.

    python benchmarks/walk_throughput.py [--tickets 100000] [--runs 5]
"""

from __future__ import annotations

import argparse
import asyncio
import os
import resource
import subprocess  # ruff: ignore[suspicious-subprocess-import] - runs the sandbox and the walks apart
import sys
import time
from collections.abc import Generator
from contextlib import contextmanager
from statistics import median

LOAD_CORE, SERVER_CORE = 0, 1
LIMIT = 250
ORDERS = ("oldest", "newest")


@contextmanager
def sandbox(order: str, tickets: int) -> Generator[dict[str, str]]:
    module = "airflow_provider_lightspeed.sandbox"
    command = [
        *("taskset", "--cpu-list", str(SERVER_CORE), sys.executable, "-m", module, "--port", "0"),
        *("--order", order, "--tickets", str(tickets), "--quota", "off", "--burst-limit", "0"),
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        told: dict[str, str] = {}
        while "secret" not in told:
            label, _, value = process.stdout.readline().strip().partition(" ")
            told[label] = value.strip()
        try:
            yield told
        finally:
            process.terminate()


def bare(address: str, key: str, secret: str, order: str) -> int:
    """Oldest first by since_id, newest first by page, with no thought of anything going wrong."""
    import msgspec
    import requests

    session = requests.Session()
    session.auth = (key, secret)
    params: dict[str, int] = {"limit": LIMIT}
    count = 0
    while True:
        response = session.get(f"{address}/en/tickets.json", params=params, timeout=30)
        response.raise_for_status()
        tickets = msgspec.json.decode(response.content)["tickets"]
        for _ in tickets:
            count += 1
        if len(tickets) < LIMIT:
            return count
        if order == "oldest":
            params["since_id"] = tickets[-1]["id"]
        else:
            params["page"] = params.get("page", 1) + 1


def ours(address: str, key: str, secret: str, _: str) -> int:
    from airflow_provider_lightspeed.api.client import ClientSettings, LightspeedClient
    from airflow_provider_lightspeed.api.tickets import TicketFilter

    client = LightspeedClient(ClientSettings(address, key, secret, calls_per_second=0))
    return sum(1 for _ in client.iter_tickets(TicketFilter()))


def ours_async(address: str, key: str, secret: str, _: str) -> int:
    """The async client, with a watcher of how late the event loop is."""
    from airflow_provider_lightspeed.api.client import AsyncLightspeedClient, ClientSettings
    from airflow_provider_lightspeed.api.tickets import TicketFilter

    late: list[float] = []

    async def watch() -> None:
        while True:
            begin = time.perf_counter()
            await asyncio.sleep(0.001)
            late.append(time.perf_counter() - begin - 0.001)

    async def walk() -> int:
        watcher = asyncio.create_task(watch())
        settings = ClientSettings(address, key, secret, calls_per_second=0)
        async with AsyncLightspeedClient(settings) as client:
            count = 0
            async for _ in client.iter_tickets(TicketFilter()):
                count += 1
        watcher.cancel()
        return count

    count = asyncio.run(walk())
    late.sort()
    print(
        f"event loop late: worst {late[-1] * 1000:.1f} ms, 99 % within {late[len(late) * 99 // 100] * 1000:.1f} ms"
    )
    return count


WALKS = {"bare": bare, "ours": ours, "async": ours_async}


def one_walk(name: str, address: str, key: str, secret: str, order: str) -> None:
    begin = time.perf_counter()
    count = WALKS[name](address, key, secret, order)
    seconds = time.perf_counter() - begin
    print(f"result {count} {seconds} {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}")


def measured(name: str, told: dict[str, str], order: str, tickets: int) -> tuple[float, float]:
    command = ["taskset", "--cpu-list", str(LOAD_CORE), sys.executable, __file__]
    command += ["--walk", name, told["address"], told["key"], told["secret"], order]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    *notes, result = output.splitlines()
    for note in notes:
        print(f"{order:8} {name}: {note}")
    _, count, seconds, memory = result.split()
    assert int(count) == tickets, f"{name}, {order} first: {count} of {tickets} tickets"
    return float(seconds), float(memory)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tickets", type=int, default=100_000)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--walk", nargs=5, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.walk:
        one_walk(*arguments.walk)
        return
    os.sched_setaffinity(0, {LOAD_CORE})
    for order in ORDERS:
        with sandbox(order, arguments.tickets) as told:
            runs: dict[str, list[tuple[float, float]]] = {"bare": [], "ours": []}
            for _ in range(arguments.runs):
                for name, results in runs.items():
                    results.append(measured(name, told, order, arguments.tickets))
            (bare_time, bare_memory), (our_time, our_memory) = (
                (median(seconds for seconds, _ in results), median(memory for _, memory in results))
                for results in runs.values()
            )
            print(
                f"{order:8} bare {bare_time:.2f} s, {bare_memory:.1f} MiB   ours {our_time:.2f} s, "
                f"{our_memory:.1f} MiB   time x {our_time / bare_time:.2f}, "
                f"memory {our_memory - bare_memory:+.1f} MiB"
            )
            seconds, memory = measured("async", told, order, arguments.tickets)
            print(f"{order:8} async {seconds:.2f} s, {memory:.1f} MiB")


if __name__ == "__main__":
    main()
