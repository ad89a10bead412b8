"""The client over real HTTP: every row of docs/failures.md, the quota, security, and the story in the log."""

from __future__ import annotations

import asyncio
import gzip
import http.client
import json
import logging
import re
import socket
import ssl
import threading
import time
import traceback
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_lightspeed.api import errors, retries
from airflow_provider_lightspeed.api.client import AsyncLightspeedClient, ClientSettings, LightspeedClient
from airflow_provider_lightspeed.api.tickets import (
    Request,
    TicketFilter,
    create_ticket,
    delete_ticket,
    get_ticket,
    list_tickets,
    update_ticket,
)
from airflow_provider_lightspeed.sandbox import NO_LIMITS, Fault, Sandbox, ShopConfig

FAILURES = Path(__file__).parents[2] / "docs" / "failures.md"
CALLS = ("GET list", "GET one", "PUT", "DELETE", "POST")
KINDS = ("sync", "async")


# What stands around the client


@pytest.fixture(scope="module")
def shop() -> Iterator[Sandbox]:
    with Sandbox(ShopConfig(tickets=600, limits=NO_LIMITS, burst_limit=0)) as sandbox:
        yield sandbox


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Back off for a moment only."""
    monkeypatch.setattr(retries, "FIRST_BACKOFF", 0.002)
    monkeypatch.setattr(retries, "SHORTEST_REFUSAL", 0.01)


def settings(sandbox: Sandbox, url: str = "", **options: Any) -> ClientSettings:
    return ClientSettings(
        url or sandbox.url, sandbox.key, sandbox.secret, **{"calls_per_second": 0, "timeout": 10, **options}
    )


def made(kind: str, given: ClientSettings, request: Request) -> tuple[Any, int]:
    """Make a call with a new client; return data or exception, and how many calls it took."""
    if kind == "sync":
        client = LightspeedClient(given)
        try:
            return client.call(request), client.calls
        except errors.LightspeedError as error:
            return error, client.calls
        finally:
            client.close()

    async def make() -> tuple[Any, int]:
        async with AsyncLightspeedClient(given) as client:
            try:
                return await client.call(request), client.calls
            except errors.LightspeedError as error:
                return error, client.calls

    return asyncio.run(make())


@dataclass
class Scripted:
    """A server that gives some answers of its own, then passes calls on to the sandbox; it records what it gets."""

    url: str
    got: list[tuple[str, str, dict[str, str]]]


@contextmanager
def scripted(
    sandbox: Sandbox, reply: tuple[int, dict[str, str], bytes], times: int
) -> Generator[Scripted, None, None]:
    got: list[tuple[str, str, dict[str, str]]] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            got.append((self.command, self.path, dict(self.headers)))
            if len(got) <= times:
                status, headers, content = reply
            else:
                onward = http.client.HTTPConnection(sandbox.url.removeprefix("http://"))
                onward.request(self.command, self.path, body, dict(self.headers))
                response = onward.getresponse()
                status, headers, content = response.status, {}, response.read()
                onward.close()
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            if status != 204:
                self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            with suppress(OSError):
                self.wfile.write(content)

        do_GET = do_PUT = do_POST = do_DELETE = answer

        def log_message(self, *_: object) -> None: ...

    with serving(Handler) as url:
        yield Scripted(url, got)


@contextmanager
def serving(
    handler: type[BaseHTTPRequestHandler], tls: ssl.SSLContext | None = None
) -> Generator[str, None, None]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    server.handle_error = lambda *_: None  # type: ignore[method-assign]
    if tls:
        server.socket = tls.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield f"http{'s' if tls else ''}://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()


@contextmanager
def raw_server(answer: Callable[[socket.socket], None]) -> Generator[tuple[str, list[bytes]], None, None]:
    """A server below HTTP: it gets a connection and does with it what it likes."""
    heard: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            with suppress(OSError):
                while True:
                    connection, _ = listener.accept()
                    threading.Thread(target=talk, args=(connection,), daemon=True).start()

        def talk(connection: socket.socket) -> None:
            with connection, suppress(OSError):
                heard.append(connection.recv(65536))
                answer(connection)

        threading.Thread(target=serve, daemon=True).start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}", heard


@pytest.fixture(scope="module")
def self_signed(tmp_path_factory: pytest.TempPathFactory) -> ssl.SSLContext:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    path = tmp_path_factory.mktemp("tls") / "server.pem"
    path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        + certificate.public_bytes(serialization.Encoding.PEM)
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path)
    return context


# The table of docs/failures.md


@dataclass(frozen=True)
class Row:
    test: str
    call: str
    expected: str
    in_the_end: str


def table() -> list[Row]:
    lines = [line for line in FAILURES.read_text("utf-8").splitlines() if line.startswith("| ")]
    header, *rows = [[cell.strip().strip("`") for cell in line.strip("|").split("|")] for line in lines]
    assert tuple(header[2:7]) == CALLS
    return [Row(row[1], call, row[2 + place], row[7]) for row in rows for place, call in enumerate(CALLS)]


def test_the_table_is_read() -> None:
    rows = table()
    assert len(rows) > 100
    assert {row.expected for row in rows} >= {"tries again", "waits", "succeeds"}
    for name in {row.expected for row in rows} - {"tries again", "waits", "succeeds"}:
        assert issubclass(getattr(errors, name), errors.LightspeedError)


def request_for(call: str, sandbox: Sandbox) -> Request:
    if call == "GET list":
        return list_tickets(limit=3)
    if call == "POST":
        return create_ticket({"subject": "Where is my order?"})
    ticket_id = sandbox.add_tickets(1)[0]
    if call == "PUT":
        return update_ticket(ticket_id, {"isTodo": True})
    return get_ticket(ticket_id) if call == "GET one" else delete_ticket(ticket_id)


def fault(text: str, times: int) -> Fault:
    kind, *options = text.split()
    values: dict[str, Any] = {}
    for option in options:
        name, _, value = option.partition("=")
        values[name] = {"applied": True}.get(name, float(value) if name == "delay" else value)
    return Fault(kind, times=times, **values)  # type: ignore[arg-type]


def script(text: str) -> tuple[int, dict[str, str], bytes]:
    status, _, kind = text.partition(" ")
    if status == "bomb":
        return 200, {"Content-Encoding": "gzip"}, gzip.compress(b" " * 200_000)
    message = "Unknown or inactive language." if kind == "language" else "No."
    document = {"error": {"code": int(status), "method": "GET", "request": "/", "message": message}}
    body = b"<html>no</html>" if kind == "html" else json.dumps(document).encode()
    headers = {"Location": "http://localhost:1/en/tickets.json"} if status == "301" else {}
    return int(status), headers, body


@contextmanager
def trouble(test: str, sandbox: Sandbox, times: int, tls: ssl.SSLContext) -> Generator[str, None, None]:
    """Yield the address at which a call meets the trouble of a row, so many times (0: for ever)."""
    if test == "unreachable":
        with socket.socket() as unheard:  # bound, but it does not listen
            unheard.bind(("127.0.0.1", 0))
            yield f"http://127.0.0.1:{unheard.getsockname()[1]}"
    elif test == "untrusted":
        with serving(BaseHTTPRequestHandler, tls) as url:
            yield url
    elif test.startswith("reply "):
        with scripted(sandbox, script(test.removeprefix("reply ")), times or 1_000) as server:
            yield server.url
    else:
        sandbox.inject(fault(test, times))
        yield sandbox.url


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("row", table(), ids=lambda row: f"{row.test}-{row.call}")
def test_a_row(row: Row, kind: str, shop: Sandbox, self_signed: ssl.SSLContext) -> None:
    given: dict[str, Any] = {"max_body": 100_000}
    if row.test.startswith("slow"):
        given["timeout"] = 0.2
    patient = row.expected in {"tries again", "waits"}
    for times in (1, 0):
        if (times == 0 and not patient) or (times == 1 and row.test == "unreachable"):
            continue
        request = request_for(row.call, shop)
        shop.reset()
        before = len(shop.shop)
        with trouble(row.test, shop, times, self_signed) as url:
            outcome, calls = made(kind, settings(shop, url, **given), request)
        if not row.test.startswith(("reply", "un")):
            assert shop.count_calls() == calls
        born = len(shop.shop) - before
        if row.call == "POST":
            assert born <= 1
        if row.expected == "succeeds" or (patient and times == 1):
            assert not isinstance(outcome, Exception), outcome
            assert calls == (1 if row.expected == "succeeds" else 2)
            if row.call == "POST":
                assert born == 1
            if row.call == "DELETE":
                assert not exists(shop, request)
        else:
            name = row.in_the_end if patient else row.expected
            assert type(outcome).__name__ == name
            ends = {"tries again": retries.MAX_TRIES, "waits": retries.MAX_REFUSALS}
            assert calls == ends.get(row.expected, 1)
    shop.reset()


def exists(sandbox: Sandbox, request: Request) -> bool:
    number = re.search(r"\d+", request.path)
    assert number
    return int(number[0]) in {ticket["id"] for ticket in shop_tickets(sandbox)}


def shop_tickets(sandbox: Sandbox) -> list[dict[str, Any]]:
    from airflow_provider_lightspeed.sandbox import SandboxControl

    return list(SandboxControl(sandbox.url).tickets().values())
