"""What watches a shop in the triggerer, to start DAGs."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Hashable, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from typing import Any

from airflow.providers.common.compat.triggers import BaseEventTrigger
from airflow.triggers.base import TriggerEvent

from airflow_provider_lightspeed.api.client import AsyncLightspeedClient
from airflow_provider_lightspeed.api.errors import LightspeedError
from airflow_provider_lightspeed.api.tickets import TicketFilter
from airflow_provider_lightspeed.hooks.asynchronous import open_client
from airflow_provider_lightspeed.new_tickets import Look, Rhythm, newest_ticket

log = logging.getLogger(__name__)

#: Most tickets that one event names.
BATCH = 500
#: Seconds after which an event is surely in Airflow's database: it leaves the triggerer about once a second.
SETTLE = 5.0

_CURSOR = "lightspeed_max_id"


@dataclass(frozen=True)
class Poll:
    """One look at a shop, for every asset that watches it.

    :param since_id: tickets with a greater id were looked for.
    :param ticket_ids: what there was, ascending.
    """

    since_id: int
    ticket_ids: list[int]

    @property
    def max_id(self) -> int:
        """The greatest id seen so far."""
        return self.ticket_ids[-1] if self.ticket_ids else self.since_id


class NewTicketEventTrigger(BaseEventTrigger):
    """Update an asset when there are new tickets. It never ends: nobody would start it again.

    Where it stands is kept in the asset's state store, where Airflow has one (3.3). An event is noted there once
    it is surely stored: a triggerer that is killed in the seconds between hands the same tickets over again, rather
    than lose them.

    :param asset_name: name of the asset. It keeps the triggers of two assets apart, which else were one to Airflow.
    :param lightspeed_conn_id: connection to the shop.
    :param poll_interval: seconds between two looks.
    :param start: ``latest`` or ``earliest``, see :func:`airflow_provider_lightspeed.assets.new_tickets_asset`.
    """

    def __init__(self, *, asset_name: str, lightspeed_conn_id: str, poll_interval: float, start: str) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.asset_name = asset_name
        self.lightspeed_conn_id = lightspeed_conn_id
        self.poll_interval = poll_interval
        self.start = start

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return how to make this trigger again. No state: Airflow reads it but once."""
        return (
            f"{__name__}.{type(self).__name__}",
            {
                "asset_name": self.asset_name,
                "lightspeed_conn_id": self.lightspeed_conn_id,
                "poll_interval": self.poll_interval,
                "start": self.start,
            },
        )

    def shared_stream_key(self) -> Hashable:
        """Say which triggers share a poll (Airflow 3.3)."""
        return ("lightspeed", self.lightspeed_conn_id, self.poll_interval)

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Poll for this trigger alone (Airflow before 3.3)."""
        _, arguments = self.serialize()
        async for event in self.filter_shared_stream(self.open_shared_stream(arguments)):
            yield event

    @classmethod
    async def open_shared_stream(cls, kwargs: dict[str, Any]) -> AsyncIterator[Poll]:
        """Look at the shop for ever, one call a look."""
        conn_id, rhythm = kwargs["lightspeed_conn_id"], Rhythm(kwargs["poll_interval"])
        max_id: int | None = None
        while True:
            try:
                # The connection is looked up again after each failure: somebody may have mended it.
                async with await open_client(conn_id) as client:
                    if max_id is None:
                        max_id = await client.find_out(newest_ticket())
                    while True:
                        poll = Poll(max_id, await _ids_since(client, max_id))
                        yield poll
                        max_id = poll.max_id
                        await asyncio.sleep(rhythm.after_look())
            except Exception as error:  # ruff: ignore[blind-except] - also what Airflow raises while its own server is away
                pause = rhythm.after_error(error, datetime.now(UTC))
                log.warning("Connection %r: no look, the next in %.0f s: %s", conn_id, pause, error)
            await asyncio.sleep(pause)

    async def filter_shared_stream(self, shared_stream: AsyncIterator[Poll]) -> AsyncIterator[TriggerEvent]:
        """Tell this asset's events from the polls."""
        cursor = await self._load()
        async for poll in shared_stream:
            if cursor is None:
                cursor = poll.since_id if self.start == "latest" else 0
                await self._save(cursor)
            try:
                ids = await self._new(poll, cursor)
            except LightspeedError as error:
                self.log.warning("Asset %r: cannot catch up before the next look: %s", self.asset_name, error)
                continue
            for batch in _batches(ids, BATCH):
                look = Look(since_id=cursor, ticket_ids=batch, max_id=batch[-1])
                yield TriggerEvent(look.result())  # type: ignore[no-untyped-call]
                await asyncio.sleep(SETTLE)
                cursor = look.max_id
                await self._save(cursor)

    async def _new(self, poll: Poll, cursor: int) -> list[int]:
        if cursor >= poll.since_id:
            return [ticket_id for ticket_id in poll.ticket_ids if ticket_id > cursor]
        # Nobody polled for a while, as when the triggerer was down.
        async with await open_client(self.lightspeed_conn_id) as client:
            return await _ids_since(client, cursor)

    async def _load(self) -> int | None:
        store = self._store()
        return None if store is None else await store.aget(_CURSOR)

    async def _save(self, cursor: int) -> None:
        store = self._store()
        if store is not None:
            await store.aset(_CURSOR, cursor)

    def _store(self) -> Any:
        # The triggerer of Airflow 3.3 sets it.
        return getattr(self, "asset_state_store", None)


async def _ids_since(client: AsyncLightspeedClient, since_id: int) -> list[int]:
    return sorted([ticket["id"] async for ticket in client.iter_tickets(TicketFilter(since_id))])


def _batches(ids: Iterable[int], size: int) -> Iterator[list[int]]:
    left = iter(ids)
    while batch := list(islice(left, size)):
        yield batch
