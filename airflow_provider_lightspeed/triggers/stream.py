"""An asset's events on Airflow 3.3, which reports those that it has stored."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from itertools import takewhile
from typing import Any

from airflow.triggers.shared_stream import AdvanceItem, SharedStreamProducer

from airflow_provider_lightspeed.triggers.batches import new_batches

_CURSOR = "lightspeed_max_id"


class NewTicketStreamProducer(SharedStreamProducer):
    """Sends batches of new tickets, and moves the asset's cursor behind those that Airflow has stored.

    A triggerer that is killed in the second or two between sends the same tickets again. The other order would
    lose them, and Airflow cannot write event and cursor at once.

    :param arguments: those of the trigger.
    """

    def __init__(self, arguments: dict[str, Any]) -> None:
        self._arguments = arguments
        self._store: Any = None

    async def open_stream(self) -> AsyncIterator[tuple[Any, int | None]]:
        """Yield batches with the cursor behind each; first of all a request for the asset's state store."""
        # Airflow gives it to the trigger alone.
        request: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        yield request, None
        self._store = await request
        async for batch in new_batches(self._arguments, await self._store.aget(_CURSOR)):
            if batch.ticket_ids:
                yield batch, batch.max_id
            else:
                await self._store.aset(_CURSOR, batch.max_id)

    async def advance(self, batch: Sequence[AdvanceItem]) -> None:
        """Move the cursor behind what is stored."""
        # What was not stored is sent again: Airflow restarts the trigger.
        stored = [item.broker_payload for item in takewhile(lambda item: item.outcome.is_clean, batch)]
        if stored and stored[-1] is not None:
            await self._store.aset(_CURSOR, stored[-1])
