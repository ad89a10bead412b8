"""Raw bytes on the wire: no request gets another's response, and no POST arrives twice.

Each case is a server that answers the first requests of a shop properly, one of them in some broken or odd way, and
all later ones properly again. Every proper response carries the number of its request. `WIRE_FUZZ_CASES` sets how many
cases are drawn (`WIRE_FUZZ_CASES=20000` takes about twenty minutes).
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import socket
import threading
import time
from collections.abc import Generator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import pytest

from airflow_provider_lightspeed.api import retry
from airflow_provider_lightspeed.api.client import AsyncLightspeedClient, ClientSettings, LightspeedClient
from airflow_provider_lightspeed.api.errors import LightspeedError, LightspeedUnknownOutcomeError
from airflow_provider_lightspeed.api.tickets import (
    Request,
    create_message,
    create_ticket,
    delete_ticket,
    get_ticket,
    list_tickets,
    update_ticket,
)
from tests.drawing import drawn

CASES = int(os.environ.get("WIRE_FUZZ_CASES", drawn(60, 120)))
KINDS = ["sync", "async"]
METHODS = ["GET", "LIST", "PUT", "DELETE", "POST", "MESSAGE"]
STATUSES = [
    100,
    101,
    102,
    103,
    199,
    200,
    201,
    204,
    206,
    301,
    302,
    303,
    304,
    307,
    400,
    401,
    403,
    404,
    407,
    422,
    500,
    502,
]
#: What surrounds the body of the odd response; ``%b`` is the body. Lengths are right if the name does not say otherwise.
FRAMINGS: dict[str, bytes] = {
    "length": b"Content-Length: %(length)d\r\n\r\n%(body)b",
    "chunked": b"Transfer-Encoding: chunked\r\n\r\n%(chunked)b",
    "until close": b"Connection: close\r\n\r\n%(body)b",
    "no length": b"\r\n%(body)b",
    "two lengths": b"Content-Length: %(length)d\r\nContent-Length: 2\r\n\r\n%(body)b",
    "two lengths in one": b"Content-Length: %(length)d, 2\r\n\r\n%(body)b",
    "the same length twice": b"Content-Length: %(length)d\r\nContent-Length: %(length)d\r\n\r\n%(body)b",
    "too short": b"Content-Length: 5\r\n\r\n%(body)b",
    "too long": b"Content-Length: 99999\r\n\r\n%(body)b",
    "signed length": b"Content-Length: +%(length)d\r\n\r\n%(body)b",
    "negative length": b"Content-Length: -1\r\n\r\n%(body)b",
    "length of letters": b"Content-Length: many\r\n\r\n%(body)b",
    "length and chunked": b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n%(chunked)b",
    "chunks and more": b"Transfer-Encoding: chunked\r\n\r\n%(chunked)b%(other)b",
    "negative chunk": b"Transfer-Encoding: chunked\r\n\r\n-5\r\n%(body)b\r\n0\r\n\r\n",
    "chunk of letters": b"Transfer-Encoding: chunked\r\n\r\nxyz\r\n%(body)b\r\n0\r\n\r\n",
    "chunk too short": b"Transfer-Encoding: chunked\r\n\r\n5\r\n%(body)b\r\n0\r\n\r\n",
    "chunks cut off": b"Transfer-Encoding: chunked\r\n\r\nff\r\n%(body)b",
    "unknown encoding": b"Transfer-Encoding: gzip, chunked\r\n\r\n%(chunked)b",
    "two responses": b"Content-Length: %(length)d\r\n\r\n%(body)b%(other)b",
    "header of no kind": b"What is this\r\nContent-Length: %(length)d\r\n\r\n%(body)b",
    "cookies": b"Set-Cookie: session=1; Path=/\r\nContent-Length: %(length)d\r\n\r\n%(body)b",
}
#: What comes before the odd response.
BEFORE: dict[str, bytes] = {
    "nothing": b"",
    "100": b"HTTP/1.1 100 Continue\r\n\r\n",
    "102": b"HTTP/1.1 102 Processing\r\n\r\n",
    "103": b"HTTP/1.1 103 Early Hints\r\nLink: </style.css>\r\n\r\n",
    "103 twice": b"HTTP/1.1 103 Early Hints\r\n\r\n" * 2,
    "103 forever": b"HTTP/1.1 103 Early Hints\r\n\r\n" * 200,
    "103 with a length": b"HTTP/1.1 103 Early Hints\r\nContent-Length: 0\r\n\r\n",
}


_OTHER = b'{"ticket": {"id": 666}, "tickets": [{"id": 666}], "ticketMessage": {"id": 666}}'
_OTHER = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(_OTHER), _OTHER)


@dataclass(frozen=True)
class Case:
    """One odd response.

    :param place: which request on the wire it answers, from 0.
    :param drop: whether the server closes the connection after it.
    :param late: whether what comes after the interim responses, or after the headers, is a moment late.
    """

    before: str
    framing: str
    status: int
    method: str
    place: int
    drop: bool
    late: bool = False


def cases(count: int) -> list[Case]:
    """Draw cases: with enough of them, each framing, status and interim response at least once."""
    rng = random.Random(20_261_125)
    drawn = [
        Case("nothing", framing, 200, method, 2, drop=False) for framing in FRAMINGS for method in METHODS
    ]
    drawn += [
        Case(before, "length", 200, method, 2, drop=False, late=True)
        for before in BEFORE
        for method in METHODS
    ]
    drawn += [Case("nothing", "length", status, "POST", 2, drop=False) for status in STATUSES]
    while len(drawn) < count:
        before = rng.choice(["nothing", "nothing", *BEFORE])
        method, place = rng.choice(METHODS), rng.randrange(4)
        drawn.append(
            Case(
                before,
                rng.choice([*FRAMINGS]),
                rng.choice([200, 200, *STATUSES]),
                method,
                place,
                rng.random() < 0.3,
                rng.random() < 0.5,
            )
        )
    return rng.sample(drawn, count) if count < len(drawn) else drawn


@dataclass
class Wire:
    """A server of raw bytes.

    :param timeout: how many seconds a client waits for its response.
    :param posts: bodies of the POSTs that arrived.
    """

    case: Case
    timeout: float = 60.0
    url: str = ""
    requests: int = 0
    posts: list[bytes] = field(default_factory=list)
    cookies: int = 0

    def serve(self, connection: socket.socket) -> None:
        with connection, connection.makefile("rb") as lines, suppress(OSError):
            while request := _read_request(lines):
                method, path, body, headers = request
                self.cookies += b"cookie" in headers
                if method == "POST":
                    self.posts.append(body)
                odd = self.requests == self.case.place
                self.requests += 1
                for part in self._odd(method, path, body) if odd else [_proper(method, path, body)]:
                    connection.sendall(part)
                    time.sleep(_LATE if odd and self.case.late else 0)
                if odd and (self.case.drop or self.case.framing == "until close"):
                    return

    def _odd(self, method: str, path: str, body: bytes) -> list[bytes]:
        content = _content(method, path, body)
        parts = {
            b"length": len(content),
            b"body": content,
            b"chunked": b"%x\r\n%b\r\n0\r\n\r\n" % (len(content), content),
            # After an interim response it would be the proper one.
            b"other": b"" if self.case.status < 200 else _OTHER,
        }
        start = b"HTTP/1.1 %d Odd\r\n" % self.case.status
        headers, end, rest = (start + FRAMINGS[self.case.framing] % parts).partition(b"\r\n\r\n")
        return [BEFORE[self.case.before], headers + end, rest]


def _read_request(lines: Any) -> tuple[str, str, bytes, dict[bytes, bytes]] | None:
    start = lines.readline()
    if not start:
        return None
    method, path, _ = start.decode().split(" ", 2)
    headers = {}
    while (line := lines.readline()) not in {b"\r\n", b""}:
        name, _, value = line.partition(b":")
        headers[name.strip().lower()] = value.strip()
    return method, path, lines.read(int(headers.get(b"content-length", 0))), headers


def _content(method: str, path: str, body: bytes) -> bytes:
    """Return a body from which can be read which request it answers."""
    if method == "POST":
        sent = json.loads(body)
        envelope, number = ("ticket", "subject") if "ticket" in sent else ("ticketMessage", "message")
        data: Any = {envelope: {"id": int(sent[envelope][number])}}
    elif "tickets.json" in path:
        data = {"tickets": [{"id": int(path.partition("since_id=")[2]) + 1}]}
    else:
        data = {"ticket": {"id": int(path.rpartition("/")[2].removesuffix(".json"))}}
    return json.dumps(data).encode()


def _proper(method: str, path: str, body: bytes) -> bytes:
    return (
        b"HTTP/1.1 204 No Content\r\n\r\n"
        if method == "DELETE"
        else _response(200, _content(method, path, body))
    )


def _response(status: int, body: bytes) -> bytes:
    return b"HTTP/1.1 %d OK\r\nContent-Length: %d\r\n\r\n%b" % (status, len(body), body)


@contextmanager
def serving(case: Case, timeout: float = 60.0) -> Generator[Wire, None, None]:
    """Serve a case on a port of this machine."""
    wire = Wire(case, timeout)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        wire.url = f"http://127.0.0.1:{listener.getsockname()[1]}"

        def accept() -> None:
            with suppress(OSError):
                while True:
                    threading.Thread(target=wire.serve, args=listener.accept()[:1], daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        try:
            yield wire
        finally:
            listener.shutdown(socket.SHUT_RDWR)


def request_of(method: str, number: int) -> Request[Any]:
    """Build a request whose proper response holds its number."""
    return {
        "GET": lambda: get_ticket(number),
        "LIST": lambda: list_tickets(since_id=number - 1),
        "PUT": lambda: update_ticket(number, {"isClosed": True}),
        "DELETE": lambda: delete_ticket(number),
        "POST": lambda: create_ticket({"subject": str(number)}),
        "MESSAGE": lambda: create_message(number, {"message": str(number)}),
    }[method]()


def check(wire: Wire, number: int, outcome: Any) -> None:
    """Hold the outcome of one call against what it asked for."""
    if isinstance(outcome, list):
        outcome = outcome[0] if outcome else {"id": None}
    if isinstance(outcome, Exception):
        assert isinstance(outcome, LightspeedError), repr(outcome)
    elif outcome is not None:
        assert outcome["id"] == number, f"{number} got the response of {outcome['id']}"
    times = sum(
        json.loads(body) in ({"ticket": {"subject": str(number)}}, _message(number)) for body in wire.posts
    )
    assert times <= 1, f"{number} was posted {times} times"
    assert wire.cookies == 0


def _message(number: int) -> dict[str, Any]:
    return {"ticketMessage": {"message": str(number)}}


#: Seconds: long enough for a client that is wrong to send its next request meanwhile.
_LATE = 0.01
#: Ids of the calls of one case; the third meets the odd response if each before takes one request.
NUMBERS = (11, 12, 13, 14, 15, 16)


#: Seconds: some of the odd responses never end.
_SOON = 0.15


def settings(wire: Wire) -> ClientSettings:
    return ClientSettings(wire.url, "key", "secret", timeout=wire.timeout, calls_per_second=0)


def play_sync(wire: Wire) -> list[Any]:
    with closing(LightspeedClient(settings(wire))) as client:
        client.sleep = lambda _: None
        outcomes: list[Any] = []
        for index, number in enumerate(NUMBERS):
            method = wire.case.method if index == wire.case.place else "GET"
            try:
                outcome: Any = client.call(request_of(method, number))
            except Exception as error:  # ruff: ignore[blind-except] - checked below
                outcome = error
            check(wire, number, outcome)
            outcomes.append(outcome)
    return outcomes


async def play_async(wire: Wire) -> list[Any]:
    async with AsyncLightspeedClient(settings(wire)) as client:
        outcomes: list[Any] = []
        for index, number in enumerate(NUMBERS):
            method = wire.case.method if index == wire.case.place else "GET"
            try:
                outcome: Any = await client.call(request_of(method, number))
            except Exception as error:  # ruff: ignore[blind-except] - checked below
                outcome = error
            check(wire, number, outcome)
            outcomes.append(outcome)
    return outcomes


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry, "FIRST_BACKOFF", 0.0)
    monkeypatch.setattr(retry, "MAX_ATTEMPTS", 2)


@pytest.mark.parametrize("kind", KINDS)
def test_no_response_goes_astray_and_no_post_arrives_twice(kind: str) -> None:
    for case in cases(CASES):
        with serving(case, _SOON) as wire:
            try:
                if kind == "sync":
                    play_sync(wire)
                else:
                    asyncio.run(play_async(wire))
            except AssertionError as error:
                raise AssertionError(f"{case}: {error}") from None


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("before", ["100", "102", "103", "103 twice", "103 with a length"])
@pytest.mark.parametrize("method", METHODS)
def test_interim_responses_are_skipped(kind: str, before: str, method: str, late: bool) -> None:
    play = play_sync if kind == "sync" else lambda wire: asyncio.run(play_async(wire))
    with serving(Case(before, "length", 200, method, 2, drop=False, late=late)) as wire:
        outcomes = play(wire)
    assert not [outcome for outcome in outcomes if isinstance(outcome, Exception)]
    assert wire.requests == len(NUMBERS)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("framing", "status"),
    [
        ("two lengths", 200),
        ("negative length", 200),
        ("chunk of letters", 201),
        ("too long", 201),
        *(("length", status) for status in (301, 302, 303, 304, 307, 308, 204, 500, 502)),
        ("no length", 101),
    ],
)
def test_the_outcome_of_a_post_is_unknown(
    kind: str, framing: str, status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    # What ends a call is that no byte comes, not that all of it takes too long.
    monkeypatch.setattr("airflow_provider_lightspeed.api.sansio._LONGEST", 10_000)
    call = _call_sync if kind == "sync" else _call_async
    case = Case("nothing", framing, status, "POST", 0, drop=True)
    with serving(case, _SOON) as wire, pytest.raises(LightspeedUnknownOutcomeError):
        call(wire, request_of("POST", 11))
    assert len(wire.posts) == 1


def _call_sync(wire: Wire, request: Request[Any]) -> Any:
    with closing(LightspeedClient(settings(wire))) as client:
        return client.call(request)


def _call_async(wire: Wire, request: Request[Any]) -> Any:
    async def call() -> Any:
        async with AsyncLightspeedClient(settings(wire)) as client:
            return await client.call(request)

    return asyncio.run(call())
