"""One look at a shop for all triggers that wait for the same, so that their number costs no calls.

All triggers of a triggerer run in one event loop, which is how far this reaches.
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

from airflow_provider_lightspeed.api.newest import newest_ticket
from airflow_provider_lightspeed.api.tickets import TicketFilter
from airflow_provider_lightspeed.new_tickets import Rhythm, fingerprint

if TYPE_CHECKING:
    from airflow_provider_lightspeed.api.client import AsyncLightspeedClient

log = logging.getLogger(__name__)


class View(msgspec.Struct, frozen=True):
    """What is looked at. Triggers with the same view share its looks.

    :param conn_id: connection to the shop.
    :param email: only tickets of the customer with this e-mail address.
    :param interval: seconds between two looks.
    """

    conn_id: str
    email: str | None
    interval: float


Found = Mapping[int, int]
"""The fingerprint of each ticket by its id."""


class _Lookout:
    """Looks at one view for as long as somebody watches."""

    def __init__(self, view: View, look_at: float) -> None:
        self._view = view
        self.watches: set[Watch] = set()
        self._asked: list[asyncio.Future[Found]] = []
        # Not in the context of the trigger that happens to be first: its log is that of one task.
        self.task = asyncio.get_running_loop().create_task(self._run(look_at), context=Context())

    def next_look(self) -> asyncio.Future[Found]:
        """Ask for the next look that begins from now on."""
        asked: asyncio.Future[Found] = asyncio.get_running_loop().create_future()
        self._asked.append(asked)
        return asked

    async def _run(self, look_at: float) -> None:
        # The modules of triggers are loaded with DAG files too, which look at no shop.
        from airflow_provider_lightspeed.hooks.connection import open_client

        rhythm = Rhythm(self._view.interval)
        await asyncio.sleep(look_at - time.time())
        while True:
            try:
                async with await open_client(self._view.conn_id) as client:
                    while True:
                        await self._look(client)
                        await asyncio.sleep(rhythm.after_look())
            except Exception as error:  # ruff: ignore[blind-except] - also what Airflow raises while its own server is away
                pause = rhythm.after_error(error, datetime.now(UTC))
                log.warning(
                    "Connection %r: no look, the next in %.0f s: %s", self._view.conn_id, pause, error
                )
                for asked in self._waiting():
                    asked.set_exception(error)
            await asyncio.sleep(pause)

    async def _look(self, client: AsyncLightspeedClient) -> None:
        if any(watch.since_id is None for watch in self.watches):
            newest = await client.run(newest_ticket())
            for watch in self.watches:
                watch.since_id = newest if watch.since_id is None else watch.since_id
        # Whoever joins from now on may have a lower id than this look begins at.
        joined = len(self._asked)
        # What is above the lowest id holds what is above each of the others.
        since_id = min((watch.since_id for watch in self.watches if watch.since_id is not None), default=0)
        wanted = TicketFilter(since_id, email=self._view.email)
        found = {ticket["id"]: fingerprint(ticket) async for ticket in client.iter_tickets(wanted)}
        for asked in self._waiting(joined):
            asked.set_result(found)

    def _waiting(self, joined: int | None = None) -> list[asyncio.Future[Found]]:
        waiting = self._asked[:joined]
        del self._asked[:joined]
        return [asked for asked in waiting if not asked.done()]


class Watch:
    """One trigger's part in the looks.

    :param since_id: tickets with a greater id are new to it; None: those that come after the first look. Whoever
        watches moves it on.
    """

    def __init__(self, lookout: _Lookout, since_id: int | None) -> None:
        self._lookout = lookout
        self.since_id = since_id

    async def look(self) -> dict[int, int]:
        """Wait for the next look, and return the fingerprint of each new ticket by its id.

        :raises Exception: if that look has failed. The next one is no sooner for it.
        """
        found = await self._lookout.next_look()
        return {
            ticket_id: content for ticket_id, content in found.items() if ticket_id > (self.since_id or 0)
        }


_lookouts: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[View, _Lookout]] = WeakKeyDictionary()


@asynccontextmanager
async def watching(view: View, *, since_id: int | None, look_at: float = 0.0) -> AsyncGenerator[Watch]:
    """Take part in the looks at a view, until the end of the block.

    :param since_id: see :class:`Watch`.
    :param look_at: when to look first, in seconds since 1970, if nobody looks at this view already.
    """
    here = _lookouts.setdefault(asyncio.get_running_loop(), {})
    lookout = here.get(view)
    if lookout is None:
        lookout = here[view] = _Lookout(view, look_at)
    watch = Watch(lookout, since_id)
    lookout.watches.add(watch)
    try:
        yield watch
    finally:
        lookout.watches.remove(watch)
        if not lookout.watches:
            del here[view]
            lookout.task.cancel()
