"""An asset's events on Airflow 3.3, which reports those that it has stored."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from itertools import takewhile
from typing import Any

import msgspec
from airflow.triggers.shared_stream import AdvanceItem, SharedStreamProducer
from asgiref.sync import sync_to_async

from airflow_provider_lightspeed.new_tickets import Cursor
from airflow_provider_lightspeed.triggers.batches import new_batches

log = logging.getLogger(__name__)

_CURSOR = "lightspeed_cursor"
# What early versions kept.
_MAX_ID = "lightspeed_max_id"


async def _call(store: Any, method: str, *arguments: Any) -> Any:
    """Call the asset's state store without blocking the event loop. Airflow 3.3.0 and 3.3.1 have no async methods."""
    call = getattr(store, f"a{method}", None) or sync_to_async(getattr(store, method))
    return await call(*arguments)


class NewTicketStreamProducer(SharedStreamProducer):
    """Sends batches of new tickets, and moves the asset's cursor behind those that Airflow has stored.

    A triggerer that is killed in the second or two between sends the same tickets again. The other order would
    lose them, and Airflow cannot write event and cursor at once.

    :param arguments: those of the trigger.
    """

    def __init__(self, arguments: dict[str, Any]) -> None:
        self._arguments = arguments
        self._store: Any = None

    async def open_stream(self) -> AsyncIterator[tuple[Any, dict[str, Any] | None]]:
        """Yield batches with the cursor behind each; first of all a request for the asset's state store."""
        # Airflow gives it to the trigger alone.
        request: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        yield request, None
        self._store = await request
        async for batch in new_batches(self._arguments, await self._load_cursor()):
            cursor = batch.cursor.to_json()
            if batch.result is None:
                await _call(self._store, "set", _CURSOR, cursor)
            else:
                yield batch.result, cursor

    async def advance(self, batch: Sequence[AdvanceItem]) -> None:
        """Move the cursor behind what is stored."""
        # What was not stored is sent again: Airflow restarts the trigger.
        stored = [item.broker_payload for item in takewhile(lambda item: item.outcome.is_clean, batch)]
        if stored and stored[-1] is not None:
            await _call(self._store, "set", _CURSOR, stored[-1])

    async def _load_cursor(self) -> Cursor | None:
        while True:
            state = await _call(self._store, "get", _CURSOR)
            max_id = await _call(self._store, "get", _MAX_ID)
            if state is None and max_id is not None:
                state = {"since_id": max_id}
            try:
                cursor = None if state is None else msgspec.convert(state, Cursor)
            except msgspec.ValidationError as error:
                # To start over would lose tickets: leave that to a person.
                log.error(  # ruff: ignore[error-instead-of-exception] - its text says all
                    "Asset %r: the state %r in its state store is unreadable (%s). No events until it is deleted (to "
                    'start over) or set to the id after which to continue, such as {"since_id": 4711}',
                    self._arguments["asset_name"],
                    _CURSOR if max_id is None else _MAX_ID,
                    error,
                )
                await asyncio.sleep(self._arguments["poll_interval"])
                continue
            if cursor is not None and max_id is not None:
                await _call(self._store, "set", _CURSOR, cursor.to_json())
                await _call(self._store, "delete", _MAX_ID)
            return cursor
