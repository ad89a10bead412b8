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
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_lightspeed.api import errors, retry
from airflow_provider_lightspeed.api.client import AsyncLightspeedClient, ClientSettings, LightspeedClient
from airflow_provider_lightspeed.api.queries import ticket_messages
from airflow_provider_lightspeed.api.tickets import (
    Request,
    TicketFilter,
    TicketMessage,
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
    monkeypatch.setattr(retry, "FIRST_BACKOFF", 0.002)
    monkeypatch.setattr(retry, "MIN_RATE_LIMIT_DELAY", 0.01)


def settings(sandbox: Sandbox, url: str = "", **options: Any) -> ClientSettings:
    return ClientSettings(
        url or sandbox.url, sandbox.key, sandbox.secret, **{"calls_per_second": 0, "timeout": 120, **options}
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
            got.append((
                self.command,
                self.path,
                {name.lower(): value for name, value in self.headers.items()},
            ))
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

        do_GET = do_PUT = do_POST = do_DELETE = answer  # ruff: ignore[mixed-case-variable-in-class-scope] - the names that http.server looks for

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
        x509
        .CertificateBuilder()
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
    headers = {"Location": "http://localhost:1/en/tickets.json"} if status.startswith("3") else {}
    return int(status), headers, body


@contextmanager
def trouble(test: str, sandbox: Sandbox, times: int, tls: ssl.SSLContext) -> Generator[str, None, None]:
    """Yield the address at which a call meets the trouble of a row, so many times (0: forever)."""
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
    if not row.test.startswith("slow"):
        check_row(row, row.test, 120, kind, shop, self_signed)
        return
    # A busy machine may be late with good responses too. It gets more time then.
    for timeout in (0.2, 2, 20):
        try:
            check_row(row, f"slow delay={3 * timeout}", timeout, kind, shop, self_signed)
            break
        except AssertionError:
            if timeout == 20:
                raise


def check_row(
    row: Row, test: str, timeout: float, kind: str, shop: Sandbox, self_signed: ssl.SSLContext
) -> None:
    given: dict[str, Any] = {"max_body": 100_000, "timeout": timeout}
    patient = row.expected in {"tries again", "waits"}
    for times in (1, 0):
        if (times == 0 and not patient) or (times == 1 and row.test == "unreachable"):
            continue
        request = request_for(row.call, shop)
        shop.reset()
        before = len(shop.shop)
        with trouble(test, shop, times, self_signed) as url:
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
            ends = {"tries again": retry.MAX_ATTEMPTS, "waits": retry.MAX_RATE_LIMITED}
            assert calls == ends.get(row.expected, 1)
    shop.reset()


def exists(sandbox: Sandbox, request: Request) -> bool:
    number = re.search(r"\d+", request.path)
    assert number
    return int(number[0]) in {ticket["id"] for ticket in shop_tickets(sandbox)}


def shop_tickets(sandbox: Sandbox) -> list[dict[str, Any]]:
    from airflow_provider_lightspeed.sandbox import SandboxControl

    return list(SandboxControl(sandbox.url).tickets().values())


# The quota


def in_threads(client: LightspeedClient, calls: int, clock: Clock | None = None) -> list[Any]:
    def call(_: int) -> Any:
        with clock.thread() if clock else nullcontext():
            return client.call(list_tickets(limit=1))

    with ThreadPoolExecutor(8) as threads:
        return list(threads.map(call, range(calls)))


def refused(sandbox: Sandbox) -> int:
    return sum(call.status == 429 for call in sandbox.calls)


def test_threads_never_overrun_a_window() -> None:
    config = ShopConfig(
        tickets=5, limits=(6, 1000, 1000), window_seconds=(4.0, 3600.0, 86400.0), latency=0.02
    )
    with Sandbox(config) as sandbox:
        client = LightspeedClient(settings(sandbox, calls_per_second=20))
        assert len(in_threads(client, 15)) == 15
        assert refused(sandbox) == 0
        assert client.calls == len(sandbox.calls) == 15


def test_threads_never_call_more_often_than_a_second_allows() -> None:
    with Sandbox(ShopConfig(tickets=5, limits=NO_LIMITS, latency=0.03)) as sandbox:
        client = LightspeedClient(settings(sandbox, calls_per_second=20))
        in_threads(client, 70)
        times = [call.monotonic for call in sandbox.calls]
        assert refused(sandbox) == 0
        assert all(later - sooner >= 1.0 for sooner, later in zip(times, times[20:], strict=False))


class Clock:
    """The time of both shop and client. It moves only while all threads sleep, to the moment when the first wakes up.

    So it does not matter how long a call really takes: no thread sees time pass while another's call is under way.
    """

    def __init__(self) -> None:
        # The beginning of a window. Not long ago, for the header that names an instant.
        self.now = time.time() // 3600 * 3600
        self._moved = threading.Condition()
        self._threads = 0
        self._wake_at: list[float] = []

    def __call__(self) -> float:
        return self.now

    @contextmanager
    def thread(self) -> Generator[None]:
        """Be one of the threads that time waits for."""
        with self._moved:
            self._threads += 1
        try:
            yield
        finally:
            with self._moved:
                self._threads -= 1
                self._move()

    def sleep(self, seconds: float) -> None:
        with self._moved:
            until = self.now + seconds
            self._wake_at.append(until)
            self._move()
            self._moved.wait_for(lambda: self.now >= until)
            self._wake_at.remove(until)

    def _move(self) -> None:
        asleep = [until for until in self._wake_at if until > self.now]
        if asleep and len(asleep) >= self._threads:
            self.now = min(asleep)
            self._moved.notify_all()


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("retry_after", ["none", "seconds", "date"])
@pytest.mark.parametrize("negative", [False, True])
def test_another_program_on_the_key_is_survived(retry_after: Any, negative: bool) -> None:
    config = ShopConfig(
        tickets=5,
        limits=(8, 1000, 1000),
        window_seconds=(3.0, 3600.0, 86400.0),
        retry_after=retry_after,
        negative_remaining=negative,
    )
    clock = Clock()
    with Sandbox(config, clock=clock) as sandbox:
        client = LightspeedClient(settings(sandbox), clock=clock)
        client.sleep = clock.sleep
        client.call(list_tickets(limit=1))
        sandbox.use_quota(8)
        assert len(in_threads(client, 10, clock)) == 10
        assert 1 <= refused(sandbox) <= 24  # at most those under way, and those that came back a moment early


def test_the_limit_of_calls_a_second_is_survived_though_the_triple_says_plenty_is_left() -> None:
    clock = Clock()
    with Sandbox(ShopConfig(tickets=5, limits=NO_LIMITS, burst_limit=5), clock=clock) as sandbox:
        client = LightspeedClient(settings(sandbox), clock=clock)
        client.sleep = clock.sleep
        for _ in range(12):
            client.call(list_tickets(limit=1))
        assert [call.status for call in sandbox.calls].count(200) == 12
        assert refused(sandbox) == 2


def test_a_long_wait_is_an_error_that_says_until_when() -> None:
    clock = Clock()
    with Sandbox(ShopConfig(tickets=5, limits=(3, 1000, 1000)), clock=clock) as sandbox:
        client = LightspeedClient(settings(sandbox, max_wait=0), clock=clock)
        for _ in range(3):
            client.call(list_tickets(limit=1))
        asked = datetime.now(UTC)
        with pytest.raises(
            errors.LightspeedQuotaExhaustedError, match="the quota of 5 minutes is used up"
        ) as raised:
            client.call(list_tickets(limit=1))
        reset = timedelta(seconds=sandbox.backend.quota.windows()[0].reset)
        assert asked + reset <= raised.value.until <= datetime.now(UTC) + reset
        assert len(sandbox.calls) == 3


# Security


SECRETS = ("sandbox0only0key", "sandbox0only0secret")


def assert_no_secret(text: str) -> None:
    encoded = ClientSettings("http://localhost", *_credentials()).authorization.removeprefix("Basic ")
    for secret in (*SECRETS, encoded, "Basic c2"):
        assert secret not in text


def _credentials() -> tuple[str, str]:
    config = ShopConfig(tickets=0)
    return config.key, config.secret


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("test", ["unreachable", "untrusted", "drop", "cut-off", "html-200", "reply 401"])
def test_no_secret_in_any_exception_or_log(
    kind: str, test: str, shop: Sandbox, self_signed: ssl.SSLContext, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    with trouble(test, shop, 0, self_signed) as url:
        given = settings(shop, url)
        error, _ = made(kind, given, create_ticket({"subject": "A private matter"}))
    shop.reset()
    assert isinstance(error, errors.LightspeedError)
    assert_no_secret("".join(traceback.format_exception(error)) + repr(error) + repr(given) + caplog.text)
    assert "private" not in "".join(traceback.format_exception(error)) + caplog.text


@pytest.mark.parametrize("kind", KINDS)
def test_an_untrusted_server_never_gets_a_request(
    kind: str, shop: Sandbox, self_signed: ssl.SSLContext
) -> None:
    got: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            got.append(self.path)

    with serving(Handler, self_signed) as url:
        error, calls = made(kind, settings(shop, url), list_tickets())
    assert (type(error), calls, got) == (errors.LightspeedConnectionError, 1, [])
    assert "certificate" in str(error)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_not_followed(kind: str, status: int, shop: Sandbox) -> None:
    with scripted(shop, (200, {}, b'{"tickets": []}'), 1_000) as elsewhere:
        address = elsewhere.url.replace("127.0.0.1", "localhost") + "/en/tickets.json"
        with scripted(shop, (status, {"Location": address}, b""), 1_000) as server:
            error, _ = made(kind, settings(shop, server.url), list_tickets())
        assert isinstance(error, errors.LightspeedRedirectError)
        assert len(server.got) == 1
        assert elsewhere.got == []


@pytest.mark.parametrize("kind", KINDS)
def test_netrc_and_proxies_of_the_environment_change_no_call_to_this_machine(
    kind: str, shop: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login other password other\ndefault login other password other\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    rows, calls = made(kind, settings(shop), list_tickets(limit=3))
    assert (len(rows), calls) == (3, 1)


@pytest.fixture
def proxies_are_heeded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the environment name proxies: all other tests have none."""
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.usefixtures("proxies_are_heeded")
@pytest.mark.parametrize("kind", KINDS)
def test_a_proxy_of_the_environment_is_used_for_other_hosts(
    kind: str, shop: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    with scripted(shop, (200, {}, b'{"tickets": []}'), 1_000) as proxy:
        monkeypatch.setenv("http_proxy", proxy.url.replace("//", "//user:word@"))
        given = settings(shop, "http://shop.invalid", allow_http=True)
        assert made(kind, given, list_tickets()) == ([], 1)
    method, path, headers = proxy.got[0]
    assert (method, path.partition("?")[0]) == ("GET", "http://shop.invalid/en/tickets.json")
    assert headers["proxy-authorization"].startswith("Basic ")
    assert headers["authorization"] == given.authorization


_PROXY_PASSWORD = b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n"


@pytest.mark.usefixtures("quick", "proxies_are_heeded")
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("scheme", "answer", "expected", "calls"),
    [
        # The proxy has the request, and so may the shop.
        ("http", b"", errors.LightspeedUnknownOutcomeError, 1),
        # A tunnel that was never opened: the shop cannot have got anything.
        ("https", b"HTTP/1.1 403 Forbidden\r\n\r\n", errors.LightspeedConnectionError, retry.MAX_ATTEMPTS),
        # A password that is missing stays so.
        ("https", _PROXY_PASSWORD, errors.LightspeedConnectionError, 1),
        ("http", _PROXY_PASSWORD, errors.LightspeedInvalidRequestError, 1),
    ],
    ids=["hangs up", "refuses the tunnel", "no tunnel without a password", "no call without a password"],
)
def test_a_creation_through_a_proxy_is_sent_once(
    kind: str,
    scheme: str,
    answer: bytes,
    expected: type[Exception],
    calls: int,
    shop: Sandbox,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with raw_server(lambda connection: connection.sendall(answer)) as (url, heard):
        monkeypatch.setenv(f"{scheme}_proxy", url)
        given = settings(shop, f"{scheme}://shop.invalid", allow_http=True)
        error, made_calls = made(kind, given, create_ticket({"subject": "Where is my order?"}))
    assert (type(error), made_calls, len(heard)) == (expected, calls, calls)
    assert ("The proxy wants a user and a password" in str(error).replace("the proxy", "The proxy")) == (
        answer == _PROXY_PASSWORD
    )
    assert sum(request.startswith(b"POST") for request in heard) == (scheme == "http")


@pytest.mark.usefixtures("quick", "proxies_are_heeded")
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_proxy_that_is_away_is_tried_again(
    kind: str, scheme: str, shop: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as unheard:  # bound, but it does not listen
        unheard.bind(("127.0.0.1", 0))
        monkeypatch.setenv(f"{scheme}_proxy", f"http://127.0.0.1:{unheard.getsockname()[1]}")
        given = settings(shop, f"{scheme}://shop.invalid", allow_http=True)
        error, calls = made(kind, given, create_ticket({"subject": "Where is my order?"}))
    assert (type(error), calls) == (errors.LightspeedConnectionError, retry.MAX_ATTEMPTS)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("packed", [False, True])
def test_a_body_is_read_up_to_the_cap_only(kind: str, packed: bool, shop: Sandbox) -> None:
    # Unpacked it would take 200 MB.
    body = gzip.compress(b" " * 200_000_000, 1) if packed else b" " * 3_000_000
    headers = {"Content-Encoding": "gzip"} if packed else {}
    with scripted(shop, (200, headers, body), 1_000) as server:
        error, calls = made(kind, settings(shop, server.url, max_body=2_000_000), list_tickets())
    assert (type(error), calls) == (errors.LightspeedResponseTooLargeError, 1)
    assert "larger than 2000000 bytes" in str(error)


@pytest.mark.parametrize("kind", KINDS)
def test_a_packed_answer_is_read(kind: str, shop: Sandbox) -> None:
    body = gzip.compress(b'{"tickets": [{"id": 7}]}')
    with scripted(shop, (200, {"Content-Encoding": "gzip"}, body), 1) as server:
        assert made(kind, settings(shop, server.url), list_tickets()) == ([{"id": 7}], 1)


# Connections


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("kind", KINDS)
def test_an_answer_that_drips_for_ever_ends(
    kind: str, shop: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    def drip(connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
        while True:
            connection.sendall(b" ")
            time.sleep(0.02)

    monkeypatch.setattr(retry, "MAX_ATTEMPTS", 1)
    with raw_server(drip) as (url, _):
        # It would take half an hour otherwise.
        error, _ = made(kind, settings(shop, url, timeout=0.1), list_tickets())
    assert isinstance(error, errors.LightspeedConnectionError)


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"nonsense\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 200 OK\r\n",
    ],
)
def test_what_is_no_http_is_a_broken_connection(kind: str, answer: bytes, shop: Sandbox) -> None:
    with raw_server(lambda connection: connection.sendall(answer)) as (url, heard):
        error, calls = made(kind, settings(shop, url), list_tickets())
    assert isinstance(error, errors.LightspeedConnectionError | errors.LightspeedMalformedResponseError)
    assert calls == len(heard) == retry.MAX_ATTEMPTS


@pytest.mark.parametrize("kind", KINDS)
def test_one_connection_serves_many_calls_of_tasks_and_one_call_of_triggers(kind: str, shop: Sandbox) -> None:
    peers: set[Any] = set()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            peers.add(self.client_address)
            body = b'{"tickets": []}' if len(self.path) % 2 else b'{"error": {"message": "no"}}'
            self.send_response(200 if len(self.path) % 2 else 422)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None: ...

    with serving(Handler) as url:
        given = settings(shop, url)
        requests = [list_tickets(page=page, email=page * "x") for page in range(1, 31)]

        async def call_all() -> None:
            async with AsyncLightspeedClient(given) as client:
                for request in requests:
                    with suppress(errors.LightspeedInvalidRequestError):
                        await client.call(request)

        if kind == "async":
            asyncio.run(call_all())
        else:
            client = LightspeedClient(given)
            for request in requests:
                with suppress(errors.LightspeedInvalidRequestError):
                    client.call(request)
    assert len(peers) == (1 if kind == "sync" else len(requests))


def test_threads_share_a_client(shop: Sandbox) -> None:
    shop.reset()
    client = LightspeedClient(settings(shop))
    ids = list(shop_tickets(shop))[:100]
    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(lambda ticket: client.call(get_ticket(ticket["id"])), ids))
    assert [answer["id"] for answer in answers] == [ticket["id"] for ticket in ids]


@pytest.mark.parametrize("kind", KINDS)
def test_both_clients_read_a_conversation_of_many_pages(kind: str) -> None:
    config = ShopConfig(tickets=1, limits=NO_LIMITS, burst_limit=0, message_page_size=50)
    with Sandbox(config) as shop:
        (ticket_id,) = shop.shop.ids()
        for _ in range(120):
            shop.add_message(ticket_id, "And now?")

        async def read() -> list[TicketMessage]:
            async with AsyncLightspeedClient(settings(shop)) as client:
                return await client.run(ticket_messages(ticket_id))

        if kind == "sync":
            found = LightspeedClient(settings(shop)).run(ticket_messages(ticket_id))
        else:
            found = asyncio.run(read())
        assert [row["id"] for row in found] == [message.id for message in shop.shop.messages(ticket_id)]


# Calls that end in no ordinary way


def under_way(client: Any) -> int:
    count: int = client._core._rate_limiter._in_flight
    return count


def test_a_cancelled_call_is_under_way_no_more(shop: Sandbox) -> None:
    shop.reset()
    shop.inject(Fault("slow", delay=600, times=0))

    async def cancel() -> None:
        async with AsyncLightspeedClient(settings(shop, timeout=600)) as client:
            call = asyncio.create_task(client.call(list_tickets(limit=1)))
            while not under_way(client):
                await asyncio.sleep(0.01)
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call
            assert under_way(client) == 0
            shop.reset()
            assert len(await client.call(list_tickets(limit=1))) == 1

    asyncio.run(cancel())


@pytest.mark.parametrize("stranger", [RuntimeError, KeyboardInterrupt, GeneratorExit])
def test_after_an_exception_that_is_not_ours_no_call_is_under_way(
    stranger: type[BaseException], shop: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = LightspeedClient(settings(shop))
    with monkeypatch.context() as patch:
        patch.setattr(client._transport, "send", lambda _: (_ for _ in ()).throw(stranger))
        with pytest.raises(stranger):
            client.call(list_tickets(limit=1))
    assert under_way(client) == 0
    assert len(client.call(list_tickets(limit=1))) == 1


def test_an_abandoned_walk_leaves_no_call_under_way(shop: Sandbox) -> None:
    client = LightspeedClient(settings(shop))
    tickets = client.iter_tickets(TicketFilter())
    next(tickets)
    tickets.close()  # type: ignore[attr-defined]
    assert under_way(client) == 0

    async def abandon() -> None:
        async with AsyncLightspeedClient(settings(shop)) as client:
            async for _ in client.iter_tickets(TicketFilter()):
                break
            assert under_way(client) == 0

    asyncio.run(abandon())


# The log


def test_the_log_of_a_task_that_waited_and_met_faults_tells_the_story(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retry, "FIRST_BACKOFF", 0.01)
    caplog.set_level(logging.INFO)
    faults = (
        Fault("503", after=4),
        Fault("drop", after=8),
        Fault("html-200", after=12),
        Fault("429", after=14),
    )
    config = ShopConfig(
        tickets=40, faults=faults, limits=(20, 1000, 1000), window_seconds=(5.0, 3600.0, 86400.0)
    )
    with Sandbox(config) as sandbox:
        client = LightspeedClient(settings(sandbox, calls_per_second=20))
        ids = [ticket["id"] for ticket in client.call(list_tickets(limit=40))]
        client.log_estimate(len(ids), f"Closing {len(ids)} tickets")
        with ThreadPoolExecutor(4) as threads:
            list(threads.map(lambda number: client.call(update_ticket(number, {"isClosed": True})), ids))
    lines = [record.getMessage() for record in caplog.records if "lightspeed" in record.name]
    print("\n".join(lines))
    assert 4 < len(lines) < 20  # one wait or two: the windows are aligned to the clock
    text = "\n".join(lines)
    assert re.search(r"Closing 40 tickets takes 40 API calls, about \d+ min", text)
    assert re.search(r"Waiting \d+ s, until .* UTC: the quota of 5 minutes is used up", text)
    assert "PUT /tickets/" in text
    assert_no_secret(caplog.text)
