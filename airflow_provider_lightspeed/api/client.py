"""The two clients: `LightspeedClient` for tasks, `AsyncLightspeedClient` for triggers.

They perform the effects of the sans-IO core with their transports, and decide nothing.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator, Iterator
from contextlib import closing
from datetime import timedelta
from math import inf
from typing import TYPE_CHECKING, Any, TypeVar

from airflow_provider_lightspeed.api.errors import LightspeedError
from airflow_provider_lightspeed.api.paging import Cursor, Page
from airflow_provider_lightspeed.api.rate_limit import Quota
from airflow_provider_lightspeed.api.sansio import Decode, Effect, Flow, Metrics, SansIOClient, Sleep
from airflow_provider_lightspeed.api.settings import CLUSTERS, ClientSettings
from airflow_provider_lightspeed.api.tickets import Request, Ticket, TicketFilter

if TYPE_CHECKING:
    from airflow_provider_lightspeed.api.async_transport import AsyncTransport

__all__ = ["CLUSTERS", "AsyncLightspeedClient", "ClientSettings", "LightspeedClient", "Metrics"]

#: A body larger than this is read outside the event loop, which it would hold up.
_LARGE_BODY = 64 * 1024

T = TypeVar("T")


class _Client:
    """What both clients know of their shop. The core is held, so that none of its flows looks like a call."""

    def __init__(
        self,
        settings: ClientSettings,
        *,
        metrics: Metrics | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._core = SansIOClient(settings, metrics=metrics, clock=clock)

    @property
    def settings(self) -> ClientSettings:
        """Where the shop is, and who asks."""
        return self._core.settings

    @property
    def calls(self) -> int:
        """API calls sent so far, repeated attempts included."""
        return self._core.calls

    @property
    def quota(self) -> Quota | None:
        """What the last responses said is left; None before the first."""
        return self._core.quota

    @property
    def calls_left(self) -> float:
        """How many calls fit into what is left of the quota; infinite while that is unknown."""
        return self._core.calls_left

    @property
    def calls_per_window(self) -> float:
        """How many calls the tightest window of the quota allows; infinite while that is unknown."""
        return self._core.calls_per_window

    def estimate(self, calls: int, *, sequential: int = 0) -> timedelta:
        """Estimate how long so many calls take. See `SansIOClient.estimate`."""
        return self._core.estimate(calls, sequential=sequential)

    def log_estimate(self, calls: int, job: str, *, sequential: int | None = None) -> None:
        """Log how many calls a job needs and how long they take. See `SansIOClient.log_estimate`."""
        self._core.log_estimate(calls, job, sequential=sequential)


class LightspeedClient(_Client):
    """The client of tasks. Threads may share it.

    :param settings: where the shop is, and who asks.
    :param metrics: takes metrics.
    """

    def __init__(
        self,
        settings: ClientSettings,
        *,
        metrics: Metrics | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(settings, metrics=metrics, clock=clock)
        # requests is loaded with the first client, not with the DAG file.
        from airflow_provider_lightspeed.api.transport import Transport

        self._transport = Transport(settings.base_url)
        #: How this client sleeps; a job that can be cancelled replaces it with a sleep that can be interrupted.
        self.sleep: Callable[[float], None] = time.sleep
        #: Called before each request; a job that can be stopped raises here.
        self.check: Callable[[], None] = lambda: None

    def call(self, request: Request[T], *, send_before: float = inf, max_wait: float | None = None) -> T:
        """Make a call and return its data.

        :param send_before: do not send it after this moment (``time.monotonic()``), however long it has to wait.
        :param max_wait: seconds that it may wait for the quota, in place of the settings' ``max_wait``.
        :raises LightspeedTooLateError: if it was not sent for that reason.
        :raises LightspeedError: one of its subclasses says what went wrong.
        """
        return self._run(self._core.call_flow(request, send_before=send_before, max_wait=max_wait))

    def run(self, query: Generator[Request[Any], Any, T]) -> T:
        """Make the calls that a query asks for, one after another, and return what it finds."""
        return self._run(self._core.query_flow(query))

    def _run(self, flow: Flow[T]) -> T:
        with closing(flow):
            try:
                effect = next(flow)
                while True:
                    effect = flow.send(self._perform(effect))
            except StopIteration as end:
                result: T = end.value
                return result

    def _perform(self, effect: Effect) -> Any:
        if isinstance(effect, Sleep):
            return self.sleep(effect.seconds)
        if isinstance(effect, Decode):
            return effect.perform()
        self.check()
        try:
            return self._transport.send(effect)
        except LightspeedError as error:
            return error

    def iter_pages(
        self,
        tickets: TicketFilter,
        cursor: Cursor | None = None,
        *,
        max_wait: float | None = None,
        keep_malformed: bool = False,
    ) -> Iterator[Page]:
        """Walk over all tickets that match, page by page.

        :param cursor: of the last page that was dealt with in an earlier walk with the same filter.
        :param max_wait: as for `call`.
        :param keep_malformed: yield rows that are no readable ticket as rejected; else they are an error.
        """
        flow = self._core.pages_flow(tickets, cursor, max_wait=max_wait, keep_malformed=keep_malformed)
        with closing(flow) as steps:
            reply: Any = None
            while True:
                try:
                    step = steps.send(reply)
                except StopIteration:
                    return
                if isinstance(step, Page):
                    reply = None
                    yield step
                else:
                    reply = self._perform(step)

    def iter_tickets(self, tickets: TicketFilter) -> Iterator[Ticket]:
        """Yield every ticket that matches, each once, or fail (see `airflow_provider_lightspeed.api.paging`)."""
        for page in self.iter_pages(tickets):
            yield from page.tickets

    def close(self) -> None:
        """Close the kept-alive connections."""
        self._transport.close()


class AsyncLightspeedClient(_Client):
    """The client of triggers; use it as an async context manager."""

    async def __aenter__(self) -> AsyncLightspeedClient:
        self._transport = await asyncio.to_thread(self._open)
        return self

    def _open(self) -> AsyncTransport:
        # aiohttp is loaded with the first client, not with the DAG file.
        from airflow_provider_lightspeed.api.async_transport import AsyncTransport

        return AsyncTransport(self.settings.base_url)

    async def __aexit__(self, *_: object) -> None:
        await self._transport.close()

    async def call(self, request: Request[T]) -> T:
        """Make a call and return its data. See `LightspeedClient.call`."""
        return await self._run(self._core.call_flow(request))

    async def run(self, query: Generator[Request[Any], Any, T]) -> T:
        """Make the calls that a query asks for. See `LightspeedClient.run`."""
        return await self._run(self._core.query_flow(query))

    async def _run(self, flow: Flow[T]) -> T:
        with closing(flow):
            try:
                effect = next(flow)
                while True:
                    effect = flow.send(await self._perform(effect))
            except StopIteration as end:
                result: T = end.value
                return result

    async def _perform(self, effect: Effect) -> Any:
        if isinstance(effect, Sleep):
            return await asyncio.sleep(effect.seconds)
        if isinstance(effect, Decode):
            large = len(effect.response.body) > _LARGE_BODY or "content-encoding" in effect.response.headers
            return await asyncio.to_thread(effect.perform) if large else effect.perform()
        try:
            return await self._transport.send(effect)
        except LightspeedError as error:
            return error

    async def iter_pages(self, tickets: TicketFilter, cursor: Cursor | None = None) -> AsyncGenerator[Page]:
        """Walk over all tickets that match. See `LightspeedClient.iter_pages`."""
        with closing(self._core.pages_flow(tickets, cursor)) as steps:
            reply: Any = None
            while True:
                try:
                    step = steps.send(reply)
                except StopIteration:
                    return
                if isinstance(step, Page):
                    reply = None
                    yield step
                else:
                    reply = await self._perform(step)

    async def iter_tickets(self, tickets: TicketFilter) -> AsyncIterator[Ticket]:
        """Yield every ticket that matches. See `LightspeedClient.iter_tickets`."""
        async for page in self.iter_pages(tickets):
            for ticket in page.tickets:
                yield ticket
