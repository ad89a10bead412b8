"""The sandbox itself: shops behind a real HTTP server in a thread of this process."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import Self
from urllib.parse import parse_qsl

from aiohttp import web

from airflow_provider_lightspeed.sandbox.backend import ShopBackend
from airflow_provider_lightspeed.sandbox.calls import Call
from airflow_provider_lightspeed.sandbox.config import ShopConfig
from airflow_provider_lightspeed.sandbox.control import PREFIX, Control
from airflow_provider_lightspeed.sandbox.faults import Fault
from airflow_provider_lightspeed.sandbox.gateway import Gateway
from airflow_provider_lightspeed.sandbox.shop import Shop
from airflow_provider_lightspeed.sandbox.tickets import Author, Document
from airflow_provider_lightspeed.sandbox.wire import Reply, Request

_EARLY_HINTS = b"HTTP/1.1 103 Early Hints\r\nLink: </style.css>; rel=preload; as=style\r\n\r\n"


class Sandbox:
    """A local shop, or several, that speaks the API of Lightspeed eCom.

    ::

        with Sandbox(ShopConfig(tickets=500)) as sandbox:
            sandbox.add_tickets(3, subject="Where is my order?")
            ...  # point a client at sandbox.url with sandbox.key and sandbox.secret
            assert sandbox.count_calls(method="GET") == 2

    The methods that name no shop are about the first one; ``backends`` has them all, in the order given.
    """

    def __init__(
        self,
        *configs: ShopConfig,
        host: str = "127.0.0.1",
        port: int = 0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._gateway = Gateway(configs or (ShopConfig(),), clock)
        self._control = Control(self._gateway)
        self._host = host
        self._port = port
        self._thread: threading.Thread | None = None
        self._ready = threading.Event()
        self._failure: BaseException | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def start(self) -> None:
        """Start to serve; port 0 becomes a free one. After :meth:`close` it serves the same shops there again.

        :raises OSError: the port is taken.
        """
        self._ready.clear()
        self._failure = None
        self._thread = threading.Thread(target=self._run, name="lightspeed-sandbox", daemon=True)
        self._thread.start()
        self._ready.wait()
        if self._failure is not None:
            raise self._failure

    def close(self) -> None:
        """Stop to serve. What happened can still be read."""
        if self._loop is not None and self._stop is not None and self._thread is not None:
            self._loop.call_soon_threadsafe(self._stop.set)
            self._thread.join()
            self._loop = None

    @property
    def url(self) -> str:
        """The base address, with no slash at its end."""
        return f"http://{self._host}:{self._port}"

    @property
    def backend(self) -> ShopBackend:
        """The first shop with its quota, faults and staff."""
        return self._gateway.backends[0]

    @property
    def backends(self) -> tuple[ShopBackend, ...]:
        """All shops."""
        return self._gateway.backends

    @property
    def shop(self) -> Shop:
        """The first shop: the truth about its tickets."""
        return self.backend.shop

    @property
    def key(self) -> str:
        """The first shop's API key."""
        return self.backend.config.key

    @property
    def secret(self) -> str:
        """The first shop's API secret."""
        return self.backend.config.secret

    def airflow_connection(self, backend: ShopBackend | None = None) -> str:
        """Return the connection to a shop (default: the first), as ``AIRFLOW_CONN_<ID>`` takes it."""
        config = (backend or self.backend).config
        return json.dumps({
            "conn_type": "lightspeed",
            "login": config.key,
            "password": config.secret,
            "host": self.url,
        })

    @property
    def calls(self) -> list[Call]:
        """Every call to the API since the start or the last reset."""
        return self._gateway.calls.all()

    def count_calls(self, *, method: str | None = None, path_prefix: str = "", key: str | None = None) -> int:
        """Return how many calls there were with this method, start of path and key."""
        return self._gateway.calls.count(method=method, path_prefix=path_prefix, key=key)

    def reset_calls(self) -> None:
        """Forget the calls so far."""
        self._gateway.calls.clear()

    def reset(self) -> None:
        """Forget calls and faults and give back the quota, in all shops; tickets stay."""
        self._gateway.reset()

    def add_tickets(self, count: int = 1, **properties: object) -> list[int]:
        """See :meth:`ShopBackend.add_tickets`."""
        return self.backend.add_tickets(count, **properties)

    def update_ticket(self, ticket_id: int, **properties: object) -> Document:
        """See :meth:`ShopBackend.update_ticket`."""
        return self.backend.update_ticket(ticket_id, **properties)

    def delete_ticket(self, ticket_id: int) -> None:
        """See :meth:`ShopBackend.delete_ticket`."""
        self.backend.delete_ticket(ticket_id)

    def add_message(self, ticket_id: int, text: str, author: Author = "customer") -> Document:
        """See :meth:`ShopBackend.add_message`."""
        return self.backend.add_message(ticket_id, text, author)

    def configure(self, **options: object) -> None:
        """See :meth:`ShopBackend.configure`."""
        self.backend.configure(**options)

    def inject(self, *faults: Fault) -> None:
        """See :meth:`ShopBackend.inject`."""
        self.backend.inject(*faults)

    def use_quota(self, calls: int) -> None:
        """See :meth:`ShopBackend.use_quota`."""
        self.backend.use_quota(calls)

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except BaseException as error:  # ruff: ignore[blind-except] - raised again by start(), in the thread that waits for it
            self._failure = error
            self._ready.set()

    async def _serve(self) -> None:
        runner = web.ServerRunner(web.Server(self._handle, access_log=None), shutdown_timeout=0.5)
        await runner.setup()
        try:
            await web.TCPSite(runner, self._host, self._port).start()
            self._port = runner.addresses[0][1]
            self._loop = asyncio.get_running_loop()
            self._stop = asyncio.Event()
            self._ready.set()
            await self._stop.wait()
        finally:
            await runner.cleanup()

    async def _handle(self, http: web.BaseRequest) -> web.StreamResponse:
        request = Request(
            method=http.method,
            path=http.path,
            query=dict(parse_qsl(http.query_string, keep_blank_values=True)),
            body=await http.read(),
            content_type=http.content_type,
        )
        if request.path.startswith(PREFIX):
            return _response(self._control.answer(request))
        reply, delay = self._gateway.answer(request, http.headers.get("Authorization", ""))
        if delay:
            await asyncio.sleep(delay)
        if reply.early_hints and http.transport is not None:
            http.transport.write(_EARLY_HINTS)
        if reply.connection == "kept":
            return _response(reply)
        if reply.connection == "cut":
            response = _response(reply)
            # The header promises all of the body; half of it comes.
            response.body = reply.body[: len(reply.body) // 2]
            response.headers["Content-Length"] = str(len(reply.body))
            # The client may have gone away.
            with suppress(ConnectionResetError):
                await response.prepare(http)
                await response.write_eof()
        if http.transport is not None:
            http.transport.close()
        return web.Response()


def _response(reply: Reply) -> web.Response:
    response = web.Response(status=reply.status, body=reply.body, headers=reply.headers)
    if reply.status != 204:
        response.headers["Content-Type"] = reply.content_type
    return response
