"""The two clients: `LightspeedClient` for tasks, `AsyncLightspeedClient` for triggers.

They carry out what the conversation wishes, with their transports, and decide nothing.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator, Iterator
from contextlib import closing
from math import inf
from typing import TYPE_CHECKING, Any, TypeVar

from airflow_provider_lightspeed.api.conversation import Conversation, Meter, Read, Sleep, Wish, Wishes
from airflow_provider_lightspeed.api.errors import LightspeedError
from airflow_provider_lightspeed.api.paging import Cursor, Page
from airflow_provider_lightspeed.api.settings import CLUSTERS, ClientSettings
from airflow_provider_lightspeed.api.tickets import Request, Ticket, TicketFilter

if TYPE_CHECKING:
    from airflow_provider_lightspeed.api.async_transport import AsyncTransport

__all__ = ["CLUSTERS", "AsyncLightspeedClient", "ClientSettings", "LightspeedClient", "Meter"]

#: A body larger than this is read outside the event loop, which it would hold up.
_LARGE_BODY = 64 * 1024

T = TypeVar("T")


class LightspeedClient(Conversation):
    """The client of tasks. Threads may share it.

    :param settings: where the shop is, and who asks.
    :param meter: takes metrics.
    """

    def __init__(
        self,
        settings: ClientSettings,
        *,
        meter: Meter | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(settings, meter=meter, clock=clock)
        # requests is loaded with the first client, not with the DAG file.
        from airflow_provider_lightspeed.api.transport import Transport

        self._transport = Transport(settings.base_url)
        #: How this client sleeps; a job that can be stopped puts a sleep that can be woken in its place.
        self.sleep: Callable[[float], None] = time.sleep

    def call(self, request: Request, *, send_before: float = inf, max_wait: float | None = None) -> Any:
        """Make a call and return its data.

        :param send_before: do not send it after this moment (``time.monotonic()``), however long it has to wait.
        :param max_wait: seconds that it may wait for the quota, in place of the settings' ``max_wait``.
        :raises LightspeedTooLate: if it was not sent for that reason.
        :raises LightspeedError: one of its subclasses says what went wrong.
        """
        return self._complete(self.exchange(request, send_before=send_before, max_wait=max_wait))

    def find_out(self, search: Generator[Request, Any, T]) -> T:
        """Make the calls that a search asks for, one after another, and return what it finds."""
        return self._complete(self.search(search))

    def _complete(self, wishes: Wishes[T]) -> T:
        with closing(wishes):
            try:
                wish = next(wishes)
                while True:
                    wish = wishes.send(self._carry_out(wish))
            except StopIteration as end:
                result: T = end.value
                return result

    def _carry_out(self, wish: Wish) -> Any:
        if isinstance(wish, Sleep):
            return self.sleep(wish.seconds)
        if isinstance(wish, Read):
            return wish.carry_out()
        try:
            return self._transport.send(wish)
        except LightspeedError as error:
            return error

    def iter_pages(
        self, tickets: TicketFilter, cursor: Cursor | None = None, *, max_wait: float | None = None
    ) -> Iterator[Page]:
        """Walk over all tickets that match, page by page.

        :param cursor: of the last page that was dealt with in an earlier walk with the same filter.
        :param max_wait: as for `call`.
        """
        with closing(self.pages(tickets, cursor, max_wait=max_wait)) as steps:
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
                    reply = self._carry_out(step)

    def iter_tickets(self, tickets: TicketFilter) -> Iterator[Ticket]:
        """Yield every ticket that matches, each once, or fail (see `airflow_provider_lightspeed.api.paging`)."""
        for page in self.iter_pages(tickets):
            yield from page.tickets

    def close(self) -> None:
        """Close the kept-alive connections."""
        self._transport.close()


class AsyncLightspeedClient(Conversation):
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

    async def call(self, request: Request) -> Any:
        """Make a call and return its data. See `LightspeedClient.call`."""
        return await self._complete(self.exchange(request))

    async def find_out(self, search: Generator[Request, Any, T]) -> T:
        """Make the calls that a search asks for. See `LightspeedClient.find_out`."""
        return await self._complete(self.search(search))

    async def _complete(self, wishes: Wishes[T]) -> T:
        with closing(wishes):
            try:
                wish = next(wishes)
                while True:
                    wish = wishes.send(await self._carry_out(wish))
            except StopIteration as end:
                result: T = end.value
                return result

    async def _carry_out(self, wish: Wish) -> Any:
        if isinstance(wish, Sleep):
            return await asyncio.sleep(wish.seconds)
        if isinstance(wish, Read):
            large = len(wish.answer.body) > _LARGE_BODY or "content-encoding" in wish.answer.headers
            return await asyncio.to_thread(wish.carry_out) if large else wish.carry_out()
        try:
            return await self._transport.send(wish)
        except LightspeedError as error:
            return error

    async def iter_pages(self, tickets: TicketFilter, cursor: Cursor | None = None) -> AsyncGenerator[Page]:
        """Walk over all tickets that match. See `LightspeedClient.iter_pages`."""
        with closing(self.pages(tickets, cursor)) as steps:
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
                    reply = await self._carry_out(step)

    async def iter_tickets(self, tickets: TicketFilter) -> AsyncIterator[Ticket]:
        """Yield every ticket that matches. See `LightspeedClient.iter_tickets`."""
        async for page in self.iter_pages(tickets):
            for ticket in page.tickets:
                yield ticket
