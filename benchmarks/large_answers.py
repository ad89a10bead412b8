"""How long a large answer holds up the event loop of a triggerer: `python -m benchmarks.large_answers`.

A server in a process of its own answers with a page of 250 tickets that is up to the cap of 64 MiB large, plain or
gzipped; the async client reads it, while a probe in the same loop sleeps a millisecond at a time and notes how late it
comes back. The aim: never later than 10 ms. On a busy machine what the machine does is in the figure: compare it with
the idle loop's.
"""

from __future__ import annotations

import asyncio
import gzip
import json
import multiprocessing
import time
from collections.abc import Generator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from multiprocessing.connection import Connection

from airflow_provider_lightspeed.api.client import AsyncLightspeedClient, ClientSettings
from airflow_provider_lightspeed.api.tickets import list_tickets
from demo.processes import end_in_order_on_signals

MIB = 2**20
TICKETS = 250
KINDS = {"plain": "a", "escaped": 'é\n"', "emoji": "😀"}


def page(size: int, kind: str) -> bytes:
    """Make a page of tickets of about this size, with one kind of text in their memos."""
    ascii_only = kind == "escaped"
    unit = KINDS[kind]
    memo = unit * (size // TICKETS // (len(json.dumps(unit, ensure_ascii=ascii_only).encode()) - 2))
    tickets = [
        {"id": number, "createdAt": "2026-01-01T00:00:00+00:00", "memo": memo}
        for number in range(1, TICKETS + 1)
    ]
    return json.dumps({"tickets": tickets}, ensure_ascii=ascii_only).encode()


def serve(size: int, kind: str, packed: bool, told: Connection) -> None:
    """Answer every call with the same page."""
    body = page(size, kind)
    if packed:
        body = gzip.compress(body, 1)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            if packed:
                self.send_header("Content-Encoding", "gzip")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        told.send(server.server_port)
        server.serve_forever()


@contextmanager
def served(size: int, kind: str, packed: bool) -> Generator[str]:
    """Run the server; yield its address."""
    here, there = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=serve, args=(size, kind, packed, there))
    process.start()
    try:
        yield f"http://127.0.0.1:{here.recv()}"
    finally:
        process.terminate()
        process.join()


async def probe(late: list[float]) -> None:
    """Note how late the loop comes back, in milliseconds."""
    while True:
        begin = time.perf_counter()
        await asyncio.sleep(0.001)
        late.append((time.perf_counter() - begin) * 1000 - 1)


async def measure(address: str) -> tuple[float, float, float]:
    """Return the worst delay with an idle loop, with the answer being read, and how long that took."""
    idle: list[float] = []
    reading: list[float] = []
    async with AsyncLightspeedClient(ClientSettings(address, "key", "secret")) as client:
        watch = asyncio.create_task(probe(idle))
        await asyncio.sleep(1)
        watch.cancel()
        watch = asyncio.create_task(probe(reading))
        begin = time.perf_counter()
        tickets = await client.call(list_tickets())
        took = time.perf_counter() - begin
        await asyncio.sleep(0.02)
        watch.cancel()
    assert len(tickets) == TICKETS
    return max(idle), max(reading), took


def main() -> None:
    """Measure each kind and size."""
    end_in_order_on_signals()
    for size in (1, 8, 60):
        for kind in KINDS:
            for packed in (False, True):
                with served(size * MIB, kind, packed) as address:
                    idle, reading, took = asyncio.run(measure(address))
                print(
                    f"{size:3} MiB, {kind:7}, {'gzipped' if packed else 'as it is'}: "
                    f"late by {reading:5.1f} ms at worst (idle {idle:.1f}), read in {took:.2f} s",
                    flush=True,
                )


if __name__ == "__main__":
    main()
