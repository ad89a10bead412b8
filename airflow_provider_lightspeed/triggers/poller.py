"""One poll of a shop for all triggers that wait for the same, so that their number costs no calls.

Polls are shared within one event loop, in which a triggerer runs all its triggers.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from contextvars import Context
from datetime import UTC, datetime
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

import msgspec

from airflow_provider_lightspeed.api.queries import NewTickets, new_tickets
from airflow_provider_lightspeed.new_tickets import Cursor, PollSchedule, Seen, cursor_in, first_cursor

if TYPE_CHECKING:
    from airflow_provider_lightspeed.api.client import AsyncLightspeedClient

log = logging.getLogger(__name__)


class PollKey(msgspec.Struct, frozen=True):
    """What is polled. Triggers with the same key share its polls.

    :param conn_id: connection to the shop.
    :param email: only tickets of the customer with this e-mail address.
    :param interval: seconds between two polls.
    """

    conn_id: str
    email: str | None
    interval: float


_Waiter = asyncio.Future[tuple[NewTickets[Seen], Cursor]]


class _SharedPoller:
    """Polls one key while it has subscriptions."""

    def __init__(self, key: PollKey, first_poll_at: float) -> None:
        self._key = key
        self.subscriptions = 0
        self._waiting: list[tuple[Subscription, _Waiter]] = []
        self._is_awaited = asyncio.Event()
        # The newest id that any poll has shown.
        self._newest = 0
        # Without the context of the first trigger: its log belongs to one task.
        self.task = asyncio.get_running_loop().create_task(self._run(first_poll_at), context=Context())

    @property
    def conn_id(self) -> str:
        """Connection to the shop."""
        return self._key.conn_id

    def next_poll(self, subscription: Subscription) -> _Waiter:
        """Return what the next poll that starts from now on will find."""
        waiter: _Waiter = asyncio.get_running_loop().create_future()
        self._waiting.append((subscription, waiter))
        self._is_awaited.set()
        return waiter

    async def _run(self, first_poll_at: float) -> None:
        # The modules of triggers are loaded with DAG files too, which poll no shop.
        from airflow_provider_lightspeed.hooks.connection import open_client

        schedule = PollSchedule(self._key.interval)
        await asyncio.sleep(first_poll_at - time.time())
        while True:
            try:
                async with await open_client(self._key.conn_id) as client:
                    while True:
                        # An asset's subscription is busy while it sends what the last poll found.
                        await self._is_awaited.wait()
                        await self._poll(client)
                        await asyncio.sleep(schedule.after_success())
            except Exception as error:  # ruff: ignore[blind-except] - also what Airflow raises while its own server is down
                pause = schedule.after_error(error, datetime.now(UTC))
                log.warning(
                    "Connection %r: the poll failed, the next is in %.0f s: %s",
                    self._key.conn_id,
                    pause,
                    error,
                )
                for _, waiter in self._take(len(self._waiting)):
                    if not waiter.done():
                        waiter.set_exception(error)
            await asyncio.sleep(pause)

    async def _poll(self, client: AsyncLightspeedClient) -> None:
        # A subscription that joins from now on may have a lower id than this poll starts from.
        joined, now = len(self._waiting), time.time()
        first = _FirstCursors(client)
        cursors = [await subscription.cursor_in(client, first) for subscription, _ in self._waiting[:joined]]
        # The tickets above the lowest id include those above each of the others.
        since_id = min((cursor.since_id for cursor in cursors), default=self._newest)
        self._newest = max([self._newest, *(cursor.max_id for cursor in cursors)])
        question = new_tickets(
            since_id,
            Seen.of,
            email=self._key.email,
            is_known=lambda ticket_id: not any(cursor.is_new(ticket_id) for cursor in cursors),
        )
        poll = await client.run(question)
        self._newest = max([self._newest, *poll.kept])
        for cursor, (subscription, waiter) in zip(cursors, self._take(joined), strict=True):
            subscription.cursor = cursor.settled(poll.kept, now, poll.page_size)
            if not waiter.done():
                waiter.set_result((poll, subscription.cursor))

    def _take(self, joined: int) -> list[tuple[Subscription, _Waiter]]:
        taken = self._waiting[:joined]
        del self._waiting[:joined]
        if not self._waiting:
            self._is_awaited.clear()
        return taken


class Subscription:
    """One trigger's part in the polls.

    :param cursor: which tickets are done; None before the first poll. The subscriber moves it forward.
    :param start: what is new without a cursor, and in another shop: ``latest`` or ``earliest``; None: the cursor counts
        in any shop.
    """

    def __init__(self, poller: _SharedPoller, cursor: Cursor | None, start: str | None) -> None:
        self._poller = poller
        self.cursor = cursor
        self.start = start

    async def next_poll(self) -> tuple[NewTickets[Seen], Cursor]:
        """Wait for the next poll, and return it with the cursor that it started from.

        :raises Exception: if that poll failed. The next one does not come sooner.
        """
        return await self._poller.next_poll(self)

    async def cursor_in(self, client: AsyncLightspeedClient, first: _FirstCursors) -> Cursor:
        """Set and return the cursor in the client's shop."""
        if self.cursor is not None and self.start is None:
            return self.cursor
        if self.cursor is not None:
            self.cursor = await client.run(cursor_in(client.settings.shop, self.cursor))
            if self.cursor is None:
                log.warning(
                    "Connection %r leads to another shop than before (key and tickets differ): starting over with start=%r",
                    self._poller.conn_id,
                    self.start,
                )
        if self.cursor is None:
            self.cursor = await first.get(self.start or "latest")
        return self.cursor


class _FirstCursors:
    """The cursors of subscriptions that have none, found once for all of them."""

    def __init__(self, client: AsyncLightspeedClient) -> None:
        self._client = client
        self._found: dict[str, Cursor] = {}

    async def get(self, start: str) -> Cursor:
        """Return where tickets begin to be new.

        :param start: ``latest`` or ``earliest``.
        """
        if start not in self._found:
            self._found[start] = await self._client.run(first_cursor(start, self._client.settings.shop))
        return self._found[start]


_pollers: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[PollKey, _SharedPoller]] = WeakKeyDictionary()


@asynccontextmanager
async def subscribe(
    key: PollKey, *, cursor: Cursor | None, start: str | None = None, first_poll_at: float = 0.0
) -> AsyncGenerator[Subscription]:
    """Take part in the polls of a key, until the end of the block.

    :param cursor: see :class:`Subscription`.
    :param start: see :class:`Subscription`.
    :param first_poll_at: when to poll first, in seconds since 1970, if no other subscription polls this key already.
    """
    pollers = _pollers.setdefault(asyncio.get_running_loop(), {})
    poller = pollers.get(key)
    if poller is None:
        poller = pollers[key] = _SharedPoller(key, first_poll_at)
    poller.subscriptions += 1
    try:
        yield Subscription(poller, cursor, start)
    finally:
        poller.subscriptions -= 1
        if not poller.subscriptions:
            del pollers[key]
            poller.task.cancel()
