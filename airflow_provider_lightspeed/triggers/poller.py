"""One poll of a shop for all triggers that wait for the same, so that their number costs no calls.

Polls are shared within one event loop, in which a triggerer runs all its triggers.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from contextvars import Context
from datetime import UTC, datetime
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

import msgspec

from airflow_provider_lightspeed.api.queries import newest_ticket
from airflow_provider_lightspeed.api.tickets import TicketFilter
from airflow_provider_lightspeed.new_tickets import PollSchedule, fingerprint

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


Fingerprints = Mapping[int, int]
"""The fingerprint of each ticket by its id."""


class _SharedPoller:
    """Polls one key while it has subscriptions."""

    def __init__(self, key: PollKey, first_poll_at: float) -> None:
        self._key = key
        self.subscriptions: set[Subscription] = set()
        self._waiting: list[asyncio.Future[Fingerprints]] = []
        # Without the context of the first trigger: its log belongs to one task.
        self.task = asyncio.get_running_loop().create_task(self._run(first_poll_at), context=Context())

    def next_poll(self) -> asyncio.Future[Fingerprints]:
        """Return what the next poll that starts from now on will find."""
        waiter: asyncio.Future[Fingerprints] = asyncio.get_running_loop().create_future()
        self._waiting.append(waiter)
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
                for waiter in self._take_waiting():
                    waiter.set_exception(error)
            await asyncio.sleep(pause)

    async def _poll(self, client: AsyncLightspeedClient) -> None:
        if any(subscription.since_id is None for subscription in self.subscriptions):
            newest = await client.run(newest_ticket())
            for subscription in self.subscriptions:
                subscription.since_id = newest if subscription.since_id is None else subscription.since_id
        # A subscription that joins from now on may have a lower id than this poll starts from.
        joined = len(self._waiting)
        # The tickets above the lowest id include those above each of the others.
        since_id = min(
            (
                subscription.since_id
                for subscription in self.subscriptions
                if subscription.since_id is not None
            ),
            default=0,
        )
        tickets = TicketFilter(since_id, email=self._key.email)
        found = {ticket["id"]: fingerprint(ticket) async for ticket in client.iter_tickets(tickets)}
        for waiter in self._take_waiting(joined):
            waiter.set_result(found)

    def _take_waiting(self, joined: int | None = None) -> list[asyncio.Future[Fingerprints]]:
        waiting = self._waiting[:joined]
        del self._waiting[:joined]
        return [waiter for waiter in waiting if not waiter.done()]


class Subscription:
    """One trigger's part in the polls.

    :param since_id: tickets with a greater id are new to it; None: those that come after the first poll. The
        subscriber moves it forward.
    """

    def __init__(self, poller: _SharedPoller, since_id: int | None) -> None:
        self._poller = poller
        self.since_id = since_id

    async def next_poll(self) -> dict[int, int]:
        """Wait for the next poll, and return the fingerprint of each new ticket by its id.

        :raises Exception: if that poll failed. The next one does not come sooner.
        """
        found = await self._poller.next_poll()
        return {
            ticket_id: content for ticket_id, content in found.items() if ticket_id > (self.since_id or 0)
        }


_pollers: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[PollKey, _SharedPoller]] = WeakKeyDictionary()


@asynccontextmanager
async def subscribe(
    key: PollKey, *, since_id: int | None, first_poll_at: float = 0.0
) -> AsyncGenerator[Subscription]:
    """Take part in the polls of a key, until the end of the block.

    :param since_id: see :class:`Subscription`.
    :param first_poll_at: when to poll first, in seconds since 1970, if no other subscription polls this key already.
    """
    pollers = _pollers.setdefault(asyncio.get_running_loop(), {})
    poller = pollers.get(key)
    if poller is None:
        poller = pollers[key] = _SharedPoller(key, first_poll_at)
    subscription = Subscription(poller, since_id)
    poller.subscriptions.add(subscription)
    try:
        yield subscription
    finally:
        poller.subscriptions.remove(subscription)
        if not poller.subscriptions:
            del pollers[key]
            poller.task.cancel()
