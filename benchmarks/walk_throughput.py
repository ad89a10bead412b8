"""How long a walk over the whole shop takes, and how much memory, beside the barest loop there is.

The sandbox runs in a process of its own on core 1, each walk in a new process on core 0; walks take turns.

    .venv/bin/python -m benchmarks.walk_throughput [--tickets 100000] [--runs 5]
"""

from __future__ import annotations

import argparse
import asyncio
import os
import resource
import subprocess  # ruff: ignore[suspicious-subprocess-import] - runs the walks apart
import sys
import time
from collections.abc import Generator
from contextlib import contextmanager
from statistics import median

from benchmarks.shop import serve
from demo.processes import end_in_order_on_signals

LOAD_CORE, SERVER_CORE = 0, 1
LIMIT = 250
ORDERS = ("oldest", "newest")


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


async def late(seconds: float, found: list[float]) -> None:
    """Note how late the event loop comes back, in milliseconds."""
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        begin = time.perf_counter()
        await asyncio.sleep(0.001)
        found.append((time.perf_counter() - begin - 0.001) * 1000)


@contextmanager
def processor_time_of_steps() -> Generator[list[float]]:
    """Note how much processor time each step on the event loop takes, in milliseconds: the machine's noise is not in it."""
    steps: list[float] = []
    run = asyncio.Handle._run

    def timed(handle: asyncio.Handle) -> None:
        begin = time.thread_time()
        run(handle)
        steps.append((time.thread_time() - begin) * 1000)

    asyncio.Handle._run = timed  # type: ignore[method-assign]  # asyncio has no hook for it
    try:
        yield steps
    finally:
        asyncio.Handle._run = run  # type: ignore[method-assign]  # as above


def ours_async(address: str, key: str, secret: str, _: str) -> int:
    """The async client, with a watcher of how late the event loop is, also while it has nothing to do."""
    from airflow_provider_lightspeed.api.client import AsyncLightspeedClient, ClientSettings
    from airflow_provider_lightspeed.api.tickets import TicketFilter

    idle: list[float] = []
    walking: list[float] = []

    async def walk() -> int:
        watcher = asyncio.create_task(late(3_600, walking))
        settings = ClientSettings(address, key, secret, calls_per_second=0)
        async with AsyncLightspeedClient(settings) as client:
            count = 0
            async for _ in client.iter_tickets(TicketFilter()):
                count += 1
        watcher.cancel()
        return count

    asyncio.run(late(5, idle))
    with processor_time_of_steps() as steps:
        count = asyncio.run(walk())
    for name, found in (
        ("event loop late when idle", idle),
        ("event loop late", walking),
        ("processor time of a step", steps),
    ):
        found.sort()
        print(f"{name}: worst {found[-1]:.1f} ms, 99 % within {found[len(found) * 99 // 100]:.1f} ms")
    return count


WALKS = {"bare": bare, "ours": ours, "async": ours_async}


def one_walk(name: str, address: str, key: str, secret: str, order: str) -> None:
    begin = time.perf_counter()
    count = WALKS[name](address, key, secret, order)
    seconds = time.perf_counter() - begin
    print(f"result {count} {seconds} {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}")


def measured(name: str, told: dict[str, str], order: str, tickets: int) -> tuple[float, float]:
    command = ["taskset", "--cpu-list", str(LOAD_CORE), sys.executable, "-m", "benchmarks.walk_throughput"]
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
    end_in_order_on_signals()
    if arguments.walk:
        one_walk(*arguments.walk)
        return
    os.sched_setaffinity(0, {LOAD_CORE})
    for order in ORDERS:
        with serve(order, arguments.tickets, core=SERVER_CORE) as told:
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
            print(f"{order:8} async {seconds:.2f} s (5 s of them idle), {memory:.1f} MiB")


if __name__ == "__main__":
    main()
