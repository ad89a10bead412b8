"""How many list pages of 250 tickets the sandbox serves in a second, on one core.

    .venv/bin/python -m benchmarks.sandbox_pages [--tickets 1000000] [--pages 1000]

The server runs in a process of its own on one core, this load generator on another: one kept-alive
connection, one call at a time. Bodies are read whole; only what the walk needs is parsed.
"""

from __future__ import annotations

import argparse
import os
import re
import socket
import time
from base64 import b64encode
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote, urlsplit

from benchmarks.shop import serve
from demo.processes import end_in_order_on_signals

SERVER_CORE, LOAD_CORE = 0, 1
LIMIT = 250

_IDS = re.compile(rb'"id":(\d+),"createdAt"')
_TIMES = re.compile(rb'"createdAt":"([^"+]+)')


class Connection:
    """The least HTTP client there is, so that the server is what is measured."""

    def __init__(self, url: str, key: str, secret: str) -> None:
        address = urlsplit(url)
        self._socket = socket.create_connection((address.hostname, address.port))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        token = b64encode(f"{key}:{secret}".encode()).decode()
        self._headers = (
            f" HTTP/1.1\r\nHost: {address.netloc}\r\nAuthorization: Basic {token}\r\n\r\n".encode()
        )

    def get(self, target: str) -> bytes:
        self._socket.sendall(b"GET " + target.encode() + self._headers)
        received = b""
        while b"\r\n\r\n" not in received:
            received += self._socket.recv(262_144)
        head, _, start = received.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200"), head
        length = re.search(rb"Content-Length: (\d+)", head)
        assert length
        body = bytearray(int(length[1]))
        view = memoryview(body)
        view[: len(start)] = start
        filled = len(start)
        while filled < len(body):
            filled += self._socket.recv_into(view[filled:])
        return bytes(body)


def by_since_id(body: bytes, _: int) -> str:
    return f"&since_id={_IDS.findall(body)[-1].decode()}" if body else ""


def by_page(_: bytes, pages: int) -> str:
    return f"&page={pages + 1}"


def by_created_at_max(body: bytes, _: int) -> str:
    if not body:
        return ""
    oldest = _TIMES.findall(body)[-1].decode().replace("T", " ")
    return f"&created_at_max={quote(oldest)}"


WALKS: dict[str, tuple[str, Callable[[bytes, int], str]]] = {
    "since_id, oldest first": ("oldest", by_since_id),
    "page, newest first": ("newest", by_page),
    "created_at_max, newest first": ("newest", by_created_at_max),
    "page, unordered": ("unordered", by_page),
}


def megabytes(pid: str) -> int:
    status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS")) // 1024


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tickets", type=int, default=1_000_000)
    parser.add_argument("--pages", type=int, default=1_000)
    arguments = parser.parse_args()
    end_in_order_on_signals()
    os.sched_setaffinity(0, {LOAD_CORE})
    for name, (order, following) in WALKS.items():
        begin = time.perf_counter()
        with serve(order, arguments.tickets, core=SERVER_CORE) as told:
            started = time.perf_counter() - begin
            connection = Connection(told["address"], told["key"], told["secret"])
            body = b""
            connection.get("/en/tickets.json?limit=1")
            begin = time.perf_counter()
            for pages in range(arguments.pages):
                body = connection.get(f"/en/tickets.json?limit={LIMIT}{following(body, pages)}")
            rate = arguments.pages / (time.perf_counter() - begin)
            print(
                f"{name:30} {rate:6.0f} pages/s   ready after {started:.2f} s, "
                f"{len(body) // 1024} KiB a page, server {megabytes(told['pid'])} MiB"
            )


if __name__ == "__main__":
    main()
